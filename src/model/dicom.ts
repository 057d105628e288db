/**
 * The head of a DICOM file: identity and the words an archive shows about it. Pure, and safe on hostile bytes:
 * nothing here throws, and work is bounded by the bytes given.
 */

import { constants, inflateRawSync } from "node:zlib";
import dicomParser from "dicom-parser";
import { decodeDicomText } from "./dicom-text.ts";

/**
 * What the head of a DICOM file says. Absent or empty is null. Text is decoded by the file's character set and
 * trimmed of its padding; multiple values stay divided by backslashes. Nothing is checked: a UID may be any text.
 */
export interface DicomHeader {
  /** (0008,0018), else (0002,0003). */
  readonly sopInstanceUid: string | null;
  /** (0008,0016), else (0002,0002). */
  readonly sopClassUid: string | null;
  readonly seriesInstanceUid: string | null;
  readonly studyInstanceUid: string | null;
  readonly transferSyntaxUid: string | null;
  readonly patientId: string | null;
  readonly patientName: string | null;
  readonly patientSex: string | null;
  /** yyyy-MM-dd */
  readonly patientBirthDate: string | null;
  readonly patientAge: string | null;
  readonly ethnicGroup: string | null;
  /** yyyy-MM-dd */
  readonly studyDate: string | null;
  readonly studyDescription: string | null;
  readonly studyId: string | null;
  readonly admittingDiagnosis: string | null;
  readonly modality: string | null;
  readonly protocolName: string | null;
  /** yyyy-MM-dd */
  readonly seriesDate: string | null;
  readonly seriesDescription: string | null;
  readonly bodyPartExamined: string | null;
  readonly seriesNumber: number | null;
  readonly instanceNumber: number | null;
  readonly acquisitionNumber: number | null;
  readonly manufacturer: string | null;
  readonly manufacturerModelName: string | null;
  readonly softwareVersions: string | null;
  /** Row spacing: the first value of (0028,0030). */
  readonly pixelSpacingMm: string | null;
  readonly sliceThicknessMm: string | null;
  /** Project and site as RSNA CTP writes them: private creator `CTP` in group 0013, elements xx10 and xx12. */
  readonly ctpProject: string | null;
  readonly ctpSite: string | null;
  /** False when the bytes ended (or made no sense) before everything above was passed: a longer prefix may say more. */
  readonly complete: boolean;
}

interface Span {
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly length: number;
}

interface Head {
  readonly spans: ReadonlyMap<string, Span>;
  readonly complete: boolean;
}

/** Everything read here lies in groups up to 0028, and groups ascend (PS3.5 7.1). */
const LAST_GROUP = 0x0028;
const DEFLATED = "1.2.840.10008.1.2.1.99";
const IMPLICIT = "1.2.840.10008.1.2";
/** Longest value looked at; the longest text value kept here (LT) may have 10240 characters. */
const VALUE_LIMIT_BYTES = 10_240;
const INFLATE_LIMIT_BYTES = 16 * 1024 * 1024;
const VALUE_REPRESENTATIONS = new Set(
  "AE AS AT CS DA DS DT FL FD IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split(
    " ",
  ),
);

type Encoding = "explicit" | "implicit" | "big-endian";

/** How the data set at `at` is written, judged by its first element; undefined when it does not look like one. */
function sniffEncoding(bytes: Uint8Array, at: number): Encoding | undefined {
  if (at + 8 > bytes.length) return undefined;
  const representation = String.fromCharCode(bytes[at + 4]!, bytes[at + 5]!);
  const groupLittle = bytes[at]! | (bytes[at + 1]! << 8);
  const groupBig = (bytes[at]! << 8) | bytes[at + 1]!;
  const explicit = VALUE_REPRESENTATIONS.has(representation);
  if (groupLittle > 0xff && groupBig <= 0xff) return explicit ? "big-endian" : undefined;
  return explicit ? "explicit" : "implicit";
}

function tagName(group: number, element: number): string {
  return `x${group.toString(16).padStart(4, "0")}${element.toString(16).padStart(4, "0")}`;
}

/**
 * Collects the top-level elements from `at` while their group is at most `lastGroup`, up to and with `untilTag`.
 * Gives where it stopped; `complete` says whether it stopped because it had passed all it wanted.
 */
