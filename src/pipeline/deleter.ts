/** Deletes files of a folder and the folders that become empty; never follows a link out of it. */
import { lstat, rmdir, unlink } from "node:fs/promises";
import { join, posix } from "node:path";
import { RunError } from "../errors.ts";
import { onDisk, syncFolder } from "../lib/durable-file.ts";

/**
 * Deletes below one folder. Fastest when paths come sorted: a parent is then checked and emptied once, and a folder that
 * loses many children is synced once, when the paths leave it. Close it.
 */
export class Deleter {
  readonly #dir: string;
  #parent: string | null = null;
  /** Folders that lost a name since they were last synced: only such as are on the way to the parent in hand. */
  readonly #unsynced = new Set<string>();

  /** `dir` itself stays, whatever becomes of it. */
  constructor(dir: string) {
    this.#dir = dir;
  }

  /**
   * Deletes the file (or the link itself) at `path`, relative to the folder, `/` between segments. False when nothing
   * is there. Throws `disk-permission` when a folder on the way is a link, `disk-…`.
   */
  async delete(path: string): Promise<boolean> {
    const parent = posix.dirname(path);
    if (parent !== this.#parent) {
      const before = this.#parent;
      await this.#leave(parent);
      await this.#refuseLinks(parent, before);
      this.#parent = parent;
    }
    const target = join(this.#dir, path);
    return onDisk({ operation: "delete", path: target }, async () => {
      try {
        await unlink(target);
        return true;
      } catch (error) {
        if (isCode(error, "ENOENT", "ENOTDIR")) return false;
        throw error;
      }
    });
  }

  /** Removes the last parents as far as they are empty, and makes it all durable. Throws `disk-…`. */
  async close(): Promise<void> {
    await this.#leave(null);
  }

  /** Removes parents that are empty, and syncs the folders that are not on the way to `next`. */
  async #leave(next: string | null): Promise<void> {
    let folder = this.#parent;
    this.#parent = null;
    if (folder !== null) {
      while (folder !== "." && (await removeEmpty(join(this.#dir, folder)))) folder = posix.dirname(folder);
      this.#unsynced.add(folder);
    }
    for (const each of [...this.#unsynced]) {
      if (next !== null && isOnTheWay(each, next)) continue;
      this.#unsynced.delete(each);
      // One that is gone was a name in a folder that is synced later.
      if (await isFolder(join(this.#dir, each))) await syncFolder(join(this.#dir, each));
    }
  }

  /** `checked`: a folder that was looked at just now; what both share needs no second look. */
  async #refuseLinks(folder: string, checked: string | null): Promise<void> {
    if (folder === ".") return;
    let at = ".";
    for (const segment of folder.split("/")) {
      at = posix.join(at, segment);
      if (checked !== null && isOnTheWay(at, checked)) continue;
      const path = join(this.#dir, at);
      if ((await lstat(path).catch(() => null))?.isSymbolicLink()) {
        throw new RunError("disk-permission", `${path} is a symbolic link; nothing is deleted through it`, {
          at: { path },
          hint: "delete what is behind it yourself, remove the link, then run the same command again",
        });
      }
    }
  }
}

/** Whether `folder` is `path` or above it. */
const isOnTheWay = (folder: string, path: string): boolean =>
  folder === "." || path === folder || path.startsWith(`${folder}/`);

/** True when the folder is gone. */
async function removeEmpty(path: string): Promise<boolean> {
  try {
    await rmdir(path);
    return true;
  } catch (error) {
    // ENOTDIR: a file has taken the folder's name.
    return isCode(error, "ENOENT", "ENOTDIR");
  }
}

const isFolder = (path: string): Promise<boolean> =>
  lstat(path).then(
    (facts) => facts.isDirectory(),
    () => false,
  );

const isCode = (error: unknown, ...codes: string[]): boolean =>
  codes.includes((error as NodeJS.ErrnoException).code ?? "");
