/**
 * Is it whole, and the kind of file that its name promises? LORIS gives no digest, so that the sums inside of
 * gzip files, the size that a NIfTI header tells and the form of texts are what data can prove of themselves.
 */
import { once } from "node:events";
import { createGunzip, type Gunzip } from "node:zlib";
import { RunError } from "../../errors.ts";

const HEAD_BYTES = 540;
/** JSON side files have a few kB. */
const TEXT_LIMIT_BYTES = 16 * 1024 * 1024;

/** Passes a body through; at its end throws `proof-format` unless it is what `name` says. Constant memory for data. */
export async function* checkedBody(
  name: string,
  body: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  const fail = (what: string): RunError => new RunError("proof-format", `${name}: ${what}`);
  const inflater = name.endsWith(".gz") ? new Inflater(/\.nii\.gz$/u.test(name), fail) : null;
  const isJson = name.endsWith(".json");
  const texts: Uint8Array[] = [];
  let textBytes = 0;
  let head = Buffer.alloc(0);
  let bytes = 0;
  try {
    for await (const chunk of body) {
      bytes += chunk.length;
      if (head.length < HEAD_BYTES) head = Buffer.concat([head, chunk.subarray(0, HEAD_BYTES - head.length)]);
      if (inflater) await inflater.write(chunk);
      else if (isJson) {
        textBytes += chunk.length;
        if (textBytes > TEXT_LIMIT_BYTES) throw fail("it is too long for a JSON side file");
        texts.push(chunk);
      }
      yield chunk;
    }
    if (bytes === 0) throw fail("an empty file came");
    const start = head
      .toString("latin1")
      .replace(/^\xef\xbb\xbf/u, "")
      .trimStart();
    if (/^<(?:!doctype|html)/iu.test(start)) throw fail("a web page came instead of the file");
    await inflater?.end();
    if (name.endsWith(".mnc")) checkMinc(head, bytes, fail);
    if (isJson) {
      let value: unknown;
      try {
        value = JSON.parse(new TextDecoder().decode(Buffer.concat(texts)));
      } catch {
        throw fail("it is no JSON");
      }
      if (typeof value === "object" && value !== null && Object.keys(value).join() === "error")
        throw fail("an error message came instead of the file");
    } else if (/^\{\s*"error"\s*:/u.test(start)) throw fail("an error message came instead of the file");
  } finally {
    inflater?.destroy();
  }
}

/**
 * MINC 2 is HDF5, whose superblock tells where the file ends (HDF5 File Format Specification 3.0, II.A); MINC 1 is
 * netCDF, of which only the first bytes are looked at.
 */
function checkMinc(head: Buffer, bytes: number, fail: (what: string) => RunError): void {
  if (/^CDF[\x01\x02]/u.test(head.toString("latin1", 0, 4))) return;
  if (head.toString("latin1", 0, 8) !== "\x89HDF\r\n\x1a\n") throw fail("it is no MINC file");
  const version = head[8] ?? 0;
  // Versions 0 and 1 have the sizes of trees before the addresses, in place of one extension after the first of them.
  const first = version === 0 ? 24 : version === 1 ? 28 : 12;
  const offsetBytes = version < 2 ? head[13] : head[9];
  if (offsetBytes !== 8 || version > 3) return;
  const end = Number(head.readBigUInt64LE(first) + head.readBigUInt64LE(first + 16));
  if (end > bytes) throw fail(`its header tells of ${end} bytes, but ${bytes} came`);
}

/** Inflates to count and to check CRC and length, keeping only the NIfTI header. */
class Inflater {
  readonly #gunzip: Gunzip = createGunzip();
  readonly #nifti: boolean;
  readonly #fail: (what: string) => RunError;
  #head = Buffer.alloc(0);
  #bytes = 0;
  #broken: Error | null = null;

  constructor(nifti: boolean, fail: (what: string) => RunError) {
    this.#nifti = nifti;
    this.#fail = fail;
    this.#gunzip.on("error", (error) => {
      this.#broken = error;
    });
    this.#gunzip.on("data", (chunk: Buffer) => {
      this.#bytes += chunk.length;
      if (this.#head.length < HEAD_BYTES)
        this.#head = Buffer.concat([this.#head, chunk.subarray(0, HEAD_BYTES - this.#head.length)]);
    });
  }

  async write(chunk: Uint8Array): Promise<void> {
    if (this.#broken) throw this.#fail("it is no whole gzip file");
    if (this.#gunzip.write(chunk)) return;
    await once(this.#gunzip, "drain").catch(() => undefined);
  }

  async end(): Promise<void> {
    if (!this.#broken) {
      const ended = once(this.#gunzip, "end").catch(() => undefined);
      this.#gunzip.end();
      await ended;
    }
    if (this.#broken) throw this.#fail("it is no whole gzip file");
    if (!this.#nifti) return;
    const needed = niftiBytes(this.#head);
    if (needed === null) throw this.#fail("it is packed, but no NIfTI file");
    if (needed > this.#bytes)
      throw this.#fail(`its header tells of ${needed} bytes, but ${this.#bytes} are in it`);
  }

  destroy(): void {
    this.#gunzip.destroy();
  }
}

/** Bytes up to the end of the image, by a NIfTI-1 or NIfTI-2 header (nifti1.h, nifti2.h); null for no such header. */
export function niftiBytes(head: Buffer): number | null {
  if (head.length < 348) return null;
  for (const little of [true, false]) {
    const int16 = (at: number): number => (little ? head.readInt16LE(at) : head.readInt16BE(at));
    const size = little ? head.readInt32LE(0) : head.readInt32BE(0);
    if (size === 348) {
      const offset = little ? head.readFloatLE(108) : head.readFloatBE(108);
      return imageEnd(int16(40), (n) => int16(40 + 2 * n), int16(72), offset);
    }
    if (size === 540 && head.length >= 540) {
      const int64 = (at: number): number =>
        Number(little ? head.readBigInt64LE(at) : head.readBigInt64BE(at));
      return imageEnd(int64(16), (n) => int64(16 + 8 * n), int16(14), int64(168));
    }
  }
  return null;
}

function imageEnd(rank: number, length: (n: number) => number, bits: number, offset: number): number | null {
  if (rank < 1 || rank > 7) return null;
  let voxels = 1;
  for (let n = 1; n <= rank; n += 1) voxels *= length(n);
  return offset + Math.ceil((voxels * bits) / 8);
}
