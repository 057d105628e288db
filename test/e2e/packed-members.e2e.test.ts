/** A packed folder addressed as one: `ls`, `cat`, `unpack` and `verify` of DIR, however many archive files it has. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cp, link, mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
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

    /** An archive file of several pieces, one of them of several members, and its index: somewhere else. */
    const lone = async (): Promise<{ file: string; index: string; text: string; bytes: Buffer }> => {
      for (const name of new Set(rows.map(({ archive }) => archive ?? ""))) {
        const text = await readFile(join(dir, `${name}.index.jsonl`), "utf8");
        const pieces = piecesOf(text);
        if (new Set(pieces).size < 2 || new Set(pieces).size === pieces.length) continue;
        const file = join(await temporaryDir(), name);
        for (const ending of ["", ".index.jsonl"]) await cp(join(dir, name + ending), file + ending);
        return { file, index: `${file}.index.jsonl`, text, bytes: await readFile(file) };
      }
      throw new Error("no such archive file");
    };
    /** Where the piece of each line of an index begins. */
    const piecesOf = (text: string): number[] =>
      text.match(/"offset":\d+/gu)?.map((found) => Number(found.slice('"offset":'.length))) ?? [];
    /** What each command says of it, one sentence and a hint. */
    const refusals = async (file: string, commands: readonly string[]): Promise<string> => {
      let said = "";
      for (const command of commands) {
        const words = command === "unpack" ? [command, file, "-o", await freshDir("out")] : [command, file];
        const { code, stderr } = await stage.run(words);
        expect([command, code, stderr]).toEqual([command, 6, stderr]);
        expect(stderr.trim().split("\n").length, stderr).toBeLessThanOrEqual(2);
        expect(stderr).toContain(file);
        expect(stderr).not.toMatch(/run the same command again|stdin/u);
        said += stderr;
      }
      return said;
    };

    it("an index that is empty, cut or damaged proves nothing", async () => {
      const { file, index, text } = await lone();
      const lines = text.split("\n");
      const pieces = piecesOf(text);
      // Less the lines of the last piece.
      const cutAt = 1 + pieces.indexOf(pieces.at(-1) ?? 0);
      for (const [content, said] of [
        ["", /index\.jsonl is empty/u],
        [`${lines[0]}\n`, /index\.jsonl names no member/u],
        [`${text}{\n`, new RegExp(`index\\.jsonl: line ${lines.length} is damaged`, "u")],
        [text.slice(0, -20), /index\.jsonl: line \d+ is damaged/u],
        [`${text}{"path":"a"}\n`, /line \d+ is damaged/u],
        [text.replace(/"length":\d+(?=[^\n]*\n$)/u, '"length":9007199254740991'), /line \d+ is damaged/u],
        [`${lines.slice(0, cutAt).join("\n")}\n`, /goes on after the last member that its index names/u],
      ] as const) {
        await writeFile(index, content);
        expect(await refusals(file, content === "" ? ["verify", "unpack", "ls"] : ["verify"])).toMatch(said);
      }
      // Within a piece, which is seen as that piece is read.
      const within = 1 + pieces.findIndex((offset, at) => offset === pieces[at - 1]);
      expect(within).toBeGreaterThan(1);
      await writeFile(index, `${lines.slice(0, within).join("\n")}\n`);
      expect(await refusals(file, ["unpack"])).toContain("more follows than its index names");
      // Without it the archive is read all the same.
      await rm(index);
      expect(Object.keys(await unpacked(file)).length).toBe(lines.length - 2);
    });

    it("an archive that was cut with its index, or goes on behind its end, is not what was stored", async () => {
      const { file, index, text, bytes } = await lone();
      const lines = text.split("\n");
      const { offset } = JSON.parse(lines.at(-2) ?? "") as { offset: number };
      const before = lines.filter((line) => line !== "" && !line.includes(`"offset":${offset},`));
      await writeFile(file, bytes.subarray(0, offset));
      await writeFile(index, `${before.join("\n")}\n`);
      expect(await refusals(file, ["verify", "unpack"])).toContain("was cut");
      await writeFile(index, text);
      for (const more of ["x", "x".repeat(10_000)]) {
        await writeFile(file, Buffer.concat([bytes, Buffer.from(more)]));
        expect(await refusals(file, ["verify"])).toContain("goes on after");
      }
      await writeFile(file, bytes);
      expect((await stage.run(["verify", file])).code).toBe(0);
    });

    it("names the archive file and the member where it is damaged, and what mends it", async () => {
      const { file, index, text, bytes } = await lone();
      const damaged = Buffer.from(bytes);
      const { path, offset, length } = JSON.parse(text.split("\n")[1] ?? "") as Row & {
        offset: number;
        length: number;
      };
      damaged[offset + Math.floor(length / 2)] = (damaged[offset + Math.floor(length / 2)] ?? 0) ^ 0xff;
      await writeFile(file, damaged);
      expect(await refusals(file, ["unpack"])).toContain(path.slice(0, path.lastIndexOf("/")));
      await rm(index);
      expect(await refusals(file, ["ls", "unpack"])).toContain(`${file} is damaged: `);
      await writeFile(file, bytes.subarray(0, Math.floor(bytes.length / 2)));
      await refusals(file, ["ls", "unpack"]);

      const copy = join(await temporaryDir(), "copy");
      await cp(dir, copy, { recursive: true });
      await writeFile(join(copy, rows[0]?.archive ?? ""), damaged);
      const said = await stage.run(["unpack", copy, "-o", await freshDir("out")]);
      expect(said.code).toBe(6);
      expect(said.stderr).toContain(`gantry get -o ${copy}`);
      expect((await stage.run(["verify", copy])).code).toBe(6);
      const got = await stage.run(["get", "-o", copy, "--progress", "none"]);
      expect(got.code, got.stderr).toBe(0);
      expect(await unpacked(copy)).toEqual(data);
    });

    it("an index that was deleted is made again by the next get, and what lies behind the end goes", async () => {
      const copy = join(await temporaryDir(), "copy");
      await cp(dir, copy, { recursive: true });
      const file = join(copy, rows[0]?.archive ?? "");
      const index = await readFile(`${file}.index.jsonl`, "utf8");
      await writeFile(file, Buffer.concat([await readFile(file), Buffer.from("more")]));
      const { stderr } = await stage.run(["verify", file]);
      expect(stderr).toContain(`delete ${file}.index.jsonl`);
      await rm(`${file}.index.jsonl`);
      const requests = stage.requests("getImage").length;
      const got = await stage.run(["get", "-o", copy, "--progress", "none"]);
      expect(got.code, got.stderr).toBe(0);
      expect(stage.requests("getImage").length).toBe(requests);
      expect(await readFile(`${file}.index.jsonl`, "utf8")).toBe(index);
      expect((await stage.run(["verify", file])).code).toBe(0);
    });

    it("tells of links in anybody's archive, which are not unpacked", async () => {
      const place = await temporaryDir();
      await writeFile(join(place, "a"), "one");
      await symlink("a", join(place, "b"));
      await link(join(place, "a"), join(place, "c"));
      const file = join(place, "x.tar");
      expect(spawnSync("tar", ["-cf", "x.tar", "a", "b", "c"], { cwd: place }).status).toBe(0);
      const to = await freshDir("out");
      const { code, stderr } = await stage.run(["unpack", file, "-o", to]);
      expect([code, await readdir(to)]).toEqual([3, ["a"]]);
      expect(stderr).toMatch(/2 members left out, the first "b"/u);
      expect((await stage.run(["unpack", file, "a", "-o", await freshDir("out")])).code).toBe(0);
    });

    it("get --pack into a folder of loose files names pack", async () => {
      const loose = await freshDir("loose");
      const words = ["get", "tcia:", "-o", loose, "--limit", "1", "--progress", "none"];
      expect((await stage.run(words)).code).toBe(0);
      const { code, stderr } = await stage.run([...words, "--pack", "tar"]);
      expect(code).toBe(2);
      expect(stderr).toContain(`gantry pack ${loose} --pack tar`);
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
  },
);
