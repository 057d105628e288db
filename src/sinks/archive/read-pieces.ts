/** Members of our own archive files, piece by piece: only the pieces that hold something wanted are read. */

import { RunError } from "../../errors.ts";
import { ByteReader } from "../../lib/bytes.ts";
import { createHasher, type Digest, digestAlgorithm } from "../../lib/digest.ts";
import { groupSorted } from "../../lib/external-sort.ts";
import { tarPadding } from "../../lib/tar-header.ts";
import type { IndexLine } from "./archive-index.ts";
import { isHeader, readRanges, skipBytes, takeBytes } from "./member-stream.ts";
import type { ArchiveMember } from "./members.ts";

/** A member, and the archive file on the disk that holds it. */
export type PlacedLine = IndexLine & { readonly file: string };

/** What to do about damage. */
export type Mending = () => Promise<string>;

/**
 * The members that `wants`, with their bytes; a body that is not read is passed over, one that is throws `proof-digest` at
 * its end when it is not what was stored. `lines`, which come from what is `known`, are in the order of their archive
 * files, which are all of one format.
 */
export async function* readPieces(
  lines: AsyncIterable<PlacedLine>,
  unpack: (raw: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>,
  wants: (path: string) => boolean,
  { known, mending }: { readonly known: string; readonly mending: Mending },
): AsyncGenerator<ArchiveMember & { readonly body: AsyncIterable<Uint8Array> }> {
  const pieces = groupSorted(lines, ({ file, offset }) => `${offset} ${file}`);
  /** What the pieces hold whose bytes are on their way: a few, since little fits into the pipes of a decompressor. */
  const ahead: (readonly PlacedLine[])[] = [];
  /** What is wrong with the lines themselves: it says where, and what mends it. */
  let ofLines: unknown = null;
  const step = () =>
    pieces.next().catch((error: unknown) => {
      ofLines = error;
      throw error;
    });
  const next = async (): Promise<PlacedLine | null> => {
    for (let at = await step(); !at.done; at = await step()) {
      const { items } = at.value;
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
  let current: PlacedLine | null = null;
  let last: PlacedLine | null = null;
  /** What a decompressor says of its input names neither file nor member. */
  const explained = async (error: unknown): Promise<unknown> => {
    const at = current ?? ahead[0]?.[0] ?? last;
    if (error === ofLines) return error;
    if (!(error instanceof RunError) || error.code !== "proof-format" || at === null) return error;
    const what = `${at.file} is damaged at ${at.path}: ${error.message}`;
    return new RunError("proof-format", what, { hint: await mending(), cause: error });
  };
  async function* explaining(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    try {
      yield* body;
    } catch (error) {
      throw await explained(error);
    }
  }
  try {
    piece = await next();
    if (piece === null) return;
    reader = new ByteReader(unpack(raw()));
    while (await reader.fill(1)) {
      const members = ahead.shift();
      if (!members) throw new RunError("proof-format", `more follows than ${known}`);
      for (const member of members) {
        current = member;
        const { path, bytes, digest } = member;
        if (!(await isHeader(reader, member))) throw notThere();
        const end = reader.position + bytes;
        if (wants(path)) {
          const body = explaining(takeBytes(reader, bytes, "it"));
          yield { path, bytes, digest, body: proved(body, `${member.file}: ${path}`, digest, mending) };
        }
        await skipBytes(reader, end - reader.position + tarPadding(bytes), "it");
      }
      last = current;
      current = null;
    }
    if (ahead.length > 0) throw notThere();
  } catch (error) {
    throw await explained(error);
  } finally {
    await reader?.close();
    await pieces.return(undefined);
  }
}

const notThere = (): RunError => new RunError("proof-format", "there is something else");

/** The same bytes; throws `proof-digest` at their end when they are not what was stored. */
export async function* proved(
  body: AsyncIterable<Uint8Array>,
  what: string,
  digest: Digest,
  mending: Mending,
): AsyncGenerator<Uint8Array> {
  const hasher = createHasher(digestAlgorithm(digest));
  for await (const chunk of body) {
    hasher.update(chunk);
    yield chunk;
  }
  if (hasher.digest() !== digest)
    throw new RunError("proof-digest", `${what} is not what was stored`, { hint: await mending() });
}
