/**
 * A file that is read by SFTP. Once it is open, all that can be asked is asked together: what it is now, and its bytes, as
 * many as the window permits. Only what proves that it stayed the same is asked after the last byte has come: a server
 * may answer questions of one file beside each other, whatever the draft says (section 6.1).
 */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import type { RateLimiter } from "../../lib/limiter.ts";
import type { SftpConnection, SftpFacts, SftpFile } from "./connection.ts";

export interface ReadingOf {
  readonly start: number;
  /** Of the whole file. */
  readonly bytes: number;
  readonly mtimeSeconds: number;
}

interface ReadingOptions {
  readonly limiter?: RateLimiter;
  readonly onReceived?: (bytes: number) => void;
  /** Told once that nothing is open any more. */
  readonly onEnd?: () => void;
}

interface Ahead {
  readonly bytes: number;
  readonly buffer: Buffer;
  readonly piece: Promise<Uint8Array>;
}

export class SftpReading {
  readonly #of: ReadingOf & { readonly path: string };
  readonly #options: ReadingOptions;
  readonly #context: Context;
  readonly #closing = new AbortController();
  readonly #opened: Promise<void>;
  #connection: SftpConnection | null = null;
  #file: SftpFile | null = null;
  /** What the file was when it had been opened, and when its last byte had come. */
  #first: Promise<SftpFacts> | null = null;
  #last: Promise<SftpFacts> | null = null;
  /** Asked for and not consumed, in order. */
  readonly #ahead: Ahead[] = [];
  #held = 0;
  #next: number;
  /** Pieces that have not come. */
  #underWay = 0;
  #asks = false;
  #ended = false;
  /** Somebody waits for its bytes. */
  #wanted = false;
  readonly #signal: AbortSignal;

  constructor(
    of: ReadingOf & { readonly path: string },
    connection: () => Promise<SftpConnection>,
    options: ReadingOptions,
    context: Context,
  ) {
    this.#of = of;
    this.#options = options;
    this.#context = context;
    this.#next = of.start;
    this.#signal = AbortSignal.any([this.#closing.signal, context.signal]);
    this.#opened = quietly(this.#open(connection));
  }

  async #open(connection: () => Promise<SftpConnection>): Promise<void> {
    this.#connection = await connection();
    this.#closing.signal.throwIfAborted();
    const file = await this.#connection.open(this.#of.path);
    if (this.#closing.signal.aborted) {
      file.close();
      return;
    }
    this.#file = file;
    this.#first = quietly(file.facts());
    this.#ask();
  }

  /** Resolves when the server has shown the file that was listed. Throws `access-item`, `proof-size`. */
  async expectListed(): Promise<void> {
    await this.#opened;
    this.#wanted = true;
    this.#asksMore(this.#next < this.#of.bytes);
    this.#ask();
    this.#expectSame(await (this.#first as Promise<SftpFacts>), "after it was listed");
  }

  /**
   * Once; a chunk is its reader's until the next is asked for. Throws `proof-size` when it is not, or no longer, the file of
   * that size and time.
   */
  async *chunks(): AsyncGenerator<Uint8Array> {
    const { start, bytes, path } = this.#of;
    await this.expectListed();
    let came = start;
    for (let ahead = this.#ahead.shift(); ahead; ahead = this.#ahead.shift()) {
      const piece = await ahead.piece;
      this.#context.signal.throwIfAborted();
      came += piece.length;
      if (piece.length > 0) yield piece;
      // The file ends here: what comes of later places, should it have grown again, must not get behind these bytes.
      if (piece.length < ahead.bytes) break;
      this.#hold(-ahead.bytes);
      this.#connection?.window.giveBuffer(ahead.buffer);
      this.#ask();
    }
    this.#expectSame(await this.#askLast(), "while it was read");
    if (came !== bytes)
      throw new RunError("proof-size", `${path}: ${bytes} bytes are announced, and ${came} came`);
  }

  /** What was asked for and has not come is forgotten. */
  close(): void {
    this.#closing.abort();
    this.#asksMore(false);
    this.#hold(-this.#held);
    this.#closeFile();
  }

  #closeFile(): void {
    this.#file?.close();
    if (this.#ended) return;
    this.#ended = true;
    this.#options.onEnd?.();
  }

  #expectSame(now: SftpFacts, when: string): void {
    const { path, bytes, mtimeSeconds } = this.#of;
    if (now.bytes === bytes && now.mtimeSeconds === mtimeSeconds) return;
    throw new RunError("proof-size", `${path}: it changed at the server ${when}`, {
      hint: "run the same command again: it is listed anew",
    });
  }

  /** For as much as the window permits, and, once somebody waits, for one piece at least. */
  #ask(): void {
    const { bytes } = this.#of;
    const { window } = this.#connection as SftpConnection;
    const file = this.#file as SftpFile;
    if (this.#closing.signal.aborted) return;
    while (this.#next < bytes) {
      const length = Math.min(file.pieceBytes, bytes - this.#next);
      const needed = this.#wanted && this.#ahead.length === 0;
      if (!needed && !window.permits(length, this.#held, this.#wanted)) return;
      this.#hold(length);
      this.#underWay += 1;
      const buffer = window.takeBuffer(length, file.pieceBytes);
      const piece = quietly(this.#piece(file, buffer, this.#next, length));
      this.#ahead.push({ bytes: length, buffer, piece });
      this.#next += length;
    }
    this.#asksMore(false);
    if (this.#underWay === 0) this.#askLast();
  }

  async #piece(file: SftpFile, buffer: Buffer, start: number, length: number): Promise<Uint8Array> {
    const { limiter, onReceived } = this.#options;
    const { clock } = this.#context;
    await limiter?.take(length, this.#signal);
    const askedMs = clock.monotonicMs();
    const piece = await file.read(buffer, start, length);
    this.#connection?.window.answered(length, clock.monotonicMs() - askedMs);
    onReceived?.(piece.length);
    this.#underWay -= 1;
    if (this.#underWay === 0 && this.#next >= this.#of.bytes && !this.#signal.aborted) this.#askLast();
    return piece;
  }

  #askLast(): Promise<SftpFacts> {
    const file = this.#file as SftpFile;
    // Closed then, so that what nobody wants yet is not kept open.
    this.#last ??= quietly(file.facts().finally(() => this.#closeFile()));
    return this.#last;
  }

  #hold(bytes: number): void {
    this.#held += bytes;
    this.#connection?.window.hold(bytes);
  }

  #asksMore(more: boolean): void {
    if (this.#asks === more) return;
    this.#asks = more;
    this.#connection?.window.asks(more);
  }
}

/** What fails before somebody waits for it is told to who waits. */
function quietly<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}
