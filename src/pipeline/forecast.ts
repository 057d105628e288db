/** Whether what is to be fetched fits, judged before anything is. Pure. */
import { RunError } from "../errors.ts";
import type { Tally } from "./events.ts";

export interface Space {
  /** As archives announce it; what they do not announce counts as nothing, and is never refused. */
  readonly fetch: Tally;
  /** Of the largest item. */
  readonly largestBytes: number;
  /** Of the target's disk; null where it does not tell. */
  readonly free: { readonly bytes: number | null; readonly inodes: number | null };
  /** Bytes free where `--scratch` is; null without it. */
  readonly scratch: number | null;
  /** What the folder keeps its items in (`folder.json`). */
  readonly sink: string;
}

/** No medical image gets smaller than this by compression, so that less than this is certain not to do. */
const BEST_RATIO = 0.1;

/**
 * | there is to fetch                     | and                        | refused                                |
 * |---------------------------------------|----------------------------|----------------------------------------|
 * | more bytes than are free              | loose files or plain tar   | disk-full                              |
 * | ten times as many                     | compressed                 | disk-full                              |
 * | more files than inodes are free       | loose files                | disk-inodes: `--pack` takes two        |
 * | an item larger than the scratch disk  | `--scratch`                | disk-full                              |
 */
export function refuseSpace({ fetch, largestBytes, free, scratch, sink }: Space): RunError | null {
  const packed = sink !== "folder";
  const least = sink === "folder" || sink === "tar" ? fetch.bytes : fetch.bytes * BEST_RATIO;
  if (free.bytes !== null && least > free.bytes) {
    const ways = packed ? "" : "pack it (--pack tar.zst, in a new folder), ";
    return new RunError(
      "disk-full",
      `${bytes(fetch.bytes)} are to be fetched, and the disk has ${bytes(free.bytes)} free`,
      { hint: `free some space, ${ways}or take less at a time (--limit)` },
    );
  }
  if (!packed && free.inodes !== null && fetch.files > free.inodes) {
    return new RunError(
      "disk-inodes",
      `${fetch.files} files are to be fetched, and the disk has room for ${free.inodes} more`,
      { hint: "take two files instead of all these: --pack tar.zst, in a new folder" },
    );
  }
  return refuseScratch(largestBytes, scratch);
}

/** Whether the disk that `--scratch` names, of which so much is free, can't take one item at a time. */
export function refuseScratch(largestBytes: number, scratch: number | null): RunError | null {
  if (scratch === null || largestBytes <= scratch) return null;
  return new RunError(
    "disk-full",
    `the scratch disk has ${bytes(scratch)} free, and the largest item takes ${bytes(largestBytes)}`,
    { hint: "name a larger disk with --scratch, or leave it out" },
  );
}

function bytes(count: number): string {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let value = count;
  let unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit += 1) value /= 1000;
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
