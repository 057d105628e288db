/** The HTTP gateway: FASP behind it, plain HTTP in front; versions 1, 2 and 3. Downloads only. */
import { randomUUID } from "node:crypto";
import { zipStream } from "../../../lib/zip-writer.ts";
import { type FoundFile, filesBelow, targetOf } from "../../../sandbox/data/packages.ts";
import type { Fault } from "../../../sandbox/faults.ts";
import type { Reply, Route, SandboxRequest, World } from "../../../sandbox/stand-ins.ts";
import { json, originOf, parsed } from "./reply.ts";

export const GATEWAY_PATH = "/aspera/http-gwy";

export type GatewayVersion = 1 | 2 | 3;

export class Gateway {
  readonly #world: World;
  readonly #prepared = new Map<string, Download>();

  constructor(world: World) {
    this.#world = world;
  }

  reset(): void {
    this.#prepared.clear();
  }

  /** `path` below the gateway's own folder. */
  route(version: GatewayVersion, path: string, request: SandboxRequest, folder: string): Route | undefined {
    const page = (answer: Route["answer"]): Route => ({ serves: "page", answer });
    const file = (answer: Route["answer"]): Route => ({ serves: "file", answer });
    const base = `${originOf(request)}${folder}${GATEWAY_PATH}`;
    const { method } = request;
    if (version === 3) {
      if (path === "/info") return page(() => json(200, { name: "HTTP Gateway", version: "3.1.0" }));
      if (path === "/v3/download" && method === "GET")
        return file((_, fault) => this.#stream(fromHeader(request), fault));
      if (path === "/v3/presign" && method === "POST") return page(() => this.#presign(request, base));
      const id = /^\/v3\/signed\/([^/]+)$/.exec(path)?.[1];
      return id === undefined ? undefined : file((_, fault) => this.#kept(id, fault));
    }
    if (path === "/v1/info") {
      const names = ["v1/info", "v1/upload", "v1/download", ...(version === 2 ? ["v2/upload"] : [])];
      return page(() =>
        json(200, {
          name: "IBM Aspera HTTP Gateway",
          version: version === 2 ? "2.3.0" : "1.2.1",
          endpoints: names.map((name) => `${base}/${name}`),
        }),
      );
    }
    if (path === "/v1/download" && method === "POST") return page(() => this.#prepare(request, base));
    const id = /^\/v1\/download\/([^/]+)$/.exec(path)?.[1];
    return id === undefined ? undefined : file((_, fault) => this.#kept(id, fault));
  }

  #prepare(request: SandboxRequest, base: string): Reply {
    const spec = parsed(request.text).transfer_spec;
    const download = this.#resolve(spec);
    if ("status" in download) return download;
    const id = randomUUID();
    this.#prepared.set(id, download);
    return json(200, { url: `${base}/v1/download/${id}`, transfer_spec_id: id });
  }

  #presign(request: SandboxRequest, base: string): Reply {
    const download = this.#resolve(parsed(request.text).transfer_spec);
    if ("status" in download) return download;
    const id = randomUUID();
    this.#prepared.set(id, download);
    return json(200, { signed_url: `${base}/v3/signed/${id}` });
  }

  #kept(id: string, fault: Fault | undefined): Reply {
    const download = this.#prepared.get(id);
    if (download === undefined) return refusal(404, "The transfer is not known");
    return bytesOf(download, fault);
  }

  #stream(spec: unknown, fault: Fault | undefined): Reply {
    const download = this.#resolve(spec);
    return "status" in download ? download : bytesOf(download, fault);
  }

  #resolve(value: unknown): Download | Reply {
    if (typeof value !== "object" || value === null) return refusal(400, "The transfer_spec is missing");
    const spec = value as Record<string, unknown>;
    const { token, paths, source_root: root = "", zip_required: zip = false, download_name: name } = spec;
    if (typeof token !== "string" || !Array.isArray(paths) || typeof root !== "string")
      return refusal(400, "The transfer_spec lacks its token or its paths");
    const sources = paths.map((one: unknown) =>
      typeof one === "object" && one !== null && "source" in one && typeof one.source === "string"
        ? one.source
        : "",
    );
    const opened = this.#world.transfers.openToken(token, sources);
    if ("code" in opened) return refusal(403, opened.description);
    const files: FoundFile[] = [];
    for (const source of sources) {
      const node = targetOf(opened.find(source));
      const base = source.replace(/\/+$/, "").replace(/^.*\//, "");
      if (node === undefined) return refusal(404, "Server aborted session: No such file or directory");
      if (node.kind === "file") files.push({ path: base, file: node });
      else if (zip !== true) return refusal(400, "A folder needs zip_required");
      else files.push(...filesBelow(node, `${base}/`));
    }
    if (sources.length > 1 && zip !== true) return refusal(400, "More than one path needs zip_required");
    return { files, zip: zip === true, name: typeof name === "string" ? name : "download" };
  }
}

interface Download {
  readonly files: readonly FoundFile[];
  readonly zip: boolean;
  readonly name: string;
}

function bytesOf({ files, zip, name }: Download, fault: Fault | undefined): Reply {
  const spoilt = fault?.kind === "wrong-bytes" || fault?.kind === "flip";
  const [only] = files;
  if (!zip && only !== undefined) {
    return {
      status: 200,
      headers: {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": disposition(only.path),
        "X-Request-Id": randomUUID(),
      },
      body: spoilt ? spoil(only.file.read()) : only.file.read(),
    };
  }
  const inputs = files.map(({ path, file }, index) => ({
    name: path,
    body: spoilt && index === 0 ? spoil(file.read()) : file.read(),
  }));
  return {
    status: 200,
    headers: {
      "Content-Type": "application/zip",
      "Content-Disposition": disposition(`${name}.zip`),
      "X-Request-Id": randomUUID(),
    },
    body: zipStream(inputs),
  };
}

/** Other bytes of the same length. */
async function* spoil(content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let first = true;
  for await (const chunk of content) {
    const copy = Uint8Array.from(chunk);
    if (first && copy.length > 0) copy[copy.length >> 1]! ^= 1;
    first = false;
    yield copy;
  }
}

const disposition = (name: string): string =>
  `attachment; filename="${name.replace(/[^\x20-\x7e]|["\\]/g, "_")}"; filename*=UTF-8''${encodeURIComponent(name)}`;

function fromHeader({ headers }: SandboxRequest): unknown {
  const spec = headers["x-aspera-spec"];
  return typeof spec === "string" ? parsed(Buffer.from(spec, "base64").toString("utf8")) : undefined;
}

const refusal = (status: number, message: string): Reply => json(status, { message, code: status });
