/**
 * Transfer: the tasks of a plan, several at a time, each fetched, proved, committed and receipted whole. One
 * item's failure is an event and a line of the summary; only a failing disk or an unreachable archive ends the
 * rest.
 */
import { setMaxListeners } from "node:events";
import { RunError } from "../errors.ts";
import { createHasher, type Digest } from "../lib/digest.ts";
import { toDiskError } from "../lib/durable-file.ts";
import type { Item } from "../model/item.ts";
import type { ReceiptBody } from "../model/receipt.ts";
import type { Sink, Written } from "../sinks/sink.ts";
import type { Source, SourceContext, Statement } from "../sources/source.ts";
import { type AdoptMemory, adopt } from "./adopt.ts";
import type { RunEvent } from "./events.ts";
import type { Task } from "./plan.ts";
import { type Claims, prove } from "./prove.ts";

export interface TransferOptions {
  /** Absolute path of the target folder. */
  readonly dir: string;
  readonly tasks: AsyncIterable<Task>;
  readonly source: (archive: string) => Promise<Source>;
  readonly sink: Sink;
  readonly append: (body: ReceiptBody) => Promise<unknown>;
  readonly jobs: number;
  /** For what a source can resume; see `FetchOptions`. */
  readonly scratch: string;
  readonly context: SourceContext;
  readonly emit: (event: RunEvent) => Promise<void>;
  readonly warn: (sentence: string) => void;
  /** Bytes of data files written, failed tries included (negative when a try's bytes are thrown away). */
  readonly onWritten: (bytes: number) => void;
}

/** So many items in a row that found the archive unreachable end the run. */
const UNREACHABLE_LIMIT = 5;

export async function transfer(options: TransferOptions): Promise<void> {
  const { context, emit } = options;
  let unreachable = 0;
  const stop = new AbortController();
  const signal = AbortSignal.any([context.signal, stop.signal]);
  // Each request under way listens to it, and adoption has several for one item: no leak.
  setMaxListeners(0, signal);
  const inner: SourceContext = { ...context, signal };

  const fail = (item: Item, { code, message, hint }: RunError): Promise<void> =>
    emit({ type: "item-failed", item: item.id, address: item.address, code, message, hint });

  const iterator = options.tasks[Symbol.asyncIterator]();
  // Async generators queue concurrent calls of next, so workers may share one.
  const worker = async (): Promise<void> => {
    for (;;) {
      if (signal.aborted) break;
      const next = await iterator.next();
      if (next.done) return;
      const task = next.value;
      try {
        await new ItemTransfer(task, { ...options, context: inner }).run();
        unreachable = 0;
      } catch (error) {
        if (context.signal.aborted) return;
        if (!(error instanceof RunError)) throw error;
        await fail(task.item, error);
        if (error.exit === 7) stop.abort(error);
        unreachable =
          error.code === "archive-unreachable" || error.code === "access-login" ? unreachable + 1 : 0;
        if (unreachable >= UNREACHABLE_LIMIT) stop.abort(error);
      }
    }
    // The cause of the stop is the failure of all that was not begun.
    const reason: unknown = stop.signal.reason;
    if (!context.signal.aborted && reason instanceof RunError) {
      for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
        await fail(
          next.value.item,
          new RunError(reason.code, `not begun, because: ${reason.message}`, { hint: reason.hint }),
        );
      }
    }
  };
  const workers = await Promise.allSettled(Array.from({ length: options.jobs }, () => worker()));
  await iterator.return?.();
  for (const each of workers) if (each.status === "rejected") throw each.reason;
}

class ItemTransfer {
  readonly #task: Task;
  readonly #options: TransferOptions;
  readonly #memory: AdoptMemory = { hashed: new Map(), vouched: new Map() };

  constructor(task: Task, options: TransferOptions) {
    this.#task = task;
    this.#options = options;
  }

  async run(): Promise<void> {
    const { item } = this.#task;
    const { emit, context } = this.#options;
    const started = context.clock.monotonicMs();
    await emit({
      type: "item-started",
      item: item.id,
      address: item.address,
      labels: item.labels,
      bytes: item.bytes,
    });
    const source = await this.#options.source(item.archive);
    await context.retry.run(
      item.address,
      (attempt) => this.#attempt(source, attempt, started),
      ({ attempt, error, waitMs }) => {
        const { code, message } = error;
        void emit({ type: "item-retry", item: item.id, attempt, code, message, waitMs });
      },
    );
  }

