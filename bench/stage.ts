/** Where the runs of a bench take place: the server, empty folders, turns that are fair, and lines of figures. */
import { spawn, spawnSync } from "node:child_process";
import { readdirSync, truncateSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { type Measured, median } from "./measure.ts";
import type { ServerFacts } from "./server.ts";
import type { Workload } from "./workloads.ts";

export const say = (line = ""): void => {
  process.stdout.write(`${line}\n`);
};

/** Serves a workload while `work` runs; `bytesPerSecond`: all replies together come no faster. */
export async function withServer(
  workload: Workload,
  { bytesPerSecond }: { readonly bytesPerSecond?: number },
  work: (facts: ServerFacts) => Promise<void>,
): Promise<void> {
  const { name, series, imagesPerSeries, imageBytes } = workload;
  const words = [fileURLToPath(new URL("server.js", import.meta.url)), name, String(bytesPerSecond ?? "")];
  const server = spawn(process.execPath, words, { stdio: ["pipe", "pipe", "inherit"] });
  try {
    const lines = createInterface({ input: server.stdout })[Symbol.asyncIterator]();
    const facts = JSON.parse(String((await lines.next()).value)) as ServerFacts;
    say(
      `  ${series} series × ${imagesPerSeries} images × ${kilobytes(imageBytes)}, ${facts.pixels}; ` +
        `${megabytes(facts.zipBytes)} of zips for ${megabytes(dataBytesOf(workload))} of images`,
    );
    await work(facts);
  } finally {
    server.stdin.end();
  }
}

export const dataBytesOf = ({ series, imagesPerSeries, imageBytes }: Workload): number =>
  series * imagesPerSeries * imageBytes;

/** Each comes once at each place, and before and after each other. */
export async function inTurn(rounds: number, runs: readonly (() => Promise<unknown>)[]): Promise<void> {
  for (let round = 0; round < rounds; round += 1) {
    const first = round % runs.length;
    const turned = [...runs.slice(first), ...runs.slice(0, first)];
    for (const run of round % 2 === 0 ? turned : turned.reverse()) await run();
  }
}

let count = 0;

/** An empty folder on a disk that has nothing left to write. */
export async function freshPlace(dir: string): Promise<string> {
  count += 1;
  const place = join(dir, `run-${count}`);
  await mkdir(place);
  spawnSync("sync", ["-f", dir]);
  return place;
}

/**
 * Files of a run are emptied and stay: ext4 searches long for an inode while thousands were deleted within seconds
 * (fs/ext4/ialloc.c `recently_deleted`), and the next run would pay for it.
 */
export function emptyPlace(place: string): void {
  for (const entry of readdirSync(place, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) truncateSync(join(entry.parentPath, entry.name));
  }
}

/** `config.toml` in `place`, with the server as its only archive. */
export function writeConfig(place: string, { url }: ServerFacts): string {
  const config = join(place, "config.toml");
  writeFileSync(config, `[archives.tcia]\nkind = "nbia"\nurl = ${JSON.stringify(url)}\n`);
  return config;
}

/** What the shell gets for nothing: `urls.tsv` in `place`, UID, tab, URL. */
export function writeUrls(place: string, { url, seriesUids }: ServerFacts): void {
  const rows = seriesUids.map(
    (uid) => `${uid}\t${url}/services/v4/getImage?SeriesInstanceUID=${uid}&NewFileNames=Yes&IncludeMD5=Yes\n`,
  );
  writeFileSync(join(place, "urls.tsv"), rows.join(""));
}

/** No proxy, no configuration of the user's, nothing of npm. */
export function environment(home: string, more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH, HOME: home, LANG: "C.UTF-8", NO_PROXY: "127.0.0.1", ...more };
}

export const medianWall = (runs: readonly Measured[]): number => median(runs.map(({ wallMs }) => wallMs));

export function sayRuns(label: string, runs: readonly Measured[]): void {
  const spread = runs.map((run) => run.wallMs).sort((a, b) => a - b);
  say(
    `  ${label.padEnd(48)} ${seconds(medianWall(runs))}  (${seconds(spread[0])} to ${seconds(spread.at(-1))})` +
      `  CPU ${median(runs.map((run) => run.cpuSeconds)).toFixed(2)} s` +
      `  peak ${megabytes(median(runs.map((run) => run.peakRssBytes)))}`,
  );
}

/** The median of a figure of two runs of the same round: it holds when the machine's speed drifts. */
export function pairedRatio<A, B>(
  over: readonly A[],
  under: readonly B[],
  ratio: (a: A, b: B) => number,
): number {
  return median(over.map((a, round) => ratio(a, under[round] as B)));
}

export function sayGoal(what: string, figure: number, bound: "≥" | "≤", goal: number): void {
  const met = bound === "≥" ? figure >= goal : figure <= goal;
  say(`  ${what}: ${figure.toFixed(2)} (goal ${bound} ${goal}: ${met ? "met" : "NOT met"})`);
}

export const seconds = (ms: number | undefined): string => `${((ms ?? Number.NaN) / 1000).toFixed(2)} s`;
export const megabytes = (bytes: number): string => `${Math.round(bytes / 1e6)} MB`;
const kilobytes = (bytes: number): string => `${Math.round(bytes / 1000)} kB`;
