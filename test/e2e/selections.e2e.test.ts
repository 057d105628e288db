import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { readStatus } from "../../src/index.ts";
import { smallArchive } from "../support/dataset.ts";
import {
  eventsOf,
  filters,
  freshDir,
  hashTree,
  listAll,
  listFiles,
  type Stage,
  startStage,
} from "../support/gantry.ts";

const CT = filters({ words: { modality: ["CT"] } });

describe("several selections in one folder", () => {
  let stage: Stage;
  let dir: string;

  beforeEach(async () => {
    stage = await startStage({ data: smallArchive() });
    dir = await freshDir();
  });

  const fetched = (): string[] =>
    stage
      .requests("getImage")
      .map((request) => String(request.query.SeriesInstanceUID))
      .sort();
  const selections = async (): Promise<string[]> =>
    (await listAll(dir)).filter((path) => path.startsWith(".gantry/selections/"));
  const get = async (words: string[], more: Partial<Parameters<Stage["get"]>[1]> = {}) => {
    stage.control.clearRequests();
    return stage.get(words, { dir, ...more });
  };

  it("a wider one fetches only what is not here", async () => {
    expect((await get(["tcia:LUNG CT/P2"])).summary).toMatchObject({ exit: 0, stored: { items: 2 } });
    expect((await get(["tcia:LUNG CT"])).summary).toMatchObject({
      exit: 0,
      stored: { items: 3 },
      here: { items: 2 },
    });
    expect(fetched()).toEqual(["1.2.840.1.1", "1.2.840.1.2", "1.2.840.1.5"]);
    const fresh = await freshDir("fresh");
    await stage.get(["tcia:LUNG CT"], { dir: fresh });
    expect(await hashTree(dir)).toEqual(await hashTree(fresh));
  });

  it.each(["the rest of it", "something else", "everything, dry"])(
    "one that somebody changed is not believed, whatever is asked for: %s",
    async (what) => {
      await get(["tcia:LUNG CT/P1"]);
      const [name = ""] = await selections();
      const path = join(dir, name);
      const lines = (await readFile(path, "utf8")).trimEnd().split("\n");
      await writeFile(path, `${lines.slice(0, -1).join("\n")}\n`);
      const before = await hashTree(dir);
      const { summary } = await get(what === "something else" ? ["tcia:LUNG CT/P2"] : [], {
        dryRun: what === "everything, dry",
      });
      expect(summary).toMatchObject({ exit: 2, error: { code: "bad-selection" } });
      expect(summary.error?.message).toContain(path);
      expect(fetched()).toEqual([]);
      expect(await hashTree(dir)).toEqual(before);
      expect(await selections()).toEqual([name]);
    },
  );

  it("a narrower one fetches nothing, removes nothing and does not forget the wider", async () => {
    await get(["tcia:LUNG CT"]);
    const before = await hashTree(dir);
    expect((await get(["tcia:LUNG CT/P1"])).summary).toMatchObject({
      exit: 0,
      stored: { items: 0 },
      here: { items: 3 },
    });
    expect(fetched()).toEqual([]);
    expect(await hashTree(dir)).toEqual(before);
    expect((await readStatus(dir)).expected.items).toBe(5);
  });

  it("overlapping ones share what both want", async () => {
    await get(["tcia:LUNG CT/P1"]);
    await get(["tcia:"], { filters: CT });
    expect(fetched()).toEqual(["1.2.840.1.4"]);
    expect(await selections()).toHaveLength(2);
    expect((await readStatus(dir)).expected.items).toBe(4);
  });

  it("the same question with the same answer writes no second file; the order of words does not matter", async () => {
    await get(["tcia:", "LUNG CT", "Brain MR"]);
    const before = await selections();
    await get(["tcia:", "Brain MR", "lung ct"]);
    expect(await selections()).toEqual(before);
  });

  it("get -o DIR alone asks all of them again, and finishes what failed", async () => {
    await get(["tcia:Brain MR"]);
    stage.control.setFaults([{ kind: "500", route: "**/getImage", containing: "1.2.840.1.2" }]);
    expect((await stage.get(["tcia:LUNG CT/P1"], { dir }, { retries: 0 })).summary).toMatchObject({
      exit: 3,
      failed: 1,
    });
    stage.control.setFaults([]);
    stage.control.clearRequests();
    const resumed = await stage.run(["get", "-o", dir]);
    expect(resumed.code, resumed.stderr).toBe(0);
    expect(fetched()).toEqual(["1.2.840.1.2"]);
  });

  it("--replace retires the earlier ones; their data stays and is expected no more", async () => {
    await get(["tcia:LUNG CT"]);
    const before = await listFiles(dir);
    const { summary, events } = await get(["tcia:LUNG CT/P2"], { replace: true });
    expect(summary).toMatchObject({ exit: 0, stored: { items: 0 }, withdrawn: 0 });
    expect(eventsOf(events, "item-withdrawn")).toEqual([]);
    expect(await listFiles(dir)).toEqual(before);
    expect((await readStatus(dir)).expected.items).toBe(2);
    expect((await get([])).summary).toMatchObject({ exit: 0, here: { items: 2 } });
  });

  it("get -o DIR alone in a folder that nobody filled is exit 2 and leaves nothing", async () => {
    const result = await stage.run(["get", "-o", dir]);
    expect(result.code).toBe(2);
    expect(await listAll(dir)).toEqual([]);
  });

  it("a refreshed selection replaces the one of the same question only", async () => {
    await get(["tcia:LUNG CT"]);
    await get(["tcia:Brain MR"]);
    stage.control.change({ uid: "1.2.840.1.6", change: "withdraw" });
    await get([]);
    expect(await selections()).toHaveLength(3);
    const status = await readStatus(dir);
    expect(status).toMatchObject({
      missing: 0,
      damaged: 0,
      withdrawn: 1,
      expected: { items: 5 },
      done: { items: 5 },
    });
  });

  it("a saved selection gets what find showed, in another folder, and the words of find decide", async () => {
    const file = await freshDir("mine.jsonl");
    await get(["tcia:LUNG CT/P1"]);
    const found = await stage.run(["find", "tcia:LUNG CT/P1", "--save", file]);
    expect(found.code, found.stderr).toBe(0);
    const other = await freshDir("other");
    const got = await stage.run(["get", file, "-o", other]);
    expect(got.code, got.stderr).toBe(0);
    expect(await hashTree(other)).toEqual(await hashTree(dir));
  });
});
