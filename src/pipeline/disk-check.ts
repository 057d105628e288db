/** What is on disk against what receipts say. */
import { lstat } from "node:fs/promises";
import { join } from "node:path";
import { digestAlgorithm, hashFile } from "../lib/digest.ts";
import { onDisk } from "../lib/durable-file.ts";
import type { StoredFile } from "../model/receipt.ts";

export type FileState = "whole" | "touched" | "changed" | "missing";

/**
 * One file: `whole` (size and mtime as stored), `touched` (another mtime, the same bytes), `changed`, `missing`.
 * Hashes only when size or mtime differ, or when `hash` asks for it. Links are never followed: a link is `changed`.
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
  const digest = await hashFile(path, digestAlgorithm(file.digest), signal);
  if (digest !== file.digest) return { state: "changed", mtimeMs };
  return { state: mtimeMs === file.mtimeMs ? "whole" : "touched", mtimeMs };
}

/** All files of an item. `files` has the mtimes of now. */
export async function checkFiles(
  dir: string,
  files: readonly StoredFile[],
  hash: boolean,
  signal?: AbortSignal,
): Promise<{
  bad: readonly { file: StoredFile; state: "changed" | "missing" }[];
  touched: boolean;
  files: readonly StoredFile[];
}> {
  const bad: { file: StoredFile; state: "changed" | "missing" }[] = [];
  const now: StoredFile[] = [];
  let touched = false;
  for (const file of files) {
    signal?.throwIfAborted();
    const { state, mtimeMs } = await checkFile(dir, file, hash, signal);
    if (state === "changed" || state === "missing") bad.push({ file, state });
    if (state === "touched") touched = true;
    now.push({ ...file, mtimeMs });
  }
  return { bad, touched, files: now };
}
