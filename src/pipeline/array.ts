/**
 * A plan that several processes work on together: divided into slices once, then taken slice by slice under leases
 * (state/leases.ts), so that one task that dies or is slow costs the others nothing.
 */
import { ERROR_TABLE } from "../errors.ts";
import type { Context } from "../lib/context.ts";
import { readLines } from "../lib/lines.ts";
import type { Item } from "../model/item.ts";
import { parseReceipt, type Receipt } from "../model/receipt.ts";
import { type ArrayRecord, readSlice } from "../state/arrays.ts";
import { openLeaseFolder } from "../state/lease-folder.ts";
import { type Lease, type Pulse, type SliceFailure, SliceLeases } from "../state/leases.ts";
import { DEAD_AFTER_MS, declareSilent, livesHere, readRun, readRuns, requestStop } from "../state/runs.ts";
import { readNames, type StateFolder } from "../state/state-folder.ts";
import type { RunEvent, Tally } from "./events.ts";
import type { Task } from "./plan.ts";

/** How often leases of others are looked at while there is nothing else to do: twice a heartbeat. */
const POLL_MS = 1_000;

export interface ShareOptions {
  readonly state: StateFolder;
  readonly record: ArrayRecord;
  readonly run: string;
  /** Number of this task, from 0; tasks begin at different places of the plan. */
  readonly task: number;
  /** A folder of this run's own, on the disk of the target. */
  readonly temporary: string;
  readonly context: Context;
  readonly deadAfterMs?: number;
}

interface OpenSlice {
  readonly lease: Lease;
  readonly open: Map<string, Item>;
  readonly failures: SliceFailure[];
}

/** What one task takes of the plan. */
export class Share {
  readonly #options: ShareOptions;
  readonly #leases: SliceLeases;
  readonly #slices = new Map<string, OpenSlice>();
  readonly #taken = { items: 0, files: 0, bytes: 0 };
  readonly #here = { items: 0, files: 0, bytes: 0 };
  readonly #stored = { items: 0, files: 0, bytes: 0 };

  constructor(options: ShareOptions) {
    this.#options = options;
    const { state, record, run, task, temporary, context, deadAfterMs = DEAD_AFTER_MS } = options;
    const slices = record.slices.length;
    this.#leases = new SliceLeases({
      run,
      slices,
      start: Math.floor((Math.max(0, task) * slices) / Math.max(1, record.tasks)),
      store: openLeaseFolder(state, record.array, temporary),
      pulse: (holder) => readPulse(state, holder),
      giveUp: (holder, beat) => declareSilent(state, holder, beat),
      clock: context.clock,
      deadAfterMs,
      pollMs: Math.min(POLL_MS, deadAfterMs / 4),
    });
  }

  /** What was taken until now, less what others had stored; grows. */
  get taken(): Tally {
    return this.#taken;
  }

  /** Of the slices taken: what their holders before had stored. */
  get here(): Tally {
    return this.#here;
  }

  /** By this task, as the plan announced it. */
  get stored(): Tally {
    return this.#stored;
  }

  /** Slice by slice, each taken when it is asked for. */
  async *tasks(): AsyncGenerator<Task> {
    const { state, record, context } = this.#options;
    for (;;) {
      const lease = await this.#leases.claim(context.signal);
      if (!lease) return;
      const stored = await readStoredBy(state, lease.before);
      const tasks = (await readSlice(state, record, lease.slice)).map((line) => JSON.parse(line) as Task);
      const todo = tasks.filter(({ item }) => stored.get(item.id) !== item.revision);
      const open = new Map(todo.map(({ item }) => [item.id, item]));
      for (const { item } of tasks) count(open.has(item.id) ? this.#taken : this.#here, item);
      const slice: OpenSlice = { lease, open, failures: [] };
      if (todo.length === 0) await this.#leases.finish(lease, []);
      for (const { item } of todo) this.#slices.set(item.id, slice);
      yield* todo;
    }
  }

  /** Whether an item that was taken is still this task's. */
  async holds({ id }: Item): Promise<boolean> {
    const slice = this.#slices.get(id);
    return slice !== undefined && (await this.#leases.holds(slice.lease));
  }

  /** Runs that had the slice of an item before. */
  before({ id }: Item): readonly string[] {
    return this.#slices.get(id)?.lease.before ?? [];
  }

  /** Told of every event of the transfer: when all of a slice is settled, it is ended. */
  async event(event: RunEvent): Promise<void> {
    if (event.type !== "item-stored" && event.type !== "item-adopted" && event.type !== "item-failed") return;
    const slice = this.#slices.get(event.item);
    if (!slice) return;
    // This machine's disk is no fault of the item: the slice stays open, and others may have more luck.
    if (event.type === "item-failed" && ERROR_TABLE[event.code].exit === 7) return;
    const item = slice.open.get(event.item) as Item;
    this.#slices.delete(event.item);
    slice.open.delete(event.item);
    if (event.type === "item-failed") {
      const { type: _, ...failure } = event;
      slice.failures.push(failure);
    } else count(this.#stored, item);
    if (slice.open.size === 0) await this.#leases.finish(slice.lease, slice.failures);
  }
}

function count(tally: { items: number; files: number; bytes: number }, item: Item): void {
  tally.items += 1;
  tally.files += item.files ?? 0;
  tally.bytes += item.bytes ?? 0;
}

async function readPulse(state: StateFolder, run: string): Promise<Pulse> {
  const record = await readRun(state, run);
  if (!record) return { ended: false, beat: -1 };
  return { ended: record.exit !== null || livesHere(record) === false, beat: record.beat };
}

/** What runs say that they stored: revisions by item. A torn last line does not count. */
async function readStoredBy(
  state: StateFolder,
  runs: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const stored = new Map<string, string>();
  if (runs.length === 0) return stored;
  for (const name of await readNames(state.path("receipts"))) {
    if (!runs.some((run) => name.startsWith(`${run}-`))) continue;
    for await (const { text } of readLines(state.path("receipts", name))) {
      const receipt: Receipt | null = parseReceipt(text);
      if (receipt?.type === "stored") stored.set(receipt.item, receipt.revision);
    }
  }
  return stored;
}

/** A task that runs again ends what is left of it elsewhere: a node that was lost may be alive and cut off. */
export async function stopPredecessors(
  state: StateFolder,
  { array, run, task }: { readonly array: string; readonly run: string; readonly task: number },
): Promise<void> {
  for (const each of await readRuns(state)) {
    if (each.array === array && each.task === task && each.run !== run && each.exit === null)
      await requestStop(state, each.run);
  }
}
