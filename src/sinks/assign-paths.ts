/** The final paths of an item's files, the same whatever the order in which they came. */
import { compareKeys } from "../lib/external-sort.ts";
import { readSopInstanceUid } from "../model/dicom.ts";
import { filePath, type Place } from "../model/place.ts";
import { foldPath, markedPath, type SafePath } from "../model/safe-path.ts";

export interface NamedFile {
  readonly name: string;
  /** Its first bytes; asked for only where names clash. */
  readonly head: () => Promise<Uint8Array>;
}

/**
 * Paths in the order of the files. Where two names may be one file on some file system, the first by SOP Instance UID
 * (else by name) keeps it and the others are marked.
 */
export async function assignPaths(place: Place, files: readonly NamedFile[]): Promise<SafePath[]> {
  const paths = files.map((file) => filePath(place, file.name));
  const groups = new Map<string, number[]>();
  for (const [index, path] of paths.entries()) {
    const key = foldPath(path);
    const group = groups.get(key);
    if (group) group.push(index);
    else groups.set(key, [index]);
  }
  for (const group of groups.values()) {
    if (group.length === 1) continue;
    const owners = await Promise.all(
      group.map(async (index) => {
        const { name, head } = files[index] as NamedFile;
        return { index, id: readSopInstanceUid(await head()) ?? name, name };
      }),
    );
    owners.sort((a, b) => compareKeys(a.id, b.id) || compareKeys(a.name, b.name));
    for (const owner of owners.slice(1)) {
      paths[owner.index] = markedPath(paths[owner.index] as SafePath, owner.id, true);
    }
  }
  return paths;
}
