/** `--prune`: files in a selection's own folders that no receipt knows go to quarantine. */
import { rename } from "node:fs/promises";
import { dirname, join, posix } from "node:path";
import { ensureFolder, onDisk, syncFolder } from "../lib/durable-file.ts";
import { compareKeys, ExternalSort } from "../lib/external-sort.ts";
import type { Item } from "../model/item.ts";
import { readExpected, type SelectionFile } from "../state/selections.ts";
import type { StateFolder } from "../state/state-folder.ts";
import { readCompanions, readStates } from "./held.ts";
import { joinStates } from "./planning.ts";
import { listStrays } from "./strays.ts";

export interface PruneOptions {
  /** Absolute path of this run's quarantine. */
  readonly quarantine: string;
  readonly temporary: () => Promise<string>;
  readonly onPruned: (path: string) => Promise<void>;
}

/** Only the folders of the selections' items are looked at, and the target folder itself is none of them. */
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
    for await (const { current } of readStates(state, temporary))
      for (const file of current.files) yield file.path;
  }
  const folders = new ExternalSort({ folder: temporary, unique: true });
  const strays = new ExternalSort({ folder: temporary });
  try {
    for await (const { state: found } of joinStates(expected(), readStates(state, temporary))) {
      for (const file of found?.current.files ?? []) {
        const folder = posix.dirname(file.path);
        if (folder !== ".") await folders.push(folder, folder);
      }
    }
    for await (const path of listStrays(state.dir, known(), temporary))
      await strays.push(posix.dirname(path), path);
    const own = folders.sorted();
    let folder = await own.next();
    for await (const path of strays.sorted()) {
      const at = posix.dirname(path);
      while (!folder.done && compareKeys(folder.value, at) < 0) folder = await own.next();
      if (folder.done) break;
      if (folder.value !== at) continue;
      const to = join(options.quarantine, path);
      await ensureFolder(dirname(to));
      await onDisk({ operation: "move to quarantine", path }, () => rename(join(state.dir, path), to));
      await syncFolder(dirname(to));
      await options.onPruned(path);
    }
    await own.return(undefined);
  } finally {
    await folders.close();
    await strays.close();
  }
}
