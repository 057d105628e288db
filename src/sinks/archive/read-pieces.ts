/** Members of our own archive files, piece by piece: only the pieces that hold something wanted are read. */

import { RunError } from "../../errors.ts";
import { ByteReader } from "../../lib/bytes.ts";
import { createHasher, type Digest, digestAlgorithm } from "../../lib/digest.ts";
import { groupSorted } from "../../lib/external-sort.ts";
import { tarPadding } from "../../lib/tar-header.ts";
import type { ArchiveMember } from "./archive-file.ts";
import type { IndexLine } from "./archive-index.ts";
import { isHeader, readRanges, skipBytes, takeBytes } from "./member-stream.ts";

/** A member, and the archive file on the disk that holds it. */
export type PlacedLine = IndexLine & { readonly file: string };

/**
 * The members that `wants`, with their bytes; a body that is not read is passed over, one that is throws `proof-digest` at
 * its end when it is not what was stored. `lines` are in the order of their archive files, which are all of one format.
 */
export async function* readPieces(
  lines: AsyncIterable<PlacedLine>,
  unpack: (raw: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>,
  wants: (path: string) => boolean,
): AsyncGenerator<ArchiveMember & { readonly body: AsyncIterable<Uint8Array> }> {
  const pieces = groupSorted(lines, ({ file, offset }) => `${offset} ${file}`);
  /** What the pieces hold whose bytes are on their way: a few, since little fits into the pipes of a decompressor. */
  const ahead: (readonly PlacedLine[])[] = [];
  const next = async (): Promise<PlacedLine | null> => {
    for (let step = await pieces.next(); !step.done; step = await pieces.next()) {
      const { items } = step.value;
      if (!items.some(({ path }) => wants(path))) continue;
      ahead.push(items);
      return items[0];
    }
    return null;
  };
  let piece: PlacedLine | null = null;
  async function* raw(): AsyncGenerator<Uint8Array> {
    for (; piece; piece = await next()) yield* readRanges(piece.file, [piece]);
  }
  let reader: ByteReader | null = null;
  try {
    piece = await next();
    if (piece === null) return;
    reader = new ByteReader(unpack(raw()));
    while (await reader.fill(1)) {
      const members = ahead.shift();
      if (!members)
        throw notWhere((piece as PlacedLine | null)?.file ?? "the archive file", "what comes next");
      for (const { file, path, bytes, digest } of members) {
        if (!(await isHeader(reader, { path, bytes }))) throw notWhere(file, path);
        const end = reader.position + bytes;
        if (wants(path))
          yield { path, bytes, digest, body: proved(takeBytes(reader, bytes, file), path, digest) };
        await skipBytes(reader, end - reader.position + tarPadding(bytes), file);
      }
    }
    const [missing] = ahead[0] ?? [];
    if (missing) throw notWhere(missing.file, missing.path);
  } finally {
    await reader?.close();
    await pieces.return(undefined);
  }
}

const notWhere = (archive: string, path: string): RunError =>
  new RunError("proof-format", `${archive}: ${path} is not where the index says`, {
    hint: "the archive file was changed after its index; read it with tar, or without the index",
  });

/** The same bytes; throws `proof-digest` at their end when they are not what was stored. */
export async function* proved(
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
