/** `get --pack`: the same data in one archive file, which everybody's programs read. */
import { spawnSync } from "node:child_process";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { openFolderDataset } from "../../src/sandbox/data/folder.ts";
import {
  freshDir,
  has,
  hashTree,
  listFiles,
  type Stage,
  startStage,
  type Tree,
  temporaryDir,
  testData,
} from "../support/gantry.ts";

const FORMATS = ["tar.zst", "tar.xz", "tar"] as const;

/** What GNU tar makes of it. */
async function untar(archive: string): Promise<string> {
  const dir = await temporaryDir();
  const { status, stderr } = spawnSync("tar", ["-xf", archive, "-C", dir], { encoding: "utf8" });
  expect(stderr).toBe("");
  expect(status).toBe(0);
  return dir;
}

/** A tree without what Gantry writes beside data. */
const dataOf = (tree: Tree): Tree =>
  Object.fromEntries(
    Object.entries(tree).filter(([path]) => path !== "metadata.csv" && !path.endsWith("/LICENSE")),
  );

describe.skipIf(!has("zstd") || !has("xz") || !has("tar"))(
  "packed (needs tar, zstd, xz)",
  { timeout: 180_000 },
  () => {
    let stage: Stage;
    let loose: Tree;

    beforeAll(async () => {
      stage = await startStage(testData === null ? {} : { data: await openFolderDataset(testData) });
      const dir = await freshDir();
      const got = await stage.run(["get", "tcia:", "-o", dir, "--progress", "none"]);
      expect(got.code, got.stderr).toBe(0);
      loose = dataOf(await hashTree(dir));
    });

    it.each(FORMATS)(
      "%s holds byte for byte what a folder holds, and a second run fetches nothing",
      async (format) => {
        const dir = await freshDir("packed");
        const got = await stage.run(["get", "tcia:", "-o", dir, "--pack", format, "--progress", "none"]);
        expect(got.code, got.stderr).toBe(0);
        const archive = `packed.${format}`;
        const files = (await listFiles(dir)).filter((path) => !/(^|\/)(LICENSE|metadata\.csv)$/u.test(path));
        expect(files).toEqual([archive, `${archive}.index.jsonl`]);
        expect(dataOf(await hashTree(await untar(join(dir, archive))))).toEqual(loose);
        const before = stage.requests("getImage").length;
        const again = await stage.run(["get", "-o", dir, "--progress", "none"]);
        expect(again.code, again.stderr).toBe(0);
        expect(stage.requests("getImage").length).toBe(before);
        const proved = await stage.run(["verify", dir]);
        expect(proved.code, proved.stderr).toBe(0);
        expect(await readdir(join(dir, ".gantry"))).not.toContain("packing");
      },
    );
  },
);
