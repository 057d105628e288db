/** What stands in an archive file in the place of members that are gone (docs/formats/archive.md), known again by its form. */
import { type FileHandle, open } from "node:fs/promises";
import { onDisk } from "../../lib/durable-file.ts";
import { TAR_BLOCK } from "../../lib/tar-header.ts";
import type { Codec, PackFormat } from "./codec.ts";
import type { Range } from "./shard.ts";

/** A blank tells its length by its first bytes. */
interface Form {
  readonly headBytes: number;
  /** Of the whole blank; nonsense where it is none. */
  length(head: Buffer): number;
}

const FORMS: Readonly<Record<PackFormat, Form>> = {
  // The size of a skippable frame (RFC 8878, section 3.1.2).
  "tar.zst": { headBytes: 8, length: (head) => 8 + head.readUInt32LE(4) },
  // Of a stream with one empty block: the size of its header (The .xz File Format 1.2.1, 3.1.1), and what is around it.
  "tar.xz": {
    headBytes: 13,
    length: (head) => {
      const header = ((head[12] ?? 0) + 1) * 4;
      return header + (header <= 124 ? 36 : 40);
    },
  },
  tar: {
    headBytes: TAR_BLOCK,
    length: (head) => TAR_BLOCK + Number.parseInt(head.toString("latin1", 124, 135), 8),
  },
};

/** No blank is longer. */
const MOST_BYTES = 2 * 1024 * 1024;
const WINDOW_BYTES = 1024 * 1024;

/**
 * Whether nothing but blanks fills a part of an archive file; `cut`: the file ends before. Without `whole` only so much of
 * each is read as tells what it is. Throws `disk-…`.
 */
export function findBlanks(
  path: string,
  codec: Codec,
  { offset, length }: Range,
  whole: boolean,
): Promise<"blank" | "other" | "cut"> {
  const form = FORMS[codec.format];
  // Its blanks are short: to read them all is less than to go from head to head.
  const all = whole || codec.format === "tar.xz";
  const end = offset + length;
  return onDisk({ operation: "read", path }, async () => {
    const file = await open(path, "r");
    try {
      const window = new Window(file, all ? WINDOW_BYTES : form.headBytes);
      let wanted: Buffer = Buffer.alloc(0);
      for (let at = offset; at < end; at += wanted.length) {
        const head = await window.read(at, form.headBytes);
        if (head.length < form.headBytes) return "cut";
        const bytes = form.length(head);
        if (!(bytes <= MOST_BYTES && at + bytes <= end)) return "other";
        if (wanted.length !== bytes) wanted = Buffer.concat([...codec.blank(bytes)]);
        const found = all ? await window.read(at, bytes) : head;
        if (found.length < (all ? bytes : head.length)) return "cut";
        if (!wanted.subarray(0, found.length).equals(found)) return "other";
      }
      return "blank";
    } finally {
      await file.close();
    }
  });
}

/** Reads a file onward, some way ahead. */
class Window {
  readonly #file: FileHandle;
  readonly #ahead: number;
  #bytes: Buffer = Buffer.alloc(0);
  #start = 0;

  constructor(file: FileHandle, ahead: number) {
    this.#file = file;
    this.#ahead = ahead;
  }

  /** Fewer only at the end of the file. */
  async read(at: number, count: number): Promise<Buffer> {
    const held = this.#bytes.subarray(at - this.#start, at - this.#start + count);
    if (at >= this.#start && held.length === count) return held;
    const bytes = Buffer.alloc(Math.max(count, this.#ahead));
    const { bytesRead } = await this.#file.read(bytes, 0, bytes.length, at);
    this.#bytes = bytes.subarray(0, bytesRead);
    this.#start = at;
    return this.#bytes.subarray(0, count);
  }
}
