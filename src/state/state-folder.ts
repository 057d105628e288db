/**
 * `.gantry/` of a target folder: where everything that a folder knows of itself lies (docs/formats/folder.md).
 *
 * It may be on NFS or Lustre and written by many processes at once, so there are no locks and no database:
 * selections are immutable, receipts have one writer a file, and the rest can be lost without harm.
 */
import { randomBytes } from "node:crypto";
import { lstat, readdir, readFile, rm, stat, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { RunError } from "../errors.ts";
import { ensureFolder, makeFolder, onDisk, writeFileDurably } from "../lib/durable-file.ts";
import { checkHeader } from "../model/receipt.ts";

const FOLDER_KIND = "gantry-folder";
const FOLDER_VERSION = 1;

/** What a folder's first get fixes for all later ones. */
export interface FolderFacts {
  /** A layout's name or a template. */
  readonly layout: string;
  /** How items are stored: `folder` for loose files, else the form of the archive files. */
  readonly sink: string;
  /** What archive files are called, without a number and an extension; absent for loose files. */
  readonly archive?: string;
}

export interface StateFolder {
  /** Absolute path of the target folder. */
  readonly dir: string;
  readonly facts: FolderFacts | null;
  /** A path below `.gantry/`. */
  path(...segments: string[]): string;
}

/** Opens a folder's state; null when the folder has none. Throws `usage` for a file, `folder-newer`, `disk-…`. */
export async function openStateFolder(dir: string): Promise<StateFolder | null> {
  const target = resolve(dir);
  const file = join(target, ".gantry", "folder.json");
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOTDIR" && (await stat(target).catch(() => null))?.isFile()) {
      throw new RunError("usage", `${target} is a file, and a folder is needed`, { hint: "name a folder" });
    }
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    return onDisk({ operation: "read", path: file }, () => Promise.reject(error));
  }
  const header = checkHeader(text, FOLDER_KIND, FOLDER_VERSION, file);
  const archive = header.archive === undefined ? {} : { archive: String(header.archive) };
  return stateAt(target, { layout: String(header.layout), sink: String(header.sink), ...archive });
}

/** Opens a folder's state or begins it. Throws `folder-layout` when the folder was begun with other facts. */
export async function beginStateFolder(
  dir: string,
  wanted: Partial<FolderFacts>,
  fallback: FolderFacts,
): Promise<StateFolder> {
  const target = resolve(dir);
  const gantry = join(target, ".gantry");
  const link = await lstat(gantry).catch(() => null);
  if (link?.isSymbolicLink()) {
    throw new RunError(
      "disk-permission",
      `${gantry} is a symbolic link; its state must lie in the folder itself`,
    );
  }
  const found = await openStateFolder(target);
  if (found) checkFacts(found, wanted);
  for (const name of ["selections", "receipts", "runs", "partial", "quarantine", "logs"]) {
    await ensureFolder(join(gantry, name));
  }
  if (found) return found;
  const facts = { ...fallback, ...wanted };
  await writeFacts(target, facts);
  return stateAt(target, facts);
}

const formOf = (sink: string): string =>
  sink === "folder" ? "loose files" : `archive files in the form ${sink}`;

function sinkHint(dir: string, begun: string, wanted: string): string {
  if (begun === "folder") return `\`gantry pack ${dir} --pack ${wanted}\` makes it a folder that packs`;
  return "a folder keeps the form of its first get: leave out --pack, or use another folder";
}

/** Throws `folder-layout` when the folder was begun with other facts. */
export function checkFacts({ dir, facts }: StateFolder, wanted: Partial<FolderFacts>): void {
  for (const key of ["layout", "sink"] as const) {
    if (facts && wanted[key] !== undefined && wanted[key] !== facts[key]) {
      throw new RunError(
        "folder-layout",
        key === "sink"
          ? `${dir} was begun with ${formOf(facts.sink)}, not with ${formOf(String(wanted.sink))}`
          : `${dir} was begun with ${key} '${facts[key]}', not '${wanted[key]}'`,
        key === "sink" ? { hint: sinkHint(dir, facts.sink, String(wanted.sink)) } : {},
      );
    }
  }
}

/**
 * From now on the folder's items go into archive files; nothing happens when they do already. Throws `folder-layout` when
 * they go into others.
 */
export async function changeSink(state: StateFolder, sink: string, archive: string): Promise<StateFolder> {
  const { dir, facts } = state;
  if (facts === null || facts.sink === sink) return state;
  if (facts.sink !== "folder") checkFacts(state, { sink });
  const now = { ...facts, sink, archive };
  await writeFacts(dir, now);
  return stateAt(dir, now);
}

/** For a folder in which nothing is stored yet: then a later get may still fix other facts. Throws `disk-…`. */
export async function changeFacts({ dir, facts }: StateFolder, wanted: Partial<FolderFacts>): Promise<void> {
  if (facts !== null) await writeFacts(dir, { ...facts, ...wanted });
}

function writeFacts(dir: string, facts: FolderFacts): Promise<void> {
  const gantry = join(dir, ".gantry");
  return writeFileDurably(
    join(gantry, "folder.json"),
    `${JSON.stringify({ kind: FOLDER_KIND, version: FOLDER_VERSION, ...facts })}\n`,
    { temporaryIn: join(gantry, "partial") },
  );
}

function stateAt(dir: string, facts: FolderFacts): StateFolder {
  return { dir, facts, path: (...segments) => join(dir, ".gantry", ...segments) };
}

/** A folder for temporary files, made below `base` when it is first asked for, and its removal. */
export function temporaryFolder(base: () => string = tmpdir): {
  folder: () => Promise<string>;
  remove: () => Promise<void>;
} {
  let made: Promise<string> | undefined;
  return {
    folder: () => {
      made ??= (async () => {
        const path = join(base(), `gantry-sort-${process.pid}-${randomBytes(6).toString("hex")}`);
        await makeFolder(path, { mode: 0o700 });
        return path;
      })();
      return made;
    },
    remove: async () => {
      const path = await made?.catch(() => undefined);
      // What can't be removed has done its service: it must not turn a good run into a failed one.
      if (path !== undefined) await rm(path, { recursive: true, force: true }).catch(() => undefined);
    },
  };
}

/** Free space and inodes for an ordinary user at a path; null where the file system does not count them. */
export async function readFreeSpace(path: string): Promise<{ bytes: number | null; inodes: number | null }> {
  try {
    const facts = await statfs(path);
    return { bytes: facts.bavail * facts.bsize, inodes: facts.files > 0 ? facts.ffree : null };
  } catch {
    return { bytes: null, inodes: null };
  }
}

/** Names in a folder of the state, sorted; empty when it does not exist. */
export async function readNames(path: string): Promise<string[]> {
  try {
    return (await readdir(path)).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    return onDisk({ operation: "list", path }, () => Promise.reject(error));
  }
}
