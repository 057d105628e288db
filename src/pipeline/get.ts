/**
 * The one composer of a download: ask → selection → plan → transfer → receipts → derived files. Everything that a
 * run does to a folder is begun here.
 */
import { basename, join } from "node:path";
import { Published } from "../checksums/published.ts";
import { RunError } from "../errors.ts";
import { toDiskError } from "../lib/durable-file.ts";
import { safeSegment } from "../model/safe-path.ts";
import { describeRequest } from "../model/selection.ts";
import { readAsking } from "../state/asking.ts";
import { hasPendingDrops } from "../state/dropped.ts";
import { loadLinks } from "../state/private-links.ts";
import { readLiveRuns } from "../state/runs.ts";
import {
  currentSelections,
  proveSelections,
  readSelections,
  type SelectionFile,
  saveSelection,
} from "../state/selections.ts";
import {
  beginStateFolder,
  changeFacts,
  checkFacts,
  type FolderFacts,
  openStateFolder,
  readNames,
  type StateFolder,
} from "../state/state-folder.ts";
import { divide, work } from "./array-run.ts";
import type { Ask } from "./asks.ts";
import { EventChannel } from "./channel.ts";
import { finishDrops } from "./drop.ts";
import type { RunEvent, RunSummary } from "./events.ts";
import { type Asked, FolderAsks } from "./folder-asks.ts";
import { FolderRun, type Opened } from "./folder-run.ts";
import { layoutOf } from "./layout.ts";
import type { GetOptions, RunEnvironment } from "./run-options.ts";
import { checkWishes } from "./run-plan.ts";
import { listWithdrawn } from "./withdrawn.ts";

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
  readonly #run: FolderRun;
  readonly #folderAsks: FolderAsks;

  constructor(
    words: readonly string[],
    options: GetOptions,
    environment: RunEnvironment,
    channel: EventChannel<RunEvent>,
  ) {
    this.#words = words;
    this.#options = options;
    this.#environment = environment;
    const run = new FolderRun(options, environment, channel);
    this.#run = run;
    const { filters, replace = false, skipBad = false, array } = options;
    const { source, links, archives, fetchSelection, stdin } = environment;
    this.#folderAsks = new FolderAsks({
      dir: run.dir,
      run: run.report.run,
      ...{ words, filters, replace, skipBad },
      known: array?.part === "plan" && array.known === true,
      context: {
        ...{ source, links, archives, fetchSelection, stdin },
        context: run.sourceContext(),
        select: {
          complete: true,
          folder: run.temporary.folder,
          onFound: (items) => void run.report.emit({ type: "listing", items }),
        },
        warn: (sentence) => run.report.warn(sentence),
      },
      states: (state) => run.states(state),
    });
  }

  async run(): Promise<RunSummary> {
    const run = this.#run;
    let error: RunError | null = null;
    try {
      const { array, checksums, dryRun } = this.#options;
      if (checksums !== undefined) run.published = await Published.read(checksums);
      if (dryRun) await this.#dryRun();
      else if (array && array.part !== "plan") await work(run, array);
      else await this.#download();
    } catch (caught) {
      const { signal } = run.context;
      const reason: unknown = signal.aborted ? signal.reason : ((await toDiskError(caught)) ?? caught);
      if (!(reason instanceof RunError)) throw caught;
      error = reason;
    } finally {
      await run.temporary.remove();
    }
    return run.end(error);
  }

  /** The plan of a dry run, told and thrown away. Nothing is written in the target folder. */
  async #dryRun(): Promise<void> {
    const run = this.#run;
    const state = await this.#openKnown();
    const typed = await this.#folderAsks.readTyped();
    const layout = await this.#layoutName(typed, state);
    const { asks, settled } = await this.#asks(typed, state);
    const selections: SelectionFile[] = [...settled];
    for (const [index, { ask }] of asks.entries()) {
      const path = join(await run.temporary.folder(), `selection-${index}.jsonl`);
      const header = await saveSelection(
        path,
        ask.request,
        this.#folderAsks.items(ask, typed !== null, state),
      );
      selections.push({ digest: "", path, header });
    }
    if (state && (await hasPendingDrops(state)))
      run.report.warn("a drop in this folder was cut before its end; the next get finishes it");
    if (typed && selections.every((selection) => selection.header.items === 0)) {
      throw new RunError("no-match", "nothing in the archive matches");
    }
    const store = state ? await this.#environment.store(state) : null;
    const plan = await run.plan({ state, layout, store, receipts: null }, selections);
    run.report.here = { ...plan.here };
    if (this.#options.withReferences)
      run.report.warn("what data name of other data is known only when they are here, and is not counted");
    run.report.promisedItems = plan.todo;
    await plan.close();
  }

  async #download(): Promise<void> {
    const existing = await this.#openKnown();
    // Names are resolved before the folder is touched: a misspelt word leaves nothing behind.
    const typed = await this.#folderAsks.readTyped();
    const layout = await this.#layoutName(typed, existing);
    const archive = this.#options.pack === undefined ? {} : { archive: this.#archiveName(typed) };
    const wanted = this.#wantedFacts();
    if (existing && (await isUndecided(existing))) await changeFacts(existing, { ...wanted, ...archive });
    const state = await beginStateFolder(this.#run.dir, wanted, { layout, sink: "folder", ...archive });
    const opened = await this.#run.begin(state, layout);
    const { store, unfinished, receipts } = opened;
    let whole = false;
    try {
      if (await store.isUnsettled()) await this.#run.settle(opened, { publish: false });
      await this.#finishDrops(opened);
      await this.#fill(opened, typed);
      // A plan is only the beginning: its tasks go on with what is here.
      whole = this.#run.report.failedItems === 0 && this.#options.array === undefined;
    } finally {
      await receipts.close();
      await unfinished.remove({ whole });
    }
  }

  async #fill(opened: Opened, typed: Ask | null): Promise<void> {
    const run = this.#run;
    const { state, handle } = opened;
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
      for await (const item of listWithdrawn(gone, now, run.states(state))) await run.report.withdrawn(item);
    }
    const known = new Set(before.map((selection) => selection.digest));
    const news = selections.some((selection) => !known.has(selection.digest));
    const { array } = this.#options;
    if (array?.part === "plan") return divide(run, opened, selections, array);
    run.report.here = { ...(await run.fetch(opened, selections)).here };
    await run.complete(opened, selections, { news });
  }

  async #finishDrops({ state, unfinished }: Opened): Promise<void> {
    const { source, store } = this.#environment;
    const { run } = this.#run.report;
    try {
      const temporary = this.#run.temporary.folder;
      await finishDrops(state, {
        context: this.#run.context,
        source,
        store,
        run,
        temporary,
        forget: () => unfinished.forget(),
      });
    } catch (error) {
      if (this.#run.context.signal.aborted || !(error instanceof RunError)) throw error;
      this.#run.report.warn(`what was dropped is not all deleted: ${error.message}; ${error.hint}`);
    }
  }

  async #openKnown(): Promise<StateFolder | null> {
    const state = await openStateFolder(this.#run.dir);
    if (state) await loadLinks(state, this.#environment.links);
    const selections = state ? await readSelections(state) : [];
    await proveSelections(selections, this.#run.context.signal);
    const asked = selections.length + (state ? (await readAsking(state)).length : 0);
    if (this.#words.length === 0 && asked === 0) {
      throw new RunError("folder-unknown", `nothing was ever asked for in ${this.#run.dir}`, {
        hint: "name what to get, for example: gantry get tcia:COLLECTION -o DIR",
      });
    }
    if (state && !(await isUndecided(state))) checkFacts(state, this.#wantedFacts());
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
    return safeSegment(name === "" || name === "-" ? basename(this.#run.dir) : name);
  }

  /** See `FolderAsks.wanted`; the run begins by telling it. */
  async #asks(
    typed: Ask | null,
    state: StateFolder | null,
  ): Promise<{ readonly asks: readonly Asked[]; readonly settled: readonly SelectionFile[] }> {
    const wanted = await this.#folderAsks.wanted(typed, state);
    const { run, dir } = this.#run.report;
    const requests = wanted.asks.map(({ ask }) => describeRequest(ask.request));
    await this.#run.report.emit({ type: "run-started", run, dir, requests });
    return wanted;
  }

  /** The layout that was asked for, else the folder's, else the archive's own. Throws `usage` for an unknown one. */
  async #layoutName(typed: Ask | null, existing: StateFolder | null): Promise<string> {
    const archive =
      typed?.request.kind === "paths" ? typed.request.archive : this.#environment.archives.fallback;
    const source = await this.#environment.source(archive);
    if (typed?.request.kind === "paths") checkWishes(this.#run, [source]);
    const { capabilities } = source;
    const { layout } = this.#options;
    if (layout === undefined) return existing?.facts?.layout ?? capabilities.defaultLayout;
    layoutOf(layout, capabilities);
    return layout;
  }
}

/** Whether nothing is stored yet, and nobody is about to: then a get was refused or came to nothing, and fixed nothing. */
async function isUndecided(state: StateFolder): Promise<boolean> {
  return (await readNames(state.path("receipts"))).length === 0 && (await readLiveRuns(state)).size === 0;
}
