/**
 * The one composer of a download: ask → selection → plan → transfer → receipts → derived files. Everything that a
 * run does to a folder is begun here.
 */
import { stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { Published } from "../checksums/published.ts";
import { RunError } from "../errors.ts";
import type { Context } from "../lib/context.ts";
import { toDiskError } from "../lib/durable-file.ts";
import { RetryLoop, type RetryPolicy } from "../lib/retry.ts";
import type { Item } from "../model/item.ts";
import type { Filters } from "../model/query.ts";
import { safeSegment } from "../model/safe-path.ts";
import { describeRequest } from "../model/selection.ts";
import type { Archives } from "../selections/found.ts";
import type { OpenStore, Store } from "../sinks/sink.ts";
import type { Extra, ForeignFiles, Layout, Source, SourceContext } from "../sources/source.ts";
import { type ArrayRecord, closeArray, openArray, writeArray, writeArrayReport } from "../state/arrays.ts";
import { readAsking } from "../state/asking.ts";
import { hasPendingDrops, readDropRules } from "../state/dropped.ts";
import { readSlices } from "../state/lease-folder.ts";
import { loadLinks } from "../state/private-links.ts";
import { ReceiptWriter, readItemStates } from "../state/receipts.ts";
import { beginRun, livesHere, newRunId, type RunHandle, readLiveRuns, readRuns } from "../state/runs.ts";
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
  type FolderFacts,
  openStateFolder,
  readFreeSpace,
  type StateFolder,
  temporaryFolder,
} from "../state/state-folder.ts";
import { openUnfinished, type Unfinished } from "../state/unfinished.ts";
import { Share, stopPredecessors } from "./array.ts";
import type { Ask, AskContext } from "./asks.ts";
import { EventChannel } from "./channel.ts";
import { finishDrops } from "./drop.ts";
import { isOnDroppedBranch } from "./drop-selector.ts";
import type { Announced, RunEvent, RunSummary, Tally } from "./events.ts";
import { type Asked, FolderAsks } from "./folder-asks.ts";
import { refuseSpace } from "./forecast.ts";
import { askFreshness } from "./freshness.ts";
import { derivedAreThere, noteExtras, readCompanions, readHeld, writeDerived } from "./held.ts";
import { folderLayoutOf, layoutOf } from "./layout.ts";
import type { Task } from "./plan.ts";
import { buildPlan, type Plan } from "./planning.ts";
import { moveToQuarantine, pruneFolders } from "./prune.ts";
import { selectReferences } from "./references.ts";
import { RunReport } from "./report.ts";
import { transfer } from "./transfer.ts";
import { listWithdrawn } from "./withdrawn.ts";

export interface GetOptions {
  readonly dir: string;
  readonly filters: Filters;
  /** A layout's name or a template; default: the folder's, else the source's. */
  readonly layout?: string;
  /** Archive files of this form instead of loose files: `tar.zst`, `tar.xz` or `tar`; fixed by a folder's first get. */
  readonly pack?: string;
  /** Begins another archive file when one has grown so large; absent: one takes everything. */
  readonly shardBytes?: number;
  /** What archive files are called, instead of what was asked for. */
  readonly archiveName?: string;
  readonly jobs?: number;
  readonly dryRun?: boolean;
  readonly scratch?: string;
  readonly recheck?: boolean;
  readonly replace?: boolean;
  readonly skipBad?: boolean;
  readonly prune?: boolean;
  readonly detached?: boolean;
  /** Companions that are made only on request; the folder remembers them. */
  readonly extras?: readonly Extra[];
  /** A list that somebody published of what the files have to be: md5sum's form, or git-annex keys. */
  readonly checksums?: string;
  /** Fetch what data here name of data that are not, too. */
  readonly withReferences?: boolean;
  /** Of a job array; see `ArrayPart`. */
  readonly array?: ArrayPart;
}

/** What a run does of a get that many processes share. */
export type ArrayPart =
  /** Plans and divides the plan among so many tasks, and fetches nothing. `known`: plans from what the folder knows, and asks no archive. */
  | {
      readonly part: "plan";
      readonly tasks: number;
      readonly known?: boolean;
      /** Kept with the plan; see `ArrayRecord.job`. */
      readonly job: readonly string[];
    }
  /** Fetches slices of the plan, as task number so and so from 0, until none is left. */
  | { readonly part: "task"; readonly array: string; readonly task: number }
  /** The same, then proves that all is there, makes the derived files and ends the array. */
  | { readonly part: "finish"; readonly array: string };

