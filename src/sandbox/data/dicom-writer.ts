/** Writes small, valid DICOM files: explicit VR little endian, UTF-8 text, sequences of defined length. */

/** `US`, `UL` and `FD` take numbers; `OB` and `OW` bytes; `SQ` items; all others text (values divided by `\`). */
export type DicomElement = readonly [
  tag: number,
  vr: string,
  value: string | number | readonly number[] | Uint8Array | readonly (readonly DicomElement[])[] | null,
];

export interface DicomFile {
  readonly sopClassUid: string;
  readonly sopInstanceUid: string;
  /** The data set without pixel data, in any order; SOP class, SOP instance and character set are added. */
  readonly elements: readonly DicomElement[];
}

export const EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1";
/** A UUID-derived UID (PS3.5 B.2) for this writer. */
const IMPLEMENTATION_CLASS = "2.25.188374092838477411038560279113920567811";
const LONG_FORM = new Set(["OB", "OW", "SQ", "UN", "UT"]);
const PIXEL_DATA = 0x7fe00010;
const EMPTY = Buffer.alloc(0);

function encodeNumbers(vr: string, values: readonly number[]): Buffer {
  const width = vr === "US" ? 2 : vr === "FD" ? 8 : 4;
  const bytes = Buffer.allocUnsafe(values.length * width);
  for (const [index, value] of values.entries()) {
    if (vr === "US") bytes.writeUInt16LE(value, index * width);
    else if (vr === "FD") bytes.writeDoubleLE(value, index * width);
    else bytes.writeUInt32LE(value, index * width);
  }
  return bytes;
}

function encodeItem(elements: readonly DicomElement[]): Buffer[] {
  const content = Buffer.concat(encodeElements(elements));
  const head = Buffer.from([0xfe, 0xff, 0x00, 0xe0, 0, 0, 0, 0]);
  head.writeUInt32LE(content.length, 4);
  return [head, content];
}

function encodeValue(vr: string, value: DicomElement[2]): Buffer {
  if (value === null) return EMPTY;
  if (typeof value === "number") return encodeNumbers(vr, [value]);
  if (typeof value === "string") {
    const isOdd = Buffer.byteLength(value) % 2 === 1;
    return Buffer.from(isOdd ? value + (vr === "UI" ? "\0" : " ") : value, "utf8");
  }
  if (value instanceof Uint8Array) {
    return value.length % 2 === 0 ? Buffer.from(value) : Buffer.concat([value, Buffer.alloc(1)]);
  }
  if (vr === "SQ") {
    return Buffer.concat((value as readonly (readonly DicomElement[])[]).flatMap(encodeItem));
  }
  return encodeNumbers(vr, value as readonly number[]);
}

function elementHead(tag: number, vr: string, length: number): Buffer {
  const isLong = LONG_FORM.has(vr);
  const head = Buffer.allocUnsafe(isLong ? 12 : 8);
  head.writeUInt16LE(tag >>> 16, 0);
  head.writeUInt16LE(tag & 0xffff, 2);
  head[4] = vr.charCodeAt(0);
  head[5] = vr.charCodeAt(1);
  if (isLong) {
    head.writeUInt16LE(0, 6);
    head.writeUInt32LE(length, 8);
  } else head.writeUInt16LE(length, 6);
  return head;
}

function encodeElements(elements: readonly DicomElement[]): Buffer[] {
  const chunks: Buffer[] = [];
  for (const [tag, vr, value] of [...elements].sort((a, b) => a[0] - b[0])) {
    const bytes = encodeValue(vr, value);
    chunks.push(elementHead(tag, vr, bytes.length), bytes);
  }
  return chunks;
}

/** One element as it stands in a file. */
export function encodeDicomElement(element: DicomElement): Buffer {
  return Buffer.concat(encodeElements([element]));
}

/**
 * Everything of a file that comes before the value of its pixel data: preamble, meta group, data set and, when
 * `pixels` is given, the head of the Pixel Data element announcing that many bytes (must be even, below 4 GiB).
 */
export function encodeDicomHead(
  file: DicomFile,
  pixels?: { readonly vr: "OB" | "OW"; readonly sizeBytes: number },
): Buffer {
  const meta = Buffer.concat(
    encodeElements([
      [0x00020001, "OB", Uint8Array.of(0, 1)],
      [0x00020002, "UI", file.sopClassUid],
      [0x00020003, "UI", file.sopInstanceUid],
      [0x00020010, "UI", EXPLICIT_LITTLE_ENDIAN],
      [0x00020012, "UI", IMPLEMENTATION_CLASS],
      [0x00020013, "SH", "GANTRY_SANDBOX"],
    ]),
  );
  const chunks = [
    Buffer.alloc(128),
    Buffer.from("DICM"),
    ...encodeElements([[0x00020000, "UL", meta.length]]),
    meta,
    ...encodeElements([
      [0x00080005, "CS", "ISO_IR 192"],
      [0x00080016, "UI", file.sopClassUid],
      [0x00080018, "UI", file.sopInstanceUid],
      ...file.elements,
    ]),
  ];
  if (pixels) chunks.push(elementHead(PIXEL_DATA, pixels.vr, pixels.sizeBytes));
  return Buffer.concat(chunks);
}
