/** Files through a public upload link: a package is created, ascp sends, and the server says when it is complete. */
import { RunError } from "../../errors.ts";
import type { Json } from "../../model/item.ts";
import type { Ascp } from "../../transports/ascp/ascp.ts";
import { sendFiles } from "../../transports/ascp/send.ts";
import type { TransferSpec } from "../../transports/ascp/transfer-spec.ts";
import type { SourceContext, Upload, UploadEvent, Uploaded } from "../source.ts";
import type { FaspexApi, UploadState } from "./api.ts";
import { withTransferId } from "./offer.ts";
import { textOf } from "./wire.ts";

const LOOK_EVERY_MS = 1_000;
/** How long a server may take to see that ascp has ended. */
const PATIENCE_MS = 10 * 60_000;

const ENDED: readonly string[] = ["failed", "error", "stopped", "timed_out"];

/**
 * Throws `access-…`, `archive-…`, `proof-count`, `usage`; a package that failed stays on the server, unfinished. `begun`:
 * packages by the scratch folder of their upload, so that another try goes on with the same one.
 */
export async function* uploadPackage(
  api: FaspexApi,
  ascp: Ascp,
  upload: Upload,
  begun: Map<string, string>,
  context: SourceContext,
): AsyncGenerator<UploadEvent, Uploaded> {
  const { files, path, title, note, recipients, encrypt, scratch, attempt } = upload;
  if (path.length > 0) {
    throw new RunError("usage", `${api.subject} has no folders to send to`, {
      hint: "leave out what follows the link",
    });
  }
  await ascp.find();
  if (encrypt) await ascp.secrets.checkPassphrase(api.host);
  const name = title ?? files[0]?.name.split("/")[0] ?? "data";
  let id = begun.get(scratch);
  if (id === undefined) {
    id = await api.createPackage({ title: name, note, recipients, encrypt }, context);
    begun.set(scratch, id);
    yield { type: "state", sentence: `package ${id} of ${api.host}: created as ${JSON.stringify(name)}` };
  }
  const wire = await api.uploadSpec(
    id,
    files.map((file) => file.name),
    context,
  );
  const host = textOf(wire.remote_host);
  if (host === null)
    throw new RunError("archive-reply", `${api.subject}: the server says not where to send to`);
  const spec: TransferSpec = {
    ...(wire as Readonly<Record<string, Json>>),
    ...withTransferId(wire),
    direction: "send",
    remote_host: host,
    create_dir: true,
    precalculate_job_size: true,
    resume_policy: "sparse_csum",
    paths: files.map(({ from, name: to }) => ({ source: from, destination: to })),
  };
  const job = { spec, folder: scratch, patience: attempt + 1 };
  const proof = yield* sendFiles(ascp, api.host, job, context);
  yield* untilComplete(api, id, context);
  return { address: `${api.host}/${id}`, proof: [...proof, "complete"] };
}

async function* untilComplete(
  api: FaspexApi,
  id: string,
  context: SourceContext,
): AsyncGenerator<UploadEvent> {
  const until = context.clock.monotonicMs() + PATIENCE_MS;
  let told = "";
  for (;;) {
    const { status, percent }: UploadState = await api.uploadState(id, context);
    if (status === "completed") return;
    if (ENDED.includes(status)) {
      throw new RunError(
        "archive-error",
        `${api.host} says that the upload of package ${id} has failed (${status})`,
        {
          hint: "send it again",
        },
      );
    }
    const sentence = `package ${id} of ${api.host}: ${status.replaceAll("_", " ")}${percent === null ? "" : `, ${percent} %`}`;
    if (sentence !== told) yield { type: "state", sentence };
    told = sentence;
    if (context.clock.monotonicMs() > until) {
      throw new RunError("archive-stalled", `${api.host} does not say that package ${id} is complete`, {
        retry: "spent",
        hint: "all files were sent: ask the recipient whether they are there",
      });
    }
    await context.clock.sleep(LOOK_EVERY_MS, context.signal);
  }
}
