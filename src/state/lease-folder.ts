/** `.gantry/leases/ARRAY/`: the leases of one array as files, also where many machines share the disk. */
import { link, opendir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { RunError } from "../errors.ts";
import { makeFolder, onDisk, writeFileDurably } from "../lib/durable-file.ts";
import { checkHeader } from "../model/receipt.ts";
import { doneName, type LeaseStore, leaseName, parseLeaseName, type SliceDone } from "./leases.ts";
import { readNames, type StateFolder } from "./state-folder.ts";

const LEASE_KIND = "gantry-lease";
const DONE_KIND = "gantry-slice-done";
const VERSION = 1;

export const leasesPath = (state: StateFolder, array: string): string => state.path("leases", array);

/** `temporary`: an existing folder of this run's own, on the same disk. */
export function openLeaseFolder(state: StateFolder, array: string, temporary: string): LeaseStore {
  const folder = leasesPath(state, array);
  let made = 0;
  return {
    names: () => readNames(folder),
    exists: async (name) => {
      await revalidate(folder);
      return stat(join(folder, name)).then(
        () => true,
        () => false,
      );
    },
    take: async (name, holder) => {
      made += 1;
      const temp = join(temporary, `lease-${made}`);
      await makeFolder(temporary, { mode: 0o700 });
      const path = join(folder, name);
      return onDisk({ operation: "create", path }, async () => {
        await writeFile(temp, `${JSON.stringify({ kind: LEASE_KIND, version: VERSION, run: holder })}\n`);
        try {
          return await linkOnce(temp, path);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
          throw new RunError("array-over", `array ${array} of ${state.dir} is over`);
        } finally {
          await rm(temp, { force: true });
        }
      });
    },
    holder: async (name) => {
      const path = join(folder, name);
      const text = await readFile(path, "utf8").catch(() => null);
      return text === null || text === "" ? null : String(checkHeader(text, LEASE_KIND, VERSION, path).run);
    },
    finish: async (slice, done) => {
      const path = join(folder, doneName(slice));
      await writeFileDurably(path, `${JSON.stringify({ kind: DONE_KIND, version: VERSION, ...done })}\n`, {
        temporaryIn: temporary,
      });
      for (let generation = 1; generation <= done.generation; generation += 1)
        await rm(join(folder, leaseName(slice, generation)), { force: true });
    },
    remove: (name) => rm(join(folder, name), { force: true }),
  };

  /** NFS keeps names that were absent; opening the folder makes it ask whether the folder changed (close-to-open). */
  async function revalidate(path: string): Promise<void> {
    await opendir(path).then(
      (opened) => opened.close(),
      () => undefined,
    );
  }

  /** Over NFS the reply may be lost and the link be made all the same: then the file has two names (open(2), O_EXCL). */
  async function linkOnce(from: string, to: string): Promise<boolean> {
    try {
      await link(from, to);
      return true;
    } catch (error) {
      if ((await stat(from)).nlink === 2) return true;
      if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
      throw error;
    }
  }
}

/** What is known of every slice: how it ended, or how often it was taken. */
export async function readSlices(
  state: StateFolder,
  array: string,
): Promise<{ readonly done: ReadonlyMap<number, SliceDone>; readonly taken: ReadonlyMap<number, number> }> {
  const folder = leasesPath(state, array);
  const done = new Map<number, SliceDone>();
  const taken = new Map<number, number>();
  for (const name of await readNames(folder)) {
    const lease = parseLeaseName(name);
    if (lease === null) continue;
    if (Number.isFinite(lease.generation)) {
      taken.set(lease.slice, Math.max(lease.generation, taken.get(lease.slice) ?? 0));
      continue;
    }
    const path = join(folder, name);
    const text = await onDisk({ operation: "read", path }, () => readFile(path, "utf8"));
    done.set(lease.slice, checkHeader(text, DONE_KIND, VERSION, path) as unknown as SliceDone);
  }
  return { done, taken };
}
