/** Members of an archive file as files in a folder. */
import { lstat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { RunError } from "../../errors.ts";
import { createHasher, hashFile } from "../../lib/digest.ts";
import { ensureFolder, writeFileDurably } from "../../lib/durable-file.ts";
import { indexPath } from "../../model/receipt.ts";
import { foldPath, safePath, safeSegment } from "../../model/safe-path.ts";
import { openArchiveFile } from "./archive-file.ts";
import { openIndex } from "./archive-index.ts";
import { LeftMembers, MemberPaths } from "./member-paths.ts";
import { type ArchiveMember, openMembers } from "./members.ts";

export interface UnpackOptions {
  /** The folder to fill; it is made. */
  readonly to: string;
  /** Members, or folders of the archive with all that is below; none: everything. */
  readonly paths: readonly string[];
  readonly signal?: AbortSignal;
  /** Told of each file as it is there. */
  readonly onFile?: (file: ArchiveMember) => void;
  /** Told of receipts of a folder that do not count. */
  readonly warn?: (sentence: string) => void;
}

export interface UnpackSummary {
  readonly files: number;
  readonly bytes: number;
  /** Of them, files that were there already with the same bytes. */
  readonly here: number;
  /** Files whose bytes an index vouches for. */
  readonly proved: number;
  /** Links, devices and sparse files, which are not unpacked, and the first of them. */
  readonly left: number;
  readonly firstLeft: string | null;
}

/**
 * Of an archive file, or of a folder. Each file appears once it is whole. One that is there with the same bytes stays; one with others is not touched and
 * ends it. Throws `usage`, `unknown-name` for a path that names nothing, `proof-…`, `disk-…`.
 */
export async function unpackArchive(archive: string, options: UnpackOptions): Promise<UnpackSummary> {
  const { to, signal, onFile } = options;
  if (resolve(to) === resolve(archive))
    throw new RunError("usage", "a folder is not unpacked into itself", {
      hint: "name another one with -o DIR",
    });
  const file = await openMembers(archive, options);
  const wanted = new MemberPaths(options.paths);
  let [files, bytes, here, proved] = [0, 0, 0, 0];
  const left = new LeftMembers();
  for await (const member of file.read((path) => wanted.has(path), left.add)) {
    signal?.throwIfAborted();
    // An archive may be anybody's: no name leaves the folder, and none is Gantry's own.
    const segments = member.path.split("/").filter((segment) => segment !== "" && segment !== ".");
    if (segments.length === 0) {
      left.add(member.path);
      continue;
    }
    const path = keptPath(segments);
    const target = join(resolve(to), path);
    await refuseLinks(resolve(to), path);
    if (await isThere(target, member)) here += 1;
    else {
      await ensureFolder(dirname(target));
      await writeFileDurably(target, member.body);
    }
    files += 1;
    bytes += member.bytes;
    if (member.digest !== null) proved += 1;
    onFile?.(member);
  }
  wanted.complain(archive);
  return { files, bytes, here, proved, left: left.count, firstLeft: left.first };
}

/** A name that was made safe before stays as it is; any other is made so. */
function keptPath(segments: readonly string[]): string {
  const isKept = (segment: string): boolean => {
    const text = segment.replaceAll("%", "_");
    return safeSegment(text) === text;
  };
  const made = safePath(segments);
  return segments.every(isKept) && foldPath(segments[0] as string) !== ".gantry" ? segments.join("/") : made;
}

async function isThere(
  target: string,
  { bytes, digest, body }: ArchiveMember & { readonly body: AsyncIterable<Uint8Array> },
): Promise<boolean> {
  const facts = await lstat(target).catch(() => null);
  if (facts === null) return false;
  const same = async (): Promise<boolean> => {
    if (!facts.isFile() || facts.size !== bytes) return false;
    const hasher = createHasher("sha256");
    for await (const chunk of body) hasher.update(chunk);
    return (await hashFile(target, "sha256")) === hasher.digest();
  };
  if (await same()) return true;
  throw new RunError("disk-error", `${target} is there already with other content`, {
    hint: `unpack into another folder, or move it away${digest === null ? "; when that was empty, the archive holds two files of this name, of which `tar -xf` keeps the last" : ""}`,
  });
}

/** Links are never followed out of the folder. */
async function refuseLinks(dir: string, path: string): Promise<void> {
  let at = dir;
  for (const segment of path.split("/").slice(0, -1)) {
    at = join(at, segment);
    const facts = await lstat(at).catch(() => null);
    if (facts === null) return;
    if (!facts.isDirectory())
      throw new RunError("disk-permission", `${at} is no folder; nothing is written through it`, {
        hint: "unpack into another folder, or move it away",
      });
  }
}

/** What is wrong with the members of an archive that has an index: paths and why. Throws `usage` when it has none. */
export async function* verifyArchive(
  archive: string,
  signal?: AbortSignal,
): AsyncGenerator<ArchiveMember & { readonly error: RunError | null }> {
  const file = await openArchiveFile(archive, { thorough: true });
  if ((await openIndex(indexPath(archive))) === null)
    throw new RunError(
      "usage",
      `${archive} has no index beside it, so there is nothing to verify it against`,
      { hint: `its form alone is checked by: gantry ls ${archive}` },
    );
  for await (const { body, ...member } of file.read(() => true)) {
    signal?.throwIfAborted();
    let error: RunError | null = null;
    try {
      for await (const _ of body);
    } catch (caught) {
      if (!(caught instanceof RunError) || caught.code !== "proof-digest") throw caught;
      error = caught;
    }
    yield { ...member, error };
  }
}