/** What a run needs of the world; `src/index.ts` makes it. */
export interface RunEnvironment {
  readonly context: Context;
  readonly retry: RetryPolicy;
  readonly source: (archive: string) => Promise<Source>;
  /** See `AskContext.links`. */
  readonly links: Map<string, string>;
  readonly store: OpenStore;
  readonly archives: Archives;
  readonly fetchSelection: AskContext["fetchSelection"];
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

/** Number of the run that ends an array, among those of its tasks. */
const FINISHING = -1;

class GetRun {
  readonly #words: readonly string[];
  readonly #options: GetOptions;
  readonly #environment: RunEnvironment;
  readonly #dir: string;
  readonly #stopping = new AbortController();
  readonly #context: Context;
  readonly #retry: RetryLoop;
  readonly #report: RunReport;
  readonly #folderAsks: FolderAsks;
  /** For what sorting spills: the system's place until the folder's own is open. */
  readonly #temporary = temporaryFolder(() => this.#unfinished?.partial ?? tmpdir());
  #unfinished: Unfinished | null = null;
  #handle: RunHandle | null = null;
  /** Null: nothing is stored in the folder yet, and nothing will be (a dry run). */
  #store: Store | null = null;
  /** Of the archives that the plan is for. */
  #foreign: readonly ForeignFiles[] = [];
  #sources: readonly Source[] = [];
  #published: Published | null = null;

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
    const { filters, replace = false, skipBad = false, array } = options;
    const { source, links, archives, fetchSelection, stdin } = environment;
    this.#folderAsks = new FolderAsks({
      dir: this.#dir,
      run: this.#report.run,
      ...{ words, filters, replace, skipBad },
      known: array?.part === "plan" && array.known === true,
      context: {
        ...{ source, links, archives, fetchSelection, stdin },
        context: this.#sourceContext(),
        select: {
          complete: true,
          folder: this.#temporary.folder,
          onFound: (items) => void this.#report.emit({ type: "listing", items }),
        },
        warn: (sentence) => this.#report.warn(sentence),
      },
      states: (state) => this.#states(state),
    });
    environment.onReceived((bytes) => {
      this.#report.meter.receivedBytes += bytes;
    });
  }

  async run(): Promise<RunSummary> {
    let error: RunError | null = null;
    try {
      const { array, checksums, dryRun } = this.#options;
      if (checksums !== undefined) this.#published = await Published.read(checksums);
      if (dryRun) await this.#dryRun();
      else if (array && array.part !== "plan") await this.#work(array);
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
    const typed = await this.#folderAsks.readTyped();
    const layout = await this.#layoutName(typed, state);
    const { asks, settled } = await this.#asks(typed, state);
    const selections: SelectionFile[] = [...settled];
    for (const [index, { ask }] of asks.entries()) {
      const path = join(await this.#temporary.folder(), `selection-${index}.jsonl`);
      const header = await saveSelection(
        path,
        ask.request,
        this.#folderAsks.items(ask, typed !== null, state),
      );
      selections.push({ digest: "", path, header });
    }
    if (state && (await hasPendingDrops(state)))
      this.#report.warn("a drop in this folder was cut before its end; the next get finishes it");
    if (typed && selections.every((selection) => selection.header.items === 0)) {
      throw new RunError("no-match", "nothing in the archive matches");
    }
    this.#store = state ? await this.#environment.store(state) : null;
    const plan = await this.#plan(state, layout, selections, null);
    this.#report.here = { ...plan.here };
    if (this.#options.withReferences)
      this.#report.warn("what data name of other data is known only when they are here, and is not counted");
    this.#report.promisedItems = plan.todo;
    await plan.close();
  }

  async #download(): Promise<void> {
    const existing = await this.#openKnown();
    // Names are resolved before the folder is touched: a misspelt word leaves nothing behind.
    const typed = await this.#folderAsks.readTyped();
    const layout = await this.#layoutName(typed, existing);
    const state = await beginStateFolder(this.#dir, this.#wantedFacts(), {
      layout,
      sink: "folder",
      ...(this.#options.pack === undefined ? {} : { archive: this.#archiveName(typed) }),
    });
    this.#store = await this.#environment.store(state);
    const handle = await beginRun(state, {
      run: this.#report.run,
      clock: this.#context.clock,
      detached: this.#options.detached ?? false,
      onWait: (sentence) => this.#report.warn(sentence),
      signal: this.#context.signal,
    });
    this.#handle = handle;
    handle.stopSignal.addEventListener("abort", () => this.#stopping.abort(handle.stopSignal.reason));
    this.#unfinished = await openUnfinished(state, this.#report.run, { scratch: this.#options.scratch });
    if (await this.#store.isUnsettled()) await this.#settle(state, this.#store, { publish: false });
    await this.#finishDrops(state, this.#unfinished);
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
    const { asks, settled } = await this.#asks(typed, state);
    handle.update({ requests: asks.map(({ ask }) => describeRequest(ask.request)) });
    if (typed) await this.#folderAsks.remember(state, typed);
    const selections: SelectionFile[] = [...settled];
    for (const { ask, replaceAll } of asks)
      selections.push(await this.#folderAsks.select(state, ask, { replaceAll, typed: typed !== null }));
    if (!asks.some(({ replaceAll }) => replaceAll)) {
      const now = currentSelections(await readSelections(state));
      const gone = before.filter((old) => !now.some((each) => each.digest === old.digest));
      for await (const item of listWithdrawn(gone, now, this.#states(state)))
        await this.#report.withdrawn(item);
    }
    const known = new Set(before.map((selection) => selection.digest));
    const news = selections.some((selection) => !known.has(selection.digest));
    const { array } = this.#options;
    const steps: Steps = { state, layout, receipts, handle };
    if (array?.part === "plan") return this.#divide(steps, selections, array);
    this.#report.here = { ...(await this.#fetch(steps, selections)).here };
    await this.#complete(steps, selections, { news });
  }

  /** Plans and transfers. */
  async #fetch(steps: Steps, selections: readonly SelectionFile[]): Promise<Plan> {
    const { state, layout, receipts } = steps;
    const plan = await this.#plan(state, layout, selections, receipts);
    try {
      if (plan.todo > 0) {
        const total = { ...plan.fetch, items: plan.todo + this.#report.doneItems };
        await this.#transfer({ tasks: plan.tasks(), total }, steps);
      }
    } finally {
      await plan.close();
    }
    this.#context.signal.throwIfAborted();
    return plan;
  }

  /**
   * What follows when all that could be had is here: what data name of other data if asked, pruning if asked, and the
   * files that are derived from receipts, if they may have changed.
   */
  async #complete(
    steps: Steps,
    selections: readonly SelectionFile[],
    { news }: { readonly news: boolean },
  ): Promise<void> {
    const { state, handle } = steps;
    const named = this.#options.withReferences ? await this.#selectReferences(state) : [];
    if (named.length > 0) await this.#fetch(steps, named);
    handle.update({ state: "finishing" });
    await this.#tellReferences(state);
    const store = this.#store as Store;
    if (this.#report.changedFiles || (await store.isUnsettled()))
      await this.#settle(state, store, { publish: true });
    const temporary = this.#temporary.folder;
    const quarantine = state.path("quarantine", this.#report.run);
    if (this.#options.prune) {
      await pruneFolders(state, [...selections, ...named], {
        quarantine,
        temporary,
        foreign: this.#foreign,
        onPruned: (path) =>
          this.#report.emit({ type: "quarantined", path, why: "no selection of this folder knows it" }),
      });
    }
    // Another answer of the archive may have other labels, which metadata.csv and the citations show.
    const extras = await noteExtras(state, this.#options.extras ?? []);
    const stale = this.#report.changedFiles || news || named.length > 0 || extras;
    if (stale || !(await derivedAreThere(state))) {
      const setAside = async (path: string): Promise<void> => {
        await moveToQuarantine(this.#dir, path, quarantine);
        await this.#report.emit({
          type: "quarantined",
          path,
          why: "another tool wrote it, and ours goes there",
        });
      };
      await writeDerived({ state, store, temporary, source: this.#environment.source, setAside });
    }
  }

  /** Of each archive, what its data here name of data that are not, as selections of the folder. */
  async #selectReferences(state: StateFolder): Promise<readonly SelectionFile[]> {
    const selections: SelectionFile[] = [];
    for (const { archive, references } of this.#sources) {
      if (!references) continue;
      const named = await selectReferences(references, () => this.#heldOf(state, archive), {
        context: this.#sourceContext(),
        write: (request, items) => writeSelection(state, request, items, { replaceAll: false }),
      });
      if (named) selections.push(named);
    }
    return selections;
  }

  async #tellReferences(state: StateFolder): Promise<void> {
    for (const { archive, references } of this.#sources) {
      for await (const { by, path, address } of references?.dangling(() => this.#heldOf(state, archive)) ??
        [])
        await this.#report.emit({ type: "reference-missing", path: by, names: path, address });
    }
  }

  async *#heldOf(state: StateFolder, archive: string) {
    const temporary = this.#temporary.folder;
    const store = this.#store as Store;
    for await (const held of readHeld({ state, store, temporary, source: this.#environment.source }))
      if (held.item.archive === archive) yield held;
  }

  /** Throws `usage` for what none of these archives can do. */
  #checkWishes(sources: readonly Source[]): void {
    const { extras = [], withReferences } = this.#options;
    const list = this.#published;
    for (const { archive, capabilities } of sources) {
      if (list === null || list.algorithm === capabilities.digest) continue;
      throw new RunError(
        "usage",
        `${list.name} is a list of ${list.algorithm}, and files of ${archive} are known by ${capabilities.digest}`,
        {
          hint: "leave out --checksums, and check afterwards: gantry verify DIR --sums FILE",
        },
      );
    }
    const names = sources.map(({ archive }) => archive).join(", ");
    const refuse = (what: string): never => {
      throw new RunError("usage", `${names} has no ${what}`, {
        hint: "leave the option out: it is for archives that serve BIDS trees",
      });
    };
    for (const extra of extras)
      if (!sources.some(({ capabilities }) => capabilities.extras?.includes(extra))) refuse(`${extra} file`);
    if (withReferences && !sources.some(({ references }) => references)) refuse("data that name other data");
  }

  /** The plan as slices for the tasks of an array. */
  async #divide(
    { state, layout, receipts }: Steps,
    selections: readonly SelectionFile[],
    { tasks, job }: Extract<ArrayPart, { part: "plan" }>,
  ): Promise<void> {
    const plan = await this.#plan(state, layout, selections, receipts);
    this.#report.here = { ...plan.here };
    async function* lines(): AsyncGenerator<string> {
      for await (const task of plan.tasks()) yield JSON.stringify(task);
    }
    const { run } = this.#report;
    const { array, items, bytes, slices } = await writeArray(
      state,
      {
        array: run,
        plannedAt: this.#context.clock.now().toISOString(),
        tasks,
        requests: selections.map(({ header }) => describeRequest(header.request)),
        selections: selections.map(({ digest }) => digest),
        files: plan.fetch.files,
        bytes: plan.fetch.bytes,
        here: plan.here.items,
        unknown: plan.unknown,
        job,
      },
      { items: plan.todo, lines: lines() },
    );
    await plan.close();
    await this.#report.emit({ type: "divided", array, slices: slices.length, items, bytes });
    this.#report.promisedItems = items;
  }

  /** One task of an array, or its end. */
  async #work(part: Exclude<ArrayPart, { part: "plan" }>): Promise<void> {
    const state = await openStateFolder(this.#dir);
    if (!state) throw new RunError("folder-unknown", `${this.#dir} holds no state of gantry`);
    const { run } = this.#report;
    const { array } = part;
    const record = await openArray(state, array);
    this.#store = await this.#environment.store(state);
    const task = part.part === "task" ? part.task : FINISHING;
    await loadLinks(state, this.#environment.links);
    const handle = await beginRun(state, {
      run,
      clock: this.#context.clock,
      detached: false,
      member: { array, task },
      onWait: (sentence) => this.#report.warn(sentence),
      signal: this.#context.signal,
    });
    this.#handle = handle;
    handle.stopSignal.addEventListener("abort", () => this.#stopping.abort(handle.stopSignal.reason));
    handle.update({ requests: record.requests });
    await stopPredecessors(state, { array, run, task });
    const { scratch } = this.#options;
    this.#unfinished = await openUnfinished(state, run, { scratch, shared: true });
    const receipts = new ReceiptWriter(state, run);
    try {
      await this.#report.emit({ type: "run-started", run, dir: this.#dir, requests: record.requests });
      const { partial } = this.#unfinished;
      const share = new Share({ state, record, run, task, temporary: partial, context: this.#context });
      const work: Work = {
        tasks: share.tasks(),
        total: share.taken,
        holds: (item) => share.holds(item),
        onEvent: (event) => share.event(event),
      };
      const steps: Steps = { state, layout: state.facts?.layout ?? "", receipts, handle };
      await this.#transfer(work, steps);
      this.#context.signal.throwIfAborted();
      this.#report.here = { ...share.here };
      if (part.part === "finish") await this.#finish(steps, record, share);
    } finally {
      await receipts.close();
      await this.#unfinished.remove({ whole: false });
    }
  }

  /**
   * The end of an array: what its selections expect is compared with the receipts of all tasks and the disk, what could
   * not be had or is not here is told as failed, the derived files are made, and the array is closed.
   */
  async #finish(steps: Steps, record: ArrayRecord, share: Share): Promise<void> {
    const { state, layout, receipts, handle } = steps;
    const { array } = record;
    handle.update({ state: "finishing" });
    const selections = (await readSelections(state)).filter(({ digest }) =>
      record.selections.includes(digest),
    );
    await proveSelections(selections, this.#context.signal);
    const runs = (await readRuns(state)).filter(
      (each) => each.array === array && each.run !== this.#report.run,
    );
    const alone = runs.every((each) => each.exit !== null || livesHere(each) === false);
    const store = this.#store as Store;
    if (alone && (await store.isUnsettled())) await this.#settle(state, store, { publish: true });
    const plan = await this.#plan(state, layout, selections, receipts);
    // What this run itself stored is told as stored, and not once more as here.
    const { items, files, bytes } = share.stored;
    this.#report.here = {
      items: plan.here.items - items,
      files: plan.here.files - files,
      bytes: plan.here.bytes - bytes,
    };
    const { done, taken } = await readSlices(state, array);
    const causes = new Map(
      [...done.values()].flatMap(({ failures }) => failures.map((each) => [each.item, each])),
    );
    try {
      for await (const { item } of plan.tasks()) {
        const { code, message, hint } = causes.get(item.id) ?? {
          code: "array-incomplete",
          message: "no task of the array stored it",
        };
        await this.#report.fail(item, new RunError(code, message, hint === undefined ? {} : { hint }));
      }
    } finally {
      await plan.close();
    }
    await this.#complete(steps, selections, { news: true });
    if (alone) await closeArray(state, array);
    const generations = [...done.values()].map(({ generation }) => generation);
    await writeArrayReport(state, array, {
      plannedAt: record.plannedAt,
      finishedAt: this.#context.clock.now().toISOString(),
      requests: record.requests,
      planned: { items: record.items, files: record.files, bytes: record.bytes },
      here: plan.here,
      failed: this.#report.failedItems,
      slices: record.slices.length,
      // Each generation after the first is a lease that expired or was given back.
      takenOver: [...generations, ...taken.values()].reduce((sum, generation) => sum + generation - 1, 0),
      runs: runs.map(({ run, host, task, startedAt, exit, progress }) => ({
        ...{ run, host, task, startedAt, exit },
        items: progress?.doneItems ?? 0,
        bytes: progress?.doneBytes ?? 0,
      })),
    });
  }

  async #finishDrops(state: StateFolder, { resumable }: Unfinished): Promise<void> {
    const { source, store } = this.#environment;
    const { run } = this.#report;
    try {
      const temporary = this.#temporary.folder;
      await finishDrops(state, { context: this.#context, source, store, run, temporary, resumable });
    } catch (error) {
      if (this.#context.signal.aborted || !(error instanceof RunError)) throw error;
      this.#report.warn(`what was dropped is not all deleted: ${error.message}; ${error.hint}`);
    }
  }

  async #openKnown(): Promise<StateFolder | null> {
    const state = await openStateFolder(this.#dir);
    if (state) await loadLinks(state, this.#environment.links);
    const selections = state ? await readSelections(state) : [];
    await proveSelections(selections, this.#context.signal);
    const asked = selections.length + (state ? (await readAsking(state)).length : 0);
    if (this.#words.length === 0 && asked === 0) {
      throw new RunError("folder-unknown", `nothing was ever asked for in ${this.#dir}`, {
        hint: "name what to get, for example: gantry get tcia:COLLECTION -o DIR",
      });
    }
    if (state) checkFacts(state, this.#wantedFacts());
    return state;
  }

  #wantedFacts(): Partial<FolderFacts> {
    const { layout, pack } = this.#options;
    return { ...(layout === undefined ? {} : { layout }), ...(pack === undefined ? {} : { sink: pack }) };
  }

  /** What is packed is called as what was asked for: the collection, the selection's file; else as the folder. */
  #archiveName(typed: Ask | null): string {
    const request = typed?.request;
    const [first] = request?.kind === "paths" ? request.paths : [];
    const asked = request?.kind === "list" ? request.name.replace(/\.[a-z0-9]+$/iu, "") : first?.[0];
    const name = this.#options.archiveName ?? asked ?? "";
    return safeSegment(name === "" || name === "-" ? basename(this.#dir) : name);
  }

  async #settle(state: StateFolder, store: Store, { publish }: { readonly publish: boolean }): Promise<void> {
    const live = await readLiveRuns(state);
    await store.settle({
      run: this.#report.run,
      states: this.#states(state),
      isLive: (run) => live.has(run),
      publish,
      temporary: this.#temporary.folder,
    });
  }

  /** See `FolderAsks.wanted`; the run begins by telling it. */
  async #asks(
    typed: Ask | null,
    state: StateFolder | null,
  ): Promise<{ readonly asks: readonly Asked[]; readonly settled: readonly SelectionFile[] }> {
    const wanted = await this.#folderAsks.wanted(typed, state);
    const { run, dir } = this.#report;
    const requests = wanted.asks.map(({ ask }) => describeRequest(ask.request));
    await this.#report.emit({ type: "run-started", run, dir, requests });
    return wanted;
  }

  #sourceContext(): SourceContext {
    return { ...this.#context, retry: this.#retry, temporary: this.#temporary.folder };
  }

  /** The layout that was asked for, else the folder's, else the archive's own. Throws `usage` for an unknown one. */
  async #layoutName(typed: Ask | null, existing: StateFolder | null): Promise<string> {
    const archive =
      typed?.request.kind === "paths" ? typed.request.archive : this.#environment.archives.fallback;
    const source = await this.#environment.source(archive);
    if (typed?.request.kind === "paths") this.#checkWishes([source]);
    const { capabilities } = source;
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
    this.#sources = [...sources.values()].map(({ source }) => source);
    this.#checkWishes(this.#sources);
    const loose = this.#store === null ? this.#options.pack === undefined : this.#store.loose;
    // What other tools left are loose files.
    this.#foreign = loose ? foreignOf(this.#sources) : [];
    const of = (item: Item) => sources.get(item.archive) as { source: Source; layout: Layout };
    const rules = state ? await readDropRules(state) : null;
    const plan = await buildPlan({
      dir: this.#dir,
      store: this.#store,
      expected,
      states: this.#states(state),
      known,
      // What is made from an original is shown in its place; an archive file holds the data as they came.
      layout: loose
        ? (item) => of(item).layout(item)
        : (item) => ({ ...of(item).layout(item), original: false }),
      foreign: this.#foreign,
      published: this.#published,
      isPlaced: (item) => loose && of(item).source.placed !== undefined,
      recheck: this.#options.recheck ?? false,
      isDropped:
        rules && !rules.isEmpty
          ? (item) => isOnDroppedBranch(item, of(item).source.capabilities, rules)
          : null,
      // What an array made is judged by what was planned.
      isCurrent:
        this.#options.array?.part === "finish"
          ? async () => true
          : askFreshness((item) => of(item).source, this.#sourceContext()),
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
        dropped: (_item, here) => {
          if (here)
            report.warn(
              "the archive says now that data here are of a subject that was dropped; drop it again to delete them",
            );
        },
        damaged: (item, path, what) => report.emit({ type: "item-damaged", item: item.id, path, what }),
        moved: (item, from, to) => report.emit({ type: "item-moved", item: item.id, from, to }),
        warn: (sentence) => report.warn(sentence),
      },
    });
    report.dropped = plan.dropped;
    const free = await readFreeSpace(await nearestFolder(this.#dir));
    await report.emit({
      type: "planned",
      wanted: { ...plan.wanted },
      fetch: { ...plan.fetch },
      here: { ...plan.here },
      found: { ...plan.found },
      unknown: plan.unknown,
      withdrawn: report.withdrawnItems,
      dropped: plan.dropped,
      freeBytes: free.bytes,
      freeInodes: free.inodes,
      licences: report.citations,
    });
    const refusal = await this.#forecast(state, plan, free);
    if (refusal && receipts === null) report.warn(`${refusal.message}; ${refusal.hint}`);
    else if (refusal) {
      await plan.close();
      throw refusal;
    }
    return plan;
  }

  /** Why the disk can't hold what is to be fetched, as far as the archive announces it; null when it can. */
  async #forecast(
    state: StateFolder | null,
    { fetch, largestBytes }: Plan,
    free: { readonly bytes: number | null; readonly inodes: number | null },
  ): Promise<RunError | null> {
    const { scratch } = this.#options;
    const scratchFree =
      scratch === undefined ? null : await readFreeSpace(await nearestFolder(resolve(scratch)));
    return refuseSpace({
      fetch,
      largestBytes,
      free,
      scratch: scratchFree?.bytes ?? null,
      sink: state?.facts?.sink ?? this.#options.pack ?? "folder",
    });
  }

  async #transfer(work: Work, { state, receipts, handle }: Steps): Promise<void> {
    const { partial, scratch, resumable } = this.#unfinished as Unfinished;
    const sink = (this.#store as Store).sink({
      run: this.#report.run,
      partial: join(partial, "items"),
      scratch: scratch ? join(scratch, "items") : null,
      quarantine: state.path("quarantine", this.#report.run),
      shardBytes: this.#options.shardBytes ?? null,
    });
    handle.update({ state: "transferring" });
    const endProgress = this.#report.startProgress(work.total, (progress) => handle.update({ progress }));
    const { holds } = work;
    try {
      await transfer({
        dir: this.#dir,
        tasks: work.tasks,
        source: this.#environment.source,
        sink,
        published: this.#published,
        append: (body) => receipts.append(body),
        jobs: this.#options.jobs ?? this.#environment.jobs,
        scratch: resumable,
        context: this.#sourceContext(),
        emit: async (event) => {
          await this.#report.emit(event);
          await work.onEvent?.(event);
        },
        warn: (sentence) => this.#report.warn(sentence),
        onWritten: (bytes) => {
          this.#report.meter.writtenBytes += bytes;
        },
        ...(holds ? { holds } : {}),
        onPromised: (bytes) => {
          this.#report.promisedBytes += bytes;
        },
      });
    } finally {
      endProgress();
      await sink.close();
    }
  }
}

/** What is to be fetched: a whole plan, or a share of one that other processes work on, too. */
interface Work {
  readonly tasks: AsyncIterable<Task>;
  /** May grow. */
  readonly total: Tally & Partial<Announced>;
  readonly holds?: (item: Item) => Promise<boolean>;
  readonly onEvent?: (event: RunEvent) => Promise<void>;
}

/** What every step of a run that writes works with. */
interface Steps {
  readonly state: StateFolder;
  readonly layout: string;
  readonly receipts: ReceiptWriter;
  readonly handle: RunHandle;
}

/** How the files of these archives are recognised: the same way for all archives of a kind. */
function foreignOf(sources: readonly Source[]): readonly ForeignFiles[] {
  const kinds = new Map<string, ForeignFiles>();
  for (const { kind, foreign } of sources) if (foreign) kinds.set(kind, foreign);
  return [...kinds.values()];
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
