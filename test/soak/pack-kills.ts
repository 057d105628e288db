/** A run with --pack that is killed, judged by GNU tar and by receipts; shared by the soak and its short form. */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
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

function untar(dir: string, format: Format, name = `packed.${format}`): Tree {
  const out = mkdtempSync(join(tmpdir(), "gantry-untar-"));
  try {
    const { status, stderr } = spawnSync("tar", ["-xf", join(dir, name), "-C", out], {
      encoding: "utf8",
    });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    return readTree(out);
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

/** Members of an archive, with repetitions, which extracting would hide. */
function members(dir: string, format: Format, name = `packed.${format}`): string[] {
  const { stdout } = spawnSync("tar", ["-tf", join(dir, name)], { encoding: "utf8" });
  return stdout
    .split("\n")
    .filter((line) => line !== "")
    .sort();
}

const seriesOf = (tree: Tree): number =>
  new Set([...tree.keys()].map((path) => path.slice(0, path.lastIndexOf("/")))).size;

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
  // Nothing stored of what was asked for is no proof.
  if (status.code === 0) expect(stored > 0 ? [0] : [0, 6]).toContain((await stage.run(["verify", dir])).code);
  const before = stage.requests("getImage").length;
  const ended = await get(stage, dir, format).ended;
  expect(ended.code, ended.stderr).toBe(0);
  expect(stage.requests("getImage").length - before, "fetched although receipted").toBe(
    seriesOf(clean) - stored,
  );
  expect([...untar(dir, format)]).toEqual([...clean]);
  expect(members(dir, format)).toEqual([...clean.keys()].sort());
  expect(isPacking(dir)).toBe(false);
  expect(readdirSync(join(dir, ".gantry", "partial"))).toEqual([]);
  expect((await stage.run(["verify", dir, "--strict"])).code).toBe(0);
  return { stored, finished };
}

export interface JoinGround {
  readonly stage: Stage;
  /** A folder whose archive files are to be joined. */
  readonly dir: string;
  /** What is in them. */
  readonly data: Tree;
  /** Of a join that nobody disturbed: from its start, and from when it has begun to write. */
  readonly cleanMs: number;
  readonly writingMs: number;
}

/** So long after its start, or after it has begun to write. */
export interface JoinMoment {
  readonly writing: boolean;
  readonly thenMs: number;
  /** Whether a get runs to its end after the kill. */
  readonly thenGet: boolean;
}

const isPacking = (dir: string): boolean => existsSync(join(dir, ".gantry", "packing"));

/** Calls once when a join in the folder has begun to write. Returns how to look no more. */
function onWriting(dir: string, call: () => void): () => void {
  const look = setInterval(() => {
    if (!isPacking(dir)) return;
    clearInterval(look);
    call();
  }, 5);
  return () => clearInterval(look);
}

/** Archive files with blanks: one, or that and one of a later get. */
export async function openJoinGround(
  { stage, clean }: PackGround,
  format: Format,
  files: 1 | 2,
): Promise<JoinGround> {
  const dir = await freshDir("packed");
  const wanted = ["get", "tcia:", "-o", dir, "--pack", format, "--progress", "none"];
  const half = String(Math.ceil(seriesOf(clean) / 2));
  if (files === 2) expect((await stage.run([...wanted, "--limit", half])).code).toBe(0);
  expect((await stage.run(wanted)).code).toBe(0);
  expect(archivesOf(dir, format)).toHaveLength(files);
  // The patient with which the first one begins: what is cut off at the end leaves no blank.
  const [first = ""] = linesOf(dir, format).map(({ path }) => path);
  const patient = first.split("/").slice(0, 2).join("/");
  expect((await stage.run(["drop", dir, `tcia:${patient}`, "--yes"])).code).toBe(0);
  const data: Tree = new Map([...clean].filter(([path]) => !path.startsWith(`${patient}/`)));
  expect(data.size).toBeLessThan(clean.size);
  expect(gaps(dir, format)).toBeGreaterThan(0);
  const copy = await freshDir("packed");
  cpSync(dir, copy, { recursive: true, preserveTimestamps: true });
  const startedMs = performance.now();
  let writingMs = startedMs;
  const over = onWriting(copy, () => {
    writingMs = performance.now();
  });
  const { code, stderr } = await stage.run(["pack", copy, "--join"]).finally(over);
  const endedMs = performance.now();
  expect(code, stderr).toBe(0);
  const ground = { stage, dir, data, cleanMs: endedMs - startedMs, writingMs: endedMs - writingMs };
  await expectJoined(ground, copy, format);
  return ground;
}

const archivesOf = (dir: string, format: Format): string[] =>
  readdirSync(dir).filter((name) => name.endsWith(`.${format}`));

interface IndexLine {
  readonly path: string;
  readonly offset: number;
  readonly length: number;
}

function linesOf(dir: string, format: Format): IndexLine[] {
  const [, ...lines] = readFileSync(join(dir, `packed.${format}.index.jsonl`), "utf8")
    .trim()
    .split("\n");
  return lines.map((line) => JSON.parse(line) as IndexLine);
}

/** Bytes before the last piece that an index does not name. */
function gaps(dir: string, format: Format): number {
  let [end, lost] = [0, 0];
  for (const { offset, length } of linesOf(dir, format)) {
    lost += Math.max(0, offset - end);
    end = offset + length;
  }
  return lost;
}

async function expectJoined({ stage, data }: JoinGround, dir: string, format: Format): Promise<void> {
  expect(archivesOf(dir, format)).toEqual([`packed.${format}`]);
  expect(gaps(dir, format), "blanks").toBe(0);
  expect([...untar(dir, format)]).toEqual([...data]);
  expect(members(dir, format)).toEqual([...data.keys()].sort());
  expect(isPacking(dir)).toBe(false);
  for (const what of [[dir, "--strict"], [join(dir, `packed.${format}`)]]) {
    const { code, stderr } = await stage.run(["verify", ...what]);
    expect(code, stderr).toBe(0);
  }
}

/** Kills a join at each of the moments, then joins to the end. */
export async function killJoined(
  ground: JoinGround,
  format: Format,
  moments: readonly JoinMoment[],
): Promise<{ readonly finished: boolean; readonly begun: boolean }> {
  const { stage } = ground;
  const dir = await freshDir("packed");
  cpSync(ground.dir, dir, { recursive: true, preserveTimestamps: true });
  const requests = stage.requests("getImage").length;
  let [finished, begun] = [false, false];
  for (const { writing, thenMs, thenGet } of moments) {
    const program = stage.start(["pack", dir, "--join"]);
    let timer: NodeJS.Timeout | undefined;
    const arm = (): void => {
      timer = setTimeout(() => program.kill("SIGKILL"), thenMs);
    };
    // What an earlier kill left counts, too.
    const over = writing ? onWriting(dir, arm) : arm();
    const ended = await program.ended;
    over?.();
    clearTimeout(timer);
    finished = ended.signal === null;
    if (finished) expect(ended.code, ended.stderr).toBe(0);
    begun ||= isPacking(dir);
    const published = archivesOf(dir, format).flatMap((name) => members(dir, format, name));
    expect(new Set(published).size, "published twice").toBe(published.length);
    const proved = await stage.run(["verify", dir]);
    expect(proved.code, proved.stderr).toBe(0);
    if (thenGet) {
      const got = await stage.run(["get", "-o", dir, "--progress", "none"]);
      expect(got.code, got.stderr).toBe(0);
      const there = new Map(archivesOf(dir, format).flatMap((name) => [...untar(dir, format, name)]));
      expect(there.size).toBe(ground.data.size);
    }
  }
  const joined = await stage.run(["pack", dir, "--join"]);
  expect(joined.code, joined.stderr).toBe(0);
  await expectJoined(ground, dir, format);
  expect(stage.requests("getImage").length, "fetched again").toBe(requests);
  return { finished, begun };
}
