/**
 * Where the archive files of a target folder are: finished ones in the folder itself, unfinished ones in
 * `.gantry/packing/<name of the archive>/<run that writes it>`.
 */
import { copyFile, lstat, mkdir, rename, rm, rmdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { RunError } from "../../errors.ts";
import { ensureFolder, onDisk, syncFolder } from "../../lib/durable-file.ts";
import { indexPath } from "../../model/receipt.ts";
import { readNames, type StateFolder } from "../../state/state-folder.ts";
import { type Codec, openCodec, type PackFormat } from "./codec.ts";
import { Shard } from "./shard.ts";

/** An archive file that nobody has finished. */
export interface Unpublished {
  readonly archive: string;
  readonly path: string;
  readonly run: string;
}

/** More would be a mistake, and names have five digits. */
const MOST_SHARDS = 100_000;

export class Shelf {
  readonly dir: string;
  readonly codec: Codec;
  readonly #packing: string;
  /** Where a run puts what is no archive yet; goes with its other unfinished data. */
  readonly #temporary: (run: string) => string;
  readonly #base: string;

  constructor(state: StateFolder, format: PackFormat, base: string) {
    this.dir = state.dir;
    this.codec = openCodec(format);
    this.#packing = state.path("packing");
    this.#temporary = (run) => state.path("partial", `${run}-taken`);
    this.#base = base;
  }

  /** What the archive file is called that is the only one. */
  get whole(): string {
    return `${this.#base}.${this.codec.format}`;
  }

  /** Opens an archive to grow; a finished one becomes an unfinished one of this run again. Throws `disk-…`. */
  async reopen(run: string, archive: string): Promise<Shard> {
    const folder = join(this.#packing, archive);
    const path = join(folder, run);
    if ((await this.published()).includes(archive)) {
      await ensureFolder(folder);
      const finished = join(this.dir, archive);
      await onDisk({ operation: "rename", path: finished }, () => rename(finished, path));
      for (const each of [folder, this.dir]) await syncFolder(each);
      const index = join(this.dir, indexPath(archive));
      await onDisk({ operation: "delete", path: index }, () => rm(index, { force: true }));
    }
    return Shard.open(archive, path, this.codec);
  }

  /** Whether anything has the name of an archive, ours or not. */
  async isTaken(archive: string): Promise<boolean> {
    for (const path of [join(this.dir, archive), join(this.#packing, archive)])
      if (await lstat(path).catch(() => null)) return true;
    return false;
  }

  /** The file of an archive, finished or not; null when there is none. */
  async locate(archive: string): Promise<string | null> {
    const finished = join(this.dir, archive);
    if ((await stat(finished).catch(() => null))?.isFile()) return finished;
    for (const each of await this.#unpublishedOf(archive)) return each.path;
    return null;
  }

  async unpublished(): Promise<readonly Unpublished[]> {
    const found: Unpublished[] = [];
    for (const archive of await readNames(this.#packing)) found.push(...(await this.#unpublishedOf(archive)));
    return found;
  }

  /** Whether any name is taken by what is unfinished. */
  async isPacking(): Promise<boolean> {
    return (await readNames(this.#packing)).length > 0;
  }

  /** Frees the names of archives of which a dead run had made no more than the folder. */
  async freeNames(): Promise<void> {
    for (const archive of await readNames(this.#packing))
      await rmdir(join(this.#packing, archive)).catch(() => undefined);
    await rmdir(this.#packing).catch(() => undefined);
  }

  async #unpublishedOf(archive: string): Promise<readonly Unpublished[]> {
    const folder = join(this.#packing, archive);
    return (await readNames(folder)).map((run) => ({ archive, path: join(folder, run), run }));
  }

  /** Makes an unfinished archive of a dead run this run's; `copied`: in another file, which the dead run has not open. */
  async takeOver(
    { archive, path }: Unpublished,
    run: string,
    { copied }: { readonly copied: boolean },
  ): Promise<Unpublished> {
    const mine = join(dirname(path), run);
    await onDisk({ operation: "rename", path }, async () => {
      if (copied) {
        await copyFile(path, this.#temporary(run));
        await rename(this.#temporary(run), path);
      }
      await rename(path, mine);
    });
    return { archive, path: mine, run };
  }

  open({ archive, path }: Unpublished): Promise<Shard> {
    return Shard.open(archive, path, this.codec);
  }

  /** A new archive file under a name that no other has; `numbered`: one of many. Throws `disk-…`. */
  async create(
    run: string,
    {
      numbered,
      digits = 5,
      avoid,
    }: {
      readonly numbered: boolean;
      readonly digits?: number | undefined;
      /** Names that are not to be taken. */
      readonly avoid?: ReadonlySet<string>;
    },
  ): Promise<Shard> {
    await ensureFolder(this.#packing);
    for (let number = numbered ? 0 : -1; number < MOST_SHARDS; number += 1) {
      const mark = `-${String(number).padStart(digits, "0")}`;
      const archive = number < 0 ? this.whole : `${this.#base}${mark}.${this.codec.format}`;
      if (avoid?.has(archive) || (await stat(join(this.dir, archive)).catch(() => null))) continue;
      const folder = join(this.#packing, archive);
      const made = await onDisk({ operation: "make folder", path: folder }, () =>
        mkdir(folder).then(
          () => true,
          (error: NodeJS.ErrnoException) => {
            if (error.code !== "EEXIST") throw error;
            return false;
          },
        ),
      );
      if (!made) continue;
      await syncFolder(this.#packing);
      // Another run that settles may have taken it for left over.
      await ensureFolder(folder);
      const shard = await Shard.open(archive, join(folder, run), this.codec);
      await syncFolder(folder);
      return shard;
    }
    throw new RunError("disk-error", `${this.dir} holds ${MOST_SHARDS} archive files of one name`);
  }

  /** Gives a finished archive its name in the folder; the file must be synced. */
  async publish({ archive, path }: Unpublished): Promise<void> {
    const target = join(this.dir, archive);
    await onDisk({ operation: "rename", path: target }, () => rename(path, target));
    await syncFolder(this.dir);
    await this.#forget(path);
  }

  /** Finished archives that are called as this folder's are; without an index it is somebody else's file. */
  async published(): Promise<readonly string[]> {
    const names = await readNames(this.dir);
    return names.filter((name) => this.#isCalledSo(name) && names.includes(indexPath(name)));
  }

  /** Whether a finished archive may be without its index; one that is somebody else's is, too. */
  async lacksIndex(): Promise<boolean> {
    const names = await readNames(this.dir);
    return names.some((name) => this.#isCalledSo(name) && !names.includes(indexPath(name)));
  }

  #isCalledSo(name: string): boolean {
    const ending = `.${this.codec.format}`;
    if (!name.startsWith(this.#base) || !name.endsWith(ending)) return false;
    return /^(-\d{5,6})?$/u.test(name.slice(this.#base.length, -ending.length));
  }

  /** Deletes a finished archive and its index. */
  async remove(archive: string): Promise<void> {
    for (const name of [archive, indexPath(archive)]) {
      const path = join(this.dir, name);
      await onDisk({ operation: "delete", path }, () => rm(path, { force: true }));
    }
    await syncFolder(this.dir);
  }

  async discard({ path }: Unpublished): Promise<void> {
    await onDisk({ operation: "delete", path }, () => rm(path, { force: true }));
    await this.#forget(path);
  }

  async #forget(path: string): Promise<void> {
    for (const folder of [dirname(path), this.#packing]) await rmdir(folder).catch(() => undefined);
  }
}
