/** A bound for bandwidth, and the words in which users write rates and times. */

import { RunError } from "../errors.ts";
import { sleep } from "./backoff.ts";

export interface RateLimiter {
  /**
   * Resolves when so many bytes may pass. Asks are served in the order they came, so streams that ask for
   * pieces of like size share the rate evenly. Any size is allowed: a piece larger than a second's worth waits
   * for as long as it needs. An ask whose signal is aborted rejects with the reason and takes nothing.
   */
  take(bytes: number, signal?: AbortSignal): Promise<void>;
}

/** Milliseconds that never go back, and a way to wait; tests give their own. */
export interface LimiterClock {
  readonly nowMs: () => number;
  readonly sleep: (ms: number, signal?: AbortSignal) => Promise<void>;
}

const SYSTEM_CLOCK: LimiterClock = { nowMs: () => performance.now(), sleep };

/** What may pass at once after a pause: this part of a second's worth. */
const BURST_SECONDS = 0.1;

/** A token bucket for all streams of a run together. Without a rate everything passes at once. */
export function createRateLimiter(
  bytesPerSecond: number | undefined,
  clock: LimiterClock = SYSTEM_CLOCK,
): RateLimiter {
  if (bytesPerSecond === undefined) {
    return { take: async (_bytes, signal) => signal?.throwIfAborted() };
  }
  const bytesPerMs = bytesPerSecond / 1000;
  const capacity = bytesPerSecond * BURST_SECONDS;
  let tokens = capacity;
  let filledAtMs = clock.nowMs();
  /** Ends when the ask before has been served or given up. */
  let turn: Promise<void> = Promise.resolve();

  const fill = (): void => {
    const nowMs = clock.nowMs();
    tokens = Math.min(capacity, tokens + (nowMs - filledAtMs) * bytesPerMs);
    filledAtMs = nowMs;
  };

  return {
    async take(bytes, signal) {
      signal?.throwIfAborted();
      const before = turn;
      let done = (): void => undefined;
      turn = new Promise<void>((resolve) => {
        done = resolve;
      });
      try {
        await abortable(before, signal);
      } catch (error) {
        // The place in the line stays until the one before has gone, else a later ask would overtake it.
        void before.then(done);
        throw error;
      }
      try {
        // The bucket goes into debt for a large piece, and whoever comes next waits for it: so no piece is
        // too large, and the rate holds over time.
        for (fill(); tokens < 0; fill())
          await clock.sleep(Math.max(1, Math.ceil(-tokens / bytesPerMs)), signal);
        tokens -= bytes;
      } finally {
        done();
      }
    },
  };
}

function abortable(promise: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    void promise.then(() => {
      signal.removeEventListener("abort", onAbort);
      if (signal.aborted) reject(signal.reason);
      else resolve();
    });
  });
}

const PREFIXES: Readonly<Record<string, number>> = {
  "": 1,
  k: 1e3,
  m: 1e6,
  g: 1e9,
  t: 1e12,
  ki: 1024,
  mi: 1024 ** 2,
  gi: 1024 ** 3,
  ti: 1024 ** 4,
};

const RATE = /^(\d+(?:\.\d+)?)\s*([kmgt]i?|)(b|bit|bits|byte|bytes)(?:ps|\/s)$/i;

/**
 * Bytes for each second of a rate with unit: `100Mbps`, `1.5 Gbit/s` (bits), `12MB/s`, `12MiB/s` (bytes). Only
 * "b" against "B" tells bits from bytes; the case of the prefix is free. Throws `usage`.
 */
export function parseRate(text: string): number {
  const match = RATE.exec(text.trim());
  const unit = match?.[3] ?? "";
  const bits = unit === "b" || /^bits?$/i.test(unit);
  const prefix = PREFIXES[match?.[2]?.toLowerCase() ?? ""] ?? 1;
  const bytesPerSecond = (Number(match?.[1]) * prefix) / (bits ? 8 : 1);
  if (match === null || !(bytesPerSecond >= 1) || !Number.isFinite(bytesPerSecond)) {
    throw new RunError("usage", `${JSON.stringify(text)} is no rate: write a number and its unit`, {
      hint: "write bits as in 100Mbps, or bytes as in 12MB/s",
    });
  }
  return bytesPerSecond;
}

const DURATION_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};
const DURATION = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$/i;

/**
 * Milliseconds of a time span with unit: `500ms`, `30s`, `5m`, `1h`, `2d`. A bare number is a `usage` error,
 * unless the option has a unit of its own: `bareUnit: "s"` for `--stall-timeout S`.
 */
export function parseDuration(
  text: string,
  options: { readonly bareUnit?: "ms" | "s" | "m" | "h" } = {},
): number {
  const trimmed = text.trim();
  const bare = options.bareUnit !== undefined && /^\d+(\.\d+)?$/.test(trimmed);
  const match = DURATION.exec(bare ? `${trimmed}${options.bareUnit}` : trimmed);
  const ms = Math.round(Number(match?.[1]) * (DURATION_MS[match?.[2]?.toLowerCase() ?? ""] ?? Number.NaN));
  if (!Number.isSafeInteger(ms)) {
    throw new RunError("usage", `${JSON.stringify(text)} is no time span: write a number and its unit`, {
      hint: "write it as in 30s, 5m or 1h",
    });
  }
  return ms;
}
