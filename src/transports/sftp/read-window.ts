/**
 * How much of the files of one connection may be asked for before it is consumed: enough to fill the link, and bounded,
 * for that is the memory it takes. It begins small and grows while answers come soon, so that on a slow link no question
 * waits behind megabytes that were asked for before.
 */

/** What is under way on a link of 1.3 Gbit/s whose answers take 50 ms. */
export const MAX_WINDOW_BYTES = 8 * 1024 * 1024;
/** What is asked for at once, where the server gives so much; more saves no time, and costs memory. */
export const PIECE_BYTES = 127 * 1024;
/** Where it begins, and below which it never shrinks. */
export const FIRST_WINDOW_BYTES = 512 * 1024;
/** An answer that comes sooner lets the window grow, so that it doubles with each round trip … */
const SOON_MS = 1500;
/** … and one that comes later lets it shrink. */
const LATE_MS = 4000;

export class ReadWindow {
  #bytes = FIRST_WINDOW_BYTES;
  /** Asked for and not consumed. */
  #held = 0;
  /** For pieces that are read again and again: memory that V8 counts is a reason to collect garbage. */
  readonly #buffers: Buffer[] = [];
  /** Files that are wanted and of which there is more to ask for. */
  #asking = 0;

  /** For files that are not wanted yet. */
  get hasRoom(): boolean {
    return this.#held < this.#bytes / 2;
  }

  /**
   * Whether a file that holds `own` may ask for more: those that are wanted share the window evenly, those that are not yet
   * get what of its half is left.
   */
  permits(bytes: number, own: number, wanted: boolean): boolean {
    if (!wanted) return this.#held + bytes <= this.#bytes / 2;
    return this.#held + bytes <= this.#bytes && own + bytes <= this.#bytes / this.#asking;
  }

  /** Negative: consumed, or given up. */
  hold(bytes: number): void {
    this.#held += bytes;
  }

  /** A file that is wanted begins or ends to have more to ask for. */
  asks(more: boolean): void {
    this.#asking += more ? 1 : -1;
  }

  /** For a piece of a file that comes in pieces of `pieceBytes`; give it back once nobody writes or reads it. */
  takeBuffer(bytes: number, pieceBytes: number): Buffer {
    // A small file is not worth a whole one.
    if (2 * bytes < pieceBytes) return Buffer.allocUnsafe(bytes);
    const known = this.#buffers.pop();
    return known && known.length >= bytes ? known : Buffer.allocUnsafeSlow(pieceBytes);
  }

  giveBuffer(buffer: Buffer): void {
    const { length } = buffer;
    const whole = length === buffer.buffer.byteLength;
    if (whole && (this.#buffers.length + 1) * length <= MAX_WINDOW_BYTES) this.#buffers.push(buffer);
  }

  answered(bytes: number, tookMs: number): void {
    if (tookMs < SOON_MS) this.#bytes = Math.min(MAX_WINDOW_BYTES, this.#bytes + bytes);
    else if (tookMs > LATE_MS) this.#bytes = Math.max(FIRST_WINDOW_BYTES, this.#bytes - bytes);
  }
}
