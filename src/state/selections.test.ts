import { mkdir, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { hashBytes } from "../lib/digest.ts";
import type { Item } from "../model/item.ts";
import { NO_FILTERS } from "../model/query.ts";
import type { Request } from "../model/selection.ts";
import {
  currentSelections,
  newestFirst,
  proveSelections,
  readExpected,
  readItems,
  readSelections,
  type SelectionFile,
  writeSelection,
} from "./selections.ts";
import { beginStateFolder, type StateFolder } from "./state-folder.ts";

const request = (path: string): Request => ({
  kind: "paths",
  archive: "tcia",
  paths: [[path]],
  filters: NO_FILTERS,
});
const item = (id: string, revision = "1", more: Partial<Item> = {}): Item => ({
  id,
  revision,
  archive: "tcia",
  address: `tcia:${id}`,
  bytes: 10,
  files: 1,
  labels: { Collection: "C" },
  ...more,
});
async function* each(items: readonly Item[]): AsyncGenerator<Item> {
  yield* items;
}
async function gather<T>(values: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const value of values) all.push(value);
  return all;
}

describe("selections of a folder", () => {
  let dir: string;
  let state: StateFolder;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), "gantry-selections-"));
    await mkdir(dir, { recursive: true });
    state = await beginStateFolder(dir, {}, { layout: "uid", sink: "folder" });
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));

  const write = (path: string, items: readonly Item[], replaceAll = false): Promise<SelectionFile> =>
    writeSelection(state, request(path), each(items), { replaceAll });

  it("are named by the digest of their bytes; the same items make the same bytes", async () => {
    const one = await write("a", [item("x"), item("y")]);
    expect(basename(one.path)).toBe(`${hashBytes("sha256", await readFile(one.path)).slice(7)}.jsonl`);
    expect(await write("a", [item("x"), item("y")])).toEqual(one);
    expect(await readSelections(state)).toEqual([one]);
    expect(one.header).toMatchObject({ items: 2, files: 2, bytes: 20, replaces: [] });
    expect(await gather(readItems(one.path))).toEqual([item("x"), item("y")]);
  });

  it("a file that was cut is told by name and line, and is no bug", async () => {
    const { path } = await write("a", [item("x"), item("y")]);
    await truncate(path, (await readFile(path)).length - 9);
    await expect(gather(readItems(path))).rejects.toMatchObject({
      code: "bad-selection",
      message: `${path}:3: the line is damaged`,
    });
  });

  it("a file whose content does not fit its name is refused, one that fits is not", async () => {
    const { path } = await write("a", [item("x"), item("y")]);
    await proveSelections(await readSelections(state));
    const text = await readFile(path, "utf8");
    await writeFile(path, text.replace('"bytes":10', '"bytes":11'));
    await expect(readSelections(state).then(proveSelections)).rejects.toMatchObject({
      code: "bad-selection",
      message: expect.stringContaining(path),
    });
  });

  it("a changed answer replaces the older one of the same question, and no other", async () => {
    const other = await write("b", [item("z")]);
    const first = await write("a", [item("x")]);
    const second = await write("a", [item("x", "2")]);
    expect(second.header.replaces).toEqual([first.digest]);
    expect(
      currentSelections(await readSelections(state))
        .map((each) => each.digest)
        .sort(),
    ).toEqual([other.digest, second.digest].sort());
    const back = await write("a", [item("x")]);
    expect(currentSelections(await readSelections(state)).map((each) => each.digest)).toContain(back.digest);
  });

  it("replaceAll retires everything before it", async () => {
    await write("a", [item("x")]);
    await write("b", [item("y")]);
    const last = await write("c", [item("z")], true);
    expect(currentSelections(await readSelections(state))).toEqual([last]);
  });

  it("the newest comes first, whatever the digests", async () => {
    const chain: string[] = [];
    for (let revision = 0; revision < 6; revision += 1)
      chain.unshift((await write("a", [item("x", `r${revision}`)])).digest);
    const all = await readSelections(state);
    expect(newestFirst(all).map((each) => each.digest)).toEqual(chain);
    expect(newestFirst([...all].reverse()).map((each) => each.digest)).toEqual(chain);
  });

  it("the union has each item once, sorted, with all its revisions; to be known wins over unknown", async () => {
    const ids = fc.uniqueArray(fc.constantFrom<string>("a", "b", "c", "d", "e"), { minLength: 1 });
    await fc.assert(
      fc.asyncProperty(fc.array(ids, { minLength: 1, maxLength: 3 }), async (lists) => {
        const files: SelectionFile[] = [];
        for (const [index, list] of lists.entries())
          files.push(
            await write(
              `q${index}`,
              [...list].sort().map((id) => item(id, `r${index}`)),
            ),
          );
        const union = await gather(readExpected(files));
        expect(union.map((each) => each.item.id)).toEqual([...new Set(lists.flat())].sort());
        for (const { item: found, revisions } of union) {
          expect([...revisions].sort()).toEqual(
            lists.flatMap((list, index) => (list.includes(found.id) ? [`r${index}`] : [])).sort(),
          );
        }
      }),
      { numRuns: 20 },
    );
    const unknown = await write("u", [item("a", "", { unknown: true })]);
    const known = await write("k", [item("a", "1")]);
    expect((await gather(readExpected([unknown, known])))[0]?.item.unknown).toBeUndefined();
  });
});
