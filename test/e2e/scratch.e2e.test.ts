/** `--scratch`: unfinished data elsewhere, of which nothing is left after whatever end. */
import { spawnSync } from "node:child_process";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import {
  atEnd,
  freshDir,
  hashTree,
  listAll,
  type Program,
  type Stage,
  startStage,
  type Tree,
  temporaryDir,
  until,
} from "../support/gantry.ts";

let stage: Stage;
let clean: Tree;
beforeAll(async () => {
  stage = await startStage();
  const dir = await freshDir();
  expect((await stage.run(["get", "tcia:Phantom-CT", "-o", dir, "--progress", "none"])).code).toBe(0);
  clean = await hashTree(dir);
});

const GET = ["get", "tcia:Phantom-CT", "--progress", "none"];

/** Killed while it has something on the scratch disk, in the middle of items. */
async function killAmid(scratch: string, start: () => Program): Promise<void> {
  // The end of every body never comes.
  stage.control.setFaults([{ kind: "stall", route: "**/getImage*", fraction: 0.9 }]);
  const program = start();
  await until("something lies in scratch", async () => (await listAll(scratch)).length > 0, 60_000);
  program.kill("SIGKILL");
  await program.ended;
  stage.control.setFaults([]);
  expect((await listAll(scratch)).length).toBeGreaterThan(0);
}

describe("scratch", { timeout: 90_000 }, () => {
  it("of a folder that was killed is empty after the next run, with it and without", async () => {
    for (const again of ["the same", "another", "none"]) {
      const [dir, scratch] = [await freshDir(), await temporaryDir()];
      await killAmid(scratch, () => stage.start([...GET, "-o", dir, "--scratch", scratch]));
      const options = {
        "the same": ["--scratch", scratch],
        another: ["--scratch", await temporaryDir()],
        none: [],
      };
      const got = await stage.run([
        "get",
        "-o",
        dir,
        ...options[again as keyof typeof options],
        "--progress",
        "none",
      ]);
      expect(got.code, got.stderr).toBe(0);
      expect([again, await readdir(scratch)]).toEqual([again, []]);
      expect(await hashTree(dir)).toEqual(clean);
    }
  });

  it("of a task of an array that was killed is empty after the next task on the machine", async () => {
    const [dir, scratch] = [await freshDir(), await temporaryDir()];
    const planned = await stage.run(["slurm", "plan", "tcia:Phantom-CT", "-o", dir, "--tasks", "2"]);
    expect(planned.code, planned.stderr).toBe(0);
    const array = planned.stdout.split(" ")[0] as string;
    const task = (number: string, where: string) => [
      "slurm",
      "task",
      dir,
      "--array",
      array,
      "--task",
      number,
      "--scratch",
      where,
    ];
    const env = { SLURM_JOB_ID: "17" };
    await killAmid(scratch, () => stage.start(task("0", `${scratch}/$SLURM_JOB_ID`), { env }));
    expect(await readdir(scratch)).toEqual(["17"]);
    const other = await stage.run(task("1", scratch));
    expect(other.code, other.stderr).toBe(0);
    expect(await listAll(scratch)).toEqual([]);
    const end = await stage.run(["slurm", "finish", dir, "--array", array]);
    expect(end.code, end.stderr).toBe(0);
    expect(await hashTree(dir)).toEqual(clean);
  });

  const why = process.getuid?.() === 0 ? null : "needs root";
  it.skipIf(why !== null)(
    "that is too small for the largest item is refused at once, by tasks, too (needs root)",
    async () => {
      const disk = join(await temporaryDir(), "disk");
      await mkdir(disk);
      if (spawnSync("mount", ["-t", "tmpfs", "-o", "size=100k", "tmpfs", disk]).status !== 0)
        throw new Error("no tmpfs could be mounted");
      atEnd(async () => void spawnSync("umount", [disk]));
      const dir = await freshDir();
      const planned = await stage.run(["slurm", "plan", "tcia:Phantom-CT", "-o", dir, "--tasks", "2"]);
      const array = planned.stdout.split(" ")[0] as string;
      stage.control.clearRequests();
      for (const words of [
        [...GET, "-o", await freshDir(), "--scratch", disk],
        ["slurm", "task", dir, "--array", array, "--task", "0", "--scratch", disk],
      ]) {
        const { code, stderr } = await stage.run(words);
        expect([code, stderr]).toEqual([
          7,
          expect.stringMatching(/the scratch disk has .* free, and the largest item takes/u),
        ]);
        expect(await readdir(disk)).toEqual([]);
      }
      expect(stage.requests("getImage").length + stage.requests("getImageWithMD5Hash").length).toBe(0);
    },
  );
});
