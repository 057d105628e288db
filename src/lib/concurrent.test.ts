import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { inBatches, mapOrdered } from "./concurrent.ts";

async function* count(to: number, ended: { value: boolean } = { value: false }): AsyncGenerator<number> {
  try {
    for (let n = 0; n < to; n += 1) yield n;
  } finally {
    ended.value = true;
  }
}

describe("mapOrdered", () => {
  it("keeps the order and never has more than its jobs under way", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 5 }),
        fc.array(fc.nat({ max: 4 }), { maxLength: 20 }),
        async (jobs, turns) => {
          let active = 0;
          let most = 0;
          const out: number[] = [];
          const mapped = mapOrdered(count(turns.length), jobs, async (n) => {
            active += 1;
            most = Math.max(most, active);
            for (let turn = 0; turn < (turns[n] ?? 0); turn += 1)
              await new Promise((resolve) => setImmediate(resolve));
            active -= 1;
            return n;
          });
          for await (const n of mapped) out.push(n);
          expect(out).toEqual(turns.map((_, n) => n));
          expect(most).toBeLessThanOrEqual(jobs);
        },
      ),
      { numRuns: 40 },
    );
  });

  it("throws a failure at its place, after what is under way, and closes its source", async () => {
    const ended = { value: false };
    const out: number[] = [];
    const read = async (): Promise<void> => {
      const mapped = mapOrdered(count(10, ended), 3, async (n) => {
        if (n === 2) throw new Error("two");
        return n;
      });
      for await (const n of mapped) out.push(n);
    };
    await expect(read()).rejects.toThrow("two");
    expect(out).toEqual([0, 1]);
    expect(ended.value).toBe(true);
  });

  it("closes its source when the reader leaves", async () => {
    const ended = { value: false };
    for await (const _ of mapOrdered(count(10, ended), 2, async (n) => n)) break;
    expect(ended.value).toBe(true);
  });
});

it("inBatches loses nothing and makes no empty batch", async () => {
  const sizes: number[] = [];
  for await (const batch of inBatches(count(7), 3)) sizes.push(batch.length);
  expect(sizes).toEqual([3, 3, 1]);
  for await (const _ of inBatches(count(0), 3)) throw new Error("an empty batch");
});
