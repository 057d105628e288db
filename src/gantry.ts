/** The configured archives, opened: every question and every download goes through here. */
import { randomUUID } from "node:crypto";
import { dirname, join } from "node:path";
import { type Account, readAccount, type Secrets } from "./accounts/secrets.ts";
import { findArchive, openSource } from "./archives.ts";
import { type ArchiveConfig, configPath, type Environment, LINKS, readArchives } from "./config.ts";
import { RunError } from "./errors.ts";
import { type Context, type Log, systemClock } from "./lib/context.ts";
import { createRateLimiter } from "./lib/limiter.ts";
import { createRedactor, type Redactor } from "./lib/redact.ts";
import { RetryLoop } from "./lib/retry.ts";
import { parseTarget } from "./model/address.ts";
import { type Finding, failed } from "./model/finding.ts";
import type { Item, Row } from "./model/item.ts";
import { type Filters, NO_FILTERS } from "./model/query.ts";
import type { Request } from "./model/selection.ts";
import { readSite, siteKindOf } from "./model/site.ts";
import { type AskContext, askFor, type Opened, openWords, readAsk } from "./pipeline/asks.ts";
import type { DropOptions, DropSummary } from "./pipeline/drop.ts";
import { get, type Run } from "./pipeline/get.ts";
import {
  columnsOfLevel,
  type LevelOptions,
  levelRows,
  readLevel,
  summaryOfLevel,
} from "./pipeline/levels.ts";
import { listOffers } from "./pipeline/offers.ts";
import type { PackOptions, PackSummary } from "./pipeline/pack.ts";
import type { PutOptions, PutSummary } from "./pipeline/put.ts";
import { checkField, levelTotals, tagRows, valuesOf } from "./pipeline/questions.ts";
import type { GetOptions, RunEnvironment } from "./pipeline/run-options.ts";
import { resolveQueries } from "./pipeline/select.ts";
import { openStore } from "./sinks/index.ts";
import type { Source, SourceContext } from "./sources/source.ts";
import { readItems, saveSelection } from "./state/selections.ts";
import { temporaryFolder } from "./state/state-folder.ts";
import { createAscp } from "./transports/ascp/ascp.ts";
import type { TransferSpec } from "./transports/ascp/transfer-spec.ts";
import { createHttp, type Http } from "./transports/http.ts";
import { openReplyCache } from "./transports/reply-cache.ts";
import { createSftp, type Sftp, type SftpSite } from "./transports/sftp/sftp.ts";
import { SiteSecrets } from "./transports/site-secrets.ts";
import { VERSION } from "./version.ts";

export interface OpenOptions {
  /** Default: the process's. */
  readonly environment?: Environment;
  readonly signal?: AbortSignal;
  /** Default: nothing is logged. */
  readonly log?: Log;
  /** Knows every secret that is used; give the log's own to have it learn them. */
  readonly redactor?: Redactor;
  /** Further tries of a request or an item after the first. Default 5. */
  readonly retries?: number;
  /** A transfer that sends nothing for so long is tried again. Default 60,000. */
  readonly stallTimeoutMs?: number;
  readonly bandwidthBytesPerSecond?: number;
  /** Asks who sits at a terminal for a secret, not shown; null: no answer. Default: nobody is asked. */
  readonly askSecret?: (question: string) => Promise<string | null>;
  /** How transfers by ascp are made. */
  readonly ascp?: AscpChoices;
  /** Items that are fetched at once. Default 4. */
  readonly jobs?: number;
  /**
   * Keeps the archives' replies (lists and tags, never images) in this folder, and uses them for 24 hours. Default:
   * nothing is kept.
   */
  readonly cacheDir?: string;
  /** True: kept replies are not used, but replaced. Needs a folder. */
  readonly refresh?: boolean;
  /** For a selection `-`. Default: the process's standard input. */
  readonly stdin?: () => AsyncIterable<Uint8Array>;
  /** Accounts to use instead of the configured ones, by archive. */
  readonly secrets?: Readonly<Record<string, Secrets>>;
}

