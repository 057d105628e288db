/**
 * Taking over a file that another tool left where the layout puts an item of one file. It stays where it lies when it is
 * proved; else nothing is done with it here, and the item is fetched.
 *
 * | the list of the user (`--checksums`) names it | else: the source examines it, the archive has the same | |
 * |---|---|---|
 * | with this digest and size | | adopted, proved by the list |
 * | with another one          | | fetched |
 * | not                       | yes | adopted, proved as the source says |
 * | not                       | no  | fetched |
 */
import { lstat, readFile } from "node:fs/promises";
import { dirname, join, posix } from "node:path";
import type { Published } from "../checksums/published.ts";
import { RunError } from "../errors.ts";
import { hashFile } from "../lib/digest.ts";
import { syncFolder } from "../lib/durable-file.ts";
import { readFileStream } from "../lib/read-file.ts";
import type { Row } from "../model/item.ts";
import { filePath } from "../model/place.ts";
import type { StoredFile } from "../model/receipt.ts";
import type { Source, SourceContext } from "../sources/source.ts";
import { syncQuietly } from "./adopt.ts";
import type { Task } from "./plan.ts";

export interface PlacedOptions {
  readonly dir: string;
  readonly task: Task;
  readonly source: Source;
  readonly published: Published | null;
  readonly context: SourceContext;
}

export interface AdoptedPlaced {
  readonly file: StoredFile;
  readonly proof: readonly string[];
  readonly facts: Row;
}

/** What lies beside data, e.g. a value of a header, is small. */
const BESIDE_LIMIT_BYTES = 64 * 1024;

/** Null: it is to be fetched. Throws what the archive answers when it is asked. */
export async function adoptPlaced(options: PlacedOptions): Promise<AdoptedPlaced | null> {
  const { dir, task, source, published, context } = options;
  const { item, place } = task;
  if (place.file === null) return null;
  const path = filePath(place, place.file);
  if (!task.found.some((found) => found.path === path)) return null;
  const full = join(dir, path);
  try {
    const before = await lstat(full);
    if (!before.isFile()) return null;
    const digest = await hashFile(full, source.capabilities.digest, context.signal);
    const file: StoredFile = { path, bytes: before.size, digest, mtimeMs: Math.trunc(before.mtimeMs) };
    const said = published?.judge(path, file) ?? null;
    if (said !== null && !said.agrees) return null;
    const examined =
      said === null
        ? await source.placed?.examine(item, {
            read: () => readFileStream(full),
            beside: (name) => readBeside(join(dir, posix.dirname(path), name)),
          })
        : { proof: said.proof, facts: {} };
    if (!examined) return null;
    const { facts, proof } = examined;
    if (said === null && !(await source.isCurrent?.(item, { files: [file], facts }, context))) return null;
    const after = await lstat(full);
    if (after.size !== before.size || after.mtimeMs !== before.mtimeMs) return null;
    // Another tool does not sync what it writes.
    await syncQuietly(full);
    await syncFolder(dirname(full));
    return { file, proof, facts };
  } catch (error) {
    // What can't be read, or is not what its name says, is fetched.
    const code = error instanceof RunError ? error.code : (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code?.startsWith("disk-") || code === "proof-format") return null;
    throw error;
  }
}

async function readBeside(path: string): Promise<Uint8Array | null> {
  const facts = await lstat(path).catch(() => null);
  return facts?.isFile() && facts.size <= BESIDE_LIMIT_BYTES ? readFile(path).catch(() => null) : null;
}