function walk(
  bytes: Uint8Array,
  at: number,
  encoding: Encoding,
  lastGroup: number,
  spans: Map<string, Span>,
  untilTag?: string,
): { at: number; complete: boolean } {
  const parser =
    encoding === "big-endian"
      ? dicomParser.bigEndianByteArrayParser
      : dicomParser.littleEndianByteArrayParser;
  let position = at;
  try {
    const stream = new dicomParser.ByteStream(parser, bytes, at);
    while (position + 8 <= bytes.length) {
      if (parser.readUint16(bytes, position) > lastGroup) return { at: position, complete: true };
      const element =
        encoding === "implicit"
          ? dicomParser.readDicomElementImplicit(stream, untilTag)
          : dicomParser.readDicomElementExplicit(stream, [], untilTag);
      const isLast = element.tag === untilTag;
      if (element.dataOffset + element.length > bytes.length) break; // cut off inside the value
      // The first of two equal tags wins, so that trailing rubbish cannot rewrite what was said.
      if (!spans.has(element.tag)) {
        spans.set(element.tag, { bytes, start: element.dataOffset, length: element.length });
      }
      if (isLast) return { at: position, complete: true };
      if (stream.position <= position) break;
      position = stream.position;
    }
  } catch {
    // Bytes end inside an element, or are no DICOM from here on: what was read before stands.
    return { at: position, complete: false };
  }
  return { at: position, complete: false };
}

/** The first bytes of a raw deflate stream, cut short if need be; undefined when they are no such stream. */
function inflateHead(deflated: Uint8Array): Uint8Array | undefined {
  // A cut input is no error with a sync flush. One that grows beyond the limit is tried again with less of it:
  // deflate grows at most about a thousandfold, so a sixteenth has always become small enough in the end.
  for (let length = deflated.length; length > 0; length = Math.floor(length / 16)) {
    try {
      return inflateRawSync(deflated.subarray(0, length), {
        finishFlush: constants.Z_SYNC_FLUSH,
        maxOutputLength: INFLATE_LIMIT_BYTES,
      });
    } catch (error) {
      const code = error instanceof Error && "code" in error ? error.code : undefined;
      if (code !== "ERR_BUFFER_TOO_LARGE") return undefined;
    }
  }
  return undefined;
}

/** Offset of the first element, or undefined when neither a preamble nor a bare data set begins here. */
function findStart(bytes: Uint8Array): number | undefined {
  if (
    bytes.length >= 132 &&
    bytes[128] === 0x44 &&
    bytes[129] === 0x49 &&
    bytes[130] === 0x43 &&
    bytes[131] === 0x4d
  ) {
    return 132;
  }
  const encoding = sniffEncoding(bytes, 0);
  if (encoding === undefined) return undefined;
  const group = encoding === "big-endian" ? (bytes[0]! << 8) | bytes[1]! : bytes[0]! | (bytes[1]! << 8);
  return group === 0x0002 || group === 0x0008 ? 0 : undefined;
}

/** Without padding. By hand: a pattern for trailing blanks takes quadratic time on hostile ones. */
function unpadded(text: string): string | null {
  const isPadding = (at: number): boolean => text[at] === " " || text[at] === "\0";
  let start = 0;
  let end = text.length;
  while (start < end && isPadding(start)) start++;
  while (end > start && isPadding(end - 1)) end--;
  return text.slice(start, end) || null;
}

function ascii(span: Span | undefined): string | null {
  if (!span || span.length === 0) return null;
  const end = span.start + Math.min(span.length, VALUE_LIMIT_BYTES);
  let text = "";
  for (let at = span.start; at < end; at++) text += String.fromCharCode(span.bytes[at] ?? 0);
  return unpadded(text);
}

function readHead(bytes: Uint8Array, untilTag?: string): Head | undefined {
  const start = findStart(bytes);
  if (start === undefined) return undefined;
  const spans = new Map<string, Span>();
  // The meta group is explicit little endian whatever follows (PS3.10 7.1).
  const isMeta = bytes[start] === 0x02 && bytes[start + 1] === 0x00;
  const meta = isMeta ? walk(bytes, start, "explicit", 0x0002, spans) : { at: start, complete: true };
  const syntax = ascii(spans.get("x00020010"));
  let data = bytes;
  let at = meta.at;
  if (syntax === DEFLATED) {
    data = inflateHead(bytes.subarray(at)) ?? new Uint8Array(0);
    at = 0;
  }
  // Trust the bytes above the declaration: wrong transfer syntaxes are common, and readers of note forgive them.
  const encoding = sniffEncoding(data, at) ?? (syntax === IMPLICIT ? "implicit" : "explicit");
  const body = walk(data, at, encoding, LAST_GROUP, spans, untilTag);
  const isBare = start === 0 && !isMeta;
  if (
    isBare &&
    !looksLikeUid(ascii(spans.get("x00080016"))) &&
    !looksLikeUid(ascii(spans.get("x00080018")))
  ) {
    return undefined;
  }
  return { spans, complete: body.complete };
}

function looksLikeUid(text: string | null): boolean {
  return text !== null && /^\d+(\.\d+)+$/.test(text);
}

function isoDate(text: string | null): string | null {
  const match = text && /^(\d{4})[.]?(\d{2})[.]?(\d{2})/.exec(text);
  if (!match) return null;
  const iso = `${match[1]}-${match[2]}-${match[3]}`;
  const date = new Date(`${iso}T00:00:00Z`);
  return Number.isNaN(date.valueOf()) || date.toISOString().slice(0, 10) !== iso ? null : iso;
}

