/**
 * The records of a zip as they stand in the stream: marks, descriptors, extra fields, names.
 * Facts of the format: PKWARE APPNOTE.TXT 6.3.10.
 */
import { isUtf8 as isUtf8Text } from "node:buffer";
import { crc32 } from "node:zlib";
import { RunError } from "../errors.ts";
import { decodeCp437 } from "./cp437.ts";

export const LOCAL = 0x04034b50;
export const DESCRIPTOR = 0x08074b50;
export const DESCRIPTOR_BYTES = Buffer.from([0x50, 0x4b, 0x07, 0x08]);
export const CENTRAL = 0x02014b50;
export const ZIP64_END = 0x06064b50;
export const ZIP64_LOCATOR = 0x07064b50;
export const END = 0x06054b50;

export const ENCRYPTED = 0x0001;
export const HAS_DESCRIPTOR = 0x0008;
export const PATCHED = 0x0020;
export const STRONGLY_ENCRYPTED = 0x0040;
export const UTF8 = 0x0800;
export const MASKED = 0x2000;

export const STORED = 0;
export const DEFLATED = 8;

export const ALL_ONES_16 = 0xffff;
export const ALL_ONES_32 = 0xffffffff;

/** Longest descriptor (signature, CRC, two 64-bit sizes) and the signature of the record behind it. */
export const DESCRIPTOR_WINDOW = 24 + 4;

export function fault(sentence: string, cause?: unknown): RunError {
  return new RunError("proof-format", sentence, cause === undefined ? {} : { cause });
}

export function cut(where: string): RunError {
  return fault(`the zip ends too early, in ${where}`);
}

/** A name as it may stand in a message: escaped, and not endless. */
export function quote(name: string): string {
  return JSON.stringify(name.length > 200 ? `${name.slice(0, 200)}…` : name);
}

export interface Header {
  readonly name: string;
  readonly nameBytes: Buffer;
  /** `zip entry "name"`, for messages. */
  readonly label: string;
  readonly flags: number;
  readonly method: number;
  /** Position of the local header. */
  readonly offset: number;
  readonly hasDescriptor: boolean;
  /** With a descriptor, CRC and sizes of the header mean nothing and are usually 0. */
  readonly crc32: number;
  readonly compressedBytes: number;
  readonly sizeBytes: number;
}

export function readUInt64(bytes: Buffer, at: number): number {
  const high = bytes.readUInt32LE(at + 4);
  if (high > 0x1fffff) throw fault("the zip gives a size that no archive can have");
  return high * 0x1_0000_0000 + bytes.readUInt32LE(at);
}

/** Whether the bytes at `at` begin a further record, or the stream ends there (said better by who reads on). */
function beginsRecord(window: Buffer, at: number): boolean {
  if (window.length < at + 4) return true;
  const signature = window.readUInt32LE(at);
  return signature === LOCAL || signature === CENTRAL || signature === ZIP64_END || signature === END;
}

/** A quick look before the CRC is worked out: does a descriptor with signature at `at` give this size? */
export function mayDescribe(view: Buffer, at: number, sizeBytes: number): boolean {
  return view.length >= at + 16 && view.readUInt32LE(at + 8) === sizeBytes % 0x1_0000_0000;
}

/**
 * Length of the descriptor at the beginning of `window` if it gives exactly these values, else undefined.
 * The signature is optional, and the sizes have 32 or 64 bits (APPNOTE.TXT 4.3.9); Java writes 64 bits
 * without a zip64 field in the local header, so only the values tell which it is.
 */
