/**
 * Builds the plan of a run: expected items against receipts against the disk, as merges of sorted streams, so that
 * a million items need no more memory than a thousand.
 */
import { createWriteStream } from "node:fs";
import { lstat, rm } from "node:fs/promises";
import { join, posix } from "node:path";
import { finished } from "node:stream/promises";
import type { Published } from "../checksums/published.ts";
import { RunError } from "../errors.ts";
import { mapOrdered } from "../lib/concurrent.ts";
import { compareKeys, ExternalSort } from "../lib/external-sort.ts";
import { readLines } from "../lib/lines.ts";
import type { Item } from "../model/item.ts";
import { markedPlace, type Place, placeKey } from "../model/place.ts";
import {
  buildRemoved,
  diskPaths,
  type ItemState,
  type Receipt,
  type ReceiptBody,
  type StoredFile,
} from "../model/receipt.ts";
import { originalPath, readSafePath, safePath, safeSegment, shownPath } from "../model/safe-path.ts";
import type { DiskCheck, Store } from "../sinks/sink.ts";
import type { ForeignFiles, LayoutPlace } from "../sources/source.ts";
import type { Announced, Tally } from "./events.ts";
import { type Found, findForeign } from "./foreign.ts";
import { type Decision, decide, isStored, needsDisk, type Task } from "./plan.ts";
import { findMoved, type Lost, listStrays } from "./strays.ts";

/** `lstat` calls of so many items are under way at once: enough to hide a network file system's latency. */
const CHECK_JOBS = 32;

export interface PlanningOptions {
  /** Absolute path of the target folder. */
  readonly dir: string;
  /** What the folder keeps its items in; null when receipts have nothing. */
  readonly store: Store | null;
  /** Sorted by id. */
  readonly expected: () => AsyncIterable<Item>;
  /** Sorted by item id; asked for once, and once more when there are new items. */
  readonly states: () => AsyncIterable<ItemState>;
  /** Paths that are neither data nor strays (companions). */
  readonly known: () => AsyncIterable<string>;
  readonly layout: (item: Item) => LayoutPlace;
  /** How the archives' files are recognised when another tool left them. */
  readonly foreign: readonly ForeignFiles[];
  /** Whether a file that another tool left is known by lying where the layout puts the item. */
  readonly isPlaced: (item: Item) => boolean;
  /** Hash every file that is here. */
  readonly recheck: boolean;
  /** The user's list of what files have to be. */
  readonly published: Published | null;
  /** An existing folder for temporary files. */
  readonly temporary: () => Promise<string>;
  readonly signal: AbortSignal;
  /** Whether the item is of a subject that was dropped from the folder; null when nothing ever was. */
  readonly isDropped: ((item: Item) => boolean) | null;
  /** Of an item that is here as its receipt says: whether the archive still has the same. */
  readonly isCurrent: (item: Item, receipt: Receipt) => Promise<boolean>;
  /** Appends a receipt; null in a dry run. */
  readonly append: ((body: ReceiptBody) => Promise<unknown>) | null;
  readonly now: () => Date;
  readonly on: {
    readonly item: (item: Item) => void;
    readonly unknown: (item: Item) => Promise<void>;
    readonly withdrawn: (item: Item) => Promise<void>;
    /** `here`: receipts have it although its subject was dropped (the archive renamed it since). */
    readonly dropped: (item: Item, here: boolean) => void;
    readonly damaged: (item: Item, path: string, what: "missing" | "changed") => Promise<void>;
    readonly moved: (item: Item, from: string, to: string) => Promise<void>;
    readonly warn: (sentence: string) => void;
  };
}

export interface Plan {
  readonly wanted: Announced;
  readonly here: Tally;
  /** What other tools left of wanted items, unproved: it need not be fetched when it proves right. */
  readonly found: Tally;
  /** Without what was found. */
  readonly fetch: Announced;
  readonly unknown: number;
  readonly withdrawn: number;
  /** Left out because they were dropped. */
  readonly dropped: number;
  /** Number of tasks. */
  readonly todo: number;
  /** Of the largest item to fetch, as announced. */
  readonly largestBytes: number;
  /** Sorted by item id; can be read once. */
  tasks(): AsyncIterable<Task>;
  close(): Promise<void>;
}

/** What is known of an item to fetch before its place is settled. */
type Draft = Omit<Task, "place"> & {
  readonly place: Place | null;
  /** The receipt of an item some of whose files are missing and may have been moved; else null. */
  readonly lost: { readonly current: Receipt; readonly paths: readonly string[] } | null;
};

