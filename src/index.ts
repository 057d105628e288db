/**
 * The library: everything that the command line, the web page and cluster jobs call.
 *
 * `open` gives the configured archives; `get` plans and transfers; `verify` proves a folder again. Expected
 * failures are `RunError`s (of a run: its summary's `error` and `failures`), cancellation is an `AbortSignal`
 * whose reason should be a `RunError` `interrupted` or `terminated`.
 */
import { extname } from "node:path";
import { readSecrets } from "./accounts/secrets.ts";
import { type ArchiveConfig, type Environment, LATER_ARCHIVES, LINKS, readArchives } from "./config.ts";
import { RunError } from "./errors.ts";
import { type Context, type Log, systemClock } from "./lib/context.ts";
import { createRateLimiter } from "./lib/limiter.ts";
import { createRedactor, type Redactor } from "./lib/redact.ts";
import { RetryLoop } from "./lib/retry.ts";
import { nearMatches, parseTarget } from "./model/address.ts";
import type { Item, Row } from "./model/item.ts";
import { type Filters, NO_FILTERS } from "./model/query.ts";
import type { Request } from "./model/selection.ts";
import { type AskContext, readAsk } from "./pipeline/asks.ts";
import { type DropOptions, type DropSummary, drop } from "./pipeline/drop.ts";
import { type GetOptions, get, type Run, type RunEnvironment } from "./pipeline/get.ts";
import {
  columnsOfLevel,
  type LevelOptions,
  levelRows,
  readLevel,
  summaryOfLevel,
} from "./pipeline/levels.ts";
import { checkField, levelTotals, tagRows, valuesOf } from "./pipeline/questions.ts";
import { resolveQueries } from "./pipeline/select.ts";
import { type VerifyRun, verify as verifyFolder } from "./pipeline/verify.ts";
import { createFolderSink } from "./sinks/folder.ts";
import { SOURCE_KINDS } from "./sources/index.ts";
import type { Source, SourceContext, SourceKind } from "./sources/source.ts";
import { saveSelection } from "./state/selections.ts";
import { temporaryFolder } from "./state/state-folder.ts";
import { createHttp, type Http } from "./transports/http.ts";
import { openReplyCache, type ReplyCache } from "./transports/reply-cache.ts";
import { VERSION } from "./version.ts";

export { checkSums, type SumsResult, writeSums } from "./checksums/sums.ts";
export type { ArchiveConfig } from "./config.ts";
export { ERROR_TABLE, type ErrorCode, RunError } from "./errors.ts";
export type { Context, Log, LogLevel } from "./lib/context.ts";
export { systemClock } from "./lib/context.ts";
export { makeFolder } from "./lib/durable-file.ts";
export { parseDuration, parseRate } from "./lib/limiter.ts";
export { createRedactor, type Redactor } from "./lib/redact.ts";
export { nearMatches } from "./model/address.ts";
export type { Item, Row, Value } from "./model/item.ts";
export { DATE_FILTERS, type Filters, NO_FILTERS, type Query, WORD_FILTERS } from "./model/query.ts";
export { displayName } from "./model/safe-path.ts";
export type { DropFound, DropOptions, DropSummary } from "./pipeline/drop.ts";
export {
  EVENTS_VERSION,
  type Failure,
  type RunEvent,
  type RunSummary,
  type Tally,
  type VerifySummary,
} from "./pipeline/events.ts";
export { writeFolderSums } from "./pipeline/folder-sums.ts";
export type { GetOptions, Run } from "./pipeline/get.ts";
export { type Logbook, openLogbook } from "./pipeline/logbook.ts";
export { createNotifier } from "./pipeline/notify.ts";
export { type FolderStatus, readStatus, stopRun } from "./pipeline/status.ts";
export type { VerifyRun } from "./pipeline/verify.ts";
export type { Citation } from "./sources/source.ts";
export { VERSION } from "./version.ts";

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
}

