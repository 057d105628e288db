/** How far and how fast a run is. */
import type { Clock } from "../lib/context.ts";

const WINDOW_MS = 15_000;

export class Meter {
  readonly #clock: Clock;
  readonly #samples: { atMs: number; bytes: number }[] = [];
  #movedMs: number;
  #movedMark = "";
  receivedBytes = 0;
  /** Bytes of data files written for items that are under way or stored. */
  writtenBytes = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#movedMs = clock.monotonicMs();
  }

  /** Written bytes a second over the last seconds, and how long the rest will take at that rate. */
  sample(totalBytes: number): { bytesPerSecond: number; etaSeconds: number | null } {
    const atMs = this.#clock.monotonicMs();
    this.#samples.push({ atMs, bytes: this.writtenBytes });
    while (this.#samples.length > 2 && atMs - (this.#samples[0]?.atMs ?? atMs) > WINDOW_MS)
      this.#samples.shift();
    const first = this.#samples[0];
    const ms = first ? atMs - first.atMs : 0;
    const bytesPerSecond =
      first && ms > 500 ? Math.max(0, ((this.writtenBytes - first.bytes) * 1000) / ms) : 0;
    const left = totalBytes - this.writtenBytes;
    return {
      bytesPerSecond,
      etaSeconds: bytesPerSecond > 0 && left > 0 ? Math.round(left / bytesPerSecond) : null,
    };
  }

  /** Seconds since a byte arrived or was written. */
  idleSeconds(): number {
    const mark = `${this.receivedBytes} ${this.writtenBytes}`;
    if (mark !== this.#movedMark) {
      this.#movedMark = mark;
      this.#movedMs = this.#clock.monotonicMs();
    }
    return Math.round((this.#clock.monotonicMs() - this.#movedMs) / 1000);
  }
}
