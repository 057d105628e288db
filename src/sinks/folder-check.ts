/** What is on disk against what receipts say. */
import { lstat, realpath } from "node:fs/promises";
import { join, posix } from "node:path";
import { RunError } from "../errors.ts";
import { digestAlgorithm, hashFile } from "../lib/digest.ts";
import { onDisk } from "../lib/durable-file.ts";
import type { StoredFile } from "../model/receipt.ts";
import type { DiskCheck } from "./sink.ts";

export type FileState = "whole" | "touched" | "changed" | "missing";

/**
 * One file: `whole` (size and mtime as stored), `touched` (another mtime, the same bytes), `changed`, `missing`.
 * Hashes only when size or mtime differ, or when `hash` asks for it. Links are never followed: a link is `changed`, and
 * so is what can't be read, because it can't be proved.
 */
export async function checkFile(
  dir: string,
  file: StoredFile,
  hash: boolean,
  signal?: AbortSignal,
): Promise<{ state: FileState; mtimeMs: number }> {
  const path = join(dir, file.path);
  const facts = await onDisk({ operation: "read", path }, async () => {
    try {
      return await lstat(path);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOENT" || code === "ENOTDIR") return null;
      throw error;
    }
  });
  if (facts === null) return { state: "missing", mtimeMs: 0 };
  const mtimeMs = Math.trunc(facts.mtimeMs);
  if (!facts.isFile() || facts.size !== file.bytes) return { state: "changed", mtimeMs };
  if (!hash && mtimeMs === file.mtimeMs) return { state: "whole", mtimeMs };
  const digest = await hashFile(path, digestAlgorithm(file.digest), signal).catch((error: unknown) => {
    if (error instanceof RunError && error.code === "disk-permission") return null;
    throw error;
  });
  if (digest !== file.digest) return { state: "changed", mtimeMs };
  return { state: mtimeMs === file.mtimeMs ? "whole" : "touched", mtimeMs };
}

/** All files of an item. `files` has the mtimes of now. */
export async function checkFiles(
  dir: string,
  files: readonly StoredFile[],
  hash: boolean,
  signal?: AbortSignal,
): Promise<DiskCheck> {
  const bad: { file: StoredFile; state: "changed" | "missing" }[] = [];
  const now: StoredFile[] = [];
  let touched = false;
  const linked = await linkedFolders(dir, files);
  for (const file of files) {
    signal?.throwIfAborted();
    if (linked.has(posix.dirname(file.path))) {
      bad.push({ file, state: "changed" });
      now.push(file);
      continue;
    }
    const { state, mtimeMs } = await checkFile(dir, file, hash, signal);
    if (state === "changed" || state === "missing") bad.push({ file, state });
    if (state === "touched") touched = true;
    now.push({ ...file, mtimeMs });
  }
  return { bad, touched, files: now };
}

/** Folders of the files that are reached through a link: what lies behind it is not in this folder. */
async function linkedFolders(dir: string, files: readonly StoredFile[]): Promise<ReadonlySet<string>> {
  const linked = new Set<string>();
  const real = await realpath(dir).catch(() => dir);
  for (const folder of new Set(files.map((file) => posix.dirname(file.path)))) {
    const at = await realpath(join(dir, folder)).catch(() => null);
    if (at !== null && at !== join(real, folder)) linked.add(folder);
  }
  return linked;
}
