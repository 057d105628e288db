/** Sending a reply: back-pressure, and the faults that concern bytes on the wire. */
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { setImmediate, setTimeout } from "node:timers/promises";
import type { Fault } from "./faults.ts";
import type { Reply } from "./stand-ins.ts";

const SERVER_SENTENCE = "Server was not able to process your request";

/** How the sending ended: `cut`, `stalled` and `gone` (the client went away) are no complete replies. */
export type Ending = "complete" | "cut" | "stalled" | "gone";

export interface Sent {
  readonly status: number;
  /** Bytes of the body. */
  readonly bytes: number;
  readonly ending: Ending;
}

/** The reply that a fault puts in place of the true one, or undefined when the fault is of another kind. */
export function replyOfFault(fault: Fault, elsewhere: string): Reply | undefined {
  const retryAfter: Record<string, string> =
    fault.retryAfter === undefined ? {} : { "Retry-After": String(fault.retryAfter) };
  switch (fault.kind) {
    case "429":
      return frontEnd(429, "Too Many Requests", retryAfter);
    case "500":
      return { status: 500, headers: { "Content-Type": "text/plain" }, body: `${SERVER_SENTENCE}\nnull` };
    case "502":
      return frontEnd(502, "Bad Gateway");
    case "503":
      return frontEnd(503, "Service Temporarily Unavailable", retryAfter);
    case "504":
      return frontEnd(504, "Gateway Time-out");
    case "html":
      return { status: 200, headers: { "Content-Type": "text/html; charset=utf-8" }, body: LOGIN_PAGE };
    case "html-zip":
      return { status: 200, headers: { "Content-Type": "application/octet-stream" }, body: LOGIN_PAGE };
    case "json-error":
      return {
        status: 200,
        headers: { "Content-Type": "application/json" },
        body: '{"errorMessage":"java.lang.NullPointerException","status":"error"}',
      };
    case "expired-token":
      return { status: 401 };
    case "empty-body":
      return { status: 200 };
    case "missing":
      return { status: 404 };
    case "reset":
      return { status: 0, hangUp: true };
    case "redirect":
      return { status: 302, headers: { Location: `${elsewhere}/login` } };
    case "redirect-loop":
      return { status: 302, headers: { Location: "/_sandbox/loop" } };
    default:
      return undefined;
  }
}

const LOGIN_PAGE =
  "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><h1>Sign in to continue</h1>" +
  '<form method="post" action="/login"><input name="username"><input name="password" type="password"></form></body></html>\n';

function frontEnd(status: number, reason: string, headers: Record<string, string> = {}): Reply {
  const title = `${status} ${reason}`;
  return {
    status,
    headers: { "Content-Type": "text/html", ...headers },
    body: `<html>\r\n<head><title>${title}</title></head>\r\n<body>\r\n<center><h1>${title}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n`,
  };
}

