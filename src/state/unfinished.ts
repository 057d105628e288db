/** Folders for unfinished data: this run's own, and what dead runs left. */
import { createHash } from "node:crypto";
import { rm, rmdir } from "node:fs/promises";
import { hostname } from "node:os";
import { basename, join, resolve } from "node:path";
import { makeFolder, onDisk } from "../lib/durable-file.ts";
import { Leftovers } from "./leftovers.ts";
import { livesHere, readLiveRuns, readRuns, type SeenRun } from "./runs.ts";
import { readNames, type StateFolder } from "./state-folder.ts";

export interface Unfinished {
  /** On the disk of the target folder. */
  readonly partial: string;
  /** On the disk that `--scratch` names, else null. */
  readonly scratch: string | null;
  /** For what a source can resume: this run's own, on the scratch disk if there is one. May not exist. */
  readonly resumable: string;
  /** What other runs left of the same kind. */
  readonly leftovers: Leftovers;
  /** Removes all that any run left to be resumed, of whatever item. */
  forget(): Promise<void>;
  /** Removes this run's folders. `whole`: nothing is left to resume either, unless another run is at work. */
  remove(options: { readonly whole: boolean }): Promise<void>;
}

const RESUMABLE = "resumable";

/** Makes this run's folders and removes those of runs that are dead. Throws `disk-…`. */
export async function openUnfinished(
  state: StateFolder,
  run: string,
  { scratch: scratchBase }: { readonly scratch?: string | undefined } = {},
): Promise<Unfinished> {
  const scratchHome = scratchBase === undefined ? null : join(resolve(scratchBase), scratchName(state));
  await removeOldScratch(state, scratchHome);
  const homes = [state.path("partial"), ...(scratchHome === null ? [] : [scratchHome])];
  // Names before runs: whoever begins in between tells the folder of itself before it makes anything here.
  const found: string[] = [];
  for (const home of homes) for (const name of await readNames(home)) found.push(join(home, name));
  const live = await readLiveRuns(state);
  for (const path of found) {
    const name = basename(path);
    // A run's own folder, and the next text of its heartbeat.
    const owned = [...live].some((each) => name.startsWith(each));
    if (!owned && name !== RESUMABLE) await rm(path, { recursive: true, force: true });
  }
  const partial = state.path("partial", run);
  const scratch = scratchHome === null ? null : join(scratchHome, run);
  for (const path of [partial, ...(scratch === null ? [] : [scratch])]) {
    await makeFolder(path, { mode: 0o700 });
  }
  const pool = join(scratchHome ?? state.path("partial"), RESUMABLE);
  const resumable = join(pool, run);
  const forget = (): Promise<void> =>
    onDisk({ operation: "delete", path: pool }, () => rm(pool, { recursive: true, force: true }));
  return {
    partial,
    scratch,
    resumable,
    leftovers: await Leftovers.open(state, { pool, run, temporary: scratch ?? partial }),
    forget,
    remove: async ({ whole }) => {
      await rm(partial, { recursive: true, force: true });
      if (scratch !== null) await rm(scratch, { recursive: true, force: true });
      const alone = [...(await readLiveRuns(state))].every((name) => name === run);
      if (whole && alone) await forget();
      // What is unfinished keeps them.
      for (const path of [resumable, pool, ...(scratchHome === null ? [] : [scratchHome])])
        await rmdir(path).catch(() => undefined);
    },
  };
}

/**
 * What dead runs of this machine left on other scratch disks than the one in use. A record may be anybody's who can write
 * to the folder: nothing but this folder's share of what it names is removed.
 */
async function removeOldScratch(state: StateFolder, scratchHome: string | null): Promise<void> {
  const runs = (await readRuns(state)).filter(
    ({ host, scratch }) => scratch !== undefined && host === hostname(),
  );
  const homeOf = ({ scratch }: SeenRun): string => join(resolve(scratch ?? ""), scratchName(state));
  const inUse = new Set(runs.filter((each) => each.exit === null && livesHere(each) !== false).map(homeOf));
  for (const home of new Set(runs.map(homeOf)))
    if (home !== scratchHome && !inUse.has(home)) await rm(home, { recursive: true, force: true });
}

/** One target folder's share of a scratch folder that others use, too. */
function scratchName(state: StateFolder): string {
  return `gantry-${createHash("sha256").update(`${hostname()}\u0000${state.dir}`).digest("hex").slice(0, 16)}`;
}