function integer(text: string | null): number | null {
  const first = text?.split("\\", 1)[0]?.trim() ?? "";
  return /^[+-]?\d{1,10}(\.0*)?$/.test(first) ? Number.parseInt(first, 10) : null;
}

/** The private block of group 0013 that CTP reserved, e.g. 0x10 for elements (0013,10xx). */
function ctpBlock(spans: ReadonlyMap<string, Span>): number | undefined {
  for (let block = 0x10; block <= 0xff; block++) {
    if (ascii(spans.get(tagName(0x0013, block))) === "CTP") return block;
  }
  return undefined;
}

/**
 * Reads the head of a DICOM file. `bytes` may be a prefix of the file; 64 KiB are nearly always enough, and
 * `complete` says when they were not. Understands files with and without preamble and meta group, explicit and
 * implicit little endian, explicit big endian and deflated data sets. Undefined when this is not DICOM.
 */
export function parseDicomHeader(bytes: Uint8Array): DicomHeader | undefined {
  const head = readHead(bytes);
  if (!head) return undefined;
  const { spans } = head;
  const characterSet = ascii(spans.get("x00080005")) ?? undefined;
  const code = (tag: string): string | null => ascii(spans.get(tag));
  const text = (tag: string): string | null => {
    const span = spans.get(tag);
    if (!span || span.length === 0) return null;
    const value = span.bytes.subarray(span.start, span.start + Math.min(span.length, VALUE_LIMIT_BYTES));
    return unpadded(decodeDicomText(value, characterSet));
  };
  const block = ctpBlock(spans);
  const ctp = (element: number): string | null =>
    block === undefined ? null : text(tagName(0x0013, (block << 8) | element));
  return {
    sopInstanceUid: code("x00080018") ?? code("x00020003"),
    sopClassUid: code("x00080016") ?? code("x00020002"),
    seriesInstanceUid: code("x0020000e"),
    studyInstanceUid: code("x0020000d"),
    transferSyntaxUid: code("x00020010"),
    patientId: text("x00100020"),
    patientName: text("x00100010"),
    patientSex: code("x00100040"),
    patientBirthDate: isoDate(code("x00100030")),
    patientAge: code("x00101010"),
    ethnicGroup: text("x00102160"),
    studyDate: isoDate(code("x00080020")),
    studyDescription: text("x00081030"),
    studyId: text("x00200010"),
    admittingDiagnosis: text("x00081080"),
    modality: code("x00080060"),
    protocolName: text("x00181030"),
    seriesDate: isoDate(code("x00080021")),
    seriesDescription: text("x0008103e"),
    bodyPartExamined: code("x00180015"),
    seriesNumber: integer(code("x00200011")),
    instanceNumber: integer(code("x00200013")),
    acquisitionNumber: integer(code("x00200012")),
    manufacturer: text("x00080070"),
    manufacturerModelName: text("x00081090"),
    softwareVersions: text("x00181020"),
    pixelSpacingMm: code("x00280030")?.split("\\", 1)[0]?.trim() || null,
    sliceThicknessMm: code("x00180050"),
    ctpProject: ctp(0x10),
    ctpSite: ctp(0x12),
    complete: head.complete,
  };
}

/**
 * The SOP Instance UID alone, from the first kilobytes of a file: (0008,0018) of the data set when `head` reaches it,
 * else (0002,0003) of the meta group. The two should be equal but are not in every file that was de-identified
 * (pydicom's rtplan.dcm, for one), and archives go by the data set. Undefined when this is not DICOM or says neither.
 */
export function readSopInstanceUid(head: Uint8Array): string | undefined {
  const spans = readHead(head, "x00080018")?.spans;
  return ascii(spans?.get("x00080018")) ?? ascii(spans?.get("x00020003")) ?? undefined;
}

/** Who a file says it is: UIDs as they stand in the data set, null where it does not say. */
export interface DicomIdentity {
  /** (0008,0018), else (0002,0003). */
  readonly sopInstanceUid: string | null;
  readonly seriesInstanceUid: string | null;
  /** False when the bytes ended before the Series Instance UID was passed: a longer prefix may say more. */
  readonly complete: boolean;
}

/** The same head as `parseDicomHeader`, read up to (0020,000E) only. Undefined when this is not DICOM. */
export function readDicomIdentity(bytes: Uint8Array): DicomIdentity | undefined {
  const head = readHead(bytes, "x0020000e");
  if (!head) return undefined;
  return {
    sopInstanceUid: ascii(head.spans.get("x00080018")) ?? ascii(head.spans.get("x00020003")),
    seriesInstanceUid: ascii(head.spans.get("x0020000e")),
    complete: head.complete,
  };
}
