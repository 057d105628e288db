import { describe, expect, it } from "vitest";
import { Arena, Memory, MOST_BYTES } from "./arena.ts";

const KIB = 1024;

describe("memory of arenas", () => {
  it("never gives a byte twice, and has the largest parts again once all came back", () => {
    const memory = new Memory();
    const held: { readonly buffer: Buffer; readonly mark: number }[] = [];
    let random = 7;
    const next = (below: number): number => {
      random = (Math.imul(random, 48_271) >>> 0) % 2_147_483_647;
      return random % below;
    };
    for (let step = 0; step < 3000; step += 1) {
      if (held.length > 0 && next(2) === 0) {
        const [one] = held.splice(next(held.length), 1);
        if (one) memory.give(one.buffer);
        continue;
      }
      const bytes = 1 + next(1 << (10 + next(15)));
      const buffer = memory.take(bytes);
      if (buffer === null) continue;
      expect(buffer.length).toBeGreaterThanOrEqual(bytes);
      const mark = step % 251;
      buffer[0] = mark;
      buffer[buffer.length - 1] = mark;
      held.push({ buffer, mark });
      for (const each of held) expect([each.buffer[0], each.buffer.at(-1)]).toEqual([each.mark, each.mark]);
    }
    for (const { buffer } of held) memory.give(buffer);
    const largest = [1, 2, 3, 4].map(() => memory.take(MOST_BYTES));
    expect(largest.map((each) => each?.length)).toEqual([1, 2, 3, 4].map(() => MOST_BYTES));
    expect(memory.take(65 * KIB), "the budget is spent").toBeNull();
    expect(memory.take(1)?.length, "the least is always granted").toBe(64 * KIB);
    expect(memory.take(MOST_BYTES + 1)).toBeNull();
  });

  it("an arena begins as large as it is likely to get while there is plenty", () => {
    const memory = new Memory();
    const arenas = Array.from({ length: 9 }, () => new Arena(memory, 4096 * KIB));
    const roomy = arenas.filter((arena) => arena.reserve(4096 * KIB));
    expect(roomy.length).toBe(9);
    for (const arena of arenas) arena.close();
    expect(memory.hasPlenty(32 * 1024 * KIB)).toBe(true);
  });
});
