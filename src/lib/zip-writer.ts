/**
 * Streaming zip writer that lays an archive out as java.util.zip.ZipOutputStream does on a pipe: every size
 * and CRC stands in a descriptor behind the data (general-purpose bit 3), the directory at the end.
 *
 * Facts of the format: PKWARE APPNOTE.TXT 6.3.10, sections 4.3 to 4.5.
 */

import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { crc32, createDeflateRaw, deflateRawSync } from "node:zlib";
import { assert } from "../errors.ts";

export interface ZipInput {
  /** Path inside the archive with `/`; a name that ends in `/` is a folder and must have no bytes. */
  readonly name: string;
  readonly body: Uint8Array | AsyncIterable<Uint8Array>;
  /** Default: `deflate`, or what the options say. */
  readonly method?: "deflate" | "store";
}

export interface ZipStreamOptions {
  /** Deflate level 0 to 9; zlib's default (6) as in Java. */
  readonly level?: number;
  /** Store every entry that does not name its method. */
  readonly store?: boolean;
  /** Time of every entry, written in UTC. Default 1980-01-01, so that equal input gives equal bytes. */
  readonly modified?: Date;
  readonly comment?: string;
  /** Write zip64 fields even where the archive is small. Default: only where needed. */
  readonly zip64?: boolean;
  /** Small pieces are joined to chunks of about this many bytes. Default 64 KiB. */
  readonly chunkBytes?: number;
}

/**
 * The bytes of a zip with the given entries, in their order. Memory is bounded: a few chunks, and a directory
 * line per entry. Entries and bodies are read only as the consumer asks; when it stops early they are closed.
 *
 * An entry that is stored from bytes already known carries its sizes in front (as Java demands); a stored
 * stream has the descriptor only, which the format cannot delimit without the directory.
 *
 * Errors of entries or bodies pass unchanged. Names longer than 65535 bytes are a mistake (plain Error).
 */
export async function* zipStream(
  entries: AsyncIterable<ZipInput> | Iterable<ZipInput>,
  options: ZipStreamOptions = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  const chunkBytes = options.chunkBytes ?? 64 * 1024;
  let parts: Uint8Array[] = [];
  let partsBytes = 0;
  for await (const piece of zipPieces(entries, options)) {
    if (piece.length === 0) continue;
    parts.push(piece);
    partsBytes += piece.length;
    if (partsBytes < chunkBytes) continue;
    yield joined(parts, partsBytes);
    parts = [];
    partsBytes = 0;
  }
  if (partsBytes > 0) yield joined(parts, partsBytes);
}

const ONES_16 = 0xffff;
const ONES_32 = 0xffffffff;
const BIT_DESCRIPTOR = 0x0008;
const BIT_UTF8 = 0x0800;

/** Bodies in memory up to this size are deflated in one call. */
const SMALL_BYTES = 64 * 1024;

interface Line {
  readonly name: Buffer;
  readonly flags: number;
  readonly method: number;
  readonly offset: number;
  crc: number;
  compressedBytes: number;
  sizeBytes: number;
}

async function* zipPieces(
  entries: AsyncIterable<ZipInput> | Iterable<ZipInput>,
  options: ZipStreamOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  const forced = options.zip64 === true;
  const time = dosTime(options.modified);
  const lines: Line[] = [];
  let offset = 0;
  for await (const input of entries) {
    const stored = (input.method ?? (options.store === true ? "store" : "deflate")) === "store";
    const name = Buffer.from(input.name, "utf8");
    assert(name.length <= ONES_16, "a zip name has at most 65535 bytes");
    const known = stored && input.body instanceof Uint8Array && input.body.length < ONES_32;
    const line: Line = {
      name,
      flags: BIT_UTF8 | (known ? 0 : BIT_DESCRIPTOR),
      method: stored ? 0 : 8,
      offset,
      crc: 0,
      compressedBytes: 0,
      sizeBytes: 0,
    };
    if (known && input.body instanceof Uint8Array) {
      line.crc = crc32(input.body);
      line.sizeBytes = input.body.length;
      line.compressedBytes = input.body.length;
    }
    const header = localHeader(line, time, forced);
    yield header;
    let data: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
    if (known && input.body instanceof Uint8Array) data = [input.body];
    else if (stored) data = counted(input.body, line);
    else data = deflated(input.body, line, options.level);
    let compressedBytes = 0;
    for await (const piece of data) {
      compressedBytes += piece.length;
      yield piece;
    }
    line.compressedBytes = compressedBytes;
    offset += header.length + compressedBytes;
    if (!known) {
      const trailer = descriptor(line, forced);
      yield trailer;
      offset += trailer.length;
    }
    lines.push(line);
  }
  const start = offset;
  for (const line of lines) {
    const record = centralRecord(line, time, forced);
    offset += record.length;
    yield record;
  }
  yield endRecords(lines.length, start, offset - start, options.comment ?? "", forced);
}

