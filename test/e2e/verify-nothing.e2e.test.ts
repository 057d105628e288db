/** `verify` where nothing is stored: no script may take it for proved when something was asked for. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { smallArchive } from "../support/dataset.ts";
import { freshDir, listAll, type Stage, startStage, temporaryDir, until } from "../support/gantry.ts";

describe("verify of a folder in which nothing is stored", { timeout: 60_000 }, () => {
  let stage: Stage;

  beforeAll(async () => {
    stage = await startStage({ data: smallArchive() });
  });

  const lastEvent = async (dir: string): Promise<unknown> => {
    const { stdout } = await stage.run(["verify", dir, "--json"]);
    return JSON.parse(stdout.trim().split("\n").at(-1) ?? "");
  };

  it("that gantry never saw: 2", async () => {
    for (const dir of [await temporaryDir(), await freshDir()]) {
      const { code, stderr } = await stage.run(["verify", dir]);
      expect([code, stderr]).toEqual([2, expect.stringContaining("holds no receipts of gantry")]);
    }
  });

  it("though items were asked for: 6, with their number and how to fetch them, packed or not", async () => {
    for (const form of [[], ["--pack", "tar"]]) {
      const dir = await freshDir();
      stage.control.setFaults([{ kind: "500", route: "**/getImage*" }]);
      const words = ["get", "tcia:", "-o", dir, ...form, "--limit", "2", "--retries", "0"];
      const got = await stage.run([...words, "--progress", "none"]);
      stage.control.setFaults([]);
      expect(got.code).toBe(5);
      const { code, stdout, stderr } = await stage.run(["verify", dir]);
      expect([code, stdout]).toEqual([6, ""]);
      expect(stderr).toContain(`nothing is stored in ${dir}, and 2 items were asked for`);
      expect(stderr).toContain(`gantry get -o ${dir}`);
      expect(stderr.trim().split("\n")).toHaveLength(2);
      expect(await lastEvent(dir)).toMatchObject({ exit: 6, items: 0, error: { code: "proof-count" } });
      expect((await stage.run(["get", "-o", dir, "--progress", "none"])).code).toBe(0);
      expect((await stage.run(["verify", dir])).code).toBe(0);
    }
  });

  it("since a run was cut while it listed: 6", async () => {
    const dir = await freshDir();
    stage.control.setFaults([{ kind: "slow-first-byte", ms: 60_000 }]);
    const program = stage.start(["get", "tcia:", "-o", dir, "--progress", "none"]);
    const asks = async (): Promise<boolean> =>
      (await listAll(dir)).some((path) => path.startsWith(".gantry/asking/"));
    await mkdir(dir, { recursive: true });
    await until("it asks", asks);
    program.kill("SIGKILL");
    await program.ended;
    stage.control.setFaults([]);
    const { code, stderr } = await stage.run(["verify", dir]);
    expect([code, stderr]).toEqual([6, expect.stringContaining("before it knew what it was asked for")]);
  });

  it("since all was dropped: 0, and it says so", async () => {
    for (const form of [[], ["--pack", "tar"]]) {
      const dir = join(await temporaryDir(), "data");
      const got = await stage.run(["get", "tcia:", "-o", dir, ...form, "--progress", "none"]);
      expect(got.code, got.stderr).toBe(0);
      for (const collection of ["LUNG CT", "Brain MR"]) {
        const dropped = await stage.run(["drop", dir, `tcia:${collection}`, "--yes"]);
        expect(dropped.code, dropped.stderr).toBe(0);
      }
      const { code, stderr } = await stage.run(["verify", dir]);
      expect(stderr).toMatch(
        /^Nothing is stored in \S+, and nothing is expected there, so nothing was proved\./u,
      );
      expect(code).toBe(0);
      expect(await lastEvent(dir)).toMatchObject({ exit: 0, items: 0, error: null });
    }
  });
});
