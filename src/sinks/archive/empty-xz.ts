/**
 * Empty .xz streams of a given length (The .xz File Format 1.2.1). Stream padding would be shorter to write, but
 * Python's `lzma` takes it for the end of the file and says nothing.
 */
import { crc32 } from "node:zlib";

/** With one empty block whose header is padded to its limit. */
const LONGEST = 1064;
/** What the field for the size of a block can say in one byte. */
const SHORT_HEADER = 124;

/** Streams that hold nothing and are so long together: a multiple of four, 48 or more. */
export function emptyXz(length: number): Buffer {
  const streams: Buffer[] = [];
  for (let left = length; left > 0; ) {
    // What is left must be one that a stream can have.
    let next = left;
    if (left > LONGEST) next = left - LONGEST >= 48 ? LONGEST : 600;
    else if (left === 164) next = 80;
    streams.push(stream(next));
    left -= next;
  }
  return Buffer.concat(streams);
}

function stream(length: number): Buffer {
  const short = length - 36 <= SHORT_HEADER;
  const header = Buffer.alloc(length - (short ? 36 : 40));
  // One filter, LZMA2 with the smallest dictionary; zeros up to the checksum.
  header.set([header.length / 4 - 1, 0x00, 0x21, 0x01, 0x00]);
  header.writeUInt32LE(crc32(header.subarray(0, -4)), header.length - 4);
  const unpadded = header.length + 1;
  const size = short ? [unpadded] : [(unpadded & 0x7f) | 0x80, unpadded >> 7];
  const index = Buffer.alloc(short ? 8 : 12);
  index.set([0x00, 0x01, ...size, 0x00]);
  index.writeUInt32LE(crc32(index.subarray(0, -4)), index.length - 4);
  const flags = Buffer.alloc(2);
  const footer = Buffer.alloc(12);
  footer.writeUInt32LE(index.length / 4 - 1, 4);
  footer.writeUInt32LE(crc32(footer.subarray(4, 10)), 0);
  footer.write("YZ", 10, "latin1");
  const magic = Buffer.concat([Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]), flags, Buffer.alloc(4)]);
  magic.writeUInt32LE(crc32(flags), 8);
  // The block: its header, the end of its data, padding; no check.
  return Buffer.concat([magic, header, Buffer.alloc(4), index, footer]);
}
