/**
 * One archive file that grows. Items under way write their pieces into it as they come, between each other; a piece
 * of an item that came to nothing is cut off at the end, else blanked.
 */
import { type FileHandle, open } from "node:fs/promises";
import { onDisk } from "../../lib/durable-file.ts";
import type { Codec } from "./codec.ts";

/** Bytes of an archive file. */
export interface Range {
  readonly offset: number;
  readonly length: number;
}

export class Shard {
  /** Its name in the target folder. */
  readonly archive: string;
  readonly path: string;
  readonly #file: FileHandle;
  readonly #codec: Codec;
  #end: number;
  /** Set while a piece of unknown length is written at the end: nothing can be put behind it. */
  #growing: Promise<unknown> | null = null;
  #syncing: Promise<void> | null = null;
  #syncWanted: Promise<void> | null = null;

  private constructor(archive: string, path: string, file: FileHandle, codec: Codec, end: number) {
    this.archive = archive;
    this.path = path;
    this.#file = file;
    this.#codec = codec;
    this.#end = end;
  }

  /** Opens the file at `path`, and makes it if need be. Throws `disk-…`. */
  static async open(archive: string, path: string, codec: Codec): Promise<Shard> {
    return onDisk({ operation: "create", path }, async () => {
      // Not "a": positions would not count (open(2), O_APPEND).
      const file = await open(path, "r+").catch(() => open(path, "wx+"));
      return new Shard(archive, path, file, codec, (await file.stat()).size);
    });
  }

  get bytes(): number {
    return this.#end;
  }

  /** Packs bytes and writes them as a piece, behind one that is still packed. Several may be under way. Throws `disk-…`. */
  async pack(bytes: Uint8Array, behind?: Promise<unknown>): Promise<Range> {
    const packed = await this.#codec.pack(bytes);
    await behind;
    return this.#append(packed);
  }

  async #append(parts: readonly Uint8Array[]): Promise<Range> {
    while (this.#growing) await this.#growing;
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    const offset = this.#end;
    this.#end += length;
    await this.#write(parts, offset);
    return { offset, length };
  }

  /** The same of bytes that come as a stream; others wait until it has ended. Nothing of it stays when it fails. */
  packStream(bytes: AsyncIterable<Uint8Array>): Promise<Range> {
    return this.copy(this.#codec.packStream(bytes));
  }

  /** The same of a piece that is packed already. */
  async copy(piece: AsyncIterable<Uint8Array>): Promise<Range> {
    while (this.#growing) await this.#growing;
    const work = this.#grow(piece);
    this.#growing = work
      .catch(() => undefined)
      .finally(() => {
        this.#growing = null;
      });
    return work;
  }

  async #grow(parts: AsyncIterable<Uint8Array>): Promise<Range> {
    const offset = this.#end;
    try {
      for await (const part of parts) {
        await this.#write([part], this.#end);
        this.#end += part.length;
      }
      return { offset, length: this.#end - offset };
    } catch (error) {
      this.#end = offset;
      await onDisk({ operation: "cut", path: this.path }, () => this.#file.truncate(offset));
      throw error;
    }
  }

  async #write(parts: readonly Uint8Array[], offset: number): Promise<void> {
    await onDisk({ operation: "write", path: this.path }, async () => {
      let at = offset;
      for (const part of parts) {
        for (let done = 0; done < part.length; ) {
          const { bytesWritten } = await this.#file.write(part, done, part.length - done, at);
          done += bytesWritten;
          at += bytesWritten;
        }
      }
    });
  }

  /** Takes out pieces of an item that came to nothing. Throws `disk-…`. */
  async discard(ranges: readonly Range[]): Promise<void> {
    for (const { offset, length } of [...ranges].sort((a, b) => b.offset - a.offset)) {
      while (this.#growing) await this.#growing;
      if (offset + length === this.#end) {
        this.#end = offset;
        await onDisk({ operation: "cut", path: this.path }, () => this.#file.truncate(offset));
      } else await this.#write([...this.#codec.blank(length)], offset);
    }
  }

  /** Resolves when all that was written before the call is on the disk; calls that wait together share one sync. */
  sync(): Promise<void> {
    this.#syncWanted ??= (async () => {
      await this.#syncing?.catch(() => undefined);
      this.#syncing = this.#syncWanted;
      this.#syncWanted = null;
      await onDisk({ operation: "sync", path: this.path }, () => this.#file.datasync());
    })();
    return this.#syncWanted;
  }

  async close(): Promise<void> {
    await this.#growing;
    await this.#file.close();
  }
}
