/**
 * `verify`: proves again what receipts say is here, offline. Damage is receipted, so that the next get mends it;
 * moved files are found by their bytes and receipted, too.
 */
import { resolve } from "node:path";
import { RunError } from "../errors.ts";
import { mapOrdered } from "../lib/concurrent.ts";
import type { Context } from "../lib/context.ts";
import { compareKeys, ExternalSort } from "../lib/external-sort.ts";
import { diskPaths, type ItemState, type Receipt, type ReceiptBody } from "../model/receipt.ts";
import type { OpenStore, Store } from "../sinks/sink.ts";
import { hasPendingDrops } from "../state/dropped.ts";
import { ReceiptWriter, readItemStates } from "../state/receipts.ts";
import { newRunId } from "../state/runs.ts";
import { openStateFolder, type StateFolder, temporaryFolder } from "../state/state-folder.ts";
import { EventChannel } from "./channel.ts";
import type { RunEvent, VerifySummary } from "./events.ts";
import { readCompanions } from "./held.ts";
import { type Find, movedTo } from "./planning.ts";
import { readStatus } from "./status.ts";
import { findMoved, type Lost, listStrays } from "./strays.ts";

export interface VerifyOptions {
  /** Moved and extra files count as failures. */
  readonly strict?: boolean;
  /** Items whose files are hashed at once. */
  readonly jobs?: number;
  readonly context: Context;
  readonly store: OpenStore;
}

export interface VerifyRun extends AsyncIterable<RunEvent> {
  readonly result: Promise<VerifySummary>;
}

const PROGRESS_EVERY = 200;

export function verify(dir: string, options: VerifyOptions): VerifyRun {
  const channel = new EventChannel<RunEvent>();
  const result = new Promise<void>((begin) => setImmediate(begin))
    .then(async () => {
      const emit = (event: RunEvent): Promise<void> => channel.push(event);
      const summary = await verifyFolder(resolve(dir), options, emit);
      await emit({ type: "verify-finished", ...summary });
      return summary;
    })
    .finally(() => channel.end());
  return { result, [Symbol.asyncIterator]: () => channel[Symbol.asyncIterator]() };
}

class Counts {
  items = 0;
  files = 0;
  bytes = 0;
  ok = 0;
  changed = 0;
  missing = 0;
  moved = 0;
  extra = 0;
}

async function verifyFolder(
  dir: string,
  { strict, jobs = 4, context, store: openStore }: VerifyOptions,
  emit: (event: RunEvent) => Promise<void>,
): Promise<VerifySummary> {
  const started = context.clock.monotonicMs();
  const run = newRunId(context.clock);
  const counts = new Counts();
  const finish = (error: RunError | null): VerifySummary => {
    const bad = counts.changed + counts.missing + (strict ? counts.moved + counts.extra : 0);
    return {
      dir,
      exit: error ? error.exit : bad > 0 ? 6 : 0,
      ...counts,
      tookMs: Math.round(context.clock.monotonicMs() - started),
      error: error ? { code: error.code, message: error.message, hint: error.hint } : null,
    };
  };
  const temporary = temporaryFolder();
  try {
    const state = await openStateFolder(dir);
    if (!state)
      throw new RunError(
        "folder-unknown",
        `${dir} holds no receipts of gantry, so there is nothing to verify it against`,
        { hint: "name a folder that `gantry get` has filled, or an archive file with its index" },
      );
    if (await hasPendingDrops(state))
      await emit({
        type: "warning",
        message:
          "a drop in this folder was cut before its end: what it dropped may still lie here; the next get or drop finishes it",
      });
    const receipts = new ReceiptWriter(state, run);
    try {
      const store = await openStore(state);
      await new FolderProof(state, store, counts, temporary.folder, receipts, context, emit).run(jobs);
    } finally {
      await receipts.close();
    }
    if (counts.items === 0) await expectNothing(dir);
    return finish(null);
  } catch (caught) {
    const reason: unknown = context.signal.aborted ? context.signal.reason : caught;
    if (!(reason instanceof RunError)) throw caught;
    return finish(reason);
  } finally {
    await temporary.remove();
  }
}

/** Nothing is stored: then nothing may be asked for either. Of a folder that holds some of it `status` tells what is missing. */
async function expectNothing(dir: string): Promise<void> {
  const { missing, asking } = await readStatus(dir);
  if (missing === 0 && asking.length === 0) return;
  const what =
    missing === 0
      ? "a run ended before it knew what it was asked for"
      : `${missing} ${missing === 1 ? "item was" : "items were"} asked for`;
  throw new RunError("proof-count", `nothing is stored in ${dir}, and ${what}`, {
    hint: `to fetch it: gantry get -o ${dir}`,
  });
}

class FolderProof {
  readonly #state: StateFolder;
  readonly #store: Store;
  readonly #counts: Counts;
  readonly #temporary: () => Promise<string>;
  readonly #receipts: ReceiptWriter;
  readonly #context: Context;
  readonly #emit: (event: RunEvent) => Promise<void>;
  readonly #told = new Set<string>();
  readonly #startedMs: number;

  constructor(
    state: StateFolder,
    store: Store,
    counts: Counts,
    temporary: () => Promise<string>,
    receipts: ReceiptWriter,
    context: Context,
    emit: (event: RunEvent) => Promise<void>,
  ) {
    this.#state = state;
    this.#store = store;
    this.#counts = counts;
    this.#temporary = temporary;
    this.#receipts = receipts;
    this.#context = context;
    this.#emit = emit;
    this.#startedMs = context.clock.monotonicMs();
  }

