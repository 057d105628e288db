/** `gantry pack`: what a folder holds goes into an archive file, whatever ends it. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cp, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import {
  freshDir,
  has,
  hashTree,
  type Stage,
  startStage,
  type Tree,
  temporaryDir,
  until,
} from "../support/gantry.ts";

const isData = (path: string): boolean => path !== "metadata.csv" && !path.endsWith("/LICENSE");

const dataOf = (tree: Tree): Tree =>
  Object.fromEntries(Object.entries(tree).filter(([path]) => isData(path)));

/** Paths whose content is not the same, or that only one has. */
const differences = (a: Tree, b: Tree): string[] =>
  [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((path) => a[path] !== b[path]);

function untar(archive: string, to: string): void {
  const { status, stderr } = spawnSync("tar", ["-xf", archive, "-C", to], { encoding: "utf8" });
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
}

interface Line {
  readonly item: string;
  readonly offset: number;
  readonly length: number;
}

const linesOf = (archive: string): Line[] => {
  const [, ...lines] = readFileSync(`${archive}.index.jsonl`, "utf8").trim().split("\n");
  return lines.map((line) => JSON.parse(line) as Line);
};

/** Bytes before its last piece that no line of its index names. */
function gapsOf(archive: string): number {
  let [end, lost] = [0, 0];
  for (const { offset, length } of linesOf(archive)) {
    lost += Math.max(0, offset - end);
    end = offset + length;
  }
  return lost;
}

describe.skipIf(!has("zstd") || !has("xz") || !has("tar"))(
  "pack (needs tar, zstd, xz)",
  { timeout: 120_000 },
  () => {
    let stage: Stage;
    let source: string;
    let loose: Tree;

    beforeAll(async () => {
      stage = await startStage();
      source = await freshDir("lctsc");
      const got = await stage.run(["get", "tcia:", "-o", source, "--progress", "none"]);
      expect(got.code, got.stderr).toBe(0);
      loose = dataOf(await hashTree(source));
      expect(Object.keys(loose).length).toBeGreaterThan(1);
    });

    const copy = async (): Promise<string> => {
      const dir = await freshDir("lctsc");
      await cp(source, dir, { recursive: true, preserveTimestamps: true });
      return dir;
    };

    const expectPacked = async (dir: string, archive: string): Promise<void> => {
      const there = Object.keys(dataOf(await hashTree(dir)));
      expect(there).toEqual([archive, `${archive}.index.jsonl`]);
      const out = await temporaryDir();
      untar(join(dir, archive), out);
      expect(differences(await hashTree(out), loose)).toEqual([]);
      const proved = await stage.run(["verify", "--strict", dir]);
      expect(proved.code, proved.stderr).toBe(0);
    };

    it.each(["tar.zst", "tar.xz", "tar"])(
      "%s: the same bytes, proved, and not fetched again",
      async (format) => {
        const dir = await copy();
        const packed = await stage.run(["pack", dir, "--pack", format]);
        expect(packed.code, packed.stderr).toBe(0);
        await expectPacked(dir, `lctsc.${format}`);
        const before = await readFile(join(dir, `lctsc.${format}`));
        const again = await stage.run(["pack", dir, "--pack", format]);
        expect(again.stderr).toContain("Nothing was left to pack");
        expect((await readFile(join(dir, `lctsc.${format}`))).equals(before)).toBe(true);
        const requests = stage.requests("getImage").length;
        const got = await stage.run(["get", "-o", dir, "--progress", "none"]);
        expect(got.code, got.stderr).toBe(0);
        expect(stage.requests("getImage").length).toBe(requests);
      },
    );

    it("goes on after a kill, by pack or by get, and deletes what was cut from deletion", async () => {
      // Killed as soon as an unfinished archive file is there.
      for (const goOn of ["pack", "get"]) {
        const dir = await copy();
        const program = stage.start(["pack", dir, "--pack", "tar.xz"]);
        let ended = false;
        const end = program.ended.finally(() => {
          ended = true;
        });
        while (!ended) {
          const packing = await readdir(join(dir, ".gantry", "packing"), { recursive: true }).catch(() => []);
          if (packing.length > 1) break;
        }
        program.kill("SIGKILL");
        await end;
        const requests = stage.requests("getImage").length;
        if (goOn === "get") {
          const got = await stage.run(["get", "-o", dir, "--progress", "none"]);
          expect(got.code, got.stderr).toBe(0);
        }
        const packed = await stage.run(["pack", dir, "--pack", "tar.xz"]);
        expect(packed.code, packed.stderr).toBe(0);
        expect(stage.requests("getImage").length).toBe(requests);
        if (goOn === "pack") await expectPacked(dir, "lctsc.tar.xz");
        else expect((await stage.run(["verify", "--strict", dir])).code).toBe(0);
        // As after a kill between a receipt and the deletion.
        const [path = ""] = Object.keys(loose);
        await cp(join(source, path), join(dir, path), { recursive: true });
        const last = await stage.run(["pack", dir, "--pack", "tar.xz"]);
        expect(last.stderr).toContain("1 loose file deleted");
        expect((await stage.run(["verify", "--strict", dir])).code).toBe(0);
      }
    });

    it("leaves an item alone of which a file is not as it was stored; get mends it", async () => {
      const dir = await copy();
      const [path = ""] = Object.keys(loose);
      const bytes = await readFile(join(dir, path));
      bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 0xff;
      await writeFile(join(dir, path), bytes);
      const packed = await stage.run(["pack", dir, "--pack", "tar.zst"]);
      expect(packed.code).toBe(6);
      expect(packed.stderr).toContain(`changed: ${path}`);
      expect((await readFile(join(dir, path))).equals(bytes)).toBe(true);
      const requests = stage.requests("getImage").length;
      expect((await stage.run(["get", "-o", dir, "--progress", "none"])).code).toBe(0);
      expect(stage.requests("getImage").length - requests).toBe(1);
      expect((await stage.run(["verify", dir])).code).toBe(0);
    });

    it("joins what several archive files hold, and goes on after a kill; names are WebDataset's if asked", async () => {
      const dir = await freshDir("lctsc");
      const words = ["get", "tcia:", "-o", dir, "--pack", "tar.zst", "--shard-size", "400kB", "--webdataset"];
      const got = await stage.run([...words, "--progress", "none"]);
      expect(got.code, got.stderr).toBe(0);
      const shards = (await readdir(dir)).filter((name) => name.endsWith(".tar.zst"));
      expect(shards.length).toBeGreaterThan(3);
      // As its readers expand them.
      const last = String(shards.length - 1).padStart(6, "0");
      const braces = spawnSync("bash", ["-c", `echo lctsc-{000000..${last}}.tar.zst`], { encoding: "utf8" });
      expect(braces.stdout.trim().split(" ")).toEqual(shards);
      const requests = stage.requests("getImage").length;
      const program = stage.start(["pack", dir, "--join"]);
      await until(
        "the one archive file grows",
        async () => (await readdir(join(dir, ".gantry/packing/lctsc.tar.zst")).catch(() => [])).length > 0,
      );
      program.kill("SIGKILL");
      await program.ended;
      expect((await stage.run(["verify", dir])).code).toBe(0);
      const joined = await stage.run(["pack", dir, "--join"]);
      expect(joined.code, joined.stderr).toBe(0);
      await expectPacked(dir, "lctsc.tar.zst");
      // A later get makes a further file; it is joined to the one that is there.
      const dropped = await stage.run(["drop", dir, "tcia:Phantom-CT", "--yes"]);
      expect(dropped.code, dropped.stderr).toBe(0);
      expect(gapsOf(join(dir, "lctsc.tar.zst"))).toBeGreaterThan(0);
      const held = await stat(join(dir, "lctsc.tar.zst"));
      const reclaimed = await stage.run(["pack", dir, "--join"]);
      expect([reclaimed.code, reclaimed.stderr]).toEqual([0, expect.stringMatching(/^Joined \d+ items/u)]);
      const names = (await readdir(dir)).filter((name) => name.startsWith("lctsc"));
      expect(names).toEqual(["lctsc.tar.zst", "lctsc.tar.zst.index.jsonl"]);
      expect(gapsOf(join(dir, "lctsc.tar.zst"))).toBe(0);
      expect((await stat(join(dir, "lctsc.tar.zst"))).size).toBeLessThan(held.size);
      const before = await readFile(join(dir, "lctsc.tar.zst"));
      const nothing = await stage.run(["pack", dir, "--join"]);
      expect([nothing.code, nothing.stderr]).toEqual([
        0,
        expect.stringContaining("Nothing was left to pack"),
      ]);
      expect((await readFile(join(dir, "lctsc.tar.zst"))).equals(before)).toBe(true);
      expect((await stage.run(["verify", join(dir, "lctsc.tar.zst")])).code).toBe(0);
      expect((await stage.run(["verify", "--strict", dir])).code).toBe(0);
      expect(stage.requests("getImage").length).toBe(requests);
    });

    it("joins a later get's file to the first one, of which nothing is read or written twice", async () => {
      const dir = await freshDir("lctsc");
      for (const limit of ["10", "20", "40"]) {
        const words = ["get", "tcia:", "-o", dir, "--limit", limit, "--pack", "tar"];
        expect((await stage.run([...words, "--progress", "none"])).code).toBe(0);
      }
      const first = await readFile(join(dir, "lctsc.tar"));
      expect((await readdir(dir)).filter((name) => name.endsWith(".tar"))).toHaveLength(3);
      const joined = await stage.run(["pack", dir, "--join"]);
      expect([joined.code, joined.stderr]).toEqual([0, expect.stringMatching(/^Joined \d+ items/u)]);
      await expectPacked(dir, "lctsc.tar");
      // But for the blocks that end an archive.
      const now = await readFile(join(dir, "lctsc.tar"));
      expect(now.subarray(0, first.length - 1024).equals(first.subarray(0, first.length - 1024))).toBe(true);
    });

    it("joins all but what is not as it was stored, and that, too, once get has mended it", async () => {
      const dir = await freshDir("lctsc");
      const words = ["get", "tcia:", "-o", dir, "--pack", "tar.xz"];
      expect((await stage.run([...words, "--progress", "none"])).code).toBe(0);
      const archive = join(dir, "lctsc.tar.xz");
      expect((await stage.run(["drop", dir, "tcia:Phantom-CT", "--yes"])).code).toBe(0);
      const lines = linesOf(archive);
      const { offset, length, item } = lines[Math.floor(lines.length / 2)] as Line;
      const bytes = await readFile(archive);
      const harmed = offset + Math.floor(length / 2);
      bytes[harmed] = (bytes[harmed] ?? 0) ^ 0xff;
      await writeFile(archive, bytes);
      const some = await stage.run(["pack", dir, "--join"]);
      expect([some.code, some.stderr]).toEqual([6, expect.stringContaining("changed: ")]);
      // What is damaged stays where it was, and no blank holds it up.
      expect([...new Set(linesOf(archive).map((line) => line.item))]).toEqual([item]);
      const requests = stage.requests("getImage").length;
      expect((await stage.run(["verify", dir])).code).toBe(6);
      expect((await stage.run(["get", "-o", dir, "--progress", "none"])).code).toBe(0);
      expect(stage.requests("getImage").length - requests).toBe(1);
      const joined = await stage.run(["pack", dir, "--join"]);
      expect(joined.code, joined.stderr).toBe(0);
      expect((await readdir(dir)).filter((name) => name.endsWith(".tar.xz"))).toEqual(["lctsc.tar.xz"]);
      expect(gapsOf(archive)).toBe(0);
      expect(linesOf(archive).length).toBe(lines.length);
      expect((await stage.run(["verify", "--strict", dir])).code).toBe(0);
    });

    it("joins into another name where somebody's file has the first one", async () => {
      const dir = await copy();
      await writeFile(join(dir, "lctsc.tar"), "mine");
      expect((await stage.run(["pack", dir, "--pack", "tar"])).code).toBe(0);
      expect((await stage.run(["drop", dir, "tcia:Phantom-CT", "--yes"])).code).toBe(0);
      const joined = await stage.run(["pack", dir, "--join"]);
      expect(joined.code, joined.stderr).toBe(0);
      const [name = "", ...others] = (await readdir(dir)).filter((each) => /-\d+\.tar$/u.test(each));
      expect([others, await readFile(join(dir, "lctsc.tar"), "utf8")]).toEqual([[], "mine"]);
      expect(gapsOf(join(dir, name))).toBe(0);
      expect((await stage.run(["pack", dir, "--join"])).stderr).toContain("Nothing was left to pack");
      expect((await stage.run(["verify", dir])).code).toBe(0);
    });

    it("refuses what it can't pack", async () => {
      const dir = await copy();
      expect((await stage.run(["pack", dir])).code).toBe(2);
      expect((await stage.run(["pack", dir, "--join"])).code).toBe(2);
      expect((await stage.run(["pack", dir, "--pack", "tar", "--webdataset"])).code).toBe(2);
      expect((await stage.run(["pack", dir, "--pack", "tar", "--join", "--shard-size", "1MB"])).code).toBe(2);
      const nothing = await stage.run(["pack", await temporaryDir(), "--pack", "tar"]);
      expect(nothing.code).toBe(2);
      expect(nothing.stderr).toContain("holds no receipts");
      // A file of somebody else with the archive's name stays.
      await writeFile(join(dir, "lctsc.tar.zst"), "mine");
      expect((await stage.run(["pack", dir, "--pack", "tar.zst"])).code).toBe(0);
      expect(await readFile(join(dir, "lctsc.tar.zst"), "utf8")).toBe("mine");
      const other = await stage.run(["pack", dir, "--pack", "tar.xz"]);
      expect(other.code).toBe(2);
      expect(other.stderr).toContain("tar.zst");
    });
  },
);
