/**
 * The one composer of a download: ask → selection → plan → transfer → receipts → derived files. Everything that a
 * run does to a folder is begun here.
 */

import { createHash } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { RunError } from "../errors.ts";
import type { Context } from "../lib/context.ts";
import { RetryLoop, type RetryPolicy } from "../lib/retry.ts";
import type { Item } from "../model/item.ts";
import type { Filters } from "../model/query.ts";
import { describeRequest } from "../model/selection.ts";
import { createFolderSink, removeLeftovers } from "../sinks/folder.ts";
import type { Citation, Layout, Source } from "../sources/source.ts";
import { ReceiptWriter, readItemStates } from "../state/receipts.ts";
import { beginRun, livesHere, newRunId, type RunHandle, readRuns } from "../state/runs.ts";
import {
  currentSelections,
  readExpected,
  readSelections,
  type SelectionFile,
  saveSelection,
  writeSelection,
} from "../state/selections.ts";
import {
  beginStateFolder,
  openStateFolder,
  readFreeSpace,
  readNames,
  type StateFolder,
  temporaryFolder,
} from "../state/state-folder.ts";
import { type Ask, type AskContext, readAsk, repeatAsk } from "./asks.ts";
import { EventChannel } from "./channel.ts";
import type { Failure, RunEvent, RunSummary, Tally } from "./events.ts";
import { noteCitation, readCompanions, sortCitations, writeDerived } from "./held.ts";
import { layoutOf } from "./layout.ts";
import { Meter } from "./meter.ts";
import { buildPlan, type Plan } from "./planning.ts";
import { pruneFolders } from "./prune.ts";
import { type TransferResult, transfer } from "./transfer.ts";

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

const PROGRESS_MS = 250;
/** Failures that a summary shows; all of them are events. */
const SHOWN_FAILURES = 100;

export function get(words: readonly string[], options: GetOptions, environment: RunEnvironment): Run {
  const channel = new EventChannel<RunEvent>();
  // Begun in a later turn, so that a reader who takes the iterator at once misses nothing.
  const result = new Promise<void>((begin) => setImmediate(begin))
    .then(() => new GetRun(words, options, environment, channel).run())
    .finally(() => channel.end());
  return { result, [Symbol.asyncIterator]: () => channel[Symbol.asyncIterator]() };
}

const NOTHING: Tally = { items: 0, files: 0, bytes: 0 };

