import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { smallArchive } from "../support/dataset.ts";
import {
  freshDir,
  hashTree,
  listAll,
  type Stage,
  startStage,
  temporaryDir,
  until,
} from "../support/gantry.ts";

const asking = async (dir: string): Promise<string[]> =>
  (await listAll(dir)).filter((path) => path.startsWith(".gantry/asking/"));

describe("a get that ends while it lists", () => {
  let stage: Stage;
  let dir: string;

  beforeEach(async () => {
    stage = await startStage({ data: smallArchive() });
    dir = await freshDir();
  });

  /** Starts a get whose listing hangs, and ends it there. */
  const cut = async (args: readonly string[], signal: NodeJS.Signals, input?: string): Promise<void> => {
    stage.control.clearRequests();
    stage.control.setFaults([
      { kind: "stall", route: "**/getSeries", afterBytes: 1 },
      { kind: "stall", route: "**/getSeriesMetaData", afterBytes: 1 },
      { kind: "stall", route: "**/getSeriesMetadata2", afterBytes: 1 },
    ]);
    const run = stage.start(["get", ...args, "-o", dir], input === undefined ? {} : { input });
    await until("the run remembers what it asks", async () => (await asking(dir)).length > 0);
    run.kill(signal);
    await run.ended;
    stage.control.setFaults([]);
  };
  const expectAs = async (words: readonly (readonly string[])[]): Promise<void> => {
    const fresh = await freshDir("fresh");
    for (const each of words) expect((await stage.get(each, { dir: fresh })).summary.exit).toBe(0);
    expect(await hashTree(dir)).toEqual(await hashTree(fresh));
    expect(await asking(dir)).toEqual([]);
  };

  it.each(["SIGKILL", "SIGTERM"] as const)(
    "by %s in a fresh folder: status tells, a bare get goes on",
    async (signal) => {
      await cut(["tcia:LUNG CT", "--modality", "CT"], signal);
      const status = await stage.run(["status", dir, "--check", "--format", "json"]);
      expect([status.code, JSON.parse(status.stdout)]).toMatchObject([3, [{ askingRequests: 1 }]]);
      const resumed = await stage.run(["get", "-o", dir]);
      expect(resumed.code, resumed.stderr).toBe(0);
      const fresh = await freshDir("fresh");
      expect((await stage.run(["get", "tcia:LUNG CT", "--modality", "CT", "-o", fresh])).code).toBe(0);
      expect(await hashTree(dir)).toEqual(await hashTree(fresh));
      expect((await stage.run(["status", dir, "--check"])).code).toBe(0);
    },
  );

  it("in a folder with other requests: a bare get does them all", async () => {
    await stage.get(["tcia:Brain MR"], { dir });
    await cut(["tcia:LUNG CT"], "SIGKILL");
    expect((await stage.run(["status", dir, "--check"])).code).toBe(3);
    expect((await stage.get([], { dir, dryRun: true })).summary).toMatchObject({
      exit: 0,
      here: { items: 1 },
    });
    expect((await stage.get([], { dir })).summary).toMatchObject({ exit: 0, stored: { items: 5 } });
    await expectAs([["tcia:Brain MR"], ["tcia:LUNG CT"]]);
  });

  it("of a list that is gone: what it named is kept", async () => {
    await cut(["-"], "SIGKILL", "1.2.840.1.1\ntcia:1.2.840.1.6\n");
    expect((await stage.get([], { dir })).summary).toMatchObject({ exit: 0, stored: { items: 2 } });
    const list = join(await temporaryDir(), "list.txt");
    await writeFile(list, "1.2.840.1.1\n1.2.840.1.6\n");
    await expectAs([[list]]);
  });

  it("with --replace: only that is gone on with", async () => {
    await stage.get(["tcia:Brain MR"], { dir });
    await cut(["tcia:LUNG CT/P2", "--replace"], "SIGKILL");
    expect((await stage.get([], { dir })).summary.exit).toBe(0);
    expect(await asking(dir)).toEqual([]);
    expect((await stage.get([], { dir })).summary).toMatchObject({ exit: 0, here: { items: 2 } });
    const nothing = await stage.run(["get", "-o", dir, "--replace"]);
    expect([nothing.code, nothing.stderr]).toEqual([2, expect.stringContaining("--replace")]);
  });

  it("the same again, typed, leaves nothing to go on with; nor does what can't be had", async () => {
    await cut(["tcia:LUNG CT"], "SIGKILL");
    expect((await stage.get(["tcia:LUNG CT"], { dir })).summary.exit).toBe(0);
    await expectAs([["tcia:LUNG CT"]]);
    const none = await stage.run(["get", "tcia:LUNG CT", "--modality", "MR", "-o", dir]);
    expect(none.code, none.stderr).toBe(2);
    expect(await asking(dir)).toEqual([]);
  });
});