class Counter implements Announced {
  items = 0;
  files = 0;
  bytes = 0;
  unsized = 0;

  add(item: Item): void {
    this.items += 1;
    this.files += item.files ?? 0;
    this.bytes += item.bytes ?? 0;
    if (item.bytes === null) this.unsized += 1;
  }

  /** What is here is counted as it is, not as it was announced. */
  addStored(files: readonly StoredFile[]): void {
    this.items += 1;
    this.files += files.length;
    this.bytes += files.reduce((sum, file) => sum + file.bytes, 0);
  }
}

export async function buildPlan(options: PlanningOptions): Promise<Plan> {
  const { on, signal } = options;
  const wanted = new Counter();
  const here = new Counter();
  const fetch = new Counter();
  let unknown = 0;
  let withdrawn = 0;
  let dropped = 0;
  const folder = options.temporary;
  const drafts = new ExternalSort({ folder });
  const lost = new ExternalSort({ folder });
  let losses = 0;
  let fresh = 0;
  let largestBytes = 0;

  const judged = mapOrdered(joinStates(options.expected(), options.states()), CHECK_JOBS, async (pair) =>
    againstPublished(await judge(pair, options), options.published),
  );
  for await (const { item, state, decision, bad, touched, proof } of judged) {
    signal.throwIfAborted();
    if (decision.do === "skip" && decision.reason === "dropped") {
      dropped += 1;
      on.dropped(item, isStored(state));
      // Known by its id from now on, also to those who have no labels to judge it by.
      if (!state) await options.append?.(buildRemoved({ ...item, item: item.id }, [], options.now()));
      continue;
    }
    on.item(item);
    if (decision.do === "fail") {
      unknown += 1;
      await on.unknown(item);
      continue;
    }
    if (decision.do === "skip") {
      if (decision.reason === "withdrawn") {
        withdrawn += 1;
        await on.withdrawn(item);
      } else if (decision.reason === "here") {
        wanted.add(item);
        here.addStored(state?.current.files ?? []);
        if (touched && state)
          await options.append?.(movedReceipt(state.current, state.heads, touched, options.now()));
        else if (proof && state) {
          const { sum: _, ...body } = state.current;
          const [supersedes, at] = [state.heads, options.now().toISOString()];
          await options.append?.({ ...body, type: "stored", supersedes, at, proof });
        }
      }
      continue;
    }
    wanted.add(item);
    for (const { file, state: what } of bad) await on.damaged(item, file.path, what);
    const missing = decision.reason === "missing" ? bad : [];
    const draft: Draft = {
      item,
      reason: decision.reason,
      place: state?.current.place ?? null,
      replaced: state?.current.files ?? [],
      supersedes: state?.heads ?? [],
      found: [],
      lost:
        missing.length > 0 && state
          ? { current: state.current, paths: missing.map((each) => each.file.path) }
          : null,
    };
    if (!state) fresh += 1;
    largestBytes = Math.max(largestBytes, item.bytes ?? 0);
    await drafts.push(item.id, JSON.stringify(draft));
    for (const { file, state: what } of missing) {
      if (what !== "missing" || file.packed) continue;
      losses += 1;
      const line: Lost = { item: item.id, file };
      await lost.push(item.id, JSON.stringify(line));
    }
  }

  const planPath = join(await folder(), "plan.jsonl");
  const finds = losses > 0 ? findLost(lost, options) : null;
  await writeLines(planPath, settleMoved(drafts.sorted(), finds, options, { here, fetch }));
  await lost.close();
  const todo = fetch.items;
  const found = new Counter();
  const path = fresh > 0 ? await addFound(planPath, options, { fetch, found }) : planPath;
  const places = fresh > 0 ? await assignPlaces(path, options) : null;
  return {
    wanted,
    here,
    found,
    fetch,
    unknown,
    withdrawn,
    dropped,
    todo,
    largestBytes,
    tasks: () => readTasks(path, places),
    close: async () => {
      await places?.close();
      await rm(path, { force: true });
    },
  };
}

interface Pair {
  readonly item: Item;
  readonly state: ItemState | null;
}

/** Each expected item with its state, if any. Both streams are sorted by item id. */
export async function* joinStates(
  expected: AsyncIterable<Item>,
  states: AsyncIterable<ItemState>,
): AsyncGenerator<Pair> {
  const iterator = states[Symbol.asyncIterator]();
  try {
    let next = await iterator.next();
    for await (const item of expected) {
      while (!next.done && compareKeys(next.value.current.item, item.id) < 0) next = await iterator.next();
      const state = !next.done && next.value.current.item === item.id ? next.value : null;
      yield { item, state };
    }
  } finally {
    await iterator.return?.();
  }
}