/** Send the reply, as the fault (if any) has it. Resolves when the last byte is handed over or nobody listens. */
export async function send(response: ServerResponse, reply: Reply, fault?: Fault): Promise<Sent> {
  const socket = response.socket;
  if (reply.hangUp) {
    // Node can't reset a connection under TLS; closing it without TLS's goodbye is as abrupt to a client.
    if (socket !== null && "encrypted" in socket) socket.destroy();
    else socket?.resetAndDestroy();
    return { status: 0, bytes: 0, ending: "cut" };
  }
  if (fault?.kind === "slow-first-byte") await pause(fault.ms ?? 1000, response);

  let body = reply.body;
  const endsEarly = fault?.kind === "cut" || fault?.kind === "stall" || fault?.kind === "truncated-json";
  let allowed = Number.POSITIVE_INFINITY;
  if (endsEarly && fault.afterBytes !== undefined) allowed = fault.afterBytes;
  else if (endsEarly) {
    // A share of a body is only known when the body is.
    const whole = await collect(body);
    body = chunked([whole]);
    allowed = Math.floor(whole.byteLength * (fault.fraction ?? 0.5));
  }
  let shortened: Uint8Array | undefined;
  if (fault?.kind === "short-body") {
    const whole = await collect(body);
    const kept = fault.afterBytes ?? Math.floor(whole.byteLength * (fault.fraction ?? 0.5));
    shortened = whole.subarray(0, Math.min(kept, Math.max(0, whole.byteLength - 1)));
    body = shortened;
  }
  if (fault?.kind === "trailing")
    body = chunked([await collect(body), new Uint8Array(fault.bytes ?? 64).fill(0xa5)]);
  if (fault?.kind === "slow") body = slices(body);

  const headers: Record<string, string | number> = { ...reply.headers };
  if (typeof body === "string") body = Buffer.from(body);
  if (body instanceof Uint8Array) headers["Content-Length"] = body.byteLength;
  if (body === undefined && ![204, 304].includes(reply.status)) headers["Content-Length"] = 0;
  if (fault?.kind === "trailing" && headers["Content-Length"] !== undefined)
    headers["Content-Length"] = Number(headers["Content-Length"]) + (fault.bytes ?? 64);
  response.writeHead(reply.status, headers);
  if (response.req.method === "HEAD") {
    response.end();
    return { status: reply.status, bytes: 0, ending: "complete" };
  }
  // The head goes out at once: a stalled or slow body must not hold it back.
  if (endsEarly || fault?.kind === "slow") response.flushHeaders();

  let bytes = 0;
  const sent = (ending: Ending): Sent => ({ status: reply.status, bytes, ending });
  const write = async (chunk: string | Uint8Array): Promise<boolean> => {
    if (response.destroyed || response.writableEnded) return false;
    const size = typeof chunk === "string" ? Buffer.byteLength(chunk) : chunk.byteLength;
    bytes += size;
    if (!response.write(chunk)) await drained(response);
    return !response.destroyed;
  };
  const started = performance.now();
  for await (const chunk of asChunks(body)) {
    let part: string | Uint8Array = chunk;
    if (allowed !== Number.POSITIVE_INFINITY) {
      const buffer = typeof chunk === "string" ? Buffer.from(chunk) : chunk;
      part = buffer.subarray(0, Math.max(0, allowed - bytes));
    }
    if (part.length > 0 && !(await write(part))) return sent("gone");
    if (bytes >= allowed) break;
    if (fault?.kind === "slow") {
      const due = (bytes / (fault.bytesPerSecond ?? 65_536)) * 1000;
      await pause(due - (performance.now() - started), response);
    }
  }
  if (fault?.kind === "cut") {
    await flushed(response);
    socket?.destroy();
    return sent("cut");
  }
  if (fault?.kind === "stall") {
    if (!response.destroyed) await once(response, "close").catch(() => {});
    return sent("stalled");
  }
  response.end();
  return sent("complete");
}

/** Until the socket takes more, or is gone. */
function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off("drain", done);
      response.off("close", done);
      resolve();
    };
    response.once("drain", done);
    response.once("close", done);
  });
}

/** Wait, but not longer than anybody listens. */
async function pause(ms: number, response: ServerResponse): Promise<void> {
  if (ms <= 0 || response.destroyed) return;
  const gone = new AbortController();
  const leave = () => gone.abort();
  response.once("close", leave);
  await setTimeout(ms, undefined, { signal: gone.signal }).catch(() => {});
  response.off("close", leave);
}

async function flushed(response: ServerResponse): Promise<void> {
  while (!response.destroyed && (response.writableLength > 0 || (response.socket?.writableLength ?? 0) > 0)) {
    await setImmediate();
  }
}

async function* chunked(parts: readonly Uint8Array[]): AsyncIterable<Uint8Array> {
  yield* parts;
}

function asChunks(
  body: Reply["body"],
): AsyncIterable<string | Uint8Array> | readonly (string | Uint8Array)[] {
  if (body === undefined) return [];
  return typeof body === "string" || body instanceof Uint8Array ? [body] : body;
}

async function* slices(body: Reply["body"]): AsyncIterable<Uint8Array> {
  const size = 4096;
  for await (const chunk of asChunks(body)) {
    const buffer = typeof chunk === "string" ? Buffer.from(chunk) : chunk;
    for (let at = 0; at < buffer.byteLength; at += size) yield buffer.subarray(at, at + size);
  }
}

/** The whole body in memory. */
export async function collect(body: Reply["body"]): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of asChunks(body))
    chunks.push(typeof chunk === "string" ? Buffer.from(chunk) : chunk);
  return Buffer.concat(chunks);
}
