/** What a run tells while it goes and at its end: events out, counts kept, progress on a clock. */
import { ERROR_TABLE, type RunError } from "../errors.ts";
import type { Clock } from "../lib/context.ts";
import type { Item } from "../model/item.ts";
import type { Citation } from "../sources/source.ts";
import type { RunProgress } from "../state/runs.ts";
import type { EventChannel } from "./channel.ts";
import type { Announced, Failure, RunEvent, RunSummary, Tally } from "./events.ts";
import { noteCitation, sortCitations } from "./held.ts";
import { Meter } from "./meter.ts";

const PROGRESS_MS = 250;
/** Failures that a summary shows; all of them are events. */
const SHOWN_FAILURES = 100;
const SHOWN_ACTIVE = 8;
const NOTHING: Tally = { items: 0, files: 0, bytes: 0 };

export class RunReport {
  readonly run: string;
  readonly dir: string;
  readonly meter: Meter;
  here: Tally = NOTHING;
  /** Items left out because they were dropped. */
  dropped = 0;
  /** Sizes of items whose listing had none, as they became known. */
  promisedBytes = 0;
  /** Items that a dry run would fetch: they stand for stored ones in its exit status. */
  promisedItems = 0;
  readonly #clock: Clock;
  readonly #channel: EventChannel<RunEvent>;
  readonly #startedMs: number;
  readonly #citations = new Map<string, Citation>();
  readonly #failures: Failure[] = [];
  readonly #exits = new Set<number>();
  readonly #active = new Map<string, string>();
  readonly #warned = new Set<string>();
  readonly #stored = { items: 0, files: 0, bytes: 0 };
  readonly #adopted = { items: 0, files: 0, bytes: 0, fetchedFiles: 0, fetchedBytes: 0 };
  #failed = 0;
  #withdrawn = 0;
  #disputed = 0;
  #moved = 0;

  constructor(run: string, dir: string, clock: Clock, channel: EventChannel<RunEvent>) {
    this.run = run;
    this.dir = dir;
    this.#clock = clock;
    this.#channel = channel;
    this.#startedMs = clock.monotonicMs();
    this.meter = new Meter(clock);
  }

  async emit(event: RunEvent): Promise<void> {
    switch (event.type) {
      case "item-started":
        this.#active.set(event.item, event.address);
        break;
      case "item-stored":
        this.#active.delete(event.item);
        this.#stored.items += 1;
        this.#stored.files += event.files;
        this.#stored.bytes += event.bytes;
        if (event.disputed !== null) this.#disputed += 1;
        break;
      case "item-adopted":
        this.#active.delete(event.item);
        this.#adopted.items += 1;
        this.#adopted.files += event.files;
        this.#adopted.bytes += event.bytes;
        this.#adopted.fetchedFiles += event.fetchedFiles;
        this.#adopted.fetchedBytes += event.fetchedBytes;
        if (event.disputed !== null) this.#disputed += 1;
        break;
      case "item-failed": {
        this.#active.delete(event.item);
        this.#failed += 1;
        this.#exits.add(ERROR_TABLE[event.code].exit);
        const { type: _, ...failure } = event;
        if (this.#failures.length < SHOWN_FAILURES) this.#failures.push(failure);
        break;
      }
      case "item-left":
        this.#active.delete(event.item);
        break;
      case "item-withdrawn":
        this.#withdrawn += 1;
        break;
      case "item-moved":
        this.#moved += 1;
        break;
    }
    await this.#channel.push(event);
  }

  /** Each sentence once. */
  warn(message: string): void {
    if (this.#warned.has(message)) return;
    this.#warned.add(message);
    void this.emit({ type: "warning", message });
  }

  fail(item: Item, { code, message, hint }: RunError): Promise<void> {
    return this.emit({ type: "item-failed", item: item.id, address: item.address, code, message, hint });
  }

  withdrawn(item: Item): Promise<void> {
    return this.emit({ type: "item-withdrawn", item: item.id, address: item.address });
  }

  cite(citation: Citation | null): void {
    noteCitation(this.#citations, citation);
  }

  get citations(): readonly Citation[] {
    return sortCitations(this.#citations);
  }

  get failedItems(): number {
    return this.#failed;
  }

  get doneItems(): number {
    return this.#stored.items + this.#adopted.items;
  }

  get withdrawnItems(): number {
    return this.#withdrawn;
  }

  /** Whether files came or went, so that what is derived from them is out of date. */
  get changedFiles(): boolean {
    return this.#stored.items + this.#adopted.items + this.#moved > 0;
  }

  /** Tells progress until the returned function is called. */
  startProgress(
    announced: Tally & Partial<Announced>,
    onProgress: (progress: RunProgress) => void,
  ): () => void {
    // A share of what is announced says nothing when not all of it is.
    const total = (announced.unsized ?? 0) === 0 ? announced : { ...announced, bytes: 0 };
    const tell = (): void => {
      const totalBytes = total.bytes + this.promisedBytes;
      const progress: RunProgress = {
        doneItems: this.#stored.items + this.#adopted.items,
        failedItems: this.#failed,
        totalItems: total.items,
        doneBytes: this.meter.writtenBytes,
        totalBytes,
        receivedBytes: this.meter.receivedBytes,
        ...this.meter.sample(totalBytes),
        idleSeconds: this.meter.idleSeconds(),
      };
      onProgress(progress);
      const active = [...this.#active.values()].slice(0, SHOWN_ACTIVE);
      void this.#channel.push({ type: "progress", ...progress, active });
    };
    const timer = setInterval(tell, PROGRESS_MS);
    timer.unref();
    return () => {
      clearInterval(timer);
      tell();
    };
  }

  /** The end of the run: its summary, told as the last event. */
  summary(error: RunError | null): RunSummary {
    return {
      run: this.run,
      dir: this.dir,
      exit: exitOf(
        error,
        this.#stored.items + this.#adopted.items + this.here.items + this.promisedItems,
        this.#exits,
      ),
      stored: { ...this.#stored },
      adopted: { ...this.#adopted },
      here: this.here,
      failed: this.#failed,
      withdrawn: this.#withdrawn,
      dropped: this.dropped,
      disputed: this.#disputed,
      receivedBytes: this.meter.receivedBytes,
      tookMs: Math.round(this.#clock.monotonicMs() - this.#startedMs),
      failures: this.#failures,
      citations: this.citations,
      error: error ? { code: error.code, message: error.message, hint: error.hint } : null,
    };
  }
}

/**
 * Exit status as in docs/exit-codes.md, from what ended the run (if anything), the number of items of the request
 * that stand proved, and the statuses of all failures: 3 wins whenever something stands and something failed; 4
 * to 7 only when nothing stands and every failure has that cause.
 */
export function exitOf(error: RunError | null, proved: number, failures: ReadonlySet<number>): number {
  if (error) return proved > 0 && error.exit >= 4 && error.exit <= 7 ? 3 : error.exit;
  const [only] = failures;
  if (only === undefined) return 0;
  return proved > 0 || failures.size > 1 ? 3 : only;
}
