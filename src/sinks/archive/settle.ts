/**
 * Makes archive files agree with receipts. Live is what a receipt in force names; the gaps between are blanked, what
 * comes after the last is cut off. So a run may be killed anywhere, an item may change or be dropped, and all that is
 * to be done is this.
 */
import { createWriteStream } from "node:fs";
import { type FileHandle, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import { onDisk } from "../../lib/durable-file.ts";
import { ExternalSort } from "../../lib/external-sort.ts";
import { indexPath } from "../../model/receipt.ts";
import type { StateFolder } from "../../state/state-folder.ts";
import type { SettleOptions } from "../sink.ts";
import { type IndexLine, writeIndex } from "./archive-index.ts";
import { endPiece } from "./codec.ts";
import type { Shelf, Unpublished } from "./shelf.ts";

type Line = IndexLine & { readonly archive: string };

export async function settleArchives(
  shelf: Shelf,
  state: StateFolder,
  { run, states, life, publish, temporary }: SettleOptions,
): Promise<void> {
  const mine = new Map<string, Unpublished>();
  const others = new Set<string>();
  for (const each of await shelf.unpublished()) {
    const holder = each.run === run ? "mine" : life(each.run);
    if (holder === "lives") others.add(each.archive);
    else if (holder === "mine") mine.set(each.archive, each);
    // Who is only believed dead may wake, and write on to the file that it has open.
    else mine.set(each.archive, await shelf.takeOver(each, run, { copied: holder === "silent" }));
  }
  const seen = new Set<string>(others);
  const sorter = new ExternalSort({ folder: temporary });
  try {
    for await (const { current } of states()) {
      for (const { path, bytes, digest, packed } of current.files) {
        if (!packed) continue;
        seen.add(packed.archive);
        if (others.has(packed.archive)) continue;
        const line: Line = { path, bytes, digest, item: current.item, ...packed };
        await sorter.push(sortKey(line), JSON.stringify(line));
      }
    }
    // Before anything gets its name: what was joined is never there twice.
    for (const archive of await shelf.published()) if (!seen.has(archive)) await shelf.remove(archive);
    let settling: Settling | null = null;
    const finish = async (): Promise<void> => {
      if (!settling) return;
      await settling.finish(publish);
      mine.delete(settling.archive);
      settling = null;
    };
    for await (const text of sorter.sorted()) {
      const { archive, ...line } = JSON.parse(text) as Line;
      if (settling && (settling as Settling).archive !== archive) await finish();
      settling ??= await Settling.begin(shelf, state, archive, mine.get(archive) ?? null, temporary);
      await settling.keep(line);
    }
    await finish();
  } finally {
    await sorter.close();
  }
  // What is left holds nothing that a receipt names.
  for (const each of mine.values()) await shelf.discard(each);
  await shelf.freeNames();
}

const sortKey = ({ archive, offset, at }: Line): string => `${archive}\u0000${digits(offset)}${digits(at)}`;
const digits = (value: number): string => String(value).padStart(16, "0");

class Settling {
  readonly archive: string;
  readonly #shelf: Shelf;
  readonly #state: StateFolder;
  readonly #unpublished: Unpublished | null;
  readonly #path: string;
  /** Null when the archive file is not there, which is for `verify` to say. */
  readonly #file: FileHandle | null;
  readonly #lines: Lines;
  /** Up to here all is live or blank. */
  #done = 0;
  /** It is shorter than receipts say: nothing of it is touched. */
  readonly #size: number;

  private constructor(
    archive: string,
    shelf: Shelf,
    state: StateFolder,
    unpublished: Unpublished | null,
    path: string,
    file: FileHandle | null,
    size: number,
    lines: Lines,
  ) {
    this.archive = archive;
    this.#shelf = shelf;
    this.#state = state;
    this.#unpublished = unpublished;
    this.#path = path;
    this.#file = file;
    this.#size = size;
    this.#lines = lines;
  }

  static async begin(
    shelf: Shelf,
    state: StateFolder,
    archive: string,
    unpublished: Unpublished | null,
    temporary: () => Promise<string>,
  ): Promise<Settling> {
    const path = unpublished?.path ?? join(state.dir, archive);
    const file = await onDisk({ operation: "open", path }, () =>
      open(path, "r+").catch((error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT") return null;
        throw error;
      }),
    );
    const size = file === null ? 0 : (await file.stat()).size;
    const lines = new Lines(join(await temporary(), "index-lines"));
    return new Settling(archive, shelf, state, unpublished, path, file, size, lines);
  }

  async keep(line: IndexLine): Promise<void> {
    await this.#lines.write(line);
    const { offset, length } = line;
    if (offset > this.#done) await this.#blank(this.#done, offset - this.#done);
    this.#done = Math.max(this.#done, offset + length);
  }

  /** Overwrites what is not blank yet. */
  async #blank(offset: number, length: number): Promise<void> {
    const file = this.#file;
    if (file === null || offset + length > this.#size) return;
    await onDisk({ operation: "write", path: this.#path }, async () => {
      let at = offset;
      for (const part of this.#shelf.codec.blank(length)) {
        if (!(await holds(file, at, part))) await writeAt(file, part, at);
        at += part.length;
      }
    });
  }

  async finish(publish: boolean): Promise<void> {
    const lines = await this.#lines.close();
    const file = this.#file;
    try {
      if (file && this.#done <= this.#size) {
        await onDisk({ operation: "write", path: this.#path }, () => this.#end(file, publish));
      }
    } finally {
      await file?.close();
    }
    if (file && (publish || this.#unpublished === null)) {
      if (this.#unpublished) await this.#shelf.publish(this.#unpublished);
      const { format } = this.#shelf.codec;
      const temporaryIn = this.#state.path("partial");
      await writeIndex(join(this.#state.dir, indexPath(this.archive)), { format, lines, temporaryIn });
    }
    await rm(lines, { force: true });
  }

  /** What comes after the last live byte: nothing while it may grow, else the end of an archive. */
  async #end(file: FileHandle, publish: boolean): Promise<void> {
    const ended = publish || this.#unpublished === null;
    const end = ended ? await endPiece(this.#shelf.codec) : new Uint8Array();
    const right = this.#size === this.#done + end.length && (await holds(file, this.#done, end));
    if (!right) {
      await file.truncate(this.#done);
      await writeAt(file, end, this.#done);
    }
    await file.sync();
  }
}

async function holds(file: FileHandle, offset: number, wanted: Uint8Array): Promise<boolean> {
  const found = Buffer.alloc(wanted.length);
  const { bytesRead } = await file.read(found, 0, found.length, offset);
  return bytesRead === wanted.length && found.equals(wanted);
}

async function writeAt(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < bytes.length; )
    done += (await file.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
}

/** Lines of an index, in a temporary file until it is known whether they are wanted. */
class Lines {
  readonly #path: string;
  readonly #stream: ReturnType<typeof createWriteStream>;

  constructor(path: string) {
    this.#path = path;
    this.#stream = createWriteStream(path);
    this.#stream.on("error", () => undefined);
  }

  async write(line: IndexLine): Promise<void> {
    const stream = this.#stream;
    // One that has failed and is closed tells nothing more; `close` says why.
    if (stream.write(`${JSON.stringify(line)}\n`) || stream.destroyed) return;
    await new Promise<void>((resolve) => {
      const goOn = (): void => {
        stream.off("drain", goOn).off("close", goOn);
        resolve();
      };
      stream.on("drain", goOn).on("close", goOn);
    });
  }

  async close(): Promise<string> {
    this.#stream.end();
    await onDisk({ operation: "write", path: this.#path }, () => finished(this.#stream));
    return this.#path;
  }
}
