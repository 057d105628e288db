/**
 * Lines of checksum lists, as md5sum and its kin write and read them.
 *
 * GNU: `HEX  NAME`, `HEX *NAME` (binary); a line that begins with `\` holds a name with escapes (GNU coreutils manual,
 * "md5 invocation"). BSD and `--tag`: `MD5 (NAME) = HEX`; openssl: `MD5(NAME)= HEX`.
 */
import { RunError } from "../errors.ts";

export type SumsAlgorithm = "md5" | "sha1" | "sha256" | "sha512";

export interface SumsEntry {
  readonly algorithm: SumsAlgorithm;
  /** Lower case. */
  readonly hex: string;
  /**
   * Relative paths below the list's folder, without `.` segments, never empty: the first is the name as md5sum reads
   * it, the others are what a looser writer may have meant (blanks before or after it, `\` as separator).
   */
  readonly names: readonly [string, ...string[]];
}

const ALGORITHM_OF_LENGTH: Readonly<Record<number, SumsAlgorithm>> = {
  32: "md5",
  40: "sha1",
  64: "sha256",
  128: "sha512",
};

const GNU = /^(\\?)([0-9a-f]+)([ \t]+)(.*)$/is;
const TAGGED = /^(\\?)([a-z][a-z0-9-]*) ?\((.*)\) ?= ?([0-9a-f]+)[ \t]*$/is;

/**
 * One line without its newline; a carriage return at its end and a byte order mark at its begin are left out.
 * Null: a blank line, or a comment (`#`). Throws `bad-selection` for anything else that is no checksum line, and for
 * a name that leaves the folder.
 */
export function parseSumsLine(line: string): SumsEntry | null {
  const text = line.replace(/^\uFEFF/, "").replace(/\r$/, "");
  if (text.trim() === "" || /^\s*#/.test(text)) return null;
  const gnu = GNU.exec(text);
  if (gnu !== null) {
    const [, escaped, hex, blanks, rest] = gnu as unknown as [string, string, string, string, string];
    return entryOf(hex, gnuNames(blanks, rest), escaped !== "");
  }
  const tagged = TAGGED.exec(text);
  if (tagged !== null) {
    const [, escaped, tag, name, hex] = tagged as unknown as [string, string, string, string, string];
    const entry = entryOf(hex, [name], escaped !== "");
    if (tag.toLowerCase().replace("sha2-", "sha").replace("-", "") !== entry.algorithm)
      throw bad(`${tag} does not go with ${hex.length} hex digits`);
    return entry;
  }
  throw bad("it is not of the form HEX NAME or ALGORITHM (NAME) = HEX");
}

/** What may be the name, the reading of md5sum first: one blank, then a blank or `*` as mark, then the name. */
function gnuNames(blanks: string, rest: string): string[] {
  const marked = rest.startsWith("*");
  const names: string[] = [];
  if (/^ [ \t]/.test(blanks)) names.push(blanks.slice(2) + rest);
  if (marked) names.push(rest.slice(1));
  names.push(rest);
  return names;
}

function entryOf(hex: string, readings: readonly string[], escaped: boolean): SumsEntry {
  const algorithm = ALGORITHM_OF_LENGTH[hex.length];
  if (algorithm === undefined)
    throw bad(`${hex.length} hex digits are no md5, sha1, sha256 or sha512 checksum`);
  const [first, ...others] = escaped ? readings.map(unescapeName) : readings;
  const name = placed(first!);
  // A list may have millions of lines, and hardly any with a doubt.
  if (others.every((other) => other === first) && !/^\s|\s$|\\/.test(first!))
    return { algorithm, hex: hex.toLowerCase(), names: [name] };
  const names = new Set<string>();
  for (const reading of [first!, ...others].flatMap((text) => [text, text.trimEnd()]))
    for (const meant of escaped ? [reading] : [reading, reading.replaceAll("\\", "/")]) {
      try {
        names.add(placed(meant));
      } catch {
        // Only the first reading must be a good name; the others are guesses.
      }
    }
  names.delete(name);
  return { algorithm, hex: hex.toLowerCase(), names: [name, ...names] };
}

function unescapeName(name: string): string {
  const plain: Readonly<Record<string, string>> = { "\\\\": "\\", "\\n": "\n", "\\r": "\r" };
  return name.replace(/\\.?/gs, (pair) => {
    const text = plain[pair];
    if (text === undefined) throw bad(`its name has the unknown escape ${JSON.stringify(pair)}`);
    return text;
  });
}

/** The name without `.` segments. Throws `bad-selection` when it names no file below the folder. */
function placed(name: string): string {
  const separator = process.platform === "win32" ? /[\\/]/ : /\//;
  if (name.includes("\0")) throw bad("its name has a zero byte");
  if (name.startsWith("/") || /^[a-z]:[\\/]/i.test(name) || name.startsWith("\\\\"))
    throw bad("its name is an absolute path, and may only name files in the folder");
  const segments = name.split(separator).filter((segment) => segment !== "" && segment !== ".");
  if (segments.includes("..")) throw bad("its name leaves the folder with `..`");
  if (segments.length === 0) throw bad("it has no name");
  return segments.join("/");
}

function bad(why: string): RunError {
  return new RunError("bad-selection", why);
}

/** The line that `md5sum -c` and `sha256sum -c` read back, with its newline. `path` is relative. */
export function formatSumsLine(hex: string, path: string): string {
  if (!/[\\\n\r]/.test(path)) return `${hex}  ${path}\n`;
  const escaped = path.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll("\r", "\\r");
  return `\\${hex}  ${escaped}\n`;
}
