/** A run with --pack that is killed, judged by GNU tar and by receipts; shared by the soak and its short form. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { buildScaleDataset } from "../../src/sandbox/data/scale.ts";
import { freshDir, type Program, type ProgramResult, type Stage, startStage } from "../support/gantry.ts";
import { readTree, type Tree } from "./tree.ts";

export type Format = "tar.zst" | "tar.xz" | "tar";

export interface PackGround {
  readonly stage: Stage;
  /** What tar makes of the archive of a run that nobody disturbed. */
  readonly clean: Tree;
  readonly cleanMs: number;
}

let stage: Promise<Stage> | undefined;

export async function openPackGround(format: Format, series: number): Promise<PackGround> {
  const scale = { series, imagesPerSeries: 4, imageBytes: 20_000, seed: 7, collections: 2 };
  stage ??= startStage({ data: buildScaleDataset(scale) });
  const ground = await stage;
  const dir = await freshDir("packed");
  const startedMs = performance.now();
  const ended = await get(ground, dir, format).ended;
  expect(ended.code, ended.stderr).toBe(0);
  return { stage: ground, clean: untar(dir, format), cleanMs: performance.now() - startedMs };
}

const get = (stage: Stage, dir: string, format: Format) =>
  stage.start(["get", "tcia:", "-o", dir, "--pack", format, "--progress", "none", "--json"]);

/** So long after a run has stored so many items, or has begun when that is 0: the same whatever the machine's speed. */
export interface Moment {
  readonly stored: number;
  readonly thenMs: number;
}

function killAt(program: Program, { stored, thenMs }: Moment): Promise<ProgramResult> {
  let timer: NodeJS.Timeout | undefined;
  const look = (): void => {
    if (timer !== undefined || program.stdout().split('"item-stored"').length - 1 < stored) return;
    timer = setTimeout(() => program.kill("SIGKILL"), thenMs);
  };
  program.child.stdout?.on("data", look);
  look();
  return program.ended.finally(() => clearTimeout(timer));
}

function untar(dir: string, format: Format): Tree {
  const out = mkdtempSync(join(tmpdir(), "gantry-untar-"));
  try {
    const { status, stderr } = spawnSync("tar", ["-xf", join(dir, `packed.${format}`), "-C", out], {
      encoding: "utf8",
    });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    return readTree(out);
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

/** Members of an archive, with repetitions, which extracting would hide. */
function members(dir: string, format: Format): string[] {
  const { stdout } = spawnSync("tar", ["-tf", join(dir, `packed.${format}`)], { encoding: "utf8" });
  return stdout
    .split("\n")
    .filter((line) => line !== "")
    .sort();
}

/** Kills a run at each of the moments, then runs to the end. Resolves to how many items a kill left stored. */
export async function killPacked(
  { stage, clean }: PackGround,
  format: Format,
  moments: readonly Moment[],
): Promise<{ readonly stored: number; readonly finished: boolean }> {
  const dir = await freshDir("packed");
  let finished = false;
  for (const moment of moments) {
    const ended = await killAt(get(stage, dir, format), moment);
    finished = ended.signal === null;
    if (finished) expect(ended.code, ended.stderr).toBe(0);
  }
  const status = await stage.run(["status", dir, "--format", "json"]);
  const stored = status.code === 0 ? Number(JSON.parse(status.stdout)[0].doneItems) : 0;
  if (status.code === 0) expect((await stage.run(["verify", dir])).code).toBe(0);
  const before = stage.requests("getImage").length;
  const ended = await get(stage, dir, format).ended;
  expect(ended.code, ended.stderr).toBe(0);
  const series = new Set([...clean.keys()].map((path) => path.slice(0, path.lastIndexOf("/")))).size;
  expect(stage.requests("getImage").length - before, "fetched although receipted").toBe(series - stored);
  expect([...untar(dir, format)]).toEqual([...clean]);
  expect(members(dir, format)).toEqual([...clean.keys()].sort());
  expect(existsSync(join(dir, ".gantry", "packing"))).toBe(false);
  expect(readdirSync(join(dir, ".gantry", "partial"))).toEqual([]);
  expect((await stage.run(["verify", dir, "--strict"])).code).toBe(0);
  return { stored, finished };
}
