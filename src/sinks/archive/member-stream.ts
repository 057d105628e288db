/** Members of our own archives, read by where they must be: what is between them is compared, too. */
import { RunError } from "../../errors.ts";
import { ByteReader } from "../../lib/bytes.ts";
import { createHasher, type Digest, digestAlgorithm } from "../../lib/digest.ts";
import { readBytes } from "../../lib/read-file.ts";
import { tarHeader, tarPadding } from "../../lib/tar-header.ts";
import type { Codec } from "./codec.ts";
import type { Range } from "./shard.ts";

export interface StoredMember {
  readonly path: string;
  readonly bytes: number;
  readonly digest: Digest;
}

/** Bytes of an archive file as they lie there. Throws `disk-…`. */
export async function* readRanges(path: string, ranges: readonly Range[]): AsyncGenerator<Uint8Array> {
  for (const range of ranges) yield* readBytes(path, range);
}

/** What of one member is in the pieces that hold it, `at` bytes from their beginning. Throws `proof-format`, `disk-…`. */
export async function* readMember(
  codec: Codec,
  archive: string,
  range: Range,
  at: number,
  member: StoredMember,
): AsyncGenerator<Uint8Array> {
  const reader = new ByteReader(codec.unpack(readRanges(archive, [range])));
  try {
    await skipBytes(reader, at, archive);
    if (!(await isHeader(reader, member)))
      throw new RunError("proof-format", `${archive}: ${member.path} is not where it is said to be`);
    yield* takeBytes(reader, member.bytes, archive);
  } finally {
    await reader.close();
  }
}

/**
 * Whether each of the members, which fill the pieces in this order, is there as it was stored, tar header and all.
 * Throws `proof-format` where the pieces can't be unpacked, `disk-…`.
 */
export async function proveMembers(
  codec: Codec,
  archive: string,
  ranges: readonly Range[],
  members: readonly StoredMember[],
  signal?: AbortSignal,
): Promise<readonly boolean[]> {
  const reader = new ByteReader(codec.unpack(readRanges(archive, ranges)));
  const right: boolean[] = [];
  try {
    for (const member of members) {
      signal?.throwIfAborted();
      const header = await isHeader(reader, member);
      const hasher = createHasher(digestAlgorithm(member.digest));
      for await (const chunk of takeBytes(reader, member.bytes, archive)) hasher.update(chunk);
      await skipBytes(reader, tarPadding(member.bytes), archive);
      right.push(header && hasher.digest() === member.digest);
    }
    return right;
  } finally {
    await reader.close();
  }
}

/** Whether the header of a member comes next; it is consumed. */
export async function isHeader(
  reader: ByteReader,
  { path, bytes }: Pick<StoredMember, "path" | "bytes">,
): Promise<boolean> {
  const wanted = tarHeader(path, bytes);
  return (await reader.fill(wanted.length)) && wanted.equals(reader.take(wanted.length));
}

/** The next so many bytes. */
export async function* takeBytes(
  reader: ByteReader,
  bytes: number,
  archive: string,
): AsyncGenerator<Uint8Array> {
  for (let left = bytes; left > 0; ) {
    if (reader.available === 0 && !(await reader.fill(1))) throw cut(archive);
    const part = reader.take(left);
    left -= part.length;
    yield part;
  }
}

export async function skipBytes(reader: ByteReader, bytes: number, archive: string): Promise<void> {
  for await (const _ of takeBytes(reader, bytes, archive));
}

const cut = (archive: string): RunError =>
  new RunError("proof-format", `${archive} ends in the middle of a member`);
