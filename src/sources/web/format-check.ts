/**
 * Is it the kind of file that its name promises? No proof of its bytes, but a login page, an error message or a cut
 * archive is never taken for data. Pure.
 */
import { RunError } from "../../errors.ts";

/** So much of the beginning and of the end is looked at. A zip's end record is at most 65,557 bytes long (APPNOTE 4.3.16). */
export const LOOKED_AT_BYTES = 66_000;

const ZIP = /\.(?:zip|xlsx|docx|pptx|ods|odt|npz|whl|jar)$/iu;
const GZIP = /\.(?:gz|tgz|svgz)$/iu;
const HTML = /\.(?:html?|xhtml)$/iu;

/** True for a file whose name says that it is a web page. */
export const isPageName = (name: string): boolean => HTML.test(name);

/** True for a media type of web pages. */
export const isPageType = (type: string): boolean => type === "text/html" || type === "application/xhtml+xml";

/** Whether the name is of a packed kind, for which a packed reply is the file itself. */
export const isPackedName = (name: string): boolean => GZIP.test(name);

/**
 * `head` and `tail` are the first and last bytes, up to `LOOKED_AT_BYTES` each. Gives `format` when the file was found
 * to be of the kind its name says, null when nothing is known of that kind. Throws `proof-format`.
 */
export function checkFormat(
  name: string,
  head: Uint8Array,
  tail: Uint8Array,
  bytes: number,
): "format" | null {
  const start = Buffer.from(head.buffer, head.byteOffset, Math.min(head.length, 1024)).toString("latin1");
  const fail = (what: string): RunError => new RunError("proof-format", `${name}: ${what}`);
  if (!isPageName(name) && /^(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html[\s>])/iu.test(start)) {
    throw fail("a web page came instead of the file");
  }
  if (ZIP.test(name)) {
    if (!hasZipDirectory(tail, bytes)) throw fail("it is no whole zip: its directory does not end it");
    if (!/^PK(?:\x03\x04|\x05\x06)/u.test(start)) throw fail("it does not begin as a zip does");
    return "format";
  }
  if (GZIP.test(name)) {
    // RFC 1952: ten bytes of header, eight of trailer.
    if (!start.startsWith("\x1f\x8b\x08") || bytes < 18) throw fail("it is no gzip file");
    return "format";
  }
  if (/\.pdf$/iu.test(name)) {
    if (!start.includes("%PDF-")) throw fail("it is no PDF file");
    return "format";
  }
  if (/\.xls$/iu.test(name)) {
    if (!start.startsWith("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")) throw fail("it is no Excel 97 file");
    return "format";
  }
  return null;
}

/** An end record whose comment ends the file, and whose directory ends where the record begins (zip64 aside). */
function hasZipDirectory(tail: Uint8Array, bytes: number): boolean {
  const view = Buffer.from(tail.buffer, tail.byteOffset, tail.length);
  for (let at = view.length - 22; at >= 0; at -= 1) {
    if (view.readUInt32LE(at) !== 0x06054b50) continue;
    if (at + 22 + view.readUInt16LE(at + 20) !== view.length) continue;
    const size = view.readUInt32LE(at + 12);
    const offset = view.readUInt32LE(at + 16);
    const end = bytes - view.length + at;
    if (size === 0xffffffff || offset === 0xffffffff || offset + size <= end) return true;
  }
  return false;
}