class GetRun {
  readonly #words: readonly string[];
  readonly #options: GetOptions;
  readonly #environment: RunEnvironment;
  readonly #channel: EventChannel<RunEvent>;
  readonly #id: string;
  readonly #dir: string;
  readonly #stopping = new AbortController();
  readonly #context: Context;
  readonly #retry: RetryLoop;
  readonly #meter: Meter;
  readonly #startedMs: number;
  readonly #citations = new Map<string, Citation>();
  readonly #failures: Failure[] = [];
  readonly #active = new Map<string, string>();
  readonly #exits = new Set<number>();
  #failed = 0;
  #withdrawn = 0;
  #here: Tally = NOTHING;
  #stored: Tally = NOTHING;
  #disputed = 0;
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
    this.#channel = channel;
    const { context } = environment;
    this.#id = newRunId(context.clock);
    this.#dir = resolve(options.dir);
    this.#context = { ...context, signal: AbortSignal.any([context.signal, this.#stopping.signal]) };
    this.#retry = new RetryLoop(environment.retry, this.#context);
    this.#meter = new Meter(context.clock);
    this.#startedMs = context.clock.monotonicMs();
    environment.onReceived((bytes) => {
      this.#meter.receivedBytes += bytes;
    });
  }

  async run(): Promise<RunSummary> {
    let error: RunError | null = null;
    try {
      if (this.#options.dryRun) await this.#dryRun();
      else await this.#download();
    } catch (caught) {
      const { signal } = this.#context;
      const reason: unknown = signal.aborted ? signal.reason : caught;
      if (!(reason instanceof RunError)) throw caught;
      error = reason;
    }
    const summary = this.#summary(error);
    await this.#handle?.finish(summary.exit);
    await this.#emit({ type: "run-finished", ...summary });
    return summary;
  }

  async #download(): Promise<void> {
    const { clock } = this.#context;
    const asked = this.#words.length > 0;
    const existing = await openStateFolder(this.#dir);
    if (!asked && !existing) {
      throw new RunError("folder-unknown", `nothing was ever asked for in ${this.#dir}`, {
        hint: "name what to get, for example: gantry get tcia:COLLECTION -o DIR",
      });
    }
    const temporary = temporaryFolder();
    try {
      const askContext = this.#askContext(temporary.folder);
      // Names are resolved before the folder is touched: a misspelt word leaves nothing behind.
      const typed = asked ? await this.#readAsk(askContext) : null;
      const layout = await this.#layoutName(typed, existing);
      const state = await beginStateFolder(this.#dir, this.#options.layout === undefined ? {} : { layout }, {
        layout,
        sink: "folder",
      });
      this.#handle = await beginRun(state, {
        run: this.#id,
        clock,
        detached: this.#options.detached ?? false,
        onWait: (message) => void this.#emit({ type: "warning", message }),
        signal: this.#context.signal,
      });
      this.#handle.stopSignal.addEventListener("abort", () =>
        this.#stopping.abort(this.#handle?.stopSignal.reason),
      );
      await this.#inFolder(state, typed, askContext);
    } finally {
      await temporary.remove();
    }
  }

  async #inFolder(state: StateFolder, typed: Ask | null, askContext: AskContext): Promise<void> {
    await this.#removeDeadPartials(state);
    const partial = state.path("partial", this.#id);
    const scratch = this.#options.scratch ? join(resolve(this.#options.scratch), this.#scratchName()) : null;
    await mkdir(partial, { recursive: true });
    const receipts = new ReceiptWriter(state, this.#id);
    const ticker = setInterval(() => this.#tick(), PROGRESS_MS);
    ticker.unref();
    try {
      const before = currentSelections(await readSelections(state));
      const asks = typed ? [typed] : before.map((selection) => repeatAsk(selection, askContext));
      await this.#emit({
        type: "run-started",
        run: this.#id,
        dir: this.#dir,
        requests: asks.map((ask) => describeRequest(ask.request)),
      });
      this.#handle?.update({ requests: asks.map((ask) => describeRequest(ask.request)) });
      const selections: SelectionFile[] = [];
      for (const ask of asks) {
        selections.push(
          await writeSelection(state, ask.request, ask.items(), {
            replaceAll: this.#options.replace ?? false,
          }),
        );
      }
      await this.#tellWithdrawn(state, before, askContext);
      const plan = await this.#plan(state, selections, receipts, async () => partial);
      try {
        await this.#transfer(plan, state, partial, scratch, receipts);
      } finally {
        await plan.close();
      }
      this.#context.signal.throwIfAborted();
      this.#handle?.update({ state: "finishing" });
      if (this.#options.prune) {
        await pruneFolders(state, selections, {
          quarantine: state.path("quarantine", this.#id),
          temporary: askContext.select.folder,
          onPruned: (path) =>
            this.#emit({ type: "quarantined", path, why: "no selection of this folder knows it" }),
        });
      }
      await receipts.close();
      if (this.#stored.items > 0 || !(await this.#derivedAreThere(state))) {
        await writeDerived({ state, temporary: askContext.select.folder, source: this.#environment.source });
      }
    } finally {
      clearInterval(ticker);
      await receipts.close();
      await rm(partial, { recursive: true, force: true });
      if (scratch) await rm(scratch, { recursive: true, force: true });
    }
  }

  /** The plan of a dry run, told and thrown away. Nothing is written in the target folder. */
  async #dryRun(): Promise<void> {
    const temporary = temporaryFolder();
    try {
      const askContext = this.#askContext(temporary.folder);
      const state = await openStateFolder(this.#dir);
      if (this.#words.length === 0 && !state)
        throw new RunError("folder-unknown", `nothing was ever asked for in ${this.#dir}`);
      const typed = this.#words.length > 0 ? await this.#readAsk(askContext) : null;
      const asks = typed
        ? [typed]
        : currentSelections(await readSelections(state as StateFolder)).map((selection) =>
            repeatAsk(selection, askContext),
          );
      const layout = await this.#layoutName(typed, state);
      await this.#emit({
        type: "run-started",
        run: this.#id,
        dir: this.#dir,
        requests: asks.map((ask) => describeRequest(ask.request)),
      });
      const files: SelectionFile[] = [];
      for (const [index, ask] of asks.entries()) {
        const path = join(await temporary.folder(), `selection-${index}.jsonl`);
        files.push({ digest: "", path, header: await saveSelection(path, ask.request, ask.items()) });
      }
      if (typed && files.every((file) => file.header.items === 0))
        throw new RunError("no-match", "nothing in the archive matches");
      const plan = await this.#plan(state, files, null, temporary.folder, layout);
      await plan.close();
    } finally {
      await temporary.remove();
    }
  }

  async #readAsk(askContext: AskContext): Promise<Ask> {
    return readAsk(
      this.#words,
      this.#options.filters,
      { skipBad: this.#options.skipBad ?? false },
      askContext,
    );
  }

  #askContext(folder: () => Promise<string>): AskContext {
    const { source, archiveOfHost, defaultArchive, stdin } = this.#environment;
    return {
      source,
      archiveOfHost,
      defaultArchive,
      stdin,
      context: { ...this.#context, retry: this.#retry },
      select: {
        complete: true,
        folder,
        onFound: (items) => void this.#emit({ type: "listing", items }),
      },
      warn: (message) => void this.#emit({ type: "warning", message }),
    };
  }

  async #layoutName(typed: Ask | null, existing: StateFolder | null): Promise<string> {
    if (this.#options.layout !== undefined) return this.#options.layout;
    if (existing?.facts) return existing.facts.layout;
    const archive =
      typed?.request.kind === "paths" ? typed.request.archive : this.#environment.defaultArchive;
    return (await this.#environment.source(archive)).capabilities.defaultLayout;
  }

  /** Items that the archive showed when a selection was made, shows no more, and that are here. */
  async #tellWithdrawn(
    state: StateFolder,
    before: readonly SelectionFile[],
    askContext: AskContext,
  ): Promise<void> {
    const now = currentSelections(await readSelections(state));
    const kept = new Set(now.map((selection) => selection.digest));
    const gone = before.filter((selection) => !kept.has(selection.digest));
    if (gone.length === 0 || this.#options.replace) return;
    const expected = readExpected(now)[Symbol.asyncIterator]();
    const states = this.#states(state, askContext.select.folder)()[Symbol.asyncIterator]();
    try {
      let next = await expected.next();
      let found = await states.next();
      for await (const { item } of readExpected(gone)) {
        while (!next.done && next.value.item.id < item.id) next = await expected.next();
        if (item.unknown || (!next.done && next.value.item.id === item.id)) continue;
        while (!found.done && found.value.current.item < item.id) found = await states.next();
        if (found.done || found.value.current.item !== item.id || found.value.current.type === "removed")
          continue;
        await this.#tellOfWithdrawn(item);
      }
    } finally {
      await expected.return?.(undefined);
      await states.return?.(undefined);
    }
  }

  async #tellOfWithdrawn(item: Item): Promise<void> {
    this.#withdrawn += 1;
    await this.#emit({ type: "item-withdrawn", item: item.id, address: item.address });
  }

  #states(state: StateFolder | null, folder: () => Promise<string>, told = new Set<string>()) {
    const onBad = (message: string): void => {
      if (told.has(message)) return;
      told.add(message);
      void this.#emit({ type: "warning", message });
    };
    return () => (state ? readItemStates(state, { folder, onBad }) : nothing());
  }

  async #plan(
    state: StateFolder | null,
    selections: readonly SelectionFile[],
    receipts: ReceiptWriter | null,
    temporary: () => Promise<string>,
    layoutName = state?.facts?.layout ?? "",
  ): Promise<Plan> {
    async function* expected(): AsyncGenerator<Item> {
      for await (const { item } of readExpected(selections)) yield item;
    }
    const layouts = new Map<string, Layout>();
    const cites = new Map<string, Source>();
    for (const archive of await archivesOf(selections, expected)) {
      const source = await this.#environment.source(archive);
      layouts.set(archive, layoutOf(layoutName, source.capabilities));
      cites.set(archive, source);
    }
    const known = async function* (): AsyncGenerator<string> {
      if (state) yield* await readCompanions(state);
    };
    const plan = await buildPlan({
      dir: this.#dir,
      expected,
      states: this.#states(state, temporary, new Set()),
      known,
      layout: (item) => (layouts.get(item.archive) as Layout)(item),
      recheck: this.#options.recheck ?? false,
      temporary,
      signal: this.#context.signal,
      append: receipts ? (body) => receipts.append(body) : null,
      now: () => this.#context.clock.now(),
      on: {
        item: (item) => {
          if (!item.unknown)
            noteCitation(this.#citations, cites.get(item.archive)?.cite(item.labels) ?? null);
        },
        unknown: (item) =>
          this.#fail(
            item,
            new RunError(
              "access-item",
              `${item.archive} does not show it: unknown, withdrawn or not permitted`,
            ),
          ),
        withdrawn: (item) => this.#tellOfWithdrawn(item),
        damaged: (item, path, what) => this.#emit({ type: "item-damaged", item: item.id, path, what }),
        moved: (item, from, to) => this.#emit({ type: "item-moved", item: item.id, from, to }),
      },
    });
    this.#here = { ...plan.here };
    const free = await readFreeSpace(await nearestFolder(this.#dir));
    await this.#emit({
      type: "planned",
      wanted: { ...plan.wanted },
      fetch: { ...plan.fetch },
      here: { ...plan.here },
      unknown: plan.unknown,
      withdrawn: this.#withdrawn,
      freeBytes: free.bytes,
      freeInodes: free.inodes,
      licences: sortCitations(this.#citations),
    });
    if (free.bytes !== null && plan.fetch.bytes > free.bytes) {
      await this.#emit({ type: "warning", message: "the disk has less free space than there is to fetch" });
    }
    return plan;
  }

  async #transfer(
    plan: Plan,
    state: StateFolder,
    partial: string,
    scratch: string | null,
    receipts: ReceiptWriter,
  ): Promise<void> {
    if (plan.fetch.items === 0) return;
    this.#handle?.update({ state: "transferring" });
    this.#total = plan.fetch;
    const sink = createFolderSink({
      dir: this.#dir,
      partial: join(partial, "items"),
      scratch: scratch ? join(scratch, "items") : null,
      quarantine: state.path("quarantine", this.#id),
    });
    const result: TransferResult = await transfer({
      tasks: plan.tasks(),
      source: this.#environment.source,
      sink,
      append: (body) => receipts.append(body),
      retry: this.#retry,
      jobs: this.#options.jobs ?? this.#environment.jobs,
      scratch: scratch ?? partial,
      context: this.#context,
      emit: (event) => this.#emit(event),
      onWritten: (bytes) => {
        this.#meter.writtenBytes += bytes;
      },
    });
    await sink.close();
    this.#stored = result.stored;
    this.#disputed = result.disputed;
  }

  #total: Tally = NOTHING;
  #done = { items: 0, bytes: 0, failed: 0 };

  async #emit(event: RunEvent): Promise<void> {
    if (event.type === "item-started") this.#active.set(event.item, event.address);
    if (event.type === "item-stored" || event.type === "item-failed") this.#active.delete(event.item);
    if (event.type === "item-stored") {
      this.#done.items += 1;
      this.#done.bytes += event.bytes;
    }
    if (event.type === "item-failed") {
      this.#done.failed += 1;
      this.#failed += 1;
      const { type: _, ...failure } = event;
      if (this.#failures.length < SHOWN_FAILURES) this.#failures.push(failure);
      this.#exits.add(new RunError(event.code, "").exit);
    }
    await this.#channel.push(event);
  }

  async #fail(item: Item, error: RunError): Promise<void> {
    const { code, message, hint } = error;
    await this.#emit({ type: "item-failed", item: item.id, address: item.address, code, message, hint });
  }

  #tick(): void {
    if (this.#total.items === 0) return;
    const progress = {
      doneItems: this.#done.items,
      failedItems: this.#done.failed,
      totalItems: this.#total.items,
      doneBytes: this.#meter.writtenBytes,
      totalBytes: this.#total.bytes,
      receivedBytes: this.#meter.receivedBytes,
      ...this.#meter.sample(this.#total.bytes),
    };
    this.#handle?.update({ progress });
    void this.#channel.push({
      type: "progress",
      ...progress,
      active: [...this.#active.values()].slice(0, 8),
    });
  }

  #summary(error: RunError | null): RunSummary {
    const proved = this.#stored.items + this.#here.items;
    return {
      run: this.#id,
      dir: this.#dir,
      exit: exitOf(error, proved, this.#failed, this.#exits),
      stored: this.#stored,
      here: this.#here,
      failed: this.#failed,
      withdrawn: this.#withdrawn,
      disputed: this.#disputed,
      receivedBytes: this.#meter.receivedBytes,
      tookMs: Math.round(this.#context.clock.monotonicMs() - this.#startedMs),
      failures: this.#failures,
      citations: sortCitations(this.#citations),
      error: error ? { code: error.code, message: error.message, hint: error.hint } : null,
    };
  }

  async #derivedAreThere(state: StateFolder): Promise<boolean> {
    const names = await readNames(state.path());
    if (!["CITATION.txt", "listing.tsv", "companions.json"].every((name) => names.includes(name)))
      return false;
    const { lstat } = await import("node:fs/promises");
    for (const path of await readCompanions(state)) {
      if (!(await lstat(join(this.#dir, path)).catch(() => null))) return false;
    }
    return true;
  }

  /** Unfinished data of runs that are dead. */
  async #removeDeadPartials(state: StateFolder): Promise<void> {
    const live = new Set(
      (await readRuns(state))
        .filter((run) => run.exit === null && livesHere(run) !== false)
        .map((run) => run.run),
    );
    for (const name of await readNames(state.path("partial"))) {
      if (!live.has(name)) await rm(state.path("partial", name), { recursive: true, force: true });
    }
    if (this.#options.scratch)
      await removeLeftovers(join(resolve(this.#options.scratch), this.#scratchName()));
  }

  /** One folder's unfinished data in a scratch folder that others share. */
  #scratchName(): string {
    return `gantry-${createHash("sha256").update(`${hostname()}\u0000${this.#dir}`).digest("hex").slice(0, 16)}`;
  }
}

/** Exit status as in docs/exit-codes.md. */
export function exitOf(
  error: RunError | null,
  proved: number,
  failed: number,
  exits: ReadonlySet<number>,
): number {
  if (error) return error.exit;
  if (failed === 0) return 0;
  if (proved > 0 || exits.size !== 1) return 3;
  return [...exits][0] as number;
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

async function nearestFolder(path: string): Promise<string> {
  const { stat } = await import("node:fs/promises");
  for (let at = path; ; at = join(at, "..")) {
    if (await stat(at).catch(() => null)) return at;
    if (at === join(at, "..")) return tmpdir();
  }
}

async function* nothing(): AsyncGenerator<never> {}
