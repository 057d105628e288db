/**
 * Reads a tar archive from front to back. Facts of the format: POSIX.1-2017 pax "ustar Interchange Format" and extended
 * headers; GNU tar manual, "Basic Tar Format" (long names `L` and `K`).
 */
import { RunError } from "../errors.ts";
import { ByteReader } from "./bytes.ts";

export interface TarEntry {
  /** As it stands in the archive: it may be absolute, or lead elsewhere. */
  readonly name: string;
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
const MAX_HEADER_BYTES = 64 * 1024;
const TYPES: Readonly<Record<string, TarEntry["type"]>> = {
  "0": "file",
  "\0": "file",
  "7": "file",
  "5": "folder",
  "2": "symlink",
};

/** Throws `proof-format` when the archive is cut or damaged. An error of the source passes unchanged. */
export async function* untar(source: AsyncIterable<Uint8Array>): AsyncGenerator<TarEntry, void, undefined> {
  const reader = new ByteReader(source);
  let extended: Record<string, string> = {};
  for (;;) {
    if (!(await reader.fill(BLOCK))) throw cut();
    const header = Buffer.from(reader.take(BLOCK));
    if (header.every((byte) => byte === 0)) return;
    if (checksum(header) !== octal(header, 148, 8)) throw damaged("a header's checksum is wrong");
    const letter = header.toString("latin1", 156, 157);
    const bytes = extended.size === undefined ? octal(header, 124, 12) : Number(extended.size);
    if (!Number.isSafeInteger(bytes) || bytes < 0) throw damaged("a size is no number");
    const padded = Math.ceil(bytes / BLOCK) * BLOCK;
    if (letter === "x" || letter === "g" || letter === "L" || letter === "K") {
      if (bytes > MAX_HEADER_BYTES) throw damaged("a header is too long");
      if (!(await reader.fill(padded))) throw cut();
      const content = Buffer.from(reader.take(padded)).subarray(0, bytes);
      if (letter === "x") extended = { ...extended, ...paxRecords(content) };
      else if (letter !== "g") extended[letter === "L" ? "path" : "linkpath"] = untilZero(content);
      continue;
    }
    const prefix = header.toString("latin1", 257, 262) === "ustar" ? text(header, 345, 155) : "";
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
    yield {
      name: extended.path ?? (prefix === "" ? own : `${prefix}/${own}`),
      type: TYPES[letter] ?? "other",
      target: extended.linkpath ?? text(header, 157, 100),
      mode: octal(header, 100, 8),
      bytes,
      body: content,
    };
    // Whatever the reader left of it.
    const rest = left === padded ? content : body();
    for await (const _ of rest);
    extended = {};
  }
}

const untilZero = (bytes: Buffer): string => bytes.toString("utf8").replace(/\0.*$/su, "");
const text = (header: Buffer, at: number, length: number): string =>
  untilZero(header.subarray(at, at + length));

function octal(header: Buffer, at: number, length: number): number {
  const field = header.subarray(at, at + length);
  // GNU tar writes sizes that octal digits can't hold in base 256, the first bit set.
  if ((field[0] ?? 0) & 0x80) return Number(field.subarray(1).readBigUInt64BE(length - 9));
  const digits = untilZero(field).trim();
  return digits === "" ? 0 : /^[0-7]+$/u.test(digits) ? Number.parseInt(digits, 8) : Number.NaN;
}

/** Of all bytes, those of the checksum itself counted as blanks. */
function checksum(header: Buffer): number {
  let sum = 0;
  for (const [at, byte] of header.entries()) sum += at >= 148 && at < 156 ? 0x20 : byte;
  return sum;
}

/** Records `LENGTH KEY=VALUE\n`, the length that of the whole record. */
function paxRecords(content: Buffer): Record<string, string> {
  const found: Record<string, string> = {};
  for (let at = 0; at < content.length; ) {
    const blank = content.indexOf(0x20, at);
    const length = Number(content.toString("latin1", at, blank));
    if (blank < 0 || !Number.isInteger(length) || length < 5 || at + length > content.length)
      throw damaged("an extended header can't be read");
    const record = content.toString("utf8", blank + 1, at + length - 1);
    const equals = record.indexOf("=");
    found[record.slice(0, equals)] = record.slice(equals + 1);
    at += length;
  }
  return found;
}

const cut = (): RunError => new RunError("proof-format", "the tar archive is cut");
const damaged = (what: string): RunError =>
  new RunError("proof-format", `the tar archive is damaged: ${what}`);
