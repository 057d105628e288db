/**
 * Transfer: the tasks of a plan, several at a time, each fetched, proved, committed and receipted whole. One
 * item's failure is an event and a line of the summary; only a failing disk or an unreachable archive ends the
 * rest.
 */
import { setMaxListeners } from "node:events";
import { rm } from "node:fs/promises";
import type { Published } from "../checksums/published.ts";
import { RunError } from "../errors.ts";
import { createHasher, type Digest } from "../lib/digest.ts";
import { toDiskError } from "../lib/durable-file.ts";
import type { Item } from "../model/item.ts";
import { filePath } from "../model/place.ts";
import type { ReceiptBody } from "../model/receipt.ts";
import { shownPath } from "../model/safe-path.ts";
import type { Sink, Written } from "../sinks/sink.ts";
import type { Capabilities, Delivery, Source, SourceContext, Statement } from "../sources/source.ts";
import { type AdoptMemory, adopt } from "./adopt.ts";
import { type AdoptedPlaced, adoptPlaced } from "./adopt-placed.ts";
import type { RunEvent } from "./events.ts";
import type { Task } from "./plan.ts";
import { type Claims, prove } from "./prove.ts";

export interface TransferOptions {
  /** Absolute path of the target folder. */
  readonly dir: string;
  readonly tasks: AsyncIterable<Task>;
  readonly source: (archive: string) => Promise<Source>;
  readonly sink: Sink;
  /** The user's list of what files have to be. */
  readonly published: Published | null;
  readonly append: (body: ReceiptBody) => Promise<unknown>;
  readonly jobs: number;
  /** For what a source can resume; see `FetchOptions`. */
  readonly scratch: string;
  /** Brings there what other runs left of an item; told of the bytes that it has to copy. */
  readonly takeOver: (item: Item, onBytes: (bytes: number) => void) => Promise<void>;
  readonly context: SourceContext;
  readonly emit: (event: RunEvent) => Promise<void>;
  readonly warn: (sentence: string) => void;
  /** Bytes that came or were written, failed tries included (negative when a try's bytes are thrown away). */
  readonly onWritten: (bytes: number) => void;
  /**
   * Of a run that shares a plan with others: whether an item is still its own, asked before each try and before each
   * commit; one that is not is left without a word in the receipts. What ends such a run is thrown, and what it did
   * not begin is left to the others.
   */
  readonly holds?: (item: Item) => Promise<boolean>;
  /** Sizes that no listing told, as they become known. */
  readonly onPromised?: (bytes: number) => void;
}

/** So many fetches in a row that found the archive unreachable end the run. */
const UNREACHABLE_LIMIT = 5;

export async function transfer(options: TransferOptions): Promise<void> {
  const { context, emit } = options;
  let unreachable = 0;
  const stop = new AbortController();
  const signal = AbortSignal.any([context.signal, stop.signal]);
  // Each request under way listens to it, and adoption has several for one item: no leak.
  setMaxListeners(0, signal);
  const inner: SourceContext = { ...context, signal };
  const fail = async (item: Item, error: RunError): Promise<void> => {
    const { code, message, hint } = error;
    await emit({ type: "item-failed", item: item.id, address: item.address, code, message, hint });
    if (error.exit === 7) stop.abort(error);
  };
  const notBegun = (item: Item, { code, message, hint }: RunError): Promise<void> =>
    fail(item, new RunError(code, `not begun, because: ${message}`, { hint }));
  const queue = new BatchQueue(options.tasks, options.source);
  const worker = async (): Promise<void> => {
    while (!signal.aborted) {
      const tasks = await queue.next();
      if (tasks.length === 0) return;
      const batch = new BatchTransfer(tasks, { ...options, context: inner }, fail);
      const { stored, error } = await batch.run();
      if (context.signal.aborted) return;
      const lost = error?.code === "archive-unreachable" || error?.code === "access-login";
      unreachable = lost && stored === 0 ? unreachable + 1 : 0;
      if (unreachable >= UNREACHABLE_LIMIT) stop.abort(error);
      const reason: unknown = stop.signal.reason;
      if (reason instanceof RunError && !options.holds)
        for (const item of batch.unsettled) await notBegun(item, reason);
    }
    if (options.holds) return;
    // The cause of the stop is the failure of all that was not begun.
    const reason: unknown = stop.signal.reason;
    if (!context.signal.aborted && reason instanceof RunError) {
      for (let rest = await queue.next(); rest.length > 0; rest = await queue.next()) {
        for (const { item } of rest) await notBegun(item, reason);
      }
    }
  };
  const workers = await Promise.allSettled(Array.from({ length: options.jobs }, () => worker()));
  await queue.close();
  for (const each of workers) if (each.status === "rejected") throw each.reason;
  if (options.holds && stop.signal.aborted && !context.signal.aborted) throw stop.signal.reason;
}

