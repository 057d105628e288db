/**
 * The received beginning of a file, kept across processes: `NAME.part` and beside it `NAME.json`, which says how many of
 * its bytes are surely on the disk and of which version of the file they are. What was not synced is fetched again.
 */
import { createReadStream } from "node:fs";
import { type FileHandle, open, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import { makeFolder, onDisk, writeAll, writeFileDurably } from "./durable-file.ts";

/** A crash costs up to twice as much, which is received again. */
const SYNC_BYTES = 16 * 1024 * 1024;

const Facts = v.object({
  kind: v.literal("gantry-part"),
  version: v.literal(1),
  /** Surely on the disk. */
  syncedBytes: v.pipe(v.number(), v.integer(), v.minValue(1)),
  /** Size of the whole file. */
  bytes: v.pipe(v.number(), v.integer(), v.minValue(1)),
  /** For If-Range. */
  condition: v.pipe(v.string(), v.minLength(1)),
  /** Sums of the whole, as the first reply gave them. */
  md5: v.nullable(v.string()),
  sha256: v.nullable(v.string()),
});
export type PartFacts = v.InferOutput<typeof Facts>;

/** What of a file is here from before; close it by `keep`, `finish` or `remove`. Throws `disk-…`. */
export class PartFile {
  readonly #path: string;
  readonly #folder: string;
  #file: FileHandle | null = null;
  #facts: PartFacts | null;
  #writtenBytes = 0;
  /** Up to where it is synced or being synced. */
  #notedBytes = 0;
  /** Syncs what is written behind the writer's back, and notes it. */
  #noting: Promise<void> | null = null;

  private constructor(folder: string, path: string, facts: PartFacts | null) {
    this.#folder = folder;
    this.#path = path;
    this.#facts = facts;
  }

  static async open(folder: string, name: string): Promise<PartFile> {
    const path = join(folder, name);
    const facts = await readFacts(path);
    // What has another name may be stored under it, and must not be written into.
    const alone = facts !== null && (await stat(`${path}.part`)).nlink === 1;
    return new PartFile(folder, path, alone ? facts : null);
  }

  /** Where the bytes lie, once it was begun. */
  get path(): string {
    return `${this.#path}.part`;
  }

  /** What can be gone on with; null when nothing is. */
  get facts(): PartFacts | null {
    return this.#facts;
  }

  /** The bytes that are here. */
  read(): AsyncIterable<Uint8Array> {
    return createReadStream(`${this.#path}.part`, { end: (this.#facts as PartFacts).syncedBytes - 1 });
  }

  /** Goes on behind what is here, or with `fresh` begins anew. */
  async begin(fresh: Omit<PartFacts, "kind" | "version" | "syncedBytes"> | null): Promise<void> {
    await makeFolder(this.#folder, { mode: 0o700 });
    const start = fresh === null ? (this.#facts?.syncedBytes ?? 0) : 0;
    const at = { operation: "open", path: this.path };
    if (fresh !== null) {
      await rm(`${this.#path}.json`, { force: true });
      // It may have another name, under which it is stored.
      await rm(this.path, { force: true });
      this.#facts = { kind: "gantry-part", version: 1, syncedBytes: 0, ...fresh };
    }
    this.#file = await onDisk(at, () => open(at.path, start === 0 ? "w" : "r+"));
    // Behind the synced bytes there may be others, which a crash has left in any state.
    await onDisk(at, async () => this.#file?.truncate(start));
    this.#writtenBytes = start;
    this.#notedBytes = start;
  }

  async append(bytes: Uint8Array): Promise<void> {
    const file = this.#file as FileHandle;
    await onDisk({ operation: "write", path: this.path }, async () => {
      // Explicit positions: after `r+` the handle stands at the beginning.
      let done = 0;
      while (done < bytes.length) {
        const { bytesWritten } = await file.write(
          bytes,
          done,
          bytes.length - done,
          this.#writtenBytes + done,
        );
        done += bytesWritten;
      }
    });
    this.#writtenBytes += bytes.length;
    if (this.#writtenBytes - this.#notedBytes < SYNC_BYTES) return;
    await this.#noting;
    this.#notedBytes = this.#writtenBytes;
    this.#noting = this.#note();
    // Told to whoever waits for it next.
    this.#noting.catch(() => undefined);
  }

  /** Leaves what came for another try. */
  async keep(): Promise<void> {
    if (this.#file === null) return;
    try {
      await this.#noting;
      if (this.#writtenBytes > (this.#facts?.syncedBytes ?? 0)) await this.#note();
    } finally {
      await this.#close();
    }
  }

  /** Leaves the whole file, not to be gone on with, to whoever has its path. */
  async finish(): Promise<void> {
    try {
      await this.#noting;
    } finally {
      await this.#close();
    }
    await rm(`${this.#path}.json`, { force: true });
  }

  async remove(): Promise<void> {
    await this.#noting?.catch(() => undefined);
    await this.#close();
    await rm(`${this.#path}.json`, { force: true });
    await rm(`${this.#path}.part`, { force: true });
    this.#facts = null;
  }

  async #note(): Promise<void> {
    const syncedBytes = this.#writtenBytes;
    await onDisk({ operation: "sync", path: this.path }, async () => this.#file?.datasync());
    const facts: PartFacts = { ...(this.#facts as PartFacts), syncedBytes };
    await writeFileDurably(`${this.#path}.json`, `${JSON.stringify(facts)}\n`, { mode: 0o600 });
    this.#facts = facts;
  }

  async #close(): Promise<void> {
    const file = this.#file;
    this.#file = null;
    await file?.close();
  }
}

export interface CopyOptions {
  /** Folders that hold the two part files. */
  readonly from: string;
  readonly to: string;
  /** A folder on the disk of `to` for what is not whole yet; exists. */
  readonly temporary: string;
  readonly signal: AbortSignal;
  readonly onBytes: (bytes: number) => void;
}

/**
 * A second part file out of what is surely on the disk of another one, whose writer may be alive and go on with it: it
 * only ever appends behind those bytes, or begins anew and then says so first. False when there was nothing to copy or
 * it began anew meanwhile. Throws `disk-…`.
 */
export async function copyPart(name: string, options: CopyOptions): Promise<boolean> {
  const { from, to, temporary, signal, onBytes } = options;
  const source = join(from, name);
  const facts = await readFacts(source);
  if (facts === null) return false;
  await makeFolder(to, { mode: 0o700 });
  const copy = join(temporary, `${name}.part`);
  const at = { operation: "write", path: copy };
  try {
    let copied = 0;
    const file = await onDisk(at, () => open(copy, "w"));
    try {
      const bytes = createReadStream(`${source}.part`, { end: facts.syncedBytes - 1, signal });
      try {
        for await (const chunk of bytes as AsyncIterable<Uint8Array>) {
          await onDisk(at, () => writeAll(file, chunk));
          copied += chunk.length;
          onBytes(chunk.length);
        }
      } catch (error) {
        // Its writer removes it before it begins anew.
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      }
      await onDisk({ operation: "sync", path: copy }, () => file.datasync());
    } finally {
      await file.close();
    }
    const now = await readFacts(source);
    if (copied !== facts.syncedBytes || now?.condition !== facts.condition || now.bytes !== facts.bytes)
      return false;
    const path = join(to, `${name}.part`);
    await onDisk({ operation: "rename", path }, () => rename(copy, path));
    await writeFileDurably(join(to, `${name}.json`), `${JSON.stringify(facts)}\n`, { mode: 0o600 });
    return true;
  } finally {
    await rm(copy, { force: true });
  }
}

/** Null for what is absent, torn or of another version: then the file is fetched from its beginning. */
async function readFacts(path: string): Promise<PartFacts | null> {
  try {
    const parsed = v.safeParse(Facts, JSON.parse(await readFile(`${path}.json`, "utf8")));
    if (!parsed.success) return null;
    const file = await open(`${path}.part`, "r");
    try {
      const { size } = await file.stat();
      return size >= parsed.output.syncedBytes && parsed.output.syncedBytes < parsed.output.bytes
        ? parsed.output
        : null;
    } finally {
      await file.close();
    }
  } catch {
    return null;
  }
}
