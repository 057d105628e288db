/**
 * The NBIA v4 wire: sole owner of its URLs, parameters and reply shapes.
 *
 * Facts are from CBIIT/NBIA-TCIA at 865725e (2026-06-22), `software/nbia-api/src/gov/nih/nci/nbia/restAPI`, and
 * its OpenAPI file of 2025-11-22, unless said otherwise.
 */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { parseJsonArray } from "../../lib/json-array-stream.ts";
import { type Redactor, redactUrl } from "../../lib/redact.ts";
import { type Http, type HttpRequest, type HttpResponse, statusError } from "../../transports/http.ts";
import { type ReplyCache, throughCache } from "../../transports/reply-cache.ts";
import type { SourceContext } from "../source.ts";
import { type NbiaCredentials, TokenKeeper } from "./token.ts";

/** A row as it comes: null columns are absent keys, numbers may be text (v4/getSeriesMetadata). */
export type WireRow = Readonly<Record<string, unknown>>;

export interface NbiaApiOptions {
  readonly http: Http;
  /** Name of the configured archive, for messages. */
  readonly archive: string;
  /** e.g. `https://nbia.cancerimagingarchive.net/nbia-api` */
  readonly url: string;
  readonly credentials: NbiaCredentials;
  readonly redactor: Redactor;
  /** For rows; images and digests are always asked for. */
  readonly replies?: ReplyCache | null;
}

/** Query parameters; their names are case-sensitive, and v4 refuses unknown ones. */
export type Parameters = Readonly<Record<string, string>>;

const TEXT_LIMIT_BYTES = 1024 * 1024;
/** The newest official retriever raised its header wait from 30 s to 300 s (TCIA/data-retriever core/app/client.go 02cacbf). */
const FIRST_BYTE_MS = [60_000, 120_000, 300_000] as const;

/** How long the first byte may take at the n-th try: zips are built on the fly, large ones slowly. */
export function firstByteTimeoutMs(attempt: number): number {
  return FIRST_BYTE_MS[Math.min(attempt, FIRST_BYTE_MS.length - 1)] as number;
}

export class NbiaApi {
  readonly #options: NbiaApiOptions;
  readonly #base: string;
  readonly #tokens: TokenKeeper;

  constructor(options: NbiaApiOptions) {
    this.#options = options;
    this.#base = options.url.replace(/\/+$/u, "");
    this.#tokens = new TokenKeeper({ ...options, url: this.#base });
  }

  /** Scheme and host that bytes come from, for receipts. */
  get origin(): string {
    return new URL(this.#base).origin;
  }

  /** Rows of a GET endpoint. After a retry rows come again. */
  rows(endpoint: string, parameters: Parameters, context: SourceContext): AsyncIterable<WireRow> {
    const query = new URLSearchParams({ ...parameters, format: "json" });
    return this.#rows(endpoint, { method: "GET", url: this.#url(endpoint, query) }, context);
  }

  /** Rows of an endpoint that takes no `format` (v4 answers 400 to it there). */
  counts(endpoint: string, parameters: Parameters, context: SourceContext): AsyncIterable<WireRow> {
    return this.#rows(
      endpoint,
      { method: "GET", url: this.#url(endpoint, new URLSearchParams(parameters)) },
      context,
    );
  }

  /** v4/getSeriesMetadata: POST, `list` comma-joined; unknown UIDs are left out of the reply. */
  seriesMetadata(uids: readonly string[], context: SourceContext): AsyncIterable<WireRow> {
    const body = new URLSearchParams({ list: uids.join(","), format: "json" }).toString();
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    return this.#rows(
      "getSeriesMetadata",
      { method: "POST", url: this.#url("getSeriesMetadata"), body, headers },
      context,
    );
  }

  /**
   * v4/getImage with IncludeMD5 (commit 6a85f7d, 2025-11-26): a zip of LICENSE, the images and md5hashes.csv.
   * Not retried here. 400 means unknown, withdrawn or not permitted (`access-item`).
   */
  async images(
    seriesInstanceUid: string,
    attempt: number,
    context: Context,
  ): Promise<AsyncIterable<Uint8Array>> {
    const query = new URLSearchParams({
      SeriesInstanceUID: seriesInstanceUid,
      NewFileNames: "Yes",
      IncludeMD5: "Yes",
    });
    const response = await this.#send(
      {
        method: "GET",
        url: this.#url("getImage", query),
        firstByteTimeoutMs: firstByteTimeoutMs(attempt),
        data: true,
      },
      context,
    );
    return this.#data(response, context);
  }

