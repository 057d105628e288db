/** How far a folder is: selections against receipts, and the run at work in it. Reads only. */
import { resolve } from "node:path";
import { RunError } from "../errors.ts";
import { compareKeys } from "../lib/external-sort.ts";
import type { ItemState } from "../model/receipt.ts";
import { describeRequest } from "../model/selection.ts";
import { closeArrays, FINISHING, isOpen, readArrays } from "../state/arrays.ts";
import { readAsking } from "../state/asking.ts";
import { readSlices } from "../state/lease-folder.ts";
import { readItemStates } from "../state/receipts.ts";
import { livesHere, type RunProgress, readRuns, requestStop } from "../state/runs.ts";
import { currentSelections, readExpected, readSelections } from "../state/selections.ts";
import { openStateFolder, type StateFolder, temporaryFolder } from "../state/state-folder.ts";
import type { Tally } from "./events.ts";
import { isStored } from "./plan.ts";

const STALLED_SECONDS = 300;

export interface FolderStatus {
  readonly dir: string;
  readonly expected: Tally;
  readonly done: Tally;
  /** Expected items that no receipt has, or has in another revision. */
  readonly missing: number;
  readonly damaged: number;
  /** Items here that no current selection expects. */
  readonly withdrawn: number;
  /** Items that were dropped and are never fetched again. */
  readonly dropped: number;
  readonly requests: readonly string[];
  /** Requests that have no selection yet: a run ended while it listed them, or lists them now. */
  readonly asking: readonly string[];
  /** The newest run, or null. */
  readonly run: {
    readonly run: string;
    readonly host: string;
    readonly pid: number;
    readonly state: string;
    /** Null: it is on another host, so this one can't tell. */
    readonly alive: boolean | null;
    /** It never said that it ended, and its process is gone or nothing has arrived for five minutes. */
    readonly stalled: boolean;
    readonly detached: boolean;
    readonly startedAt: string;
    readonly progress: RunProgress | null;
    readonly exit: number | null;
  } | null;
  /** Null when there is no array, or the last one is over: closed, or its last job has ended. */
  readonly array: ArrayStatus | null;
}

/** A job array whose tasks share the folder, while it is not over. */
export interface ArrayStatus {
  readonly array: string;
  readonly tasks: number;
  /** Tasks that are at work, or may be on a host that this one can't look into. */
  readonly working: number;
  /** What they do; `waiting` when none is at work: they wait in a queue, which only Slurm can tell of. */
  readonly state: string;
  /** Tasks are at work, and to none has anything come for five minutes. */
  readonly stalled: boolean;
  readonly slices: number;
  readonly doneSlices: number;
  readonly failedItems: number;
  /** Of all tasks at work together. */
  readonly bytesPerSecond: number;
}

/** Throws `folder-unknown` for a folder without receipts. */
export async function readStatus(dir: string): Promise<FolderStatus> {
  const state = await openKnown(dir);
  const temporary = temporaryFolder();
  try {
    return await read(state, temporary.folder);
  } finally {
    await temporary.remove();
  }
}

async function read(state: StateFolder, folder: () => Promise<string>): Promise<FolderStatus> {
  const selections = currentSelections(await readSelections(state));
  const expected = { items: 0, files: 0, bytes: 0 };
  const done = { items: 0, files: 0, bytes: 0 };
  let missing = 0;
  let damaged = 0;
  let withdrawn = 0;
  let dropped = 0;
  const unexpected = (found: ItemState): void => {
    if (isStored(found)) withdrawn += 1;
    else if (found.current.type === "removed") dropped += 1;
  };
  const states = readItemStates(state, { folder, onBad: () => undefined });
  try {
    let next = await states.next();
    for await (const { item, revisions } of readExpected(selections)) {
      while (!next.done && compareKeys(next.value.current.item, item.id) < 0) {
        unexpected(next.value);
        next = await states.next();
      }
      const found = !next.done && next.value.current.item === item.id ? next.value : null;
      if (found && !next.done) next = await states.next();
      if (found?.current.type === "removed") {
        dropped += 1;
        continue;
      }
      if (item.unknown) {
        if (found) withdrawn += 1;
        else missing += 1;
        continue;
      }
      expected.items += 1;
      expected.files += item.files ?? 0;
      expected.bytes += item.bytes ?? 0;
      if (found?.current.type === "damaged") damaged += 1;
      else if (found && revisions.includes(found.current.revision)) {
        done.items += 1;
        done.files += found.current.files.length;
        done.bytes += found.current.files.reduce((sum, file) => sum + file.bytes, 0);
      } else missing += 1;
    }
    for (; !next.done; next = await states.next()) unexpected(next.value);
  } finally {
    await states.return(undefined);
  }
  return {
    dir: state.dir,
    expected,
    done,
    missing,
    damaged,
    withdrawn,
    dropped,
    requests: selections.map((selection) => describeRequest(selection.header.request)),
    asking: (await readAsking(state)).map(({ request }) => describeRequest(request)),
    run: await newestRun(state),
    array: await openArrayStatus(state),
  };
}

