/**
 * The wire of a LORIS, of both families of its interface: scripts of LORIS 20 as PREVENT-AD runs them, and the handlers
 * of LORIS 22 and later. Sole owner of URLs and reply shapes. Only addresses that both know in the same spelling are
 * asked, so that nothing here depends on which one answers.
 *
 * Observed of those releases: JSON may be labelled `text/html`, `Authorization` is looked up with exactly this spelling,
 * cookies serialise all requests (none is sent back), and files come packed once more to who offers gzip.
 */
import { JSONParser } from "@streamparser/json";
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { type Http, type HttpResponse, statusError } from "../../transports/http.ts";
import type { SourceContext } from "../source.ts";
import type { BaseUrl } from "./base-url.ts";
import { isPage, type LorisTokens, pageReason } from "./token.ts";

/** A row of a list: every key may be missing on another installation. */
export type WireRow = Readonly<Record<string, unknown>>;

export interface FileReply {
  readonly body: AsyncIterable<Uint8Array>;
  /** As announced; null when the reply says nothing or came packed. */
  readonly bytes: number | null;
  /** As sent; see `EtagLedger`. */
  readonly etag: string | undefined;
  /** Without reading the body. */
  discard(): Promise<void>;
}

const FIRST_BYTE_MS = 120_000;
const ERROR_LIMIT_BYTES = 64 * 1024;
const OBJECT_LIMIT_BYTES = 4 * 1024 * 1024;
/** `$.README` and its like are one row each, the two lists a row an element. */
const MANIFEST_PATHS = [
  "$.DatasetDescription",
  "$.README",
  "$.BidsValidatorConfig",
  "$.Participants",
  "$.SessionFiles.*",
  "$.Images.*",
];

export class LorisApi {
  readonly #http: Http;
  readonly #archive: string;
  readonly #base: BaseUrl;
  readonly #tokens: LorisTokens;
  /** Scheme and host that bytes come from, for receipts. */
  readonly origin: string;

  constructor(options: { http: Http; archive: string; url: string; base: BaseUrl; tokens: LorisTokens }) {
    this.#http = options.http;
    this.#archive = options.archive;
    this.#base = options.base;
    this.#tokens = options.tokens;
    this.origin = new URL(options.url).origin;
  }

  /** Names of the projects, also of those that this account may not see. */
  async projects(context: SourceContext): Promise<readonly string[]> {
    const value = await this.#object("/projects/", context);
    const { Projects: projects } = value;
    return typeof projects === "object" && projects !== null ? Object.keys(projects) : [];
  }

  /**
   * The list of a project's BIDS export, as it streams; after a retry rows come again, and readers drop repetitions.
   * Null: there is no such export.
   */
  async manifest(project: string, context: SourceContext): Promise<AsyncIterable<WireRow> | null> {
    const path = `/projects/${encodeURIComponent(project)}/bids/`;
    return this.#rows(path, "the list of BIDS files", MANIFEST_PATHS, context);
  }

  /** Images of a project. Null: it is not there, or not for this account. */
  async images(project: string, context: SourceContext): Promise<AsyncIterable<WireRow> | null> {
    const path = `/projects/${encodeURIComponent(project)}/images`;
    return this.#rows(path, "the list of images", ["$.Images.*"], context);
  }

  /** All candidates that this account may see. */
  async candidates(context: SourceContext): Promise<AsyncIterable<WireRow> | null> {
    return this.#rows("/candidates/", "the list of candidates", ["$.Candidates.*"], context);
  }

  /** What a visit says of itself. Throws `access-item`. */
  async visit(candidate: string, visit: string, context: Context): Promise<WireRow> {
    const value = await this.#object(`/candidates/${candidate}/${encodeURIComponent(visit)}`, context);
    const { Meta: meta } = value;
    if (typeof meta !== "object" || meta === null || Array.isArray(meta))
      throw new RunError(
        "archive-reply",
        `${this.#archive} says nothing of the visit ${visit} of ${candidate}`,
      );
    return { ...meta };
  }

  /** Whether images can be had as NIfTI, seen at one of them: LORIS 24.1 and later; earlier ones know no such address. */
  async offersNifti(image: string, context: SourceContext): Promise<boolean> {
    return context.retry.run(`${image}/format/nifti`, async () => {
      const response = await this.#get(`${image}/format/nifti`, { data: true }, context);
      const { status } = response;
      if (status === 429 || status === 502 || status === 503 || status === 504)
        await this.#expectOk(response, context);
      if (status === 404) {
        // The answer of the handler, and not the page of a server that knows no such address.
        return errorOf(await response.text(ERROR_LIMIT_BYTES)) !== null;
      }
      await response.discard();
      return status === 200;
    });
  }

  /** A file by its link. Throws `access-item` for one that is not there. Not retried: the pipeline tries items again. */
  async file(link: string, context: Context): Promise<FileReply> {
    return this.#fileReply(await this.#get(link, { data: true }, context), context);
  }

  /** The same for a file that need not be there: null. */
  async fileIfAny(link: string, context: Context): Promise<FileReply | null> {
    const response = await this.#get(link, { data: true }, context);
    if (response.status !== 404) return this.#fileReply(response, context);
    await response.discard();
    return null;
  }

  /**
   * Whether a file is still the one with this ETag. A failure of the conditional request alone is none: LORIS 22 and
   * later answer 500 to one with an expired token. Throws `access-item` for a file that is gone.
   */
  async isUnchanged(link: string, etag: string, context: SourceContext): Promise<boolean> {
    return context.retry.run(link, async () => {
      const response = await this.#get(link, { data: true, condition: etag }, context);
      if (response.status === 304) {
        await response.discard();
        return true;
      }
      const reply = await this.#fileReply(response, context);
      await reply.discard();
      return reply.etag === etag;
    });
  }

