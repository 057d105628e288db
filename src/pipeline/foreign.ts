/**
 * Files of other tools that belong to new items: every stray tells by its head what it is of, and the answers are
 * joined with the items, as merges of sorted streams. Nothing is hashed, moved or asked of an archive here.
 */
import { lstat } from "node:fs/promises";
import { join, posix } from "node:path";
import { RunError } from "../errors.ts";
import { mapOrdered } from "../lib/concurrent.ts";
import { onDisk } from "../lib/durable-file.ts";
import { compareKeys, ExternalSort, groupSorted } from "../lib/external-sort.ts";
import { readFileHead, readFileStream } from "../lib/read-file.ts";
import type { Claim, ForeignFiles } from "../sources/source.ts";

/** A file that another tool left and that says it is of an item. Not proved yet. */
export interface Found {
  readonly path: string;
  readonly bytes: number;
  /** Which file of the item; null: an archive file that holds the item. */
  readonly part: string | null;
  /** It lies where tools keep unfinished data, so its bytes may be used, but it can't stay there. */
  readonly unfinished: boolean;
  /** Other items have files in its folder. */
  readonly shared: boolean;
}

export interface FindForeignOptions {
  readonly dir: string;
  readonly strays: AsyncIterable<string>;
  /** Folders (relative) in which receipts have files, in any order, with repetitions. */
  readonly taken: () => AsyncIterable<string>;
  readonly kinds: readonly ForeignFiles[];
  /** Places of new items of one file that are known by their place: path and item id, sorted by path. */
  readonly placed: AsyncIterable<readonly [path: string, item: string]>;
  readonly temporary: () => Promise<string>;
  readonly signal: AbortSignal;
}

/** Nearly every DICOM file says who it is in the first of these; one with large private groups in the second. */
const HEADS_BYTES = [8 * 1024, 64 * 1024, 1024 * 1024] as const;
/** Heads that are read at once: enough to hide the latency of a network file system. */
const HEAD_JOBS = 16;
const SORT_BYTES = 8 * 1024 * 1024;
/** Of one item no more files are looked at: a bound for hostile trees, far above the largest series. */
const MAX_FOUND = 50_000;
/** Names under which tools keep what is not finished (`DIR.uncompressed.tmp` of the Go retriever), and hidden folders. */
const UNFINISHED = /(^|\/)\.|\.(tmp|part|partial|crdownload)(\/|$)/iu;
/** Such names can't be told in a list of one line a file. */
const UNTELLABLE = /[\u0000-\u001f\u007f\\]/u;

interface Claimed extends Claim {
  readonly path: string;
  readonly bytes: number;
}

/**
 * The found files of each of `fresh` (item ids, sorted), in the same order, items without any left out. A file is
 * given to one item only.
 */
export async function* findForeign(
  fresh: AsyncIterable<string>,
  options: FindForeignOptions,
): AsyncGenerator<{ readonly item: string; readonly found: readonly Found[] }> {
  const sorter = (unique = false) =>
    new ExternalSort({ folder: options.temporary, memoryBytes: SORT_BYTES, unique });
  const byItem = sorter();
  const folders = sorter(true);
  const byPath = sorter();
  const byFolder = sorter();
  const found = sorter();
  try {
    for await (const { path, bytes, claims } of readClaims(options)) {
      const [first] = claims;
      if (first?.part != null) await pushFolder(folders, posix.dirname(path), first.item);
      for (const [rank, claim] of claims.entries()) {
        const line = { ...claim, path, bytes };
        await byItem.push(claim.item, JSON.stringify([rank, line]));
      }
    }
    for await (const [rank, claim] of joinFresh(byItem.sorted(), fresh)) {
      await byPath.push(`${claim.path}\u0000${rank}`, JSON.stringify(claim));
    }
    for await (const group of groupSorted(parsed<Claimed>(byPath.sorted()), (claim) => claim.path)) {
      await byFolder.push(posix.dirname(group.key), JSON.stringify(group.items[0]));
    }
    for await (const folder of options.taken()) await pushFolder(folders, folder, "");
    for await (const { item, ...file } of markShared(
      parsed<Claimed>(byFolder.sorted()),
      parsed<FolderUse>(folders.sorted()),
    )) {
      await found.push(item, JSON.stringify([item, file]));
    }
    let item: string | null = null;
    let files: Found[] = [];
    for await (const [next, file] of parsed<[string, Found]>(found.sorted())) {
      if (next !== item) {
        if (item !== null) yield { item, found: files };
        item = next;
        files = [];
      }
      if (files.length < MAX_FOUND) files.push(file);
    }
    if (item !== null) yield { item, found: files };
  } finally {
    for (const each of [byItem, folders, byPath, byFolder, found]) await each.close();
  }
}

