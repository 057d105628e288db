/**
 * Frames of zstd that need no compressor (RFC 8878, section 3.1): bytes as they are, long runs of zeros as runs. Of a tar
 * member these are most of the header and the padding.
 */
import { xxh64 } from "../../lib/xxh64.ts";

/** The least that a content size of two bytes says. */
const LEAST_BYTES = 256;
const MAGIC = 0xfd2fb528;
/** A single segment, its size in two bytes, a checksum at the end. */
const DESCRIPTOR = 0x64;
const HEADER_BYTES = 7;
const CHECKSUM_BYTES = 4;
/** Shorter runs cost more than they save: the run is a block, and what comes after it another. */
const LEAST_RUN = Buffer.alloc(12);
const RAW = 0;
const RUN = 1;
/** A block is no larger than the content, nor than this. */
const MOST_BLOCK = 128 * 1024;

/** The bytes, 256 to 65,791. */
export function storedZst(bytes: Uint8Array): Buffer {
  const content = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(MAGIC, 0);
  header[4] = DESCRIPTOR;
  header.writeUInt16LE(content.length - LEAST_BYTES, 5);
  const parts: Buffer[] = [header];
  const block = (type: number, size: number, end: number): void => {
    const head = Buffer.alloc(3);
    head.writeUIntLE((size << 3) | (type << 1) | (end === content.length ? 1 : 0), 0, 3);
    parts.push(head, type === RUN ? Buffer.alloc(1) : content.subarray(end - size, end));
  };
  for (let at = 0; at < content.length; ) {
    const run = content.indexOf(LEAST_RUN, at);
    const raw = run < 0 ? content.length : run;
    if (raw > at) block(RAW, raw - at, raw);
    at = raw;
    while (at < content.length && content[at] === 0) at += 1;
    if (at > raw) block(RUN, at - raw, at);
  }
  const checksum = Buffer.alloc(CHECKSUM_BYTES);
  checksum.writeUInt32LE(Number(xxh64(content) & 0xffff_ffffn), 0);
  return Buffer.concat([...parts, checksum]);
}

/** The bytes of a frame that `storedZst` made; null for any other, damaged ones too. */
export function readStoredZst(frame: Buffer): Buffer | null {
  if (frame.length < HEADER_BYTES || frame.readUInt32LE(0) !== MAGIC || frame[4] !== DESCRIPTOR) return null;
  const content = Buffer.alloc(frame.readUInt16LE(5) + LEAST_BYTES);
  let filled = 0;
  for (let at = HEADER_BYTES; ; ) {
    if (at + 3 > frame.length) return null;
    const head = frame.readUIntLE(at, 3);
    const [size, type] = [head >> 3, (head >> 1) & 3];
    at += 3;
    if (type > RUN || size > MOST_BLOCK || filled + size > content.length) return null;
    if (type === RAW) {
      frame.copy(content, filled, at, at + size);
      at += size;
    } else at += 1;
    filled += size;
    if ((head & 1) === 1) break;
  }
  return filled === content.length && storedZst(content).equals(frame) ? content : null;
}
