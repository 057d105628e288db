/** `verify --write-sums`: a checksum list of what a folder holds, for other people's programs. */
import { dirname, relative, resolve } from "node:path";
import { writeSums } from "../checksums/sums.ts";
import { RunError } from "../errors.ts";
import { createHasher, type Digest, digestAlgorithm } from "../lib/digest.ts";
import type { StoredFile } from "../model/receipt.ts";
import type { OpenStore, Store } from "../sinks/sink.ts";
import { openStateFolder, type StateFolder, temporaryFolder } from "../state/state-folder.ts";
import { noteCompanions, readStates } from "./held.ts";

/** Of a list that was written. */
export interface FolderSums {
  readonly files: number;
  /** Paths are relative to the list's own folder, so that a check needs no other. */
  readonly standsAlone: boolean;
  /** Some are of members of archive files, and can be checked where these are unpacked. */
  readonly packed: boolean;
}

/**
 * Writes an md5 list (`to`) of all files that receipts of `dir` name, in the form that `md5sum -c` reads; digests
 * come from the receipts. Paths in it are relative to `dir`, or to the list's own folder when that is a parent of
 * `dir`. Throws `folder-unknown`, `disk-…`.
 */
export async function writeFolderSums(
  dir: string,
  options: { readonly to: string; readonly store: OpenStore; readonly signal?: AbortSignal },
): Promise<FolderSums> {
  const target = resolve(dir);
  const state = await openStateFolder(target);
  if (!state) throw new RunError("folder-unknown", `${target} holds no receipts of gantry`);
  const temporary = temporaryFolder();
  const store = await options.store(state);
  try {
    const below = relative(dirname(resolve(options.to)), target);
    const folder = below.startsWith("..") || below === "" ? target : dirname(resolve(options.to));
    const prefix = folder === target ? "" : `${below.replaceAll("\\", "/")}/`;
    const written = await writeSums({
      folder,
      files: heldFiles(state, store, prefix, temporary.folder),
      algorithm: "md5",
      to: options.to,
      ...(options.signal ? { signal: options.signal } : {}),
    });
    const own = relative(target, resolve(options.to));
    if (!own.startsWith("..")) await noteCompanions(state, [own.replaceAll("\\", "/")]);
    return { ...written, standsAlone: folder === dirname(resolve(options.to)), packed: !store.loose };
  } finally {
    await temporary.remove();
  }
}

async function* heldFiles(
  state: StateFolder,
  store: Store,
  prefix: string,
  temporary: () => Promise<string>,
): AsyncGenerator<{ readonly path: string; readonly digest?: Digest }> {
  for await (const { current } of readStates(state, temporary)) {
    if (current.type === "removed") continue;
    for (const file of current.files) {
      const digest = digestAlgorithm(file.digest) === "md5" ? file.digest : await memberDigest(store, file);
      yield { path: `${prefix}${file.path}`, ...(digest === null ? {} : { digest }) };
    }
  }
}

/** Of what lies in an archive file, where no thread finds it; null for a loose file. */
async function memberDigest(store: Store, file: StoredFile): Promise<Digest | null> {
  if (file.packed === undefined) return null;
  const hasher = createHasher("md5");
  for await (const part of store.read(file)) hasher.update(part);
  return hasher.digest();
}
