import { defineCommand, shellWord } from "../command.ts";
import { type Io, isScreen } from "../io.ts";
import type { FolderStatus, Row } from "../library.ts";
import { formatFor, TABLE_FLAGS, type TableFlags, writeTable } from "../render/table.ts";
import { counted, cutTo, lasting, shown, sized } from "../render/wording.ts";
import { createWriter } from "../render/writer.ts";

interface Flags extends TableFlags {
  readonly watch?: boolean;
  readonly check?: boolean;
}

const WATCH_MS = 2_000;

export const command = defineCommand<Flags>({
  words: "<dir>",
  about:
    "Shows how far a folder's download is, from any terminal: done, failed, rate, time left, stalled or alive.",
  flags: [
    { flags: "--watch", help: "show it again every two seconds until the run ends" },
    {
      flags: "--check",
      help: "exit 3 when something is missing and no run or job array is mending it, or it has stalled",
    },
    ...TABLE_FLAGS,
  ],
  examples: [
    ["gantry status lctsc", "how far it is"],
    ["gantry status lctsc --watch", "look on until it ends"],
    ["gantry status lctsc --check || mail -s 'download' me", "for cron"],
  ],
  async run({ words, flags }, { io, signal, onInterrupt }) {
    const { readStatus } = await io.library();
    const dir = words[0]!;
    const people = formatFor(io, flags) === "table" && flags.fields === undefined;
    const redraw = flags.watch === true && isScreen(io, io.stdout);
    onInterrupt(null);
    for (let drawn = 0; ; ) {
      const status = await readStatus(dir);
      if (people) drawn = await writeBlock(io, status, redraw ? drawn : 0);
      else await writeTable(io, { columns: COLUMNS, rows: rowOf(status) }, flags);
      if (!flags.watch || !isUnderWay(status)) return flags.check && isBad(status) ? 3 : 0;
      await io.sleep(WATCH_MS, signal);
      // Who looks on and has seen enough did not fail at anything.
      if (signal.aborted) return 0;
    }
  },
});

/** A run is at work, or tasks of an array are, or may wait in a queue: its last job ends it. */
const isUnderWay = ({ run, array }: FolderStatus): boolean =>
  array !== null || (run !== null && run.alive !== false && run.exit === null);

/** A task that ended says nothing of its array: others go on. */
const isStalled = ({ run, array }: FolderStatus): boolean => array?.stalled ?? run?.stalled ?? false;

/** A dead run, a failed one, a stalled one; missing or damaged items that nobody is fetching. */
export function isBad(status: FolderStatus): boolean {
  if (isStalled(status)) return true;
  if (isUnderWay(status)) return false;
  const { run, missing, damaged, asking } = status;
  return (run !== null && run.exit !== 0) || missing + damaged + asking.length > 0;
}

function stateOf(status: FolderStatus): string {
  const { run, array, missing, damaged, asking } = status;
  if (array !== null) return array.stalled ? "stalled" : array.state;
  if (run === null || run.exit === 0)
    return missing + damaged + asking.length === 0 ? "complete" : "incomplete";
  if (run.exit !== null) return run.exit === 130 || run.exit === 143 ? "interrupted" : "failed";
  if (run.alive === false) return "died";
  if (run.stalled) return "stalled";
  return run.alive === null ? `${run.state} on another host` : run.state;
}

const COLUMNS = [
  "dir",
  "state",
  "doneItems",
  "expectedItems",
  "doneFiles",
  "doneBytes",
  "expectedBytes",
  "missing",
  "damaged",
  "withdrawn",
  "dropped",
  "askingRequests",
  "run",
  "host",
  "pid",
  "alive",
  "stalled",
  "detached",
  "startedAt",
  "exit",
  "failedItems",
  "bytesPerSecond",
  "etaSeconds",
  "array",
  "tasks",
  "tasksWorking",
  "slices",
  "slicesDone",
] as const;

async function* rowOf(status: FolderStatus): AsyncIterable<Row> {
  const { run, done, expected, array } = status;
  const flag = (value: boolean | null | undefined): string | null => (value == null ? null : String(value));
  const row: Record<(typeof COLUMNS)[number], string | number | null> = {
    dir: status.dir,
    state: stateOf(status),
    doneItems: done.items,
    expectedItems: expected.items,
    doneFiles: done.files,
    doneBytes: done.bytes,
    expectedBytes: expected.bytes,
    missing: status.missing,
    damaged: status.damaged,
    withdrawn: status.withdrawn,
    dropped: status.dropped,
    askingRequests: status.asking.length,
    run: run?.run ?? null,
    host: run?.host ?? null,
    pid: run?.pid ?? null,
    alive: flag(run?.alive),
    stalled: flag(run === null && array === null ? null : isStalled(status)),
    detached: flag(run?.detached),
    startedAt: run?.startedAt ?? null,
    exit: run?.exit ?? null,
    failedItems: array?.failedItems ?? run?.progress?.failedItems ?? null,
    bytesPerSecond: array?.bytesPerSecond ?? run?.progress?.bytesPerSecond ?? null,
    etaSeconds: array ? arrayEta(status) : (run?.progress?.etaSeconds ?? null),
    array: array?.array ?? null,
    tasks: array?.tasks ?? null,
    tasksWorking: array?.working ?? null,
    slices: array?.slices ?? null,
    slicesDone: array?.doneSlices ?? null,
  };
  yield row;
}

