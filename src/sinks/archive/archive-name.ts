/** What the name of an archive file says of its format. */
import type { PackFormat } from "./codec.ts";

/** `tar.gz`: of other programs only. */
export type NamedFormat = PackFormat | "tar.gz";

const ENDINGS: readonly (readonly [ending: RegExp, NamedFormat])[] = [
  [/\.tar$/iu, "tar"],
  [/\.(tar\.zst|tzst)$/iu, "tar.zst"],
  [/\.(tar\.xz|txz)$/iu, "tar.xz"],
  [/\.(tar\.gz|tgz)$/iu, "tar.gz"],
];

/** Null for what is no name of an archive file that can be read. */
export const namedFormat = (path: string): NamedFormat | null =>
  ENDINGS.find(([ending]) => ending.test(path))?.[1] ?? null;

export const isArchiveName = (path: string): boolean => namedFormat(path) !== null;
