/** The real binary killed at random moments, and system calls that fail under it: a rerun leaves a whole tree. */
import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { freshDir } from "../support/gantry.ts";
import { killOnce, openKillGround, seeded } from "./kill-runs.ts";
import { missingFiles, wrongFiles } from "./tree.ts";

const KILLS = Number(process.env.GANTRY_SOAK_KILLS ?? 100);
const SEED = Number(process.env.GANTRY_SOAK_SEED ?? 1);

describe("SIGKILL", () => {
  it(`at ${KILLS} moments, seed ${SEED}`, async () => {
    const ground = await openKillGround();
    const random = seeded(SEED);
    const tally = { listing: 0, partly: 0, over: 0 };
    for (let n = 1; n <= KILLS; n += 1) {
      const atMs = 100 + random() * (ground.cleanMs - 50);
      const again = random() < 0.3 ? random() * ground.cleanMs : null;
      const { stored, finished } = await killOnce(ground, atMs, again);
      tally[finished ? "over" : stored === 0 ? "listing" : "partly"] += 1;
    }
    process.stdout.write(
      `  ${KILLS} kills, seed ${SEED}: ${tally.listing} before anything was stored, ${tally.partly} amid, ${tally.over} too late\n`,
    );
    expect(tally.partly).toBeGreaterThan(KILLS / 4);
  });
});

const hasStrace = spawnSync("strace", ["-V"]).status === 0;

/** strace counts `when` for each thread, so one pool thread makes it count for the process. */
const INJECTIONS = [
  "fsync:error=EIO",
  "fsync:error=EIO:when=1",
  "fsync:error=EIO:when=30",
  "fdatasync:error=EIO",
  "fdatasync:error=EIO:when=3+",
  "rename:error=EIO",
  "rename:error=EIO:when=4+",
  "rename:error=EIO:when=9",
  "rename:signal=KILL:when=1",
  "rename:signal=KILL:when=5",
  "rename:signal=KILL:when=8",
  "rename:signal=KILL:when=12",
  "fsync:signal=KILL:when=40",
  "fdatasync:signal=KILL:when=4",
  "unlink,rmdir:error=EIO:when=3+",
] as const;

describe.skipIf(!hasStrace)("system calls that fail (needs strace)", () => {
  it.each(INJECTIONS)("%s", async (inject) => {
    const ground = await openKillGround();
    const dir = await freshDir();
    const calls = inject.slice(0, inject.indexOf(":"));
    const prefix = [
      "strace",
      "-f",
      "-qq",
      "-o",
      "/dev/null",
      "-e",
      `trace=${calls}`,
      "-e",
      `inject=${inject}`,
    ];
    const ended = await ground.stage.run(["get", "tcia:", "-o", dir, "--progress", "none"], {
      prefix,
      env: { UV_THREADPOOL_SIZE: "1" },
    });
    process.stdout.write(`  ${inject}: exit ${ended.code ?? ended.signal}: ${firstLine(ended.stderr)}\n`);
    expect(wrongFiles(dir, ground.clean)).toEqual([]);
    const whole = missingFiles(dir, ground.clean).length === 0;
    if (!whole) expect(ended.code, ended.stderr).not.toBe(0);
    if (inject.includes("KILL")) expect(ended.code).not.toBe(1);
    else expect(whole ? [0, 3, 7] : [3, 7], ended.stderr).toContain(ended.code);
    await ground.finish(dir);
  });
});

const firstLine = (text: string): string => text.trim().split("\n")[0]?.slice(0, 150) ?? "";