/** At the rate of all tasks together; null while nothing comes. */
function arrayEta({ array, expected, done }: FolderStatus): number | null {
  const rate = array?.bytesPerSecond ?? 0;
  return rate > 0 ? Math.round(Math.max(0, expected.bytes - done.bytes) / rate) : null;
}

/** Writes the block, over `overLines` lines of an earlier one; how many lines it has. */
async function writeBlock(io: Io, status: FolderStatus, overLines: number): Promise<number> {
  const columns = io.stdout.columns ?? 80;
  // A line that the terminal breaks would be two to draw over.
  const lines = blockOf(status).map((line) => (isScreen(io, io.stdout) ? cutTo(line, columns - 1) : line));
  const writer = createWriter(io.stdout);
  if (overLines > 0) await writer.write(`\u001b[${overLines}A\u001b[J`);
  await writer.write(lines.map((line) => `${line}\n`).join(""));
  await writer.flush();
  return lines.length;
}

function blockOf(status: FolderStatus): string[] {
  const { run, done, expected } = status;
  const lines = [
    `${shown(status.dir)}: ${stateOf(status)}`,
    ...status.requests.map((request) => `  asked for  ${shown(request)}`),
    ...status.asking.map((request) => `  asking     ${shown(request)}: asked for, not yet listed`),
    `  stored     ${counted(done.items, "item")} of ${counted(expected.items, "item")}, ${counted(done.files, "file")}, ${sized(done.bytes)} of ${sized(expected.bytes)}`,
  ];
  const lives = isUnderWay(status);
  if (status.missing > 0)
    lines.push(`  ${lives ? "to come" : "missing"}    ${counted(status.missing, "item")}`);
  if (status.damaged > 0) lines.push(`  damaged    ${counted(status.damaged, "item")}`);
  if (status.withdrawn > 0)
    lines.push(`  withdrawn  ${counted(status.withdrawn, "item")}: here, and no longer in the archive`);
  if (status.dropped > 0) lines.push(`  dropped    ${counted(status.dropped, "item")}: never fetched again`);
  if (status.array !== null) {
    const { tasks, working, slices, doneSlices, failedItems, bytesPerSecond } = status.array;
    const parts = [
      `${working} of ${counted(tasks, "task")} at work`,
      `${doneSlices} of ${counted(slices, "slice")} done`,
    ];
    if (failedItems > 0) parts.push(`${failedItems} failed`);
    if (working > 0) parts.push(`${sized(bytesPerSecond)}/s`);
    const eta = arrayEta(status);
    if (eta !== null) parts.push(`${lasting(eta * 1000)} left`);
    lines.push(`  array      ${parts.join(", ")}`);
    if (working === 0)
      lines.push("  waiting    its tasks are in the queue, or were cancelled: squeue --me tells");
  } else if (run !== null) {
    const where = `process ${run.pid} on ${shown(run.host)}${run.detached ? ", detached" : ""}`;
    lines.push(
      `  run        ${where}, started ${run.startedAt}${run.exit === null ? "" : `, ended with exit ${run.exit}`}`,
    );
    if (run.progress !== null) {
      const { doneItems, totalItems, failedItems, bytesPerSecond, etaSeconds } = run.progress;
      const parts = [`${counted(doneItems, "item")} of ${totalItems} done`];
      if (failedItems > 0) parts.push(`${failedItems} failed`);
      if (lives) parts.push(`${sized(bytesPerSecond)}/s`);
      if (lives && etaSeconds !== null) parts.push(`${lasting(etaSeconds * 1000)} left`);
      lines.push(`  progress   ${parts.join(", ")}`);
    }
  }
  if (isStalled(status) && lives) lines.push("  stalled    no bytes arrived for five minutes");
  const dir = shellWord(status.dir);
  if (lives) lines.push(`  to end it  gantry stop ${dir}`);
  else if (status.missing + status.damaged + status.asking.length > 0)
    lines.push(`  to go on   gantry get -o ${dir}`);
  else lines.push(`  to prove   gantry verify ${dir}`);
  return lines;
}
