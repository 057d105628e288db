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
import { onDisk } from "../lib/durable-file.ts";
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
  /** Absolute path that `--scratch` named; absent without it. */
  readonly scratch?: string;
  /** The array that the run is a task of, and which one; absent of any other run. */
  readonly array?: string;
  readonly task?: number;
  readonly requests: readonly string[];
  readonly progress: RunProgress | null;
  /** Bytes of data files that were fetched, and for how long; set at the end of a transfer of a whole plan. */
  readonly transferred?: { readonly bytes: number; readonly seconds: number };
  /** Set when the run has ended. */
  readonly exit: number | null;
}

/** A record as it was read. */
export interface SeenRun extends RunRecord {
  /** It was given up for dead: somebody saw its heartbeat stand still for a minute, and it still stands there. */
  readonly silent: boolean;
}

const GIVEN_UP = "another run gave this one up for dead and took its place";

/** Of a run that is `silent` the process may be alive on a machine that is cut off, and may go on writing to what it has open. */
export type Life = "lives" | "silent" | "gone";

export interface RunHandle {
  readonly run: string;
  update(change: Partial<Pick<RunRecord, "state" | "requests" | "progress" | "transferred">>): void;
  /** Aborted when somebody asked this run to stop (`gantry stop`). */
  readonly stopSignal: AbortSignal;
  /** Throws `terminated` when somebody gave this run up for dead: then another one is at work in its place. */
  refuseGivenUp(): Promise<void>;
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
    readonly scratch?: string | undefined;
    readonly member?: { readonly array: string; readonly task: number };
    readonly warn: (sentence: string) => void;
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
    ...(options.scratch === undefined ? {} : { scratch: options.scratch }),
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
    // One that failed says nothing of the next: a heartbeat that stands still would be taken for death.
    writing = writing.catch(() => undefined).then(() => onDisk({ operation: "write", path }, replace));
    return writing;
  };
  const replace = async (): Promise<void> => {
    // What a killed process leaves of it is removed with its other unfinished data.
    const temp = state.path("partial", `${run}.json.tmp`);
    for (let attempt = 1; ; attempt += 1) {
      try {
        await writeFile(temp, `${JSON.stringify(record)}\n`);
        return await rename(temp, path);
      } catch (error) {
        // A task that begins at the same time can't know yet whose it is, and may have taken it for left over.
        if ((error as NodeJS.ErrnoException).code === "ENOENT" && attempt < 3) continue;
        await rm(temp, { force: true }).catch(() => undefined);
        throw error;
      }
    }
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
  for (const array of options.member ? [] : await closeArrays(state))
    options.warn(`array ${array} is given up: its tasks that still wait in a queue end as they begin`);
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
      const givenUp = await stat(silentPath(state, run)).catch(() => null);
      stopper.abort(new RunError("terminated", givenUp ? GIVEN_UP : "stopped by `gantry stop`"));
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
    refuseGivenUp: async () => {
      const silent = await stat(silentPath(state, run)).catch(() => null);
      if (!silent) return;
      stopper.abort(new RunError("terminated", GIVEN_UP));
      throw stopper.signal.reason;
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

/** Ids of the runs that may be at work in the folder. */
export async function readLiveRuns(state: StateFolder): Promise<ReadonlySet<string>> {
  const live = (await readRuns(state)).filter((each) => each.exit === null && livesHere(each) !== false);
  return new Set(live.map(({ run }) => run));
}

/** Of every run by its id; a run without a record is gone. */
export async function readLives(state: StateFolder): Promise<(run: string) => Life> {
  const lives = new Map<string, Life>();
  for (const each of await readRuns(state)) {
    lives.set(each.run, lifeOf(each));
  }
  return (run) => lives.get(run) ?? "gone";
}

/** Of one run; without a record nothing proves that it is gone. */
export async function readLife(state: StateFolder, run: string): Promise<Life> {
  const record = await readRun(state, run);
  return record === null ? "silent" : lifeOf(record);
}

function lifeOf(record: SeenRun): Life {
  if (record.exit !== null || (record.host === hostname() && livesHere(record) === false)) return "gone";
  return record.silent ? "silent" : "lives";
}

/**
 * Gives a run up for dead at this heartbeat, for all who look. Should it live, it ends as soon as it sees that, and
 * counts as alive until then.
 */
export async function declareSilent(state: StateFolder, run: string, beat: number): Promise<void> {
  const path = silentPath(state, run);
  await onDisk({ operation: "write", path }, () => writeFile(path, String(beat)));
  await requestStop(state, run);
}

const silentPath = (state: StateFolder, run: string): string => state.path("runs", `${run}.silent`);

/** All run records, oldest first. Unreadable ones are left out: they say nothing. */
export async function readRuns(state: StateFolder): Promise<SeenRun[]> {
  const records: SeenRun[] = [];
  for (const name of await readNames(state.path("runs"))) {
    if (!name.endsWith(".json")) continue;
    const record = await readRun(state, name.slice(0, -".json".length));
    if (record) records.push(record);
  }
  return records;
}

/** The record of one run; null when there is none, or none that can be read. */
export async function readRun(state: StateFolder, run: string): Promise<SeenRun | null> {
  const path = state.path("runs", `${run}.json`);
  const text = await readFile(path, "utf8").catch(() => null);
  if (text === null || !isJson(text)) return null;
  const record = checkHeader(text, RUN_KIND, RUN_VERSION, path) as unknown as RunRecord;
  const stoodAt = record.exit === null ? await readFile(silentPath(state, run), "utf8").catch(() => "") : "";
  return { ...record, silent: stoodAt === String(record.beat) };
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

/** Whether the process of a record lives, as far as is known here; null when it is on another host and may. */
export function livesHere(record: SeenRun): boolean | null {
  const self = identity();
  if (record.host !== self.host) return record.silent ? false : null;
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
    warn,
    signal,
    member,
  }: {
    clock: Clock;
    warn: (sentence: string) => void;
    signal: AbortSignal;
    member?: { readonly array: string };
  },
): Promise<void> {
  const unknown: SeenRun[] = [];
  for (const record of await readRuns(state)) {
    if (record.exit !== null || isMate(record, member)) continue;
    const lives = livesHere(record);
    if (lives === true) throw busy(state, record);
    if (lives === null) unknown.push(record);
  }
  for (const record of unknown)
    warn(
      `a run of ${record.host} (pid ${record.pid}) has not said that it ended; waiting ${DEAD_AFTER_MS / 1000} s for a sign of life`,
    );
  // All at once: an array that died leaves as many as it had tasks.
  const answered = new AbortController();
  const waiting = { clock, signal: AbortSignal.any([signal, answered.signal]) };
  await Promise.all(
    unknown.map(async (record) => {
      if ((await awaitSign(state, record, waiting)) === "gone") return;
      const reason = busy(state, record);
      answered.abort(reason);
      throw reason;
    }),
  );
}

/** Waits for a sign of life of a run on another host; gives it up for dead when there is none for a minute. */
export async function awaitSign(
  state: StateFolder,
  { run, beat }: SeenRun,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<"lives" | "gone"> {
  const begun = clock.monotonicMs();
  while (clock.monotonicMs() - begun < DEAD_AFTER_MS) {
    await clock.sleep(BEAT_MS, signal);
    const now = await readRun(state, run);
    if (!now || now.exit !== null || now.silent) return "gone";
    if (now.beat !== beat) return "lives";
  }
  await declareSilent(state, run, beat);
  return "gone";
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
