import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { beginFolder } from "../../test/support/state.ts";
import {
  type Branch,
  type DroppedItem,
  hasDrops,
  hasPendingDrops,
  readDropRules,
  readPendingItems,
  settleDrops,
  writeDrop,
} from "./dropped.ts";
import { readNames, type StateFolder } from "./state-folder.ts";

const patient = (name: string, archive = "tcia"): Branch => ({
  level: "patient",
  archive,
  path: ["C", name],
});

describe("records of drops", () => {
  let dir: string;
  let state: StateFolder;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), "gantry-dropped-"));
    state = await beginFolder(dir);
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));

  const write = (run: string, branches: readonly Branch[], ids: readonly string[]): Promise<void> => {
    async function* items(): AsyncGenerator<DroppedItem> {
      for (const item of ids) yield { item, archive: "tcia" };
    }
    return writeDrop(state, run, { branches, items: items() });
  };
  const pending = async (): Promise<string[]> => {
    const ids: string[] = [];
    for await (const { item } of readPendingItems(state)) ids.push(item);
    return ids;
  };
  const texts = async (): Promise<string[]> =>
    Promise.all(
      (await readNames(state.path("dropped"))).map((name) => readFile(state.path("dropped", name), "utf8")),
    );

  it("are pending until they are settled, and rules hold before and after", async () => {
    expect(await hasDrops(state)).toBe(false);
    await write("r1", [patient("Pätient 1")], ["a", "c"]);
    await write("r2", [patient("P2")], ["b", "c"]);
    expect(await hasPendingDrops(state)).toBe(true);
    expect(await pending()).toEqual(["a", "b", "c"]);
    const holds = async (): Promise<boolean[]> => {
      const rules = await readDropRules(state);
      const asked = [
        patient(" PA\u0308TIENT 1 "),
        patient("P2"),
        patient("P3"),
        patient("P2", "other"),
        { ...patient("P2"), level: "study" },
      ];
      return asked.map((branch) => rules.has(branch));
    };
    expect(await holds()).toEqual([true, true, false, false, false]);
    await settleDrops(state);
    expect([await hasPendingDrops(state), await pending(), await hasDrops(state)]).toEqual([false, [], true]);
    expect(await holds()).toEqual([true, true, false, false, false]);
  });

  it("name nobody, share one salt in a folder and none with another folder", async () => {
    await write("r1", [patient("P1")], []);
    await write("r2", [patient("P1")], []);
    const own = await texts();
    expect(own[0]).toBe(own[1]);
    expect(own.join("")).not.toMatch(/P1|"C"/u);
    await rm(state.path("dropped"), { recursive: true });
    await write("r1", [patient("P1")], []);
    expect((await texts())[0]).not.toBe(own[0]);
  });

  it("of a newer version are refused", async () => {
    await write("r1", [patient("P1")], []);
    const path = state.path("dropped", "r1.pending.jsonl");
    await writeFile(path, (await readFile(path, "utf8")).replace('"version":1', '"version":2'));
    await expect(readDropRules(state)).rejects.toMatchObject({ code: "folder-newer" });
  });
});
