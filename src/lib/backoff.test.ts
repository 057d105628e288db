import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { backoffMs, parseRetryAfter, sleep } from "./backoff.ts";

describe("backoffMs", () => {
  it("doubles its bound up to the cap", () => {
    const bounds = [1, 2, 3, 4, 5, 2000].map((attempt) =>
      backoffMs(attempt, { baseMs: 1000, capMs: 5000, random: () => 0.9999 }),
    );
    expect(bounds).toEqual([999, 1999, 3999, 4999, 4999, 4999]);
    expect(backoffMs(3, { baseMs: 1000, capMs: 5000, random: () => 0 })).toBe(0);
  });

  it("stays within 0 and the cap", () => {
    fc.assert(
      fc.property(fc.nat(10_000), fc.double({ min: 0, max: 0.999, noNaN: true }), (attempt, random) => {
        const wait = backoffMs(attempt, { baseMs: 500, capMs: 60_000, random: () => random });
        expect(wait).toBeGreaterThanOrEqual(0);
        expect(wait).toBeLessThan(60_000);
      }),
    );
  });
});

describe("sleep", () => {
  it("ends, and rejects with the reason of the signal before and while it waits", async () => {
    await sleep(0);
    await sleep(-1, new AbortController().signal);
    const reason = new Error("stop");
    await expect(sleep(1e9, AbortSignal.abort(reason))).rejects.toBe(reason);
    const controller = new AbortController();
    const sleeping = sleep(1e12, controller.signal);
    controller.abort(reason);
    await expect(sleeping).rejects.toBe(reason);
  });
});

describe("parseRetryAfter", () => {
  const now = Date.UTC(1994, 10, 6, 8, 49, 0);
  it.each([
    ["120", 120_000],
    [" 0 ", 0],
    ["Sun, 06 Nov 1994 08:49:37 GMT", 37_000],
    ["Sunday, 06-Nov-94 08:49:37 GMT", 37_000],
    ["Sun Nov  6 08:49:37 1994", 37_000],
    ["Sun, 06 Nov 1994 08:48:00 GMT", 0],
    ["", undefined],
    ["-1", undefined],
    ["1.5", undefined],
    ["soon", undefined],
    ["1994", 1_994_000],
    ["1994-11-06", undefined],
    ["9".repeat(30), undefined],
    [null, undefined],
    [undefined, undefined],
  ])("%j", (value, expected) => {
    expect(parseRetryAfter(value, now)).toBe(expected);
  });
});