/** Passes a body on and notes its size and CRC in `line`. */
async function* counted(
  body: Uint8Array | AsyncIterable<Uint8Array>,
  line: Line,
): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const piece of body instanceof Uint8Array ? [body] : body) {
    line.crc = crc32(piece, line.crc);
    line.sizeBytes += piece.length;
    yield piece;
  }
}

async function* deflated(
  body: Uint8Array | AsyncIterable<Uint8Array>,
  line: Line,
  level: number | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  const zlibOptions = level === undefined ? {} : { level };
  if (body instanceof Uint8Array && body.length <= SMALL_BYTES) {
    line.crc = crc32(body);
    line.sizeBytes = body.length;
    yield deflateRawSync(body, zlibOptions);
    return;
  }
  const deflate = createDeflateRaw(zlibOptions);
  const source = Readable.from(counted(body, line), { objectMode: true, highWaterMark: 1 });
  const feeding = pipeline(source, deflate);
  // Awaited below; until then an early rejection must not count as unhandled.
  feeding.catch(() => undefined);
  let finished = false;
  try {
    for await (const piece of deflate) yield piece as Buffer;
    finished = true;
  } finally {
    // An error in the body destroys the deflate stream, so it arrives through the loop as well.
    if (finished) await feeding;
    else {
      deflate.destroy();
      await feeding.catch(() => undefined);
    }
  }
}

function localHeader(line: Line, time: DosTime, forced: boolean): Buffer {
  const extra = forced ? zip64Extra([line.sizeBytes, line.compressedBytes]) : Buffer.alloc(0);
  const fixed = Buffer.alloc(30);
  fixed.writeUInt32LE(0x04034b50, 0);
  fixed.writeUInt16LE(forced ? 45 : 20, 4);
  fixed.writeUInt16LE(line.flags, 6);
  fixed.writeUInt16LE(line.method, 8);
  fixed.writeUInt16LE(time.time, 10);
  fixed.writeUInt16LE(time.date, 12);
  fixed.writeUInt32LE(line.crc, 14);
  fixed.writeUInt32LE(forced ? ONES_32 : line.compressedBytes, 18);
  fixed.writeUInt32LE(forced ? ONES_32 : line.sizeBytes, 22);
  fixed.writeUInt16LE(line.name.length, 26);
  fixed.writeUInt16LE(extra.length, 28);
  return Buffer.concat([fixed, line.name, extra]);
}

function isWide(line: Line, forced: boolean): boolean {
  return forced || line.sizeBytes >= ONES_32 || line.compressedBytes >= ONES_32;
}

function descriptor(line: Line, forced: boolean): Buffer {
  const wide = isWide(line, forced);
  const record = Buffer.alloc(wide ? 24 : 16);
  record.writeUInt32LE(0x08074b50, 0);
  record.writeUInt32LE(line.crc, 4);
  if (wide) {
    record.writeBigUInt64LE(BigInt(line.compressedBytes), 8);
    record.writeBigUInt64LE(BigInt(line.sizeBytes), 16);
  } else {
    record.writeUInt32LE(line.compressedBytes, 8);
    record.writeUInt32LE(line.sizeBytes, 12);
  }
  return record;
}

