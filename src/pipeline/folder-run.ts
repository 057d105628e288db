/** A run on a folder: what it has open, and the steps that every kind of run is composed of. */
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Published } from "../checksums/published.ts";
import type { RunError } from "../errors.ts";
import type { Context } from "../lib/context.ts";
import { RetryLoop } from "../lib/retry.ts";
import type { Item } from "../model/item.ts";
import type { Store } from "../sinks/sink.ts";
import type { ForeignFiles, Source, SourceContext } from "../sources/source.ts";
import { ReceiptWriter, readItemStates } from "../state/receipts.ts";
import { beginRun, newRunId, type RunHandle, readLives } from "../state/runs.ts";
import { type SelectionFile, writeSelection } from "../state/selections.ts";
import { type StateFolder, temporaryFolder } from "../state/state-folder.ts";
import { openUnfinished, type Unfinished } from "../state/unfinished.ts";
import type { EventChannel } from "./channel.ts";
import type { Announced, RunEvent, RunSummary, Tally } from "./events.ts";
import { derivedAreThere, noteExtras, readHeld, writeDerived } from "./held.ts";
import type { Task } from "./plan.ts";
import type { Plan } from "./planning.ts";
import { moveToQuarantine, pruneFolders } from "./prune.ts";
import { selectReferences } from "./references.ts";
import { RunReport } from "./report.ts";
import type { GetOptions, RunEnvironment } from "./run-options.ts";
import { planRun } from "./run-plan.ts";
import { transfer } from "./transfer.ts";

/** What is planned for: a folder that was begun, or the one that a dry run only imagines. */
export interface Ground {
  readonly state: StateFolder | null;
  readonly layout: string;
  /** Null: nothing is stored in the folder yet, and nothing will be. */
  readonly store: Store | null;
  /** Null: nothing is written. */
  readonly receipts: ReceiptWriter | null;
}

/** What a run that writes has open. */
export interface Opened extends Ground {
  readonly state: StateFolder;
  readonly store: Store;
  readonly receipts: ReceiptWriter;
  readonly handle: RunHandle;
  readonly unfinished: Unfinished;
}

/** What is to be fetched: a whole plan, or a share of one that other processes work on, too. */
export interface Work {
  readonly tasks: AsyncIterable<Task>;
  /** May grow. */
  readonly total: Tally & Partial<Announced>;
  readonly holds?: (item: Item) => Promise<boolean>;
  /** Runs that had an item before, and may have left something of it. */
  readonly before?: (item: Item) => readonly string[];
  readonly onEvent?: (event: RunEvent) => Promise<void>;
}

