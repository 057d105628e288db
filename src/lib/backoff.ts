/** When to try again. Pure but for `sleep`. */

import { setTimeout as timeout } from "node:timers/promises";

export interface BackoffOptions {
  /** Upper bound of the first wait. */
  readonly baseMs: number;
  /** Upper bound of every wait. */
  readonly capMs: number;
  /** Uniform in [0, 1). */
  readonly random: () => number;
}

/**
 * The wait before attempt `attempt + 1`, where the first attempt is 1: uniform between 0 and
 * min(capMs, baseMs * 2^(attempt-1)), in whole milliseconds. "Full jitter" spreads clients that failed together
 * (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015).
 */
export function backoffMs(attempt: number, options: BackoffOptions): number {
  const exponent = Math.max(0, attempt - 1);
  const bound = Math.min(options.capMs, options.baseMs * 2 ** exponent);
  return Math.floor(options.random() * bound);
}

/** setTimeout takes no more; a longer wait would end at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Waits; keeps the process alive. Rejects with the signal's reason as soon as it is aborted, also before. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  try {
    for (let left = Math.max(0, ms); ; left -= MAX_TIMER_MS) {
      await timeout(Math.min(left, MAX_TIMER_MS), undefined, signal === undefined ? {} : { signal });
      if (left <= MAX_TIMER_MS) return;
    }
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

/** The three forms of an HTTP date, all in GMT (RFC 9110 section 5.6.7). */
const HTTP_DATE =
  /^(?:[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT|[A-Z][a-z]{5,8}, \d{2}-[A-Z][a-z]{2}-\d{2} \d{2}:\d{2}:\d{2} GMT|[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \d{4})$/;

/**
 * The wait that a Retry-After header asks for, in milliseconds and never negative: seconds or an HTTP date
 * (RFC 9110 section 10.2.3). Undefined when the header is absent or neither.
 */
export function parseRetryAfter(value: string | null | undefined, nowMs: number): number | undefined {
  const text = value?.trim() ?? "";
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  if (!HTTP_DATE.test(text)) return undefined;
  const atMs = Date.parse(text.endsWith("GMT") ? text : `${text} GMT`);
  return Number.isNaN(atMs) ? undefined : Math.max(0, atMs - nowMs);
}
