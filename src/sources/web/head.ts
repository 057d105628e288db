/**
 * What the headers of a reply say of a plain file. Facts: RFC 9110 (Content-Length, Content-Range, ETag, Last-Modified),
 * RFC 9530 (Repr-Digest), RFC 3230 (Digest), RFC 1864 (Content-MD5), RFC 6266 (Content-Disposition), Google Cloud
 * Storage "x-goog-hash", Amazon S3 "Checking object integrity" (an ETag is the MD5 of an object that was put in one part
 * and is not encrypted with KMS or a customer's key).
 */
import { type Digest, isDigest } from "../../lib/digest.ts";
import { lastSegment } from "../../model/link.ts";

/** The part of a reply that this file reads. */
export interface Reply {
  readonly status: number;
  header(name: string): string | undefined;
  /** After redirects. */
  readonly url: string;
}

export interface Head {
  /** Size of the whole file, null when it was not announced. */
  readonly bytes: number | null;
  /** As sent, e.g. `"abc"` or `W/"abc"`. */
  readonly etag: string | null;
  /** As sent. */
  readonly lastModified: string | null;
  /** Media type in small letters without parameters, empty when absent. */
  readonly type: string;
  readonly name: string;
  readonly md5: Digest | null;
  readonly sha256: Digest | null;
}

/** `asked` is the link of the file: the reply may come from elsewhere after a redirect. */
export function readHead(reply: Reply, asked: string): Head {
  // A packed reply (Content-Encoding) has the length and sums of the packing.
  const packed = isPacked(reply);
  return {
    bytes: packed ? null : wholeBytes(reply),
    etag: nonEmpty(reply.header("etag")),
    lastModified: nonEmpty(reply.header("last-modified")),
    type: (reply.header("content-type") ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "",
    name: fileName(reply, asked),
    md5: packed ? null : md5Of(reply),
    sha256: packed ? null : sha256Of(reply),
  };
}

export function isPacked(reply: Reply): boolean {
  const encoding = reply.header("content-encoding")?.trim().toLowerCase() ?? "";
  return encoding !== "" && encoding !== "identity";
}

/** First byte and size of the whole of a 206, null when the header is missing or odd. */
export function contentRange(reply: Reply): { first: number; total: number | null } | null {
  const match = /^bytes (\d+)-\d+\/(\d+|\*)$/iu.exec(reply.header("content-range")?.trim() ?? "");
  return match ? { first: Number(match[1]), total: match[2] === "*" ? null : Number(match[2]) } : null;
}

/** Opaque; another one means other data. `?` when the server says nothing that could differ. */
export function revisionOf({ etag, lastModified, bytes }: Head): string {
  const known = etag === null ? [lastModified ?? "", bytes ?? ""] : [etag, bytes ?? ""];
  const text = known.join(" ").trim();
  return text === "" ? "?" : text;
}

/** What `If-Range` may hold: a strong ETag, else a date (RFC 9110 13.1.5). Null: the server can't resume safely. */
export function rangeCondition({ etag, lastModified }: Head): string | null {
  if (etag?.startsWith('"')) return etag;
  return etag === null ? lastModified : null;
}

function wholeBytes(reply: Reply): number | null {
  if (reply.status === 206) return contentRange(reply)?.total ?? null;
  if (reply.status === 416) {
    const total = /^bytes \*\/(\d+)$/iu.exec(reply.header("content-range")?.trim() ?? "")?.[1];
    return total === undefined ? null : Number(total);
  }
  const length = reply.header("content-length")?.trim() ?? "";
  return /^\d{1,15}$/u.test(length) ? Number(length) : null;
}

function md5Of(reply: Reply): Digest | null {
  // RFC 1864 is of what was sent, which is a part in a 206; the others are of the whole file.
  const sent = reply.status === 200 ? (reply.header("content-md5") ?? "") : "";
  const google = /(?:^|,)\s*md5=([A-Za-z0-9+/=]+)/u.exec(reply.header("x-goog-hash") ?? "")?.[1] ?? "";
  const digest = /(?:^|,)\s*md5=([A-Za-z0-9+/=]+)/iu.exec(reply.header("digest") ?? "")?.[1] ?? "";
  for (const text of [sent.trim(), google, digest]) {
    const found = fromBase64("md5", text);
    if (found) return found;
  }
  return amazonMd5(reply);
}

/** Only where nothing speaks against it: Amazon itself, one part, no encryption that changes the ETag. */
function amazonMd5(reply: Reply): Digest | null {
  if (reply.header("server") !== "AmazonS3" || reply.header("x-amz-request-id") === undefined) return null;
  const encryption = reply.header("x-amz-server-side-encryption") ?? "AES256";
  const customer = reply.header("x-amz-server-side-encryption-customer-algorithm");
  if (encryption !== "AES256" || customer !== undefined) return null;
  const text = `md5:${/^"([0-9a-f]{32})"$/u.exec(reply.header("etag") ?? "")?.[1] ?? ""}`;
  return isDigest(text) ? text : null;
}

function sha256Of(reply: Reply): Digest | null {
  const whole = /(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]+):/iu.exec(reply.header("repr-digest") ?? "")?.[1];
  const older = /(?:^|,)\s*sha-256=([A-Za-z0-9+/=]+)/iu.exec(reply.header("digest") ?? "")?.[1];
  return fromBase64("sha256", whole ?? older ?? "");
}

function fromBase64(algorithm: "md5" | "sha256", text: string): Digest | null {
  const digest = `${algorithm}:${Buffer.from(text, "base64").toString("hex")}`;
  return isDigest(digest) ? digest : null;
}

/** Content-Disposition, else the last part of the link that was asked, else of the one that answered, else the host. */
function fileName(reply: Reply, asked: string): string {
  const told = dispositionName(reply.header("content-disposition") ?? "");
  if (told !== "") return told;
  const mine = lastSegment(new URL(asked));
  if (mine.includes(".")) return mine;
  const theirs = URL.canParse(reply.url) ? lastSegment(new URL(reply.url)) : "";
  if (theirs.includes(".")) return theirs;
  return mine || theirs || new URL(asked).hostname;
}

function dispositionName(header: string): string {
  const extended = /;\s*filename\*\s*=\s*utf-8'[^']*'([^;\s]+)/iu.exec(header)?.[1];
  let name = "";
  if (extended !== undefined) {
    try {
      name = decodeURIComponent(extended);
    } catch {
      name = "";
    }
  }
  if (name === "") {
    const match = /;\s*filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]+))/iu.exec(header);
    // Node gives header bytes as Latin-1; many servers send UTF-8.
    name = utf8((match?.[1] ?? match?.[2] ?? "").replace(/\\(.)/gu, "$1"));
  }
  return name.split(/[/\\]/u).at(-1) ?? "";
}

function utf8(latin1: string): string {
  const bytes = Buffer.from(latin1, "latin1");
  const text = bytes.toString("utf8");
  return text.includes("\uFFFD") ? latin1 : text;
}

const nonEmpty = (text: string | undefined): string | null => (text ? text : null);
