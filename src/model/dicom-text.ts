/**
 * Text of DICOM values by their Specific Character Set (DICOM PS3.3 C.12.1.1.2, PS3.5 6.1).
 *
 * Bytes that a character set does not know become U+FFFD; nothing here throws.
 */

import { TextDecoder } from "node:util";

const ESC = 0x1b;

/** Decoder labels of the WHATWG Encoding standard by the number in the defined term (`ISO_IR 101` → `101`). */
const SINGLE_BYTE: Readonly<Record<string, string>> = {
  "101": "iso-8859-2",
  "109": "iso-8859-3",
  "110": "iso-8859-4",
  "126": "iso-8859-7",
  "127": "iso-8859-6",
  "138": "iso-8859-8",
  "144": "iso-8859-5",
  "148": "windows-1254",
  "166": "windows-874",
  "203": "iso-8859-15",
  "13": "shift_jis",
  "149": "euc-kr",
  "58": "gb18030",
};

/** Escape sequences (without ESC) that choose how the bytes behind them are read; PS3.3 tables C.12-3 and C.12-4. */
const ESCAPES: readonly (readonly [sequence: string, encoding: string])[] = [
  ["(B", "ascii"],
  ["(J", "shift_jis"],
  [")I", "shift_jis"],
  ["$B", "jis0208"],
  ["$(D", "jis0212"],
  ["$)C", "euc-kr"],
  ["$)A", "gb18030"],
  ["-A", "latin1"],
  ["-B", "iso-8859-2"],
  ["-C", "iso-8859-3"],
  ["-D", "iso-8859-4"],
  ["-F", "iso-8859-7"],
  ["-G", "iso-8859-6"],
  ["-H", "iso-8859-8"],
  ["-L", "iso-8859-5"],
  ["-M", "windows-1254"],
  ["-T", "windows-874"],
  ["-b", "iso-8859-15"],
];

const decoders = new Map<string, TextDecoder | undefined>();

/** A decoder for the label, or undefined when this runtime was built without it. */
function decoderFor(label: string): TextDecoder | undefined {
  if (!decoders.has(label)) {
    try {
      decoders.set(label, new TextDecoder(label));
    } catch {
      decoders.set(label, undefined);
    }
  }
  return decoders.get(label);
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}

function decodeRun(bytes: Uint8Array, encoding: string): string {
  if (encoding === "latin1") return latin1(bytes);
  if (encoding === "ascii") return latin1(bytes).replace(/[\x80-\xff]/g, "\ufffd");
  if (encoding === "jis0208" || encoding === "jis0212") {
    // The 94×94 sets come in seven bits; EUC-JP is the same table with the high bit set (0212 behind a 0x8F).
    const euc: number[] = [];
    for (let at = 0; at + 1 < bytes.length; at += 2) {
      if (encoding === "jis0212") euc.push(0x8f);
      euc.push(bytes[at]! | 0x80, bytes[at + 1]! | 0x80);
    }
    return decoderFor("euc-jp")?.decode(Uint8Array.from(euc)) ?? "\ufffd";
  }
  return decoderFor(encoding)?.decode(bytes) ?? latin1(bytes);
}

/** What bytes mean before any escape sequence. */
function initialEncoding(term: string): string {
  const upper = term.trim().toUpperCase();
  if (upper === "GB18030") return "gb18030";
  if (upper === "GBK") return "gbk";
  const number = /^ISO[ _](?:2022 )?IR[ _]?(\d{1,3})$/.exec(upper)?.[1];
  if (number === "192") return "utf-8";
  // 87 and 159 as first value do not exist in the standard but do in files; their first state is ASCII.
  return (number && SINGLE_BYTE[number]) ?? "latin1";
}

/**
 * Decodes one value (all its components and its multiple values at once).
 *
 * `characterSet` is the raw text of (0008,0005), values divided by backslashes, or undefined when absent. An absent
 * or unknown set is read as ISO 8859-1: files that use it without saying so outnumber all others.
 */
export function decodeDicomText(bytes: Uint8Array, characterSet: string | undefined): string {
  const initial = initialEncoding(characterSet?.split("\\", 1)[0] ?? "");
  if (initial === "utf-8" || initial === "gb18030" || initial === "gbk") return decodeRun(bytes, initial);
  let from = bytes.indexOf(ESC);
  if (from < 0) return decodeRun(bytes, initial);
  let text = decodeRun(bytes.subarray(0, from), initial);
  while (from < bytes.length) {
    const behind = latin1(bytes.subarray(from + 1, from + 4));
    const known = ESCAPES.find(([sequence]) => behind.startsWith(sequence));
    const start = from + 1 + (known?.[0].length ?? 0);
    const next = bytes.indexOf(ESC, start);
    const end = next < 0 ? bytes.length : next;
    text += decodeRun(bytes.subarray(start, end), known?.[1] ?? initial);
    from = end;
  }
  return text;
}
