/**
 * Reads a tar archive from front to back. Facts of the format: POSIX.1-2017 pax "ustar Interchange Format" and extended
 * headers; GNU tar manual, "Basic Tar Format" (long names `L` and `K`, letters of its own) and "Storing Sparse Files".
 */
import { isUtf8 } from "node:buffer";
import { RunError } from "../errors.ts";
import { ByteReader } from "./bytes.ts";

export interface TarEntry {
  /** As it stands in the archive: it may be absolute, or lead elsewhere. */
  readonly name: string;
  /** `other`: hard links, devices, a part of a file (sparse, or of several volumes), and what only its writer knows. */
  readonly type: "file" | "folder" | "symlink" | "other";
  /** Where a link leads; empty for others. */
  readonly target: string;
  readonly mode: number;
  readonly bytes: number;
  /** May be iterated once; what is not read when the next entry is asked for is skipped. */
  readonly body: AsyncIterable<Uint8Array>;
}

const BLOCK = 512;
/** Of names and extended headers. */
const MAX_HEADER_BYTES = 1024 * 1024;
const TYPES: Readonly<Record<string, TarEntry["type"]>> = {
  "0": "file",
  "\0": "file",
  "7": "file",
  "5": "folder",
  // With the names of what it held at the time of an incremental backup.
  D: "folder",
  "2": "symlink",
};
/** Links, devices and folders have no content, whatever their size says. */
const WITHOUT_CONTENT = /[1-6]/u;
/** Where GNU's header of a sparse file says that a further block of its map follows; where such a block does. */
const [SPARSE_GOES_ON, SPARSE_BLOCK_GOES_ON] = [482, 504];

/**
 * Throws `proof-format` when the archive is cut or damaged, or something follows its end. An error of the source passes
 * unchanged. Who stops early closes the source.
 */
export async function* untar(source: AsyncIterable<Uint8Array>): AsyncGenerator<TarEntry, void, undefined> {
  const reader = new ByteReader(source);
  try {
    yield* readEntries(reader);
  } finally {
    await reader.close();
  }
}

async function* readEntries(reader: ByteReader): AsyncGenerator<TarEntry, void, undefined> {
  let extended: Record<string, string> = {};
  for (;;) {
    if (!(await reader.fill(BLOCK))) throw cut();
    const header = Buffer.from(reader.take(BLOCK));
    if (header.every((byte) => byte === 0)) {
      await readEnd(reader);
      return;
    }
    if (!hasChecksum(header)) throw damaged("a tar header has a wrong checksum");
    const letter = header.toString("latin1", 156, 157);
    const told = extended.size === undefined ? number(header, 124, 12) : Number(extended.size);
    if (!Number.isSafeInteger(told) || told < 0) throw damaged("a size in a tar header is no number");
    const bytes = WITHOUT_CONTENT.test(letter) ? 0 : told;
    const padded = Math.ceil(bytes / BLOCK) * BLOCK;
    if (letter === "x" || letter === "L" || letter === "K") {
      if (bytes > MAX_HEADER_BYTES) throw damaged("a tar header is too long");
      if (!(await reader.fill(padded))) throw cut();
      const content = Buffer.from(reader.take(padded)).subarray(0, bytes);
      if (letter === "x") extended = { ...extended, ...paxRecords(content) };
      else extended[letter === "L" ? "path" : "linkpath"] = untilZero(content);
      continue;
    }
    const sparse = letter === "S" || Object.keys(extended).some((key) => key.startsWith("GNU.sparse."));
    if (letter === "S") await skipSparseMap(reader, header);
    const prefix = header.toString("latin1", 257, 263) === "ustar\0" ? text(header, 345, 155) : "";
    const own = text(header, 0, 100);
    let left = padded;
    const body = async function* (): AsyncGenerator<Uint8Array> {
      while (left > 0) {
        if (!(await reader.fill(1))) throw cut();
        const chunk = reader.take(Math.min(left, reader.available));
        const before = padded - left;
        left -= chunk.length;
        if (before < bytes) yield chunk.subarray(0, Math.min(chunk.length, bytes - before));
      }
    };
    const content = body();
    const name = extended["GNU.sparse.name"] ?? extended.path ?? (prefix === "" ? own : `${prefix}/${own}`);
    // A comment for all that follows, and the label of a volume, are about the archive.
    if (letter !== "g" && letter !== "V")
      yield {
        name,
        // Before folders had a letter, they had a slash.
        type: sparse ? "other" : bytes === 0 && name.endsWith("/") ? "folder" : (TYPES[letter] ?? "other"),
        target: extended.linkpath ?? text(header, 157, 100),
        mode: number(header, 100, 8),
        bytes,
        body: content,
      };
    // Whatever the reader left of it.
    const rest = left === padded ? content : body();
    for await (const _ of rest);
    if (letter !== "g") extended = {};
  }
}

