/** A plain file as nginx serves it: length, ETag, date, and ranges (RFC 9110 sections 13 and 14). */
import { createHash } from "node:crypto";
import type { Fault } from "./faults.ts";
import type { Reply, SandboxRequest } from "./stand-ins.ts";

export interface PlainFile {
  readonly bytes: Uint8Array;
  readonly type: string;
  readonly modified: Date;
  /** Also give the MD5, as Azure and others do. */
  readonly contentMd5?: boolean;
  /** For Content-Disposition. */
  readonly saveAs?: string;
}

export function plainFileReply(
  { headers }: SandboxRequest,
  file: PlainFile,
  fault: Fault | undefined,
): Reply {
  const { type, modified } = file;
  const size = file.bytes.length;
  // The one of nginx: time and length in hex; a digit of the content stands for what time alone can't tell here.
  const etag = `"${Math.floor(modified.getTime() / 1000).toString(16)}-${size.toString(16)}${hash(file.bytes, "hex").slice(0, 4)}"`;
  const lastModified = modified.toUTCString();
  const common = {
    "Content-Type": type,
    ETag: etag,
    "Last-Modified": lastModified,
    "Accept-Ranges": "bytes",
    ...(file.saveAs === undefined ? {} : { "Content-Disposition": `attachment; filename="${file.saveAs}"` }),
  };
  const sent = fault?.kind === "wrong-bytes" || fault?.kind === "flip" ? flipped(file.bytes) : file.bytes;
  const range = /^bytes=(\d+)-(\d*)$/.exec(headers.range ?? "");
  const condition = headers["if-range"];
  if (range === null || (condition !== undefined && condition !== etag && condition !== lastModified)) {
    const md5 = file.contentMd5 ? { "Content-MD5": hash(file.bytes, "base64") } : {};
    return { status: 200, headers: { ...common, ...md5, "Content-Length": String(size) }, body: sent };
  }
  const first = Number(range[1]);
  const last = Math.min(range[2] === "" ? size - 1 : Number(range[2]), size - 1);
  if (first > last) return { status: 416, headers: { ...common, "Content-Range": `bytes */${size}` } };
  const part = sent.subarray(first, last + 1);
  return {
    status: 206,
    headers: {
      ...common,
      "Content-Range": `bytes ${first}-${last}/${size}`,
      "Content-Length": String(part.length),
    },
    body: part,
  };
}

const hash = (bytes: Uint8Array, form: "hex" | "base64"): string =>
  createHash("md5").update(bytes).digest(form);

/** The same length, one byte in the middle another. */
function flipped(bytes: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(bytes);
  const middle = copy.length >> 1;
  copy[middle] = (copy[middle] ?? 0) ^ 0xff;
  return copy;
}
