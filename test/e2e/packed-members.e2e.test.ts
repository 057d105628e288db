/** A packed folder addressed as one: `ls`, `cat`, `unpack` and `verify` of DIR, however many archive files it has. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import {
  freshDir,
  has,
  hashTree,
  root,
  type Stage,
  startStage,
  type Tree,
  temporaryDir,
  until,
} from "../support/gantry.ts";

interface Row {
  readonly path: string;
  readonly bytes: number;
  readonly digest: string;
  readonly archive: string | null;
}

describe.skipIf(!has("zstd") || !has("tar"))(
  "members of a folder (needs tar, zstd)",
  { timeout: 120_000 },
  () => {
    let stage: Stage;
    let dir: string;
    /** What GNU tar makes of all archive files. */
    let data: Tree;
    let rows: readonly Row[];

    const list = async (...words: string[]): Promise<readonly Row[]> => {
      const { code, stdout, stderr } = await stage.run(["ls", ...words, "--format", "json"]);
      expect(code, stderr).toBe(0);
      return JSON.parse(stdout) as Row[];
    };
    const unpacked = async (...words: string[]): Promise<Tree> => {
      const to = await freshDir("loose");
      const { code, stderr } = await stage.run(["unpack", ...words, "-o", to]);
      expect(code, stderr).toBe(0);
      return hashTree(to);
    };
    /** Bytes, which are no text: through a shell. */
    const md5OfCat = (command: string): string => {
      const script = `set -o pipefail; gantry() { "${process.execPath}" "${join(root, "bin/gantry.js")}" "$@"; }; ${command}`;
      const { stdout, stderr, status } = spawnSync("bash", ["-c", script], {
        encoding: "utf8",
        env: stage.environment,
      });
      expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
      return stdout.trim();
    };

    beforeAll(async () => {
      stage = await startStage();
      dir = await freshDir("packed");
      const words = ["get", "tcia:", "-o", dir, "--pack", "tar.zst", "--shard-size", "500kB"];
      const got = await stage.run([...words, "--progress", "none"]);
      expect(got.code, got.stderr).toBe(0);
      const out = await temporaryDir();
      const archives = (await readdir(dir)).filter((name) => name.endsWith(".tar.zst"));
      expect(archives.length).toBeGreaterThan(2);
      for (const name of archives)
        expect(spawnSync("tar", ["-xf", join(dir, name), "-C", out], { encoding: "utf8" }).status).toBe(0);
      data = await hashTree(out);
      rows = await list(dir);
    });

    it("lists each file once, by the path that tar gives it, with the archive file that holds it", async () => {
      expect(rows.map(({ path }) => path).sort()).toEqual(Object.keys(data).sort());
      for (const name of new Set(rows.map(({ archive }) => archive))) {
        const listed = spawnSync("tar", ["-tf", join(dir, name ?? ""), "--quoting-style=literal"], {
          encoding: "utf8",
        });
        const wanted = listed.stdout.trim().split("\n");
        expect(rows.filter(({ archive }) => archive === name).map(({ path }) => path)).toEqual(wanted);
      }
      const [top = ""] = Object.keys(data)[0]?.split("/") ?? [];
      const below = await list(dir, `./${top}/`);
      expect(below.map(({ path }) => path).sort()).toEqual(
        Object.keys(data).filter((path) => path.startsWith(`${top}/`)),
      );
    });

    it("reads members of any of the archive files, and globs of them", async () => {
      const [first, last] = [rows[0] as Row, rows.at(-1) as Row];
      expect(first.archive).not.toBe(last.archive);
      for (const { path, digest } of [first, last])
        expect(md5OfCat(`gantry cat '${dir}' '${path}' | md5sum`)).toBe(`${digest.slice("md5:".length)}  -`);
      const glob = "**/*Baseline*";
      const wanted = rows.filter(({ path }) => /Baseline/u.test(path));
      expect(wanted.length).toBeGreaterThan(1);
      expect((await list(dir, glob)).map(({ path }) => path)).toEqual(wanted.map(({ path }) => path));
      expect(Object.keys(await unpacked(dir, glob)).sort()).toEqual(wanted.map(({ path }) => path).sort());
      // Who reads no further is no error.
      expect(md5OfCat(`gantry cat '${dir}' '**' | head -c 4 | wc -c`)).toBe("4");
    });

    it("unpacks all to the bytes and names that tar makes, of the archive files alone, too", async () => {
      expect(await unpacked(dir)).toEqual(data);
      const copy = join(await temporaryDir(), "copy");
      await mkdir(copy);
      for (const name of await readdir(dir))
        if (name.includes(".tar.zst")) await cp(join(dir, name), join(copy, name));
      expect(await unpacked(copy)).toEqual(data);
      expect((await list(copy)).map(({ path }) => path).sort()).toEqual(Object.keys(data).sort());
    });

    it("reads what an unfinished run stored, and loose files beside packed ones", async () => {
      const half = await freshDir("packed");
      stage.control.setFaults([{ kind: "slow-first-byte", route: "**/getImage*", ms: 60_000, skip: 12 }]);
      const run = stage.start(["get", "tcia:", "-o", half, "--pack", "tar.zst", "--progress", "none"]);
      const stored = async (): Promise<number> =>
        (await readdir(join(half, ".gantry/receipts")).catch(() => [])).length === 0
          ? 0
          : (await list(half)).length;
      await until("something is stored", stored, 60_000);
      run.kill();
      await run.ended;
      stage.control.setFaults([]);
      const here = await unpacked(half);
      expect(Object.keys(here).length).toBeGreaterThan(0);
      for (const [path, facts] of Object.entries(here)) expect(facts).toBe(data[path]);

      const loose = await freshDir("loose");
      expect(
        (await stage.run(["get", "tcia:", "-o", loose, "--limit", "5", "--progress", "none"])).code,
      ).toBe(0);
      const before = await unpacked(loose);
      expect((await list(loose)).every(({ archive }) => archive === null)).toBe(true);
      expect((await stage.run(["pack", loose, "--pack", "tar.zst"])).code).toBe(0);
      expect(await unpacked(loose)).toEqual(before);
    });

    it("says in one sentence what is not there, and proves what it prints", async () => {
      const empty = await temporaryDir();
      for (const [words, said] of [
        [["cat", dir, "no/such"], /holds nothing at "no\/such"/u],
        [["cat", `${dir}x`, "a"], /there is no archive file and no folder/u],
        [["unpack", `${dir}x.tar`, "-o", `${dir}y`], /there is no archive file and no folder/u],
        [["ls", empty], /neither receipts of gantry nor an archive file/u],
        [["ls", dir, "--modality", "CT"], /listed without filters/u],
        [["unpack", dir, "-o", dir], /not unpacked into itself/u],
      ] as const) {
        const { code, stderr } = await stage.run(words);
        expect(code, words.join(" ")).toBe(2);
        expect(stderr).toMatch(said);
        expect(stderr.trim().split("\n").length).toBeLessThanOrEqual(2);
      }
      const copy = join(await temporaryDir(), "copy");
      await cp(dir, copy, { recursive: true });
      const { archive, path } = rows.at(-1) as Row;
      const bytes = await readFile(join(copy, archive ?? ""));
      bytes[bytes.length - 200] = (bytes[bytes.length - 200] ?? 0) ^ 0xff;
      await writeFile(join(copy, archive ?? ""), bytes);
      const damaged = await stage.run(["cat", copy, "**"]);
      expect(damaged.code).toBe(6);
      await rm(join(copy, archive ?? ""));
      const lost = await stage.run(["cat", copy, path]);
      expect(lost.code).toBe(7);
      expect(lost.stderr).toContain(archive);
    });

    it("has names of an archive file as they were stored, escaped ones, too", async () => {
      const place = await temporaryDir();
      await writeFile(join(place, "a%3Ab"), "one");
      await writeFile(join(place, "c:d"), "two");
      expect(spawnSync("tar", ["-cf", "x.tar", "a%3Ab", "c:d", "-P"], { cwd: place }).status).toBe(0);
      const names = Object.keys(await unpacked(join(place, "x.tar")));
      expect(names).toEqual(["a%3Ab", "c%3Ad"]);
      expect(createHash("md5").update("one").digest("hex")).toBe(
        md5OfCat(`gantry cat '${join(place, "x.tar")}' a%3Ab | md5sum | cut -c -32`),
      );
    });

    it("verify of a folder in which nothing is stored says so", async () => {
      const nothing = await freshDir();
      stage.control.setFaults([{ kind: "500", route: "**/getImage*" }]);
      const got = await stage.run([
        "get",
        "tcia:",
        "-o",
        nothing,
        "--limit",
        "1",
        "--retries",
        "0",
        "--progress",
        "none",
      ]);
      stage.control.setFaults([]);
      expect(got.code).toBe(5);
      const { code, stderr } = await stage.run(["verify", nothing]);
      expect(code).toBe(0);
      expect(stderr).toMatch(/^Nothing is stored in \S+, so nothing was proved\./u);
      expect(stderr).not.toContain("Proved");
    });
  },
);
