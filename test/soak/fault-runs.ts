/** One get under faults, judged; then the same without them. Shared by the soak and its short form. */

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { setInterval } from "node:timers";
import { expect } from "vitest";
import { NO_FILTERS, type OpenOptions, type RunSummary } from "../../src/index.ts";
import { buildScaleDataset } from "../../src/sandbox/data/scale.ts";
import { FAULT_KINDS, type Fault, type FaultKind } from "../../src/sandbox/faults.ts";
import { freshDir, runVerify, type Stage, startStage } from "../support/gantry.ts";
import { missingFiles, readTree, type Tree, wrongFiles } from "./tree.ts";

/** Small enough for hundreds of runs, with every shape that counts: two collections, many items at once. */
const SCALE = { series: 12, imagesPerSeries: 3, imageBytes: 20_000, seed: 7, collections: 2 };
const WORDS = ["tcia:SCALE-01", "tcia:SCALE-02"];
const QUICK: OpenOptions = { retries: 1, stallTimeoutMs: 700, jobs: 4 };

export interface Ground {
  readonly stage: Stage;
  readonly clean: Tree;
}

/** A sandbox, and the tree of a run that met no fault. */
export async function openGround(): Promise<Ground> {
  const stage = await startStage({ data: buildScaleDataset(SCALE) });
  const dir = await freshDir();
  const { summary } = await stage.get(words(), { dir });
  expect(summary).toMatchObject({ exit: 0, stored: { items: SCALE.series } });
  return { stage, clean: readTree(dir) };
}

/** `ADDRESS PATH…`: both collections. */
function words(): string[] {
  return ["tcia:", ...WORDS.map((word) => word.slice("tcia:".length))];
}

/** Settings under which a kind does its worst on small data and is over soon. */
export function faultOf(kind: FaultKind, common: Pick<Fault, "probability" | "count" | "route"> = {}): Fault {
  const own: Partial<Record<FaultKind, Partial<Fault>>> = {
    "slow-first-byte": { ms: 900 },
    slow: { bytesPerSecond: 200_000 },
    "429": { retryAfter: 1 },
    "503": { retryAfter: 1 },
    bomb: { inflatesToBytes: 100_000_000 },
  };
  return { kind, ...own[kind], ...common };
}

export const ALL_KINDS: readonly FaultKind[] = FAULT_KINDS;

export interface Judged {
  readonly faulty: RunSummary;
  readonly dir: string;
}

/**
 * A get under faults into a fresh folder, whatever its exit; then one without. Nothing wrong may ever stand under a
 * final name, exit 0 means a whole tree, and after the second run the tree is that of a clean run.
 */
export async function runUnderFaults(
  { stage, clean }: Ground,
  faults: readonly Fault[],
  options: { readonly watch?: boolean; readonly seed?: number; readonly typedAgain?: boolean } = {},
): Promise<Judged> {
  const { control } = stage;
  control.reset();
  if (options.seed !== undefined) await control.seed(options.seed);
  const dir = await freshDir();
  const seen: string[] = [];
  const watcher = options.watch ? setInterval(() => seen.push(...wrongFiles(dir, clean)), 15) : null;
  const get = async (asked: readonly string[]): Promise<RunSummary> => {
    const run = await stage.get(asked, { dir, filters: NO_FILTERS }, QUICK);
    return run.summary;
  };
  control.setFaults(faults);
  const faulty = await get(words());
  if (watcher) clearInterval(watcher);
  expect(seen, "wrong under a final name while the run was at work").toEqual([]);
  expect(wrongFiles(dir, clean), "wrong under a final name").toEqual([]);
  expect([0, 2, 3, 4, 5, 6], JSON.stringify(faulty.error)).toContain(faulty.exit);
  if (faulty.exit === 0) expect(missingFiles(dir, clean), "missing, and exit 0").toEqual([]);
  else expect(faulty.failed + (faulty.error ? 1 : 0)).toBeGreaterThan(0);

  control.setFaults([]);
  const typed = (options.typedAgain ?? false) || faulty.stored.items === 0;
  const again = await get(typed ? words() : []);
  expect(again, JSON.stringify(again.failures)).toMatchObject({ exit: 0, failed: 0 });
  expect([...readTree(dir)]).toEqual([...clean]);
  expect(readdirSync(join(dir, ".gantry", "partial"))).toEqual([]);
  const { summary } = await runVerify(dir);
  expect(summary.exit).toBe(0);
  return { faulty, dir };
}