async function openArrayStatus(state: StateFolder): Promise<ArrayStatus | null> {
  const record = (await readArrays(state)).at(-1);
  if (!record || !(await isOpen(state, record.array))) return null;
  const { array, tasks, slices } = record;
  const { done } = await readSlices(state, array);
  const runs = (await readRuns(state)).filter((run) => run.array === array);
  const working = runs.filter((run) => run.exit === null && livesHere(run) !== false);
  const last = runs.filter((run) => run.task === FINISHING).at(-1);
  // One that was interrupted may be queued again.
  if (working.length === 0 && last && last.exit !== 130 && last.exit !== 143) return null;
  return {
    array,
    tasks,
    working: working.length,
    state: working.find(({ state }) => state === "transferring")?.state ?? working.at(-1)?.state ?? "waiting",
    stalled:
      working.length > 0 && working.every(({ progress }) => (progress?.idleSeconds ?? 0) >= STALLED_SECONDS),
    slices: slices.length,
    doneSlices: done.size,
    failedItems: [...done.values()].reduce((sum, { failures }) => sum + failures.length, 0),
    bytesPerSecond: working.reduce((sum, { progress }) => sum + (progress?.bytesPerSecond ?? 0), 0),
  };
}

async function newestRun(state: StateFolder): Promise<FolderStatus["run"]> {
  // By the time of start: names tell it to the second only, and a run may follow a killed one within the same.
  const record = (await readRuns(state)).sort((a, b) => compareKeys(a.startedAt, b.startedAt)).at(-1);
  if (!record) return null;
  const { run, host, pid, detached, startedAt, progress, exit } = record;
  const alive = exit !== null ? false : livesHere(record);
  return {
    run,
    host,
    pid,
    state: record.state,
    alive,
    stalled: exit === null && (alive === false || (progress?.idleSeconds ?? 0) >= STALLED_SECONDS),
    detached,
    startedAt,
    progress,
    exit,
  };
}

export interface Stopped {
  /** The newest of the runs that were asked; null: none was at work. */
  readonly run: { readonly run: string; readonly host: string; readonly pid: number } | null;
  /** The array that is over now, so that those of its tasks that wait in a queue end as they begin. */
  readonly array: string | null;
  /** Runs that were asked. */
  readonly asked: number;
}

/** Asks the live run of a folder to end cleanly, of an array all tasks, and ends the array. */
export async function stopRun(dir: string): Promise<Stopped> {
  const state = await openKnown(dir);
  const live = (await readRuns(state)).filter((each) => each.exit === null && livesHere(each) !== false);
  const record = live.at(-1);
  const mates = live.filter(
    (each) => each.run === record?.run || (each.array && each.array === record?.array),
  );
  for (const { run } of mates) await requestStop(state, run);
  const [array = null] = await closeArrays(state);
  return {
    run: record ? { run: record.run, host: record.host, pid: record.pid } : null,
    array,
    asked: mates.length,
  };
}

async function openKnown(dir: string): Promise<StateFolder> {
  const state = await openStateFolder(dir);
  if (!state) throw new RunError("folder-unknown", `${resolve(dir)} holds no state of gantry`);
  return state;
}
