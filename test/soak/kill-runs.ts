/** A run of the real binary that is killed, judged; then one to the end. Shared by the soak and its short form. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { parseReceipt, type Receipt, resolveReceipts } from "../../src/model/receipt.ts";
import { buildScaleDataset } from "../../src/sandbox/data/scale.ts";
import { freshDir, type ProgramResult, type Stage, startStage } from "../support/gantry.ts";
import { missingFiles, readTree, type Tree, wrongFiles } from "./tree.ts";

const SERIES = 60;

export interface KillGround {
  readonly stage: Stage;
  readonly clean: Tree;
  readonly cleanMs: number;
  /** Runs to the end and expects a clean run's tree, a clean verify and tidy state. */
  finish(dir: string): Promise<void>;
}

let opened: Promise<KillGround> | undefined;

/** One for each test file: two collections of small series. */
export function openKillGround(series = SERIES): Promise<KillGround> {
  opened ??= (async () => {
    const scale = { series, imagesPerSeries: 4, imageBytes: 20_000, seed: 7, collections: 2 };
    const stage = await startStage({ data: buildScaleDataset(scale) });
    // The second run is measured: the first one warms the server.
    await get(stage, await freshDir());
    const dir = await freshDir();
    const startedMs = performance.now();
    const ended = await get(stage, dir);
    expect(ended.code, ended.stderr).toBe(0);
    const cleanMs = performance.now() - startedMs;
    const clean = readTree(dir);
    return { stage, clean, cleanMs, finish: (target) => finish(stage, clean, series, target) };
  })();
  return opened;
}

const get = (stage: Stage, dir: string): Promise<ProgramResult> =>
  stage.run(["get", "tcia:", "-o", dir, "--progress", "none"]);

async function finish(stage: Stage, clean: Tree, series: number, dir: string): Promise<void> {
  const ended = await get(stage, dir);
  expect(ended.code, ended.stderr).toBe(0);
  expect([...readTree(dir)]).toEqual([...clean]);
  const state = (...names: string[]): string => join(dir, ".gantry", ...names);
  expect(readdirSync(state("partial")), "left in partial").toEqual([]);
  expect(readdirSync(state("quarantine")), "left in quarantine").toEqual([]);
  expect(
    readdirSync(dir, { recursive: true }).filter((name) => String(name).endsWith(".tmp")),
    "temporary files left",
  ).toEqual([]);
  expect(currentReceipts(dir).map((receipt) => receipt.type)).toEqual(
    Array.from({ length: series }, () => "stored"),
  );
  const verified = await stage.run(["verify", dir]);
  expect(verified.code, verified.stderr).toBe(0);
}

/** The current receipt of each item, read by its format alone. Torn last lines don't count, others must be whole. */
function currentReceipts(dir: string): Receipt[] {
  const byItem = new Map<string, Receipt[]>();
  const folder = join(dir, ".gantry", "receipts");
  for (const name of readdirSync(folder)) {
    const lines = readFileSync(join(folder, name), "utf8").split("\n");
    lines.pop();
    for (const line of lines.slice(1)) {
      const receipt = parseReceipt(line);
      expect(receipt, `${name}: ${line.slice(0, 100)}`).not.toBeNull();
      if (receipt) byItem.set(receipt.item, [...(byItem.get(receipt.item) ?? []), receipt]);
    }
  }
  return [...byItem.values()].flatMap((lines) => resolveReceipts(lines)?.current ?? []);
}

/** Kills a fresh run after `atMs`, perhaps a rerun too, then finishes. */
export async function killOnce(
  ground: KillGround,
  atMs: number,
  againMs: number | null,
): Promise<{ readonly stored: number; readonly finished: boolean }> {
  const { stage, clean } = ground;
  const dir = await freshDir();
  let finished = false;
  for (const afterMs of againMs === null ? [atMs] : [atMs, againMs]) {
    const program = stage.start(["get", "tcia:", "-o", dir, "--progress", "none"]);
    const timer = setTimeout(() => program.kill("SIGKILL"), afterMs);
    const ended = await program.ended;
    clearTimeout(timer);
    finished = ended.signal === null;
    if (finished) expect(ended.code, ended.stderr).toBe(0);
    expect(wrongFiles(dir, clean)).toEqual([]);
  }
  const stored = clean.size - missingFiles(dir, clean).length;
  await ground.finish(dir);
  return { stored, finished };
}

/** Numbers from 0 to 1 that repeat for a seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
