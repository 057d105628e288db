/**
 * Sorts, merges and groups more lines than memory holds.
 *
 * One order is used everywhere: `compareKeys`, which is JavaScript's own `<` on strings (UTF-16 code units).
 * It needs no locale, so the same lines sort the same on every machine.
 */

import { randomBytes } from "node:crypto";
import { type FileHandle, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { assert } from "../errors.ts";
import { onDisk, writeAll } from "./durable-file.ts";

/** The one order of keys: by UTF-16 code units, as `<` does. */
export function compareKeys(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

export interface ExternalSortOptions {
  /**
   * Asked at most once, when the lines do not fit in memory: a folder that exists, for temporary files. They
   * are nameless as soon as they are open, so that they vanish even when the process is killed; the folder
   * itself is the caller's to remove, after `close`.
   */
  readonly folder: () => Promise<string>;
  /** Text held before it is sorted to a file, in bytes. Default 24 MiB. The process needs about 60 MB more. */
  readonly memoryBytes?: number;
  /** Of lines with equal keys keep only the one pushed first. */
  readonly unique?: boolean;
}

const DEFAULT_MEMORY_BYTES = 24 * 1024 * 1024;
const FIRST_ARENA_BYTES = 64 * 1024;
const WRITE_BYTES = 1024 * 1024;
/** So many runs are merged to one; a bound for open files and for the memory of their buffers. */
const MAX_RUNS = 64;
const MIN_READ_BYTES = 32 * 1024;
/** Two lengths before each record: of the key and of the line, in bytes. */
const HEAD_BYTES = 8;
/** What a record in memory costs besides its bytes: its place, its order, its decoded key while sorting. */
const RECORD_COST_BYTES = 56;
/** Set in the length of a key that is stored as UTF-16, because some character has no Latin-1 byte. */
const WIDE_KEY = 0x8000_0000;
const BEYOND_LATIN1 = /[^\x00-\xff]/;

/** A temporary file of sorted records. */
interface Run {
  readonly file: FileHandle;
  readonly sizeBytes: number;
  /** Runs of level n+1 are merged from `MAX_RUNS` runs of level n. */
  readonly level: number;
  /** Only where the file could not be unlinked while open. */
  readonly leftPath: string | undefined;
}

/**
 * Push lines with keys, read them back once by `sorted`, then close. Equal keys keep the order of the pushes.
 * Lines must be well-formed text (a lone surrogate comes back as U+FFFD); they may contain newlines.
 *
 * Lines live as bytes outside the JavaScript heap: a heap that held them as strings would grow to several times
 * their size before it is collected. Throws `disk-…` errors.
 */
export class ExternalSort {
  readonly #options: ExternalSortOptions;
  readonly #memoryBytes: number;
  #arena = Buffer.alloc(0);
  #out = Buffer.alloc(0);
  #usedBytes = 0;
  /** Where each record in the arena begins. */
  #places = new Uint32Array(1024);
  #count = 0;
  #runs: Run[] = [];
  #spilling: Promise<void> | undefined;
  #folder: string | undefined;
  #state: "filling" | "reading" | "closed" = "filling";

  constructor(options: ExternalSortOptions) {
    this.#options = options;
    this.#memoryBytes = options.memoryBytes ?? DEFAULT_MEMORY_BYTES;
  }

  /** Adds a line. Await it: it waits when memory is full and a run is being written. */
  async push(key: string, line: string): Promise<void> {
    assert(this.#state === "filling", "push before sorted");
    const wide = BEYOND_LATIN1.test(key);
    const keyBytes = wide ? key.length * 2 : key.length;
    const lineBytes = Buffer.byteLength(line);
    const bytes = HEAD_BYTES + keyBytes + lineBytes;
    while (this.#spilling) await this.#spilling;
    if (this.#count > 0 && this.#usedBytes + bytes + this.#count * RECORD_COST_BYTES > this.#memoryBytes) {
      this.#spilling = this.#spill().finally(() => {
        this.#spilling = undefined;
      });
      await this.#spilling;
    }
    this.#makeRoom(bytes);
    const arena = this.#arena;
    let end = this.#usedBytes;
    this.#places[this.#count] = end;
    this.#count += 1;
    arena.writeUInt32LE(wide ? keyBytes + WIDE_KEY : keyBytes, end);
    arena.writeUInt32LE(lineBytes, end + 4);
    end += HEAD_BYTES;
    end += arena.write(key, end, keyBytes, wide ? "utf16le" : "latin1");
    end += arena.write(line, end, lineBytes, "utf8");
    this.#usedBytes = end;
  }

  /**
   * All lines in order of their keys, once. Reading to the end, stopping early and failing all close the sorter.
   */
  async *sorted(): AsyncGenerator<string> {
    assert(this.#state === "filling", "sorted is read once");
    this.#state = "reading";
    try {
      while (this.#spilling) await this.#spilling;
      if (this.#runs.length === 0) {
        for (const place of this.#sortedPlaces()) yield lineAt(this.#arena, place);
        return;
      }
      if (this.#count > 0) await this.#spill();
      while (this.#runs.length > MAX_RUNS) await this.#mergeNewest(MAX_RUNS);
      const unique = this.#options.unique === true;
      let last: string | undefined;
      const heap = await this.#openHeap(this.#runs);
      for (let top = heap.top; top !== undefined; top = heap.top) {
        if (!unique || top.key !== last) yield lineAt(top.buffer, top.place);
        last = top.key;
        const wait = heap.advance();
        if (wait) await wait;
      }
    } finally {
      await this.close();
    }
  }

  /** Removes the temporary files. Safe at any time and more than once. */
  async close(): Promise<void> {
    this.#state = "closed";
    await this.#spilling?.catch(() => undefined);
    this.#arena = Buffer.alloc(0);
    this.#out = Buffer.alloc(0);
    this.#places = new Uint32Array(0);
    this.#count = 0;
    const runs = this.#runs;
    this.#runs = [];
    for (const run of runs) await dropRun(run);
  }

  #makeRoom(bytes: number): void {
    const needed = this.#usedBytes + bytes;
    if (needed > this.#arena.length) {
      const doubled = Math.min(Math.max(this.#arena.length * 2, FIRST_ARENA_BYTES), this.#memoryBytes);
      const larger = Buffer.allocUnsafeSlow(Math.max(doubled, needed));
      this.#arena.copy(larger, 0, 0, this.#usedBytes);
      this.#arena = larger;
    }
    if (this.#count === this.#places.length) {
      const larger = new Uint32Array(this.#places.length * 2);
      larger.set(this.#places);
      this.#places = larger;
    }
  }

  /** Where the records in the arena begin, in order of their keys. */
  #sortedPlaces(): number[] {
    const keys: string[] = [];
    const order: number[] = [];
    for (let index = 0; index < this.#count; index += 1) {
      keys.push(keyAt(this.#arena, this.#places[index]!));
      order.push(index);
    }
    // Array.prototype.sort is stable, so equal keys keep the order of the pushes.
    order.sort((a, b) => {
      const left = keys[a]!;
      const right = keys[b]!;
      return left < right ? -1 : left > right ? 1 : 0;
    });
    const kept =
      this.#options.unique === true
        ? order.filter((each, at) => at === 0 || keys[each] !== keys[order[at - 1]!])
        : order;
    return kept.map((each) => this.#places[each]!);
  }

  /** Writes the arena as a sorted run of level 0 and empties it. */
  async #spill(): Promise<void> {
    const places = this.#sortedPlaces();
    const run = await this.#writeRun(0, async (write) => {
      for (const place of places) {
        const wait = write(this.#arena, place);
        if (wait) await wait;
      }
    });
    this.#runs.push(run);
    this.#usedBytes = 0;
    this.#count = 0;
    for (;;) {
      const level = this.#runs.at(-1)!.level;
      const first = this.#runs.findIndex((each) => each.level === level);
      if (this.#runs.length - first < MAX_RUNS) return;
      await this.#mergeNewest(MAX_RUNS);
    }
  }

  /** Merges the newest runs to one. Runs stay in the order of the pushes, which keeps the sort stable. */
  async #mergeNewest(count: number): Promise<void> {
    const merged = this.#runs.slice(-count);
    const unique = this.#options.unique === true;
    const level = Math.max(...merged.map((each) => each.level)) + 1;
    const heap = await this.#openHeap(merged);
    const run = await this.#writeRun(level, async (write) => {
      let last: string | undefined;
      for (let top = heap.top; top !== undefined; top = heap.top) {
        const written = unique && top.key === last ? undefined : write(top.buffer, top.place);
        if (written) await written;
        last = top.key;
        const wait = heap.advance();
        if (wait) await wait;
      }
    });
    this.#runs.splice(-count, count, run);
    for (const each of merged) await dropRun(each);
  }

  async #writeRun(level: number, fill: (write: WriteRecord) => Promise<void>): Promise<Run> {
    this.#folder ??= await this.#options.folder();
    const path = join(this.#folder, `sort-${process.pid}-${randomBytes(6).toString("hex")}.tmp`);
    const file = await onDisk({ operation: "create", path }, () => open(path, "wx+", 0o600));
    const leftPath = await rm(path).then(
      () => undefined,
      () => path,
    );
    if (this.#out.length === 0) this.#out = Buffer.allocUnsafeSlow(WRITE_BYTES);
    const out = this.#out;
    let filledBytes = 0;
    let sizeBytes = 0;
    const store = (bytes: Uint8Array): Promise<void> =>
      onDisk({ operation: "write", path }, () => writeAll(file, bytes));
    const storeLarge = async (record: Uint8Array): Promise<void> => {
      await store(out.subarray(0, filledBytes));
      filledBytes = 0;
      if (record.length > out.length) {
        await store(record);
      } else {
        out.set(record);
        filledBytes = record.length;
      }
    };
    try {
      await fill((buffer, place) => {
        const bytes = recordBytes(buffer, place);
        sizeBytes += bytes;
        if (filledBytes + bytes > out.length) return storeLarge(buffer.subarray(place, place + bytes));
        buffer.copy(out, filledBytes, place, place + bytes);
        filledBytes += bytes;
        return undefined;
      });
      await store(out.subarray(0, filledBytes));
    } catch (error) {
      await dropRun({ file, leftPath });
      throw error;
    }
    return { file, sizeBytes, level, leftPath };
  }

  /** Readers share the arena, which is empty whenever runs are merged. */
  async #openHeap(runs: readonly Run[]): Promise<RunHeap> {
    const share = Math.floor(this.#arena.length / runs.length);
    const readers = runs.map((run, index) => {
      const buffer =
        share >= MIN_READ_BYTES
          ? this.#arena.subarray(index * share, index * share + Math.min(share, WRITE_BYTES))
          : Buffer.allocUnsafeSlow(MIN_READ_BYTES);
      return new RunReader(run, index, buffer);
    });
    const heap = new RunHeap();
    for (const reader of readers) {
      const wait = reader.advance();
      if (wait) await wait;
      if (!reader.done) heap.add(reader);
    }
    return heap;
  }
}

/** Returns a promise only when a write to the disk is needed; the record is copied before that. */
type WriteRecord = (buffer: Buffer, place: number) => Promise<void> | undefined;

async function dropRun(run: Pick<Run, "file" | "leftPath">): Promise<void> {
  await run.file.close().catch(() => undefined);
  if (run.leftPath !== undefined) await rm(run.leftPath, { force: true }).catch(() => undefined);
}

function recordBytes(buffer: Buffer, place: number): number {
  const keyBytes = buffer.readUInt32LE(place) % WIDE_KEY;
  return HEAD_BYTES + keyBytes + buffer.readUInt32LE(place + 4);
}

function keyAt(buffer: Buffer, place: number): string {
  const length = buffer.readUInt32LE(place);
  const begin = place + HEAD_BYTES;
  return length >= WIDE_KEY
    ? buffer.toString("utf16le", begin, begin + length - WIDE_KEY)
    : buffer.toString("latin1", begin, begin + length);
}

function lineAt(buffer: Buffer, place: number): string {
  const begin = place + HEAD_BYTES + (buffer.readUInt32LE(place) % WIDE_KEY);
  return buffer.toString("utf8", begin, begin + buffer.readUInt32LE(place + 4));
}

/** Walks through the records of a run. */
class RunReader {
  /** The current record, valid until the next `advance`. */
  key = "";
  buffer: Buffer;
  place = 0;
  done = false;
  readonly index: number;
  readonly #run: Run;
  #nextPlace = 0;
  #filledBytes = 0;
  #positionBytes = 0;

  constructor(run: Run, index: number, buffer: Buffer) {
    this.#run = run;
    this.index = index;
    this.buffer = buffer;
  }

  /** Goes to the next record, or to the end; returns a promise only when it must read. */
  advance(): Promise<void> | undefined {
    const left = this.#filledBytes - this.#nextPlace;
    if (left < HEAD_BYTES || left < recordBytes(this.buffer, this.#nextPlace)) return this.#refill();
    this.#take();
    return undefined;
  }

  #take(): void {
    this.place = this.#nextPlace;
    this.#nextPlace += recordBytes(this.buffer, this.place);
    this.key = keyAt(this.buffer, this.place);
  }

  async #refill(): Promise<void> {
    let kept = this.#filledBytes - this.#nextPlace;
    if (kept === 0 && this.#positionBytes === this.#run.sizeBytes) {
      this.done = true;
      return;
    }
    this.buffer.copyWithin(0, this.#nextPlace, this.#filledBytes);
    this.#nextPlace = 0;
    for (;;) {
      const needed = kept < HEAD_BYTES ? HEAD_BYTES : recordBytes(this.buffer, 0);
      if (kept >= HEAD_BYTES && kept >= needed) break;
      if (needed > this.buffer.length) {
        const larger = Buffer.allocUnsafeSlow(needed);
        this.buffer.copy(larger, 0, 0, kept);
        this.buffer = larger;
      }
      const { bytesRead } = await onDisk({ operation: "read a temporary file" }, () =>
        this.#run.file.read(this.buffer, kept, this.buffer.length - kept, this.#positionBytes),
      );
      assert(bytesRead > 0, "a sorted run ends at a record");
      kept += bytesRead;
      this.#positionBytes += bytesRead;
    }
    this.#filledBytes = kept;
    this.#take();
  }
}

/** The readers, the one with the least key on top; of equal keys the older run. */
class RunHeap {
  readonly #heap: RunReader[] = [];

  get top(): RunReader | undefined {
    return this.#heap[0];
  }

  add(reader: RunReader): void {
    const heap = this.#heap;
    let hole = heap.length;
    heap.push(reader);
    while (hole > 0) {
      const parent = (hole - 1) >> 1;
      if (!before(reader, heap[parent]!)) break;
      heap[hole] = heap[parent]!;
      hole = parent;
    }
    heap[hole] = reader;
  }

  /** Moves the top reader on; returns a promise only when it must read. */
  advance(): Promise<void> | undefined {
    const wait = this.#heap[0]!.advance();
    if (wait) return wait.then(() => this.#settle());
    this.#settle();
    return undefined;
  }

  /** Puts the changed top where it belongs. */
  #settle(): void {
    const heap = this.#heap;
    let reader = heap[0]!;
    if (reader.done) {
      reader = heap.pop()!;
      if (heap.length === 0) return;
    }
    let hole = 0;
    for (;;) {
      let child = hole * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child += 1;
      if (!before(heap[child]!, reader)) break;
      heap[hole] = heap[child]!;
      hole = child;
    }
    heap[hole] = reader;
  }
}

function before(a: RunReader, b: RunReader): boolean {
  return a.key < b.key || (a.key === b.key && a.index < b.index);
}

export interface SortLinesOptions extends ExternalSortOptions {
  /** Default: the whole line. */
  readonly key?: (line: string) => string;
}

/** `ExternalSort` for lines that come as one stream. */
export async function* sortLines(
  input: AsyncIterable<string> | Iterable<string>,
  options: SortLinesOptions,
): AsyncGenerator<string> {
  const sorter = new ExternalSort(options);
  try {
    for await (const line of input) await sorter.push(options.key ? options.key(line) : line, line);
    yield* sorter.sorted();
  } finally {
    await sorter.close();
  }
}

/**
 * Merges streams that are each sorted by `compare` into one sorted stream; of equal items that of the earlier
 * stream comes first. Holds one item of each stream; closes them all when it ends, fails or is stopped.
 */
export async function* mergeSorted<T>(
  streams: readonly AsyncIterable<T>[],
  compare: (a: T, b: T) => number,
): AsyncGenerator<T> {
  const open: { readonly iterator: AsyncIterator<T>; item: T }[] = [];
  const iterators = streams.map((stream) => stream[Symbol.asyncIterator]());
  const live = new Set(iterators);
  try {
    for (const iterator of iterators) {
      const first = await iterator.next();
      if (first.done) live.delete(iterator);
      else open.push({ iterator, item: first.value });
    }
    // A scan, because there are few streams: selections, receipts files of array tasks.
    while (open.length > 0) {
      let least = 0;
      for (let index = 1; index < open.length; index += 1) {
        if (compare(open[index]!.item, open[least]!.item) < 0) least = index;
      }
      const source = open[least]!;
      yield source.item;
      const next = await source.iterator.next();
      if (next.done) {
        live.delete(source.iterator);
        open.splice(least, 1);
      } else {
        source.item = next.value;
      }
    }
  } finally {
    for (const iterator of live) await iterator.return?.();
  }
}

/** Gathers neighbours with the same key. A group is held in memory, so groups must be small. */
export async function* groupSorted<T>(
  stream: AsyncIterable<T>,
  key: (item: T) => string,
): AsyncGenerator<{ readonly key: string; readonly items: readonly [T, ...T[]] }> {
  let group: { key: string; items: [T, ...T[]] } | undefined;
  for await (const item of stream) {
    const itemKey = key(item);
    if (group !== undefined && group.key === itemKey) {
      group.items.push(item);
    } else {
      if (group !== undefined) yield group;
      group = { key: itemKey, items: [item] };
    }
  }
  if (group !== undefined) yield group;
}
