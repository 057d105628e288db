/** All elements of a DICOM file's head as rows, for people. */
import { constants, inflateRawSync } from "node:zlib";
import dicomParser from "dicom-parser";
import { standardElements } from "./dicom-names.ts";
import { decodeDicomText } from "./dicom-text.ts";

export interface DicomTag {
  /** `(gggg,eeee)`, one `>` before it for each sequence it is in. */
  readonly element: string;
  /** Of the standard; `Private Creator`; null for what is neither. */
  readonly name: string | null;
  /** Text of all values, divided by backslashes; null for a sequence, for binary data and for no value. */
  readonly data: string | null;
}

const PIXEL_DATA = "x7fe00010";
/** What one element's text may have; longer text is cut. */
const LONGEST_CHARACTERS = 4096;
const INFLATED_LIMIT_BYTES = 64 * 1024 * 1024;
const DEEPEST = 64;
/** Deflated Explicit VR Little Endian, and the same without deflate (PS3.6 A). */
const DEFLATED = "1.2.840.10008.1.2.1.99";
const PLAIN = "1.2.840.10008.1.2.1";
/** Value representations whose bytes are text in the file's character set (PS3.5 6.1.2.3), and those in ASCII. */
const TEXT = new Set(["SH", "LO", "ST", "PN", "LT", "UC", "UT"]);
const ASCII = new Set(["AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"]);
type Numbers = "uint16" | "int16" | "uint32" | "int32" | "float" | "double";
const NUMBERS: Readonly<Record<string, readonly [Numbers, number]>> = {
  US: ["uint16", 2],
  SS: ["int16", 2],
  UL: ["uint32", 4],
  SL: ["int32", 4],
  FL: ["float", 4],
  FD: ["double", 8],
};

/**
 * The elements before the pixels, in the order of their tags. `bytes` may end where pixels begin or later; null when they
 * end before, or are no DICOM file: a longer prefix may say more. Never throws.
 */
export function readDicomTags(bytes: Uint8Array): readonly DicomTag[] | null {
  try {
    const deflated = inflate(bytes);
    const data = dicomParser.parseDicom(deflated ?? bytes, {
      untilTag: PIXEL_DATA,
      vrCallback: (tag: string) => standardElements().get(tag.slice(1).toUpperCase())?.vr,
    } as Parameters<typeof dicomParser.parseDicom>[1]);
    const tags = [...tagsOf(data, "", undefined, 0)];
    const written = (tag: DicomTag): DicomTag =>
      deflated && tag.element === "(0002,0010)" ? { ...tag, data: DEFLATED } : tag;
    return tags.map(written);
  } catch {
    // The parser throws strings and objects at will.
    return null;
  }
}

/**
 * A deflated file as the plain one of the same elements, with the plain one's transfer syntax; null for any other.
 * Everything behind the meta group is deflated (PS3.5 A.5); what the parser inflates it reads from the wrong place.
 */
function inflate(bytes: Uint8Array): Uint8Array | null {
  const meta = dicomParser.readPart10Header(bytes) as dicomParser.DataSet & { readonly position: number };
  const syntax = meta.elements.x00020010;
  if (syntax === undefined || meta.string("x00020010") !== DEFLATED) return null;
  const options = { maxOutputLength: INFLATED_LIMIT_BYTES, finishFlush: constants.Z_SYNC_FLUSH };
  const plain = Buffer.concat([
    bytes.subarray(0, meta.position),
    inflateRawSync(bytes.subarray(meta.position), options),
  ]);
  plain.write(PLAIN.padEnd(syntax.length, "\0"), syntax.dataOffset, syntax.length, "latin1");
  return plain;
}

function* tagsOf(
  data: dicomParser.DataSet,
  prefix: string,
  outerSet: string | undefined,
  depth: number,
): Iterable<DicomTag> {
  const characterSet = data.string("x00080005") ?? outerSet;
  // The parser puts the meta group last, and what ends an item among its elements.
  const elements = Object.values(data.elements).sort((a, b) => (a.tag < b.tag ? -1 : 1));
  for (const element of elements) {
    if ((element.tag === PIXEL_DATA && depth === 0) || element.tag.startsWith("xfffe")) continue;
    const digits = element.tag.slice(1).toUpperCase();
    const known = standardElements().get(digits);
    yield {
      element: `${prefix}(${digits.slice(0, 4)},${digits.slice(4)})`,
      name: known?.name ?? (isPrivateCreator(digits) ? "Private Creator" : null),
      data: element.items === undefined ? textOf(data, element, known?.vr, characterSet) : null,
    };
    if (depth >= DEEPEST) continue;
    for (const item of element.items ?? []) {
      if (item.dataSet !== undefined) yield* tagsOf(item.dataSet, `${prefix}>`, characterSet, depth + 1);
    }
  }
}

/** PS3.5 7.8.1: (gggg,0010-00FF) of an odd group. */
function isPrivateCreator(digits: string): boolean {
  return Number.parseInt(digits.slice(0, 4), 16) % 2 === 1 && /^00[1-9A-F][0-9A-F]$/u.test(digits.slice(4));
}

function textOf(
  data: dicomParser.DataSet,
  { tag, vr: written, length, dataOffset }: dicomParser.Element,
  standard: string | undefined,
  characterSet: string | undefined,
): string | null {
  const vr = written === undefined || written === "UN" ? standard : written;
  if (vr === undefined || length <= 0) return null;
  const number = NUMBERS[vr];
  if (number) {
    const [read, sizeBytes] = number;
    const count = Math.min(Math.floor(length / sizeBytes), LONGEST_CHARACTERS / 8);
    const values = Array.from({ length: count }, (_, index) => data[read](tag, index));
    return values.join("\\");
  }
  if (!TEXT.has(vr) && !ASCII.has(vr)) return null;
  const bytes = data.byteArray.subarray(dataOffset, dataOffset + length);
  const text = decodeDicomText(bytes, TEXT.has(vr) ? characterSet : undefined)
    .replace(/[ \u0000]+$/u, "")
    .slice(0, LONGEST_CHARACTERS);
  return text === "" ? null : text.toWellFormed();
}