/** Rows as they come, with the names of their columns; each row has an `address` that can be pasted back. */
export interface Listing {
  readonly columns: readonly string[];
  /** The few columns that fit a terminal, when there are many. */
  readonly summary?: readonly string[];
  readonly rows: AsyncIterable<Row>;
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
   * place (`limit` then counts those), with `count` one row of totals. `save`: also write them as a selection file (`.jsonl`) that `get` takes. */
  find(words: readonly string[], options: FindOptions): Promise<Listing & { savedTo?: string }>;
  /** The elements of the first image of the first series that the words name, or of one image. */
  tags(words: readonly string[], options?: { warn?: (sentence: string) => void }): Promise<Listing>;
  /** The values of a field among what matches, with the number of patients that have each. */
  values(words: readonly string[], field: string, options: { filters: Filters }): Promise<Listing>;
  /** Downloads, proves, resumes. No words: everything that was ever asked for in the folder. */
  get(words: readonly string[], options: GetOptions): Run;
  /**
   * Deletes what `words` (addresses) and filters name from a folder, and remembers that it is never fetched into it
   * again. Asks no archive.
   */
  drop(words: readonly string[], options: DropOptions): Promise<DropSummary>;
  archives(): readonly ArchiveConfig[];
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
  let http: Http | null = null;
  const openHttp = (): Http => {
    http ??= createHttp({
      userAgent: `gantry/${VERSION}`,
      connections: jobs + 4,
      stallTimeoutMs: options.stallTimeoutMs ?? 60_000,
      environment,
      ...(options.bandwidthBytesPerSecond
        ? { limiter: createRateLimiter(options.bandwidthBytesPerSecond) }
        : {}),
      onReceived: (bytes) => {
        for (const listener of listeners) listener(bytes);
      },
    });
    return http;
  };
  const sources = new Map<string, Promise<Source>>();
  const source = (name: string): Promise<Source> => {
    const known = sources.get(name);
    if (known) return known;
    const opened = openSource(name, archives, environment, openHttp, redactor, replies);
    opened.catch(() => sources.delete(name));
    sources.set(name, opened);
    return opened;
  };
  const retry = { retries: options.retries ?? 5, baseMs: RETRY_BASE_MS, capMs: RETRY_CAP_MS };
  const run: RunEnvironment = {
    context,
    retry,
    source,
    sink: createFolderSink,
    archiveOfHost: (host) => archiveOfHost(host, archives),
    defaultArchive: "tcia",
    stdin: options.stdin ?? (() => process.stdin),
    onReceived: (listener) => listeners.push(listener),
    jobs,
  };
  const temporary = temporaryFolder();
  const sourceContext = { ...context, retry: new RetryLoop(retry, context), temporary: temporary.folder };
  return new OpenGantry(run, archives, sourceContext, async () => {
    await temporary.remove();
    for (const each of sources.values()) await (await each).close();
    await http?.close();
  });
}

/** Proves again what is in a folder, offline. */
export function verify(
  dir: string,
  options: { strict?: boolean; jobs?: number; signal?: AbortSignal; log?: Log } = {},
): VerifyRun {
  const context: Context = {
    signal: options.signal ?? new AbortController().signal,
    clock: systemClock,
    random: Math.random,
    log: options.log ?? (() => undefined),
  };
  return verifyFolder(dir, {
    context,
    ...(options.strict === undefined ? {} : { strict: options.strict }),
    ...(options.jobs === undefined ? {} : { jobs: options.jobs }),
  });
}

/** What a transfer would do, told by its `planned` event and its summary. Nothing is written in the folder. */
export function plan(gantry: Gantry, words: readonly string[], options: Omit<GetOptions, "dryRun">): Run {
  return gantry.get(words, { ...options, dryRun: true });
}

/** Downloads, proves, resumes: `gantry get`. No words: everything that was ever asked for in the folder. */
export function transfer(gantry: Gantry, words: readonly string[], options: Omit<GetOptions, "dryRun">): Run {
  return gantry.get(words, { ...options, dryRun: false });
}

class OpenGantry implements Gantry {
  readonly #run: RunEnvironment;
  readonly #archives: ReadonlyMap<string, ArchiveConfig>;
  readonly #context: SourceContext;
  readonly #close: () => Promise<void>;

  constructor(
    run: RunEnvironment,
    archives: ReadonlyMap<string, ArchiveConfig>,
    context: SourceContext,
    close: () => Promise<void>,
  ) {
    this.#run = run;
    this.#archives = archives;
    this.#context = context;
    this.#close = close;
  }

