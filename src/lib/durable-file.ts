/**
 * Files that survive a power cut: a file is either the old one or the whole new one, and a line that was
 * reported as written is on the disk.
 */

import { createHash, randomBytes } from "node:crypto";
import { createReadStream, mkdirSync, type Stats, statSync } from "node:fs";
import { type FileHandle, lstat, mkdir, open, rename, rm, stat, statfs } from "node:fs/promises";
import { constants } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { type ErrorCode, type ErrorPlace, RunError } from "../errors.ts";

/** Small pieces of a streamed content are gathered to writes of about this size. */
const GATHER_BYTES = 256 * 1024;

export type FileContent = string | Uint8Array | AsyncIterable<string | Uint8Array>;

/**
 * Replaces or creates `path` in one step: a hidden temporary file (`.NAME.RANDOM.tmp`) is written, synced and
 * renamed, then the folder is synced. The folder must exist.
 *
 * On any failure, also of the content itself, the temporary file is removed and an old file stays untouched. Only
 * a process that is killed leaves it: `temporaryIn`, by default the file's own folder, is where, and must be on the
 * same file system.
 * `mode` (default 0o666) is subject to the umask. `unlessSame`: a regular file with the same bytes stays as it is.
 * `beforeReplace` is called when the content is whole and will be put in place. Throws `disk-…` errors; errors of the
 * content pass unchanged.
 */
export async function writeFileDurably(
  path: string,
  content: FileContent,
  options: {
    readonly mode?: number;
    readonly temporaryIn?: string;
    readonly unlessSame?: boolean;
    readonly beforeReplace?: () => Promise<void>;
  } = {},
): Promise<void> {
  // A long name must stay below the 255 bytes of a file name once it is decorated.
  const stem = Buffer.byteLength(basename(path)) > 200 ? "long" : basename(path);
  const temporary = join(
    options.temporaryIn ?? dirname(path),
    `.${stem}.${randomBytes(6).toString("hex")}.tmp`,
  );
  const file = await onDisk({ operation: "write", path }, () => open(temporary, "wx", options.mode ?? 0o666));
  try {
    try {
      await writeContent(file, content, path);
      if (options.unlessSame && (await haveSameBytes(temporary, path))) {
        await rm(temporary, { force: true });
        return;
      }
      await onDisk({ operation: "sync", path }, () => file.sync());
    } finally {
      await onDisk({ operation: "close", path }, () => file.close());
    }
    await options.beforeReplace?.();
    await onDisk({ operation: "rename", path }, () => rename(temporary, path));
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw error;
  }
  await syncFolder(dirname(path));
}

/** False where one of them is no regular file or can't be read. */
async function haveSameBytes(a: string, b: string): Promise<boolean> {
  const [first, second] = await Promise.all([a, b].map((path) => lstat(path).catch(() => null)));
  if (!first?.isFile() || !second?.isFile() || first.size !== second.size) return false;
  const hashes = await Promise.all(
    [a, b].map(async (path) => {
      const hash = createHash("sha256");
      await pipeline(createReadStream(path), hash);
      return hash.digest("hex");
    }),
  ).catch(() => []);
  return hashes.length === 2 && hashes[0] === hashes[1];
}

async function writeContent(file: FileHandle, content: FileContent, path: string): Promise<void> {
  const write = (bytes: Uint8Array): Promise<void> =>
    onDisk({ operation: "write", path }, () => writeAll(file, bytes));
  if (typeof content === "string") return write(Buffer.from(content));
  if (content instanceof Uint8Array) return write(content);
  let waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  const flush = async (): Promise<void> => {
    if (waitingBytes === 0) return;
    const bytes = waiting.length === 1 ? waiting[0]! : Buffer.concat(waiting, waitingBytes);
    waiting = [];
    waitingBytes = 0;
    await write(bytes);
  };
  for await (const piece of content) {
    // Copied, because a producer may use its buffer again for the next piece.
    const bytes = Buffer.from(piece as Uint8Array | string);
    waiting.push(bytes);
    waitingBytes += bytes.length;
    if (waitingBytes >= GATHER_BYTES) await flush();
  }
  await flush();
}

/** Writes every byte at the file's own position; a plain `write` may stop short. Throws the plain fs error. */
export async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done);
    done += bytesWritten;
  }
}

/** File systems and platforms that can't open or sync a folder answer with one of these. */
const CANNOT_SYNC_FOLDER = new Set(["EISDIR", "EPERM", "EINVAL", "EACCES", "ENOTSUP"]);

