/** `get --pack` beside what one would do by hand: download, then tar through the same compressor. */
import { spawnSync } from "node:child_process";
import { chmodSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type Measured, measure, median } from "./measure.ts";
import { OPPONENTS } from "./opponents.ts";
import { PROGRAM } from "./product.ts";
import type { ServerFacts } from "./server.ts";
import {
  emptyPlace,
  environment,
  freshPlace,
  inTurn,
  medianWall,
  megabytes,
  pairedRatio,
  say,
  sayGoal,
  sayRuns,
  withServer,
  writeConfig,
  writeUrls,
} from "./stage.ts";
import { COLLECTION, type Workload, workloadOf } from "./workloads.ts";

interface Options {
  readonly dir: string;
  readonly rounds: number;
}

interface PackRun extends Measured {
  readonly archiveBytes: number;
}

/** 200 Mbit/s: fast for a distant archive, and still slower than any compressor here. */
const LINK_BYTES_PER_SECOND = 25_000_000;
/** Most that gantry's own process may hold. */
const MEMORY_GOAL_MB = 200;

export async function benchPackLink({ dir, rounds }: Options): Promise<void> {
  const workload = workloadOf("few-large");
  say(`\npack-link: tar.zst over 200 Mbit/s, ${rounds} rounds, medians`);
  await withServer(workload, { bytesPerSecond: LINK_BYTES_PER_SECOND }, async (facts) => {
    const gantry: PackRun[] = [];
    const link: Measured[] = [];
    const byHand = BY_HAND.map((): Measured[] => []);
    await inTurn(rounds, [
      async () => gantry.push(await runPack("tar.zst", facts, workload, dir)),
      async () => link.push(await runShell(LINK_ALONE, facts, dir)),
      ...BY_HAND.map(
        ({ script }, index) =>
          async () =>
            byHand[index]?.push(await runShell(script, facts, dir)),
      ),
    ]);
    sayRuns("gantry get --pack tar.zst", gantry);
    sayRuns("the link alone: curl to nowhere", link);
    for (const [index, runs] of byHand.entries()) sayRuns(BY_HAND[index]?.name ?? "", runs);
    const best = byHand.reduce((a, b) => (medianWall(b) < medianWall(a) ? b : a));
    sayGoal("download, then tar ÷ gantry", pairedRatio(best, gantry, wallRatio), "≥", 1.15);
    sayGoal("the link alone ÷ gantry", pairedRatio(link, gantry, wallRatio), "≥", 0.95);
  });
}

export async function benchPack({ dir, rounds }: Options): Promise<void> {
  const workload = workloadOf("few-large");
  say(`\npack: tar.zst on bare loopback, ${rounds} rounds, medians`);
  await withServer(workload, {}, async (facts) => {
    const packed: PackRun[] = [];
    const loose: Measured[] = [];
    await inTurn(rounds, [
      async () => packed.push(await runPack("tar.zst", facts, workload, dir)),
      async () => loose.push(await runGet([], facts, dir)),
    ]);
    sayRuns("gantry get --pack tar.zst", packed);
    sayRuns("gantry get", loose);
    sayGoal("get ÷ get --pack", pairedRatio(loose, packed, wallRatio), "≥", 0.6);
    sayWritten(packed);
    await sayMemory("tar.zst", facts, workload, dir);
  });
}

export async function benchPackXz({ dir, rounds }: Options): Promise<void> {
  const workload = workloadOf("some-large");
  say(`\npack-xz: tar.xz on bare loopback, ${rounds} rounds, medians`);
  await withServer(workload, {}, async (facts) => {
    const place = await freshPlace(dir);
    await measureGet(["--pack", "tar"], facts, place);
    const tar = join(place, "out", `${COLLECTION}.tar`);
    const gantry: PackRun[] = [];
    const alone: Measured[] = [];
    await inTurn(rounds, [
      async () => gantry.push(await runPack("tar.xz", facts, workload, dir)),
      async () => alone.push(await runShell(`xz -6 -T0 -c ${tar} > data.tar.xz\nsync -f .`, facts, dir)),
    ]);
    sayRuns("gantry get --pack tar.xz", gantry);
    sayRuns("xz -6 -T0 of the tar that is there already", alone);
    sayGoal("xz ÷ gantry", pairedRatio(alone, gantry, wallRatio), "≥", 1);
    sayWritten(gantry);
    await sayMemory("tar.xz", facts, workload, dir);
  });
}

export async function benchPackTiny({ dir, rounds }: Options): Promise<void> {
  const workload = workloadOf("many-tiny");
  say(`\npack-tiny: items of one file of 2 kB, ${rounds} rounds, medians`);
  await withServer(workload, {}, async (facts) => {
    const formats = ["tar.zst", "tar.xz", "tar"] as const;
    const loose: Measured[] = [];
    const packed = formats.map((): PackRun[] => []);
    await inTurn(rounds, [
      async () => loose.push(await runGet([], facts, dir)),
      ...formats.map(
        (format, index) => async () => packed[index]?.push(await runPack(format, facts, workload, dir)),
      ),
    ]);
    sayRuns("gantry get", loose);
    for (const [index, format] of formats.entries()) {
      const runs = packed[index] ?? [];
      sayRuns(`gantry get --pack ${format}`, runs);
      const cpu = pairedRatio(runs, loose, (a, b) => a.cpuSeconds / b.cpuSeconds);
      say(`    CPU ÷ get: ${cpu.toFixed(2)}; archive ${megabytes(median(runs.map((r) => r.archiveBytes)))}`);
    }
  });
}

