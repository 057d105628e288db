/** One series out of an archive file of 2 GB. */
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type Measured, measure } from "./measure.ts";
import { measureGet } from "./pack.ts";
import { PROGRAM } from "./product.ts";
import {
  environment,
  freshPlace,
  inTurn,
  megabytes,
  pairedRatio,
  say,
  sayRuns,
  withServer,
} from "./stage.ts";
import { COLLECTION, workloadOf } from "./workloads.ts";

export async function benchReadOne({ dir, rounds }: { dir: string; rounds: number }): Promise<void> {
  say(`\nread-one: one series out of an archive file, ${rounds} rounds, medians`);
  await withServer(workloadOf("two-gigabytes"), {}, async (facts) => {
    const place = await freshPlace(dir);
    await measureGet(["--pack", "tar.zst"], facts, place);
    const archive = join(place, "out", `${COLLECTION}.tar.zst`);
    const { folder, bytes, share } = cutOut(archive, join(place, "series.zst"));
    say(`  the series has ${megabytes(bytes)}, ${share.toFixed(3)} of the archive`);
    const gantry = `${process.execPath} ${PROGRAM}`;
    const run = (script: string): Promise<Measured> =>
      measure(["bash", "-c", `set -eu -o pipefail\n${script}`], { cwd: place, env: environment(place) });
    const cat: Measured[] = [];
    const whole: Measured[] = [];
    const series: Measured[] = [];
    const nothing: Measured[] = [];
    await inTurn(rounds, [
      async () => cat.push(await run(`exec ${gantry} cat '${archive}' '${folder}' > /dev/null`)),
      async () => whole.push(await run(`exec zstd -q -d -c '${archive}' > /dev/null`)),
      async () => series.push(await run("zstd -q -d -c series.zst | md5sum > /dev/null")),
      async () => nothing.push(await run(`exec ${gantry} --version > /dev/null`)),
    ]);
    sayRuns("gantry cat ARCHIVE SERIES", cat);
    sayRuns("zstd -d of the whole archive", whole);
    sayRuns("zstd -d of the series' bytes alone | md5sum", series);
    sayRuns("gantry --version", nothing);
    for (const [what, of] of [
      ["wall", (run: Measured) => run.wallMs],
      ["CPU", (run: Measured) => run.cpuSeconds],
    ] as const) {
      const toWhole = pairedRatio(cat, whole, (a, b) => of(a) / of(b));
      const own = series.map((run, round) => of(run) + of(nothing[round] as Measured));
      const toOwn = pairedRatio(cat, own, (a, b) => of(a) / b);
      say(
        `  ${what}: cat ÷ whole archive ${toWhole.toFixed(2)}, cat ÷ (series' bytes + start) ${toOwn.toFixed(2)}`,
      );
    }
  });
}

interface IndexLine {
  readonly path: string;
  readonly bytes: number;
  readonly offset: number;
  readonly length: number;
}

/** The bytes of the archive file that hold the series in its middle, into a file. */
function cutOut(archive: string, into: string): { folder: string; bytes: number; share: number } {
  const lines = readFileSync(`${archive}.index.jsonl`, "utf8").trim().split("\n").slice(1);
  const members = lines.map((line) => JSON.parse(line) as IndexLine);
  const folder = dirname(members[members.length >> 1]?.path ?? "");
  const own = members.filter(({ path }) => dirname(path) === folder);
  const pieces = new Map(own.map(({ offset, length }) => [offset, length]));
  const whole = readFileSync(archive);
  writeFileSync(
    into,
    Buffer.concat([...pieces].map(([offset, length]) => whole.subarray(offset, offset + length))),
  );
  const sum = (of: readonly IndexLine[]): number => of.reduce((total, { bytes }) => total + bytes, 0);
  return { folder, bytes: sum(own), share: sum(own) / sum(members) };
}