/** Makes new, renamed and removed names in the folder durable, where the platform can. Throws `disk-…`. */
export async function syncFolder(path: string): Promise<void> {
  await onDisk({ operation: "sync", path }, async () => {
    let folder: FileHandle | undefined;
    try {
      folder = await open(path, "r");
      await folder.sync();
    } catch (error) {
      if (!CANNOT_SYNC_FOLDER.has(codeOf(error))) throw error;
    } finally {
      await folder?.close();
    }
  });
}

/**
 * Makes the folder and its missing parents, unsynced: for unfinished data. Returns the first folder that was made,
 * undefined when all were there. Throws `disk-…`.
 */
export async function makeFolder(path: string, options: { mode?: number } = {}): Promise<string | undefined> {
  return onDisk({ operation: "make folder", path }, () => makeMissing(resolve(path), options.mode ?? 0o777));
}

/**
 * Not the recursive mkdir of Node (src/node_file.cc, MKDirp): on a full disk it tells what its stat said afterwards
 * instead of the cause, and where a folder takes no children (ENOENT below /proc) it tries for ever.
 */
async function makeMissing(path: string, mode: number): Promise<string | undefined> {
  const make = async (): Promise<"made" | "there" | "no parent"> => {
    try {
      await mkdir(path, { mode });
      return "made";
    } catch (error) {
      if (codeOf(error) === "ENOENT") return "no parent";
      const isFolder = (facts: Stats): boolean => facts.isDirectory();
      if (await stat(path).then(isFolder, () => false)) return "there";
      throw error;
    }
  };
  const outcome = await make();
  if (outcome !== "no parent") return outcome === "made" ? path : undefined;
  const first = dirname(path) === path ? undefined : await makeMissing(dirname(path), mode);
  const again = await make();
  if (again === "no parent") throw Object.assign(new Error("ENOENT: no such place"), { code: "ENOENT" });
  return first ?? (again === "made" ? path : undefined);
}

/** `makeFolder` for who can't wait. Throws the plain fs error. */
export function makeFolderSync(path: string): void {
  try {
    mkdirSync(path);
  } catch (error) {
    if (codeOf(error) === "ENOENT" && dirname(path) !== path) {
      makeFolderSync(dirname(path));
      // The parent is there now: a second ENOENT is of a place that takes no folders.
      mkdirSync(path);
    } else if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) throw error;
  }
}

/**
 * Makes the folder and its missing parents, and syncs each folder that got a new child. `mode` (default 0o777)
 * is for all new ones and subject to the umask. Throws `disk-…`, also when a file has the name.
 */
export async function ensureFolder(path: string, options: { mode?: number } = {}): Promise<void> {
  const target = resolve(path);
  const first = await makeFolder(target, options);
  if (first === undefined) return;
  const top = dirname(resolve(first));
  for (let folder = dirname(target); ; folder = dirname(folder)) {
    await syncFolder(folder);
    if (folder === top || folder === dirname(folder)) return;
  }
}

/** A file that only grows. Close it. */
export interface Appender {
  readonly path: string;
  /**
   * Resolves when the text is on the disk. Texts keep the order of the calls; those that arrive while a sync
   * runs share the next write and sync. After one failure every later append fails with the same error,
   * because nobody knows how the file ends.
   */
  append(text: string): Promise<void>;
  /** Waits for appends under way, then closes. Later appends fail; closing twice is harmless. */
  close(): Promise<void>;
}

/**
 * Creates a file to append to. The name must be free (else `disk-error`); the folder must exist and is synced.
 * Throws `disk-…`.
 */
export async function openAppender(path: string, options: { mode?: number } = {}): Promise<Appender> {
  const file = await onDisk({ operation: "create", path }, () => open(path, "ax", options.mode ?? 0o666));
  try {
    await syncFolder(dirname(path));
  } catch (error) {
    await file.close();
    throw error;
  }
  return new GroupCommit(path, file);
}

interface WaitingText {
  readonly text: string;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

class GroupCommit implements Appender {
  readonly path: string;
  readonly #file: FileHandle;
  #waiting: WaitingText[] = [];
  #flushing: Promise<void> | undefined;
  #failure: { error: unknown } | undefined;
  #closing: Promise<void> | undefined;

  constructor(path: string, file: FileHandle) {
    this.path = path;
    this.#file = file;
  }

  append(text: string): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure.error);
    if (this.#closing) return Promise.reject(new Error(`append to the closed file ${this.path}`));
    return new Promise((resolve, reject) => {
      this.#waiting.push({ text, resolve, reject });
      this.#flushing ??= this.#flush();
    });
  }

