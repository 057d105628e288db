/**
 * Makes one archive file of several, or one without blanks of one that holds some. Items are taken over in the order of
 * their ids, their pieces as they are: no compressor runs. What a kill leaves behind the last receipt lies at the end of
 * the file, where it is cut off, so that a join that is killed and typed again leaves no blank.
 */
import { stat } from "node:fs/promises";
import { readBytes } from "../../lib/read-file.ts";
import type { ItemState, Packed, StoredFile } from "../../model/receipt.ts";
import type { DiskCheck, JoinOptions, Taken } from "../sink.ts";
import type { Range, Shard } from "./shard.ts";
import type { Shelf } from "./shelf.ts";

/** Taken over between two syncs: a kill loses so much work. */
const BATCH_BYTES = 64 * 1024 * 1024;
const BATCH_FILES = 10_000;

type PackedFile = StoredFile & { readonly packed: Packed };
type Check = (files: readonly StoredFile[], hash: boolean, signal?: AbortSignal) => Promise<DiskCheck>;

/**
 * One pass: takes what `wants` and what lies in other archive files into the one that is best for it. Each batch that it
 * yields is on the disk and proved; its receipts must be written before the next one is asked for. Nothing is yielded
 * when all is where it should be. What is left of the others goes by `settle`; then another pass may have more to do.
 */
export async function* joinArchives(
  shelf: Shelf,
  check: Check,
  { run, states, wants, signal }: JoinOptions,
): AsyncGenerator<Taken> {
  const extents = await survey(states());
  const chosen = await choose(shelf, extents);
  if (chosen === null) return;
  let shard: Shard | null = null;
  const open = async (): Promise<Shard> => {
    if (chosen === "first") return shelf.create(run, { numbered: false });
    if (chosen === "next") return shelf.create(run, { numbered: true, avoid: new Set(extents.keys()) });
    const opened = await shelf.reopen(run, chosen);
    const { end } = extents.get(chosen) as Extent;
    await opened.discard([{ offset: end, length: opened.bytes - end }]);
    return opened;
  };
  let batch: { readonly found: ItemState; readonly files: readonly PackedFile[] }[] = [];
  let [bytes, count] = [0, 0];
  const flush = async (): Promise<Taken> => {
    const taking = batch;
    [batch, bytes, count] = [[], 0, 0];
    return takeOver(shelf, shard as Shard, check, taking, signal);
  };
  try {
    for await (const found of states()) {
      signal.throwIfAborted();
      const files = found.current.files.filter(isPacked);
      if (!wants(found) || files.length === 0 || files.length < found.current.files.length) continue;
      if (files.every(({ packed }) => packed.archive === chosen)) continue;
      const { bad } = await check(files, false, signal);
      if (bad.length > 0) {
        yield { moved: [], bad };
        continue;
      }
      shard ??= await open();
      batch.push({ found, files });
      bytes += piecesOf(files).reduce((sum, { length }) => sum + length, 0);
      count += files.length;
      if (bytes >= BATCH_BYTES || count >= BATCH_FILES) yield await flush();
    }
    if (batch.length > 0) yield await flush();
  } finally {
    await shard?.close();
  }
}

/** What of an archive file receipts name. */
interface Extent {
  live: number;
  end: number;
}

async function survey(states: AsyncIterable<ItemState>): Promise<Map<string, Extent>> {
  const extents = new Map<string, Extent>();
  for await (const { current } of states) {
    if (current.type === "removed") continue;
    for (const { archive, offset, length } of piecesOf(current.files.filter(isPacked))) {
      const extent = extents.get(archive) ?? { live: 0, end: 0 };
      extents.set(archive, { live: extent.live + length, end: Math.max(extent.end, offset + length) });
    }
  }
  return extents;
}

/**
 * The one that all goes into: that without a number if it holds no blanks, or if there is none; else the largest that holds
 * none, or one under the next number. Null: nothing is packed.
 */
async function choose(
  shelf: Shelf,
  extents: ReadonlyMap<string, Extent>,
): Promise<string | "first" | "next" | null> {
  if (extents.size === 0) return null;
  const { whole } = shelf;
  const clean: { readonly archive: string; readonly live: number }[] = [];
  for (const [archive, { live, end }] of extents) {
    const path = await shelf.locate(archive);
    if (live === end && path !== null && (await stat(path)).size >= end) clean.push({ archive, live });
  }
  if (clean.some(({ archive }) => archive === whole)) return whole;
  if (!extents.has(whole) && !(await shelf.isTaken(whole))) return "first";
  return clean.sort((a, b) => b.live - a.live || (a.archive < b.archive ? -1 : 1))[0]?.archive ?? "next";
}

/** Copies items to the end of an archive file, proves the copies, and cuts off those that are not as they were stored. */
async function takeOver(
  shelf: Shelf,
  shard: Shard,
  check: Check,
  batch: readonly { readonly found: ItemState; readonly files: readonly PackedFile[] }[],
  signal: AbortSignal,
): Promise<Taken> {
  const begin = shard.bytes;
  const moved: { readonly found: ItemState; readonly files: readonly PackedFile[] }[] = [];
  for (const { found, files } of batch) {
    const ranges = new Map<string, Range>();
    for (const piece of piecesOf(files)) {
      signal.throwIfAborted();
      // Whatever `check` found there a moment ago.
      const path = (await shelf.locate(piece.archive)) ?? "";
      ranges.set(keyOf(piece), await shard.copy(readBytes(path, piece)));
    }
    const there = files.map((file) => {
      const packed: Packed = {
        archive: shard.archive,
        ...(ranges.get(keyOf(file.packed)) as Range),
        at: file.packed.at,
      };
      return { ...file, packed };
    });
    moved.push({ found, files: there });
  }
  await shard.sync();
  const { bad } = await check(
    moved.flatMap(({ files }) => files),
    true,
    signal,
  );
  if (bad.length === 0) return { moved, bad };
  await shard.discard([{ offset: begin, length: shard.bytes - begin }]);
  const wrong = new Set(bad.map(({ file }) => file));
  const good = batch.filter((_, index) => !moved[index]?.files.some((file) => wrong.has(file)));
  if (good.length === 0) return { moved: [], bad };
  const again = await takeOver(shelf, shard, check, good, signal);
  return { moved: again.moved, bad: [...bad, ...again.bad] };
}

const isPacked = (file: StoredFile): file is PackedFile => file.packed !== undefined;

const keyOf = ({ archive, offset }: Packed): string => `${offset} ${archive}`;

/** Of the files of one item. */
function piecesOf(files: readonly PackedFile[]): readonly Packed[] {
  return [...new Map(files.map(({ packed }) => [keyOf(packed), packed])).values()].sort(
    (a, b) => (a.archive < b.archive ? -1 : Number(a.archive > b.archive)) || a.offset - b.offset,
  );
}
