/**
 * What runs left half-fetched, and how another run goes on with it. Each run writes into a folder of its own,
 * `resumable/RUN/`, and takes what others left over into that, item by item: so no two that may be alive ever write to
 * one file, however late somebody who was believed dead wakes.
 *
 * Of a run that is surely over its files are moved. One that was given up for dead on another host may have them open,
 * and goes on writing to them wherever they are called: of its part files what is surely on the disk is copied, and all
 * that it has of the item is removed, so that it writes to what has no name any more.
 */
import type { Dirent } from "node:fs";
import { readdir, rename, rm, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { makeFolder, onDisk } from "../lib/durable-file.ts";
import { copyPart } from "../lib/part-file.ts";
import { type Item, scratchName, scratchNameOf } from "../model/item.ts";
import { readLife } from "./runs.ts";
import { readNames, type StateFolder } from "./state-folder.ts";

export interface LeftoversOptions {
  /** The folder that has one for each run. May not exist. */
  readonly pool: string;
  readonly run: string;
  /** A folder of this run's own on the disk of `pool`. */
  readonly temporary: string;
}

/** By item (`scratchName`), of one run: paths below its folder. */
type Left = ReadonlyMap<string, readonly string[]>;

export class Leftovers {
  readonly #state: StateFolder;
  readonly #options: LeftoversOptions;
  /** Of the runs that had left something when this one began. */
  readonly #found = new Map<string, Left>();

  private constructor(state: StateFolder, options: LeftoversOptions) {
    this.#state = state;
    this.#options = options;
  }

  static async open(state: StateFolder, options: LeftoversOptions): Promise<Leftovers> {
    const leftovers = new Leftovers(state, options);
    for (const run of await readNames(options.pool))
      if (run !== options.run) leftovers.#found.set(run, await readLeft(join(options.pool, run)));
    return leftovers;
  }

  /**
   * What others left of an item that is this run's alone: the newest that can be gone on with comes into this run's
   * folder, the rest is removed. `before`: runs that had the item since this one began. Throws `disk-…`.
   */
  async takeOver(
    item: Item,
    before: readonly string[],
    { signal, onBytes }: { readonly signal: AbortSignal; readonly onBytes: (bytes: number) => void },
  ): Promise<void> {
    const { pool, run: self } = this.#options;
    const name = scratchName(item);
    const left = new Map<string, readonly string[]>();
    for (const [run, each] of this.#found) left.set(run, each.get(name) ?? []);
    for (const run of before) left.set(run, (await readLeft(join(pool, run))).get(name) ?? []);
    left.delete(self);
    let taken = false;
    // The names of runs sort by age.
    for (const run of [...left.keys()].sort().reverse()) {
      const paths = left.get(run) as readonly string[];
      if (paths.length === 0) continue;
      const life = await readLife(this.#state, run);
      if (life === "lives") continue;
      if (!taken && life === "gone") {
        // What it had not stored may be called there, too, and is gone on with only under its one name.
        const unfinished = join(dirname(pool), run);
        await onDisk({ operation: "delete", path: unfinished }, () =>
          rm(unfinished, { recursive: true, force: true }),
        );
        taken = await this.#move(run, paths);
      } else if (!taken && paths.includes(`${name}.part`))
        taken = await copyPart(name, {
          from: join(pool, run),
          to: join(pool, self),
          temporary: this.#options.temporary,
          ...{ signal, onBytes },
        });
      await this.#remove(run, paths);
    }
  }

  /** Whether there was anything. */
  async #move(run: string, paths: readonly string[]): Promise<boolean> {
    const { pool, run: self } = this.#options;
    let moved = false;
    for (const path of paths) {
      const [from, to] = [join(pool, run, path), join(pool, self, path)];
      await makeFolder(dirname(to), { mode: 0o700 });
      moved =
        (await onDisk({ operation: "rename", path: to }, () =>
          rename(from, to).then(
            () => true,
            (error: NodeJS.ErrnoException) => {
              if (error.code === "ENOENT") return false;
              throw error;
            },
          ),
        )) || moved;
    }
    return moved;
  }

  async #remove(run: string, paths: readonly string[]): Promise<void> {
    const home = join(this.#options.pool, run);
    for (const path of paths) {
      await onDisk({ operation: "delete", path: join(home, path) }, () =>
        rm(join(home, path), { recursive: true, force: true }),
      );
    }
    // Those that hold something of other items stay.
    for (const folder of new Set([...paths.map((path) => dirname(join(home, path))), home]))
      await rmdir(folder).catch(() => undefined);
  }
}

/** A source may keep the files of one archive in a folder together. Throws `disk-…`. */
async function readLeft(folder: string): Promise<Left> {
  const left = new Map<string, string[]>();
  const read = async (below: string): Promise<void> => {
    for (const entry of await entriesOf(join(folder, below))) {
      const name = scratchNameOf(entry.name);
      const path = join(below, entry.name);
      if (name !== null) left.set(name, [...(left.get(name) ?? []), path]);
      else if (below === "" && entry.isDirectory()) await read(path);
    }
  };
  await read("");
  return left;
}

/** Empty for what is no folder, or gone. */
async function entriesOf(folder: string): Promise<Dirent[]> {
  return onDisk({ operation: "list", path: folder }, () =>
    readdir(folder, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT" || error.code === "ENOTDIR") return [];
      throw error;
    }),
  );
}
