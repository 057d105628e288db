/** One program, timed: wall clock here, CPU and memory of the whole tree of processes by GNU time. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

export interface Measured {
  readonly wallMs: number;
  /** User and system time of the process and all its descendants. */
  readonly cpuSeconds: number;
  /** Of the largest single process. */
  readonly peakRssBytes: number;
  /** What the process and all its descendants handed to a file system on a disk. */
  readonly writtenBytes: number;
}

const TIME = "/usr/bin/time";

/** Runs the command; `onLine` sees each line of its stdout with the time since the start. Throws when it fails. */
export async function measure(
  command: readonly string[],
  options: {
    readonly cwd: string;
    readonly env: NodeJS.ProcessEnv;
    readonly onLine?: (line: string, ms: number) => void;
  },
): Promise<Measured> {
  const notes = await mkdtemp(join(tmpdir(), "gantry-time-"));
  const report = join(notes, "report");
  try {
    const started = performance.now();
    const child = spawn(TIME, ["-f", "%U %S %M %O", "-o", report, ...command], {
      cwd: options.cwd,
      env: options.env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let errors = "";
    child.stderr.on("data", (chunk: Buffer) => {
      errors = `${errors}${chunk}`.slice(-4000);
    });
    createInterface({ input: child.stdout }).on("line", (line) =>
      options.onLine?.(line, performance.now() - started),
    );
    const status = await new Promise<number | null>((resolve, reject) => {
      child.on("error", reject).on("close", resolve);
    });
    const wallMs = performance.now() - started;
    if (status !== 0) throw new Error(`${command.slice(0, 4).join(" ")} … ended with ${status}\n${errors}`);
    const figures = readFileSync(report, "utf8").trim().split(" ").map(Number);
    const [user = Number.NaN, system = Number.NaN, kilobytes = Number.NaN, blocks = Number.NaN] = figures;
    return {
      wallMs,
      cpuSeconds: user + system,
      peakRssBytes: kilobytes * 1024,
      writtenBytes: blocks * 512,
    };
  } finally {
    await rm(notes, { recursive: true });
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}