/** Tasks in the portions that one `fetch` takes: consecutive ones of one archive; what may be adopted goes alone. */
class BatchQueue {
  readonly #tasks: AsyncIterator<Task>;
  readonly #source: TransferOptions["source"];
  #ahead: Task | null = null;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(tasks: AsyncIterable<Task>, source: TransferOptions["source"]) {
    this.#tasks = tasks[Symbol.asyncIterator]();
    this.#source = source;
  }

  /** Empty at the end. Callers wait for each other. */
  next(): Promise<readonly Task[]> {
    const batch = this.#turn.then(() => this.#take());
    this.#turn = batch.catch(() => undefined);
    return batch;
  }

  async close(): Promise<void> {
    await this.#turn;
    await this.#tasks.return?.();
  }

  async #take(): Promise<readonly Task[]> {
    const first = await this.#pull();
    if (first === null) return [];
    const batch = [first];
    if (first.found.length > 0) return batch;
    const { archive } = first.item;
    // Why a source can't be had is each of its items' failure, and told by whoever fetches.
    const { batchItems, batchBytes = Number.POSITIVE_INFINITY } = await this.#source(archive).then(
      ({ capabilities }): Pick<Capabilities, "batchItems" | "batchBytes"> => capabilities,
      (): Pick<Capabilities, "batchItems" | "batchBytes"> => ({ batchItems: 1 }),
    );
    let bytes = first.item.bytes ?? 0;
    while (batch.length < batchItems && bytes < batchBytes) {
      const next = await this.#pull();
      if (next === null) break;
      if (next.item.archive !== archive || next.found.length > 0) {
        this.#ahead = next;
        break;
      }
      batch.push(next);
      bytes += next.item.bytes ?? 0;
    }
    return batch;
  }

  async #pull(): Promise<Task | null> {
    const ahead = this.#ahead;
    this.#ahead = null;
    if (ahead) return ahead;
    const next = await this.#tasks.next();
    return next.done ? null : next.value;
  }
}

/** Tasks of one archive, fetched together, each settled alone: stored, failed, or fetched again with the others. */
class BatchTransfer {
  readonly #options: TransferOptions;
  readonly #fail: (item: Item, error: RunError) => Promise<void>;
  /** What is neither stored nor failed yet. */
  readonly #open = new Map<string, ItemTransfer>();
  /** Why those that came to nothing in this round are tried again. */
  readonly #again = new Map<string, RunError>();
  /** Those whose size became known on the way. */
  readonly #promised = new Set<string>();
  #stored = 0;
  #error: RunError | null = null;

  constructor(
    tasks: readonly Task[],
    options: TransferOptions,
    fail: (item: Item, error: RunError) => Promise<void>,
  ) {
    this.#options = options;
    this.#fail = fail;
    for (const task of tasks) this.#open.set(task.item.id, new ItemTransfer(task, options));
  }

