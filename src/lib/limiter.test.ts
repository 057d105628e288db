import { describe, expect, it } from "vitest";
import { createRateLimiter, type LimiterClock, parseDuration, parseRate } from "./limiter.ts";

/** A clock that moves only when somebody sleeps. */
function fakeClock(): LimiterClock & { now: number } {
  const clock = {
    now: 0,
    nowMs: () => clock.now,
    sleep: async (ms: number, signal?: AbortSignal) => {
      signal?.throwIfAborted();
      clock.now += ms;
    },
  };
  return clock;
}

describe("createRateLimiter", () => {
  it("holds the rate for pieces of any size", async () => {
    for (const piece of [100, 64_000, 5_000_000]) {
      const clock = fakeClock();
      const limiter = createRateLimiter(1_000_000, clock);
      const total = 20_000_000;
      for (let sent = 0; sent < total; sent += piece) await limiter.take(piece);
      await limiter.take(0);
      expect(clock.now).toBeGreaterThan(19_800);
      expect(clock.now).toBeLessThan(20_100);
    }
  });

  it("saves up no more than a burst in a pause", async () => {
    const clock = fakeClock();
    const limiter = createRateLimiter(1_000_000, clock);
    clock.now = 60_000;
    for (let sent = 0; sent < 1_000_000; sent += 10_000) await limiter.take(10_000);
    expect(clock.now - 60_000).toBeGreaterThan(850);
  });

  it("serves streams in turn", async () => {
    const limiter = createRateLimiter(1000, fakeClock());
    const served: string[] = [];
    const stream = async (name: string): Promise<void> => {
      for (let count = 0; count < 5; count += 1) {
        await limiter.take(500);
        served.push(name);
      }
    };
    await Promise.all([stream("a"), stream("b"), stream("c")]);
    expect(served.join("")).toBe("abcabcabcabcabc");
  });

  it("lets an aborted ask go without blocking or charging the others", async () => {
    const clock = fakeClock();
    let release = (): void => undefined;
    const held: LimiterClock = {
      nowMs: clock.nowMs,
      sleep: async (ms) => {
        await new Promise<void>((resolve) => {
          release = resolve;
        });
        clock.now += ms;
      },
    };
    const limiter = createRateLimiter(1000, held);
    await limiter.take(1100);
    const first = limiter.take(1);
    const controller = new AbortController();
    const second = limiter.take(1e12, controller.signal);
    const third = limiter.take(1);
    const reason = new Error("stop");
    controller.abort(reason);
    await expect(second).rejects.toBe(reason);
    let thirdServed = false;
    void third.then(() => {
      thirdServed = true;
    });
    await Promise.resolve();
    expect(thirdServed).toBe(false);
    release();
    await first;
    // The debt of one byte of the first ask.
    while (!thirdServed) {
      release();
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(clock.now).toBeLessThan(1100);
  });

  it("has no limit without a rate, but heeds the signal", async () => {
    const limiter = createRateLimiter(undefined);
    await limiter.take(1e15);
    await expect(limiter.take(1, AbortSignal.abort(new Error("stop")))).rejects.toThrow("stop");
    const bounded = createRateLimiter(1000, fakeClock());
    await expect(bounded.take(1, AbortSignal.abort(new Error("stop")))).rejects.toThrow("stop");
  });
});

describe("parseRate", () => {
  it.each([
    ["100Mbps", 12_500_000],
    ["100mbps", 12_500_000],
    ["1.5 Gbit/s", 187_500_000],
    ["12MB/s", 12_000_000],
    ["12mB/s", 12_000_000],
    ["1MiB/s", 1_048_576],
    ["8bps", 1],
    ["500kB/s", 500_000],
    ["10MBps", 10_000_000],
  ])("%s", (text, expected) => {
    expect(parseRate(text)).toBe(expected);
  });

  it.each(["", "100", "100M", "Mbps", "-1MB/s", "0MB/s", "1e3MB/s", "12 MB", "12MB/h", "1,5MB/s", "1bps"])(
    "refuses %j",
    (text) => {
      expect(() => parseRate(text)).toThrow(expect.objectContaining({ code: "usage" }));
    },
  );
});

describe("parseDuration", () => {
  it.each([
    ["500ms", 500],
    ["30s", 30_000],
    ["5m", 300_000],
    ["1h", 3_600_000],
    ["1.5 H", 5_400_000],
    ["2d", 172_800_000],
    ["0s", 0],
  ])("%s", (text, expected) => {
    expect(parseDuration(text)).toBe(expected);
  });

  it.each(["", "30", "s", "-5s", "5 weeks", "1h30m", `${"9".repeat(30)}h`])("refuses %j", (text) => {
    expect(() => parseDuration(text)).toThrow(expect.objectContaining({ code: "usage" }));
  });

  it("takes a bare number only where the option names its unit", () => {
    expect(parseDuration("30", { bareUnit: "s" })).toBe(30_000);
    expect(parseDuration("2m", { bareUnit: "s" })).toBe(120_000);
  });
});
