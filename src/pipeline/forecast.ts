/** Whether what is to be fetched fits, and how long it will take, judged before anything is. Pure. */
import { RunError } from "../errors.ts";
import type { Tally } from "./events.ts";

/** Room for new data; null where nothing limits it, or nobody tells. */
export interface Room {
  readonly bytes: number | null;
  readonly inodes: number | null;
}

export interface Space {
  /** As archives announce it; what they do not announce counts as nothing, and is never refused. */
  readonly fetch: Tally;
  /** Of the largest item. */
  readonly largestBytes: number;
  /** On the target's disk. */
  readonly free: Room;
  /** What quotas leave there. */
  readonly quota: Room;
  /** Bytes free where `--scratch` is; null without it. */
  readonly scratch: number | null;
  /** What the folder keeps its items in (`folder.json`). */
  readonly sink: string;
  /** How large its archive files get (`--shard-size`); null: one takes everything. */
  readonly shardBytes: number | null;
  /** The folder if it is there already; null: it is begun with this get. */
  readonly dir: string | null;
}

/** No medical image gets smaller than this by compression, so that less than this is certain not to do. */
const BEST_RATIO = 0.1;

/** Inodes of so much data: as loose files, without their folders, and as archive files with their indexes. */
export function countInodes(
  { files, bytes: size }: Tally,
  shardBytes: number | null,
): { readonly loose: number; readonly packed: number } {
  return { loose: files, packed: 2 * (shardBytes === null ? 1 : Math.max(1, Math.ceil(size / shardBytes))) };
}

/**
 * | there is to fetch                     | and                        | refused                                |
 * |---------------------------------------|----------------------------|----------------------------------------|
 * | more bytes than are free              | loose files or plain tar   | disk-full, disk-quota                  |
 * | ten times as many                     | compressed                 | disk-full, disk-quota                  |
 * | more inodes than are free             | loose files, or shards     | disk-inodes, disk-quota                |
 * | an item larger than the scratch disk  | `--scratch`                | disk-full                              |
 */
export function refuseSpace(space: Space): RunError | null {
  const { fetch, largestBytes, free, quota, scratch, sink, shardBytes } = space;
  const packed = sink !== "folder";
  const least = sink === "folder" || sink === "tar" ? fetch.bytes : fetch.bytes * BEST_RATIO;
  const inodes = countInodes(fetch, shardBytes);
  const room = { bytes: tighter(free.bytes, quota.bytes), inodes: tighter(free.inodes, quota.inodes) };
  const fitsPacked =
    (room.bytes.left ?? Number.POSITIVE_INFINITY) >= fetch.bytes * BEST_RATIO &&
    (room.inodes.left ?? Number.POSITIVE_INFINITY) >= countInodes(fetch, null).packed;
  const pack = `pack it: ${packLine(space)}`;
  if (room.bytes.left !== null && least > room.bytes.left) {
    const [code, where] = room.bytes.byQuota
      ? (["disk-quota", `the quota leaves ${bytes(room.bytes.left)}`] as const)
      : (["disk-full", `the disk has ${bytes(room.bytes.left)} free`] as const);
    const ways = !packed && fitsPacked ? `${pack}, which compresses; ` : "";
    return new RunError(code, `${bytes(fetch.bytes)} are to be fetched, and ${where}`, {
      hint: `${ways}free some space, or take less at a time (--limit)`,
    });
  }
  const wanted = packed ? inodes.packed : inodes.loose;
  if (fetch.files > 0 && room.inodes.left !== null && wanted > room.inodes.left) {
    const [code, where] = room.inodes.byQuota
      ? (["disk-quota", `the quota leaves ${room.inodes.left} inodes`] as const)
      : (["disk-inodes", `the disk has room for ${room.inodes.left} more`] as const);
    const what = packed ? `${wanted} archive files and indexes` : `${wanted} files`;
    const way = packed ? "use a larger --shard-size" : `${pack} (2 files instead of all these)`;
    return new RunError(code, `${what} are to be written, and ${where}`, {
      hint: fitsPacked ? way : "free some inodes, or take less at a time (--limit)",
    });
  }
  return refuseScratch(largestBytes, scratch);
}

/** A folder keeps the form of its first get; `gantry pack` is what changes it. */
const packLine = ({ dir }: Space): string =>
  dir === null ? "--pack tar.zst" : `gantry pack ${dir} --pack tar.zst, then get again`;

function tighter(disk: number | null, quota: number | null): { left: number | null; byQuota: boolean } {
  const byQuota = quota !== null && (disk === null || quota < disk);
  return { left: byQuota ? quota : disk, byQuota };
}

/** What earlier runs transferred: bytes of data, and for how long. */
export interface Transferred {
  readonly bytes: number;
  readonly seconds: number;
}

/** Runs of before that tell how fast the next one will be. */
const MEASURED_RUNS = 5;

/** Bytes a second over the newest runs, given oldest first; null when none transferred anything. */
export function measuredRate(runs: readonly Transferred[]): number | null {
  const newest = runs.filter(({ bytes, seconds }) => bytes > 0 && seconds > 0).slice(-MEASURED_RUNS);
  if (newest.length === 0) return null;
  const [size, seconds] = [sum(newest, "bytes"), sum(newest, "seconds")];
  return size / seconds;
}

const sum = (runs: readonly Transferred[], key: keyof Transferred): number =>
  runs.reduce((total, run) => total + run[key], 0);

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
