/** Digests of bytes and files, written as `ALGORITHM:HEX`. */

import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { RunError } from "../errors.ts";
import { onDisk } from "./durable-file.ts";

export type DigestAlgorithm = "md5" | "sha1" | "sha256" | "sha512";
/** Lower-case hex of the right length, e.g. `md5:d41d8cd98f00b204e9800998ecf8427e`. */
export type Digest = `${DigestAlgorithm}:${string}`;

const HEX_CHARACTERS: Readonly<Record<DigestAlgorithm, number>> = {
  md5: 32,
  sha1: 40,
  sha256: 64,
  sha512: 128,
};
const READ_BYTES = 1024 * 1024;

export function isDigest(text: string): text is Digest {
  const match = /^(md5|sha1|sha256|sha512):([0-9a-f]+)$/.exec(text);
  return match !== null && match[2]!.length === HEX_CHARACTERS[match[1] as DigestAlgorithm];
}

/** Takes any case and white space around it. Throws `bad-selection` for what is no digest. */
export function parseDigest(text: string): Digest {
  const normal = text.trim().toLowerCase();
  if (isDigest(normal)) return normal;
  throw new RunError("bad-selection", `${JSON.stringify(text.slice(0, 100))} is no digest like md5:HEX`);
}

/** The digest for hex as archives write it, which tells no algorithm. Throws `bad-selection`. */
export function digestOfHex(algorithm: DigestAlgorithm, hex: string): Digest {
  return parseDigest(`${algorithm}:${hex.trim()}`);
}

export function digestAlgorithm(digest: Digest): DigestAlgorithm {
  return digest.slice(0, digest.indexOf(":")) as DigestAlgorithm;
}

/** Takes bytes as they pass. */
export interface Hasher {
  readonly sizeBytes: number;
  update(bytes: Uint8Array | string): void;
  /** The digest of all bytes so far. Call it once, at the end. */
  digest(): Digest;
}

export function createHasher(algorithm: DigestAlgorithm): Hasher {
  const hash = createHash(algorithm);
  let sizeBytes = 0;
  return {
    get sizeBytes() {
      return sizeBytes;
    },
    update(bytes) {
      sizeBytes += typeof bytes === "string" ? Buffer.byteLength(bytes) : bytes.length;
      hash.update(bytes);
    },
    digest: () => `${algorithm}:${hash.digest("hex")}`,
  };
}

export function hashBytes(algorithm: DigestAlgorithm, bytes: Uint8Array | string): Digest {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest("hex")}`;
}

/**
 * Reads the whole file. Not through a symbolic link as last part of the path, where the platform can refuse it;
 * and only a regular file: both are `disk-error`, as is every failure to read. Rejects with the signal's reason.
 */
export async function hashFile(
  path: string,
  algorithm: DigestAlgorithm,
  signal?: AbortSignal,
): Promise<Digest> {
  signal?.throwIfAborted();
  const at = { operation: "read", path };
  // Windows has neither flag. Without O_NONBLOCK a named pipe would hold us until somebody writes to it.
  const optional: { O_NOFOLLOW?: number; O_NONBLOCK?: number } = constants;
  const flags = constants.O_RDONLY | (optional.O_NOFOLLOW ?? 0) | (optional.O_NONBLOCK ?? 0);
  const file = await onDisk(at, () => open(path, flags));
  try {
    const facts = await onDisk(at, () => file.stat());
    if (!facts.isFile()) throw new RunError("disk-error", `${path}: it is no regular file`, { at });
    const hash = createHash(algorithm);
    // One byte more than the file has, so that the first read of a small file sees its end.
    const readBytes = Math.min(READ_BYTES, facts.size + 1);
    const read = (buffer: Buffer) => file.read(buffer, 0, buffer.length, null);
    // Two buffers in turn: the disk fills one while the other is hashed.
    let filling: Buffer = Buffer.allocUnsafeSlow(readBytes);
    let spare: Buffer | undefined;
    let { bytesRead } = await onDisk(at, () => read(filling));
    while (bytesRead > 0) {
      signal?.throwIfAborted();
      const full = filling.subarray(0, bytesRead);
      const last = bytesRead < filling.length;
      if (last) {
        hash.update(full);
        ({ bytesRead } = await onDisk(at, () => read(filling)));
      } else {
        const next = spare ?? Buffer.allocUnsafeSlow(readBytes);
        const reading = onDisk(at, () => read(next));
        hash.update(full);
        ({ bytesRead } = await reading);
        spare = filling;
        filling = next;
      }
    }
    return `${algorithm}:${hash.digest("hex")}`;
  } finally {
    await file.close();
  }
}
