/**
 * An archive file by itself, ours or anybody's: what is in it, and single members. With our index beside it a member is
 * read without the rest, and proved; without one the file is read from its beginning.
 */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createGunzip } from "node:zlib";
import { RunError } from "../../errors.ts";
import { ByteReader } from "../../lib/bytes.ts";
import { createHasher, type Digest, digestAlgorithm } from "../../lib/digest.ts";
import { onDisk } from "../../lib/durable-file.ts";
import { groupSorted } from "../../lib/external-sort.ts";
import { tarPadding } from "../../lib/tar-header.ts";
import { indexPath } from "../../model/receipt.ts";
import { type IndexLine, openIndex } from "./archive-index.ts";
import { openCodec } from "./codec.ts";
import { isHeader, readRanges, skipBytes, takeBytes } from "./member-stream.ts";

export interface ArchiveMember {
  /** As the archive has it, without `./` before it. */
  readonly path: string;
  readonly bytes: number;
  /** Null where the archive has no index. */
  readonly digest: Digest | null;
}

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

const FORMATS: readonly (readonly [
  ending: RegExp,
  (raw: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>,
])[] = [
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
  const index = indexPath(path);
  return (await openIndex(index)) ? new IndexedArchive(path, index) : new PlainArchive(path, unpack);
}

class IndexedArchive implements ArchiveFile {
  readonly #path: string;
  readonly #index: string;

  constructor(path: string, index: string) {
    this.#path = path;
    this.#index = index;
  }

  async *members(): AsyncGenerator<ArchiveMember> {
    for await (const { path, bytes, digest } of await this.#lines()) yield { path, bytes, digest };
  }

  async #lines(): Promise<AsyncIterable<IndexLine>> {
    const lines = await openIndex(this.#index);
    if (lines === null) throw new RunError("disk-error", `${this.#index} is not there any more`);
    return lines;
  }

  /** The pieces that hold something wanted, with all their members. */
  async *#pieces(wants: (path: string) => boolean): AsyncGenerator<readonly IndexLine[]> {
    for await (const { items } of groupSorted(await this.#lines(), ({ offset }) => String(offset)))
      if (items.some(({ path }) => wants(path))) yield items;
  }

  async *read(wants: (path: string) => boolean) {
    const archive = this.#path;
    const pieces = this.#pieces.bind(this);
    // The index is read twice side by side: for the bytes, and for what they are.
    async function* raw(): AsyncGenerator<Uint8Array> {
      for await (const [first] of pieces(wants)) if (first) yield* readRanges(archive, [first]);
    }
    const ending = FORMATS.find(([each]) => each.test(archive)) as (typeof FORMATS)[number];
    const reader = new ByteReader(ending[1](raw()));
    try {
      for await (const lines of pieces(wants)) {
        for (const { path, bytes, digest } of lines) {
          if (!(await isHeader(reader, { path, bytes }))) throw notWhere(archive, path);
          const end = reader.position + bytes;
          if (wants(path))
            yield { path, bytes, digest, body: proved(takeBytes(reader, bytes, archive), path, digest) };
          await skipBytes(reader, end - reader.position + tarPadding(bytes), archive);
        }
      }
    } finally {
      await reader.close();
    }
  }
}

const notWhere = (archive: string, path: string): RunError =>
  new RunError("proof-format", `${archive}: ${path} is not where the index says`, {
    hint: "the archive file was changed after its index; read it with tar, or without the index",
  });

async function* proved(
  body: AsyncIterable<Uint8Array>,
  path: string,
  digest: Digest,
): AsyncGenerator<Uint8Array> {
  const hasher = createHasher(digestAlgorithm(digest));
  for await (const chunk of body) {
    hasher.update(chunk);
    yield chunk;
  }
  if (hasher.digest() !== digest) throw new RunError("proof-digest", `${path} is not what was stored`);
}

class PlainArchive implements ArchiveFile {
  readonly #path: string;
  readonly #unpack: (raw: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>;

  constructor(path: string, unpack: (raw: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>) {
    this.#path = path;
    this.#unpack = unpack;
  }

  async *members(): AsyncGenerator<ArchiveMember> {
    for await (const { path, bytes, digest } of this.read(() => true)) yield { path, bytes, digest };
  }

  async *read(wants: (path: string) => boolean) {
    const { createTarDecoder } = await import("modern-tar");
    const raw = createReadStream(this.#path, { highWaterMark: 1 << 18 }) as AsyncIterable<Buffer>;
    const decoder = createTarDecoder({ strict: true });
    const bytes = ReadableStream.from(this.#unpack(raw)) as ReadableStream<Uint8Array>;
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
      if (error instanceof RunError || (error as NodeJS.ErrnoException).syscall !== undefined) throw error;
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