/** What a user says of ascp; each goes before what Gantry would choose. */
export interface AscpChoices {
  /** The program. */
  readonly program?: string;
  /** A private key file. */
  readonly key?: string;
  /** How much is compared before a file is gone on with: 0 nothing, 1 size and time, 2 a sparse, 3 a full checksum. */
  readonly resumeLevel?: 0 | 1 | 2 | 3;
  readonly policy?: "fixed" | "high" | "fair" | "low";
  /** Files that are encrypted at rest are decrypted, with the passphrase in `ASPERA_SCP_FILEPASS`. */
  readonly decrypt?: boolean;
  /** The only way that bytes of a site may come; default: by ascp, else by SFTP. */
  readonly transport?: "ascp" | "sftp";
  /** Further options of ascp, as they stand. */
  readonly options?: readonly string[];
}

/** Rows as they come, with the names of their columns; each row has an `address` that can be pasted back. */
export interface Listing {
  readonly columns: readonly string[];
  /** The few columns that fit a terminal, when there are many. */
  readonly summary?: readonly string[];
  readonly rows: AsyncIterable<Row>;
  /** How many of the rows read so far stand for items that the archive does not show. */
  readonly unknown?: () => number;
}

export interface FindOptions {
  readonly filters: Filters;
  /** A level of the archive's tree that rows are of; default: the items'. */
  readonly level?: string;
  /** True: one row with the totals of what matches. */
  readonly count?: boolean;
  readonly skipBad?: boolean;
  readonly save?: string;
  readonly warn?: (sentence: string) => void;
}

export interface Gantry {
  /**
   * One level of an archive's tree below each path. `recursive`: all items below. `long`: with the number of
   * series, images and bytes of each row.
   */
  list(
    words: readonly string[],
    options: { recursive: boolean; long: boolean; filters: Filters },
  ): Promise<Listing>;
  /**
   * Items that match, sorted by id; with `level` the patients, studies, images … of what matches, sorted by their
   * place (`limit` then counts those), with `count` one row of totals. `save`: also write them as a
   * selection file that `get` takes, in the form that its extension says: `.jsonl`, `.csv`, `.tsv` or `.tcia`.
   */
  find(words: readonly string[], options: FindOptions): Promise<Listing & { savedTo?: string }>;
  /** The elements of the first image of the first series that the words name, or of one image. */
  tags(words: readonly string[], options?: { warn?: (sentence: string) => void }): Promise<Listing>;
  /**
   * What an archive offers beside its items, e.g. on the web pages of its collections, with sizes, licences and the
   * address to give to `get`. Filters: collection, since, until (of the last update), limit.
   */
  downloads(words: readonly string[], options: { filters: Filters }): Promise<Listing>;
  /** The values of a field among what matches, with the number of patients that have each. */
  values(words: readonly string[], field: string, options: { filters: Filters }): Promise<Listing>;
  /** Downloads, proves, resumes. No words: everything that was ever asked for in the folder. */
  get(words: readonly string[], options: GetOptions): Run;
  /**
   * Deletes what `words` (addresses) and filters name from a folder, and remembers that it is never fetched into it
   * again. Asks no archive.
   */
  drop(words: readonly string[], options: DropOptions): Promise<DropSummary>;
  /**
   * Puts what a folder holds as loose files into archive files, and deletes each once its bytes are in one. Can be
   * repeated after anything. Asks no archive.
   */
  pack(options: PackOptions): Promise<PackSummary>;
  /**
   * Sends files and whole folders to an ascp site or through an upload link, with a list of their sums. Throws `usage`
   * for what can't be sent or where nothing can be, and why the transfer failed.
   */
  put(paths: readonly string[], address: string, options?: PutOptions): Promise<PutSummary>;
  archives(): readonly ArchiveConfig[];
  /** Who an archive is asked as; null: nobody. Throws `usage`, `access-login` for an account that can't be used. */
  account(archive: string): Account | null;
  /** Whether the archive, or what a link opens, answers to its account, step by step, ending after a finding that is `failed`. */
  check(archive: string): AsyncIterable<Finding>;
  /** Ends the session of the account's ready token at the archive. False: there is none that could be ended. */
  logOut(archive: string): Promise<boolean>;
  /** Ends every connection. */
  close(): Promise<void>;
}

const RETRY_BASE_MS = 500;
const RETRY_CAP_MS = 30_000;
const DEFAULT_JOBS = 4;

