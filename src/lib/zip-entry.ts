/** One entry of a zip that arrives: its bytes as they are inflated, counted and summed. */
import { crc32, createInflateRaw, type InflateRaw } from "node:zlib";
import { assert, type RunError } from "../errors.ts";
import type { ByteReader } from "./bytes.ts";
import { cut, fault, type Header } from "./zip-records.ts";

/** One file (or folder) of the archive, in the order of the stream. */
export interface ZipEntry {
  /** Decoded name: never empty or absolute, without `..` segments, NUL and drive letter. May hold `\`. */
  readonly name: string;
  /** The name as it stands in the archive. */
  readonly nameBytes: Uint8Array;
  /** A name that ends in `/`: such an entry holds no bytes. */
  readonly isDirectory: boolean;
  /**
   * The inflated bytes; may be iterated once. Its end means that CRC and size agree with the entry's own
   * header or descriptor. What is not read when the next entry is asked for is read and checked then.
   */
  readonly body: AsyncIterable<Uint8Array>;
  /** Known after the end of `body`; asking before is a mistake (plain Error). */
  readonly sizeBytes: number;
  /** Known after the end of `body`; asking before is a mistake (plain Error). */
  readonly crc32: number;
}

/** Most that is taken from the source, or inflated into, at once. */
export const CHUNK_BYTES = 256 * 1024;
/**
 * Output chunk of a streamed inflate. The default of 16 KiB halves the speed; chunks of 256 KiB are each mapped from
 * the system and given back, which costs a third more CPU over a whole download (6.0 s against 4.3 s for 1.26 GB).
 */
const INFLATE_CHUNK_BYTES = 64 * 1024;
/** Smaller pieces of input are joined first: each write to a streamed inflate is a trip to the thread pool. */
const INPUT_BYTES = 16 * 1024;

/** Yields the next bytes of one entry, or undefined once its end was checked. */
type Pull = () => Promise<Uint8Array | undefined>;

export class Entry implements ZipEntry {
  readonly name: string;
  readonly nameBytes: Uint8Array;
  readonly isDirectory: boolean;
  readonly body: AsyncIterable<Uint8Array>;
  readonly #tally: Tally;
  readonly #pull: Pull;
  #state: "open" | "ended" | "failed" = "open";
  #error: unknown;
  #started = false;
  #drained = false;
  #busy: Promise<unknown> = Promise.resolve();

  constructor(header: Header, tally: Tally, pull: Pull) {
    this.name = header.name;
    this.nameBytes = header.nameBytes;
    this.isDirectory = header.name.endsWith("/");
    this.#tally = tally;
    this.#pull = pull;
    this.body = { [Symbol.asyncIterator]: () => this.#iterator() };
  }

  get sizeBytes(): number {
    assert(this.#state === "ended", "the size of a zip entry is asked for after its body ended");
    return this.#tally.sizeBytes;
  }

  get crc32(): number {
    assert(this.#state === "ended", "the CRC of a zip entry is asked for after its body ended");
    return this.#tally.crc32;
  }

  /** Reads what the consumer left, so that the entry is checked in any case. */
  async drain(): Promise<void> {
    this.#drained = true;
    await this.#busy.catch(() => undefined);
    while ((await this.#step()) !== undefined);
  }

  #iterator(): AsyncIterator<Uint8Array> {
    assert(!this.#started, "the body of a zip entry is read once");
    this.#started = true;
    let over = false;
    return {
      next: async () => {
        if (over) return { done: true, value: undefined };
        assert(!this.#drained || this.#state === "ended", "a zip entry is read before the next is asked for");
        const step = this.#busy.then(() => this.#step());
        this.#busy = step;
        const value = await step;
        if (value !== undefined) return { done: false, value };
        over = true;
        return { done: true, value: undefined };
      },
      return: async () => {
        over = true;
        return { done: true, value: undefined };
      },
    };
  }

  async #step(): Promise<Uint8Array | undefined> {
    if (this.#state === "ended") return undefined;
    if (this.#state === "failed") throw this.#error;
    try {
      const bytes = await this.#pull();
      if (bytes === undefined) this.#state = "ended";
      return bytes;
    } catch (error) {
      this.#state = "failed";
      this.#error = error;
      throw error;
    }
  }
}

/** Size and CRC of what an entry has given, held against the limits with every chunk. */
export class Tally {
  sizeBytes = 0;
  crc32 = 0;
  readonly #label: string;
  readonly #maxBytes: number;
  readonly #tooLarge: string;

  constructor(label: string, maxBytes: number, tooLarge: string) {
    this.#label = label;
    this.#maxBytes = maxBytes;
    this.#tooLarge = tooLarge;
  }

  add(bytes: Uint8Array): void {
    this.sizeBytes += bytes.length;
    if (this.sizeBytes > this.#maxBytes) throw fault(`${this.#label} ${this.#tooLarge}`);
    this.crc32 = crc32(bytes, this.crc32);
  }
}

/**
 * Inflates one entry from the reader, one step ahead of the consumer at most. The deflate format ends itself;
 * what the inflater did not use is put back.
 */
export class InflatePull {
  compressedBytes = 0;
  readonly #reader: ByteReader;
  readonly #tally: Tally;
  readonly #label: string;
  readonly #inflate: InflateRaw;
  #givenBytes = 0;
  #canGive = true;
  #ended = false;
  #error: unknown;
  #stirred = false;
  #wake: (() => void) | undefined;

  constructor(reader: ByteReader, tally: Tally, label: string) {
    this.#reader = reader;
    this.#tally = tally;
    this.#label = label;
    this.#inflate = createInflateRaw({ chunkSize: INFLATE_CHUNK_BYTES });
    this.#inflate.on("readable", () => this.#stir());
    this.#inflate.on("error", (error) => {
      this.#error ??= error;
      this.#stir();
    });
  }

  async next(): Promise<Uint8Array | undefined> {
    for (;;) {
      if (this.#error !== undefined) throw damaged(this.#label, this.#error);
      const bytes = this.#inflate.read() as Buffer | null;
      if (bytes !== null) {
        this.#tally.add(bytes);
        // The pool inflates the next bytes while the consumer works on these.
        if (this.#reader.available >= INPUT_BYTES) this.#give();
        return bytes;
      }
      if (this.#ended) break;
      if (this.#canGive) {
        if (this.#reader.available < INPUT_BYTES) await this.#reader.fill(INPUT_BYTES);
        if (this.#reader.available === 0) throw cut(this.#label);
        this.#give();
      }
      await this.#stirring();
    }
    this.compressedBytes = this.#inflate.bytesWritten;
    this.#reader.unread(this.#givenBytes - this.compressedBytes);
    return undefined;
  }

  close(): void {
    this.#inflate.destroy();
  }

  #give(): void {
    if (!this.#canGive || this.#ended) return;
    const input = this.#reader.take(CHUNK_BYTES);
    this.#givenBytes += input.length;
    this.#canGive = false;
    this.#inflate.write(input, (error) => {
      if (error) this.#error ??= error;
      // Called after the last output of this input. Input left over means that the deflate data has ended;
      // when it ends just with the input, the next write tells, by using nothing.
      this.#ended = this.#inflate.bytesWritten < this.#givenBytes;
      this.#canGive = true;
      this.#stir();
    });
  }

  #stir(): void {
    this.#stirred = true;
    this.#wake?.();
  }

  async #stirring(): Promise<void> {
    if (!this.#stirred) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
    this.#stirred = false;
  }
}

export function damaged(label: string, cause: unknown): RunError {
  return fault(`${label}: its compressed data is damaged`, cause);
}