  /** v4/getSingleImage: one DICOM file. An unknown SOP Instance UID is answered with 500. Not retried here. */
  async image(
    seriesInstanceUid: string,
    sopInstanceUid: string,
    attempt: number,
    context: Context,
  ): Promise<AsyncIterable<Uint8Array>> {
    const query = new URLSearchParams({
      SeriesInstanceUID: seriesInstanceUid,
      SOPInstanceUID: sopInstanceUid,
    });
    const response = await this.#send(
      {
        method: "GET",
        url: this.#url("getSingleImage", query),
        firstByteTimeoutMs: firstByteTimeoutMs(attempt),
        data: true,
      },
      context,
    );
    return this.#data(response, context);
  }

  /** v4/getMD5HashForImage: 32 hex digits as text. */
  md5OfImage(sopInstanceUid: string, context: SourceContext): Promise<string> {
    const url = this.#url("getMD5HashForImage", new URLSearchParams({ SOPInstanceUID: sopInstanceUid }));
    return context.retry.run(`md5 of ${sopInstanceUid}`, async (attempt) => {
      const response = await this.#send(
        { method: "GET", url, firstByteTimeoutMs: firstByteTimeoutMs(attempt) },
        context,
      );
      await this.#expectOk(response, context);
      const text = (await response.text(TEXT_LIMIT_BYTES)).trim();
      if (!/^[0-9a-f]{32}$/iu.test(text)) {
        throw new RunError("archive-reply", "the archive's MD5 of an image is not 32 hex digits", {
          at: { url: response.url },
        });
      }
      return text.toLowerCase();
    });
  }

  #url(endpoint: string, query?: URLSearchParams): URL {
    const text = query?.toString() ?? "";
    return new URL(`${this.#base}/services/v4/${endpoint}${text === "" ? "" : `?${text}`}`);
  }

  #rows(
    operation: string,
    request: Omit<HttpRequest, "firstByteTimeoutMs">,
    context: SourceContext,
  ): AsyncIterable<WireRow> {
    return context.retry.stream(operation, (attempt) =>
      this.#rowsOnce({ ...request, firstByteTimeoutMs: firstByteTimeoutMs(attempt) }, context),
    );
  }

  #rowsOnce(request: HttpRequest, context: SourceContext): AsyncIterable<WireRow> {
    const { replies = null, credentials } = this.#options;
    const { method, url, body = "" } = request;
    const user = credentials.user ?? credentials.token ?? "";
    const ask = async (): Promise<AsyncIterable<Uint8Array>> => {
      const response = await this.#send(request, context);
      await this.#expectOk(response, context);
      return response.body;
    };
    return throughCache(replies, { method, url, body, user }, ask, (reply) => rowsIn(reply, url), context);
  }

  async #data(response: HttpResponse, context: Context): Promise<AsyncIterable<Uint8Array>> {
    await this.#expectOk(response, context);
    // Data is labelled application/octet-stream or application/dicom; only what is refused or broken is text.
    if (/^(application\/json|text\/)/iu.test(response.header("content-type") ?? "")) {
      const sentence = (await response.text(TEXT_LIMIT_BYTES)).slice(0, 300);
      throw new RunError("archive-reply", `a message came instead of data: ${sentence}`, {
        at: { url: response.url, archive: this.#options.archive },
      });
    }
    return response.body;
  }

  /** The login of this archive's account. */
  get tokens(): TokenKeeper {
    return this.#tokens;
  }

  /** Sends with the token, and once more with a new token when the old one was refused. */
  async #send(request: HttpRequest, context: Context): Promise<HttpResponse> {
    const { http, archive } = this.#options;
    for (let renewed = false; ; renewed = true) {
      const token = await this.#tokens.token(context);
      if (token === null) return http.request(request, context);
      const headers = { ...request.headers, authorization: `Bearer ${token}` };
      const response = await http.request({ ...request, headers }, context);
      if (response.status !== 401 || renewed || !this.#tokens.canRenew) return response;
      await response.discard();
      context.log("info", `${archive}: the access token was refused; logging in again`);
      this.#tokens.refused(token);
    }
  }

  async #expectOk(response: HttpResponse, context: Context): Promise<void> {
    const at = { url: response.url, archive: this.#options.archive };
    const general = statusError(response, context);
    if (general) {
      await response.discard();
      throw general.with(at);
    }
    const type = response.header("content-type") ?? "";
    if (response.status === 401) {
      await response.discard();
      throw this.#tokens.rejection().with(at);
    }
    if (response.status === 400) {
      const sentence = (await response.text(TEXT_LIMIT_BYTES)).slice(0, 300);
      // "…is not in public domain" (v1), "The user has not been granted the access to image with given…" (v2, v4).
      if (/not been granted|not in public domain/u.test(sentence)) {
        throw new RunError(
          "access-item",
          "the archive does not show this series: unknown, withdrawn or not permitted",
          { at },
        );
      }
      throw new RunError("archive-reply", `the archive refused the question: ${sentence}`, {
        at,
        retry: "never",
      });
    }
    if (response.status !== 200 && response.status !== 204) {
      await response.discard();
      throw new RunError("archive-reply", `an answer that NBIA does not give (HTTP ${response.status})`, {
        at,
      });
    }
    if (/^text\/html/iu.test(type)) {
      await response.discard();
      throw new RunError("archive-reply", "a web page came instead of data", { at });
    }
  }
}

/** Rows of a reply. No content, or an empty body with 200 and no type: nothing matches (getData.java, formatResponse). */
async function* rowsIn(reply: AsyncIterable<Uint8Array>, url: URL): AsyncGenerator<WireRow> {
  for await (const row of parseJsonArray(reply)) {
    if (typeof row !== "object" || row === null || Array.isArray(row)) {
      throw new RunError("archive-reply", "a row of the archive's reply is no object", {
        at: { url: redactUrl(url) },
      });
    }
    yield row as WireRow;
  }
}
