/**
 * Lists of sums that a package brings (`NAME.sums`: checksum, blanks, path below the list's folder): what vouches for its
 * files. The nearest list above a file that names it is the one that counts.
 */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { createHasher, type Digest, type Hasher } from "../../lib/digest.ts";
import { SumsList } from "./sums-list.ts";
import type { Folder } from "./tree.ts";
import type { PackageEntry } from "./wire.ts";

/** Fifty bytes and a path for each of a million files. */
const MAX_LIST_BYTES = 128 * 1024 * 1024;

/** Gives the bytes of a file to `take`; again from the beginning, if need be. */
export type ReadFile<C extends Context> = <T>(
  entry: PackageEntry,
  take: (chunks: AsyncIterable<Uint8Array>) => Promise<T>,
  context: C,
) => Promise<T>;

interface Placed {
  /** Of the list itself. */
  readonly folder: readonly string[];
  readonly list: SumsList;
  /** MD5 of what was read of it. */
  readonly digest: Digest;
}

export const isSumsName = (name: string): boolean =>
  /\.(?:sums|md5|md5sums|sha1sums|sha256sums|sha512sums)$/iu.test(name);

export class PackageSums<C extends Context> {
  readonly #read: ReadFile<C>;
  readonly #lists = new Map<string, { readonly version: string; readonly placed: Promise<Placed> }>();

  constructor(read: ReadFile<C>) {
    this.#read = read;
  }

  /** Reads the lists of a folder that was listed. Throws what reading throws; a list that can't be understood is none. */
  async enter(folder: Folder, context: C): Promise<void> {
    for (const entry of folder) {
      if (entry.type === "folder" || !isSumsName(entry.path.at(-1) ?? "")) continue;
      // A list that changed is read again, and takes the place of the older one.
      const key = entry.path.join("/");
      const version = `${entry.bytes} ${entry.mtime}`;
      let loading = this.#lists.get(key);
      if (loading?.version !== version) {
        loading = { version, placed: this.#load(entry, context) };
        this.#lists.set(key, loading);
        loading.placed.catch(() => this.#lists.delete(key));
      }
      await loading.placed;
    }
  }

  /** A fresh comparison of the lists that were read, and are read meanwhile, with the files that there are. */
  compare(): Comparison {
    return new Comparison(async () => {
      const lists = await Promise.all([...this.#lists.values()].map(({ placed }) => placed));
      return lists.filter(({ list }) => list.lines > 0);
    });
  }

  /** What was read of the list at a path, as a digest: no other list names it. Null: it is none that was read. */
  async digestOfList(path: readonly string[]): Promise<Digest | null> {
    return (await this.#lists.get(path.join("/"))?.placed)?.digest ?? null;
  }

  async #load(entry: PackageEntry, context: C): Promise<Placed> {
    const take = async (chunks: AsyncIterable<Uint8Array>): Promise<Omit<Placed, "folder">> => {
      const hasher = createHasher("md5");
      const list = await SumsList.read(hashed(bounded(entry, chunks), hasher));
      return { list, digest: hasher.digest() };
    };
    const { list, digest } = await this.#read(entry, take, context);
    if (list.bad > 0)
      context.log(
        "warn",
        `${entry.path.join("/")}: ${list.bad} lines are no checksums, and vouch for nothing`,
      );
    return { folder: entry.path.slice(0, -1), list, digest };
  }
}

export class Comparison {
  readonly #lists: () => Promise<readonly Placed[]>;
  /** By list: a bit for each line that names a file that was found. */
  readonly #found = new Map<SumsList, Uint8Array>();

  constructor(lists: () => Promise<readonly Placed[]>) {
    this.#lists = lists;
  }

  /** What the lists vouch for a file that there is; null when none names it. */
  async found(path: readonly string[]): Promise<Digest | null> {
    let best: { depth: number; digest: Digest } | null = null;
    for (const { folder, list } of await this.#lists()) {
      if (!isBelow(path, folder)) continue;
      const name = path.slice(folder.length).join("/");
      const line = list.lineOf(name);
      if (line === null) continue;
      this.#mark(list, line);
      const digest = list.digestOf(name);
      if (digest !== null && (best === null || folder.length > best.depth))
        best = { depth: folder.length, digest };
    }
    return best?.digest ?? null;
  }

  /** All that the lists name at or below a path, and that was found in no reading. */
  async *missing(
    below: readonly string[],
  ): AsyncGenerator<{ readonly path: readonly string[]; readonly digest: Digest }> {
    for (const { folder, list } of await this.#lists()) {
      const found = this.#found.get(list);
      const isFound = (name: string): boolean => {
        const line = list.lineOf(name);
        return line !== null && (((found?.[line >> 3] ?? 0) >> (line & 7)) & 1) === 1;
      };
      for (const readings of list.names()) {
        if (readings.some(isFound)) continue;
        const [name] = readings;
        const path = [...folder, ...name.split("/")];
        const digest = list.digestOf(name);
        if (digest !== null && isBelow(path, below)) yield { path, digest };
      }
    }
  }

  #mark(list: SumsList, line: number): void {
    const bits = this.#found.get(list) ?? new Uint8Array((list.lines + 7) >> 3);
    this.#found.set(list, bits);
    bits[line >> 3] = (bits[line >> 3] ?? 0) | (1 << (line & 7));
  }
}

async function* bounded(
  { path }: PackageEntry,
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  let size = 0;
  for await (const chunk of chunks) {
    size += chunk.length;
    if (size > MAX_LIST_BYTES) {
      throw new RunError("archive-reply", `${path.join("/")} is no list of checksums: it is too large`, {
        retry: "never",
      });
    }
    yield chunk;
  }
}

async function* hashed(chunks: AsyncIterable<Uint8Array>, hasher: Hasher): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    hasher.update(chunk);
    yield chunk;
  }
}

const isBelow = (path: readonly string[], folder: readonly string[]): boolean =>
  folder.length <= path.length && folder.every((name, index) => path[index] === name);
