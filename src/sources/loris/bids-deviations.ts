/**
 * Where a BIDS tree of a LORIS departs from BIDS (1.11) by names or by what small files say: what a `.bidsignore` has to
 * name, so that validators pass over it. The data themselves are never altered.
 */
import { RunError } from "../../errors.ts";
import type { HeldItem } from "../source.ts";

export interface Deviation {
  /** As in a `.bidsignore`: the syntax of gitignore. */
  readonly pattern: string;
  /** Whether it covers a path of the tree. */
  readonly covers: (path: string) => boolean;
}

/** Of the names that the PREVENT-AD fork of LORIS 20.1 gives. */
export const NAMES: readonly Deviation[] = [
  { pattern: "asl/", covers: (path) => /(^|\/)asl\//u.test(path) },
  { pattern: "*_events.txt", covers: (path) => path.endsWith("_events.txt") },
  {
    pattern: "*_echo-*_part-*_run-*_T2star.*",
    covers: (path) => /_echo-[^/]*_part-[^/]*_run-[^/]*_T2star\.[^/]*$/u.test(path),
  },
  {
    pattern: "*_inv-*_part-*_run-*_MP2RAGE.*",
    covers: (path) => /_inv-[^/]*_part-[^/]*_run-[^/]*_MP2RAGE\.[^/]*$/u.test(path),
  },
];

/** Tables of gradients and of events have some kB. */
const LIMIT_BYTES = 16 * 1024 * 1024;

/** What the small files of one session say that BIDS refuses. `isHere`: whether a path of the tree is held. */
export async function findDeviations(
  session: readonly HeldItem[],
  isHere: (path: string) => boolean,
): Promise<readonly Deviation[]> {
  const byPath = new Map(session.flatMap((held) => held.paths.map((path) => [path, held] as const)));
  const found: Deviation[] = [];
  const own = (start: string): void => {
    // A dot after the stem: `…_run-1_dwi.*` is not `…_run-1_dwi2.nii.gz`.
    found.push({ pattern: `/${start}*`, covers: (path) => path.startsWith(start) });
  };
  for (const [path, held] of byPath) {
    const image = path.replace(/\.bvec$/u, ".");
    if (image !== path) {
      const bval = byPath.get(`${image}bval`);
      if (bval && !areGradients(await textOf(bval), await textOf(held))) own(image);
    } else if (path.endsWith("_events.tsv")) {
      const missing = stimuli(await textOf(held)).some((name) => !isHere(`stimuli/${name}`));
      if (missing) own(path);
    }
  }
  return found;
}

/** One row of b values, three of directions, a column for each volume (BIDS, "Diffusion imaging data"). */
function areGradients(bval: string, bvec: string): boolean {
  const rows = (text: string): string[][] =>
    text
      .split(/\r?\n/u)
      .filter((line) => line.trim() !== "")
      .map((line) => line.trim().split(/\s+/u));
  const values = rows(bval);
  const vectors = rows(bvec);
  const volumes = values[0]?.length;
  return values.length === 1 && vectors.length === 3 && vectors.every((row) => row.length === volumes);
}

/** What the column `stim_file` names: paths below `stimuli/` (BIDS, "Task events"). */
function stimuli(events: string): string[] {
  const [head = "", ...lines] = events.split(/\r?\n/u);
  const column = head.split("\t").indexOf("stim_file");
  if (column < 0) return [];
  const names = lines.map((line) => line.split("\t")[column]?.trim() ?? "");
  return [...new Set(names)].filter((name) => name !== "" && name !== "n/a");
}

/** A small file of the tree. Throws `proof-format` for one that is not small. */
export async function textOf(held: HeldItem): Promise<string> {
  return new TextDecoder().decode(await bytesOf(held));
}

export async function bytesOf({ read, paths }: HeldItem): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of read()) {
    bytes += chunk.length;
    if (bytes > LIMIT_BYTES) throw new RunError("proof-format", `${paths[0]}: too long for a side file`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, bytes);
}