  async list(
    words: readonly string[],
    options: { recursive: boolean; long: boolean; filters: Filters },
  ): Promise<Listing> {
    const target = parseTarget(words);
    if (target.kind !== "archive" || options.recursive || hasFilters(options.filters))
      return this.find(words, options);
    const source = await this.#run.source(target.archive);
    const queries = await resolveQueries(source, target.paths, options.filters, this.#context);
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
    const ask = await readAsk(
      words,
      options.filters,
      { skipBad: options.skipBad ?? false },
      this.#ask(options),
    );
    const source = await this.#run.source(
      ask.request.kind === "paths" ? ask.request.archive : this.#run.defaultArchive,
    );
    let items = (): AsyncIterable<Item> => ask.items();
    const saved: { savedTo?: string } = {};
    if (options.save !== undefined) {
      if (extname(options.save) !== ".jsonl") {
        throw new RunError("usage", `a selection can't be saved as ${options.save}`, {
          hint: "this version saves .jsonl",
        });
      }
      const path = options.save;
      await saveSelection(path, ask.request, ask.items());
      const { readItems } = await import("./state/selections.ts");
      items = () => readItems(path);
      saved.savedTo = path;
    }
    const columns = [...source.capabilities.columns, "address"];
    async function* rows(): AsyncGenerator<Row> {
      for await (const item of items()) {
        const row: Record<string, Row[string]> = {};
        for (const column of source.capabilities.columns) row[column] = item.labels[column] ?? null;
        yield { ...row, address: item.address };
      }
    }
    return { columns, rows: rows(), ...summaryOf(source, columns), ...saved };
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

  drop(words: readonly string[], options: DropOptions): Promise<DropSummary> {
    return drop(words, options, { context: this.#run.context, source: this.#run.source });
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
    if (options.save !== undefined || (count && options.level !== undefined)) {
      throw new RunError("usage", `${count ? "--count" : "--level"} shows rows that are no selection`, {
        hint:
          options.save === undefined
            ? "ask for --level or for --count"
            : "save the items that match: leave --level and --count out",
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
      request.kind === "paths" ? request.archive : this.#run.defaultArchive,
    );
    return { source, request, items };
  }

  #levelOptions(options: { warn?: (sentence: string) => void }, limit: number | null): LevelOptions {
    const { source } = this.#run;
    const warn = options.warn ?? ((sentence: string) => this.#context.log("warn", sentence));
    return { source, context: this.#context, limit, warn };
  }

  #ask(options: { warn?: (sentence: string) => void }): AskContext {
    const { source, archiveOfHost, defaultArchive, stdin } = this.#run;
    return {
      source,
      archiveOfHost,
      defaultArchive,
      stdin,
      context: this.#context,
      // A saved selection holds everything that a get needs.
      select: { complete: "save" in options && options.save !== undefined, folder: this.#context.temporary },
      warn: options.warn ?? ((sentence) => this.#context.log("warn", sentence)),
    };
  }
}

async function openSource(
  name: string,
  archives: ReadonlyMap<string, ArchiveConfig>,
  environment: Environment,
  http: () => Http,
  redactor: Redactor,
  replies: ReplyCache | null,
): Promise<Source> {
  const config = name === LINKS.name ? LINKS : archives.get(name);
  if (!config) {
    const later = LATER_ARCHIVES[name];
    const near = nearMatches(name, archives.keys());
    throw new RunError(
      "usage",
      later
        ? `${later} (${name}:) is served by a later version`
        : `there is no archive named ${JSON.stringify(name)}`,
      {
        hint:
          near.length > 0
            ? `did you mean ${near.map((each) => `${each}:`).join(" or ")}?`
            : `configured are ${[...archives.keys()].map((each) => `${each}:`).join(" ")}; a file of that name is ./${name}:…`,
      },
    );
  }
  const load = SOURCE_KINDS[config.kind];
  if (!load) {
    throw new RunError(
      "usage",
      `the archive ${name} is of the kind ${JSON.stringify(config.kind)}, which this version does not know`,
      {
        hint: `kinds are ${Object.keys(SOURCE_KINDS).join(", ")}`,
      },
    );
  }
  const secrets = readSecrets(config, environment);
  for (const secret of [secrets.password, secrets.token, secrets.apiKey]) if (secret) redactor.add(secret);
  const kind = await load();
  checkSettings(config, kind);
  const { url, settings } = config;
  return kind.create({ archive: name, url, settings, http: http(), replies, redactor, secrets });
}

/** Throws `usage` for a setting that the archive's kind does not have, or a value that it does not take. */
function checkSettings({ name, settings }: ArchiveConfig, kind: SourceKind): void {
  const known = kind.settings ?? {};
  for (const [setting, value] of Object.entries(settings)) {
    const rule = known[setting];
    if (!rule) {
      const names = ["url", ...Object.keys(known)].join(", ");
      throw new RunError(
        "usage",
        `the archive ${name} has the setting ${JSON.stringify(setting)}, which ${kind.title} does not know`,
        {
          hint: `settings are ${names}`,
        },
      );
    }
    if (rule.values && !rule.values.includes(value)) {
      throw new RunError(
        "usage",
        `the archive ${name}: ${setting} = ${JSON.stringify(value)} is none of ${rule.values.join(", ")}`,
      );
    }
  }
}

/** Manifests name servers of every age (public., services., nbia. of cancerimagingarchive.net); NLST has its own. */
function archiveOfHost(host: string, archives: ReadonlyMap<string, ArchiveConfig>): string | null {
  for (const { name, url } of archives.values()) if (new URL(url).host === host) return name;
  if (host === "nlst.cancerimagingarchive.net") return "nlst";
  return /(^|\.)cancerimagingarchive\.net$/u.test(host) ? "tcia" : null;
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
