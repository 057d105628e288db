/** Memory for members that wait to be packed, bounded over all items of a run. */

/** So many bytes are held by all items together; each has at least `LEAST_BYTES`, whatever the others hold. */
const BUDGET_BYTES = 64 * 1024 * 1024;
const LEAST_BYTES = 64 * 1024;
/** No item holds more. */
export const MOST_BYTES = 16 * 1024 * 1024;
/** Buffers kept for the next item: making one anew costs the system's zeroing of each of its pages. */
const KEPT_BYTES = 32 * 1024 * 1024;

export class Memory {
  #heldBytes = 0;
  readonly #spare: Buffer[] = [];
  #spareBytes = 0;

  /** A buffer of at least so many bytes; null when others hold too much. The least is always granted. */
  take(bytes: number): Buffer | null {
    let size = LEAST_BYTES;
    while (size < bytes) size *= 2;
    if (size > MOST_BYTES) return null;
    if (size > LEAST_BYTES && this.#heldBytes + size > BUDGET_BYTES) return null;
    this.#heldBytes += size;
    const index = this.#spare.findIndex((buffer) => buffer.length === size);
    const [kept] = index < 0 ? [] : this.#spare.splice(index, 1);
    if (kept) this.#spareBytes -= size;
    return kept ?? Buffer.allocUnsafeSlow(size);
  }

  give(buffer: Buffer): void {
    this.#heldBytes -= buffer.length;
    if (this.#spareBytes + buffer.length > KEPT_BYTES) return;
    this.#spareBytes += buffer.length;
    this.#spare.push(buffer);
  }
}

/** Bytes that are gathered in memory. */
export class Arena {
  readonly #memory: Memory;
  #buffer: Buffer;
  #used = 0;

  constructor(memory: Memory) {
    this.#memory = memory;
    this.#buffer = memory.take(0) as Buffer;
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
