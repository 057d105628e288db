/**
 * The wire of a LORIS with a BIDS export (the PREVENT-AD fork of LORIS 20.1): sole owner of its URLs and reply shapes.
 *
 * Observed of that release: JSON is labelled `text/html`, `Authorization` is looked up with exactly this spelling,
 * cookies serialise all requests (none is sent back), and files come packed once more to who offers gzip.
 */
import { JSONParser } from "@streamparser/json";
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { type Http, type HttpResponse, statusError } from "../../transports/http.ts";
import type { SourceContext } from "../source.ts";
import type { LorisTokens } from "./token.ts";

/** A row of the manifest, of any of its parts: every key may be missing on another installation. */
export type ManifestRow = Readonly<Record<string, unknown>>;

export interface FileReply {
  readonly body: AsyncIterable<Uint8Array>;
  /** As announced; null when the reply says nothing or came packed. */
  readonly bytes: number | null;
}

const VERSION = "v0.0.3-dev";
const FIRST_BYTE_MS = 120_000;
const ERROR_LIMIT_BYTES = 64 * 1024;
/** `$.README` and its like are one row each, the two lists a row an element. */
const MANIFEST_PATHS = [
  "$.DatasetDescription",
  "$.README",
  "$.BidsValidatorConfig",
  "$.Participants",
  "$.SessionFiles.*",
  "$.Images.*",
];

/** The base with its version: a root or `…/api` is completed. */
export function baseOf(url: string): string {
  const base = url.replace(/\/+$/u, "");
  if (/\/api\/v[^/]+$/u.test(base)) return base;
  return base.endsWith("/api") ? `${base}/${VERSION}` : `${base}/api/${VERSION}`;
}

export class LorisApi {
  readonly #http: Http;
  readonly #archive: string;
  readonly #base: string;
  readonly #tokens: LorisTokens;

  constructor(http: Http, archive: string, base: string, tokens: LorisTokens) {
    this.#http = http;
    this.#archive = archive;
    this.#base = base;
    this.#tokens = tokens;
  }

  /** Scheme and host that bytes come from, for receipts. */
  get origin(): string {
    return new URL(this.#base).origin;
  }

  /** After a retry rows come again; readers drop repetitions. */
  manifest(project: string, context: SourceContext): AsyncIterable<ManifestRow> {
    const path = `/projects/${encodeURIComponent(project)}/bids/`;
    return context.retry.stream(path, () => this.#manifestOnce(path, project, context));
  }

  /** A file by the manifest's link. Not retried here: the pipeline tries whole items again. */
  async file(link: string, context: Context): Promise<FileReply> {
    const response = await this.#get(link, { "Accept-Encoding": "identity" }, true, context);
    const at = { url: response.url, archive: this.#archive };
    // A row without its file is answered by 500 with no body, but with an ETag (PREVENT-AD fork).
    const empty = response.status === 500 && response.header("etag") !== undefined;
    if (response.status === 404 || empty) {
      await response.discard();
      throw new RunError("access-item", "the archive links it but does not have it", { at });
    }
    await this.#expectOk(response, context);
    const length = response.header("content-length");
    const packed = response.header("content-encoding") !== undefined;
    return { body: response.body, bytes: length === undefined || packed ? null : Number(length) };
  }

  async *#manifestOnce(path: string, project: string, context: Context): AsyncGenerator<ManifestRow> {
    const response = await this.#get(path, {}, false, context);
    const at = { url: response.url, archive: this.#archive };
    if (response.status === 404) {
      await response.discard();
      throw new RunError("unknown-name", `${this.#archive} has no BIDS export of a project ${project}`, {
        at,
        hint: "the archive's setting `project` names it; a LORIS without such an export is not served yet",
      });
    }
    await this.#expectOk(response, context);
    yield* manifestRows(response.body, this.#archive);
  }

  /** A token that is refused is replaced once. */
  async #get(
    link: string,
    headers: Readonly<Record<string, string>>,
    data: boolean,
    context: Context,
  ): Promise<HttpResponse> {
    const url = new URL(`${this.#base}/${link.replace(/^\/+/u, "")}`);
    for (let attempt = 0; ; attempt += 1) {
      const token = await this.#tokens.token(context);
      const sent = { ...headers, Authorization: `Bearer ${token}` };
      const response = await this.#http.request(
        { method: "GET", url, headers: sent, firstByteTimeoutMs: FIRST_BYTE_MS, data },
        context,
      );
      if (response.status !== 401) return response;
      await response.discard();
      this.#tokens.refused(token);
      if (attempt > 0 || !this.#tokens.canRenew) throw this.#tokens.rejection();
    }
  }

  async #expectOk(response: HttpResponse, context: Context): Promise<void> {
    if (response.status === 200) return;
    const at = { url: response.url, archive: this.#archive };
    const failure = statusError(response, context);
    if (failure) {
      await response.discard();
      throw failure.with(at);
    }
    const said = errorOf(await response.text(ERROR_LIMIT_BYTES));
    if (response.status === 403) throw new RunError("access-denied", `${this.#archive} denies it`, { at });
    throw new RunError("archive-reply", `${said ?? "an unexpected answer"} (HTTP ${response.status})`, {
      at,
    });
  }
}

/** The server's sentence; some are wrapped twice, and some replies are web pages. */
function errorOf(text: string): string | null {
  try {
    let value: unknown = JSON.parse(text);
    while (typeof value === "object" && value !== null && "error" in value) value = value.error;
    return typeof value === "string" && value !== "" ? value : null;
  } catch {
    return null;
  }
}

/** The rows of a manifest as it streams. Throws `archive-reply` for what is no whole JSON object. */
export async function* manifestRows(
  body: AsyncIterable<Uint8Array>,
  archive: string,
): AsyncGenerator<ManifestRow> {
  const decoder = new TextDecoder();
  let rows: ManifestRow[] = [];
  let fault: Error | undefined;
  const parser = new JSONParser({ paths: MANIFEST_PATHS, keepStack: false });
  parser.onValue = ({ value }) => {
    if (typeof value === "object" && value !== null && !Array.isArray(value)) rows.push({ ...value });
  };
  parser.onError = (error) => {
    fault ??= error;
  };
  const fail = (what: string): RunError => new RunError("archive-reply", `${archive}: ${what}`);
  let begun = false;
  const write = (text: string): void => {
    if (!begun && text.trim() === "") return;
    if (!begun && !text.trimStart().startsWith("{"))
      throw fail("no list of BIDS files came, but another page");
    begun = true;
    parser.write(text);
    if (fault !== undefined) throw fail("the list of BIDS files is no JSON");
  };
  for await (const chunk of body) {
    write(decoder.decode(chunk, { stream: true }));
    yield* rows;
    rows = [];
  }
  write(decoder.decode());
  if (!begun || !parser.isEnded) throw fail("the list of BIDS files ends too early");
  yield* rows;
}