export class FolderRun {
  readonly options: GetOptions;
  readonly environment: RunEnvironment;
  /** Absolute path of the target folder. */
  readonly dir: string;
  readonly context: Context;
  readonly report: RunReport;
  /** For what sorting spills: the system's place until the folder's own is open. */
  readonly temporary = temporaryFolder(() => this.#opened?.unfinished.partial ?? tmpdir());
  /** The list that `--checksums` names. */
  published: Published | null = null;
  readonly #stopping = new AbortController();
  readonly #retry: RetryLoop;
  #opened: Opened | null = null;
  #handle: RunHandle | null = null;
  /** Of the archives that the plan is for. */
  #foreign: readonly ForeignFiles[] = [];
  #sources: readonly Source[] = [];

  constructor(options: GetOptions, environment: RunEnvironment, channel: EventChannel<RunEvent>) {
    const { context } = environment;
    this.options = options;
    this.environment = environment;
    this.dir = resolve(options.dir);
    this.report = new RunReport(newRunId(context.clock), this.dir, context.clock, channel);
    this.context = {
      ...context,
      signal: AbortSignal.any([context.signal, this.#stopping.signal]),
      // What a source warns of is for people, too; each sentence once.
      log: (level, message, details) =>
        level === "warn" ? this.report.warn(message) : context.log(level, message, details),
    };
    this.#retry = new RetryLoop(environment.retry, this.context);
    environment.onReceived((bytes) => {
      this.report.meter.receivedBytes += bytes;
    });
  }

  sourceContext(): SourceContext {
    return { ...this.context, retry: this.#retry, temporary: this.temporary.folder };
  }

  /**
   * Begins to write in the folder. A `member` of an array shares it with the others. Throws `folder-busy`, `disk-…`.
   */
  async begin(
    state: StateFolder,
    layout: string,
    member?: { readonly array: string; readonly task: number },
  ): Promise<Opened> {
    const { detached = false, scratch } = this.options;
    const { run } = this.report;
    const store = await this.environment.store(state);
    const handle = await beginRun(state, {
      ...{ run, detached, scratch: scratch === undefined ? undefined : resolve(scratch) },
      clock: this.context.clock,
      ...(member ? { member } : {}),
      warn: (sentence) => this.report.warn(sentence),
      signal: this.context.signal,
    });
    this.#handle = handle;
    handle.stopSignal.addEventListener("abort", () => this.#stopping.abort(handle.stopSignal.reason));
    const unfinished = await openUnfinished(state, run, { scratch });
    this.#opened = { state, layout, store, handle, unfinished, receipts: new ReceiptWriter(state, run) };
    return this.#opened;
  }

  /** Ends what `begin` began, whether it came far or not, and tells the end. */
  async end(error: RunError | null): Promise<RunSummary> {
    const summary = this.report.summary(error);
    await this.#handle?.finish(summary.exit);
    await this.report.emit({ type: "run-finished", ...summary });
    return summary;
  }

  /** What receipts say, sorted by item id; read anew at each call. */
  states(state: StateFolder | null) {
    const options = {
      folder: this.temporary.folder,
      onBad: (sentence: string) => this.report.warn(sentence),
    };
    return () => (state ? readItemStates(state, options) : nothing());
  }

  /** What is to be done, told; of a run that writes also what of it is known to be impossible, as `disk-…`. */
  async plan(ground: Ground, selections: readonly SelectionFile[]): Promise<Plan> {
    const { plan, sources, foreign } = await planRun(this, ground, selections);
    this.#sources = sources;
    this.#foreign = foreign;
    return plan;
  }

  /** Plans and transfers. */
  async fetch(opened: Opened, selections: readonly SelectionFile[]): Promise<Plan> {
    const plan = await this.plan(opened, selections);
    try {
      if (plan.todo > 0) {
        const total = { ...plan.fetch, items: plan.todo + this.report.doneItems };
        await this.transfer({ tasks: plan.tasks(), total }, opened);
      }
    } finally {
      await plan.close();
    }
    this.context.signal.throwIfAborted();
    return plan;
  }

  async transfer(work: Work, { state, store, receipts, handle, unfinished }: Opened): Promise<void> {
    const { partial, scratch, resumable, leftovers } = unfinished;
    const sink = await store.sink({
      run: this.report.run,
      partial: join(partial, "items"),
      scratch: scratch ? join(scratch, "items") : null,
      quarantine: state.path("quarantine", this.report.run),
      shardBytes: this.options.shardBytes ?? null,
      shardDigits: this.options.shardDigits,
    });
    handle.update({ state: "transferring" });
    const { clock } = this.context;
    const [beganMs, before] = [clock.monotonicMs(), this.report.meter.writtenBytes];
    const endProgress = this.report.startProgress(work.total, (progress) => handle.update({ progress }));
    const { holds } = work;
    try {
      await transfer({
        dir: this.dir,
        tasks: work.tasks,
        source: this.environment.source,
        sink,
        published: this.published,
        append: async (body) => {
          await handle.refuseGivenUp();
          return receipts.append(body);
        },
        jobs: this.options.jobs ?? this.environment.jobs,
        scratch: resumable,
        takeOver: (item, onBytes) =>
          leftovers.takeOver(item, work.before?.(item) ?? [], { signal: this.context.signal, onBytes }),
        context: this.sourceContext(),
        emit: async (event) => {
          await this.report.emit(event);
          await work.onEvent?.(event);
        },
        warn: (sentence) => this.report.warn(sentence),
        onWritten: (bytes) => {
          this.report.meter.writtenBytes += bytes;
        },
        ...(holds ? { holds } : {}),
        onPromised: (bytes) => {
          this.report.promisedBytes += bytes;
        },
      });
    } finally {
      endProgress();
      const seconds = (clock.monotonicMs() - beganMs) / 1000;
      // A share of a plan tells nothing of how long a whole one takes.
      if (!holds) handle.update({ transferred: { bytes: this.report.meter.writtenBytes - before, seconds } });
      await sink.close();
    }
  }

  async settle({ state, store }: Opened, { publish }: { readonly publish: boolean }): Promise<void> {
    await store.settle({
      run: this.report.run,
      states: this.states(state),
      life: await readLives(state),
      publish,
      temporary: this.temporary.folder,
    });
  }

  /**
   * What follows when all that could be had is here: what data name of other data if asked, pruning if asked, and the
   * files that are derived from receipts, if they may have changed.
   */
  async complete(
    opened: Opened,
    selections: readonly SelectionFile[],
    { news }: { readonly news: boolean },
  ): Promise<void> {
    const { state, store, handle } = opened;
    const named = this.options.withReferences ? await this.#selectReferences(opened) : [];
    if (named.length > 0) await this.fetch(opened, named);
    handle.update({ state: "finishing" });
    await this.#tellReferences(opened);
    if (this.report.changedFiles || (await store.isUnsettled())) await this.settle(opened, { publish: true });
    const temporary = this.temporary.folder;
    const quarantine = state.path("quarantine", this.report.run);
    if (this.options.prune) {
      await pruneFolders(state, [...selections, ...named], {
        quarantine,
        temporary,
        foreign: this.#foreign,
        onPruned: (path) =>
          this.report.emit({ type: "quarantined", path, why: "no selection of this folder knows it" }),
      });
    }
    // Another answer of the archive may have other labels, which metadata.csv and the citations show.
    const extras = await noteExtras(state, this.options.extras ?? []);
    const stale = this.report.changedFiles || news || named.length > 0 || extras;
    if (stale || !(await derivedAreThere(state))) {
      const setAside = async (path: string): Promise<void> => {
        await moveToQuarantine(this.dir, path, quarantine);
        await this.report.emit({
          type: "quarantined",
          path,
          why: "another tool wrote it, and ours goes there",
        });
      };
      await writeDerived({ state, store, temporary, source: this.environment.source, setAside });
    }
  }

  /** Of each archive, what its data here name of data that are not, as selections of the folder. */
  async #selectReferences(opened: Opened): Promise<readonly SelectionFile[]> {
    const selections: SelectionFile[] = [];
    for (const { archive, references } of this.#sources) {
      if (!references) continue;
      const named = await selectReferences(references, () => this.#heldOf(opened, archive), {
        context: this.sourceContext(),
        write: (request, items) => writeSelection(opened.state, request, items, { replaceAll: false }),
      });
      if (named) selections.push(named);
    }
    return selections;
  }

  async #tellReferences(opened: Opened): Promise<void> {
    for (const { archive, references } of this.#sources) {
      for await (const { by, path, address } of references?.dangling(() => this.#heldOf(opened, archive)) ??
        [])
        await this.report.emit({ type: "reference-missing", path: by, names: path, address });
    }
  }

  async *#heldOf({ state, store }: Opened, archive: string) {
    const temporary = this.temporary.folder;
    for await (const held of readHeld({ state, store, temporary, source: this.environment.source }))
      if (held.item.archive === archive) yield held;
  }
}

async function* nothing(): AsyncGenerator<never> {}
