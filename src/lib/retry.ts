/** The one retry loop: decided by the error's own `retry`, never by its text. */
import { RunError } from "../errors.ts";
import { backoffMs } from "./backoff.ts";
import type { Context } from "./context.ts";

export interface RetryPolicy {
  /** Further tries after the first. */
  readonly retries: number;
  /** Upper bounds of the first and of every pause. */
  readonly baseMs: number;
  readonly capMs: number;
}

export interface RetryNotice {
  readonly operation: string;
  /** The try that comes next, from 1. */
  readonly attempt: number;
  readonly error: RunError;
  readonly waitMs: number;
}

/** A longer wish of an archive than this is not waited for within one run. */
const LONGEST_WISH_MS = 15 * 60_000;

/**
 * Tries again while a RunError with retry `later` comes, with growing pauses; then throws it as `spent`, so that
 * loops around loops do not multiply. Pauses that an archive asks for (Retry-After) hold for all users of one
 * loop.
 */
export class RetryLoop {
  readonly #policy: RetryPolicy;
  readonly #context: Context;
  #notBeforeMs = 0;

  constructor(policy: RetryPolicy, context: Context) {
    this.#policy = policy;
    this.#context = context;
  }

  /**
   * Calls `attempt(0)`, `attempt(1)` … until one returns. `gotOn`: whether the try that just failed did a part of the
   * work; then tries are counted from it anew.
   */
  async run<T>(
    operation: string,
    attempt: (n: number) => Promise<T>,
    onRetry?: (notice: RetryNotice) => void,
    gotOn: () => boolean = () => false,
  ): Promise<T> {
    for (let n = 0; ; n += 1) {
      await this.#wait();
      try {
        return await attempt(n);
      } catch (error) {
        if (gotOn()) n = 0;
        await this.#pause(operation, n, error, onRetry);
      }
    }
  }

  /** The same for a stream, begun anew by each try: values that came before a failure come again. */
  async *stream<T>(operation: string, open: (n: number) => AsyncIterable<T>): AsyncGenerator<T> {
    for (let n = 0; ; n += 1) {
      await this.#wait();
      try {
        yield* open(n);
        return;
      } catch (error) {
        await this.#pause(operation, n, error);
      }
    }
  }

  async #wait(): Promise<void> {
    const { signal, clock } = this.#context;
    signal.throwIfAborted();
    const waitMs = this.#notBeforeMs - clock.monotonicMs();
    if (waitMs > 0) await clock.sleep(waitMs, signal);
  }

  async #pause(
    operation: string,
    n: number,
    error: unknown,
    onRetry?: (notice: RetryNotice) => void,
  ): Promise<void> {
    if (!(error instanceof RunError) || error.retry !== "later") throw error;
    const { signal, clock, random, log } = this.#context;
    signal.throwIfAborted();
    const wishMs = error.retryAfterMs;
    if (n >= this.#policy.retries || (wishMs !== undefined && wishMs > LONGEST_WISH_MS)) {
      throw error.with({}, "spent");
    }
    const { baseMs, capMs } = this.#policy;
    const pauseMs = backoffMs(n + 1, { baseMs, capMs, random });
    if (wishMs !== undefined) this.#notBeforeMs = Math.max(this.#notBeforeMs, clock.monotonicMs() + wishMs);
    const waitMs = Math.max(pauseMs, wishMs ?? 0);
    onRetry?.({ operation, attempt: n + 1, error, waitMs });
    log("debug", `${operation}: ${error.message}; again in ${Math.round(waitMs)} ms`, { code: error.code });
    await clock.sleep(pauseMs, signal);
  }
}