interface Judged extends Pair {
  readonly decision: Decision;
  readonly bad: DiskCheck["bad"];
  /** The files with their new mtimes, when they were only touched. */
  readonly touched: DiskCheck["files"] | null;
  /** What the receipt is to say, when the user's list proves more than it says now. */
  readonly proof?: readonly string[] | null;
}

async function judge(
  { item, state }: Pair,
  { store, recheck, signal, isDropped, isCurrent }: PlanningOptions,
): Promise<Judged> {
  if (isDropped?.(item))
    return { item, state, decision: { do: "skip", reason: "dropped" }, bad: [], touched: null };
  if (!state || !store || !needsDisk(item, state))
    return { item, state, decision: decide(item, state, "whole"), bad: [], touched: null };
  const disk = await store.check(state.current.files, recheck, signal);
  const whole =
    disk.bad.length === 0 ? ((await isCurrent(item, state.current)) ? "whole" : "outdated") : null;
  const decision = decide(item, state, whole ?? "missing");
  return { item, state, decision, bad: disk.bad, touched: disk.touched ? disk.files : null };
}

/** Of what is here: the list of the user says that other bytes belong there, or proves more than the receipt tells. */
function againstPublished(judged: Judged, published: Published | null): Judged {
  const { state, decision } = judged;
  if (published === null || !state || decision.do !== "skip" || decision.reason !== "here") return judged;
  const wrong: Judged["bad"][number][] = [];
  const words = new Set<string>();
  for (const file of state.current.files) {
    const said = published.judge(shownPath(file.path) ?? file.path, file);
    if (said && !said.agrees) wrong.push({ file, state: "changed" });
    for (const word of said?.proof ?? []) words.add(word);
  }
  if (wrong.length > 0) return { ...judged, decision: { do: "fetch", reason: "damaged" }, bad: wrong };
  const before = state.current.proof;
  if ([...words].every((word) => before.includes(word))) return judged;
  return { ...judged, proof: [...new Set([...words, ...before])] };
}

/** The receipt of an item whose files lie elsewhere than before, or were touched. */
function movedReceipt(
  current: Receipt,
  supersedes: readonly string[],
  files: readonly StoredFile[],
  now: Date,
): ReceiptBody {
  const { sum: _, ...body } = current;
  return {
    ...body,
    type: "moved",
    supersedes,
    at: now.toISOString(),
    from: null,
    tookMs: 0,
    place: movedPlace(current, files),
    files,
    damaged: [],
  };
}

/** When all files went to one other folder under their names, the item's place went with them. */
function movedPlace({ place, files: before }: Receipt, files: readonly StoredFile[]): Place {
  const folders = new Set(files.map((file) => posix.dirname(file.path)));
  const [folder] = folders;
  const renamed = files.some(
    (file, index) => posix.basename(file.path) !== posix.basename(before[index]?.path ?? ""),
  );
  if (folders.size !== 1 || folder === undefined || renamed) return place;
  return { ...place, folder: folder === "." ? null : readSafePath(folder) };
}

export function movedTo(
  current: Receipt,
  supersedes: readonly string[],
  found: ReadonlyMap<string, Find>,
  now: Date,
): ReceiptBody {
  const files = current.files.map((file) => {
    const find = found.get(file.path);
    return find ? { ...file, path: find.to, mtimeMs: find.mtimeMs } : file;
  });
  return movedReceipt(current, supersedes, files, now);
}

export type Find = {
  readonly item: string;
  readonly from: string;
  readonly to: string;
  readonly mtimeMs: number;
};

async function* findLost(lost: ExternalSort, options: PlanningOptions): AsyncGenerator<Find> {
  async function* known(): AsyncGenerator<string> {
    yield* options.known();
    for await (const state of options.states()) yield* diskPaths(state.current.files);
  }
  async function* losses(): AsyncGenerator<Lost> {
    for await (const line of lost.sorted()) yield JSON.parse(line) as Lost;
  }
  const strays = listStrays(options.dir, known(), options.temporary);
  yield* findMoved(options.dir, losses(), strays, options.temporary, options.signal);
}

