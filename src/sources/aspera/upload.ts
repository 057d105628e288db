/** Files to a path of a site, by ascp. */
import { formatAddress } from "../../model/selection.ts";
import type { Ascp } from "../../transports/ascp/ascp.ts";
import { sendFiles } from "../../transports/ascp/send.ts";
import type { TransferSpec } from "../../transports/ascp/transfer-spec.ts";
import type { SourceContext, Upload, UploadEvent, Uploaded } from "../source.ts";

/** Where a site is reached, as a transfer specification says it. */
export interface Endpoint {
  readonly remote_host: string;
  readonly remote_user: string;
  readonly ssh_port: number;
  readonly resume_policy: string;
}

export async function* uploadToSite(
  archive: string,
  endpoint: Endpoint,
  ascp: Ascp,
  upload: Upload,
  context: SourceContext,
): AsyncGenerator<UploadEvent, Uploaded> {
  const { files, path, scratch, encrypt, attempt } = upload;
  const { remote_host: host, remote_user: user } = endpoint;
  await ascp.secrets.checkLogin({ host, user });
  if (encrypt) await ascp.secrets.checkPassphrase(host);
  const spec: TransferSpec = {
    ...endpoint,
    direction: "send",
    destination_root: path.join("/") || ".",
    create_dir: true,
    precalculate_job_size: true,
    ...(encrypt ? { content_protection: "encrypt" } : {}),
    paths: files.map(({ from, name }) => ({ source: from, destination: name })),
  };
  const job = { spec, folder: scratch, patience: attempt + 1 };
  const proof = yield* sendFiles(ascp, host, job, context);
  return { address: formatAddress(archive, path), proof };
}
