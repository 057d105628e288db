/** Whether a folder can take a download: what disk it is on, room, inodes, permission, and how it treats names. */
import { randomBytes } from "node:crypto";
import { open, rm, stat, statfs } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { RunError } from "../errors.ts";
import { onDisk, writeAll } from "../lib/durable-file.ts";
import { type Finding, failed, fine, warning } from "../model/finding.ts";

/** Linux' `statfs` magic numbers (linux/magic.h, and the headers of the network file systems); what to know of each. */
const FILE_SYSTEMS: Readonly<Record<number, readonly [name: string, kind: "local" | "network" | "memory"]>> =
  {
    61267: ["ext2, ext3 or ext4", "local"],
    1481003842: ["XFS", "local"],
    2435016766: ["Btrfs", "local"],
    801189825: ["ZFS", "local"],
    2035054128: ["overlay (a container's own disk)", "local"],
    1702057286: ["FUSE, whatever program is behind it", "local"],
    16914836: ["tmpfs (memory)", "memory"],
    26985: ["NFS", "network"],
    20859: ["SMB", "network"],
    4283649346: ["CIFS", "network"],
    4266872130: ["SMB2", "network"],
    198183888: ["Lustre", "network"],
    1196446803: ["GPFS", "network"],
    428016422: ["BeeGFS", "network"],
    12805120: ["CephFS", "network"],
    16914839: ["9P", "network"],
    1397113167: ["AFS", "network"],
  };

const LITTLE_BYTES = 1024 ** 3;
const FEW_INODES = 1000;
/** Enough for a quota or a full disk to be noticed, whatever is kept back for small files. */
const PROBE_BYTES = 1024 * 1024;

/** Yields a finding a step and ends after the first that is `failed`. Leaves nothing behind. Throws only for a bug. */
export async function* checkFolder(dir: string): AsyncGenerator<Finding> {
  try {
    yield* check(resolve(dir));
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    yield failed(
      error.code === "disk-inodes" ? "inodes" : error.code === "disk-permission" ? "writable" : "disk",
      error,
    );
  }
}

async function* check(target: string): AsyncGenerator<Finding> {
  const folder = await nearest(target);
  yield folder === target
    ? fine("folder", target)
    : fine("folder", `${target} is not there yet; looked at ${folder}, where it would be made`);
  const facts = await onDisk({ operation: "look at the disk of", path: folder }, () => statfs(folder));
  yield fileSystem(facts.type);
  // bavail is what an ordinary user may take; some network file systems count no inodes.
  const freeBytes = facts.bavail * facts.bsize;
  if (facts.blocks > 0 && freeBytes === 0) throw new RunError("disk-full", `${folder}: the disk is full`);
  const freeWords = `${(freeBytes / 1e9).toFixed(freeBytes < 1e10 ? 2 : 0)} GB free`;
  if (facts.blocks === 0) yield fine("free space", "not counted by this file system");
  else
    yield freeBytes < LITTLE_BYTES
      ? warning(
          "free space",
          freeWords,
          "a collection has many GB; `gantry get --dry-run` says what is needed",
        )
      : fine("free space", freeWords);
  if (facts.files === 0) yield fine("inodes", "not counted by this file system");
  else if (facts.ffree === 0)
    throw new RunError("disk-inodes", `${folder}: the file system has no free inode`);
  else if (facts.ffree < FEW_INODES) {
    yield warning(
      "inodes",
      `room for ${facts.ffree} more files`,
      "a series has hundreds of files: make room",
    );
  } else yield fine("inodes", `room for ${facts.ffree} more files`);
  yield* probe(folder);
}

/** The folder itself, or the nearest one above it that is there. Throws `usage` for a file. */
async function nearest(target: string): Promise<string> {
  for (let path = target; ; path = dirname(path)) {
    const facts = await stat(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT" || error.code === "ENOTDIR") return null;
      return onDisk({ operation: "look at", path }, () => Promise.reject(error));
    });
    if (facts?.isDirectory()) return path;
    if (facts) throw new RunError("usage", `${path} is no folder`, { hint: "name a folder" });
    if (path === dirname(path)) throw new RunError("disk-error", `${target}: there is no such place`);
  }
}

function fileSystem(type: number): Finding {
  // A signed number on some kernels.
  const [name, kind] = FILE_SYSTEMS[type >>> 0] ?? [`of type 0x${(type >>> 0).toString(16)}`, "local"];
  if (kind === "memory") {
    return warning("file system", name, "what is stored there is gone when the machine restarts");
  }
  return fine("file system", kind === "network" ? `${name}: a network file system, fit for downloads` : name);
}

/** Writes a hidden file, which shows permission and quota, looks how names are treated, and takes it away again. */
async function* probe(folder: string): AsyncGenerator<Finding> {
  const stem = `.gantry-doctor-${randomBytes(6).toString("hex")}`;
  const path = join(folder, `${stem}-a\u00e9`);
  try {
    await onDisk({ operation: "write", path: folder }, async () => {
      const file = await open(path, "wx");
      try {
        await writeAll(file, randomBytes(PROBE_BYTES));
        await file.sync();
      } finally {
        await file.close();
      }
    });
    yield fine("writable", "a file of 1 MiB could be written, and no quota was in the way");
    const there = (name: string): Promise<boolean> =>
      stat(join(folder, name)).then(
        () => true,
        () => false,
      );
    const folds = [
      ...((await there(`${stem}-A\u00e9`)) ? ["capital and small letters"] : []),
      ...((await there(`${stem}-ae\u0301`)) ? ["composed and decomposed letters"] : []),
    ];
    yield folds.length === 0
      ? fine("names", "are kept apart as the archive spells them")
      : fine("names", `${folds.join(", and ")} are the same here; gantry keeps clashing names apart`);
  } finally {
    await rm(path, { force: true }).catch(() => undefined);
  }
}
