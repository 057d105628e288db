/** A small server of plain files with the sandbox's faults, for suites of links. */
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { type Fault, FaultDeck } from "../../src/sandbox/faults.ts";
import { type PlainFile, plainFileReply } from "../../src/sandbox/plain-file.ts";
import { collect, replyOfFault, send } from "../../src/sandbox/wire.ts";

export interface FileServer {
  readonly url: string;
  /** By path, e.g. `/a.xlsx`; may be changed while it serves. */
  readonly files: Map<string, PlainFile>;
  /** Faults with the route `/probe/**` meet the question what a link has, those with `/data/**` its bytes. */
  setFaults(faults: readonly Fault[]): void;
  open(): number;
  readonly requests: { readonly path: string; readonly headers: IncomingHttpHeaders; status: number }[];
  /** What came to the other origin that the fault `redirect` leads to. */
  elsewhere(): string;
  /** More headers for every reply, or other ones; null leaves one out. */
  readonly headers: Record<string, string | null>;
  close(): Promise<void>;
}

export async function startFileServer(files: Readonly<Record<string, PlainFile>>): Promise<FileServer> {
  const served = new Map(Object.entries(files));
  const requests: FileServer["requests"] = [];
  const headers: Record<string, string | null> = {};
  const seenElsewhere: string[] = [];
  const deck = new FaultDeck(1);
  let open = 0;
  const elsewhere = createServer((request, response) => {
    seenElsewhere.push(JSON.stringify([request.url, request.headers]));
    response.writeHead(200, { "Content-Type": "text/html" }).end("<!DOCTYPE html><h1>Sign in</h1>");
  });
  const server = createServer((incoming, response) => {
    open += 1;
    response.on("close", () => {
      open -= 1;
    });
    const url = new URL(incoming.url ?? "/", "http://files");
    const request = {
      method: "GET",
      path: url.pathname,
      query: url.searchParams,
      headers: incoming.headers,
      form: new URLSearchParams(),
      incoming,
    };
    const seen = { path: url.pathname, headers: incoming.headers, status: 0 };
    requests.push(seen);
    const probe = incoming.headers.range === "bytes=0-0";
    const fault = deck.draw({
      method: "GET",
      path: `${probe ? "/probe" : "/data"}${url.pathname}`,
      details: () => url.search,
      serves: "file",
    });
    void (async () => {
      const loop = url.pathname === "/_sandbox/loop";
      const file = served.get(url.pathname);
      const reply =
        (fault && replyOfFault(fault, addressOf(elsewhere))) ??
        (loop ? { status: 302, headers: { Location: "/_sandbox/loop" } } : undefined) ??
        (file ? plainFileReply(request, file, fault) : { status: 404, body: "not here\n" });
      const given = Object.entries({ ...reply.headers, ...headers }).filter(
        (each): each is [string, string] => each[1] !== null,
      );
      seen.status = reply.status;
      // Without its length a body goes in chunks.
      const chunked = headers["Content-Length"] === null && reply.body !== undefined;
      const whole = chunked ? await collect(reply.body) : null;
      async function* body(): AsyncGenerator<Uint8Array> {
        if (whole) yield whole;
      }
      const { body: plain, ...rest } = reply;
      const sent = chunked ? { body: body() } : plain === undefined ? {} : { body: plain };
      await send(response, { ...rest, headers: Object.fromEntries(given), ...sent }, fault);
    })().catch(() => response.destroy());
  });
  const addressOf = (each: typeof server): string =>
    `http://127.0.0.1:${(each.address() as AddressInfo).port}`;
  for (const each of [server, elsewhere])
    await new Promise<void>((resolve) => each.listen(0, "127.0.0.1", resolve));
  return {
    url: addressOf(server),
    files: served,
    headers,
    requests,
    setFaults: (faults) => deck.set(faults),
    open: () => open,
    elsewhere: () => seenElsewhere.join("\n"),
    close: async () => {
      for (const each of [server, elsewhere]) {
        each.closeAllConnections();
        await new Promise((resolve) => each.close(resolve));
      }
    },
  };
}
