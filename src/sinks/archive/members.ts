/** Members of archive files, wherever these are. What reads them is loaded when it is asked for. */
import { stat } from "node:fs/promises";
import { RunError } from "../../errors.ts";
import type { Digest } from "../../lib/digest.ts";
import { onDisk } from "../../lib/durable-file.ts";
import { isArchiveName } from "./archive-name.ts";

export interface ArchiveMember {
  /** As the archive has it, without `./` before it. */
  readonly path: string;
  readonly bytes: number;
  /** Null where the archive has no index. */
  readonly digest: Digest | null;
  /** Of what a folder lists: the archive file that holds the member; null for a loose file. */
  readonly archive?: string | null;
}

/** Told of a member that is no folder and no plain file. */
export type OnLeft = (path: string) => void;

/** Members, of one archive file or of a whole folder. */
export interface ArchiveFile {
  /** In the order of the archive. Files only: folders and links are left out. Throws `proof-format`, `disk-…`. */
  members(): AsyncIterable<ArchiveMember>;
  /**
   * The members that `wants`, with their bytes; a body that is not read is passed over. A body of an archive with an index
   * throws `proof-digest` at its end when it is not what was stored. With `onLeft` links, devices and sparse files are wanted,
   * too, and it is told of them. Throws `proof-format` where it is damaged or cut.
   */
  read(
    wants: (path: string) => boolean,
    onLeft?: OnLeft,
  ): AsyncIterable<ArchiveMember & { readonly body: AsyncIterable<Uint8Array> }>;
}

/**
 * The members of an archive file, or of all that a folder holds. `warn` is told of receipts that do not count. Throws `usage`
 * for what is neither, `folder-unknown`, `folder-newer`, `disk-…`.
 */
export async function openMembers(
  path: string,
  { warn = () => undefined }: { readonly warn?: (sentence: string) => void } = {},
): Promise<ArchiveFile> {
  const facts = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT" && error.code !== "ENOTDIR")
      return onDisk({ operation: "read", path }, () => Promise.reject(error));
    throw new RunError("usage", `there is no archive file and no folder ${JSON.stringify(path)}`, {
      hint: "an archive's name ends in a colon, for example tcia:",
    });
  });
  return facts.isDirectory()
    ? (await import("./stored-folder.ts")).openStoredFolder(path, warn)
    : (await import("./archive-file.ts")).openArchiveFile(path);
}

/** Whether a word names something on this disk that can be listed: an archive file, by its name, or a folder. */
export async function holdsMembers(word: string): Promise<boolean> {
  if (/^[@-]/u.test(word)) return false;
  if (isArchiveName(word)) return true;
  // A configured archive's name ends in a colon, and `./x:y` forces a path (docs/addresses.md).
  if (/^[^/.][^/]*:/u.test(word)) return false;
  return (await stat(word).catch(() => null))?.isDirectory() ?? false;
}
