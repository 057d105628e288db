/**
 * `--prune`: files that no receipt knows go to quarantine. In the folders of a selection's items that is every such
 * file; elsewhere, and in the target folder itself, only copies: files that say they are of an item that is stored.
 */
import { randomBytes } from "node:crypto";
import { lstat, rename } from "node:fs/promises";
import { dirname, join, posix } from "node:path";
import { RunError } from "../errors.ts";
import { ensureFolder, onDisk, syncFolder } from "../lib/durable-file.ts";
import { compareKeys, ExternalSort } from "../lib/external-sort.ts";
import type { Item } from "../model/item.ts";
import { diskPaths } from "../model/receipt.ts";
import type { ForeignFiles } from "../sources/source.ts";
import { readExpected, type SelectionFile } from "../state/selections.ts";
import type { StateFolder } from "../state/state-folder.ts";
import { lookAt } from "./foreign.ts";
import { readCompanions, readStates } from "./held.ts";
import { isStored } from "./plan.ts";
import { joinStates } from "./planning.ts";
import { listStrays } from "./strays.ts";

/** Takes a file (relative to `dir`) out of the way; what is there under its name already stays, too. */
export async function moveToQuarantine(dir: string, path: string, quarantine: string): Promise<void> {
  let to = join(quarantine, path);
  if (await lstat(to).catch(() => null)) to += `~${randomBytes(4).toString("hex")}`;
  await ensureFolder(dirname(to));
  await onDisk({ operation: "move to quarantine", path }, () => rename(join(dir, path), to));
  await syncFolder(dirname(to));
}

export interface PruneOptions {
  /** Absolute path of this run's quarantine. */
  readonly quarantine: string;
  readonly temporary: () => Promise<string>;
  /** How copies are recognised. */
  readonly foreign: readonly ForeignFiles[];
  readonly onPruned: (path: string) => Promise<void>;
}

export async function pruneFolders(
  state: StateFolder,
  selections: readonly SelectionFile[],
  options: PruneOptions,
): Promise<void> {
  const { temporary } = options;
  async function* expected(): AsyncGenerator<Item> {
    for await (const { item } of readExpected(selections)) yield item;
  }
  async function* known(): AsyncGenerator<string> {
    yield* await readCompanions(state);
    for await (const { current } of readStates(state, temporary)) yield* diskPaths(current.files);
  }
  const folders = new ExternalSort({ folder: temporary, unique: true });
  const strays = new ExternalSort({ folder: temporary });
  const copies = new ExternalSort({ folder: temporary });
  try {
    for await (const { state: found } of joinStates(expected(), readStates(state, temporary))) {
      for (const file of found?.current.files ?? []) {
        const folder = posix.dirname(file.path);
        if (folder !== ".") await folders.push(folder, folder);
      }
    }
    for await (const path of listStrays(state.dir, known(), temporary))
      await strays.push(posix.dirname(path), path);
    const prune = async (path: string): Promise<void> => {
      await moveToQuarantine(state.dir, path, options.quarantine);
      await options.onPruned(path);
    };
    const own = folders.sorted();
    let folder = await own.next();
    for await (const path of strays.sorted()) {
      const at = posix.dirname(path);
      while (!folder.done && compareKeys(folder.value, at) < 0) folder = await own.next();
      if (!folder.done && folder.value === at) {
        await prune(path);
        continue;
      }
      const file = await lookAt(join(state.dir, path), path, options.foreign).catch(unreadable);
      for (const { item, part } of file?.claims ?? []) {
        if (part !== null) await copies.push(item, JSON.stringify([item, path]));
      }
    }
    await own.return(undefined);
    const states = joinStates(expected(), readStates(state, temporary));
    let pair = await states.next();
    for await (const line of copies.sorted()) {
      const [item, path] = JSON.parse(line) as [item: string, path: string];
      while (!pair.done && compareKeys(pair.value.item.id, item) < 0) pair = await states.next();
      if (pair.done) break;
      if (pair.value.item.id !== item || !isStored(pair.value.state)) continue;
      // A file may say that it is of a series and that it is one image, and both may be stored.
      if (await lstat(join(state.dir, path)).catch(() => null)) await prune(path);
    }
    await states.return(undefined);
  } finally {
    await folders.close();
    await strays.close();
    await copies.close();
  }
}

/** What can't be read can't be called a copy. */
function unreadable(error: unknown): null {
  if (error instanceof RunError && error.code.startsWith("disk-")) return null;
  throw error;
}