export function descriptorLength(
  window: Buffer,
  crc: number,
  compressedBytes: number,
  sizeBytes: number,
  signatureNeeded: boolean,
): number | undefined {
  for (const start of signatureNeeded ? [4] : [4, 0]) {
    if (window.length < start + 12) continue;
    if (start === 4 && window.readUInt32LE(0) !== DESCRIPTOR) continue;
    if (window.readUInt32LE(start) !== crc) continue;
    if (
      window.readUInt32LE(start + 4) === compressedBytes &&
      window.readUInt32LE(start + 8) === sizeBytes &&
      beginsRecord(window, start + 12)
    ) {
      return start + 12;
    }
    if (
      window.length >= start + 20 &&
      window.readBigUInt64LE(start + 4) === BigInt(compressedBytes) &&
      window.readBigUInt64LE(start + 12) === BigInt(sizeBytes) &&
      beginsRecord(window, start + 20)
    ) {
      return start + 20;
    }
  }
  return undefined;
}

/** The body of the extra field `id`, or undefined. A field that overruns the block ends the search. */
function findExtra(extra: Buffer, id: number): Buffer | undefined {
  for (let at = 0; at + 4 <= extra.length; ) {
    const end = at + 4 + extra.readUInt16LE(at + 2);
    if (end > extra.length) return undefined;
    if (extra.readUInt16LE(at) === id) return extra.subarray(at + 4, end);
    at = end;
  }
  return undefined;
}

/** The zip64 values that stand for the fields full of ones, in their fixed order (APPNOTE.TXT 4.5.3). */
export function readZip64(
  extra: Buffer,
  hasSize: boolean,
  hasCompressed: boolean,
  hasOffset: boolean,
  hasDisk: boolean,
): { sizeBytes?: number; compressedBytes?: number; offset?: number; disk?: number } | undefined {
  const field = findExtra(extra, 0x0001);
  const needed = (Number(hasSize) + Number(hasCompressed) + Number(hasOffset)) * 8 + Number(hasDisk) * 4;
  if (field === undefined || field.length < needed) return undefined;
  const values: { sizeBytes?: number; compressedBytes?: number; offset?: number; disk?: number } = {};
  let at = 0;
  const next = (): number => {
    at += 8;
    return readUInt64(field, at - 8);
  };
  if (hasSize) values.sizeBytes = next();
  if (hasCompressed) values.compressedBytes = next();
  if (hasOffset) values.offset = next();
  if (hasDisk) values.disk = field.readUInt32LE(at);
  return values;
}

const PURE_ASCII = /^[\0-\x7f]*$/;

/**
 * A name without the UTF-8 flag is in code page 437 (APPNOTE.TXT appendix D), but Info-ZIP on Unix and the
 * Finder write UTF-8 without it. Bytes that are valid UTF-8 hardly ever mean anything in code page 437.
 */
export function decodeName(bytes: Buffer, isUtf8: boolean, extra: Buffer): string {
  const latin1 = bytes.toString("latin1");
  // Info-ZIP Unicode Path (APPNOTE.TXT 4.6.9): version 1, CRC of the name in the header, name in UTF-8.
  const unicode = extra.length === 0 ? undefined : findExtra(extra, 0x7075);
  if (unicode !== undefined && unicode.length > 5 && unicode[0] === 1) {
    if (unicode.readUInt32LE(1) === crc32(bytes)) return decodeUtf8(unicode.subarray(5), latin1);
  }
  if (PURE_ASCII.test(latin1)) return latin1;
  return isUtf8 || isUtf8Text(bytes) ? decodeUtf8(bytes, latin1) : decodeCp437(bytes);
}

function decodeUtf8(bytes: Buffer, latin1: string): string {
  if (!isUtf8Text(bytes)) throw fault(`zip entry ${quote(latin1)} has a name that is not valid UTF-8`);
  return bytes.toString("utf8");
}

const HOSTILE_NAMES: readonly (readonly [pattern: RegExp, why: string])[] = [
  [/^$/, "is empty"],
  [/\0/, "holds a NUL"],
  [/^[/\\]/, "is absolute"],
  [/^[a-z]:/i, "begins with a drive letter"],
  [/(^|[/\\])\.\.([/\\]|$)/, "leads out of its folder"],
];

export function refuseHostileName(name: string, label: string): void {
  for (const [pattern, why] of HOSTILE_NAMES) {
    if (pattern.test(name)) throw fault(`hostile name: the name of ${label} ${why}`);
  }
}
