/** Memory for members that wait to be packed, bounded over all items of a run. */

/** So many bytes are held by all items together; each has at least `LEAST_BYTES`, whatever the others hold. */
const BUDGET_BYTES = 64 * 1024 * 1024;
const LEAST_BYTES = 64 * 1024;
/** No item holds more. */
export const MOST_BYTES = 16 * 1024 * 1024;
/** While less is held, an arena begins as large as it will be, which spares the copying as it grows. */
const PLENTY_BYTES = BUDGET_BYTES / 2;

/**
 * Halves of halves of one block, the lowest first, so that pages which nobody needed cost nothing. The block is a shared one,
 * although nobody shares it: V8 counts other buffers as reasons to collect garbage, and above 64 MiB of them does so all
 * the time (131 times instead of 7 in a run of 1.2 GB, a fifth of its CPU).
 */
export class Memory {
  readonly #block = Buffer.from(new SharedArrayBuffer(BUDGET_BYTES));
  /** Where free parts begin, by their size. */
  readonly #free = new Map<number, Set<number>>();
  #heldBytes = 0;

  constructor() {
    for (let size = LEAST_BYTES; size <= MOST_BYTES; size *= 2) this.#free.set(size, new Set());
    for (let at = 0; at < BUDGET_BYTES; at += MOST_BYTES) this.#free.get(MOST_BYTES)?.add(at);
  }

  /** Whether a buffer of so many bytes can be had without others feeling it. */
  hasPlenty(bytes: number): boolean {
    return this.#heldBytes + bytes <= PLENTY_BYTES;
  }

  /** A buffer of at least so many bytes; null when others hold too much. The least is always granted. */
  take(bytes: number): Buffer | null {
    let size = LEAST_BYTES;
    while (size < bytes) size *= 2;
    const at = this.#takePart(size);
    if (at === null) return size === LEAST_BYTES ? Buffer.allocUnsafeSlow(size) : null;
    this.#heldBytes += size;
    return this.#block.subarray(at, at + size);
  }

  #takePart(size: number): number | null {
    const free = this.#free.get(size);
    if (!free) return null;
    if (free.size > 0) {
      const at = Math.min(...free);
      free.delete(at);
      return at;
    }
    const at = this.#takePart(size * 2);
    if (at !== null) free.add(at + size);
    return at;
  }

  give(buffer: Buffer): void {
    if (buffer.buffer !== this.#block.buffer) return;
    this.#heldBytes -= buffer.length;
    let [at, size] = [buffer.byteOffset, buffer.length];
    // With its other half it is what both were split from.
    for (; size < MOST_BYTES && this.#free.get(size)?.delete(at ^ size); size *= 2) at &= ~size;
    this.#free.get(size)?.add(at);
  }
}

/** Bytes that are gathered in memory. */
export class Arena {
  readonly #memory: Memory;
  #buffer: Buffer;
  #used = 0;

  /** `likely`: it will probably hold so many. */
  constructor(memory: Memory, likely = 0) {
    this.#memory = memory;
    const first = memory.hasPlenty(likely) ? likely : 0;
    this.#buffer = memory.take(first) as Buffer;
  }

  get used(): number {
    return this.#used;
  }

  /** False: there is no room for so many more bytes. */
  reserve(bytes: number): boolean {
    if (this.#used + bytes <= this.#buffer.length) return true;
    const larger = this.#memory.take(this.#used + bytes);
    if (larger === null) return false;
    this.#buffer.copy(larger, 0, 0, this.#used);
    this.#memory.give(this.#buffer);
    this.#buffer = larger;
    return true;
  }

  /** There must be room: see `reserve`. */
  push(bytes: Uint8Array): void {
    this.#buffer.set(bytes, this.#used);
    this.#used += bytes.length;
  }

  /** So many bytes that are written later. */
  skip(bytes: number): void {
    this.#buffer.fill(0, this.#used, this.#used + bytes);
    this.#used += bytes;
  }

  write(bytes: Uint8Array, at: number): void {
    this.#buffer.set(bytes, at);
  }

  view(from: number, to: number): Buffer {
    return this.#buffer.subarray(from, to);
  }

  /** Forgets what comes after. */
  cut(used: number): void {
    this.#used = used;
  }

  close(): void {
    this.#memory.give(this.#buffer);
  }
}
