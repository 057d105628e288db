import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compareKeys, ExternalSort, groupSorted, mergeSorted, sortLines } from "./external-sort.ts";

let scratch: string;
let asked = 0;
const folder = async (): Promise<string> => {
  asked += 1;
  return scratch;
};
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "sort-"));
});
afterAll(async () => {
  await rm(scratch, { recursive: true, force: true });
});

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

async function* each<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}

describe("ExternalSort", () => {
  const text = fc.oneof(fc.string({ unit: "binary" }), fc.string({ unit: "grapheme" }), fc.string());
  const pairs = fc.array(fc.tuple(fc.oneof(text, fc.constantFrom("a", "b", "\u{1f600}", "\uffff")), text), {
    maxLength: 200,
  });

  it.each([100, 2000, 1_000_000])(
    "sorts by UTF-16 code units and is stable with %i bytes",
    async (memoryBytes) => {
      await fc.assert(
        fc.asyncProperty(pairs, fc.boolean(), async (input, unique) => {
          const sorter = new ExternalSort({ folder, memoryBytes, unique });
          for (const [index, [key, rest]] of input.entries()) await sorter.push(key, `${index}:${rest}`);
          const expected = input
            .map(([key, rest], index) => ({ key, line: `${index}:${rest}` }))
            .sort((a, b) => compareKeys(a.key, b.key))
            .filter((item, index, all) => !unique || index === 0 || item.key !== all[index - 1]!.key);
          expect(await collect(sorter.sorted())).toEqual(expected.map((item) => item.line));
        }),
        { numRuns: 60 },
      );
      expect(await readdir(scratch)).toEqual([]);
    },
  );

  it("merges thousands of runs in several passes", async () => {
    const count = 10_000;
    const sorter = new ExternalSort({ folder, memoryBytes: 150 });
    for (let index = 0; index < count; index += 1) {
      await sorter.push(String((index * 7919) % 5000).padStart(6, "0"), `${index}`);
    }
    const lines = (await collect(sorter.sorted())).map(Number);
    expect(lines).toHaveLength(count);
    for (let at = 1; at < count; at += 1) {
      const [a, b] = [(lines[at - 1]! * 7919) % 5000, (lines[at]! * 7919) % 5000];
      expect(a < b || (a === b && lines[at - 1]! < lines[at]!)).toBe(true);
    }
  });

  it("needs no folder when the lines fit", async () => {
    asked = 0;
    expect(await collect(sortLines(["b", "", "a\n"], { folder }))).toEqual(["", "a\n", "b"]);
    expect(asked).toBe(0);
    expect(await collect(sortLines([], { folder }))).toEqual([]);
  });

  it("takes lines larger than its memory and than its read buffers", async () => {
    const lines = ["c", "b", "a", "d"].map((letter) => letter.repeat(3_000_000));
    asked = 0;
    const sorted = await collect(
      sortLines(each(lines), { folder, memoryBytes: 1000, key: (line) => line[0]! }),
    );
    expect(sorted.map((line) => `${line[0]}${line.length}`)).toEqual(
      ["a", "b", "c", "d"].map((x) => `${x}3000000`),
    );
    expect(asked).toBe(1);
  });

  it("leaves nothing when the consumer stops, the producer fails or nobody reads", async () => {
    const lines = Array.from({ length: 1000 }, (_, index) => `${index}`);
    for await (const line of sortLines(lines, { folder, memoryBytes: 500 })) {
      expect(line).toBe("0");
      break;
    }
    const fault = new Error("fault");
    const failing = sortLines(
      (async function* () {
        yield* lines;
        throw fault;
      })(),
      { folder, memoryBytes: 500 },
    );
    await expect(collect(failing)).rejects.toBe(fault);
    const sorter = new ExternalSort({ folder, memoryBytes: 500 });
    for (const line of lines) await sorter.push(line, line);
    await sorter.close();
    await sorter.close();
    await expect(sorter.push("a", "a")).rejects.toThrow();
    expect(await readdir(scratch)).toEqual([]);
  });

  it("keeps the order of pushes that are not awaited one by one", async () => {
    const sorter = new ExternalSort({ folder, memoryBytes: 300 });
    await Promise.all(Array.from({ length: 100 }, (_, index) => sorter.push("same", `${index}`)));
    expect(await collect(sorter.sorted())).toEqual(Array.from({ length: 100 }, (_, index) => `${index}`));
  });

  it("reports a folder that can't be written as a disk error", async () => {
    const sorter = new ExternalSort({ folder: async () => join(scratch, "absent"), memoryBytes: 10 });
    await sorter.push("a", "a");
    await expect(sorter.push("b", "b")).rejects.toMatchObject({ code: "disk-error" });
    await sorter.close();
  });
});

describe("mergeSorted and groupSorted", () => {
  it("merge any sorted streams like one stable sort", async () => {
    const item = fc.record({ key: fc.constantFrom("a", "b", "c", "d"), value: fc.nat() });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(item)), async (lists) => {
        const byKey = (a: { key: string }, b: { key: string }): number => compareKeys(a.key, b.key);
        const sorted = lists.map((list) => list.toSorted(byKey));
        const merged = await collect(mergeSorted(sorted.map(each), byKey));
        expect(merged).toEqual(lists.flat().toSorted(byKey));
        const groups = await collect(groupSorted(each(merged), (one) => one.key));
        expect(groups.flatMap((group) => group.items)).toEqual(merged);
        expect(new Set(groups.map((group) => group.key)).size).toBe(groups.length);
      }),
    );
  });

  it("closes every stream when the consumer stops", async () => {
    let closed = 0;
    async function* stream(): AsyncGenerator<number> {
      try {
        for (let index = 0; ; index += 1) yield index;
      } finally {
        closed += 1;
      }
    }
    for await (const item of mergeSorted([stream(), stream()], (a, b) => a - b)) if (item === 3) break;
    expect(closed).toBe(2);
  });
});
