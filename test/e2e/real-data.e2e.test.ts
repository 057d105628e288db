import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { openFolderDataset } from "../../src/sandbox/data/folder.ts";
import {
  dataDigests,
  freshDir,
  hashTree,
  listFiles,
  type Stage,
  startStage,
  testData,
} from "../support/gantry.ts";

const data = testData ?? "";
const hasDcmdump = spawnSync("dcmdump", ["--version"]).status === 0;

const sha256 = (path: string): string => createHash("sha256").update(readFileSync(path)).digest("hex");

describe.skipIf(testData === null)("real data, every collection", () => {
  let stage: Stage;
  let dir: string;
  let problems: readonly string[];

  beforeAll(async () => {
    const dataset = await openFolderDataset(data);
    problems = dataset.problems.map((problem) => problem.path);
    stage = await startStage({ data: dataset });
    dir = await freshDir();
    const got = await stage.run(["get", "tcia:", "-o", dir, "--progress", "none"]);
    expect(got.code, got.stderr).toBe(0);
  });

  const indexed = async (): Promise<Map<string, string>> => {
    const index = JSON.parse(await readFile(join(data, "index.json"), "utf8")) as {
      series: { files: { path: string; sha256: string }[] }[];
    };
    return new Map(index.series.flatMap(({ files }) => files.map((file) => [file.sha256, file.path])));
  };
  const isProblem = (path: string): boolean => problems.some((each) => each.endsWith(path));

  it("arrives byte for byte as the sources have it", async () => {
    const wanted = [...(await indexed())].filter(([, path]) => !isProblem(path));
    expect(wanted.length).toBeGreaterThan(400);
    const arrived = new Set(await dataDigests(dir));
    expect(wanted.filter(([digest]) => !arrived.has(digest))).toEqual([]);
  });

  it("has every odd file, too, or the sandbox names it as one that it can't serve", async () => {
    const arrived = new Set(await dataDigests(dir));
    const odd = readdirSync(join(data, "dicom-odd"));
    expect(odd.length).toBeGreaterThan(25);
    const came = odd.filter((name) => arrived.has(sha256(join(data, "dicom-odd", name))));
    expect(came.length).toBeGreaterThan(15);
    const lost = odd.filter((name) => !came.includes(name) && !isProblem(`dicom-odd/${name}`));
    expect(lost).toEqual([]);
  });

  it.skipIf(!hasDcmdump)("is DICOM to dcmdump wherever the source was", async () => {
    const regular = await indexed();
    const files = (await listFiles(dir)).filter(
      (path) => path.endsWith(".dcm") && regular.has(sha256(join(dir, path))),
    );
    expect(files.length).toBeGreaterThan(400);
    const judged = spawnSync("dcmdump", ["-M", "+P", "SOPInstanceUID", ...files], {
      cwd: dir,
      encoding: "utf8",
      maxBuffer: 1 << 28,
    });
    expect(judged.status, judged.stderr).toBe(0);
    expect(judged.stdout.split("\n").filter((line) => line.startsWith("(0008,0018)")).length).toBe(
      files.length,
    );
  });

  it("needs nothing a second time", async () => {
    const before = await hashTree(dir);
    stage.control.clearRequests();
    const again = await stage.run(["get", "tcia:", "-o", dir, "--progress", "none"]);
    expect(again.code, again.stderr).toBe(0);
    expect(stage.requests("getImage")).toHaveLength(0);
    expect(await hashTree(dir)).toEqual(before);
  });

  it("is proved again by verify, offline", async () => {
    stage.control.clearRequests();
    const verified = await stage.run(["verify", dir, "--strict"]);
    expect(verified.code, verified.stderr + verified.stdout).toBe(0);
    expect(stage.control.requests()).toHaveLength(0);
  });
});
