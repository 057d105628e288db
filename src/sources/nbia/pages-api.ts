/**
 * The collection manager behind an archive's web pages (WordPress), generations v1 and v2: sole owner of its URLs and
 * envelopes.
 *
 * Facts: kirbyju/tcia_utils at ef45a04, src/tcia_utils/wordpress.py (v1: plain arrays, `Link: …; rel="next"`, media for
 * `download_file`); kirbyju/tcia-query-skill at 0f2652c, scripts/tcia_snapshot.py (v2: `results`, `total_pages`; verbose
 * records hold their downloads whole).
 */
import { RunError } from "../../errors.ts";
import type { Http, HttpResponse } from "../../transports/http.ts";
import { statusError } from "../../transports/http.ts";
import type { SourceContext } from "../source.ts";

export type PageRecord = Readonly<Record<string, unknown>>;
export type PageResource = "collections" | "analysis-results" | "downloads";

const FIRST_BYTE_MS = 60_000;
/** A page of 100 records with their summaries has a few MB. */
const PAGE_LIMIT_BYTES = 64 * 1024 * 1024;
const MAX_PAGES = 200;
/** As many as one request may name or be answered with (WordPress REST handbook, "Pagination"). */
const PER_PAGE = 100;

/** Fields that are read; summaries are long. */
const FIELDS: Readonly<Record<PageResource, string>> = {
  collections:
    "id,slug,title,collection_title,collection_short_title,collection_downloads,hide_from_browse_table",
  "analysis-results": "id,slug,title,result_title,result_short_title,result_downloads,hide_from_browse_table",
  downloads:
    "id,slug,title,download_title,download_type,data_type,file_type,data_license,download_url,download_file,download_requirements,download_access,download_size,download_size_unit,search_url,subjects,study_count,series_count,image_count,date_updated",
};

export class PagesApi {
  readonly #http: Http;
  readonly #base: string;
  readonly #archive: string;
  #generation: Promise<"v1" | "v2"> | null = null;

  constructor(http: Http, archive: string, url: string) {
    this.#http = http;
    this.#archive = archive;
    this.#base = url.replace(/\/+$/u, "");
  }

  /** v1 where it answers, as its field names are those that every client knows; else v2. Found out once. */
  generation(context: SourceContext): Promise<"v1" | "v2"> {
    this.#generation ??= this.#ask(context).catch((error: unknown) => {
      this.#generation = null;
      throw error;
    });
    return this.#generation;
  }

  async #ask(context: SourceContext): Promise<"v1" | "v2"> {
    const { status } = await this.#get(
      `${this.#base}/v1/collections/?per_page=1&_fields=id`,
      context,
      [400, 404, 410],
    );
    return status === 200 ? "v1" : "v2";
  }

  /** All records, or those with the ids. */
  async *records(
    resource: PageResource,
    ids: readonly string[] | null,
    context: SourceContext,
  ): AsyncGenerator<PageRecord> {
    if ((await this.generation(context)) === "v2") {
      // That `id` takes several is not documented: all are read, and the reader picks.
      const wanted = ids === null ? null : new Set(ids);
      for await (const row of this.#pagesV2(resource, context))
        if (wanted === null || wanted.has(String(row.id))) yield row;
      return;
    }
    const groups = ids === null ? [null] : grouped(ids, PER_PAGE);
    for (const group of groups) {
      const query = new URLSearchParams({ per_page: String(PER_PAGE), _fields: FIELDS[resource] });
      if (group) query.set("include", group.join(","));
      yield* this.#pagesV1(`${this.#base}/v1/${resource}/?${query}`, context);
    }
  }

  /** The link of an uploaded file; null when the server does not know it any more. */
  async mediaUrl(id: string, context: SourceContext): Promise<string | null> {
    const url = `${this.#base}/wp/v2/media/${encodeURIComponent(id)}`;
    const { json } = await this.#get(url, context, [401, 403, 404, 410]);
    const source = isRecord(json) ? json.source_url : null;
    return typeof source === "string" && source !== "" ? source : null;
  }

  async *#pagesV1(first: string, context: SourceContext): AsyncGenerator<PageRecord> {
    let url: string | null = first;
    for (let page = 0; url !== null; page += 1) {
      if (page >= MAX_PAGES) throw this.#odd("its list of pages does not end");
      const reply = await this.#get(url, context);
      if (!Array.isArray(reply.json)) throw this.#odd("a list came in an unknown form");
      for (const row of reply.json) if (isRecord(row)) yield row;
      const next = /<([^<>]+)>\s*;[^,]*\brel="?next"?/iu.exec(reply.link)?.[1] ?? null;
      url = next === null ? null : this.#sameOrigin(next, url);
    }
  }

  async *#pagesV2(resource: PageResource, context: SourceContext): AsyncGenerator<PageRecord> {
    for (let page = 1, pages = 1; page <= pages; page += 1) {
      const query = new URLSearchParams({ per_page: String(PER_PAGE), page: String(page), v: "1" });
      const { json } = await this.#get(`${this.#base}/v2/${resource}/?${query}`, context);
      if (!isRecord(json) || !Array.isArray(json.results)) throw this.#odd("a list came in an unknown form");
      for (const row of json.results) if (isRecord(row)) yield row;
      pages = Math.min(Number(json.total_pages) || 1, MAX_PAGES);
    }
  }

  #sameOrigin(next: string, from: string): string {
    const url = URL.canParse(next, from) ? new URL(next, from) : null;
    if (url?.origin !== new URL(from).origin) throw this.#odd("its list goes on at another server");
    return url.href;
  }

  /** A reply's JSON; null for the statuses of `absent`. */
  #get(
    url: string,
    context: SourceContext,
    absent: readonly number[] = [],
  ): Promise<{ status: number; json: unknown; link: string }> {
    return context.retry.run(`pages of ${this.#archive}`, async () => {
      const response = await this.#http.request(
        {
          method: "GET",
          url: new URL(url),
          headers: { accept: "application/json" },
          firstByteTimeoutMs: FIRST_BYTE_MS,
        },
        context,
      );
      if (absent.includes(response.status)) {
        await response.discard();
        return { status: response.status, json: null, link: "" };
      }
      return {
        status: response.status,
        json: await this.#json(response, context),
        link: response.header("link") ?? "",
      };
    });
  }

  async #json(response: HttpResponse, context: SourceContext): Promise<unknown> {
    const at = { url: response.url, archive: this.#archive };
    const general = statusError(response, context);
    const isPage = /^text\/html/iu.test(response.header("content-type") ?? "");
    if (general || response.status !== 200 || isPage) {
      await response.discard();
      throw (
        general?.with(at) ??
        new RunError(
          "archive-reply",
          `the collection pages answered with ${isPage ? "a web page" : `HTTP ${response.status}`}`,
          { at },
        )
      );
    }
    try {
      return JSON.parse(await response.text(PAGE_LIMIT_BYTES));
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      throw new RunError("archive-reply", "the collection pages answered with torn JSON", { at });
    }
  }

  #odd(what: string): RunError {
    return new RunError("archive-reply", `the collection pages of ${this.#archive}: ${what}`, {
      at: { url: this.#base, archive: this.#archive },
    });
  }
}

export const isRecord = (value: unknown): value is PageRecord =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function* grouped<T>(values: readonly T[], size: number): Generator<readonly T[]> {
  for (let at = 0; at < values.length; at += size) yield values.slice(at, at + size);
}
