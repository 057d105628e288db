/**
 * An archive file by itself, ours or anybody's: what is in it, and single members. With our index beside it a member is
 * read without the rest, and proved; without one the file is read from its beginning.
 */
import { stat } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { RunError } from "../../errors.ts";
import { onDisk } from "../../lib/durable-file.ts";
import { readBytes } from "../../lib/read-file.ts";
import { TAR_END } from "../../lib/tar-header.ts";
import { untar } from "../../lib/untar.ts";
import { indexPath } from "../../model/receipt.ts";
import { memberEnd, openIndex } from "./archive-index.ts";
import { namedFormat } from "./archive-name.ts";
import { findBlanks } from "./blanks.ts";
import { type Codec, openCodec } from "./codec.ts";
import { bothMending, fileMending } from "./damage.ts";
import type { ArchiveFile, ArchiveMember, OnLeft } from "./members.ts";
import { type PlacedLine, readPieces } from "./read-pieces.ts";
import type { Range } from "./shard.ts";

/** No piece that ends an archive is longer, whoever compressed it. */
const MOST_END = 4096;

type Unpack = (raw: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>;

export interface ArchiveFileOptions {
  /** Of an archive with an index: what stands in the place of members that are gone is read to its last byte, too. */
  readonly thorough?: boolean;
}

/** Throws `usage` for what is no archive file. */
export async function openArchiveFile(
  path: string,
  { thorough = false }: ArchiveFileOptions = {},
): Promise<ArchiveFile> {
  const format = namedFormat(path);
  if (format === null)
    throw new RunError("usage", `${path} is no archive file by its name`, {
      hint: "names end in .tar, .tar.zst, .tar.xz or .tar.gz",
    });
  const facts = await onDisk({ operation: "read", path }, () => stat(path));
  if (!facts.isFile()) throw new RunError("usage", `${path} is no file`);
  if (format === "tar.gz") return new PlainArchive(path, gunzip);
  const codec = openCodec(format);
  const indexed = await openIndex(indexPath(path));
  return indexed ? new IndexedArchive(path, codec, thorough) : new PlainArchive(path, codec.unpack);
}

class IndexedArchive implements ArchiveFile {
  readonly #path: string;
  readonly #codec: Codec;
  readonly #thorough: boolean;

  constructor(path: string, codec: Codec, thorough: boolean) {
    this.#path = path;
    this.#codec = codec;
    this.#thorough = thorough;
  }

  async *members(): AsyncGenerator<ArchiveMember> {
    const seen = { end: 0 };
    for await (const { path, bytes, digest } of this.#lines(seen)) yield { path, bytes, digest };
    await this.#proveEnd(seen.end);
  }

  async *read(wants: (path: string) => boolean) {
    const seen = { end: 0 };
    yield* readPieces(this.#lines(seen), this.#codec.unpack, wants, {
      known: "its index names",
      mending: () => bothMending(this.#path),
    });
    await this.#proveEnd(seen.end);
  }

  /** After the last member comes the end of an archive, and nothing else: else one of the two files was cut. */
  async #proveEnd(end: number): Promise<void> {
    const path = this.#path;
    if (end === 0) throw await this.#fault(`${indexPath(path)} names no member: it was cut`);
    const { size } = await onDisk({ operation: "read", path }, () => stat(path));
    if (size <= end) throw await this.#fault(`${path} was cut: it has no end of an archive`);
    if (size - end > MOST_END || !(await this.#holdsEnd({ offset: end, length: size - end })))
      throw await this.#fault(`${path} goes on after the last member that its index names`);
  }

  async #fault(what: string): Promise<RunError> {
    return new RunError("proof-format", what, { hint: await bothMending(this.#path) });
  }

  /** Between the pieces that the index names lies nothing that holds members: else lines of it were lost. */
  async #proveGap(gap: Range, before: string): Promise<void> {
    const path = this.#path;
    const found = await findBlanks(path, this.#codec, gap, this.#thorough);
    if (found === "cut") throw await this.#fault(`${path} was cut: it ends before ${before}`);
    if (found === "other")
      throw await this.#fault(`${path} holds something before ${before} that its index does not name`);
  }

  async #holdsEnd(range: Range): Promise<boolean> {
    const parts: Uint8Array[] = [];
    try {
      for await (const part of this.#codec.unpack(readBytes(this.#path, range))) parts.push(part);
    } catch (error) {
      if (error instanceof RunError && error.code === "proof-format") return false;
      throw error;
    }
    return Buffer.concat(parts).equals(TAR_END);
  }

  async *#lines(seen: { end: number }): AsyncGenerator<PlacedLine> {
    const index = indexPath(this.#path);
    const lines = await openIndex(index);
    if (lines === null) throw new RunError("disk-error", `${index} is not there any more`);
    const plain = this.#codec.format === "tar";
    for await (const line of lines) {
      // A piece of plain tar is no more than its members, so it is known where each of them ends.
      const start = line.offset + (plain ? line.at : 0);
      if (start > seen.end) await this.#proveGap({ offset: seen.end, length: start - seen.end }, line.path);
      seen.end = line.offset + (plain ? memberEnd(line) : line.length);
      yield { ...line, file: this.#path };
    }
  }
}

class PlainArchive implements ArchiveFile {
  readonly #path: string;
  readonly #unpack: Unpack;

  constructor(path: string, unpack: Unpack) {
    this.#path = path;
    this.#unpack = unpack;
  }

  async *members(): AsyncGenerator<ArchiveMember> {
    for await (const { path, bytes, digest } of this.read(() => true)) yield { path, bytes, digest };
  }

  async *read(wants: (path: string) => boolean, onLeft?: OnLeft) {
    try {
      for await (const { name, type, bytes, body } of untar(this.#unpack(readBytes(this.#path)))) {
        const path = name.replace(/^(\.\/)+/u, "");
        if (type === "folder" || (type !== "file" && !onLeft) || !wants(path)) continue;
        if (type === "file") yield { path, bytes, digest: null, body: this.#explaining(body) };
        else onLeft?.(path);
      }
    } catch (error) {
      throw await this.#explained(error);
    }
  }

  async *#explaining(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    try {
      yield* body;
    } catch (error) {
      throw await this.#explained(error);
    }
  }

  /** What the reader of tar or a decompressor says names no file. */
  async #explained(error: unknown): Promise<unknown> {
    if (!(error instanceof RunError) || error.code !== "proof-format") return error;
    const what = `${this.#path} is damaged: ${error.message}`;
    return new RunError("proof-format", what, { hint: await fileMending(this.#path), cause: error });
  }
}

async function* gunzip(raw: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const plain = createGunzip();
  const fed = pipeline(raw, plain);
  // What it fails of comes out of what it makes, too.
  fed.catch(() => undefined);
  try {
    yield* plain as AsyncIterable<Buffer>;
  } catch (error) {
    if (!(error as NodeJS.ErrnoException).code?.startsWith("Z_")) throw error;
    throw new RunError("proof-format", `gzip: ${(error as Error).message}`, { cause: error });
  } finally {
    plain.destroy();
    await fed.catch(() => undefined);
  }
}
