/** Transfer specifications: for a download of a package or a part of it, and for an upload. */
import { randomUUID } from "node:crypto";
import { nodeAt } from "../../../sandbox/data/packages.ts";
import type { Inbox, TransferServer } from "../../../sandbox/fasp/transfer-server.ts";
import type { Reply, SandboxRequest } from "../../../sandbox/stand-ins.ts";
import type { Delivery } from "./deliveries.ts";
import { json, parsed, refuse } from "./reply.ts";

export const TRANSFER_USER = "faspex";

/** Beyond this length of all paths together the token no longer fits the list (IBM/aspera-connect-sdk-js#59). */
const LIST_LIMIT_BYTES = 32 * 1024;

const TRANSFER_TYPES = ["connect", "http_gateway", "remote_transfer"];

export function downloadSpec(delivery: Delivery, request: SandboxRequest, transfers: TransferServer): Reply {
  const type = request.query.get("transfer_type") ?? "";
  if (!TRANSFER_TYPES.includes(type)) return refuse(400, 1225, "The parameter transfer_type is not valid");
  if (delivery.uploadStatus !== "completed" && type === "http_gateway")
    return refuse(403, 1239, "HTTP download is not possible while the package is uploaded");
  if (delivery.preventHttp && type === "http_gateway")
    return refuse(403, 1238, "HTTP download is not allowed for this package");
  const { paths } = parsed(request.text);
  let sources = [delivery.place];
  if (paths !== undefined) {
    const wanted = selected(paths);
    if (wanted === undefined) return refuse(500, 1228, "The transfer specification could not be built");
    sources = wanted.map((path) => `${delivery.place}/${path.replace(/^\/+/, "")}`);
  }
  const spec = {
    ...transferSpec(transfers),
    direction: "receive",
    token: grantFor(delivery, sources, transfers),
    paths: sources.map((source) => ({ source })),
    source_root: "",
    multi_session: delivery.threshold ? 104_857_600 : 0,
    ...(delivery.passphrase === null ? {} : { content_protection: "decrypt" }),
    tags: tagsOf(delivery.number, { package_id: delivery.number, operation: "download" }),
  };
  return json(201, delivery.wrapped ? { data: spec } : spec);
}

/** What opens exactly these places; of a list that is too long, only its beginning. */
export function grantFor(
  { place, package: { root } }: Delivery,
  sources: readonly string[],
  transfers: TransferServer,
): string {
  let bytes = 0;
  const signed = sources.filter((source, index) => {
    bytes += Buffer.byteLength(source) + 1;
    return index === 0 || bytes <= LIST_LIMIT_BYTES;
  });
  return transfers.grantReceive(TRANSFER_USER, signed, (path) =>
    path === place || path.startsWith(`${place}/`) ? nodeAt(root, path.slice(place.length)) : undefined,
  );
}

/** Only objects with `path`: other shapes are refused by the server at TCIA. */
function selected(paths: unknown): string[] | undefined {
  if (!Array.isArray(paths) || paths.length === 0) return undefined;
  const found = paths.map((one: unknown) =>
    typeof one === "object" && one !== null && "path" in one ? one.path : undefined,
  );
  return found.every((path): path is string => typeof path === "string") ? found : undefined;
}

export function uploadSpec(options: {
  readonly number: string;
  readonly destination: string;
  readonly encrypted: boolean;
  readonly paths: unknown;
  readonly inbox: Inbox;
  readonly transfers: TransferServer;
}): Reply {
  const { number, destination, encrypted, paths, inbox, transfers } = options;
  return json(200, {
    ...transferSpec(transfers),
    direction: "send",
    token: transfers.grantSend(TRANSFER_USER, inbox),
    destination_root: destination,
    create_dir: true,
    // Plain text, as it was asked for: not what agents take. Some servers leave it out.
    ...(Array.isArray(paths) ? { paths } : {}),
    ...(encrypted ? { content_protection: "encrypt" } : {}),
    tags: tagsOf(number, { package_id: number, operation: "upload" }),
  });
}

function transferSpec({ port }: TransferServer): object {
  return {
    authentication: "token",
    remote_host: "127.0.0.1",
    remote_user: TRANSFER_USER,
    ssh_port: port,
    fasp_port: port,
    cookie: `aspera.faspex5:u:${Buffer.from("demo").toString("base64")}:${randomUUID()}`,
    cipher: "aes-128",
    rate_policy: "fair",
    rate_policy_allowed: "fixed",
    target_rate_kbps: 1_000_000,
    target_rate_cap_kbps: 10_000_000,
    min_rate_kbps: 0,
    lock_rate_policy: false,
    lock_min_rate: false,
    http_fallback: false,
    http_fallback_port: 8080,
    https_fallback_port: 8443,
  };
}

const tagsOf = (number: string, facts: object): object => ({
  aspera: { faspex: { metadata: {}, ...facts }, faspex5: { package: number } },
});