  async #fileReply(response: HttpResponse, context: Context): Promise<FileReply> {
    const at = { url: response.url, archive: this.#archive };
    const { status } = response;
    // A row without its file is answered by 500 with no body, but with an ETag (PREVENT-AD fork).
    const empty = status === 500 && response.header("etag") !== undefined;
    if (status === 404 || empty) {
      await response.discard();
      throw new RunError("access-item", "the archive links it but does not have it", { at });
    }
    if (status === 304) {
      await response.discard();
      throw new RunError("archive-reply", "the archive calls it unchanged, but it is not here", { at });
    }
    await this.#expectOk(response, context);
    const length = response.header("content-length");
    const packed = response.header("content-encoding") !== undefined;
    return {
      body: response.body,
      bytes: length === undefined || packed ? null : Number(length),
      etag: response.header("etag"),
      discard: () => response.discard(),
    };
  }

  /** Opened once to see whether there is such a list; a failure of that or later begins it anew. */
  async #rows(
    path: string,
    what: string,
    paths: readonly string[],
    context: SourceContext,
  ): Promise<AsyncIterable<WireRow> | null> {
    const open = async (): Promise<HttpResponse | null> => {
      const response = await this.#get(path, {}, context);
      if (response.status === 404 || response.status === 403) {
        await response.discard();
        return null;
      }
      await this.#expectOk(response, context);
      return response;
    };
    let first = await context.retry.run(path, open);
    if (first === null) return null;
    const archive = this.#archive;
    return context.retry.stream(path, async function* () {
      const response = first ?? (await open());
      first = null;
      if (response === null) throw new RunError("archive-reply", `${archive}: ${what} is there no more`);
      yield* parseRows(response.body, paths, `${archive}: ${what}`);
    });
  }

  async #object(path: string, context: Context): Promise<WireRow> {
    const response = await this.#get(path, {}, context);
    const at = { url: response.url, archive: this.#archive };
    if (response.status === 404) {
      await response.discard();
      throw new RunError("access-item", "the archive does not show it", { at });
    }
    await this.#expectOk(response, context);
    return parseObject(await response.text(OBJECT_LIMIT_BYTES), at, this.#archive);
  }

  /**
   * A token that is refused is replaced once. So is one at which a conditional request failed (LORIS 22 and later answer
   * 500 to one with an expired token); then the condition is left out.
   */
  async #get(
    link: string,
    { data = false, condition }: { readonly data?: boolean; readonly condition?: string },
    context: Context,
  ): Promise<HttpResponse> {
    const url = new URL((await this.#base.get(context)) + pathOf(link));
    let asking = condition;
    for (let attempt = 0; ; attempt += 1) {
      const token = await this.#tokens.token(context);
      const headers = {
        "Accept-Encoding": "identity",
        ...(asking === undefined ? {} : { "If-None-Match": asking }),
        Authorization: `Bearer ${token}`,
      };
      const response = await this.#http.request(
        { method: "GET", url, headers, firstByteTimeoutMs: FIRST_BYTE_MS, data },
        context,
      );
      const { status } = response;
      const failed = status === 500 && asking !== undefined;
      if (status !== 401 && !failed) return response;
      await response.discard();
      this.#tokens.refused(token);
      if (failed) asking = undefined;
      else if (attempt > 0 || !this.#tokens.canRenew) throw this.#tokens.rejection();
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

/** Links are as the database has the names: not encoded, unless a server did it. A doubled first slash is usual. */
function pathOf(link: string): string {
  const segments = link.replace(/^\/+/u, "").split("/");
  return segments.map((each) => `/${/%[\dA-F]{2}/iu.test(each) ? each : encodeURIComponent(each)}`).join("");
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

/** One JSON object. Throws `archive-reply` for anything else, an error message included. */
export function parseObject(text: string, at: RunError["at"], archive: string): WireRow {
  const fail = (what: string): RunError => new RunError("archive-reply", `${archive}: ${what}`, { at });
  if (isPage(text)) throw fail(`a web page came instead of data (${pageReason})`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw fail("what came is no JSON");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw fail("what came is no JSON object");
  if (Object.keys(value).join() === "error")
    throw fail(errorOf(text) ?? "an error message came instead of data");
  return { ...value };
}

/** The rows at JSON paths as they stream. Throws `archive-reply` for what is no whole JSON object; `what` begins it. */
export async function* parseRows(
  body: AsyncIterable<Uint8Array>,
  paths: readonly string[],
  what: string,
): AsyncGenerator<WireRow> {
  const decoder = new TextDecoder();
  let rows: WireRow[] = [];
  let fault: Error | undefined;
  const parser = new JSONParser({ paths: [...paths, "$.error"], keepStack: false });
  parser.onValue = ({ value, key, stack }) => {
    if (key === "error" && stack.length === 1) fault ??= new Error("error");
    else if (typeof value === "object" && value !== null && !Array.isArray(value)) rows.push({ ...value });
  };
  parser.onError = (error) => {
    fault ??= error;
  };
  const fail = (end: string): RunError => new RunError("archive-reply", `${what} ${end}`);
  let begun = false;
  const write = (text: string): void => {
    if (!begun && text.trim() === "") return;
    if (!begun && isPage(text)) throw fail(`did not come, but a web page (${pageReason})`);
    if (!begun && !text.trimStart().startsWith("{")) throw fail("did not come, but something else");
    begun = true;
    parser.write(text);
    if (fault !== undefined) throw fail("is no JSON, or an error message");
  };
  for await (const chunk of body) {
    write(decoder.decode(chunk, { stream: true }));
    yield* rows;
    rows = [];
  }
  write(decoder.decode());
  if (!begun || !parser.isEnded) throw fail("ends too early");
  yield* rows;
}
