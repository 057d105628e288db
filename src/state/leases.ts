/**
 * Which task of an array works on which slice of the plan, without locks and without clocks of other machines
 * (docs/formats/folder.md, leases/).
 *
 * A lease is a file `SLICE.GENERATION` that names the run that holds it; making it is atomic, so that one taker of a
 * generation wins. The highest generation holds. It is kept alive by the heartbeat of its run; when that has ended, or
 * did not change for a set time on the observer's own clock, the next generation may be taken. A holder looks again
 * before each commit, so one that was believed dead and wakes commits nothing more. `SLICE.done` ends a slice.
 */
import type { ErrorCode } from "../errors.ts";
import type { Clock } from "../lib/context.ts";

/** The file system side; names are plain file names of one folder. */
export interface LeaseStore {
  /** Every name, as the server has it now. */
  names(): Promise<readonly string[]>;
  /** The same of one name. */
  exists(name: string): Promise<boolean>;
  /** Makes a lease that names its holder. False when somebody else made that one before. */
  take(name: string, holder: string): Promise<boolean>;
  /** Who a lease names; null when it is gone. */
  holder(name: string): Promise<string | null>;
  /** Makes `SLICE.done`, then removes the leases of the slice. */
  finish(slice: number, done: SliceDone): Promise<void>;
  remove(name: string): Promise<void>;
}

/** How the slice ended: every item was tried to its end. */
export interface SliceDone {
  readonly run: string;
  readonly generation: number;
  readonly failures: readonly SliceFailure[];
}

/** An item that could not be had. */
export interface SliceFailure {
  readonly item: string;
  readonly address: string;
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string;
}

/** What is known of the run of a holder. */
export interface Pulse {
  /** It said that it ended, or its process on this host is gone. */
  readonly ended: boolean;
  /** Grows with each heartbeat; -1 when nothing is known. */
  readonly beat: number;
}

export interface Lease {
  readonly slice: number;
  readonly generation: number;
  /** Runs that held the slice before, oldest first. */
  readonly before: readonly string[];
}

export interface LeaseOptions {
  readonly run: string;
  readonly slices: number;
  /** Where this task begins to look; tasks begin apart, so that they seldom meet. */
  readonly start: number;
  readonly store: LeaseStore;
  readonly pulse: (run: string) => Promise<Pulse>;
  /** Told of a run whose heartbeat stood still for too long, before its leases are taken. */
  readonly giveUp?: (run: string, beat: number) => Promise<void>;
  readonly clock: Pick<Clock, "monotonicMs" | "sleep">;
  /** A holder whose beat did not change for so long is dead. */
  readonly deadAfterMs: number;
  /** Between two looks at leases that others hold. */
  readonly pollMs: number;
}

interface Seen {
  readonly beat: number;
  readonly sinceMs: number;
  /** Its beat changed while we looked. */
  readonly lives: boolean;
}

export const leaseName = (slice: number, generation: number): string => `${slice}.${generation}`;
export const doneName = (slice: number): string => `${slice}.done`;

/** Slice and generation of a name; a generation of infinity is the end. Null for foreign names. */
export function parseLeaseName(name: string): { slice: number; generation: number } | null {
  const match = /^(\d+)\.(\d+|done)$/u.exec(name);
  if (match === null) return null;
  return {
    slice: Number(match[1]),
    generation: match[2] === "done" ? Number.POSITIVE_INFINITY : Number(match[2]),
  };
}

/** The highest generation of each slice that has one. */
export function topGenerations(names: readonly string[]): ReadonlyMap<number, number> {
  const top = new Map<number, number>();
  for (const name of names) {
    const lease = parseLeaseName(name);
    if (lease && lease.generation > (top.get(lease.slice) ?? 0)) top.set(lease.slice, lease.generation);
  }
  return top;
}

/** One task's side of the protocol. */
export class SliceLeases {
  readonly #options: LeaseOptions;
  readonly #seen = new Map<string, Seen>();
  /** What the last look found, less what was tried since. */
  #free: number[] = [];

  constructor(options: LeaseOptions) {
    this.#options = options;
  }

  /**
   * The next slice for this task. Waits while leases of others may yet turn out to be dead; null when every slice is
   * done or in the hands of a run that was seen alive: it is not waited for, however slow it is.
   */
  async claim(signal?: AbortSignal): Promise<Lease | null> {
    const { store, slices, clock, pollMs } = this.#options;
    for (;;) {
      signal?.throwIfAborted();
      for (let slice = this.#free.shift(); slice !== undefined; slice = this.#free.shift()) {
        const lease = await this.#take(slice, 1);
        if (lease) return lease;
      }
      const top = topGenerations(await store.names());
      this.#free = this.#rotated(slices).filter((slice) => !top.has(slice));
      if (this.#free.length > 0) continue;
      let waiting = false;
      for (const slice of this.#rotated(slices)) {
        const generation = top.get(slice) as number;
        if (generation === Number.POSITIVE_INFINITY) continue;
        const life = await this.#look(slice, generation);
        if (life === "gone") {
          const lease = await this.#take(slice, generation + 1);
          if (lease) return lease;
          waiting = true;
        } else if (life === "silent") waiting = true;
      }
      if (!waiting) return null;
      await clock.sleep(pollMs, signal);
    }
  }

  /** Whether the lease is still this task's: asked before each commit. */
  async holds({ slice, generation }: Lease): Promise<boolean> {
    const { store } = this.#options;
    return (
      (await store.exists(leaseName(slice, generation))) &&
      !(await store.exists(leaseName(slice, generation + 1)))
    );
  }

  /** Ends a slice that is still held. False when it is not, and nothing was written. */
  async finish(lease: Lease, failures: readonly SliceFailure[]): Promise<boolean> {
    if (!(await this.holds(lease))) return false;
    const { store, run } = this.#options;
    await store.finish(lease.slice, { run, generation: lease.generation, failures });
    return true;
  }

  async #take(slice: number, generation: number): Promise<Lease | null> {
    const { store, run } = this.#options;
    const before: string[] = [];
    for (let g = 1; g < generation; g += 1) {
      const holder = await store.holder(leaseName(slice, g));
      if (holder !== null) before.push(holder);
    }
    const name = leaseName(slice, generation);
    if (!(await store.take(name, run))) return null;
    // Its holder may have ended the slice and removed its leases since we looked: then the name was free again.
    if (!(await store.exists(doneName(slice)))) return { slice, generation, before };
    await store.remove(name);
    return null;
  }

  /** `gone`: may be taken over. `silent`: not known yet. */
  async #look(slice: number, generation: number): Promise<"lives" | "gone" | "silent"> {
    const { store, pulse, clock, deadAfterMs, run, giveUp } = this.#options;
    const holder = await store.holder(leaseName(slice, generation));
    // It ended or was taken over since the look: the next one says what it is.
    if (holder === null) return "silent";
    if (holder === run) return "lives";
    const { ended, beat } = await pulse(holder);
    if (ended) return "gone";
    const now = clock.monotonicMs();
    const seen = this.#seen.get(holder);
    if (!seen || seen.beat !== beat) {
      this.#seen.set(holder, { beat, sinceMs: now, lives: seen !== undefined });
      return seen === undefined ? "silent" : "lives";
    }
    if (now - seen.sinceMs >= deadAfterMs) {
      await giveUp?.(holder, beat);
      return "gone";
    }
    return seen.lives && now - seen.sinceMs < deadAfterMs / 4 ? "lives" : "silent";
  }

  #rotated(slices: number): number[] {
    const { start } = this.#options;
    return Array.from({ length: slices }, (_, index) => (index + start) % slices);
  }
}
