/** Files in a folder that no receipt names: extra ones, and the ones that somebody moved. */
import { lstat, opendir } from "node:fs/promises";
import { join } from "node:path";
import { RunError } from "../errors.ts";
import { digestAlgorithm, hashFile } from "../lib/digest.ts";
import { onDisk } from "../lib/durable-file.ts";
import { ExternalSort, groupSorted } from "../lib/external-sort.ts";
import type { StoredFile } from "../model/receipt.ts";

type TemporaryFolder = () => Promise<string>;

/**
 * Every regular file below `dir` but `.gantry`, `/` between segments, in no order. Links are not followed. A folder
 * that can't be listed is an error, or is left out when `onUnreadable` wants to know of it.
 */
export async function* walkFiles(
  dir: string,
  onUnreadable?: (error: RunError) => void,
  below = "",
): AsyncGenerator<string> {
  const path = join(dir, below);
  const list = () => onDisk({ operation: "list", path }, () => opendir(path));
  const entries = await list().catch((error: unknown) => {
    if (onUnreadable === undefined || !(error instanceof RunError)) throw error;
    onUnreadable(error);
    return [];
  });
  for await (const entry of entries) {
    const name = below === "" ? entry.name : `${below}/${entry.name}`;
    if (name === ".gantry") continue;
    if (entry.isDirectory()) yield* walkFiles(dir, onUnreadable, name);
    else if (entry.isFile()) yield name;
  }
}

/** Files on disk that `known` (any order) does not name, sorted. */
export async function* listStrays(
  dir: string,
  known: AsyncIterable<string>,
  folder: TemporaryFolder,
  onUnreadable?: (error: RunError) => void,
): AsyncGenerator<string> {
  const sorter = new ExternalSort({ folder });
  try {
    for await (const path of known) await sorter.push(path, `k${path}`);
    for await (const path of walkFiles(dir, onUnreadable)) await sorter.push(path, `d${path}`);
    for await (const group of groupSorted(sorter.sorted(), (line) => line.slice(1))) {
      if (!group.items.some((line) => line.startsWith("k"))) yield group.key;
    }
  } finally {
    await sorter.close();
  }
}

export interface Lost {
  readonly item: string;
  readonly file: StoredFile;
}

/**
 * Finds lost files among the strays by their bytes: size first, then digest. Yields one line a find, sorted by
 * item id; a stray is given to one lost file only.
 */
export async function* findMoved(
  dir: string,
  lost: AsyncIterable<Lost>,
  strays: AsyncIterable<string>,
  folder: TemporaryFolder,
  signal?: AbortSignal,
): AsyncGenerator<{
  readonly item: string;
  readonly from: string;
  readonly to: string;
  readonly mtimeMs: number;
}> {
  const byDigest = new ExternalSort({ folder });
  const found = new ExternalSort({ folder });
  try {
    const sizes = new Set<number>();
    const algorithms = new Set<ReturnType<typeof digestAlgorithm>>();
    for await (const { item, file } of lost) {
      sizes.add(file.bytes);
      algorithms.add(digestAlgorithm(file.digest));
      await byDigest.push(file.digest, `l${JSON.stringify([file.digest, item, file.path])}`);
    }
    if (sizes.size === 0) return;
    for await (const path of strays) {
      const facts = await lstat(join(dir, path)).catch(() => null);
      if (!facts?.isFile() || !sizes.has(facts.size)) continue;
      for (const algorithm of algorithms) {
        const digest = await hashFile(join(dir, path), algorithm, signal);
        await byDigest.push(digest, `s${JSON.stringify([digest, path, Math.trunc(facts.mtimeMs)])}`);
      }
    }
    const digestOf = (line: string): string => (JSON.parse(line.slice(1)) as [string])[0];
    for await (const group of groupSorted(byDigest.sorted(), digestOf)) {
      const losses = group.items
        .filter((line) => line.startsWith("l"))
        .map((line) => JSON.parse(line.slice(1)) as [string, string, string]);
      const finds = group.items
        .filter((line) => line.startsWith("s"))
        .map((line) => JSON.parse(line.slice(1)) as [string, string, number]);
      for (const [index, [, item, from]] of losses.entries()) {
        const find = finds[index];
        if (find) await found.push(item, JSON.stringify({ item, from, to: find[1], mtimeMs: find[2] }));
      }
    }
    for await (const line of found.sorted()) yield JSON.parse(line);
  } finally {
    await byDigest.close();
    await found.close();
  }
}
