/**
 * NBIA's questions and answers, in the words of v4 whatever version the archive speaks (`wire/`).
 *
 * Facts are from CBIIT/NBIA-TCIA at 865725e (2026-06-22), `software/nbia-api/src/gov/nih/nci/nbia/restAPI`, and
 * its OpenAPI file of 2025-11-22, unless said otherwise.
 */
import { RunError } from "../../errors.ts";
import { mapOrdered } from "../../lib/concurrent.ts";
import type { Context } from "../../lib/context.ts";
import type { Redactor } from "../../lib/redact.ts";
import type { Http } from "../../transports/http.ts";
import type { ReplyCache } from "../../transports/reply-cache.ts";
import type { SourceContext } from "../source.ts";
import { type NbiaCredentials, TokenKeeper } from "./token.ts";
import { NbiaConnection } from "./wire/connection.ts";
import { type ApiVersion, baseUrl, type Dialect, dialectOf, type Parameters } from "./wire/dialect.ts";
import { type WireRow, withStudy } from "./wire/rows.ts";

export type { Parameters } from "./wire/dialect.ts";
export type { WireRow } from "./wire/rows.ts";

export interface NbiaApiOptions {
  readonly http: Http;
  /** Name of the configured archive, for messages. */
  readonly archive: string;
  /** e.g. `https://nbia.cancerimagingarchive.net/nbia-api`; of v3 `https://services.cancerimagingarchive.net` */
  readonly url: string;
  readonly version: ApiVersion;
  /** Resource of v3, e.g. `TCIA`. */
  readonly resource: string;
  readonly credentials: NbiaCredentials & { readonly apiKey?: string };
  readonly redactor: Redactor;
  /** For rows; images and digests are always asked for. */
  readonly replies?: ReplyCache | null;
}

/** Series whose metadata are asked for at once, where the archive takes them one by one only. */
const SINGLE_JOBS = 4;

export class NbiaApi {
  readonly #archive: string;
  readonly #version: ApiVersion;
  readonly #dialect: Dialect;
  readonly #connection: NbiaConnection;
  /** Scheme and host that bytes come from, for receipts. */
  readonly origin: string;
  /** The login of this archive's account. */
  readonly tokens: TokenKeeper;

