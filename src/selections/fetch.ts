/** Selections that are fetched from the web: bounded, without credentials, from places that are safe to ask. */
import { isIP } from "node:net";
import { type ErrorCode, RunError } from "../errors.ts";
import type { Context } from "../lib/context.ts";
import { writeFileDurably } from "../lib/durable-file.ts";
import { redactUrl } from "../lib/redact.ts";
import type { RetryLoop } from "../lib/retry.ts";
import { type Http, type HttpResponse, statusError } from "../transports/http.ts";

/** Four million series. */
const MAX_BYTES = 256 * 1024 * 1024;
const FIRST_BYTE_TIMEOUT_MS = 60_000;

/**
 * Fetches a selection to a file. Throws `access-denied`, `access-item` for a page that is not there,
 * `bad-selection` for one beyond 256 MiB, and what the transport throws, once trying again has not helped.
 */
export async function fetchSelection(
  http: Http,
  url: URL,
  path: string,
  context: Context & { readonly retry: RetryLoop },
): Promise<void> {
  const shown = redactUrl(url);
  await context.retry.run(`fetch ${shown}`, async () => {
    const response = await http.request(
      { method: "GET", url, firstByteTimeoutMs: FIRST_BYTE_TIMEOUT_MS },
      context,
    );
    if (response.status !== 200) {
      await response.discard();
      throw statusError(response, context) ?? refusal(response.status, shown);
    }
    await writeFileDurably(path, bounded(response, shown));
  });
}

function refusal(status: number, shown: string): RunError {
  const code: ErrorCode = status === 401 || status === 403 ? "access-denied" : "access-item";
  return new RunError(code, `${shown} is not there to be read (HTTP ${status})`, {
    hint: "open the address in a browser to see what it is",
    at: { url: shown },
  });
}

async function* bounded(response: HttpResponse, shown: string): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const chunk of response.body) {
    bytes += chunk.length;
    if (bytes > MAX_BYTES)
      throw new RunError("bad-selection", `${shown} is longer than 256 MiB, too long for a selection`);
    yield chunk;
  }
}

/**
 * Why a URL of a file may not be followed, null when it may. `from` is where the file itself came from, null for one
 * of the user's. Only https, as what is fetched decides what is downloaded; http within one origin, and on the
 * user's own machine, to which no file from elsewhere leads.
 */
export function followRefusal(url: URL, from: URL | null): string | null {
  const here = isLoopback(url.hostname);
  if (here && from !== null && !isLoopback(from.hostname))
    return "a file from the web may not lead to this machine";
  if (url.protocol === "https:" || url.origin === from?.origin) return null;
  if (url.protocol !== "http:") return `${url.protocol} is not followed, only https:`;
  return here ? null : "http: is not safe to follow, only https:";
}

function isLoopback(hostname: string): boolean {
  const host = hostname.replace(/^\[|\]$/gu, "");
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}
