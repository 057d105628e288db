/**
 * `.gantry/runs/`: one small file for each process at work in the folder, rewritten while it lives. It serves
 * `status` and `stop`, and tells two processes of each other. Whether a process lives is never read off a clock
 * of another machine.
 */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { RunError } from "../errors.ts";
import type { Clock } from "../lib/context.ts";
import { checkHeader } from "../model/receipt.ts";
import { closeArrays } from "./arrays.ts";
import { readNames, type StateFolder } from "./state-folder.ts";

const RUN_KIND = "gantry-run";
const RUN_VERSION = 1;
const BEAT_MS = 2_000;
/** A process on another host is dead when its heartbeat did not change for so long on our own clock. */
export const DEAD_AFTER_MS = 60_000;

export interface RunProgress {
  readonly doneItems: number;
  readonly failedItems: number;
  readonly totalItems: number;
  /** Of data files, written and not thrown away. */
  readonly doneBytes: number;
  /** As announced. */
  readonly totalBytes: number;
  /** Off the network, failed tries included. */
  readonly receivedBytes: number;
  /** Of data files, over the last seconds. */
  readonly bytesPerSecond: number;
  readonly etaSeconds: number | null;
  /** How long nothing has arrived and nothing was finished. */
  readonly idleSeconds: number;
}

export interface RunRecord {
  readonly kind: typeof RUN_KIND;
  readonly version: typeof RUN_VERSION;
  readonly run: string;
  readonly host: string;
  readonly pid: number;
  /** Start time of the process as the kernel counts it, and id of the boot; null where the system tells neither. */
  readonly processStart: string | null;
  readonly boot: string | null;
  readonly startedAt: string;
  /** Grows with every heartbeat. */
  readonly beat: number;
  readonly state: "listing" | "transferring" | "finishing" | "finished";
  readonly detached: boolean;
  /** The array that the run is a task of, and which one; absent of any other run. */
  readonly array?: string;
  readonly task?: number;
  readonly requests: readonly string[];
  readonly progress: RunProgress | null;
  /** Set when the run has ended. */
  readonly exit: number | null;
}

export interface RunHandle {
  readonly run: string;
  update(change: Partial<Pick<RunRecord, "state" | "requests" | "progress">>): void;
  /** Aborted when somebody asked this run to stop (`gantry stop`). */
  readonly stopSignal: AbortSignal;
  /** Writes the last state. Never throws: the record is a convenience. */
  finish(exit: number): Promise<void>;
}

export function newRunId(clock: Clock): string {
  const stamp = clock.now().toISOString().replace(/[-:]/g, "").slice(0, 15);
  return `${stamp}Z-${randomBytes(3).toString("hex")}`;
}

/**
 * Tells the folder of this process, after checking that no other one is at work but tasks of the same array. A run
 * that is no task closes the arrays of the folder: what it does makes their plans out of date. Throws `folder-busy`.
 */
export async function beginRun(
  state: StateFolder,
  options: {
    readonly run: string;
    readonly clock: Clock;
    readonly detached: boolean;
    readonly member?: { readonly array: string; readonly task: number };
    readonly onWait: (sentence: string) => void;
    readonly signal: AbortSignal;
  },
): Promise<RunHandle> {
  const { run, clock } = options;
  await refuseSecond(state, options);
  const self = identity();
  let record: RunRecord = {
    kind: RUN_KIND,
    version: RUN_VERSION,
    run,
    ...self,
    startedAt: clock.now().toISOString(),
    beat: 0,
    state: "listing",
    detached: options.detached,
    ...options.member,
    requests: [],
    progress: null,
    exit: null,
  };
  const path = state.path("runs", `${run}.json`);
  const stopPath = state.path("runs", `${run}.stop`);
  const stopper = new AbortController();
  let writing: Promise<void> = Promise.resolve();
  const write = (): Promise<void> => {
    writing = writing.then(async () => {
      // What a killed process leaves of it is removed with its other unfinished data.
      const temp = state.path("partial", `${run}.json.tmp`);
      for (let attempt = 1; ; attempt += 1) {
        await writeFile(temp, `${JSON.stringify(record)}\n`);
        try {
          return await rename(temp, path);
        } catch (error) {
          // A task that begins at the same time can't know yet whose it is, and may have taken it for left over.
          if ((error as NodeJS.ErrnoException).code !== "ENOENT" || attempt === 3) throw error;
        }
      }
    });
    return writing;
  };
  await write();
  // Both saw nobody and both wrote: the one with the greater id gives way.
  const rivals = (await readRuns(state)).filter(
    (r) => r.run !== run && r.exit === null && !isMate(r, options.member) && livesHere(r) === true,
  );
  if (rivals.some((rival) => rival.run < run)) {
    await rm(path, { force: true });
    throw busy(state, rivals[0] as RunRecord);
  }
  if (!options.member) await closeArrays(state);
  const beat = async (): Promise<void> => {
    record = { ...record, beat: record.beat + 1 };
    // A full disk must not end a run by its heartbeat: the next write of data says it properly.
    await write().catch(() => undefined);
    if (
      await stat(stopPath).then(
        () => true,
        () => false,
      )
    ) {
      stopper.abort(new RunError("terminated", "stopped by `gantry stop`"));
    }
  };
  const timer = setInterval(() => void beat(), BEAT_MS);
  timer.unref();
  return {
    run,
    stopSignal: stopper.signal,
    update: (change) => {
      record = { ...record, ...change };
    },
    finish: async (exit) => {
      clearInterval(timer);
      record = { ...record, state: "finished", exit, beat: record.beat + 1 };
      await write().catch(() => undefined);
      await rm(stopPath, { force: true }).catch(() => undefined);
    },
  };
}

