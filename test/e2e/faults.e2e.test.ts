/** The short form of test/soak: every fault once, a few seeds, a few kills, one full disk of each sort. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { ALL_KINDS, faultOf, type Ground, openGround, runUnderFaults } from "../soak/fault-runs.ts";
import { type KillGround, killOnce, openKillGround, seeded } from "../soak/kill-runs.ts";
import { missingFiles, wrongFiles } from "../soak/tree.ts";
import { freshDir, temporaryDir } from "../support/gantry.ts";

const SEED = Number(process.env.GANTRY_SOAK_SEED ?? 1);
const KILLS = 8;
const PATIENT = { timeout: 120_000 };

describe("faults of the archive", () => {
  let ground: Ground;
  beforeAll(async () => {
    ground = await openGround();
  });

  it.each(ALL_KINDS)("%s at six of ten image requests", PATIENT, async (kind) => {
    const fault = faultOf(kind, { probability: 0.6, count: 10, route: "**/getImage" });
    await runUnderFaults(ground, [fault], { seed: SEED, watch: true });
  });

  it.each([SEED, SEED + 1, SEED + 2])("all kinds mixed, seed %i", PATIENT, async (seed) => {
    const faults = ALL_KINDS.map((kind) => faultOf(kind, { probability: 0.3 / ALL_KINDS.length }));
    await runUnderFaults(ground, faults, { seed });
  });
});

describe("faults of the machine", () => {
  let ground: KillGround;
  beforeAll(async () => {
    ground = await openKillGround(20);
  });

  const random = seeded(SEED);
  const moments = Array.from({ length: KILLS }, () => random());
  it.each(moments)("SIGKILL after %f of the run", PATIENT, async (part) => {
    await killOnce(ground, 100 + part * (ground.cleanMs - 50), null);
  });

  const hasStrace = spawnSync("strace", ["-V"]).status === 0;
  const injections = ["fdatasync:error=EIO:when=3+", "rename:signal=KILL:when=8"];
  it.skipIf(!hasStrace).each(injections)("strace %s (needs strace)", PATIENT, async (inject) => {
    const dir = await freshDir();
    const trace = `trace=${inject.slice(0, inject.indexOf(":"))}`;
    const ended = await ground.stage.run(["get", "tcia:", "-o", dir, "--progress", "none"], {
      prefix: ["strace", "-f", "-qq", "-o", "/dev/null", "-e", trace, "-e", `inject=${inject}`],
      // strace counts calls for each thread.
      env: { UV_THREADPOOL_SIZE: "1" },
    });
    expect(wrongFiles(dir, ground.clean)).toEqual([]);
    expect(missingFiles(dir, ground.clean)).not.toEqual([]);
    expect(inject.includes("KILL") ? [null, 137] : [3, 7], ended.stderr).toContain(ended.code);
    await ground.finish(dir);
  });

  const canMount =
    process.getuid?.() === 0 &&
    spawnSync("unshare", ["-m", "mount", "-t", "tmpfs", "t", "/mnt"]).status === 0;
  const mounted: string[] = [];
  afterEach(() => {
    for (const path of mounted.splice(0)) spawnSync("umount", ["-l", path]);
  });
  async function disk(options: string): Promise<string> {
    const mount = await temporaryDir();
    expect(spawnSync("mount", ["-t", "tmpfs", "-o", options, "tmpfs", mount]).status).toBe(0);
    mounted.push(mount);
    return mount;
  }

  // 20 series of 80 kB. The last of each sort have room for what is announced, and not for all that comes with it.
  it.skipIf(!canMount).each([
    ["size=700k", 7, /1\.6 MB are to be fetched, and the disk has [\d.]+ kB free/],
    ["size=64m,nr_inodes=60", 7, /80 files are to be written, and the disk has room for \d+ more/],
    ["size=1700k", 3, /disk is full/],
    ["size=64m,nr_inodes=101", 3, /inode/],
    ["size=64m,nr_inodes=110", 3, /inode/],
  ])("a disk of %s ends with status %i (needs root)", PATIENT, async (options, code, sentence) => {
    const mount = await disk(options);
    const dir = join(mount, "data");
    const ended = await ground.stage.run(["get", "tcia:", "-o", dir, "--progress", "none"]);
    expect(wrongFiles(dir, ground.clean)).toEqual([]);
    expect(ended.code, ended.stderr).toBe(code);
    expect(ended.stderr).toMatch(sentence);
    spawnSync("mount", ["-o", "remount,size=64m,nr_inodes=10000", mount]);
    await ground.finish(dir);
  });
});
