/** .xz streams that need no compressor: of bytes as they are, and of nothing (The .xz File Format 1.2.1). */
import { crc32 } from "node:zlib";

const HEADER_BYTES = 12;
const NO_CHECK = Buffer.alloc(0);

/** The bytes, 1 to 65,536, as they are, with a CRC32. */
export function storedXz(bytes: Uint8Array): Buffer {
  const chunk = Buffer.alloc(4 + bytes.length);
  // Not compressed, begins anew; its size less one; behind it the end of the data.
  chunk[0] = 0x01;
  chunk.writeUInt16BE(bytes.length - 1, 1);
  chunk.set(bytes, 3);
  const check = Buffer.alloc(4);
  check.writeUInt32LE(crc32(bytes), 0);
  return stream(blockHeader(HEADER_BYTES), chunk, check, bytes.length);
}

/** The bytes of a stream that `storedXz` made; null for any other, damaged ones too. */
export function readStoredXz(stream: Buffer): Buffer | null {
  const begin = 12 + HEADER_BYTES + 3;
  if (stream.length < begin) return null;
  const size = stream.readUInt16BE(begin - 2) + 1;
  const bytes = stream.subarray(begin, begin + size);
  return bytes.length === size && storedXz(bytes).equals(stream) ? bytes : null;
}

/** With one empty block whose header is padded to its limit. */
const LONGEST = 1064;
/** The longest header of a block whose size is one byte in the index. */
const SHORT_HEADER = 124;

/**
 * Streams that hold nothing and are so long together: a multiple of four, 48 or more. Stream padding would be shorter to
 * write, but Python's `lzma` takes it for the end of the file and says nothing.
 */
export function emptyXz(length: number): Buffer {
  const streams: Buffer[] = [];
  for (let left = length; left > 0; ) {
    // What is left must be one that a stream can have.
    let next = left;
    if (left > LONGEST) next = left - LONGEST >= 48 ? LONGEST : 600;
    else if (left === 164) next = 80;
    const header = blockHeader(next - (next - 36 <= SHORT_HEADER ? 36 : 40));
    streams.push(stream(header, Buffer.alloc(1), NO_CHECK, 0));
    left -= next;
  }
  return Buffer.concat(streams);
}

/** One filter, LZMA2 with the smallest dictionary; zeros up to the checksum. */
function blockHeader(length: number): Buffer {
  const header = Buffer.alloc(length);
  header.set([length / 4 - 1, 0x00, 0x21, 0x01, 0x00]);
  header.writeUInt32LE(crc32(header.subarray(0, -4)), length - 4);
  return header;
}

/** A stream of one block. `check`: none, or a CRC32. */
function stream(header: Buffer, data: Buffer, check: Buffer, bytes: number): Buffer {
  const flags = Buffer.from([0x00, check.length === 0 ? 0x00 : 0x01]);
  const magic = Buffer.concat([Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]), flags, Buffer.alloc(4)]);
  magic.writeUInt32LE(crc32(flags), 8);
  const unpadded = header.length + data.length + check.length;
  const records = Buffer.from([0x00, 0x01, ...integer(unpadded), ...integer(bytes)]);
  const index = Buffer.concat([records, padding(records.length), Buffer.alloc(4)]);
  index.writeUInt32LE(crc32(index.subarray(0, -4)), index.length - 4);
  const footer = Buffer.alloc(12);
  footer.writeUInt32LE(index.length / 4 - 1, 4);
  footer.set(flags, 8);
  footer.writeUInt32LE(crc32(footer.subarray(4, 10)), 0);
  footer.write("YZ", 10, "latin1");
  return Buffer.concat([magic, header, data, padding(header.length + data.length), check, index, footer]);
}

const padding = (length: number): Buffer => Buffer.alloc((4 - (length % 4)) % 4);

/** Seven bits a byte, the lowest first (section 1.2). */
function integer(value: number): number[] {
  const bytes: number[] = [];
  for (let left = value; ; left >>= 7) {
    if (left < 0x80) return [...bytes, left];
    bytes.push((left & 0x7f) | 0x80);
  }
}