/** Asks a live run to end cleanly, on whatever host it is. */
export async function requestStop(state: StateFolder, run: string): Promise<void> {
  await writeFile(state.path("runs", `${run}.stop`), "");
}

/** All run records, oldest first. Unreadable ones are left out: they say nothing. */
/** Ids of the runs that may be at work in the folder. */
export async function readLiveRuns(state: StateFolder): Promise<ReadonlySet<string>> {
  const live = (await readRuns(state)).filter((each) => each.exit === null && livesHere(each) !== false);
  return new Set(live.map(({ run }) => run));
}

export async function readRuns(state: StateFolder): Promise<RunRecord[]> {
  const records: RunRecord[] = [];
  for (const name of await readNames(state.path("runs"))) {
    if (!name.endsWith(".json")) continue;
    const record = await readRun(state, name.slice(0, -".json".length));
    if (record) records.push(record);
  }
  return records;
}

/** The record of one run; null when there is none, or none that can be read. */
export async function readRun(state: StateFolder, run: string): Promise<RunRecord | null> {
  const path = state.path("runs", `${run}.json`);
  const text = await readFile(path, "utf8").catch(() => null);
  if (text === null || !isJson(text)) return null;
  return checkHeader(text, RUN_KIND, RUN_VERSION, path) as unknown as RunRecord;
}

/** A power cut may leave a file that is empty or full of zeros. */
function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Whether the process of a record lives: true or false on this host; null when it is on another one. */
export function livesHere(record: RunRecord): boolean | null {
  const self = identity();
  if (record.host !== self.host) return null;
  if (record.boot !== null && self.boot !== null && record.boot !== self.boot) return false;
  try {
    process.kill(record.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  const start = processStart(record.pid);
  return record.processStart === null || start === null || start === record.processStart;
}

/** Whether a run is a task of the same array. */
const isMate = (record: RunRecord, member: { readonly array: string } | undefined): boolean =>
  member !== undefined && record.array === member.array;

async function refuseSecond(
  state: StateFolder,
  {
    clock,
    onWait,
    signal,
    member,
  }: {
    clock: Clock;
    onWait: (sentence: string) => void;
    signal: AbortSignal;
    member?: { readonly array: string };
  },
): Promise<void> {
  for (const record of await readRuns(state)) {
    if (record.exit !== null || isMate(record, member)) continue;
    const lives = livesHere(record);
    if (lives === true) throw busy(state, record);
    if (lives === false) continue;
    onWait(
      `a run of ${record.host} (pid ${record.pid}) has not said that it ended; waiting ${DEAD_AFTER_MS / 1000} s for a sign of life`,
    );
    const begun = clock.monotonicMs();
    while (clock.monotonicMs() - begun < DEAD_AFTER_MS) {
      await clock.sleep(BEAT_MS, signal);
      const now = (await readRuns(state)).find((other) => other.run === record.run);
      if (!now || now.exit !== null) break;
      if (now.beat !== record.beat) throw busy(state, record);
    }
  }
}

function busy(state: StateFolder, record: RunRecord): RunError {
  return new RunError(
    "folder-busy",
    `${state.dir} is in use by process ${record.pid} on ${record.host} (run ${record.run})`,
  );
}

function identity(): { host: string; pid: number; boot: string | null; processStart: string | null } {
  return {
    host: hostname(),
    pid: process.pid,
    boot: readText("/proc/sys/kernel/random/boot_id"),
    processStart: processStart(process.pid),
  };
}

/** Field 22 of /proc/PID/stat (proc(5)): start time in clock ticks after boot. A zombie counts as gone. */
function processStart(pid: number): string | null {
  const text = readText(`/proc/${pid}/stat`);
  if (text === null) return null;
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" ? "zombie" : (fields[19] ?? null);
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return null;
  }
}