function centralRecord(line: Line, time: DosTime, forced: boolean): Buffer {
  const far = (value: number): boolean => forced || value >= ONES_32;
  const wide = [line.sizeBytes, line.compressedBytes, line.offset].filter(far);
  const extra = wide.length > 0 ? zip64Extra(wide) : Buffer.alloc(0);
  const near = (value: number): number => (far(value) ? ONES_32 : value);
  const fixed = Buffer.alloc(46);
  fixed.writeUInt32LE(0x02014b50, 0);
  fixed.writeUInt16LE(wide.length > 0 ? 45 : 20, 4);
  fixed.writeUInt16LE(wide.length > 0 ? 45 : 20, 6);
  fixed.writeUInt16LE(line.flags, 8);
  fixed.writeUInt16LE(line.method, 10);
  fixed.writeUInt16LE(time.time, 12);
  fixed.writeUInt16LE(time.date, 14);
  fixed.writeUInt32LE(line.crc, 16);
  fixed.writeUInt32LE(near(line.compressedBytes), 20);
  fixed.writeUInt32LE(near(line.sizeBytes), 24);
  fixed.writeUInt16LE(line.name.length, 28);
  fixed.writeUInt16LE(extra.length, 30);
  fixed.writeUInt32LE(near(line.offset), 42);
  return Buffer.concat([fixed, line.name, extra]);
}

function endRecords(count: number, start: number, bytes: number, comment: string, forced: boolean): Buffer {
  const text = Buffer.from(comment, "utf8");
  assert(text.length <= ONES_16, "a zip comment has at most 65535 bytes");
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(forced ? ONES_16 : Math.min(count, ONES_16), 8);
  end.writeUInt16LE(forced ? ONES_16 : Math.min(count, ONES_16), 10);
  end.writeUInt32LE(forced ? ONES_32 : Math.min(bytes, ONES_32), 12);
  end.writeUInt32LE(forced ? ONES_32 : Math.min(start, ONES_32), 16);
  end.writeUInt16LE(text.length, 20);
  if (!forced && count < ONES_16 && bytes < ONES_32 && start < ONES_32) return Buffer.concat([end, text]);

  const wide = Buffer.alloc(56 + 20);
  wide.writeUInt32LE(0x06064b50, 0);
  wide.writeBigUInt64LE(44n, 4);
  wide.writeUInt16LE(45, 12);
  wide.writeUInt16LE(45, 14);
  wide.writeBigUInt64LE(BigInt(count), 24);
  wide.writeBigUInt64LE(BigInt(count), 32);
  wide.writeBigUInt64LE(BigInt(bytes), 40);
  wide.writeBigUInt64LE(BigInt(start), 48);
  wide.writeUInt32LE(0x07064b50, 56);
  wide.writeBigUInt64LE(BigInt(start + bytes), 64);
  wide.writeUInt32LE(1, 72);
  return Buffer.concat([wide, end, text]);
}

function zip64Extra(values: readonly number[]): Buffer {
  const extra = Buffer.alloc(4 + values.length * 8);
  extra.writeUInt16LE(0x0001, 0);
  extra.writeUInt16LE(values.length * 8, 2);
  for (const [index, value] of values.entries()) extra.writeBigUInt64LE(BigInt(value), 4 + index * 8);
  return extra;
}

interface DosTime {
  readonly time: number;
  readonly date: number;
}

/** MS-DOS time in steps of two seconds; the format begins at 1980 (APPNOTE.TXT 4.4.6). */
function dosTime(modified: Date | undefined): DosTime {
  if (modified === undefined || modified.getUTCFullYear() < 1980) return { time: 0, date: (1 << 5) | 1 };
  return {
    time: (modified.getUTCHours() << 11) | (modified.getUTCMinutes() << 5) | (modified.getUTCSeconds() >> 1),
    date:
      ((Math.min(modified.getUTCFullYear(), 2107) - 1980) << 9) |
      ((modified.getUTCMonth() + 1) << 5) |
      modified.getUTCDate(),
  };
}

function joined(parts: readonly Uint8Array[], bytes: number): Uint8Array {
  const only = parts[0];
  return parts.length === 1 && only !== undefined ? only : Buffer.concat(parts, bytes);
}
