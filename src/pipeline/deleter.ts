/** Deletes files of a folder and the folders that become empty; never follows a link out of it. */
import { lstat, rmdir, unlink } from "node:fs/promises";
import { join, posix } from "node:path";
import { RunError } from "../errors.ts";
import { onDisk, syncFolder } from "../lib/durable-file.ts";

/** Deletes below one folder. Fastest when paths come sorted: a parent is checked, emptied and synced once. Close it. */
export class Deleter {
  readonly #dir: string;
  #parent: string | null = null;

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
      await this.close();
      await this.#refuseLinks(parent);
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
    if (this.#parent === null) return;
    let folder = this.#parent;
    this.#parent = null;
    while (folder !== "." && (await removeEmpty(join(this.#dir, folder)))) folder = posix.dirname(folder);
    if (await isFolder(join(this.#dir, folder))) await syncFolder(join(this.#dir, folder));
  }

  async #refuseLinks(folder: string): Promise<void> {
    if (folder === ".") return;
    let at = this.#dir;
    for (const segment of folder.split("/")) {
      at = join(at, segment);
      if ((await lstat(at).catch(() => null))?.isSymbolicLink()) {
        throw new RunError("disk-permission", `${at} is a symbolic link; nothing is deleted through it`, {
          at: { path: at },
          hint: "delete what is behind it yourself, remove the link, then run the same command again",
        });
      }
    }
  }
}

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
