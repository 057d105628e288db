/**
 * Loose files in a folder. Everything of an item is written and synced out of sight, then renamed into place:
 * a fresh folder by one rename, files of a folder that exists one by one.
 */
import { randomBytes } from "node:crypto";
import { closeSync, createReadStream, fstatSync, fsync, openSync, write, writeSync } from "node:fs";
import { link, lstat, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";
import { RunError } from "../errors.ts";
import { createHasher, type Digest, digestAlgorithm, hashFile } from "../lib/digest.ts";
import { ensureFolder, makeFolder, onDisk, syncFolder, writeAll } from "../lib/durable-file.ts";
import { compareKeys } from "../lib/external-sort.ts";
import type { Item } from "../model/item.ts";
import { filePath, type Place } from "../model/place.ts";
import type { StoredFile } from "../model/receipt.ts";
import { foldPath, type SafePath } from "../model/safe-path.ts";
import { assignPaths } from "./assign-paths.ts";
import type { ItemWriter, Sink, SinkOptions, Written } from "./sink.ts";

const HEAD_BYTES = 64 * 1024;
/** Syncs that may be under way for one item while its next files are written. */
const SYNCS = 32;
/** So much is gathered before it is synced. */
const SYNC_BYTES = 4 * 1024 * 1024;
/**
 * Up to this size a write, like opening and closing, is one synchronous call: handing it to the thread pool costs
 * several times what it does itself (measured: a fifth of the CPU of a run of 20 kB files).
 */
const SMALL_BYTES = 64 * 1024;
const writeLarge = promisify(write);
const syncFile = promisify(fsync);

interface Pending {
  readonly name: string;
  /** Where it lies until the commit. */
  readonly temp: string;
  readonly bytes: number;
  readonly digest: Digest;
  mtimeMs: number;
}

export interface FolderSinkOptions extends SinkOptions {
  /** Absolute path of the target folder. */
  readonly dir: string;
}

export function createFolderSink(options: FolderSinkOptions): Sink {
  let count = 0;
  return {
    begin: async (_item: Pick<Item, "id">, place: Place) => {
      count += 1;
      return FolderWriter.begin(options, place, `${count}`);
    },
    close: async () => {
      await rm(options.partial, { recursive: true, force: true });
      if (options.scratch) await rm(options.scratch, { recursive: true, force: true });
    },
  };
}

class FolderWriter implements ItemWriter {
  readonly #options: FolderSinkOptions;
  readonly #place: Place;
  readonly #folder: string;
  readonly #localFolder: string;
  readonly #files: Pending[] = [];
  readonly #syncs = new Set<Promise<void>>();
  readonly #names = new Set<string>();
  /** Names given that no file can have. */
  #hidden = 0;
  /** Written, but not yet synced and closed. */
  #unsynced: { readonly file: number; readonly pending: Pending }[] = [];
  #unsyncedBytes = 0;
  #syncFailure: { readonly error: unknown } | null = null;

  private constructor(options: FolderSinkOptions, place: Place, name: string) {
    this.#options = options;
    this.#place = place;
    this.#folder = join(options.scratch ?? options.partial, name);
    this.#localFolder = join(options.partial, name);
  }

  static async begin(options: FolderSinkOptions, place: Place, name: string): Promise<FolderWriter> {
    const writer = new FolderWriter(options, place, name);
    await makeFolder(writer.#folder);
    return writer;
  }

  async write(
    name: string,
    body: AsyncIterable<Uint8Array>,
    digest: () => Digest,
    finished?: string,
  ): Promise<Written> {
    const temp = join(this.#folder, this.#tempName(name));
    const linked = finished !== undefined && (await linkFile(finished, temp));
    // A file that is only read can be synced all the same.
    const flags = linked ? "r" : "wx";
    const file = await onDisk({ operation: "create", path: temp }, async () => openSync(temp, flags));
    let bytes = 0;
    try {
      for await (const chunk of body) {
        if (!linked) await onDisk({ operation: "write", path: temp }, () => writeChunk(file, chunk));
        bytes += chunk.length;
      }
    } catch (error) {
      closeQuietly(file);
      throw error;
    }
    const pending: Pending = { name, temp, bytes, digest: digest(), mtimeMs: 0 };
    this.#files.push(pending);
    this.#unsynced.push({ file, pending });
    this.#unsyncedBytes += bytes;
    if (this.#unsynced.length >= SYNCS || this.#unsyncedBytes >= SYNC_BYTES) await this.#sync();
    return { name, bytes, digest: pending.digest, head: () => readHead(temp) };
  }

  /** The final name where it is free, so that a fresh folder needs no further rename; else one no file can have. */
  #tempName(name: string): string {
    const { folder, file, prefix } = this.#place;
    const final = filePath(this.#place, name).slice((folder?.length ?? -1) + 1);
    const key = foldPath(final);
    const free = file === null && prefix === "" && !final.includes("/") && !this.#names.has(key);
    this.#names.add(key);
    // A safe name holds % only before two hex digits.
    this.#hidden += free ? 0 : 1;
    return free ? final : `%part-${this.#hidden}`;
  }

  /**
   * Syncs and closes behind the writer's back, several files together: then the threads that do it are woken
   * once, and the file system has one commit for all. Waits only when too many are under way.
   */
  async #sync(): Promise<void> {
    const files = this.#unsynced;
    this.#unsynced = [];
    this.#unsyncedBytes = 0;
    for (const { file, pending } of files) {
      const work = this.#syncOne(file, pending).catch((error: unknown) => {
        this.#syncFailure ??= { error };
      });
      const tracked = work.finally(() => this.#syncs.delete(tracked));
      this.#syncs.add(tracked);
    }
    while (this.#syncs.size > SYNCS) await Promise.race(this.#syncs);
  }

  async #syncOne(file: number, pending: Pending): Promise<void> {
    await onDisk({ operation: "sync", path: pending.temp }, async () => {
      try {
        // What lies in scratch is copied and synced at its destination.
        if (this.#options.scratch === null) await syncFile(file);
        pending.mtimeMs = Math.trunc(fstatSync(file).mtimeMs);
      } finally {
        closeSync(file);
      }
    });
  }

  async commit(
    replaced: readonly StoredFile[],
    aside: readonly string[] = [],
    names: ReadonlyMap<string, string> = new Map(),
  ): Promise<{ files: readonly StoredFile[]; quarantined: readonly string[] }> {
    await this.#sync();
    await Promise.all(this.#syncs);
    if (this.#syncFailure) throw this.#syncFailure.error;
    if (this.#options.scratch) await this.#copyFromScratch();
    for (const [index, file] of this.#files.entries())
      this.#files[index] = { ...file, name: names.get(file.name) ?? file.name };
    const paths = await assignPaths(
      this.#place,
      this.#files.map(({ name, temp }) => ({ name, head: () => readHead(temp) })),
    );
    const target =
      this.#place.folder === null ? this.#options.dir : join(this.#options.dir, this.#place.folder);
    await this.#refuseLinks(this.#place.folder);
    const quarantined: string[] = [];
    for (const path of aside) {
      await this.#refuseLinks(dirname(path));
      await this.#quarantine(path, quarantined);
    }
    if (this.#files.length > 0 && !(await this.#renameWhole(target, paths))) {
      await this.#renameEach(paths, quarantined);
    }
    const kept = new Set<string>(paths);
    for (const old of replaced) {
      if (!kept.has(old.path)) await this.#quarantine(old.path, quarantined);
    }
    await rm(this.#localFolder, { recursive: true, force: true });
    const files = this.#files.map((file, index) => ({
      path: paths[index] as string,
      bytes: file.bytes,
      digest: file.digest,
      mtimeMs: file.mtimeMs,
    }));
    return { files: files.sort((a, b) => compareKeys(a.path, b.path)), quarantined };
  }

  async abort(): Promise<void> {
    for (const { file } of this.#unsynced) closeQuietly(file);
    this.#unsynced = [];
    await Promise.all(this.#syncs);
    await rm(this.#folder, { recursive: true, force: true }).catch(() => undefined);
    if (this.#localFolder !== this.#folder) {
      await rm(this.#localFolder, { recursive: true, force: true }).catch(() => undefined);
    }
  }

  /** A fresh item's folder appears by one rename. False when it can't: then files go one by one. */
  async #renameWhole(target: string, paths: readonly SafePath[]): Promise<boolean> {
    const { folder, file, prefix } = this.#place;
    if (folder === null || file !== null || prefix !== "") return false;
    const names = paths.map((path) => path.slice(folder.length + 1));
    if (names.some((name) => name.includes("/"))) return false;
    if (await exists(target)) return false;
    for (const [index, pending] of this.#files.entries()) {
      const named = join(this.#localFolder, names[index] as string);
      if (named === pending.temp) continue;
      await onDisk({ operation: "rename", path: named }, () => rename(pending.temp, named));
    }
    await syncFolder(this.#localFolder);
    await ensureFolder(dirname(target));
    await onDisk({ operation: "rename", path: target }, () => rename(this.#localFolder, target));
    await syncFolder(dirname(target));
    return true;
  }

  async #renameEach(paths: readonly SafePath[], quarantined: string[]): Promise<void> {
    const folders = new Set<string>();
    for (const [index, pending] of this.#files.entries()) {
      const path = paths[index] as SafePath;
      const target = join(this.#options.dir, path);
      folders.add(dirname(target));
      await this.#refuseLinks(dirname(path) as SafePath);
      await ensureFolder(dirname(target));
      if ((await exists(target)) && !(await sameContent(target, pending)))
        await this.#quarantine(path, quarantined);
      await onDisk({ operation: "rename", path: target }, () => rename(pending.temp, target));
    }
    for (const folder of folders) await syncFolder(folder);
  }

  async #copyFromScratch(): Promise<void> {
    await makeFolder(this.#localFolder);
    for (const [index, pending] of this.#files.entries()) {
      const temp = join(this.#localFolder, basename(pending.temp));
      const mtimeMs = await copyProved(pending, temp);
      this.#files[index] = { ...pending, temp, mtimeMs };
    }
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #quarantine(path: string, quarantined: string[]): Promise<void> {
    const from = join(this.#options.dir, path);
    if (!(await exists(from))) return;
    let to = join(this.#options.quarantine, path);
    if (await exists(to)) to += `~${randomBytes(4).toString("hex")}`;
    await ensureFolder(dirname(to));
    await onDisk({ operation: "move to quarantine", path: from }, () => rename(from, to));
    await syncFolder(dirname(to));
    quarantined.push(path);
  }

  /** No component of the target below its root may be a link: links are never followed out of it. */
  async #refuseLinks(folder: string | null): Promise<void> {
    if (folder === null || folder === ".") return;
    let path = this.#options.dir;
    for (const segment of folder.split("/")) {
      path = join(path, segment);
      const facts = await lstat(path).catch(() => null);
      if (facts === null) return;
      if (!facts.isDirectory()) {
        const what = facts.isSymbolicLink() ? "a symbolic link" : "a file";
        throw new RunError(
          "disk-permission",
          `${path} is ${what} where a folder is needed; nothing is written through it`,
          {
            at: { path },
            hint: "move it away, then run the same command again",
          },
        );
      }
    }
  }
}

/** Writes every byte at the file's own position. */
async function writeChunk(file: number, chunk: Uint8Array): Promise<void> {
  for (let done = 0; done < chunk.length; ) {
    const small = chunk.length - done <= SMALL_BYTES;
    done += small ? writeSync(file, chunk, done) : (await writeLarge(file, chunk, done)).bytesWritten;
  }
}

/** After a failure that is worth more than the one of closing. */
function closeQuietly(file: number): void {
  try {
    closeSync(file);
  } catch {}
}

/** False where the file system can't: another device, no links, no plain file. Then bytes are copied. */
async function linkFile(from: string, to: string): Promise<boolean> {
  if (!(await lstat(from).catch(() => null))?.isFile()) return false;
  return link(from, to).then(
    () => true,
    () => false,
  );
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

async function sameContent(path: string, pending: Pending): Promise<boolean> {
  const facts = await lstat(path);
  if (!facts.isFile() || facts.size !== pending.bytes) return false;
  return (await hashFile(path, digestAlgorithm(pending.digest))) === pending.digest;
}

async function copyProved(pending: Pending, to: string): Promise<number> {
  return onDisk({ operation: "copy from scratch to", path: to }, async () => {
    const hasher = createHasher(digestAlgorithm(pending.digest));
    const file = await open(to, "wx");
    try {
      for await (const chunk of createReadStream(pending.temp, {
        highWaterMark: 1 << 20,
      }) as AsyncIterable<Buffer>) {
        hasher.update(chunk);
        await writeAll(file, chunk);
      }
      if (hasher.digest() !== pending.digest) {
        throw new RunError("disk-error", `${pending.temp} changed on the scratch disk after it was proved`);
      }
      await file.sync();
      return Math.trunc((await file.stat()).mtimeMs);
    } finally {
      await file.close();
    }
  });
}

async function readHead(path: string): Promise<Uint8Array> {
  return onDisk({ operation: "read", path }, async () => {
    const file = await open(path, "r");
    try {
      const buffer = Buffer.alloc(HEAD_BYTES);
      const { bytesRead } = await file.read(buffer, 0, HEAD_BYTES, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  });
}
