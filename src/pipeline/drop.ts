/**
 * `drop`: removes data from a folder and remembers that they are never to come back.
 *
 * Remembered first, then deleted: the record of the drop is durable, then the receipts, then files go. Whatever ends
 * that early, the next drop or get in the folder finishes it (`finishDrops`). Needs no network: what is dropped is
 * found by the labels that the folder's own selections hold.
 */
import { lstat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { RunError } from "../errors.ts";
import type { Context } from "../lib/context.ts";
import { digestAlgorithm, hashFile } from "../lib/digest.ts";
import { compareKeys, ExternalSort, groupSorted, mergeSorted } from "../lib/external-sort.ts";
import type { Item } from "../model/item.ts";
import type { Filters } from "../model/query.ts";
import { buildRemoved, diskPaths, type ItemState, type Receipt } from "../model/receipt.ts";
import { lineItemId, parseItem } from "../model/selection.ts";
import type { OpenStore } from "../sinks/sink.ts";
import type { ForeignFiles, Source } from "../sources/source.ts";
import {
  type Branch,
  type DroppedItem,
  hasPendingDrops,
  readDropRules,
  readPendingItems,
  settleDrops,
  writeDrop,
} from "../state/dropped.ts";
import { ReceiptWriter, readItemHistories } from "../state/receipts.ts";
import { beginRun, newRunId, type RunHandle, readLives } from "../state/runs.ts";
import { proveSelections, readItemLines, readSelections } from "../state/selections.ts";
import { openStateFolder, type StateFolder, temporaryFolder } from "../state/state-folder.ts";
import { openUnfinished } from "../state/unfinished.ts";
import { Deleter } from "./deleter.ts";
import { DropSelector } from "./drop-selector.ts";
import type { Tally } from "./events.ts";
import { lookAt } from "./foreign.ts";
import { readCompanions, readStates, writeDerived } from "./held.ts";
import { walkFiles } from "./strays.ts";

/** Three sorts are held at once (paths, digests, receipts), and receipts are read several times: less for each of them. */
const SORT_BYTES = 8 * 1024 * 1024;

export interface DropOptions {
  readonly dir: string;
  readonly filters: Filters;
  /** Only find what would go. */
  readonly dryRun?: boolean;
  /** Asked before anything is written. False: nothing happens. Default: yes. */
  readonly confirm?: (found: DropFound) => Promise<boolean>;
  /** Told what is worth knowing and no failure, e.g. that another host's run is waited for. */
  readonly warn?: (sentence: string) => void;
}

export interface DropFound {
  readonly dir: string;
  /** What goes: items that match and were not dropped before; files and bytes as receipts have them. */
  readonly going: Tally;
  /** Of these items, those that were asked for but never fetched. */
  readonly neverFetched: number;
  /** Items that match and were dropped before. */
  readonly before: number;
  /** Parts of the tree that are remembered whole: what the archive adds to them later stays away, too. */
  readonly branches: readonly Branch[];
}

export interface DropSummary extends DropFound {
  /** False: a dry run, or not confirmed. */
  readonly done: boolean;
  /** Files deleted, copies in quarantine and beside the data included. */
  readonly deletedFiles: number;
}

export interface DropEnvironment {
  readonly context: Context;
  readonly source: (archive: string) => Promise<Source>;
  readonly store: OpenStore;
}

/** Throws `folder-unknown`, `folder-busy`, `no-match`, `usage`, `unsupported-filter`, `disk-…`. */
export async function drop(
  words: readonly string[],
  options: DropOptions,
  environment: DropEnvironment,
): Promise<DropSummary> {
  const dir = resolve(options.dir);
  const selector = DropSelector.parse(words, options.filters, environment.source);
  const state = await openStateFolder(dir);
  if (!state) throw new RunError("folder-unknown", `${dir} holds no state of gantry`);
  const temporary = temporaryFolder();
  try {
    if (options.dryRun) {
      const found = await find(state, selector, environment.context, temporary.folder);
      await found.matched.close();
      return { ...found.found, done: false, deletedFiles: 0 };
    }
    return await dropNow(state, selector, options, environment, temporary.folder);
  } finally {
    await temporary.remove();
  }
}

async function dropNow(
  state: StateFolder,
  selector: DropSelector,
  options: DropOptions,
  environment: DropEnvironment,
  temporary: () => Promise<string>,
): Promise<DropSummary> {
  const { context } = environment;
  const run = newRunId(context.clock);
  const handle = await beginRun(state, {
    run,
    clock: context.clock,
    detached: false,
    warn: options.warn ?? ((sentence) => context.log("warn", sentence)),
    signal: context.signal,
  });
  let exit = 0;
  try {
    return await dropIn(handle, state, selector, options, environment, temporary);
  } catch (error) {
    exit = error instanceof RunError ? error.exit : 1;
    throw error;
  } finally {
    await handle.finish(exit);
  }
}

async function dropIn(
  { run }: RunHandle,
  state: StateFolder,
  selector: DropSelector,
  options: DropOptions,
  environment: DropEnvironment,
  temporary: () => Promise<string>,
): Promise<DropSummary> {
  const { context } = environment;
  const { found, matched } = await find(state, selector, context, temporary);
  try {
    const rules = await readDropRules(state);
    const news = found.going.items > 0 || found.branches.some((branch) => !rules.has(branch));
    if (news && options.confirm && !(await options.confirm(found)))
      return { ...found, done: false, deletedFiles: 0 };
    context.signal.throwIfAborted();
    // What dead runs left unfinished may be of the subject.
    const unfinished = await openUnfinished(state, run);
    try {
      if (news) {
        async function* items(): AsyncGenerator<DroppedItem> {
          for await (const line of matched.sorted()) yield JSON.parse(line) as DroppedItem;
        }
        await writeDrop(state, run, { branches: found.branches, items: items() });
      }
      const deletedFiles = await finishDrops(state, {
        ...environment,
        run,
        temporary,
        forget: () => unfinished.forget(),
      });
      return { ...found, done: true, deletedFiles };
    } finally {
      await unfinished.remove({ whole: true });
    }
  } finally {
    await matched.close();
  }
}

async function find(
  state: StateFolder,
  selector: DropSelector,
  context: Context,
  temporary: () => Promise<string>,
): Promise<{ readonly found: DropFound; readonly matched: ExternalSort }> {
  const going = { items: 0, files: 0, bytes: 0 };
  let neverFetched = 0;
  let before = 0;
  const branches = new Map<string, Branch>();
  const matched = new ExternalSort({ folder: temporary, unique: true, memoryBytes: SORT_BYTES });
  try {
    // An altered label could hide what is meant.
    await proveSelections(await readSelections(state), context.signal);
    for await (const { versions, state: found } of readKnown(state, temporary)) {
      context.signal.throwIfAborted();
      const matches = await selector.match(versions);
      if (matches.length === 0) continue;
      for (const { branch } of matches) if (branch) branches.set(JSON.stringify(branch), branch);
      if (found?.current.type === "removed") {
        before += 1;
        continue;
      }
      going.items += 1;
      if (!found) neverFetched += 1;
      for (const file of found?.current.files ?? []) {
        going.files += 1;
        going.bytes += file.bytes;
      }
      const [{ id, archive }] = versions as readonly [Item];
      await matched.push(id, JSON.stringify({ item: id, archive } satisfies DroppedItem));
    }
    if (going.items + before === 0) throw selector.noMatch(state.dir);
    const found = { dir: state.dir, going, neverFetched, before, branches: [...branches.values()] };
    return { found, matched };
  } catch (error) {
    await matched.close();
    throw error;
  }
}

/** Every item that a selection or a receipt names, sorted by id, with all labels that were ever listed for it. */
async function* readKnown(
  state: StateFolder,
  temporary: () => Promise<string>,
): AsyncGenerator<{ readonly versions: readonly Item[]; readonly state: ItemState | null }> {
  const selections = await readSelections(state);
  const lines = mergeSorted(
    selections.map(({ path }) => readItemLines(path)),
    (a, b) => compareKeys(lineItemId(a), lineItemId(b)),
  );
  const states = histories(state, temporary);
  try {
    let next = await states.next();
    for await (const group of groupSorted(lines, lineItemId)) {
      for (
        ;
        !next.done && compareKeys(next.value.state.current.item, group.key) < 0;
        next = await states.next()
      )
        yield unlisted(next.value.state);
      const found = !next.done && next.value.state.current.item === group.key ? next.value.state : null;
      if (found) next = await states.next();
      yield { versions: [...new Set(group.items)].map(parseItem), state: found };
    }
    for (; !next.done; next = await states.next()) yield unlisted(next.value.state);
  } finally {
    await states.return(undefined);
  }
}

/** An item that only receipts know: what its data told has to do for labels. */
function unlisted(state: ItemState): { versions: readonly Item[]; state: ItemState } {
  const { item: id, archive, revision, facts: labels } = state.current;
  return { versions: [{ id, archive, revision, address: id, bytes: null, files: null, labels }], state };
}

function histories(state: StateFolder, folder: () => Promise<string>): ReturnType<typeof readItemHistories> {
  return readItemHistories(state, { folder, onBad: () => undefined, memoryBytes: SORT_BYTES });
}

export interface FinishOptions extends DropEnvironment {
  readonly run: string;
  readonly temporary: () => Promise<string>;
  /** Removes unfinished data that wait to be resumed (`Unfinished.forget`). */
  readonly forget: () => Promise<void>;
}

/**
 * Does what remembered drops still want: receipts, deletion, the derived files without them. Nothing when nothing is
 * pending. Resolves to the number of files deleted. Can be repeated after any crash. Throws `disk-…`.
 */
export async function finishDrops(state: StateFolder, options: FinishOptions): Promise<number> {
  if (!(await hasPendingDrops(state))) return 0;
  const receipts = new ReceiptWriter(state, options.run);
  try {
    await writeRemoved(state, receipts, options);
  } finally {
    await receipts.close();
  }
  await options.forget();
  const store = await options.store(state);
  await store.settle({
    run: options.run,
    states: () => readStates(state, options.temporary),
    life: await readLives(state),
    publish: false,
    temporary: options.temporary,
  });
  const deleted = await deletePending(state, options);
  const { source, temporary } = options;
  await writeDerived({ state, store, temporary, source, removeOld: true });
  await settleDrops(state);
  return deleted;
}

async function writeRemoved(
  state: StateFolder,
  receipts: ReceiptWriter,
  { context, temporary }: FinishOptions,
): Promise<void> {
  let batch: Promise<unknown>[] = [];
  for await (const { dropped, state: found } of joinPending(state, temporary)) {
    if (found?.current.type === "removed") continue;
    const body = { ...dropped, revision: found?.current.revision ?? "" };
    batch.push(receipts.append(buildRemoved(body, found?.heads ?? [], context.clock.now())));
    // Appends that wait together share a sync.
    if (batch.length >= 256) {
      await Promise.all(batch);
      batch = [];
    }
  }
  await Promise.all(batch);
}

async function* joinPending(
  state: StateFolder,
  temporary: () => Promise<string>,
): AsyncGenerator<{
  readonly dropped: DroppedItem;
  readonly state: ItemState | null;
  readonly lines: readonly Receipt[];
}> {
  const states = histories(state, temporary);
  try {
    let next = await states.next();
    for await (const dropped of readPendingItems(state)) {
      while (!next.done && compareKeys(next.value.state.current.item, dropped.item) < 0)
        next = await states.next();
      const found = !next.done && next.value.state.current.item === dropped.item ? next.value : null;
      yield { dropped, state: found?.state ?? null, lines: found?.lines ?? [] };
    }
  } finally {
    await states.return(undefined);
  }
}

/** What stands at a path: `k` a file that stays, `r` one that was dropped, `d` a file on disk, `q` one in quarantine. */
type Mark = readonly ["k" | "r" | "d"] | readonly ["q", where: string];

/**
 * Deletes every file that a receipt of a pending item ever named, changed since or not, and every other file of the
 * folder and of its quarantine that no receipt names and that holds the same bytes. What other items hold stays.
 */
async function deletePending(
  state: StateFolder,
  { context, temporary, source }: FinishOptions,
): Promise<number> {
  const paths = new ExternalSort({ folder: temporary, memoryBytes: SORT_BYTES });
  const claims = new ExternalSort({ folder: temporary, memoryBytes: SORT_BYTES });
  const digests = new ExternalSort({ folder: temporary, memoryBytes: SORT_BYTES });
  const quarantine = state.path("quarantine");
  const mark = (path: string, ...mark: Mark): Promise<void> => paths.push(path, JSON.stringify([path, mark]));
  try {
    const archives = new Set<string>();
    const sizes = new Set<number>();
    const algorithms = new Set<ReturnType<typeof digestAlgorithm>>();
    for await (const { dropped, lines } of joinPending(state, temporary)) {
      archives.add(dropped.archive);
      await claims.push(dropped.item, JSON.stringify([dropped.item, "r"]));
      for (const { files } of lines) {
        for (const { path, bytes, digest } of files) {
          await mark(path, "r");
          if (bytes === 0) continue;
          sizes.add(bytes);
          algorithms.add(digestAlgorithm(digest));
          await digests.push(digest, JSON.stringify([digest, "r"]));
        }
      }
    }
    if (archives.size === 0) return 0;
    const kinds = await foreignKinds(archives, source);
    for (const path of await readCompanions(state)) await mark(path, "k");
    for await (const { state: found } of histories(state, temporary)) {
      if (found.current.type === "removed") continue;
      for (const path of diskPaths(found.current.files)) await mark(path, "k");
    }
    for await (const path of walkFiles(state.dir)) await mark(path, "d");
    if (await lstat(quarantine).catch(() => null)) {
      for await (const path of walkFiles(quarantine)) {
        const own = path.slice(path.indexOf("/") + 1);
        await mark(own.replace(/~[0-9a-f]{8}$/u, ""), "q", path);
      }
    }
    const inPlace = new Deleter(state.dir);
    const quarantined = new Deleter(quarantine);
    let deleted = 0;
    let failure: RunError | null = null;
    const remove = async (path: string, where: string | null): Promise<void> => {
      try {
        if (await (where === null ? inPlace.delete(path) : quarantined.delete(where))) deleted += 1;
      } catch (error) {
        // The rest goes first.
        if (!(error instanceof RunError)) throw error;
        failure ??= error;
      }
    };
    /**
     * A file that nobody named, e.g. of a run that was killed before its receipt: it goes when it holds the bytes of
     * one that goes, or says itself that it is of an item that goes.
     */
    const judge = async (path: string, where: string | null): Promise<void> => {
      const full = where === null ? join(state.dir, path) : join(quarantine, where);
      const facts = await lstat(full).catch(() => null);
      if (!facts?.isFile()) return;
      try {
        for (const { item } of (await lookAt(full, path, kinds))?.claims ?? [])
          await claims.push(item, JSON.stringify([item, "d", path, where]));
      } catch (error) {
        // One that can't be read may be theirs: the drop is not at its end.
        if (!(error instanceof RunError)) throw error;
        failure ??= error;
      }
      if (!sizes.has(facts.size)) return;
      for (const algorithm of algorithms) {
        const digest = await hashFile(full, algorithm, context.signal);
        await digests.push(digest, JSON.stringify([digest, "d", path, where]));
      }
    };
    const pathOf = (line: string): string => (JSON.parse(line) as [string])[0];
    for await (const { key: path, items } of groupSorted(paths.sorted(), pathOf)) {
      context.signal.throwIfAborted();
      const marks = items.map((line) => (JSON.parse(line) as [string, Mark])[1]);
      const has = (kind: Mark[0]): boolean => marks.some(([each]) => each === kind);
      const gone = has("r") && !has("k");
      // Also when no walk found it: it may be a link, and empty folders of an earlier try go.
      if (gone) await remove(path, null);
      else if (has("d") && !has("k")) await judge(path, null);
      for (const each of marks) {
        if (each[0] !== "q") continue;
        if (gone) await remove(path, each[1]);
        else await judge(path, each[1]);
      }
    }
    type Copy = readonly [key: string, "r"] | readonly [key: string, "d", path: string, where: string | null];
    for (const sorted of [digests, claims]) {
      for await (const { items } of groupSorted(sorted.sorted(), pathOf)) {
        const copies = items.map((line) => JSON.parse(line) as Copy);
        if (!copies.some(([, kind]) => kind === "r")) continue;
        for (const copy of copies) if (copy[1] === "d") await remove(copy[2], copy[3]);
      }
    }
    await inPlace.close();
    await quarantined.close();
    if (failure !== null) throw failure;
    return deleted;
  } finally {
    await paths.close();
    await claims.close();
    await digests.close();
  }
}

/** How files of these archives say what they are of; an archive that is not configured any more can't be asked. */
async function foreignKinds(
  archives: ReadonlySet<string>,
  source: DropEnvironment["source"],
): Promise<readonly ForeignFiles[]> {
  const kinds: ForeignFiles[] = [];
  for (const archive of archives) {
    try {
      const { foreign } = await source(archive);
      if (foreign) kinds.push(foreign);
    } catch (error) {
      if (!(error instanceof RunError)) throw error;
    }
  }
  return kinds;
}
