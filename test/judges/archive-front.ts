/**
 * The archive's own host names over HTTPS, for clients that have them built in: a proxy, as `HTTPS_PROXY` names one,
 * that ends TLS itself with a certificate of its own for those names and hands the requests to a sandbox. The client
 * stays as it is; it only has to trust the authority, and to honour the usual variables. A host that is not the
 * archive's is refused and remembered: no judge leaves this machine.
 */
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { issueCertificates } from "../../src/sandbox/certificates.ts";
import { atEnd } from "../support/gantry.ts";

/** Hosts of the archive, and where the sandbox serves each. */
const PREFIXES: ReadonlyMap<string, string> = new Map([
  ["nbia.cancerimagingarchive.net", ""],
  ["services.cancerimagingarchive.net", ""],
  ["nlst.cancerimagingarchive.net", "/nlst"],
  ["openpreventad.loris.ca", "/openpreventad"],
]);

export interface ArchiveFront {
  /** For the client's environment: the proxy, and the authority to trust. */
  readonly environment: Readonly<Record<string, string>>;
  /** Hosts that were asked for and refused. */
  readonly refused: readonly string[];
}

/** Closed after the suite. */
export async function startArchiveFront(sandboxUrl: string): Promise<ArchiveFront> {
  const { caCertificate, certificate, key } = await issueCertificates({
    alsoFor: [...PREFIXES.keys()],
  });
  const folder = await mkdtemp(join(tmpdir(), "gantry-front-"));
  const caFile = join(folder, "ca.pem");
  await writeFile(caFile, caCertificate);

  const secure = createSecureServer({ cert: certificate, key }, (request, response) =>
    forward(sandboxUrl, request, response),
  );
  const refused: string[] = [];
  const sockets = new Set<Socket>();
  const proxy = createServer((request, response) => {
    refused.push(String(request.url));
    response.writeHead(502).end();
  });
  proxy.on("connect", (request: IncomingMessage, socket: Socket, head: Buffer) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => sockets.delete(socket));
    const host = String(request.url).replace(/:443$/, "");
    if (!PREFIXES.has(host)) {
      refused.push(host);
      socket.end("HTTP/1.1 502 Bad Gateway\r\n\r\n");
      return;
    }
    socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
    if (head.length > 0) socket.unshift(head);
    secure.emit("connection", socket);
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  atEnd(async () => {
    for (const socket of sockets) socket.destroy();
    proxy.close();
    await rm(folder, { recursive: true, force: true });
  });
  const proxyUrl = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  return {
    environment: {
      HTTPS_PROXY: proxyUrl,
      https_proxy: proxyUrl,
      REQUESTS_CA_BUNDLE: caFile,
      SSL_CERT_FILE: caFile,
    },
    refused,
  };
}

/** The headers under the names they came with, for a server to which `authorization` is not `Authorization`. */
function asSpelt({ rawHeaders }: IncomingMessage): Record<string, string> {
  const headers: Record<string, string> = {};
  for (let i = 0; i + 1 < rawHeaders.length; i += 2)
    if (rawHeaders[i]!.toLowerCase() !== "host") headers[rawHeaders[i]!] = rawHeaders[i + 1]!;
  return headers;
}

function forward(sandboxUrl: string, request: IncomingMessage, response: ServerResponse): void {
  const host = String(request.headers.host).replace(/:443$/, "");
  const url = new URL(`${sandboxUrl}${PREFIXES.get(host) ?? ""}${request.url}`);
  const onward = httpRequest(
    url,
    { method: request.method, headers: { ...asSpelt(request), host: url.host }, agent: false },
    (reply) => {
      response.writeHead(reply.statusCode ?? 502, reply.headers);
      reply.pipe(response);
      // A cut on the sandbox's side is a cut on the client's.
      reply.on("aborted", () => response.destroy());
    },
  );
  onward.on("error", () => response.destroy());
  response.on("close", () => onward.destroy());
  request.pipe(onward);
}