/** Opens the configured archives. Nothing is asked of any of them yet. Throws `usage` for a bad configuration. */
export async function open(options: OpenOptions = {}): Promise<Gantry> {
  const environment = options.environment ?? process.env;
  const archives = readArchives(environment);
  const redactor = options.redactor ?? createRedactor();
  const log: Log = options.log ?? (() => undefined);
  const context: Context = {
    signal: options.signal ?? new AbortController().signal,
    clock: systemClock,
    random: Math.random,
    log,
  };
  const { cacheDir } = options;
  if (cacheDir === undefined && options.refresh) {
    throw new RunError("usage", "there are no kept replies to refresh", {
      hint: "name their folder with --cache-dir, or in GANTRY_CACHE_DIR",
    });
  }
  const replies =
    cacheDir === undefined ? null : openReplyCache(cacheDir, { refresh: options.refresh ?? false });
  const listeners: ((bytes: number) => void)[] = [];
  const jobs = options.jobs ?? DEFAULT_JOBS;
  const { bandwidthBytesPerSecond, ascp: choices = {} } = options;
  const wire = {
    stallTimeoutMs: options.stallTimeoutMs ?? 60_000,
    environment,
    onReceived: (bytes: number) => {
      for (const listener of listeners) listener(bytes);
    },
  };
  const limiter = bandwidthBytesPerSecond ? { limiter: createRateLimiter(bandwidthBytesPerSecond) } : {};
  let http: Http | null = null;
  const openHttp = (): Http => {
    http ??= createHttp({ ...wire, ...limiter, userAgent: `gantry/${VERSION}`, connections: jobs + 4 });
    return http;
  };
  const key = choices.key === undefined ? {} : { key: choices.key };
  const secrets = new SiteSecrets({
    ...{ environment, redactor, ...key, decrypt: choices.decrypt === true },
    ...(options.askSecret === undefined ? {} : { ask: options.askSecret }),
  });
  const ascp = createAscp({
    ...wire,
    ...key,
    redactor,
    secrets,
    ...(bandwidthBytesPerSecond ? { bandwidthBytesPerSecond } : {}),
    ...(choices.program === undefined ? {} : { program: choices.program }),
    ...(choices.options === undefined ? {} : { extra: choices.options }),
    settings: ascpSettings(choices),
  });
  const knownHosts = join(dirname(configPath(environment)), "known_hosts");
  const sftp = (site: SftpSite): Sftp =>
    createSftp(site, { ...wire, ...limiter, redactor, secrets, knownHosts });
  const { transport } = choices;
  const parts = { http: openHttp, replies, redactor, ascp, sftp, ...(transport ? { transport } : {}) };
  const sources = new Map<string, Promise<Source>>();
  const links = new Map<string, string>();
  const source = (name: string): Promise<Source> => {
    const known = sources.get(name);
    if (known) return known;
    const open = async (): Promise<Source> =>
      openSource(
        archiveOf(name, archives),
        environment,
        { ...parts, link: () => links.get(name) ?? null },
        options.secrets?.[name],
      );
    const opened = open();
    opened.catch(() => sources.delete(name));
    sources.set(name, opened);
    return opened;
  };
  const retry = { retries: options.retries ?? 5, baseMs: RETRY_BASE_MS, capMs: RETRY_CAP_MS };
  const run: RunEnvironment = {
    context,
    retry,
    source,
    links,
    store: openStore,
    archives: {
      knows: (name) => archives.has(name) || name === LINKS.name || siteKindOf(name) !== null,
      ofServer: (server) => archiveOfServer(server, archives),
      fallback: "tcia",
    },
    fetchSelection: async (at, path, asking) =>
      (await import("./selections/fetch.ts")).fetchSelection(openHttp(), at, path, asking),
    stdin: options.stdin ?? (() => process.stdin),
    onReceived: (listener) => listeners.push(listener),
    jobs,
    ...(options.bandwidthBytesPerSecond ? { bandwidthBytesPerSecond: options.bandwidthBytesPerSecond } : {}),
  };
  const temporary = temporaryFolder();
  const sourceContext = { ...context, retry: new RetryLoop(retry, context), temporary: temporary.folder };
  return new OpenGantry(run, archives, environment, sourceContext, async () => {
    await temporary.remove();
    for (const each of sources.values()) await (await each).close();
    await http?.close();
  });
}