  constructor(options: NbiaApiOptions) {
    const { http, archive, version, credentials, redactor, replies = null } = options;
    const base = baseUrl(options.url, version);
    this.#archive = archive;
    this.#version = version;
    this.#dialect = dialectOf(version, options.resource);
    this.origin = new URL(base).origin;
    this.tokens = new TokenKeeper({ http, archive, url: base, credentials, redactor });
    this.#connection = new NbiaConnection({
      http,
      archive,
      base,
      access: this.#dialect.access,
      tokens: this.tokens,
      apiKey: credentials.apiKey,
      replies,
      user: credentials.user ?? credentials.token ?? credentials.apiKey ?? "",
    });
  }

  /** Whether this archive gives the MD5 of images. */
  get digests(): boolean {
    return this.#dialect.digests;
  }

  /** Whether rows of getSeries lack columns that only the study's row has: then they are joined for every listing. */
  get studiesApart(): boolean {
    return this.#dialect.studiesApart;
  }

  /** Whether this version has an endpoint for `rows` or, with `counts`, for `counts`. Names are v4's. */
  serves(endpoint: string, how: "rows" | "counts" = "rows"): boolean {
    return this.#dialect[how](endpoint, {}) !== null;
  }

  /**
   * Rows of a GET endpoint by the names and parameters of v4. What the version can't narrow comes wider. After a
   * retry rows come again. Throws `unsupported-filter` for an endpoint that the version does not have.
   */
  rows(endpoint: string, parameters: Parameters, context: SourceContext): AsyncIterable<WireRow> {
    const question = this.#dialect.rows(endpoint, parameters) ?? this.#lacks(endpoint);
    return context.retry.stream(endpoint, (attempt) => this.#connection.rows(question, attempt, context));
  }

  /** Rows of an endpoint that takes no `format` (v4 answers 400 to it there), otherwise as `rows`. */
  counts(endpoint: string, parameters: Parameters, context: SourceContext): AsyncIterable<WireRow> {
    const question = this.#dialect.counts(endpoint, parameters) ?? this.#lacks(endpoint);
    return context.retry.stream(endpoint, (attempt) => this.#connection.rows(question, attempt, context));
  }

  /**
   * Rows of series with the columns of v4/getSeriesMetadata that listings use; unknown UIDs are left out. v4 takes
   * them in one POST, `list` comma-joined; older versions are asked series by series and study by study.
   */
  async *seriesMetadata(uids: readonly string[], context: SourceContext): AsyncGenerator<WireRow> {
    const { bulk } = this.#dialect;
    if (bulk !== null) {
      const form = new URLSearchParams({ list: uids.join(","), format: "json" });
      yield* context.retry.stream("getSeriesMetadata", (attempt) =>
        this.#connection.rows({ path: bulk, parameters: {} }, attempt, context, form),
      );
      return;
    }
    const studies = new Map<string, Promise<WireRow | undefined>>();
    const study = (uid: string): Promise<WireRow | undefined> => {
      const known = studies.get(uid) ?? this.#first("getPatientStudy", { StudyInstanceUID: uid }, context);
      studies.set(uid, known);
      return known;
    };
    const each = async (uid: string): Promise<WireRow | undefined> => {
      const series = await this.#first("getSeries", { SeriesInstanceUID: uid }, context);
      return series && withStudy(series, (await study(String(series.StudyInstanceUID))) ?? {});
    };
    async function* all(): AsyncGenerator<string> {
      yield* uids;
    }
    for await (const row of mapOrdered(all(), SINGLE_JOBS, each)) if (row) yield row;
  }

  /** The series of a shared list, with few columns. No row: there is no such list (the server says nothing else). */
  sharedList(name: string, context: SourceContext): AsyncIterable<WireRow> {
    const question = this.#dialect.sharedList(name);
    return context.retry.stream("shared list", (attempt) =>
      this.#connection.rows(question, attempt, context),
    );
  }

  /**
   * A zip of the images, with md5hashes.csv where the archive gives digests. Not retried here. `access-item`:
   * unknown, withdrawn or not permitted.
   */
  images(seriesInstanceUid: string, attempt: number, context: Context): Promise<AsyncIterable<Uint8Array>> {
    return this.#connection.data(this.#dialect.images(seriesInstanceUid), attempt, context);
  }

  /** One DICOM file. An unknown SOP Instance UID is answered with 500. Not retried here. */
  image(
    seriesInstanceUid: string,
    sopInstanceUid: string,
    attempt: number,
    context: Context,
  ): Promise<AsyncIterable<Uint8Array>> {
    const question = this.#dialect.image(seriesInstanceUid, sopInstanceUid);
    return this.#connection.data(question, attempt, context);
  }

  /** Count and bytes of a series, null where the archive says nothing (v1 answers `[{}]` to an unknown one). Not retried here. */
  async seriesSize(
    seriesInstanceUid: string,
    attempt: number,
    context: Context,
  ): Promise<{ files: number | null; bytes: number | null }> {
    const parameters = { SeriesInstanceUID: seriesInstanceUid };
    const question = this.#dialect.rows("getSeriesSize", parameters) ?? this.#lacks("getSeriesSize");
    const number = (value: unknown): number | null =>
      value === undefined || !Number.isFinite(Number(value)) ? null : Number(value);
    for await (const row of this.#connection.rows(question, attempt, context)) {
      return { files: number(row.ObjectCount), bytes: number(row.TotalSizeInBytes) };
    }
    return { files: null, bytes: null };
  }

  /** 32 hex digits. Throws `proof-digest` where the archive gives none. */
  async md5OfImage(sopInstanceUid: string, context: SourceContext): Promise<string> {
    const question = this.#dialect.md5(sopInstanceUid);
    if (question === null) {
      throw new RunError("proof-digest", `${this.#archive} gives no MD5 of an image (api ${this.#version})`);
    }
    return context.retry.run(`md5 of ${sopInstanceUid}`, (attempt) =>
      this.#connection.md5(question, attempt, context),
    );
  }

  /** All rows are read, so that the connection is used again. */
  async #first(
    endpoint: string,
    parameters: Parameters,
    context: SourceContext,
  ): Promise<WireRow | undefined> {
    let first: WireRow | undefined;
    for await (const row of this.rows(endpoint, parameters, context)) first ??= row;
    return first;
  }

  #lacks(endpoint: string): never {
    throw new RunError(
      "unsupported-filter",
      `${this.#archive} can't be asked for this: its interface (api ${this.#version}) has no ${endpoint}`,
    );
  }
}