const wallRatio = (a: Measured, b: Measured): number => a.wallMs / b.wallMs;

/** What a run writes, while all files of a series fit into memory. */
function sayWritten(runs: readonly PackRun[]): void {
  const ratio = median(runs.map(({ writtenBytes, archiveBytes }) => writtenBytes / archiveBytes));
  sayGoal("bytes written ÷ archive's size", ratio, "≤", 1.1);
}

async function runPack(
  format: string,
  facts: ServerFacts,
  workload: Workload,
  dir: string,
): Promise<PackRun> {
  const place = await freshPlace(dir);
  const measured = await measureGet(["--pack", format], facts, place);
  const archive = join(place, "out", `${COLLECTION}.${format}`);
  const archiveBytes = statSync(archive).size;
  checkMembers(archive, workload);
  emptyPlace(place);
  return { ...measured, archiveBytes };
}

/** A run counts only if tar finds everything in what it left. */
function checkMembers(archive: string, { series, imagesPerSeries }: Workload): void {
  const { stdout } = spawnSync("sh", ["-c", 'tar -tf "$0" | wc -l', archive], { encoding: "utf8" });
  if (Number(stdout) !== series * imagesPerSeries) throw new Error(`${archive} has ${stdout} members`);
}

async function runGet(flags: readonly string[], facts: ServerFacts, dir: string): Promise<Measured> {
  const place = await freshPlace(dir);
  const measured = await measureGet(flags, facts, place);
  emptyPlace(place);
  return measured;
}

export function measureGet(
  flags: readonly string[],
  facts: ServerFacts,
  place: string,
  env: NodeJS.ProcessEnv = {},
): Promise<Measured> {
  const config = writeConfig(place, facts);
  const words = ["get", `tcia:${COLLECTION}`, "-o", join(place, "out"), "--progress", "none", ...flags];
  return measure([process.execPath, PROGRAM, ...words], {
    cwd: place,
    env: environment(place, { GANTRY_CONFIG: config, ...env }),
  });
}

async function runShell(script: string, facts: ServerFacts, dir: string): Promise<Measured> {
  const place = await freshPlace(dir);
  writeUrls(place, facts);
  const measured = await measure(["bash", "-c", `set -eu -o pipefail\n${script}`], {
    cwd: place,
    env: environment(place),
  });
  emptyPlace(place);
  return measured;
}

/** As many downloads at once as gantry has. */
const LINK_ALONE = `
awk -F'\\t' '{ print "url = \\"" $2 "\\"\\noutput = /dev/null" }' urls.tsv > list
curl -sS --fail --parallel --parallel-max 4 -K list
`;

/** Level and threads are those that gantry has on this machine. */
const THEN_TAR = `
tar -cf - -C data . | zstd -q -3 -T0 -o data.tar.zst
rm -r data
sync -f .
`;
const BY_HAND = OPPONENTS.filter(({ name }) => !name.startsWith("aria2c")).map(({ name, script }) => ({
  name: `${name}, tar | zstd -3 -T0`,
  script: script.replace(/\nsync -f data\n?$/u, THEN_TAR),
}));

/** One more run, with a look at the memory of each process; it is not timed. */
async function sayMemory(
  format: "tar.zst" | "tar.xz",
  facts: ServerFacts,
  workload: Workload,
  dir: string,
): Promise<void> {
  const place = await freshPlace(dir);
  const program = format === "tar.zst" ? "zstd" : "xz";
  const notes = join(place, "children");
  const real = spawnSync("sh", ["-c", `command -v ${program}`], { encoding: "utf8" }).stdout.trim();
  const bin = join(place, "bin");
  await mkdir(bin);
  writeFileSync(
    join(bin, program),
    `#!/bin/sh\nexec /usr/bin/time -q -a -o ${notes} -f '%M %C' ${real} "$@"\n`,
  );
  chmodSync(join(bin, program), 0o755);
  writeFileSync(notes, "");
  const peak = join(place, "peak");
  await measureGet(["--pack", format], facts, place, {
    PATH: `${bin}:${process.env.PATH}`,
    NODE_OPTIONS: `--import=${new URL("peak-probe.js", import.meta.url).href}`,
    GANTRY_BENCH_PEAK: peak,
  });
  const archive = join(place, "out", `${COLLECTION}.${format}`);
  checkMembers(archive, workload);
  sayGoal("gantry's own peak, MB", Number(readFileSync(peak, "utf8")) / 1e6, "≤", MEMORY_GOAL_MB);
  const children = readFileSync(notes, "utf8")
    .trim()
    .split("\n")
    .map((line) => /^(\d+) (.*)$/u.exec(line))
    .flatMap((match) => (match ? [{ bytes: Number(match[1]) * 1024, command: match[2] ?? "" }] : []))
    .sort((a, b) => b.bytes - a.bytes);
  const [largest] = children;
  if (!largest) {
    say("  no compressor was started: Node compresses by itself");
    return;
  }
  // As much of the tar as the largest piece holds.
  const input = `${program} -dc ${archive} 2>/dev/null | head -c 4600000 > input`;
  const alone = await measure(["sh", "-c", `${input}; exec ${largest.command} < input > /dev/null`], {
    cwd: place,
    env: environment(place),
  });
  say(`  ${children.length} compressors, the largest: ${largest.command}`);
  say(`  its peak ${megabytes(largest.bytes)}; the same command alone ${megabytes(alone.peakRssBytes)}`);
  emptyPlace(place);
}