/** Draft lines to task lines; an item whose lost files were all found elsewhere is receipted as moved and left out. */
async function* settleMoved(
  drafts: AsyncIterable<string>,
  finds: AsyncGenerator<Find> | null,
  options: PlanningOptions,
  tallies: { here: Counter; fetch: Counter },
): AsyncGenerator<string> {
  let find = finds ? await finds.next() : null;
  for await (const line of drafts) {
    const draft = JSON.parse(line) as Draft;
    const found = new Map<string, Find>();
    while (find && !find.done && compareKeys(find.value.item, draft.item.id) <= 0) {
      if (find.value.item === draft.item.id) found.set(find.value.from, find.value);
      find = await (finds as AsyncGenerator<Find>).next();
    }
    if (draft.lost?.paths.every((path) => found.has(path))) {
      tallies.here.addStored(draft.lost.current.files);
      for (const { from, to } of found.values()) await options.on.moved(draft.item, from, to);
      await options.append?.(movedTo(draft.lost.current, draft.supersedes, found, options.now()));
      continue;
    }
    tallies.fetch.add(draft.item);
    const { lost: _, ...task } = draft;
    yield JSON.stringify(task);
  }
}

/** The plan with what other tools left of new items; the path of the file it is in. */
async function addFound(
  planPath: string,
  options: PlanningOptions,
  tallies: { fetch: Counter; found: Counter },
): Promise<string> {
  const placed = new ExternalSort({ folder: options.temporary });
  try {
    const places = await pushPlaces(placed, planPath, options);
    const { dir, foreign } = options;
    const hopeless = foreign.length + places === 0 || (await lstat(dir).catch(() => null)) === null;
    return hopeless ? planPath : await joinFound(planPath, placed, options, tallies);
  } finally {
    await placed.close();
  }
}

/** Where files of another tool would be of a new item by lying there; their number. */
async function pushPlaces(placed: ExternalSort, planPath: string, options: PlanningOptions): Promise<number> {
  let places = 0;
  for await (const { item, place } of readDrafts(planPath)) {
    if (place !== null || !options.isPlaced(item)) continue;
    const { folder, file } = safePlace(options.layout(item));
    if (file === null) continue;
    const path = folder === null ? file : `${folder}/${file}`;
    // An original is out of sight: what is shown at its place is made from it.
    if (shownPath(path) !== null) continue;
    places += 1;
    await placed.push(path, JSON.stringify([path, item.id]));
  }
  return places;
}

async function joinFound(
  planPath: string,
  placed: ExternalSort,
  options: PlanningOptions,
  tallies: { fetch: Counter; found: Counter },
): Promise<string> {
  const { dir, foreign, temporary, signal, on } = options;
  async function* taken(): AsyncGenerator<string> {
    for await (const { current } of options.states()) {
      yield* new Set(current.files.map((file) => posix.dirname(file.path)));
    }
  }
  async function* known(): AsyncGenerator<string> {
    yield* options.known();
    for await (const { current } of options.states()) yield* diskPaths(current.files);
  }
  async function* fresh(): AsyncGenerator<string> {
    for await (const draft of readDrafts(planPath)) if (draft.place === null) yield draft.item.id;
  }
  const strays = listStrays(dir, known(), temporary, (error) => {
    on.warn(`${error.message}; what another tool may have left there is not seen`);
  });
  async function* atPlaces(): AsyncGenerator<[path: string, item: string]> {
    for await (const line of placed.sorted()) yield JSON.parse(line) as [string, string];
  }
  const kinds = foreign;
  const finds = findForeign(fresh(), {
    ...{ dir, strays, taken, kinds, temporary, signal },
    placed: atPlaces(),
  });
  let find = await finds.next();
  if (find.done) return planPath;
  async function* lines(): AsyncGenerator<string> {
    for await (const draft of readDrafts(planPath)) {
      while (!find.done && compareKeys(find.value.item, draft.item.id) < 0) find = await finds.next();
      const found = !find.done && find.value.item === draft.item.id ? find.value.found : [];
      if (found.length > 0) countFound(draft.item, found, tallies);
      yield JSON.stringify({ ...draft, found });
    }
  }
  const path = join(await temporary(), "plan-found.jsonl");
  try {
    await writeLines(path, lines());
  } finally {
    await finds.return(undefined);
  }
  await rm(planPath, { force: true });
  return path;
}

/** By the numbers announced; whether the files are right is seen later. */
function countFound(
  item: Item,
  files: readonly Found[],
  { fetch, found }: { fetch: Counter; found: Counter },
): void {
  const parts = new Map(files.map((file) => [file.part, file.bytes]));
  const held = files.some((file) => file.part === null);
  const count = held ? (item.files ?? 1) : Math.min(parts.size, item.files ?? parts.size);
  const sum = [...parts.values()].reduce((all, bytes) => all + bytes, 0);
  const bytes = held ? (item.bytes ?? 0) : Math.min(sum, item.bytes ?? 0);
  found.items += 1;
  found.files += count;
  found.bytes += bytes;
  const complete = count >= (item.files ?? 1);
  if (complete) fetch.items -= 1;
  if (complete && item.bytes === null) fetch.unsized -= 1;
  fetch.files -= complete ? (item.files ?? 0) : count;
  fetch.bytes -= complete ? (item.bytes ?? 0) : bytes;
}

