/**
 * How the words of a command line name things: ADDRESS [PATH…] (docs/addresses.md).
 */
import { RunError } from "../errors.ts";

export type Target =
  /** Places in a configured archive; `[]` is its root. At least one. */
  | { readonly kind: "archive"; readonly archive: string; readonly paths: readonly (readonly string[])[] }
  /** A ready selection in a file. `more`: further words, which only a link in the file can take (`@FILE`). */
  | { readonly kind: "file"; readonly path: string; readonly more: readonly string[] }
  /** A ready selection, or a link, on standard input. */
  | { readonly kind: "stdin"; readonly more: readonly string[] }
  /** A link or an ascp site: `scheme` is the URL's, `ssh` for `user@host:dir`. `more`: the further words. */
  | {
      readonly kind: "link";
      readonly scheme: string;
      readonly text: string;
      readonly more: readonly string[];
    };

/** A configured archive's name, or `HOST/NUMBER` of a package (model/site.ts), and a place in it. */
const ARCHIVE =
  /^([a-z][a-z0-9-]+|(?:localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)+|\[[0-9a-f:]+\])(?::\d+)?\/\d+):(?!\/\/)(.*)$/su;
const ASCP_SITE = /^[^\s@/:]+@[^\s@/:]+:/u;

/**
 * Reads a word as documented: `://` makes it a link, `user@host:dir` an ascp site, `name:` a configured archive,
 * else it is a file. Further words are paths inside an archive. Throws `usage`.
 */
export function parseTarget(words: readonly string[]): Target {
  const [word, ...paths] = words;
  if (word === undefined || word === "")
    throw new RunError("usage", "no address was given", { hint: "for example: gantry ls tcia:" });
  if (word === "-") return { kind: "stdin", more: paths };
  if (word.startsWith("@")) return { kind: "file", path: word.slice(1), more: paths };
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):\/\//u.exec(word)?.[1];
  if (scheme !== undefined) return { kind: "link", scheme: scheme.toLowerCase(), text: word, more: paths };
  if (ASCP_SITE.test(word)) return { kind: "link", scheme: "ssh", text: word, more: paths };
  const match = ARCHIVE.exec(word);
  if (!match) {
    if (paths.length > 0) throw noPaths(paths[0] as string);
    return { kind: "file", path: word, more: [] };
  }
  const base = parsePath(match[2] as string, word);
  const all = paths.length === 0 ? [base] : paths.map((path) => [...base, ...parsePathWord(path)]);
  return { kind: "archive", archive: match[1] as string, paths: all };
}

/** The error for paths after a selection, which takes none. */
export function noPaths(path: string): RunError {
  return new RunError("usage", `a selection takes no further paths, but ${JSON.stringify(path)} was given`, {
    hint: "an archive's name ends in a colon, for example tcia:",
  });
}

/** A PATH that is a word of its own. Throws `usage` for an empty one: a variable without a value is not the whole archive. */
export function parsePathWord(word: string): string[] {
  if (word.trim() === "")
    throw new RunError("usage", "a PATH is empty", { hint: "leave it out where all is meant" });
  return parsePath(word, word);
}

/** Segments split at `/`, each percent-decoded once; one trailing slash is allowed. Throws `usage`. */
export function parsePath(text: string, word: string): string[] {
  const trimmed = text.replace(/\/$/u, "");
  if (trimmed === "") return [];
  return trimmed.split("/").map((segment) => {
    if (segment === "")
      throw new RunError("usage", `${JSON.stringify(word)} has an empty part between two slashes`);
    if (!segment.includes("%")) return segment;
    try {
      return decodeURIComponent(segment);
    } catch {
      throw new RunError("usage", `${JSON.stringify(word)} has a percent sign that begins no %XX code`, {
        hint: "write % itself as %25",
      });
    }
  });
}

/**
 * Four or more dotted integers, or `2.25.` and one (made from a UUID, DICOM PS3.5 B.2); at most 64 characters
 * (DICOM PS3.5 section 9). Shorter ones are as likely a name that somebody gave.
 */
export function isUid(text: string): boolean {
  return text.length <= 64 && /^(2\.25\.\d+|\d+(\.\d+){3,})$/u.test(text);
}

/** Known words that are near to a wrong one, best first, at most five. */
export function nearMatches(wrong: string, known: Iterable<string>): string[] {
  const want = wrong.toLowerCase();
  const scored: { word: string; score: number }[] = [];
  for (const word of known) {
    const have = word.toLowerCase();
    const score =
      have === want ? 0 : have.includes(want) || want.includes(have) ? 1 : editDistance(want, have);
    if (score <= Math.max(2, Math.floor(want.length / 3))) scored.push({ word, score });
  }
  return scored
    .sort((a, b) => a.score - b.score || (a.word < b.word ? -1 : 1))
    .slice(0, 5)
    .map((each) => each.word);
}

function editDistance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 5) return 99;
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      row.push(
        Math.min((previous[j] as number) + 1, (row[j - 1] as number) + 1, (previous[j - 1] as number) + cost),
      );
    }
    previous = row;
  }
  return previous[b.length] as number;
}
