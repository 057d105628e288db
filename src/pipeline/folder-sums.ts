/** `verify --write-sums`: a checksum list of what a folder holds, for other people's programs. */
import { dirname, relative, resolve } from "node:path";
import { writeSums } from "../checksums/sums.ts";
import { RunError } from "../errors.ts";
import { type Digest, digestAlgorithm } from "../lib/digest.ts";
import { openStateFolder, type StateFolder, temporaryFolder } from "../state/state-folder.ts";
import { noteCompanions, readStates } from "./held.ts";

/**
 * Writes an md5 list (`to`) of all files that receipts of `dir` name, in the form that `md5sum -c` reads; digests
 * come from the receipts. Paths in it are relative to `dir`, or to the list's own folder when that is a parent of
 * `dir`. `standsAlone`: they are relative to the list's own folder, so that a check needs no other. Throws `folder-unknown`, `disk-…`.
 */
export async function writeFolderSums(
  dir: string,
  options: { readonly to: string; readonly signal?: AbortSignal },
): Promise<{ readonly files: number; readonly standsAlone: boolean }> {
  const target = resolve(dir);
  const state = await openStateFolder(target);
  if (!state) throw new RunError("folder-unknown", `${target} holds no receipts of gantry`);
  const temporary = temporaryFolder();
  try {
    const below = relative(dirname(resolve(options.to)), target);
    const folder = below.startsWith("..") || below === "" ? target : dirname(resolve(options.to));
    const prefix = folder === target ? "" : `${below.replaceAll("\\", "/")}/`;
    const written = await writeSums({
      folder,
      files: heldFiles(state, prefix, temporary.folder),
      algorithm: "md5",
      to: options.to,
      ...(options.signal ? { signal: options.signal } : {}),
    });
    const own = relative(target, resolve(options.to));
    if (!own.startsWith("..")) await noteCompanions(state, [own.replaceAll("\\", "/")]);
    return { ...written, standsAlone: folder === dirname(resolve(options.to)) };
  } finally {
    await temporary.remove();
  }
}

async function* heldFiles(
  state: StateFolder,
  prefix: string,
  temporary: () => Promise<string>,
): AsyncGenerator<{ readonly path: string; readonly digest?: Digest }> {
  for await (const { current } of readStates(state, temporary)) {
    if (current.type === "removed") continue;
    for (const { path, digest } of current.files) {
      yield { path: `${prefix}${path}`, ...(digestAlgorithm(digest) === "md5" ? { digest } : {}) };
    }
  }
}
