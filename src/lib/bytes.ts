/**
 * Pull-based reading of a byte stream by position: look ahead, take, put back.
 *
 * Nothing is read from the source unless a method asks for more than is at hand, so a slow caller stops the
 * source. Chunks handed out are views of the source's chunks: the source must not reuse their memory.
 */
export class ByteReader {
  #source: AsyncIterator<Uint8Array>;
  #bytes: Buffer = Buffer.alloc(0);
  #at = 0;
  /** Position in the stream of `#bytes[0]`. */
  #base = 0;
  #ended = false;
  #failed = false;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** How many bytes of the stream were consumed. */
  get position(): number {
    return this.#base + this.#at;
  }

  /** How many bytes are at hand without reading the source. */
  get available(): number {
    return this.#bytes.length - this.#at;
  }

  /** True when the source is known to have no more bytes than `available`. */
  get ended(): boolean {
    return this.#ended;
  }

  /**
   * Reads the source until `count` bytes are at hand. False: the source ended before (what is left stays).
   * An error of the source passes unchanged.
   */
  async fill(count: number): Promise<boolean> {
    if (this.available >= count) return true;
    if (this.#ended) return false;
    const parts: Uint8Array[] = [];
    let total = this.available;
    if (total > 0) parts.push(this.#bytes.subarray(this.#at));
    while (total < count) {
      const part = await this.#pull();
      if (part === undefined) break;
      if (part.length === 0) continue;
      parts.push(part);
      total += part.length;
    }
    this.#base += this.#at;
    this.#at = 0;
    const only = parts[0];
    this.#bytes =
      parts.length === 1 && only !== undefined
        ? Buffer.from(only.buffer, only.byteOffset, only.byteLength)
        : Buffer.concat(parts, total);
    return total >= count;
  }

  /** A view of the next bytes, at most `count`, without consuming them. */
  peek(count: number): Buffer {
    return this.#bytes.subarray(this.#at, this.#at + count);
  }

  /** The next bytes at hand, at most `count`, consumed. */
  take(count: number): Buffer {
    const view = this.peek(count);
    this.#at += view.length;
    return view;
  }

  /** Puts back the last `count` bytes taken. Only bytes taken since the last `fill` can be put back. */
  unread(count: number): void {
    if (count < 0 || count > this.#at) throw new Error("assertion failed: bytes put back were at hand");
    this.#at -= count;
  }

  /** Closes the source unless it ended or failed by itself. */
  async close(): Promise<void> {
    if (this.#ended || this.#failed) return;
    this.#ended = true;
    await this.#source.return?.();
  }

  async #pull(): Promise<Uint8Array | undefined> {
    try {
      const step = await this.#source.next();
      if (step.done !== true) return step.value;
    } catch (error) {
      this.#failed = true;
      throw error;
    }
    this.#ended = true;
    return undefined;
  }
}
