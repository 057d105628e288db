/** Globs over paths: `*` and `?` within a segment, `**` over several, `[a-z]`, `{a,b}`. */
import picomatch from "picomatch";
import { RunError } from "../errors.ts";

/** Whether one of them matches. Throws `usage`. */
export function buildGlobs(patterns: readonly string[]): (text: string) => boolean {
  try {
    return picomatch([...patterns], { dot: true });
  } catch (cause) {
    // Empty, or longer than picomatch takes.
    throw new RunError("usage", "a glob is neither empty nor thousands of characters long", {
      hint: "write it as in 'COLLECTION/**'",
      cause,
    });
  }
}

/** Whether a word is meant as a glob, and not only as a name. */
export const isGlob = (word: string): boolean => /[*?[{]/u.test(word);
