/**
 * An archive file by itself, ours or anybody's: what is in it, and single members. With our index beside it a member is
 * read without the rest, and proved; without one the file is read from its beginning.
 */
import { stat } from "node:fs/promises";
import { createGunzip } from "node:zlib";
import { RunError } from "../../errors.ts";
import type { Digest } from "../../lib/digest.ts";
import { onDisk } from "../../lib/durable-file.ts";
import { readBytes } from "../../lib/read-file.ts";
import { indexPath } from "../../model/receipt.ts";
import { openIndex } from "./archive-index.ts";
import { openCodec } from "./codec.ts";
import { type PlacedLine, readPieces } from "./read-pieces.ts";

export interface ArchiveMember {
  /** As the archive has it, without `./` before it. */
  readonly path: string;
  readonly bytes: number;
  /** Null where the archive has no index. */
  readonly digest: Digest | null;
  /** Of what a folder lists: the archive file that holds the member; null for a loose file. */
  readonly archive?: string | null;
}

/** Members, of one archive file or of a whole folder. */
export interface ArchiveFile {
  /** In the order of the archive. Files only: folders and links are left out. Throws `proof-format`, `disk-…`. */
  members(): AsyncIterable<ArchiveMember>;
  /**
   * The members that `wants`, with their bytes; a body that is not read is passed over. A body of an archive with an index
   * throws `proof-digest` at its end when it is not what was stored.
   */
  read(
    wants: (path: string) => boolean,
  ): AsyncIterable<ArchiveMember & { readonly body: AsyncIterable<Uint8Array> }>;
}

type Unpack = (raw: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>;

const FORMATS: readonly (readonly [ending: RegExp, Unpack])[] = [
  [/\.tar$/iu, (raw) => raw],
  [/\.(tar\.zst|tzst)$/iu, (raw) => openCodec("tar.zst").unpack(raw)],
  [/\.(tar\.xz|txz)$/iu, (raw) => openCodec("tar.xz").unpack(raw)],
  [/\.(tar\.gz|tgz)$/iu, gunzip],
];

/** Whether a name is one of an archive file that can be read. */
export const isArchiveName = (path: string): boolean => FORMATS.some(([ending]) => ending.test(path));

/** Throws `usage` for what is no archive file. */
export async function openArchiveFile(path: string): Promise<ArchiveFile> {
  const unpack = FORMATS.find(([ending]) => ending.test(path))?.[1];
  if (unpack === undefined)
    throw new RunError("usage", `${path} is no archive file by its name`, {
      hint: "names end in .tar, .tar.zst, .tar.xz or .tar.gz",
    });
  const facts = await onDisk({ operation: "read", path }, () => stat(path));
  if (!facts.isFile()) throw new RunError("usage", `${path} is no file`);
  const indexed = await openIndex(indexPath(path));
  return indexed ? new IndexedArchive(path, unpack) : new PlainArchive(path, unpack);
}

class IndexedArchive implements ArchiveFile {
  readonly #path: string;
  readonly #unpack: Unpack;

  constructor(path: string, unpack: Unpack) {
    this.#path = path;
    this.#unpack = unpack;
  }

  async *members(): AsyncGenerator<ArchiveMember> {
    for await (const { path, bytes, digest } of this.#lines()) yield { path, bytes, digest };
  }

  read(wants: (path: string) => boolean) {
    return readPieces(this.#lines(), this.#unpack, wants);
  }

  async *#lines(): AsyncGenerator<PlacedLine> {
    const index = indexPath(this.#path);
    const lines = await openIndex(index);
    if (lines === null) throw new RunError("disk-error", `${index} is not there any more`);
    for await (const line of lines) yield { ...line, file: this.#path };
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

  async *read(wants: (path: string) => boolean) {
    const { createTarDecoder } = await import("modern-tar");
    const decoder = createTarDecoder({ strict: true });
    const bytes = ReadableStream.from(this.#unpack(readBytes(this.#path))) as ReadableStream<Uint8Array>;
    try {
      for await (const { header, body } of bytes.pipeThrough(decoder)) {
        const path = header.name.replace(/^(\.\/)+/u, "");
        if (header.type !== "file" || !wants(path)) {
          await body.cancel();
          continue;
        }
        yield { path, bytes: header.size, digest: null, body: body as AsyncIterable<Uint8Array> };
        await body.cancel().catch(() => undefined);
      }
    } catch (error) {
      if (error instanceof RunError) throw error;
      throw new RunError("proof-format", `${this.#path} is damaged: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }
}

async function* gunzip(raw: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const { Readable } = await import("node:stream");
  yield* Readable.from(raw).compose(createGunzip()) as AsyncIterable<Buffer>;
}