  async #attempt(source: Source, attempt: number, started: number): Promise<void> {
    const { item, place, replaced } = this.#task;
    const { sink, context, append, emit } = this.#options;
    const aside = await this.#adopt(source, attempt, started);
    if (aside === null) return;
    const writer = await sink.begin(item, place);
    let written = 0;
    try {
      const { arrived, statement } = await this.#receive(source, attempt, writer, (bytes) => {
        written += bytes;
        this.#options.onWritten(bytes);
      });
      const claims = await claimsOf(source, item, arrived, statement, context);
      const { proved, contradiction } = prove(arrived, claims);
      const proof = [...proved, ...(statement.checked ?? [])];
      if (contradiction && !(await source.witness?.(item, arrived, context))) {
        throw new RunError(contradiction.code, contradiction.sentence);
      }
      context.signal.throwIfAborted();
      const { files, quarantined } = await writer.commit(replaced, aside);
      const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
      const tookMs = Math.round(context.clock.monotonicMs() - started);
      const disputed = contradiction?.sentence ?? null;
      const { from, facts } = statement;
      await append(this.#receipt({ files, place, from, facts, proof, disputed, tookMs }));
      await this.#tellQuarantined(quarantined, aside);
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
      this.#options.onWritten(-written);
      await writer.abort();
      throw await this.#known(error);
    }
  }

  /**
   * Makes the item from what another tool left of it: null when that is done. Else the paths of files that say they
   * are of the item and are wrong, and the whole item is to be fetched.
   */
  async #adopt(source: Source, attempt: number, started: number): Promise<readonly string[] | null> {
    const { item } = this.#task;
    const { dir, sink, context, scratch, append, emit, warn, onWritten } = this.#options;
    const { foreign } = source;
    if (this.#task.found.length === 0 || !foreign) return [];
    try {
      const made = await adopt({
        ...{ dir, task: this.#task, source, foreign, sink, context, attempt, scratch },
        ...{ memory: this.#memory, onWritten, warn },
      });
      if ("aside" in made) return made.aside;
      const { files, place, from, facts, proof, disputed, fetched, archiveFile, quarantined } = made;
      const tookMs = Math.round(context.clock.monotonicMs() - started);
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
      return null;
    } catch (error) {
      throw await this.#known(error);
    }
  }

  async #tellQuarantined(paths: readonly string[], wrong: readonly string[]): Promise<void> {
    for (const path of paths) {
      const why = wrong.includes(path)
        ? "its bytes are not those that the archive vouches for"
        : "it was in the way of proved data";
      await this.#options.emit({ type: "quarantined", path, why });
    }
  }

  /** What is to be thrown for an error: the cause of the stop, or a RunError that names the item, or the bug. */
  async #known(error: unknown): Promise<unknown> {
    const { item } = this.#task;
    const { signal } = this.#options.context;
    if (signal.aborted && signal.reason instanceof Error) return signal.reason;
    const known = (await toDiskError(error)) ?? error;
    return known instanceof RunError ? known.with({ item: item.id, archive: item.archive }) : known;
  }

  async #receive(
    source: Source,
    attempt: number,
    writer: Awaited<ReturnType<Sink["begin"]>>,
    onBytes: (bytes: number) => void,
  ): Promise<{ arrived: Written[]; statement: Statement }> {
    const { item } = this.#task;
    const { scratch } = this.#options;
    for await (const delivery of source.fetch([item], { attempt, scratch }, this.#options.context)) {
      if ("error" in delivery) throw delivery.error;
      const arrived: Written[] = [];
      for await (const entry of delivery.entries) {
        const hasher = createHasher(source.capabilities.digest);
        arrived.push(
          await writer.write(entry.name, hashed(entry.body, hasher, onBytes), (): Digest => hasher.digest()),
        );
      }
      return { arrived, statement: delivery.statement() };
    }
    throw new Error(`${source.kind} delivered nothing for ${item.id}`);
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
  const { files, bytes } = statement;
  if (source.capabilities.digestless && statement.digests === null) {
    const form = (await source.inspect?.(item, arrived, context)) ?? null;
    return { digests: null, files, bytes, withoutDigests: { form } };
  }
  const digests = statement.digests ?? (source.vouch ? await source.vouch(item, arrived, context) : null);
  return { digests, files, bytes };
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
