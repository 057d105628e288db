/** Where an item lies below the target folder. */
import { foldPath, markedPath, readSafePath, type SafePath, safeSegment } from "./safe-path.ts";

export interface Place {
  /** Folder of the item, relative to the target; null for the target itself. */
  readonly folder: SafePath | null;
  /** Name of the item's only file, as it shall be stored; null when the item is a folder of files. */
  readonly file: string | null;
  /** Put before each file's name (a flat layout keeps series apart by it). */
  readonly prefix: string;
  /** Names are paths of stored files already, and are taken as they are. Never in a receipt. */
  readonly asStored?: true;
}

/** Two items must not share this key: the folder, the file or the prefix that is an item's own. */
export function placeKey(place: Place): string {
  const own = place.file ?? (place.prefix === "" ? "" : `${place.prefix}*`);
  return foldPath(`${place.folder ?? "."}/${own}`);
}

/** The place of an item whose own one is taken: marked with 8 hex digits of the SHA-256 of its id. */
export function markedPlace(place: Place, itemId: string): Place {
  if (place.file !== null) return { ...place, file: markedPath(place.file as SafePath, itemId, true) };
  if (place.prefix !== "" || place.folder === null) {
    return {
      ...place,
      prefix: markedPath((place.prefix === "" ? "item" : place.prefix) as SafePath, itemId, false),
    };
  }
  return { ...place, folder: markedPath(place.folder, itemId, false) };
}

/** Path of one of an item's files, relative to the target. `name` is as the archive sent it. */
export function filePath(place: Place, name: string): SafePath {
  if (place.asStored) return readSafePath(name);
  const own = place.file ?? safeSegments(place.prefix, name);
  return (place.folder === null ? own : `${place.folder}/${own}`) as SafePath;
}

/** An entry's name may have folders of its own. */
function safeSegments(prefix: string, name: string): string {
  const segments = name.split("/").filter((segment) => segment !== "" && segment !== ".");
  return (
    segments.map((segment, index) => safeSegment(index === 0 ? prefix + segment : segment)).join("/") || "_"
  );
}