/** A second block of zeros ends an archive, and more of them may fill it up. */
async function readEnd(reader: ByteReader): Promise<void> {
  if (!(await reader.fill(BLOCK))) throw cut();
  while (await reader.fill(1))
    if (reader.take(reader.available).some((byte) => byte !== 0))
      throw damaged("more follows behind the end of the tar archive");
}

async function skipSparseMap(reader: ByteReader, header: Buffer): Promise<void> {
  let more = header[SPARSE_GOES_ON] !== 0;
  while (more) {
    if (!(await reader.fill(BLOCK))) throw cut();
    more = reader.take(BLOCK)[SPARSE_BLOCK_GOES_ON] !== 0;
  }
}

/** Names from before UTF-8 are most often Latin-1; one character for each byte keeps them apart in any case. */
function untilZero(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  const value = end < 0 ? bytes : bytes.subarray(0, end);
  return value.toString(isUtf8(value) ? "utf8" : "latin1");
}

const text = (header: Buffer, at: number, length: number): string =>
  untilZero(header.subarray(at, at + length));

function number(header: Buffer, at: number, length: number): number {
  const field = header.subarray(at, at + length);
  const first = field[0] ?? 0;
  // GNU tar writes sizes that octal digits can't hold in base 256, the first bit set; the second is that of a negative one.
  if (first & 0x40 && first & 0x80) return Number.NaN;
  if (first & 0x80) return field.subarray(1).reduce((sum, byte) => sum * 256 + byte, first & 0x3f);
  const digits = untilZero(field).trim();
  return digits === "" ? 0 : /^[0-7]+$/u.test(digits) ? Number.parseInt(digits, 8) : Number.NaN;
}

/** Of all bytes, those of the checksum itself counted as blanks; some old writers took bytes for signed ones. */
function hasChecksum(header: Buffer): boolean {
  let [sum, signed] = [0, 0];
  for (const [at, byte] of header.entries()) {
    const value = at >= 148 && at < 156 ? 0x20 : byte;
    sum += value;
    signed += value > 127 ? value - 256 : value;
  }
  const told = number(header, 148, 8);
  return told === sum || told === signed;
}

/** Records `LENGTH KEY=VALUE\n`, the length that of the whole record. */
function paxRecords(content: Buffer): Record<string, string> {
  const found: Record<string, string> = {};
  for (let at = 0; at < content.length; ) {
    const blank = content.indexOf(0x20, at);
    const length = Number(content.toString("latin1", at, blank));
    if (blank < 0 || !Number.isInteger(length) || length < 5 || at + length > content.length)
      throw damaged("an extended tar header can't be read");
    if (content[at + length - 1] !== 0x0a) throw damaged("an extended tar header can't be read");
    const record = content.toString("utf8", blank + 1, at + length - 1);
    const equals = record.indexOf("=");
    found[record.slice(0, equals)] = record.slice(equals + 1);
    at += length;
  }
  return found;
}

const cut = (): RunError => new RunError("proof-format", "the tar archive is cut");
const damaged = (what: string): RunError => new RunError("proof-format", what);
