/** Gantry beside the shell's best, on one workload. */
import { spawn, spawnSync } from "node:child_process";
import { readdirSync, truncateSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { type Measured, measure, median } from "./measure.ts";
import { OPPONENTS } from "./opponents.ts";
import { PROGRAM } from "./product.ts";
import type { ServerFacts } from "./server.ts";
import { COLLECTION, type Workload } from "./workloads.ts";

interface GantryRun extends Measured {
  /** From the start to the first item: loading, listing, planning. */
  readonly beforeMs: number;
  /** From the first item begun to the last one receipted. */
  readonly transferMs: number;
}

const say = (line = ""): void => {
  process.stdout.write(`${line}\n`);
};

export async function benchDownload(
  workload: Workload,
  options: { dir: string; rounds: number },
): Promise<void> {
  const { dir, rounds } = options;
  const { name, series, imagesPerSeries, imageBytes } = workload;
  say(`\n${name}: ${series} series × ${imagesPerSeries} images × ${Math.round(imageBytes / 1000)} kB`);
  const server = spawn(process.execPath, [fileURLToPath(new URL("server.js", import.meta.url)), name], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  try {
    const lines = createInterface({ input: server.stdout })[Symbol.asyncIterator]();
    const facts = JSON.parse(String((await lines.next()).value)) as ServerFacts;
    const dataBytes = series * imagesPerSeries * imageBytes;
    say(
      `  ${facts.pixels}; ${megabytes(facts.zipBytes)} of zips for ${megabytes(dataBytes)} of images; ` +
        `${rounds} rounds, medians`,
    );
    const gantry: GantryRun[] = [];
    const shell = OPPONENTS.map((): Measured[] => []);
    for (let round = 0; round < rounds; round += 1) {
      const runs = [
        async () => gantry.push(await runGantry(facts, workload, dir)),
        ...OPPONENTS.map(
          (_, index) => async () => shell[index]?.push(await runShell(index, facts, workload, dir)),
        ),
      ];
      // Each comes once at each place, and before and after each other.
      const turned = [...runs.slice(round % runs.length), ...runs.slice(0, round % runs.length)];
      for (const run of round % 2 === 0 ? turned : turned.reverse()) await run();
    }
    report(gantry, shell);
  } finally {
    server.stdin.end();
  }
}

function report(gantry: readonly GantryRun[], shell: readonly (readonly Measured[])[]): void {
  const wall = (runs: readonly Measured[]): number => median(runs.map((run) => run.wallMs));
  const line = (label: string, runs: readonly Measured[]): void => {
    const spread = runs.map((run) => run.wallMs).sort((a, b) => a - b);
    say(
      `  ${label.padEnd(48)} ${seconds(wall(runs))}  (${seconds(spread[0])} to ${seconds(spread.at(-1))})` +
        `  CPU ${median(runs.map((run) => run.cpuSeconds)).toFixed(2)} s` +
        `  peak ${megabytes(median(runs.map((run) => run.peakRssBytes)))}`,
    );
  };
  line("gantry get", gantry);
  for (const [index, runs] of shell.entries()) line(OPPONENTS[index]?.name ?? "", runs);
  const best = shell.reduce((a, b) => (wall(b) < wall(a) ? b : a));
  const before = median(gantry.map((run) => run.beforeMs));
  const transfer = median(gantry.map((run) => run.transferMs));
  const ratio = wall(best) / wall(gantry);
  say(
    `  of gantry's time: ${seconds(before)} loading, listing and planning; ${seconds(transfer)} transfer, receipts ` +
      `included; ${seconds(wall(gantry) - before - transfer)} metadata.csv, listing, end. The shell lists nothing: ` +
      "its URLs are given.",
  );
  say(
    `  shell ÷ gantry: whole run ${ratio.toFixed(2)}, transfer alone ${(wall(best) / transfer).toFixed(2)}`,
  );
  say(`  goal (whole run ≥ 1.00): ${ratio >= 1 ? "met" : "NOT met"}`);
}

async function runGantry(facts: ServerFacts, workload: Workload, dir: string): Promise<GantryRun> {
  const place = await fresh(dir);
  const config = join(place, "config.toml");
  writeFileSync(config, `[archives.tcia]\nkind = "nbia"\nurl = ${JSON.stringify(facts.url)}\n`);
  const out = join(place, "out");
  let first = Number.NaN;
  let last = Number.NaN;
  const measured = await measure(
    [process.execPath, PROGRAM, "get", `tcia:${COLLECTION}`, "-o", out, "--json", "--progress", "none"],
    {
      cwd: place,
      env: environment(place, { GANTRY_CONFIG: config }),
      onLine: (line, ms) => {
        if (Number.isNaN(first) && line.includes('"item-started"')) first = ms;
        if (line.includes('"item-stored"')) last = ms;
      },
    },
  );
  await endRun(place, out, workload);
  return { ...measured, beforeMs: first, transferMs: last - first };
}

async function runShell(
  index: number,
  facts: ServerFacts,
  workload: Workload,
  dir: string,
): Promise<Measured> {
  const place = await fresh(dir);
  const rows = facts.seriesUids.map(
    (uid) =>
      `${uid}\t${facts.url}/services/v4/getImage?SeriesInstanceUID=${uid}&NewFileNames=Yes&IncludeMD5=Yes\n`,
  );
  writeFileSync(join(place, "urls.tsv"), rows.join(""));
  const script = `set -eu -o pipefail\n${OPPONENTS[index]?.script}`;
  const measured = await measure(["bash", "-c", script], { cwd: place, env: environment(place) });
  await endRun(place, join(place, "data"), workload);
  return measured;
}

/** No proxy, no configuration of the user's, nothing of npm. */
function environment(home: string, more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH, HOME: home, LANG: "C.UTF-8", NO_PROXY: "127.0.0.1", ...more };
}

let count = 0;

/** An empty folder on a disk that has nothing left to write. */
async function fresh(dir: string): Promise<string> {
  count += 1;
  const place = join(dir, `run-${count}`);
  await mkdir(place);
  spawnSync("sync", ["-f", dir]);
  return place;
}

/**
 * A run counts only if it left everything. Its files are emptied and stay: ext4 searches long for an inode while
 * thousands were deleted within seconds (fs/ext4/ialloc.c `recently_deleted`), and the next run would pay for it.
 */
async function endRun(place: string, folder: string, { series, imagesPerSeries }: Workload): Promise<void> {
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((path) =>
    path.endsWith(".dcm"),
  );
  if (files.length !== series * imagesPerSeries) throw new Error(`${files.length} files came`);
  for (const entry of readdirSync(place, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) truncateSync(join(entry.parentPath, entry.name));
  }
}

const seconds = (ms: number | undefined): string => `${((ms ?? Number.NaN) / 1000).toFixed(2)} s`;
const megabytes = (bytes: number): string => `${Math.round(bytes / 1e6)} MB`;
