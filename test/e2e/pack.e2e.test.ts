/** `get --pack`: the same data in one archive file, which everybody's programs read. */
import { spawnSync } from "node:child_process";
import { copyFile, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { openFolderDataset } from "../../src/sandbox/data/folder.ts";
import {
  freshDir,
  has,
  hashTree,
  listFiles,
  root,
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

    describe("an archive file by itself", () => {
      let dir: string;
      let archive: string;

      beforeAll(async () => {
        dir = await freshDir("packed");
        archive = join(dir, "packed.tar.zst");
        const got = await stage.run(["get", "tcia:", "-o", dir, "--pack", "tar.zst", "--progress", "none"]);
        expect(got.code, got.stderr).toBe(0);
      });

      it("is listed, and read member by member, as tar has it", async () => {
        const listed = await stage.run(["ls", archive, "--format", "json"]);
        expect(listed.code, listed.stderr).toBe(0);
        const rows = JSON.parse(listed.stdout) as { path: string; bytes: number; digest: string }[];
        expect(rows.map(({ path }) => path).sort()).toEqual(Object.keys(loose).sort());
        const out = await untar(archive);
        const [row] = rows.slice(Math.floor(rows.length / 2));
        const target = join(await temporaryDir(), "one");
        const cat = spawnSync(
          "sh",
          [
            "-c",
            'exec "$0" "$1" cat "$2" "$3" > "$4"',
            process.execPath,
            join(root, "bin/gantry.js"),
            archive,
            row?.path ?? "",
            target,
          ],
          { encoding: "utf8" },
        );
        expect(cat.stderr).toBe("");
        expect((await readFile(target)).equals(await readFile(join(out, row?.path ?? "")))).toBe(true);
        const none = await stage.run(["cat", archive, "no/such/file"]);
        expect(none.code).toBe(2);
      });

      it("is unpacked, whole and in part, as tar does; what is there stays", async () => {
        const to = join(await temporaryDir(), "loose");
        const whole = await stage.run(["unpack", archive, "-o", to]);
        expect(whole.code, whole.stderr).toBe(0);
        expect(await hashTree(to)).toEqual(loose);
        const again = await stage.run(["unpack", archive, "-o", to]);
        expect(again.stderr).toContain("there already");
        const [first = ""] = Object.keys(loose);
        const top = first.split("/")[0] ?? "";
        const part = join(await temporaryDir(), "part");
        expect((await stage.run(["unpack", archive, top, "-o", part])).code).toBe(0);
        expect(Object.keys(await hashTree(part))).toEqual(
          Object.keys(loose).filter((path) => path.startsWith(`${top}/`)),
        );
        await writeFile(join(to, first), "something else");
        const refused = await stage.run(["unpack", archive, "-o", to]);
        expect(refused.code).toBe(7);
        expect(await readFile(join(to, first), "utf8")).toBe("something else");
      });

      it("is verified by its index alone, and by tar's own archives nothing is", async () => {
        const lone = join(await temporaryDir(), "lone.tar.zst");
        await copyFile(archive, lone);
        await copyFile(`${archive}.index.jsonl`, `${lone}.index.jsonl`);
        expect((await stage.run(["verify", lone])).code).toBe(0);
        const bytes = await readFile(lone);
        bytes[Math.floor(bytes.length / 2)] = (bytes[Math.floor(bytes.length / 2)] ?? 0) ^ 0xff;
        await writeFile(lone, bytes);
        expect((await stage.run(["verify", lone])).code).toBe(6);
        const foreign = join(await temporaryDir(), "foreign.tar.xz");
        await mkdir(join(dir, "../some"));
        await writeFile(join(dir, "../some/file"), "hello");
        spawnSync("tar", ["-cJf", foreign, "-C", join(dir, ".."), "some"]);
        expect((await stage.run(["ls", foreign, "--format", "tsv", "--fields", "path"])).stdout).toBe(
          "path\nsome/file\n",
        );
        expect((await stage.run(["cat", foreign, "some/file"])).stdout).toBe("hello");
        expect((await stage.run(["verify", foreign])).code).toBe(2);
      });

      it("a changed byte is mended by the next get, which fetches one item only", async () => {
        const bytes = await readFile(archive);
        bytes[Math.floor(bytes.length / 2)] = (bytes[Math.floor(bytes.length / 2)] ?? 0) ^ 0xff;
        await writeFile(archive, bytes);
        expect((await stage.run(["verify", dir])).code).toBe(6);
        const before = stage.requests("getImage").length;
        const got = await stage.run(["get", "-o", dir, "--progress", "none"]);
        expect(got.code, got.stderr).toBe(0);
        expect(stage.requests("getImage").length - before).toBe(1);
        expect((await stage.run(["verify", dir])).code).toBe(0);
      });
    });

    it("-o with the name of an archive file is told how to say it", async () => {
      const { code, stderr } = await stage.run(["get", "tcia:LCTSC", "-o", "lctsc.tar.xz"]);
      expect(code).toBe(2);
      expect(stderr).toContain("-o lctsc --pack tar.xz");
    });
  },
);
