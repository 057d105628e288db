/** A package's tree: folders that were listed lately, names looked up in them, and the whole of it file by file. */
import { RunError } from "../../errors.ts";
import { hashBytes } from "../../lib/digest.ts";
import { nearMatches } from "../../model/address.ts";
import { formatPath } from "../../model/selection.ts";
import type { SourceContext } from "../source.ts";
import { type FaspexApi, shownPath } from "./api.ts";
import type { PackageEntry } from "./wire.ts";

/** Entries that are kept of folders listed before. */
const KEPT_ENTRIES = 50_000;
/** As Linux follows links: more of them in one path lead in a circle. */
const MAX_LINKS = 40;

export type Folder = readonly PackageEntry[];

export class PackageTree {
  readonly #api: FaspexApi;
  /** By the run that asks, which its signal stands for: a later one is to see what has changed. */
  readonly #caches = new WeakMap<AbortSignal, { kept: number; readonly folders: Map<string, Folder> }>();

  constructor(api: FaspexApi) {
    this.#api = api;
  }

  /** What is in a folder, each name once. */
  async folder(path: readonly string[], context: SourceContext): Promise<Folder> {
    const cache = this.#caches.get(context.signal) ?? { kept: 0, folders: new Map<string, Folder>() };
    this.#caches.set(context.signal, cache);
    const key = path.join("/");
    const known = cache.folders.get(key);
    if (known) return known;
    const found = new Map<string, PackageEntry>();
    for await (const entry of this.#api.browse(path, context)) found.set(entry.path.at(-1) ?? "", entry);
    const folder = [...found.values()];
    cache.folders.set(key, folder);
    cache.kept += folder.length;
    for (const [old, { length }] of cache.folders) {
      if (cache.kept <= KEPT_ENTRIES || old === key) break;
      cache.folders.delete(old);
      cache.kept -= length;
    }
    return folder;
  }

  /** The entry at a path, as the package spells it. Throws `unknown-name`, with near matches. */
  async find(path: readonly string[], context: SourceContext): Promise<PackageEntry> {
    let entry: PackageEntry = { path: [], type: "folder", bytes: null, mtime: null, isLink: false };
    for (const name of path) {
      if (entry.type === "file") {
        throw new RunError(
          "unknown-name",
          `${this.#api.subject}: ${shownPath(entry.path)} is a file, and holds no ${JSON.stringify(name)}`,
        );
      }
      const folder = await this.folder(entry.path, context);
      const named = (spelt: (text: string) => string): PackageEntry | undefined => {
        const same = folder.filter((each) => spelt(nameOf(each)) === spelt(name));
        return same.length === 1 ? same[0] : undefined;
      };
      const next =
        folder.find((each) => nameOf(each) === name) ??
        // A terminal may spell an umlaut in another way than the server does.
        named((text) => text.normalize("NFC")) ??
        named((text) => text.normalize("NFC").toLowerCase());
      if (!next) {
        const near = nearMatches(name, folder.map(nameOf));
        throw new RunError(
          "unknown-name",
          `${this.#api.subject} has no ${JSON.stringify(name)} in ${shownPath(entry.path)}`,
          {
            hint:
              near.length > 0
                ? `did you mean ${near.map((each) => JSON.stringify(formatPath([...entry.path, each]))).join(", ")}?`
                : "list what is there: gantry ls LINK [PATH]",
          },
        );
      }
      entry = next;
    }
    return entry;
  }

  /**
   * Every file at or below an entry, links followed into what they lead to. `enter` is told of each folder before its
   * files. A link that leads back to a folder it is in is told by `onLoop` and left out.
   */
  async *files(
    entry: PackageEntry,
    on: {
      readonly enter?: (path: readonly string[], folder: Folder) => Promise<void>;
      readonly loop: (path: readonly string[]) => void;
    },
    context: SourceContext,
  ): AsyncGenerator<PackageEntry> {
    if (await this.#isFile(entry, context)) {
      yield entry;
      return;
    }
    const above: string[] = [];
    for (let depth = 0; depth < entry.path.length; depth += 1)
      above.push(printOf(await this.folder(entry.path.slice(0, depth), context)));
    const queue: Place[] = [{ entry, above, links: 0 }];
    for (let place = queue.shift(); place; place = queue.shift()) {
      context.signal.throwIfAborted();
      const { path, isLink } = place.entry;
      const folder = await this.folder(path, context);
      const print = printOf(folder);
      if (isLink && ((print !== "" && place.above.includes(print)) || place.links >= MAX_LINKS)) {
        on.loop(path);
        continue;
      }
      await on.enter?.(path, folder);
      const below: Place[] = [];
      for (const each of folder) {
        if (await this.#isFile(each, context)) yield each;
        else
          below.push({
            entry: each,
            above: [...place.above, print],
            links: place.links + (each.isLink ? 1 : 0),
          });
      }
      // Depth first: what waits is the folders beside the path, not a whole level of the tree.
      queue.unshift(...below);
    }
  }

  /** Of a link that does not say what it leads to: a folder is what has entries. */
  async #isFile(entry: PackageEntry, context: SourceContext): Promise<boolean> {
    if (entry.type !== "unknown") return entry.type === "file";
    if (entry.bytes !== null) return true;
    try {
      return (await this.folder(entry.path, context)).length === 0;
    } catch (error) {
      if (!(error instanceof RunError) || error.exit >= 130) throw error;
      return true;
    }
  }
}

interface Place {
  readonly entry: PackageEntry;
  /** What the folders on the way to it hold, see `printOf`. */
  readonly above: readonly string[];
  /** How many links are on the way to it, itself included. */
  readonly links: number;
}

/**
 * What a folder holds, as text to compare: where a link leads is told in paths of the server's own, or not at all, but a
 * folder that is met again holds the same again. An empty one is like no other.
 */
function printOf(folder: Folder): string {
  if (folder.length === 0) return "";
  const lines = folder.map((each) => JSON.stringify([nameOf(each), each.type, each.bytes, each.mtime]));
  return hashBytes("md5", lines.sort().join("\n"));
}

const nameOf = (entry: PackageEntry): string => entry.path.at(-1) ?? "";
