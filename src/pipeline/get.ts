/**
 * The one composer of a download: ask → selection → plan → transfer → receipts → derived files. Everything that a
 * run does to a folder is begun here.
 */
import { stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { RunError } from "../errors.ts";
import type { Context } from "../lib/context.ts";
import { toDiskError } from "../lib/durable-file.ts";
import { RetryLoop, type RetryPolicy } from "../lib/retry.ts";
import type { Item } from "../model/item.ts";
import { type Filters, filterNames } from "../model/query.ts";
import { describeRequest } from "../model/selection.ts";
import type { CreateSink } from "../sinks/sink.ts";
import type { Layout, Source, SourceContext } from "../sources/source.ts";
import { ReceiptWriter, readItemStates } from "../state/receipts.ts";
import { beginRun, newRunId, type RunHandle } from "../state/runs.ts";
import {
  currentSelections,
  proveSelections,
  readExpected,
  readSelections,
  type SelectionFile,
  saveSelection,
  writeSelection,
} from "../state/selections.ts";
import {
  beginStateFolder,
  checkFacts,
  openStateFolder,
  readFreeSpace,
  type StateFolder,
  temporaryFolder,
} from "../state/state-folder.ts";
import { openUnfinished, type Unfinished } from "../state/unfinished.ts";
import { type Ask, type AskContext, readAsk, repeatAsk } from "./asks.ts";
import { EventChannel } from "./channel.ts";
import type { RunEvent, RunSummary } from "./events.ts";
import { derivedAreThere, readCompanions, writeDerived } from "./held.ts";
import { folderLayoutOf, layoutOf } from "./layout.ts";
import { buildPlan, type Plan } from "./planning.ts";
import { pruneFolders } from "./prune.ts";
import { RunReport } from "./report.ts";
import { transfer } from "./transfer.ts";
import { listWithdrawn } from "./withdrawn.ts";

export interface GetOptions {
  readonly dir: string;
  readonly filters: Filters;
  /** A layout's name or a template; default: the folder's, else the source's. */
  readonly layout?: string;
  readonly jobs?: number;
  readonly dryRun?: boolean;
  readonly scratch?: string;
  readonly recheck?: boolean;
  readonly replace?: boolean;
  readonly skipBad?: boolean;
  readonly prune?: boolean;
  readonly detached?: boolean;
}

/** What a run needs of the world; `src/index.ts` makes it. */
export interface RunEnvironment {
  readonly context: Context;
  readonly retry: RetryPolicy;
  readonly source: (archive: string) => Promise<Source>;
  readonly sink: CreateSink;
  readonly archiveOfHost: (host: string) => string | null;
  readonly defaultArchive: string;
  readonly stdin: () => AsyncIterable<Uint8Array>;
  /** Told of the body bytes that data requests receive. */
  readonly onReceived: (listener: (bytes: number) => void) => void;
  readonly jobs: number;
}

/** Events as they happen; `result` settles after the last one and rejects only for a bug. */
export interface Run extends AsyncIterable<RunEvent> {
  readonly result: Promise<RunSummary>;
}

export function get(words: readonly string[], options: GetOptions, environment: RunEnvironment): Run {
  const channel = new EventChannel<RunEvent>();
  // Begun in a later turn, so that a reader who takes the iterator at once misses nothing.
  const result = new Promise<void>((begin) => setImmediate(begin))
    .then(() => new GetRun(words, options, environment, channel).run())
    .finally(() => channel.end());
  return { result, [Symbol.asyncIterator]: () => channel[Symbol.asyncIterator]() };
}

class GetRun {
  readonly #words: readonly string[];
  readonly #options: GetOptions;
  readonly #environment: RunEnvironment;
  readonly #dir: string;
  readonly #stopping = new AbortController();
  readonly #context: Context;
  readonly #retry: RetryLoop;
  readonly #report: RunReport;
  /** For what sorting spills: the system's place until the folder's own is open. */
  readonly #temporary = temporaryFolder(() => this.#unfinished?.partial ?? tmpdir());
  #unfinished: Unfinished | null = null;
  #handle: RunHandle | null = null;

  constructor(
    words: readonly string[],
    options: GetOptions,
    environment: RunEnvironment,
    channel: EventChannel<RunEvent>,
  ) {
    this.#words = words;
    this.#options = options;
    this.#environment = environment;
    const { context } = environment;
    this.#dir = resolve(options.dir);
    this.#context = { ...context, signal: AbortSignal.any([context.signal, this.#stopping.signal]) };
    this.#retry = new RetryLoop(environment.retry, this.#context);
    this.#report = new RunReport(newRunId(context.clock), this.#dir, context.clock, channel);
    environment.onReceived((bytes) => {
      this.#report.meter.receivedBytes += bytes;
    });
  }

  async run(): Promise<RunSummary> {
    let error: RunError | null = null;
    try {
      if (this.#options.dryRun) await this.#dryRun();
      else await this.#download();
    } catch (caught) {
      const { signal } = this.#context;
      const reason: unknown = signal.aborted ? signal.reason : ((await toDiskError(caught)) ?? caught);
      if (!(reason instanceof RunError)) throw caught;
      error = reason;
    } finally {
      await this.#temporary.remove();
    }
    const summary = this.#report.summary(error);
    await this.#handle?.finish(summary.exit);
    await this.#report.emit({ type: "run-finished", ...summary });
    return summary;
  }

  /** The plan of a dry run, told and thrown away. Nothing is written in the target folder. */
  async #dryRun(): Promise<void> {
    const state = await this.#openKnown();
    const typed = await this.#readTyped();
    const layout = await this.#layoutName(typed, state);
    const asks = await this.#asks(typed, state);
    const selections: SelectionFile[] = [];
    for (const [index, ask] of asks.entries()) {
      const path = join(await this.#temporary.folder(), `selection-${index}.jsonl`);
      selections.push({ digest: "", path, header: await saveSelection(path, ask.request, ask.items()) });
    }
    if (typed && selections.every((selection) => selection.header.items === 0)) {
      throw new RunError("no-match", "nothing in the archive matches");
    }
    const plan = await this.#plan(state, layout, selections, null);
    this.#report.promisedItems = plan.fetch.items;
    await plan.close();
  }

  async #download(): Promise<void> {
    const existing = await this.#openKnown();
    // Names are resolved before the folder is touched: a misspelt word leaves nothing behind.
    const typed = await this.#readTyped();
    const layout = await this.#layoutName(typed, existing);
    const wanted = this.#options.layout === undefined ? {} : { layout };
    const state = await beginStateFolder(this.#dir, wanted, { layout, sink: "folder" });
    const handle = await beginRun(state, {
      run: this.#report.run,
      clock: this.#context.clock,
      detached: this.#options.detached ?? false,
      onWait: (sentence) => this.#report.warn(sentence),
      signal: this.#context.signal,
    });
    this.#handle = handle;
    handle.stopSignal.addEventListener("abort", () => this.#stopping.abort(handle.stopSignal.reason));
    this.#unfinished = await openUnfinished(state, this.#report.run, this.#options.scratch);
    const receipts = new ReceiptWriter(state, this.#report.run);
    let whole = false;
    try {
      await this.#fill(state, layout, typed, receipts, handle);
      whole = this.#report.failedItems === 0;
    } finally {
      await receipts.close();
      await this.#unfinished.remove({ whole });
    }
  }

  async #fill(
    state: StateFolder,
    layout: string,
    typed: Ask | null,
    receipts: ReceiptWriter,
    handle: RunHandle,
  ): Promise<void> {
    const before = currentSelections(await readSelections(state));
    const asks = await this.#asks(typed, state);
    handle.update({ requests: asks.map((ask) => describeRequest(ask.request)) });
    const selections: SelectionFile[] = [];
    for (const ask of asks) {
      const replaceAll = this.#options.replace ?? false;
      selections.push(await writeSelection(state, ask.request, ask.items(), { replaceAll }));
    }
    if (!this.#options.replace) {
      const now = currentSelections(await readSelections(state));
      const gone = before.filter((old) => !now.some((each) => each.digest === old.digest));
      for await (const item of listWithdrawn(gone, now, this.#states(state)))
        await this.#report.withdrawn(item);
    }
    const plan = await this.#plan(state, layout, selections, receipts);
    try {
      await this.#transfer(plan, state, receipts, handle);
    } finally {
      await plan.close();
    }
    this.#context.signal.throwIfAborted();
    handle.update({ state: "finishing" });
    const temporary = this.#temporary.folder;
    if (this.#options.prune) {
      await pruneFolders(state, selections, {
        quarantine: state.path("quarantine", this.#report.run),
        temporary,
        onPruned: (path) =>
          this.#report.emit({ type: "quarantined", path, why: "no selection of this folder knows it" }),
      });
    }
    // Another answer of the archive may have other labels, which metadata.csv and the citations show.
    const known = new Set(before.map((selection) => selection.digest));
    const news = selections.some((selection) => !known.has(selection.digest));
    if (this.#report.changedFiles || news || !(await derivedAreThere(state))) {
      await writeDerived({ state, temporary, source: this.#environment.source });
    }
  }

  async #openKnown(): Promise<StateFolder | null> {
    const state = await openStateFolder(this.#dir);
    const selections = state ? await readSelections(state) : [];
    await proveSelections(selections, this.#context.signal);
    // A first run that was ended while it listed leaves a folder that was asked for nothing yet.
    if (this.#words.length === 0 && selections.length === 0) {
      throw new RunError("folder-unknown", `nothing was ever asked for in ${this.#dir}`, {
        hint: "name what to get, for example: gantry get tcia:COLLECTION -o DIR",
      });
    }
    if (state && this.#options.layout !== undefined) checkFacts(state, { layout: this.#options.layout });
    return state;
  }

  async #readTyped(): Promise<Ask | null> {
    if (this.#words.length === 0) {
      const [filter] = filterNames(this.#options.filters);
      if (filter === undefined) return null;
      throw new RunError("usage", `--${filter} narrows an address, and none was given`, {
        hint: "name the address too, or leave the filter out: what was asked for before keeps its own filters",
      });
    }
    const { filters, skipBad = false } = this.#options;
    return readAsk(this.#words, filters, { skipBad }, this.#askContext());
  }

  /** What was typed, else all that the folder was ever asked for. */
  async #asks(typed: Ask | null, state: StateFolder | null): Promise<readonly Ask[]> {
    const known = state ? currentSelections(await readSelections(state)) : [];
    const asks = typed ? [typed] : known.map((selection) => repeatAsk(selection, this.#askContext()));
    const { run, dir } = this.#report;
    await this.#report.emit({
      type: "run-started",
      run,
      dir,
      requests: asks.map((ask) => describeRequest(ask.request)),
    });
    return asks;
  }

  #sourceContext(): SourceContext {
    return { ...this.#context, retry: this.#retry, temporary: this.#temporary.folder };
  }

  #askContext(): AskContext {
    const { source, archiveOfHost, defaultArchive, stdin } = this.#environment;
    return {
      source,
      archiveOfHost,
      defaultArchive,
      stdin,
      context: this.#sourceContext(),
      select: {
        complete: true,
        folder: this.#temporary.folder,
        onFound: (items) => void this.#report.emit({ type: "listing", items }),
      },
      warn: (sentence) => this.#report.warn(sentence),
    };
  }

  /** The layout that was asked for, else the folder's, else the archive's own. Throws `usage` for an unknown one. */
  async #layoutName(typed: Ask | null, existing: StateFolder | null): Promise<string> {
    const archive =
      typed?.request.kind === "paths" ? typed.request.archive : this.#environment.defaultArchive;
    const { capabilities } = await this.#environment.source(archive);
    const { layout } = this.#options;
    if (layout === undefined) return existing?.facts?.layout ?? capabilities.defaultLayout;
    layoutOf(layout, capabilities);
    return layout;
  }

  #states(state: StateFolder | null) {
    const options = {
      folder: this.#temporary.folder,
      onBad: (sentence: string) => this.#report.warn(sentence),
    };
    return () => (state ? readItemStates(state, options) : nothing());
  }

  async #plan(
    state: StateFolder | null,
    layoutName: string,
    selections: readonly SelectionFile[],
    receipts: ReceiptWriter | null,
  ): Promise<Plan> {
    const report = this.#report;
    async function* expected(): AsyncGenerator<Item> {
      for await (const { item } of readExpected(selections)) yield item;
    }
    async function* known(): AsyncGenerator<string> {
      if (state) yield* await readCompanions(state);
    }
    const sources = new Map<string, { source: Source; layout: Layout }>();
    for (const archive of await archivesOf(selections, expected)) {
      const source = await this.#environment.source(archive);
      sources.set(archive, { source, layout: folderLayoutOf(layoutName, source.capabilities) });
    }
    const of = (item: Item) => sources.get(item.archive) as { source: Source; layout: Layout };
    const plan = await buildPlan({
      dir: this.#dir,
      expected,
      states: this.#states(state),
      known,
      layout: (item) => of(item).layout(item),
      recheck: this.#options.recheck ?? false,
      temporary: this.#temporary.folder,
      signal: this.#context.signal,
      append: receipts ? (body) => receipts.append(body) : null,
      now: () => this.#context.clock.now(),
      on: {
        item: (item) => {
          if (!item.unknown) report.cite(of(item).source.cite(item.labels));
        },
        unknown: (item) =>
          report.fail(item, new RunError("access-item", `${item.archive} does not show this item`)),
        withdrawn: (item) => report.withdrawn(item),
        damaged: (item, path, what) => report.emit({ type: "item-damaged", item: item.id, path, what }),
        moved: (item, from, to) => report.emit({ type: "item-moved", item: item.id, from, to }),
      },
    });
    report.here = { ...plan.here };
    const free = await readFreeSpace(await nearestFolder(this.#dir));
    await report.emit({
      type: "planned",
      wanted: { ...plan.wanted },
      fetch: { ...plan.fetch },
      here: { ...plan.here },
      unknown: plan.unknown,
      withdrawn: report.withdrawnItems,
      freeBytes: free.bytes,
      freeInodes: free.inodes,
      licences: report.citations,
    });
    if (free.bytes !== null && plan.fetch.bytes > free.bytes) {
      report.warn("the disk has less free space than there is to fetch");
    }
    return plan;
  }

  async #transfer(plan: Plan, state: StateFolder, receipts: ReceiptWriter, handle: RunHandle): Promise<void> {
    if (plan.fetch.items === 0) return;
    const { partial, scratch, resumable } = this.#unfinished as Unfinished;
    const sink = this.#environment.sink({
      dir: this.#dir,
      partial: join(partial, "items"),
      scratch: scratch ? join(scratch, "items") : null,
      quarantine: state.path("quarantine", this.#report.run),
    });
    handle.update({ state: "transferring" });
    const endProgress = this.#report.startProgress(plan.fetch, (progress) => handle.update({ progress }));
    try {
      await transfer({
        tasks: plan.tasks(),
        source: this.#environment.source,
        sink,
        append: (body) => receipts.append(body),
        jobs: this.#options.jobs ?? this.#environment.jobs,
        scratch: resumable,
        context: this.#sourceContext(),
        emit: (event) => this.#report.emit(event),
        onWritten: (bytes) => {
          this.#report.meter.writtenBytes += bytes;
        },
      });
    } finally {
      endProgress();
      await sink.close();
    }
  }
}

async function archivesOf(
  selections: readonly SelectionFile[],
  expected: () => AsyncIterable<Item>,
): Promise<Set<string>> {
  const archives = new Set<string>();
  let listed = false;
  for (const { header } of selections) {
    if (header.request.kind === "paths") archives.add(header.request.archive);
    else listed = true;
  }
  if (listed) for await (const item of expected()) archives.add(item.archive);
  return archives;
}

/** The folder itself, or its nearest parent that exists. */
async function nearestFolder(path: string): Promise<string> {
  for (let at = path; at !== dirname(at); at = dirname(at)) {
    if (await stat(at).catch(() => null)) return at;
  }
  return path;
}

async function* nothing(): AsyncGenerator<never> {}
