/** Disks that are full: the run says which kind of full, and goes on where it stopped when there is room. */
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { freshDir, temporaryDir } from "../support/gantry.ts";
import { openKillGround } from "./kill-runs.ts";
import { wrongFiles } from "./tree.ts";

const run = (command: string, ...args: string[]): boolean => spawnSync(command, args).status === 0;

/** Whether this machine lets us mount at all. */
const canMount = ((): boolean => {
  if (process.getuid?.() !== 0) return false;
  return spawnSync("unshare", ["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).status === 0;
})();
const canBtrfs = canMount && run("mkfs.btrfs", "--version") && run("btrfs", "--version");

const mounted: string[] = [];
afterEach(() => {
  for (const path of mounted.splice(0).reverse()) run("umount", "-l", path);
});

// Refused before anything is fetched, or in the middle.
const FULL = /disk (is full|has [^,]+ free)/;
const NO_INODES = /inode|room for \d+ more/;

describe.skipIf(!canMount)("a full disk (needs root and mount)", () => {
  // 60 series of 80 kB.
  it.each([
    ["size=40k", FULL],
    ["size=120k", FULL],
    ["size=400k", FULL],
    ["size=1m", FULL],
    ["size=2500k", FULL],
    ["size=4800k", FULL],
    ["size=4900k", FULL],
    ["size=64m,nr_inodes=5", NO_INODES],
    ["size=64m,nr_inodes=12", NO_INODES],
    ["size=64m,nr_inodes=40", NO_INODES],
    ["size=64m,nr_inodes=150", NO_INODES],
    ["size=64m,nr_inodes=300", NO_INODES],
  ])("tmpfs of %s", async (size, sentence) => {
    const ground = await openKillGround();
    const mount = await temporaryDir();
    expect(run("mount", "-t", "tmpfs", "-o", `${size},mode=777`, "tmpfs", mount)).toBe(true);
    mounted.push(mount);
    const dir = join(mount, "data");
    const ended = await ground.stage.run(["get", "tcia:", "-o", dir, "--progress", "none"]);
    const stored = /\d+ series? stored/.exec(ended.stderr)?.[0] ?? "";
    process.stdout.write(`  ${size}: exit ${ended.code} ${stored}\n`);
    expect(wrongFiles(dir, ground.clean)).toEqual([]);
    expect([3, 7], ended.stderr).toContain(ended.code);
    expect(ended.stderr).toMatch(sentence);
    expect(run("mount", "-o", "remount,size=64m,nr_inodes=10000", mount)).toBe(true);
    await ground.finish(dir);
  });

  it.skipIf(!canBtrfs)("a quota of btrfs (needs its tools)", async () => {
    const ground = await openKillGround();
    const image = join(await freshDir("image"), "..", "image");
    const mount = await temporaryDir();
    expect(run("truncate", "-s", "256M", image) && run("mkfs.btrfs", "-q", "--mixed", image)).toBe(true);
    expect(run("mount", "-o", "loop", image, mount)).toBe(true);
    mounted.push(mount);
    const volume = join(mount, "v");
    expect(run("btrfs", "quota", "enable", mount)).toBe(true);
    expect(run("btrfs", "subvolume", "create", volume)).toBe(true);
    expect(run("btrfs", "qgroup", "limit", "3M", volume)).toBe(true);
    const dir = join(volume, "data");
    mkdirSync(dir);
    const ended = await ground.stage.run(["get", "tcia:", "-o", dir, "--progress", "none"]);
    expect(wrongFiles(dir, ground.clean)).toEqual([]);
    expect([3, 7], ended.stderr).toContain(ended.code);
    expect(ended.stderr).toMatch(/quota/);
    expect(run("btrfs", "qgroup", "limit", "none", volume)).toBe(true);
    await ground.finish(dir);
  });
});
