/**
 * Headers of tar members: POSIX ustar, with a pax extended header where a name or a size does not fit (IEEE Std
 * 1003.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"). The same member has the same bytes wherever
 * and whenever it is packed: owner 0, mode 0644, one fixed time.
 */

export const TAR_BLOCK = 512;
/** 1980-01-01 UTC, the oldest time that every archive format can hold. */
export const TAR_MTIME_MS = 315_532_800_000;

const MAX_OCTAL_SIZE = 0o77777777777;
const ASCII = /^[\u0020-\u007e]*$/u;

/** Everything before the bytes of a member; a multiple of 512 long. `path` has `/` between segments. */
export function tarHeader(path: string, bytes: number): Buffer {
  const split = splitName(path);
  const records: string[] = [];
  if (split === null) records.push(paxRecord("path", path));
  if (bytes > MAX_OCTAL_SIZE) records.push(paxRecord("size", String(bytes)));
  // What a reader without pax shows; with pax it does not count.
  const plain = split ?? { prefix: "", name: plainName(path) };
  const own = block(plain, Math.min(bytes, MAX_OCTAL_SIZE), "0");
  if (records.length === 0) return own;
  const body = Buffer.from(records.join(""));
  const padding = Buffer.alloc(tarPadding(body.length));
  return Buffer.concat([block({ prefix: "", name: "PaxHeader" }, body.length, "x"), body, padding, own]);
}

/** How long `tarHeader` is; without `bytes` for members below 8 GiB. */
export function tarHeaderBytes(path: string, bytes = 0): number {
  return splitName(path) === null || bytes > MAX_OCTAL_SIZE ? tarHeader(path, bytes).length : TAR_BLOCK;
}

/** Zeros after the bytes of a member, so that the next one begins at a block. */
export function tarPadding(bytes: number): number {
  return (TAR_BLOCK - (bytes % TAR_BLOCK)) % TAR_BLOCK;
}

/** Two blocks of zeros end an archive. */
export const TAR_END: Uint8Array = Buffer.alloc(2 * TAR_BLOCK);

/**
 * So many bytes (a multiple of 512) that every reader passes over: a global extended header whose only record is a
 * comment. Readers hold such a header in memory, so it should be below a mebibyte.
 */
export function tarComment(bytes: number): Buffer {
  const size = bytes - TAR_BLOCK;
  const header = block({ prefix: "", name: "PaxHeader" }, size, "g");
  if (size === 0) return header;
  const body = Buffer.alloc(size);
  body.write(`${size} comment=`);
  body.write("\n", size - 1);
  return Buffer.concat([header, body]);
}

interface Name {
  readonly prefix: string;
  readonly name: string;
}

/** Null: only pax can hold it. */
function splitName(path: string): Name | null {
  if (!ASCII.test(path)) return null;
  if (path.length <= 100) return { prefix: "", name: path };
  for (let slash = path.indexOf("/"); slash > 0; slash = path.indexOf("/", slash + 1)) {
    const name = path.slice(slash + 1);
    if (slash <= 155 && name.length <= 100 && name !== "") return { prefix: path.slice(0, slash), name };
  }
  return null;
}

function plainName(path: string): string {
  return path.replace(/[^\u0020-\u007e]/gu, "_").slice(-100);
}

function paxRecord(key: string, value: string): string {
  const rest = Buffer.byteLength(` ${key}=${value}\n`);
  let length = rest + 1;
  while (rest + String(length).length !== length) length = rest + String(length).length;
  return `${length} ${key}=${value}\n`;
}

function block({ prefix, name }: Name, bytes: number, type: "0" | "x" | "g"): Buffer {
  const header = Buffer.alloc(TAR_BLOCK);
  const octal = (value: number, at: number, digits: number): void => {
    header.write(value.toString(8).padStart(digits, "0"), at, "latin1");
  };
  header.write(name, 0, 100, "latin1");
  octal(0o644, 100, 7);
  octal(0, 108, 7);
  octal(0, 116, 7);
  octal(bytes, 124, 11);
  octal(TAR_MTIME_MS / 1000, 136, 11);
  header.write("        ", 148, "latin1");
  header.write(type, 156, "latin1");
  header.write("ustar\u000000", 257, "latin1");
  header.write(prefix, 345, 155, "latin1");
  let sum = 0;
  for (let at = 0; at < TAR_BLOCK; at += 1) sum += header[at] as number;
  octal(sum, 148, 6);
  header[154] = 0;
  return header;
}
