/**
 * The only maker of paths that data is written to. No archive can name a file outside the target folder, and
 * what is written can be read back on Linux, macOS and Windows.
 */
import { createHash } from "node:crypto";
import { RunError } from "../errors.ts";

declare const safe: unique symbol;
/** A relative path of escaped segments joined by `/`: never empty, absolute, `..`, or below `.gantry` but in `ORIGINALS`. */
export type SafePath = string & { readonly [safe]: true };

/** ext4, XFS, APFS and NTFS take 255 units of a name; 255 bytes of UTF-8 fit all of them. */
const MAX_SEGMENT_BYTES = 255;

/** Names that Windows keeps for devices, with or without an extension (Microsoft, "Naming Files, Paths, and Namespaces"). */
const DEVICE = /^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)/i;
const FORBIDDEN =
  /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069<>:"/\\|?*%]/gu;

const percent = (text: string): string =>
  [...Buffer.from(text, "utf8")]
    .map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`)
    .join("");

/**
 * One segment made safe. Characters that some file system or terminal refuses are percent-escaped (`%` itself
 * too, so the result can be read back); a trailing dot or blank is escaped; an empty segment is `_`; a segment
 * over 255 bytes is cut at a character and marked with 8 hex digits of its SHA-256.
 */
export function safeSegment(raw: string): string {
  let text = raw.toWellFormed().replace(FORBIDDEN, percent);
  if (text === "") return "_";
  text = text.replace(/[. ]$/u, percent).replace(/^ /u, percent);
  if (DEVICE.test(text)) text = percent(text[0] as string) + text.slice(1);
  if (Buffer.byteLength(text) <= MAX_SEGMENT_BYTES) return text;
  const mark = `~${shortHash(raw)}`;
  const extension = /\.[A-Za-z0-9]{1,8}$/.exec(text)?.[0] ?? "";
  return cutBytes(text, MAX_SEGMENT_BYTES - mark.length - extension.length) + mark + extension;
}

/** Segments to a path. `.gantry` as first segment is escaped: it is ours. Throws `bug` for no segments at all. */
export function safePath(segments: readonly string[]): SafePath {
  if (segments.length === 0) throw new RunError("bug", "a path needs at least one segment");
  const made = segments.map(safeSegment);
  if (foldPath(made[0] as string) === ".gantry") made[0] = `%2E${(made[0] as string).slice(1)}`;
  return made.join("/") as SafePath;
}

/** Where originals are kept, files of which only what is made from them is shown; the one place below `.gantry` for data. */
const ORIGINALS = ".gantry/originals";

/** Where the original of what is shown at a path is kept; null: of what is shown in the target folder itself. */
export function originalPath(shown: SafePath | null): SafePath {
  return (shown === null ? ORIGINALS : `${ORIGINALS}/${shown}`) as SafePath;
}

/** Where what is made of an original is shown; null for what is no original. */
export function shownPath(path: string): SafePath | null {
  return path.startsWith(`${ORIGINALS}/`) ? readSafePath(path.slice(ORIGINALS.length + 1)) : null;
}

/** A path that a receipt holds: accepted only if it is what `safePath` could have made. */
export function readSafePath(text: string): SafePath {
  const segments = (text.startsWith(`${ORIGINALS}/`) ? text.slice(ORIGINALS.length + 1) : text).split("/");
  const bad = segments.some((s) => s === "" || s === "." || s === ".." || /[\u0000\\]/u.test(s));
  if (bad || (text !== ORIGINALS && foldPath(segments[0] as string) === ".gantry")) {
    throw new RunError("folder-newer", `the path ${JSON.stringify(text)} leaves the folder or names no file`);
  }
  return text as SafePath;
}

/** Two paths with the same key may be one file on some file system: NFC, then case-folded. */
export function foldPath(path: string): string {
  return path.normalize("NFC").toLowerCase().toUpperCase().toLowerCase().normalize("NFC");
}

/** A clashing path gets `~` and the first 8 hex digits of the SHA-256 of its owner's id, before the extension of a file. */
export function markedPath(path: SafePath, ownerId: string, isFile: boolean): SafePath {
  const slash = path.lastIndexOf("/");
  const folder = path.slice(0, slash + 1);
  const name = path.slice(slash + 1);
  const dot = isFile ? name.lastIndexOf(".") : -1;
  const stem = dot > 0 ? name.slice(0, dot) : name;
  const extension = dot > 0 ? name.slice(dot) : "";
  const mark = `~${shortHash(ownerId)}`;
  const room = MAX_SEGMENT_BYTES - Buffer.byteLength(mark) - Buffer.byteLength(extension);
  return `${folder}${cutBytes(stem, room)}${mark}${extension}` as SafePath;
}

/** For the screen: control and direction characters of a name shown as `\u{…}`, so that no name can move a cursor. */
export function displayName(text: string): string {
  return text
    .toWellFormed()
    .replace(
      /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu,
      (c) => `\\u{${(c.codePointAt(0) as number).toString(16)}}`,
    );
}

function shortHash(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 8);
}

function cutBytes(text: string, bytes: number): string {
  let out = "";
  let used = 0;
  for (const character of text) {
    used += Buffer.byteLength(character);
    if (used > bytes) break;
    out += character;
  }
  return out.replace(/%[0-9A-F]?$/u, "");
}