class OpenGantry implements Gantry {
  readonly #run: RunEnvironment;
  readonly #archives: ReadonlyMap<string, ArchiveConfig>;
  readonly #context: SourceContext;
  readonly #environment: Environment;
  readonly #close: () => Promise<void>;

  constructor(
    run: RunEnvironment,
    archives: ReadonlyMap<string, ArchiveConfig>,
    environment: Environment,
    context: SourceContext,
    close: () => Promise<void>,
  ) {
    this.#run = run;
    this.#environment = environment;
    this.#archives = archives;
    this.#context = context;
    this.#close = close;
  }

  async list(
    words: readonly string[],
    options: { recursive: boolean; long: boolean; filters: Filters },
  ): Promise<Listing> {
    const opened = await openWords(words, this.#ask({}));
    if (opened.kind !== "places" || options.recursive || hasFilters(options.filters))
      return this.#findItems(opened, options);
    const source = await this.#run.source(opened.archive);
    const queries = await resolveQueries(source, opened.paths, options.filters, this.#context);
    const context = this.#context;
    async function* rows(): AsyncGenerator<Row> {
      for (const query of queries) {
        const totals = options.long ? await levelTotals(source, query, context) : null;
        for await (const row of source.browse(query, context)) yield totals ? totals(row) : row;
      }
    }
    const peeked = await peek(rows());
    return { columns: peeked.columns, rows: peeked.rows, ...summaryOf(source, peeked.columns) };
  }

  async find(words: readonly string[], options: FindOptions): Promise<Listing & { savedTo?: string }> {
    if (options.level !== undefined || options.count === true) return this.#findLevel(words, options);
    return this.#findItems(await openWords(words, this.#ask(options)), options);
  }

  async #findItems(opened: Opened, options: FindOptions): Promise<Listing & { savedTo?: string }> {
    const { save } = options;
    const form = save === undefined ? null : (await import("./selections/save.ts")).saveForm(save);
    const ask = await askFor(
      opened,
      options.filters,
      { skipBad: options.skipBad ?? false },
      this.#ask(options),
    );
    const source = await this.#run.source(
      ask.request.kind === "paths" ? ask.request.archive : this.#run.archives.fallback,
    );
    let items = (): AsyncIterable<Item> => ask.items();
    const saved: { savedTo?: string } = {};
    if (save !== undefined && form !== null) {
      const path = form === "jsonl" ? save : join(await this.#context.temporary(), `found-${randomUUID()}`);
      await saveSelection(path, ask.request, ask.items());
      items = () => readItems(path);
      if (form !== "jsonl") await this.#saveAs(save, form, source, items());
      saved.savedTo = save;
    }
    const columns = [...source.capabilities.columns, "address"];
    const { warn } = this.#levelOptions(options, null);
    let unknown = 0;
    // Of a package only who has its link can use more than the path: that is what is appended to the link.
    const shownAddress = async ({ archive, address }: Item): Promise<string> =>
      (await this.#run.source(archive)).capabilities.openedByLink
        ? address.slice(archive.length + 1) || "/"
        : address;
    async function* rows(): AsyncGenerator<Row> {
      for await (const item of items()) {
        if (item.unknown) {
          unknown += 1;
          warn(`${item.address}: unknown, withdrawn or not permitted`);
        }
        const row: Record<string, Row[string]> = {};
        for (const column of source.capabilities.columns) row[column] = item.labels[column] ?? null;
        yield { ...row, address: await shownAddress(item) };
      }
    }
    return { columns, rows: rows(), unknown: () => unknown, ...summaryOf(source, columns), ...saved };
  }

  async downloads(words: readonly string[], options: { filters: Filters }): Promise<Listing> {
    const target = parseTarget(words);
    if (target.kind !== "archive") {
      throw new RunError("usage", "downloads are asked of an archive", {
        hint: "for example: gantry find tcia:COLLECTION --downloads",
      });
    }
    return listOffers(await this.#run.source(target.archive), target.paths, options.filters, this.#context);
  }

  async #saveAs(
    path: string,
    form: "csv" | "tsv" | "tcia",
    source: Source,
    items: AsyncIterable<Item>,
  ): Promise<void> {
    const { saveManifest, saveTable } = await import("./selections/save.ts");
    if (form !== "tcia") return saveTable(path, form, source.capabilities.columns, items);
    const serverOf = async (archive: string): Promise<string | undefined> =>
      (await this.#run.source(archive)).manifestServer;
    await saveManifest(path, items, serverOf, source.archive);
  }

  async values(words: readonly string[], field: string, options: { filters: Filters }): Promise<Listing> {
    const { source, items, request } = await this.#readQuestion(words, options);
    checkField(field, source);
    // Resolved by the question: one place of one archive can be asked of the archive itself.
    const [path, more] = request.kind === "paths" ? request.paths : [];
    const query = path && !more ? { path, filters: request.filters } : null;
    return {
      columns: ["value", "count"],
      rows: valuesOf(source, field, query, items, this.#levelOptions({}, null)),
    };
  }

  async tags(
    words: readonly string[],
    options: { warn?: (sentence: string) => void } = {},
  ): Promise<Listing> {
    const { source, items } = await this.#readQuestion(words, { filters: NO_FILTERS });
    return {
      columns: ["element", "name", "data"],
      rows: tagRows(source, items(), this.#levelOptions(options, null)),
    };
  }

  get(words: readonly string[], options: GetOptions): Run {
    return get(words, options, this.#run);
  }

  async drop(words: readonly string[], options: DropOptions): Promise<DropSummary> {
    const { drop } = await import("./pipeline/drop.ts");
    return drop(words, options, {
      context: this.#run.context,
      source: this.#run.source,
      store: this.#run.store,
    });
  }

  async pack(options: PackOptions): Promise<PackSummary> {
    const { context, source, store } = this.#run;
    const { pack } = await import("./pipeline/pack.ts");
    return pack(options, { context, source, store });
  }

  async put(paths: readonly string[], address: string, options: PutOptions = {}): Promise<PutSummary> {
    const { put } = await import("./pipeline/put.ts");
    return put(paths, address, options, this.#ask({}), this.#run.store);
  }

  account(archive: string): Account | null {
    return readAccount(findArchive(archive, this.#archives), this.#environment);
  }

  async *check(archive: string): AsyncIterable<Finding> {
    // A link is a secret: from here on only the name of what it opens goes on.
    const site = readSite(archive);
    if (site?.bearer) this.#run.links.set(site.archive, site.bearer);
    const { name } = archiveOf(site?.archive ?? archive, this.#archives);
    let source: Source;
    try {
      source = await this.#run.source(name);
    } catch (error) {
      if (!(error instanceof RunError)) throw error;
      yield failed("account", error);
      return;
    }
    if (source.diagnose) yield* source.diagnose(this.#context);
  }

  async logOut(archive: string): Promise<boolean> {
    const source = await this.#run.source(archive);
    return (await source.logOut?.(this.#context)) ?? false;
  }

  archives(): readonly ArchiveConfig[] {
    return [...this.#archives.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  async close(): Promise<void> {
    await this.#close();
  }

  /** Rows of a level above or below the items', or totals. */
  async #findLevel(words: readonly string[], options: FindOptions): Promise<Listing> {
    const { filters, count = false } = options;
    if (options.save !== undefined) {
      throw new RunError("usage", `${count ? "--count" : "--level"} shows rows that are no selection`, {
        hint: "save the items that match: leave --level and --count out",
      });
    }
    if (count && options.level !== undefined) {
      throw new RunError("usage", "--level and --count can't be given together", {
        hint: "--count alone counts every level",
      });
    }
    // A limit is one of rows, and not of the items that they are made of.
    const { source, items } = await this.#readQuestion(words, {
      ...options,
      filters: { ...filters, limit: null },
    });
    const level = count ? "total" : readLevel(options.level ?? "", source);
    if (level === null) {
      const { level: _, ...rest } = options;
      return this.find(words, rest);
    }
    const columns = columnsOfLevel(source.capabilities, level);
    const summary = summaryOfLevel(source.capabilities, level);
    return {
      columns,
      ...(summary.length < columns.length ? { summary } : {}),
      rows: levelRows(level, items(), this.#levelOptions(options, filters.limit)),
    };
  }

  async #readQuestion(
    words: readonly string[],
    options: { filters: Filters; skipBad?: boolean; warn?: (sentence: string) => void },
  ): Promise<{ source: Source; request: Request; items: () => AsyncIterable<Item> }> {
    const { filters, skipBad = false } = options;
    const { request, items } = await readAsk(words, filters, { skipBad }, this.#ask(options));
    const source = await this.#run.source(
      request.kind === "paths" ? request.archive : this.#run.archives.fallback,
    );
    return { source, request, items };
  }

  #levelOptions(options: { warn?: (sentence: string) => void }, limit: number | null): LevelOptions {
    const { source } = this.#run;
    const warn = options.warn ?? ((sentence: string) => this.#context.log("warn", sentence));
    return { source, context: this.#context, limit, warn };
  }

  #ask(options: { warn?: (sentence: string) => void; save?: string }): AskContext {
    const { source, archives, fetchSelection, stdin, links } = this.#run;
    return {
      source,
      links,
      archives,
      fetchSelection,
      stdin,
      context: this.#context,
      // A saved selection holds everything that a get needs.
      select: { complete: options.save !== undefined, folder: this.#context.temporary },
      warn: options.warn ?? ((sentence) => this.#context.log("warn", sentence)),
    };
  }
}

/** What a user chose, in the words of a transfer specification. */
function ascpSettings({ resumeLevel, policy, decrypt }: AscpChoices): Partial<TransferSpec> {
  return {
    ...(resumeLevel === undefined
      ? {}
      : { resume_policy: ["none", "attrs", "sparse_csum", "full_csum"][resumeLevel] as string }),
    ...(policy === undefined ? {} : { rate_policy: policy }),
    ...(decrypt ? { content_protection: "decrypt" } : {}),
  };
}

/** A configured archive, or one that its name alone tells: links, packages, ascp sites. Throws `usage`. */
function archiveOf(name: string, archives: ReadonlyMap<string, ArchiveConfig>): ArchiveConfig {
  if (name === LINKS.name) return LINKS;
  const kind = siteKindOf(name);
  if (kind === null) return findArchive(name, archives);
  return { name, kind, url: "https://", settings: {}, from: "built-in" };
}

/**
 * Manifests name servers of every age (public., services., nbia. of cancerimagingarchive.net); NLST has its own. Of
 * archives on one host the one whose address has most in common with the server's is meant.
 */
function archiveOfServer(server: URL, archives: ReadonlyMap<string, ArchiveConfig>): string | null {
  let best: string | null = null;
  let most = -1;
  for (const { name, url } of archives.values()) {
    const { host, pathname } = new URL(url);
    if (host !== server.host) continue;
    let common = 0;
    while (common < pathname.length && pathname[common] === server.pathname[common]) common += 1;
    if (common > most) [best, most] = [name, common];
  }
  if (best !== null) return best;
  if (server.host === "nlst.cancerimagingarchive.net") return "nlst";
  return /(^|\.)cancerimagingarchive\.net$/u.test(server.host) ? "tcia" : null;
}

function hasFilters(filters: Filters): boolean {
  const { words, dates, include, exclude, limit, limitPatients } = filters;
  return (
    Object.keys(words).length + Object.keys(dates).length + include.length + exclude.length > 0 ||
    limit !== null ||
    limitPatients !== null
  );
}

function summaryOf(source: Source, columns: readonly string[]): { summary?: readonly string[] } {
  const summary = [...source.capabilities.summaryColumns, "address"];
  return columns.length > summary.length && summary.every((column) => columns.includes(column))
    ? { summary }
    : {};
}

/** The columns of the first row, and all rows. */
async function peek(
  rows: AsyncGenerator<Row>,
): Promise<{ columns: readonly string[]; rows: AsyncIterable<Row> }> {
  const first = await rows.next();
  if (first.done) return { columns: ["address"], rows };
  async function* all(): AsyncGenerator<Row> {
    yield first.value as Row;
    yield* rows;
  }
  return { columns: Object.keys(first.value), rows: all() };
}