async function* readDrafts(planPath: string): AsyncGenerator<Draft> {
  for await (const { text } of readLines(planPath)) yield JSON.parse(text) as Draft;
}

/**
 * Places for items that have none, sorted by item id: lines `[id, place]`. Taken are the places of receipts, folders
 * that receipts share with others, and folders in which another tool left files of a new item, for all but that item.
 */
async function assignPlaces(planPath: string, options: PlanningOptions): Promise<ExternalSort> {
  const folder = options.temporary;
  const byKey = new ExternalSort({ folder });
  const byId = new ExternalSort({ folder });
  try {
    const take = (key: string, owner: string | null): Promise<void> =>
      byKey.push(`${key}\u00000${owner ?? ""}`, JSON.stringify([key, owner, null]));
    for await (const { current } of options.states()) {
      await take(placeKey(current.place), null);
      if (current.place.prefix !== "") await take(folderKey(current.place.folder), null);
    }
    for await (const draft of readDrafts(planPath)) {
      if (draft.place !== null) continue;
      const folders = new Set(
        draft.found.filter((each) => each.part !== null).map((each) => posix.dirname(each.path)),
      );
      for (const folder of folders) await take(folderKey(folder), draft.item.id);
      const place = safePlace(options.layout(draft.item));
      const key = placeKey(place);
      await byKey.push(`${key}\u00001${draft.item.id}`, JSON.stringify([key, draft.item.id, place]));
    }
    type Claim = readonly [key: string, id: string | null, place: Place | null];
    const claims = (async function* () {
      for await (const line of byKey.sorted()) yield JSON.parse(line) as Claim;
    })();
    let key = "";
    // Owners of the key: of a receipt's place nobody new (null), of a found folder its item.
    let owners: (string | null)[] = [];
    for await (const [claimKey, id, place] of claims) {
      if (claimKey !== key) {
        key = claimKey;
        owners = [];
      }
      if (place !== null && id !== null) {
        const free = owners.every((owner) => owner === id);
        await byId.push(id, JSON.stringify([id, free ? place : markedPlace(place, id)]));
      }
      // Two owners say all that more could say.
      if (owners.length < 2 && !owners.includes(id)) owners.push(id);
    }
    return byId;
  } catch (error) {
    await byId.close();
    throw error;
  } finally {
    await byKey.close();
  }
}

const folderKey = (folder: string | null): string =>
  placeKey({
    folder: folder === null || folder === "." ? null : readSafePath(folder),
    file: null,
    prefix: "",
  });

export function safePlace(place: LayoutPlace): Place {
  const shown = place.folder.length === 0 ? null : safePath(place.folder);
  const folder = place.original ? originalPath(shown) : shown;
  if (folder === null && place.file === undefined && !place.prefix) {
    throw new RunError("usage", "a layout needs a folder, so that items do not mix", {
      hint: "for example --layout '{collection}/{series}'",
    });
  }
  return {
    folder,
    file: place.file === undefined ? null : safeSegment((place.prefix ?? "") + place.file),
    prefix: place.file === undefined ? (place.prefix ?? "") : "",
  };
}

async function* readTasks(planPath: string, places: ExternalSort | null): AsyncGenerator<Task> {
  const settled = places?.sorted();
  try {
    for await (const draft of readDrafts(planPath)) {
      if (draft.place !== null) {
        yield { ...draft, place: draft.place };
        continue;
      }
      const next = await settled?.next();
      const [id, place] = JSON.parse(String(next?.value)) as [string, Place];
      if (id !== draft.item.id) throw new Error(`plan and places disagree at ${draft.item.id}`);
      yield { ...draft, place };
    }
  } finally {
    await settled?.return(undefined);
  }
}

async function writeLines(path: string, lines: AsyncIterable<string>): Promise<void> {
  const stream = createWriteStream(path);
  const failed = finished(stream);
  failed.catch(() => undefined);
  for await (const line of lines) {
    if (!stream.write(`${line}\n`))
      await Promise.race([new Promise<void>((resolve) => stream.once("drain", () => resolve())), failed]);
  }
  stream.end();
  await failed;
}
