/** What a transfer has left in a folder: all plain files below it, as they lie. */
import { createReadStream } from "node:fs";
import { lstat, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { RunError } from "../../errors.ts";
import { compareKeys } from "../../lib/external-sort.ts";

export interface ReceivedFile {
  /** Relative to the folder, `/` between segments. */
  readonly name: string;
  /** Absolute. */
  readonly path: string;
  readonly bytes: number;
}

/** Files below a folder that may not exist, by name. Throws `proof-format` for a link: it leads nobody knows where. */
export async function* receivedFiles(folder: string, below = ""): AsyncGenerator<ReceivedFile> {
  const entries = await readdir(join(folder, below), { withFileTypes: true }).catch(() => []);
  for (const entry of entries.sort((a, b) => compareKeys(a.name, b.name))) {
    const name = below === "" ? entry.name : `${below}/${entry.name}`;
    const path = join(folder, name);
    if (entry.isDirectory()) yield* receivedFiles(folder, name);
    else if (entry.isFile()) yield { name, path, bytes: (await lstat(path)).size };
    else throw new RunError("proof-format", `${name} came as a link or a special file, which is no data`);
  }
}

/** The bytes of one of them. */
export const readReceived = (path: string): AsyncIterable<Uint8Array> =>
  createReadStream(path, { highWaterMark: 1 << 20 });

/**
 * Makes a folder safe for ascp to write into: files that got a second name, as stored ones, lose this one, so that what
 * is stored is never written into.
 */
export async function leaveLinkedFiles(folder: string): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await leaveLinkedFiles(path);
    else if ((await lstat(path)).nlink > 1 || entry.isSymbolicLink()) await rm(path, { force: true });
  }
}