  async run(jobs: number): Promise<void> {
    const total = await this.#total();
    const folder = this.#temporary;
    const bad = new ExternalSort({ folder });
    const lost = new ExternalSort({ folder });
    const { signal } = this.#context;
    try {
      const checked = mapOrdered(this.#here(), jobs, async (found) => ({
        found,
        disk: await this.#store.check(found.current.files, true, signal),
      }));
      let sinceProgress = 0;
      for await (const { found, disk } of checked) {
        const { current } = found;
        this.#counts.items += 1;
        this.#counts.files += current.files.length;
        this.#counts.bytes += current.files.reduce((sum, file) => sum + file.bytes, 0);
        this.#counts.ok += current.files.length - disk.bad.length;
        if (disk.bad.length > 0) {
          await bad.push(current.item, JSON.stringify({ current, heads: found.heads, bad: disk.bad }));
          for (const { file, state } of disk.bad) {
            const line: Lost = { item: current.item, file };
            if (state === "missing" && !file.packed) await lost.push(current.item, JSON.stringify(line));
          }
        } else if (current.type === "damaged") {
          // Somebody put the right bytes back.
          const { sum: _, ...body } = current;
          await this.#receipts.append({
            ...body,
            type: "stored",
            supersedes: found.heads,
            damaged: [],
            at: this.#now(),
          });
        }
        sinceProgress += current.files.length;
        if (sinceProgress >= PROGRESS_EVERY) {
          sinceProgress = 0;
          await this.#progress(total);
        }
      }
      await this.#settle(bad, lost);
    } finally {
      await bad.close();
      await lost.close();
    }
    await this.#tellExtra();
  }

  async *#here(): AsyncGenerator<ItemState> {
    for await (const found of this.#states()) if (found.current.type !== "removed") yield found;
  }

  #states(): AsyncIterable<ItemState> {
    const onBad = (message: string): void => {
      if (this.#told.has(message)) return;
      this.#told.add(message);
      void this.#emit({ type: "warning", message });
    };
    return readItemStates(this.#state, { folder: this.#temporary, onBad });
  }

  async #total(): Promise<{ items: number; bytes: number }> {
    const total = { items: 0, bytes: 0 };
    for await (const { current } of this.#here()) {
      total.items += 1;
      for (const file of current.files) total.bytes += file.bytes;
    }
    return total;
  }

  async #progress(total: { items: number; bytes: number }): Promise<void> {
    const { items, bytes } = this.#counts;
    const elapsed = this.#context.clock.monotonicMs() - this.#startedMs;
    const bytesPerSecond = elapsed > 0 ? (bytes * 1000) / elapsed : 0;
    await this.#emit({
      type: "progress",
      doneItems: items,
      failedItems: this.#counts.changed + this.#counts.missing,
      totalItems: total.items,
      doneBytes: bytes,
      totalBytes: total.bytes,
      receivedBytes: 0,
      bytesPerSecond,
      etaSeconds: bytesPerSecond > 0 ? Math.round((total.bytes - bytes) / bytesPerSecond) : null,
      idleSeconds: 0,
      active: [],
    });
  }

  /** Tells and receipts what is wrong; missing files that lie elsewhere are moved, not missing. */
  async #settle(bad: ExternalSort, lost: ExternalSort): Promise<void> {
    const { dir } = this.#state;
    async function* losses(): AsyncGenerator<Lost> {
      for await (const line of lost.sorted()) yield JSON.parse(line) as Lost;
    }
    const strays = listStrays(dir, this.#known(), this.#temporary);
    const finds = findMoved(dir, losses(), strays, this.#temporary, this.#context.signal);
    let find = await finds.next();
    for await (const line of bad.sorted()) {
      const each = JSON.parse(line) as {
        current: Receipt;
        heads: string[];
        bad: { file: Receipt["files"][number]; state: "changed" | "missing" }[];
      };
      const found = new Map<string, Find>();
      while (!find.done && compareKeys(find.value.item, each.current.item) <= 0) {
        if (find.value.item === each.current.item) found.set(find.value.from, find.value);
        find = await finds.next();
      }
      for (const { file, state } of each.bad) {
        const to = found.get(file.path)?.to;
        const outcome = to === undefined ? state : "moved";
        this.#counts[outcome] += 1;
        await this.#emit({
          type: "file-checked",
          path: file.path,
          outcome,
          ...(to === undefined ? {} : { to }),
        });
      }
      const wrong = each.bad.filter(({ file }) => !found.has(file.path)).map(({ file }) => file.path);
      await this.#append(each.current, each.heads, found, wrong);
    }
    await finds.return(undefined);
  }

  async #append(
    current: Receipt,
    heads: readonly string[],
    found: ReadonlyMap<string, Find>,
    wrong: readonly string[],
  ): Promise<void> {
    const unchanged =
      found.size === 0 &&
      current.type === "damaged" &&
      JSON.stringify(current.damaged) === JSON.stringify(wrong);
    if (unchanged) return;
    const moved = movedTo(current, heads, found, this.#context.clock.now());
    const body: ReceiptBody = wrong.length === 0 ? moved : { ...moved, type: "damaged", damaged: wrong };
    await this.#receipts.append(body);
  }

  async #tellExtra(): Promise<void> {
    for await (const path of listStrays(this.#state.dir, this.#known(), this.#temporary)) {
      this.#counts.extra += 1;
      await this.#emit({ type: "file-checked", path, outcome: "extra" });
    }
  }

  async *#known(): AsyncGenerator<string> {
    yield* await readCompanions(this.#state);
    for await (const { current } of this.#here()) yield* diskPaths(current.files);
  }

  #now(): string {
    return this.#context.clock.now().toISOString();
  }
}
