/** Gantry beside the shell's best, on one workload. */
import { readdirSync } from "node:fs";
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
  say,
  sayGoal,
  sayRuns,
  seconds,
  withServer,
  writeConfig,
  writeUrls,
} from "./stage.ts";
import { COLLECTION, type Workload } from "./workloads.ts";

interface GantryRun extends Measured {
  /** From the start to the first item: loading, listing, planning. */
  readonly beforeMs: number;
  /** From the first item begun to the last one receipted. */
  readonly transferMs: number;
}

export async function benchDownload(
  workload: Workload,
  options: { dir: string; rounds: number },
): Promise<void> {
  const { dir, rounds } = options;
  say(`\n${workload.name}, ${rounds} rounds, medians`);
  await withServer(workload, {}, async (facts) => {
    const gantry: GantryRun[] = [];
    const shell = OPPONENTS.map((): Measured[] => []);
    await inTurn(rounds, [
      async () => gantry.push(await runGantry(facts, workload, dir)),
      ...OPPONENTS.map(
        ({ script }, index) =>
          async () =>
            shell[index]?.push(await runShell(script, facts, workload, dir)),
      ),
    ]);
    report(gantry, shell);
  });
}

function report(gantry: readonly GantryRun[], shell: readonly (readonly Measured[])[]): void {
  sayRuns("gantry get", gantry);
  for (const [index, runs] of shell.entries()) sayRuns(OPPONENTS[index]?.name ?? "", runs);
  const best = shell.reduce((a, b) => (medianWall(b) < medianWall(a) ? b : a));
  const before = median(gantry.map((run) => run.beforeMs));
  const transfer = median(gantry.map((run) => run.transferMs));
  const wall = medianWall(gantry);
  say(
    `  of gantry's time: ${seconds(before)} loading, listing and planning; ${seconds(transfer)} transfer, receipts ` +
      `included; ${seconds(wall - before - transfer)} metadata.csv, listing, end. The shell lists nothing: ` +
      "its URLs are given.",
  );
  say(`  shell ÷ gantry, transfer alone: ${(medianWall(best) / transfer).toFixed(2)}`);
  sayGoal("shell ÷ gantry, whole run", medianWall(best) / wall, "≥", 1);
}

async function runGantry(facts: ServerFacts, workload: Workload, dir: string): Promise<GantryRun> {
  const place = await freshPlace(dir);
  const config = writeConfig(place, facts);
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
  endRun(place, out, workload);
  return { ...measured, beforeMs: first, transferMs: last - first };
}

async function runShell(
  script: string,
  facts: ServerFacts,
  workload: Workload,
  dir: string,
): Promise<Measured> {
  const place = await freshPlace(dir);
  writeUrls(place, facts);
  const measured = await measure(["bash", "-c", `set -eu -o pipefail\n${script}`], {
    cwd: place,
    env: environment(place),
  });
  endRun(place, join(place, "data"), workload);
  return measured;
}

/** A run counts only if it left everything. */
function endRun(place: string, folder: string, { series, imagesPerSeries }: Workload): void {
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((path) =>
    path.endsWith(".dcm"),
  );
  if (files.length !== series * imagesPerSeries) throw new Error(`${files.length} files came`);
  emptyPlace(place);
}
