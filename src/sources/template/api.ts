/**
 * The wire of the archive: sole owner of its URLs, parameters and reply shapes. Facts: the fixtures beside this file
 * (a real archive: document, section and date).
 */
import * as v from "valibot";
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { parseJsonArray } from "../../lib/json-array-stream.ts";
import { type Http, type HttpResponse, statusError } from "../../transports/http.ts";
import type { SourceContext } from "../source.ts";

/** `GET /collections`: all of them. */
const Collection = v.object({
  name: v.string(),
  licence: v.optional(v.string()),
  licenceUrl: v.optional(v.string()),
});
export type WireCollection = v.InferOutput<typeof Collection>;

/** `GET /files`: in no order. Ids go into receipts, so what is no plain word is refused here. */
const File = v.object({
  id: v.pipe(v.string(), v.regex(/^[\w.-]+$/u)),
  collection: v.string(),
  patient: v.string(),
  name: v.string(),
  bytes: v.optional(v.number()),
  md5: v.optional(v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/iu))),
  /** `yyyy-MM-dd` */
  changed: v.string(),
});
export type WireFile = v.InferOutput<typeof File>;

export interface FileQuestion {
  readonly collection?: string | undefined;
  readonly patient?: string | undefined;
  readonly id?: string | undefined;
}

/** How long the first byte of a reply may take. */
const FIRST_BYTE_MS = 60_000;

export class TemplateApi {
  readonly #http: Http;
  readonly #archive: string;
  readonly #base: string;

  constructor(http: Http, archive: string, url: string) {
    this.#http = http;
    this.#archive = archive;
    this.#base = url.replace(/\/+$/u, "");
  }

  /** Scheme and host that bytes come from, for receipts. */
  get origin(): string {
    return new URL(this.#base).origin;
  }

  collections(context: SourceContext): AsyncIterable<WireCollection> {
    return this.#rows("/collections", Collection, context);
  }

  /** Every part of the question narrows the answer. An unknown name or id is an empty list. */
  files(question: FileQuestion, context: SourceContext): AsyncIterable<WireFile> {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(question)) if (value !== undefined) query.set(name, value);
    return this.#rows(`/files?${query}`, File, context);
  }

  /** The bytes of a file. Not retried here: the pipeline tries whole items again. */
  async *content(id: string, context: Context): AsyncGenerator<Uint8Array> {
    const url = new URL(`${this.#base}/files/${encodeURIComponent(id)}`);
    const request = { method: "GET", url, firstByteTimeoutMs: FIRST_BYTE_MS, data: true } as const;
    const response = await this.#http.request(request, context);
    await this.#expectOk(response, context);
    yield* response.body;
  }

  /** After a retry rows come again; readers drop repetitions. */
  #rows<S extends v.GenericSchema>(
    path: string,
    schema: S,
    context: SourceContext,
  ): AsyncIterable<v.InferOutput<S>> {
    return context.retry.stream(path, () => this.#rowsOnce(path, schema, context));
  }

  async *#rowsOnce<S extends v.GenericSchema>(
    path: string,
    schema: S,
    context: Context,
  ): AsyncGenerator<v.InferOutput<S>> {
    const url = new URL(`${this.#base}${path}`);
    const response = await this.#http.request(
      { method: "GET", url, firstByteTimeoutMs: FIRST_BYTE_MS },
      context,
    );
    await this.#expectOk(response, context);
    for await (const row of parseJsonArray(response.body)) {
      const parsed = v.safeParse(schema, row);
      if (!parsed.success) {
        const [issue] = parsed.issues;
        throw new RunError(
          "archive-reply",
          `${this.#archive}: a row's ${v.getDotPath(issue) ?? "shape"}: ${issue.message}`,
        );
      }
      yield parsed.output;
    }
  }

  async #expectOk(response: HttpResponse, context: Context): Promise<void> {
    const at = { url: response.url, archive: this.#archive };
    const { status } = response;
    if (status === 200 && !/^text\/html/iu.test(response.header("content-type") ?? "")) return;
    await response.discard();
    const failure = statusError(response, context);
    if (failure) throw failure.with(at);
    if (status === 401) throw new RunError("access-login", `${this.#archive} asks for a login`, { at });
    if (status === 404) throw new RunError("access-item", `${this.#archive} does not show it`, { at });
    throw new RunError("archive-reply", `an answer that this archive does not give (HTTP ${status})`, { at });
  }
}