type FolderUse = readonly [folder: string, item: string];

async function pushFolder(folders: ExternalSort, folder: string, item: string): Promise<void> {
  await folders.push(`${folder}\u0000${item}`, JSON.stringify([folder, item] satisfies FolderUse));
}

async function* parsed<T>(lines: AsyncIterable<string>): AsyncGenerator<T> {
  for await (const line of lines) yield JSON.parse(line) as T;
}

async function* joinFresh(
  lines: AsyncIterable<string>,
  fresh: AsyncIterable<string>,
): AsyncGenerator<readonly [rank: number, claim: Claimed]> {
  const ids = fresh[Symbol.asyncIterator]();
  try {
    let id = await ids.next();
    for await (const line of lines) {
      const [rank, claim] = JSON.parse(line) as [number, Claimed];
      while (!id.done && compareKeys(id.value, claim.item) < 0) id = await ids.next();
      if (id.done) return;
      if (id.value === claim.item) yield [rank, claim];
    }
  } finally {
    await ids.return?.();
  }
}

/** Both sorted by folder. */
async function* markShared(
  files: AsyncIterable<Claimed>,
  uses: AsyncIterable<FolderUse>,
): AsyncGenerator<Found & { readonly item: string }> {
  const groups = groupSorted(uses, ([folder]) => folder);
  try {
    let group = await groups.next();
    for await (const { item, part, path, bytes } of files) {
      const folder = posix.dirname(path);
      while (!group.done && compareKeys(group.value.key, folder) < 0) group = await groups.next();
      const used = !group.done && group.value.key === folder ? group.value.items : [];
      const shared = used.length > 1 || used.some(([, user]) => user === "");
      yield { item, path, bytes, part, shared, unfinished: UNFINISHED.test(path) };
    }
  } finally {
    await groups.return(undefined);
  }
}

/** The strays that say what they are of, or lie where an item belongs. What can't be read says nothing. */
async function* readClaims({ dir, strays, kinds, placed, signal }: FindForeignOptions): AsyncGenerator<{
  readonly path: string;
  readonly bytes: number;
  readonly claims: readonly Claim[];
}> {
  const looked = mapOrdered(atPlaces(strays, placed), HEAD_JOBS, async ({ path, items }) => {
    signal.throwIfAborted();
    if (UNTELLABLE.test(path)) return null;
    const file = await lookAt(join(dir, path), path, kinds).catch((error: unknown) => {
      if (error instanceof RunError && error.code.startsWith("disk-")) return null;
      throw error;
    });
    const claims = items.map((item) => ({ item, part: posix.basename(path) }));
    return file && { ...file, claims: [...claims, ...file.claims] };
  });
  for await (const each of looked) if (each && each.claims.length > 0) yield each;
}

/** Strays, sorted, each with the items whose place it has. */
async function* atPlaces(
  strays: AsyncIterable<string>,
  placed: AsyncIterable<readonly [path: string, item: string]>,
): AsyncGenerator<{ readonly path: string; readonly items: readonly string[] }> {
  const places = groupSorted(placed, ([path]) => path);
  try {
    let place = await places.next();
    for await (const path of strays) {
      while (!place.done && compareKeys(place.value.key, path) < 0) place = await places.next();
      const here = !place.done && place.value.key === path ? place.value.items : [];
      yield { path, items: here.map(([, item]) => item) };
    }
  } finally {
    await places.return(undefined);
  }
}

/** The claims of one file on the disk; null for what is no regular file. Throws `disk-…`. */
export async function lookAt(
  full: string,
  path: string,
  kinds: readonly ForeignFiles[],
): Promise<{ readonly path: string; readonly bytes: number; readonly claims: readonly Claim[] } | null> {
  const at = { operation: "read", path: full };
  const facts = await onDisk(at, () => lstat(full));
  if (!facts.isFile() || facts.size === 0) return null;
  const claims: Claim[] = [];
  for (const kind of kinds) {
    for (const size of HEADS_BYTES) {
      const head = await readFileHead(full, Math.min(size, facts.size));
      const whole = head.length >= facts.size || size === HEADS_BYTES.at(-1);
      const said = await kind.claims({ path, head, whole, read: () => readFileStream(full) });
      if (said === "more" && !whole) continue;
      if (said !== "more") claims.push(...said);
      break;
    }
  }
  return { path, bytes: facts.size, claims };
}
