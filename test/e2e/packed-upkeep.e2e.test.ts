/** What one does with a packed folder later, as with a folder of files: prove it, list its sums, drop a part of it. */
import { spawnSync } from "node:child_process";
import { readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { smallArchive } from "../support/dataset.ts";
import { freshDir, has, type Stage, startStage, temporaryDir } from "../support/gantry.ts";

const FORMATS = ["tar.zst", "tar.xz", "tar"] as const;
type Format = (typeof FORMATS)[number];
const NEEDED = ["tar", "zstd", "xz", "md5sum"];

describe.skipIf(!NEEDED.every(has))(`packed (needs ${NEEDED.join(", ")})`, { timeout: 120_000 }, () => {
  let stage: Stage;

  beforeAll(async () => {
    stage = await startStage({ data: smallArchive() });
  });

  const gantry = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await stage.run(args);
    expect(code, stderr).toBe(0);
    return stdout + stderr;
  };
  const fetched = async (format: Format): Promise<{ dir: string; archive: string }> => {
    const dir = await freshDir("packed");
    await gantry("get", "tcia:", "-o", dir, "--pack", format, "--progress", "none");
    return { dir, archive: join(dir, `packed.${format}`) };
  };
  const run = (program: string, args: readonly string[], cwd?: string) => {
    const { status, stdout, stderr } = spawnSync(program, args, { cwd, maxBuffer: 1 << 28 });
    return { status, stdout, stderr: String(stderr) };
  };
  const members = (archive: string): string[] => {
    const { status, stdout, stderr } = run("tar", ["-tf", archive]);
    expect([status, stderr]).toEqual([0, ""]);
    return String(stdout).trim().split("\n").sort();
  };
  /** Everything that the archive file holds, blanks aside. */
  const content = (archive: string, format: Format): Buffer => {
    if (format === "tar") return run("cat", [archive]).stdout;
    return run(format === "tar.zst" ? "zstd" : "xz", ["-q", "-d", "-c", archive]).stdout;
  };

  it.each(FORMATS)("%s: the list of sums is that of the tree that tar makes", async (format) => {
    const { dir, archive } = await fetched(format);
    const said = await gantry("verify", dir, "--write-sums");
    expect(said).toContain("md5sum -c");
    expect((await stage.run(["verify", "--strict", dir])).code).toBe(0);
    const out = await temporaryDir();
    expect(run("tar", ["-xf", archive, "-C", out]).status).toBe(0);
    const list = resolve(dir, "MD5SUMS");
    const listed = (await readFile(list, "utf8")).trim().split("\n");
    expect(listed.map((line) => line.slice(34)).sort()).toEqual(members(archive));
    expect(run("md5sum", ["-c", "--quiet", "--strict", list], out)).toMatchObject({ status: 0, stderr: "" });
  });

  it.each(FORMATS)("%s: what is dropped leaves no byte, and tar reads the rest", async (format) => {
    const { dir, archive } = await fetched(format);
    const before = members(archive);
    const whole = content(archive, format);
    const gone = before.filter((path) => path.includes("/P1/"));
    expect(gone.length).toBeGreaterThan(0);
    expect(gone.length).toBeLessThan(before.length);
    const out = await temporaryDir();
    run("tar", ["-xf", archive, "-C", out]);
    // Pixels of each dropped image: a part of it that nothing else holds.
    const parts = await Promise.all(
      gone.map(async (path) => (await readFile(join(out, path))).subarray(-300)),
    );
    expect(parts.every((part) => whole.includes(part))).toBe(true);
    await gantry("drop", dir, "tcia:LUNG CT/P1", "--yes");
    expect(members(archive)).toEqual(before.filter((path) => !gone.includes(path)));
    const rest = content(archive, format);
    expect(parts.filter((part) => rest.includes(part))).toEqual([]);
    const raw = await readFile(archive);
    expect(parts.filter((part) => raw.includes(part))).toEqual([]);
    expect(await gantry("verify", "--strict", dir)).toContain("byte for byte");
    const requests = stage.requests("getImage").length;
    await gantry("get", "-o", dir, "--progress", "none");
    expect(stage.requests("getImage").length).toBe(requests);
    expect(members(archive).filter((path) => gone.includes(path))).toEqual([]);
    await gantry("verify", dir, "--write-sums");
    expect(await readFile(join(dir, "MD5SUMS"), "utf8")).not.toContain("/P1/");
  });

  it("what was cut off or is gone is missing, and the next get brings it", async () => {
    const format = "tar.zst";
    const { dir, archive } = await fetched(format);
    const bytes = await readFile(archive);
    const harms: readonly (() => Promise<void>)[] = [
      () => truncate(archive, Math.floor(bytes.length / 2)),
      () => rm(archive),
      () => writeFile(archive, Buffer.alloc(bytes.length)),
    ];
    for (const harm of harms) {
      await harm();
      expect((await stage.run(["verify", dir])).code).toBe(6);
      await gantry("get", "-o", dir, "--progress", "none");
      expect(await gantry("verify", "--strict", dir)).toContain("byte for byte");
      const archives = (await readdir(dir)).filter((name) => name.endsWith(`.${format}`)).sort();
      const all = archives.flatMap((name) => members(join(dir, name)));
      expect(new Set(all).size, "nothing twice").toBe(all.length);
    }
  });
});
