import { describe, expect, it } from "vitest";
import { RunError } from "../errors.ts";
import type { Context } from "./context.ts";
import { RetryLoop } from "./retry.ts";

function loop(retries: number, controller = new AbortController()) {
  const slept: number[] = [];
  let nowMs = 0;
  const context: Context = {
    signal: controller.signal,
    random: () => 0.5,
    log: () => undefined,
    clock: {
      now: () => new Date(nowMs),
      monotonicMs: () => nowMs,
      sleep: async (ms) => {
        slept.push(ms);
        nowMs += ms;
      },
    },
  };
  return { retry: new RetryLoop({ retries, baseMs: 100, capMs: 1000 }, context), slept, now: () => nowMs };
}

const later = (retryAfterMs?: number) =>
  new RunError("archive-busy", "busy", retryAfterMs === undefined ? {} : { retryAfterMs });

describe("the retry loop", () => {
  it("tries again what can help, so often and no more, then calls it spent", async () => {
    const { retry, slept } = loop(3);
    const tries: number[] = [];
    const failing = retry.run("x", async (n) => {
      tries.push(n);
      throw later();
    });
    await expect(failing).rejects.toMatchObject({ code: "archive-busy", retry: "spent" });
    expect(tries).toEqual([0, 1, 2, 3]);
    expect(slept).toHaveLength(3);
  });

  it.each([
    ["what can't help", () => new RunError("access-item", "no")],
    ["what was tried enough", () => later().with({}, "spent")],
    ["a bug", () => new TypeError("bug")],
  ])("does not try again %s", async (_, error) => {
    const { retry } = loop(3);
    let tries = 0;
    const failing = retry.run("x", async () => {
      tries += 1;
      throw error();
    });
    await expect(failing).rejects.toThrow();
    expect(tries).toBe(1);
  });

  it("loops around loops do not multiply", async () => {
    const { retry } = loop(2);
    let tries = 0;
    await expect(
      retry.run("outer", () =>
        retry.run("inner", async () => {
          tries += 1;
          throw later();
        }),
      ),
    ).rejects.toMatchObject({ retry: "spent" });
    expect(tries).toBe(3);
  });

  it("waits as long as the archive wishes, for all that share the loop", async () => {
    const { retry, now } = loop(1);
    let first = true;
    await retry.run("x", async () => {
      if (first) {
        first = false;
        throw later(7000);
      }
    });
    expect(now()).toBeGreaterThanOrEqual(7000);
    await expect(retry.run("y", async () => Promise.reject(later(60 * 60_000)))).rejects.toMatchObject({
      retry: "spent",
    });
    expect(now()).toBeLessThan(60 * 60_000);
  });

  it("begins a stream anew and tells each try", async () => {
    const { retry } = loop(2);
    const seen: number[] = [];
    const stream = retry.stream("x", async function* (n) {
      yield n * 10;
      if (n < 2) throw later();
      yield n * 10 + 1;
    });
    for await (const value of stream) seen.push(value);
    expect(seen).toEqual([0, 10, 20, 21]);
  });

  it("stops when it is cancelled", async () => {
    const controller = new AbortController();
    const { retry } = loop(5, controller);
    const reason = new RunError("interrupted", "stop");
    const failing = retry.run("x", async () => {
      controller.abort(reason);
      throw later();
    });
    await expect(failing).rejects.toBe(reason);
    await expect(retry.run("y", async () => 1)).rejects.toBe(reason);
  });
});