  async #flush(): Promise<void> {
    // One turn later, so that appends made together in one tick are one group from the start.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const group = this.#waiting;
      this.#waiting = [];
      if (!this.#failure) {
        try {
          await onDisk({ operation: "append", path: this.path }, async () => {
            await writeAll(this.#file, Buffer.from(group.map((each) => each.text).join("")));
            await this.#file.datasync();
          });
        } catch (error) {
          this.#failure = { error };
        }
      }
      for (const each of group) {
        if (this.#failure) each.reject(this.#failure.error);
        else each.resolve();
      }
    }
    this.#flushing = undefined;
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      await this.#flushing;
      await onDisk({ operation: "close", path: this.path }, () => this.#file.close());
    })();
    return this.#closing;
  }
}

/** Runs a step that touches the disk; its fs errors become `disk-…` errors, others pass unchanged. */
export async function onDisk<T>(at: ErrorPlace, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    throw (await toDiskError(error, at)) ?? error;
  }
}

const PERMISSION = new Set(["EACCES", "EPERM", "EROFS"]);
const OTHER_DISK = new Set(
  (
    "EIO EFBIG ENAMETOOLONG EMFILE ENFILE ENOENT ENOTDIR EISDIR EEXIST ENOTEMPTY ELOOP EBUSY EXDEV ENODEV " +
    "ENXIO EBADF EINVAL ETXTBSY EMLINK ENOTSUP EAGAIN EOVERFLOW ENOMEM"
  ).split(" "),
);
/** Errors of sockets and processes carry the same codes, but are not of the disk. */
const NOT_DISK_CALL =
  /^(connect|bind|listen|accept|getaddrinfo|query|spawn|kill|send|recv|shutdown|setsockopt)/;

/**
 * The disk error for an error of node:fs, or undefined when it is none (also when it is a RunError already).
 * ENOSPC is `disk-inodes` when the file system of `at.path` has no free inode, else `disk-full`.
 */
export async function toDiskError(error: unknown, at: ErrorPlace = {}): Promise<RunError | undefined> {
  if (!(error instanceof Error) || error instanceof RunError) return undefined;
  const { code, errno, syscall, path } = error as NodeJS.ErrnoException;
  if (typeof code !== "string" || (syscall !== undefined && NOT_DISK_CALL.test(syscall))) return undefined;
  const where = at.path ?? path;
  const fail = (errorCode: ErrorCode, what: string): RunError =>
    new RunError(errorCode, `${where ?? "the disk"}: ${what}`, {
      at: { ...at, ...(where === undefined ? {} : { path: where }) },
      cause: error,
    });
  const doing = at.operation === undefined ? "" : `could not ${at.operation}: `;
  if (code === "ENOSPC") {
    return where !== undefined && (await outOfInodes(where))
      ? fail("disk-inodes", `${doing}the file system has no free inode`)
      : fail("disk-full", `${doing}the disk is full`);
  }
  // libuv has no name for EDQUOT and ESTALE (deps/uv/include/uv.h), so their code is "Unknown system error -N".
  if (code === "EDQUOT" || isErrno(errno, "EDQUOT")) {
    return fail("disk-quota", `${doing}the disk quota is used up`);
  }
  if (PERMISSION.has(code)) {
    return fail("disk-permission", `${doing}${code === "EROFS" ? "read-only file system" : "not permitted"}`);
  }
  if (OTHER_DISK.has(code) || isErrno(errno, "ESTALE")) {
    return fail("disk-error", `${doing}${PLAIN_WORDS[code] ?? code}`);
  }
  return undefined;
}

const PLAIN_WORDS: Readonly<Record<string, string>> = {
  EIO: "the disk reported an input/output error (EIO)",
  EFBIG: "the file is larger than the file system allows (EFBIG)",
  ENAMETOOLONG: "the name is too long for the file system (ENAMETOOLONG)",
  EMFILE: "this process has too many open files (EMFILE)",
  ENFILE: "the system has too many open files (ENFILE)",
  ENOENT: "no such file or folder (ENOENT)",
  EEXIST: "a file of this name exists already (EEXIST)",
  EISDIR: "it is a folder (EISDIR)",
  ENOTDIR: "a part of the path is not a folder (ENOTDIR)",
  ELOOP: "it is a symbolic link, or the path has a loop of links (ELOOP)",
};

function isErrno(errno: number | undefined, name: "EDQUOT" | "ESTALE"): boolean {
  // Both signs: libuv reports negated numbers, Windows leaves these constants undefined.
  const number: number | undefined = constants.errno[name];
  return number !== undefined && errno !== undefined && Math.abs(errno) === number;
}

async function outOfInodes(path: string): Promise<boolean> {
  for (let folder = resolve(path); ; folder = dirname(folder)) {
    try {
      const facts = await statfs(folder);
      // btrfs and some network file systems count no inodes at all: 0 of 0 says nothing.
      return facts.files > 0 && facts.ffree === 0;
    } catch {
      if (folder === dirname(folder)) return false;
    }
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error ? ((error as NodeJS.ErrnoException).code ?? "") : "";
}