  /** Of an ended run: the items that were left because it was stopped. */
  get unsettled(): readonly Item[] {
    return [...this.#open.values()].map(({ item }) => item);
  }

  /** How many items were stored, and the last failure. Throws only for a bug. */
  async run(): Promise<{ readonly stored: number; readonly error: RunError | null }> {
    const { context, emit } = this.#options;
    const [first] = this.#open.values();
    if (!first) return { stored: 0, error: null };
    for (const each of this.#open.values()) await each.begin();
    let before = 0;
    try {
      await this.#takeOver();
      const source = await this.#options.source(first.item.archive);
      await context.retry.run(
        first.item.address,
        async (attempt) => {
          before = this.#stored;
          await this.#round(source, attempt);
        },
        ({ attempt, waitMs }) => {
          for (const [item, { code, message }] of this.#again)
            void emit({ type: "item-retry", item, attempt, code, message, waitMs });
        },
        () => this.#stored > before,
      );
    } catch (error) {
      if (context.signal.aborted) return this.#result();
      if (!(error instanceof RunError)) throw error;
      for (const [id, each] of this.#open) await this.#settle(each, this.#again.get(id) ?? error);
    }
    return this.#result();
  }

  #result(): { readonly stored: number; readonly error: RunError | null } {
    return { stored: this.#stored, error: this.#error };
  }

  async #settle(each: ItemTransfer, error: RunError): Promise<void> {
    this.#open.delete(each.item.id);
    this.#error = error;
    await this.#fail(each.item, error);
  }

  /** One try of all that is open. Throws a reason to try again, while there is one. */
  async #round(source: Source, attempt: number): Promise<void> {
    this.#again.clear();
    await this.#leaveLost();
    const waiting = new Map(this.#open);
    const judge = async (each: ItemTransfer, work: () => Promise<boolean>): Promise<boolean> => {
      try {
        const stored = await work();
        if (stored) {
          this.#open.delete(each.item.id);
          this.#stored += 1;
        }
        return stored;
      } catch (error) {
        const known = await this.#known(each, error);
        if (known.retry === "later") this.#again.set(each.item.id, known);
        else await this.#settle(each, known);
        return true;
      }
    };
    for (const each of this.#open.values())
      if (await judge(each, () => each.adopt(source, attempt))) waiting.delete(each.item.id);
    const { context, scratch, onWritten } = this.#options;
    const onPromised = (item: Item, bytes: number): void => {
      if (item.bytes !== null || this.#promised.has(item.id)) return;
      this.#promised.add(item.id);
      this.#options.onPromised?.(bytes);
    };
    const fetching = { attempt, scratch, onArrived: onWritten, onPromised };
    try {
      const items = [...waiting.values()].map(({ item }) => item);
      if (items.length === 0) return;
      for await (const delivery of source.fetch(items, fetching, context)) {
        const each = waiting.get(delivery.item.id);
        if (!each) throw new Error(`${source.kind} delivered ${delivery.item.id}, which nobody waits for`);
        waiting.delete(each.item.id);
        await judge(each, async () => {
          await each.receive(source, delivery);
          return true;
        });
        context.signal.throwIfAborted();
      }
    } catch (error) {
      // The fetch itself broke: that is the failure of all that did not come.
      for (const each of waiting.values()) {
        const known = await this.#known(each, error);
        await judge(each, () => Promise.reject(known));
      }
      // Each item is settled by its own delivery: what came after the last one changes nothing.
      if (waiting.size === 0) {
        if (context.signal.aborted || !(error instanceof RunError)) throw error;
        context.log("warn", `after everything had come: ${error.message}`, { code: error.code });
      }
      waiting.clear();
    }
    const [missing] = waiting.values();
    if (missing) throw new Error(`${source.kind} delivered nothing for ${missing.item.id}`);
    // The longest wish holds for all.
    const [why] = [...this.#again.values()].sort((a, b) => (b.retryAfterMs ?? 0) - (a.retryAfterMs ?? 0));
    if (why) throw why;
  }

  async #takeOver(): Promise<void> {
    const { takeOver, onWritten } = this.#options;
    for (const { item } of this.#open.values()) {
      let copied = 0;
      try {
        await takeOver(item, (bytes) => {
          copied += bytes;
          onWritten(bytes);
        });
      } finally {
        // Progress for who looks on: nothing has come by it.
        onWritten(-copied);
      }
    }
  }

  /** What another run took over since is not fetched in vain. */
  async #leaveLost(): Promise<void> {
    const { holds, emit } = this.#options;
    if (!holds) return;
    for (const { item } of [...this.#open.values()]) {
      if (await holds(item)) continue;
      this.#open.delete(item.id);
      await emit({ type: "item-left", item: item.id, address: item.address });
    }
  }

  /** The error as one that names the item. Throws the cause of a stop, and a bug. */
  async #known({ item }: ItemTransfer, error: unknown): Promise<RunError> {
    const { signal } = this.#options.context;
    if (signal.aborted && signal.reason instanceof Error) throw signal.reason;
    const known = (await toDiskError(error)) ?? error;
    if (!(known instanceof RunError)) throw known;
    return known.with({ item: item.id, archive: item.archive });
  }
}

class ItemTransfer {
  readonly #task: Task;
  readonly #options: TransferOptions;
  readonly #memory: AdoptMemory = { hashed: new Map(), vouched: new Map() };
  #startedMs = 0;
  /** Paths of files that say they are of the item and are wrong. */
  #aside: readonly string[] = [];

  constructor(task: Task, options: TransferOptions) {
    this.#task = task;
    this.#options = options;
  }

  get item(): Item {
    return this.#task.item;
  }

  async begin(): Promise<void> {
    const { id, address, labels, bytes } = this.item;
    this.#startedMs = this.#options.context.clock.monotonicMs();
    await this.#options.emit({ type: "item-started", item: id, address, labels, bytes });
  }

  /** Proves, commits and receipts what a fetch delivers. */
  async receive(source: Source, delivery: Delivery): Promise<void> {
    if ("error" in delivery) throw delivery.error;
    const { item, place, replaced } = this.#task;
    const { sink, context, append, emit, onWritten, holds } = this.#options;
    const writer = await sink.begin(item, place);
    const finished: { readonly file: string; readonly name: string }[] = [];
    const right = new Set<string>();
    let written = 0;
    try {
      const arrived: Written[] = [];
      for await (const { name, body, file, digest } of delivery.entries) {
        if (file !== undefined) finished.push({ file, name });
        const hasher = createHasher(digest ?? source.capabilities.digest);
        const counted = hashed(body, hasher, (bytes) => {
          written += bytes;
          onWritten(bytes);
        });
        arrived.push(await writer.write(name, counted, (): Digest => hasher.digest(), file));
      }
      const statement = delivery.statement();
      const claims = await claimsOf(source, item, arrived, statement, context);
      for (const { name, digest } of arrived) if (claims.digests?.get(name) === digest) right.add(name);
      const { proved, contradiction } = prove(arrived, claims);
      const published = this.#judgePublished(arrived);
      const proof = [...new Set([...published, ...proved, ...(statement.checked ?? [])])];
      if (contradiction && !(await source.witness?.(item, arrived, context))) {
        throw new RunError(contradiction.code, contradiction.sentence);
      }
      context.signal.throwIfAborted();
      if (holds && !(await holds(item))) {
        await writer.abort();
        onWritten(-written);
        await emit({ type: "item-left", item: item.id, address: item.address });
        return;
      }
      const { files, quarantined } = await writer.commit(replaced, this.#aside);
      const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
      const tookMs = this.#tookMs();
      const disputed = contradiction?.sentence ?? null;
      const { from, facts } = statement;
      await append(this.#receipt({ files, place, from, facts, proof, disputed, tookMs }));
      for (const { file } of finished) await rm(file, { force: true });
      await this.#tellQuarantined(quarantined, this.#aside);
      await emit({
        type: "item-stored",
        item: item.id,
        address: item.address,
        folder: place.folder ?? ".",
        files: files.length,
        bytes,
        proof,
        disputed,
        tookMs,
      });
    } catch (error) {
      onWritten(-written);
      await writer.abort();
      // What was not proved right must not be gone on with; anything else that came is worth keeping.
      if (error instanceof RunError && error.exit === 6)
        for (const { file, name } of finished) if (!right.has(name)) await rm(file, { force: true });
      throw error;
    }
  }

  /** What the user's list proves of what arrived. Throws `proof-digest`. */
  #judgePublished(arrived: readonly Written[]): readonly string[] {
    const { published } = this.#options;
    const words = new Set<string>();
    for (const file of published ? arrived : []) {
      const path = filePath(this.#task.place, file.name);
      const said = published?.judge(shownPath(path) ?? path, file);
      if (said && !said.agrees) throw new RunError("proof-digest", said.sentence);
      for (const word of said?.proof ?? []) words.add(word);
    }
    return [...words];
  }

  #tookMs(): number {
    return Math.round(this.#options.context.clock.monotonicMs() - this.#startedMs);
  }

  /**
   * Makes the item from what another tool left of it: true when that is done. Else the whole item is to be fetched.
   */
  async adopt(source: Source, attempt: number): Promise<boolean> {
    const { item } = this.#task;
    const { dir, sink, context, scratch, append, emit, warn, onWritten } = this.#options;
    const { foreign } = source;
    if (this.#task.found.length === 0) return false;
    if (source.placed) {
      const { published } = this.#options;
      const made = await adoptPlaced({ dir, task: this.#task, source, published, context });
      if (made) await this.#adopted(made);
      return made !== null;
    }
    if (!foreign) return false;
    const made = await adopt({
      ...{ dir, task: this.#task, source, foreign, sink, context, attempt, scratch },
      ...{ memory: this.#memory, onWritten, warn },
    });
    if ("aside" in made) {
      this.#aside = made.aside;
      return false;
    }
    const { files, place, from, facts, proof, disputed, fetched, archiveFile, quarantined } = made;
    const tookMs = this.#tookMs();
    await append(this.#receipt({ files, place, from, facts, proof, disputed, tookMs }));
    await this.#tellQuarantined(quarantined, quarantined);
    await emit({
      type: "item-adopted",
      item: item.id,
      address: item.address,
      folder: place.folder ?? ".",
      files: files.length,
      bytes: files.reduce((sum, file) => sum + file.bytes, 0),
      fetchedFiles: fetched.files,
      fetchedBytes: fetched.bytes,
      proof,
      disputed,
      from: archiveFile,
      tookMs,
    });
    return true;
  }

  async #adopted({ file, proof, facts }: AdoptedPlaced): Promise<void> {
    const { place } = this.#task;
    const tookMs = this.#tookMs();
    const result = { files: [file], place, from: null, facts, proof, disputed: null, tookMs };
    await this.#options.append(this.#receipt(result));
    await this.#options.emit({
      type: "item-adopted",
      item: this.item.id,
      address: this.item.address,
      folder: place.folder ?? ".",
      files: 1,
      bytes: file.bytes,
      fetchedFiles: 0,
      fetchedBytes: 0,
      proof,
      disputed: null,
      from: null,
      tookMs,
    });
  }

  async #tellQuarantined(paths: readonly string[], wrong: readonly string[]): Promise<void> {
    for (const path of paths) {
      const why = wrong.includes(path)
        ? "its bytes are not those that the archive vouches for"
        : "it was in the way of proved data";
      await this.#options.emit({ type: "quarantined", path, why });
    }
  }

  #receipt(
    result: Pick<ReceiptBody, "files" | "place" | "from" | "facts" | "proof" | "disputed" | "tookMs">,
  ): ReceiptBody {
    const { item, supersedes } = this.#task;
    return {
      item: item.id,
      type: "stored",
      supersedes,
      archive: item.archive,
      revision: item.revision,
      at: this.#options.context.clock.now().toISOString(),
      damaged: [],
      ...result,
    };
  }
}

/** All that can be learnt of what arrived, the strongest statement that this archive makes. */
async function claimsOf(
  source: Source,
  item: Item,
  arrived: readonly Written[],
  statement: Statement,
  context: SourceContext,
): Promise<Claims> {
  const { files, bytes, partial = false } = statement;
  if (source.capabilities.digestless && statement.digests === null) {
    const form = (await source.inspect?.(item, arrived, context)) ?? null;
    return { digests: null, files, bytes, withoutDigests: { form } };
  }
  const digests = statement.digests ?? (source.vouch ? await source.vouch(item, arrived, context) : null);
  return { digests, partial, files, bytes };
}

async function* hashed(
  body: AsyncIterable<Uint8Array>,
  hasher: { update(bytes: Uint8Array): void },
  onBytes: (bytes: number) => void,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of body) {
    hasher.update(chunk);
    onBytes(chunk.length);
    yield chunk;
  }
}
