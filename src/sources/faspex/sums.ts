/**
 * Lists of sums that a package brings (`NAME.sums`: checksum, blanks, path below the list's folder): what vouches for its
 * files. The nearest list above a file that names it is the one that counts.
 */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { type Digest, digestOfHex } from "../../lib/digest.ts";
import { parseSumsLine } from "../../model/sums-line.ts";
import type { Folder } from "./tree.ts";
import type { PackageEntry } from "./wire.ts";

/** Fifty bytes and a path for each of some hundred thousand files. */
const MAX_LIST_BYTES = 128 * 1024 * 1024;

export type ReadFile<C extends Context> = (
  entry: PackageEntry,
  maxBytes: number,
  context: C,
) => Promise<Uint8Array>;

interface List {
  /** Of the list itself. */
  readonly folder: readonly string[];
  /** By path below the folder, in every reading of it. */
  readonly digests: ReadonlyMap<string, Digest>;
  /** One for each line, the reading of md5sum first. */
  readonly names: readonly (readonly [string, ...string[]])[];
}

export const isSumsName = (name: string): boolean =>
  /\.(?:sums|md5|md5sums|sha1sums|sha256sums|sha512sums)$/iu.test(name);

export class PackageSums<C extends Context> {
  readonly #read: ReadFile<C>;
  readonly #lists = new Map<string, { readonly version: string; readonly list: Promise<List | null> }>();

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
        loading = { version, list: this.#load(entry, context) };
        this.#lists.set(key, loading);
        loading.list.catch(() => this.#lists.delete(key));
      }
      await loading.list;
    }
  }

  /** What the lists that were read vouch for a file; null when none names it. */
  async digestOf(path: readonly string[]): Promise<Digest | null> {
    let best: { depth: number; digest: Digest } | null = null;
    for (const loading of this.#lists.values()) {
      const list = await loading.list;
      if (!list || !isBelow(path, list.folder)) continue;
      const digest = list.digests.get(path.slice(list.folder.length).join("/"));
      const depth = list.folder.length;
      if (digest !== undefined && (best === null || depth > best.depth)) best = { depth, digest };
    }
    return best?.digest ?? null;
  }

  /** All that the lists name at or below a path and `has` knows in no reading. */
  async *missing(
    below: readonly string[],
    has: (path: string) => boolean,
  ): AsyncGenerator<{ readonly path: readonly string[]; readonly digest: Digest }> {
    for (const loading of this.#lists.values()) {
      const list = await loading.list;
      if (!list) continue;
      for (const readings of list.names) {
        if (readings.some((name) => has([...list.folder, name].join("/")))) continue;
        const [name] = readings;
        const path = [...list.folder, ...name.split("/")];
        const digest = list.digests.get(name);
        if (digest !== undefined && isBelow(path, below)) yield { path, digest };
      }
    }
  }

  async #load(entry: PackageEntry, context: C): Promise<List | null> {
    const name = entry.path.join("/");
    const text = new TextDecoder("utf-8").decode(await this.#read(entry, MAX_LIST_BYTES, context));
    const digests = new Map<string, Digest>();
    const names: (readonly [string, ...string[]])[] = [];
    let bad = 0;
    for (const line of text.split("\n")) {
      try {
        const parsed = parseSumsLine(line);
        if (!parsed) continue;
        const digest = digestOfHex(parsed.algorithm, parsed.hex);
        names.push(parsed.names);
        for (const reading of parsed.names) if (!digests.has(reading)) digests.set(reading, digest);
      } catch (error) {
        if (!(error instanceof RunError)) throw error;
        bad += 1;
      }
    }
    if (bad > 0) context.log("warn", `${name}: ${bad} lines are no checksums, and vouch for nothing`);
    return digests.size === 0 ? null : { folder: entry.path.slice(0, -1), digests, names };
  }
}

const isBelow = (path: readonly string[], folder: readonly string[]): boolean =>
  folder.length <= path.length && folder.every((name, index) => path[index] === name);

export const tooLarge = (path: readonly string[]): RunError =>
  new RunError("archive-reply", `${path.join("/")} is no list of checksums: it is too large`, {
    retry: "never",
  });
