/**
 * A stand-in for ascp's encryption at rest, whose format is not public: a head of 64 bytes that knows the passphrase,
 * then as many bytes as the clear file. Files carry the extension of the real ones.
 */
import { createCipheriv, createDecipheriv, createHash, createHmac, pbkdf2Sync } from "node:crypto";

export const AT_REST_SUFFIX = ".aspera-env";
export const AT_REST_HEAD_BYTES = 64;
const MAGIC = Buffer.from("STANDIN-AT-REST\n");
const BLOCK = 16;

export class WrongPassphrase extends Error {}
/** Not a file of this scheme. */
export class NotAtRest extends Error {}

function keyOf(passphrase: string, salt: Uint8Array): Buffer {
  return pbkdf2Sync(passphrase, salt, 1000, 32, "sha256");
}

const checkOf = (key: Uint8Array): Buffer => createHmac("sha256", key).update("check").digest();

/** The head of an encrypted file. The salt comes from its name, so that the same file is the same twice. */
function headOf(
  passphrase: string,
  name: string,
): { readonly head: Buffer; readonly key: Buffer; salt: Buffer } {
  const salt = createHash("md5").update(name).digest();
  const key = keyOf(passphrase, salt);
  return { head: Buffer.concat([MAGIC, salt, checkOf(key)]), key, salt };
}

/** The stream that stands `blocks` into the file. */
function counterAt(salt: Uint8Array, blocks: number): Buffer {
  const counter = Buffer.from(salt);
  counter.writeUIntBE(0, 10, 6);
  counter.writeUIntBE(blocks, 10, 6);
  return counter;
}

/** Encrypted bytes of a clear file, head included, from a byte of the encrypted file on. `clear` reads from a byte on. */
export async function* encryptAtRest(
  passphrase: string,
  name: string,
  clear: (from: number) => AsyncIterable<Uint8Array>,
  from = 0,
): AsyncGenerator<Uint8Array> {
  const { head, key, salt } = headOf(passphrase, name);
  if (from < head.length) yield head.subarray(from);
  const at = Math.max(0, from - head.length);
  const blocks = Math.floor(at / BLOCK);
  const cipher = createCipheriv("aes-256-ctr", key, counterAt(salt, blocks));
  let skip = at - blocks * BLOCK;
  for await (const chunk of clear(blocks * BLOCK)) {
    const packed = cipher.update(chunk);
    const kept = packed.subarray(Math.min(skip, packed.length));
    skip -= packed.length - kept.length;
    if (kept.length > 0) yield kept;
  }
}

/** Reads a head; throws `NotAtRest`, `WrongPassphrase`. `decrypt` goes on from a multiple of 16 clear bytes. */
export function openAtRest(
  passphrase: string,
  head: Uint8Array,
): (encrypted: AsyncIterable<Uint8Array>, fromClearByte: number) => AsyncGenerator<Uint8Array> {
  const bytes = Buffer.from(head);
  if (bytes.length !== AT_REST_HEAD_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC))
    throw new NotAtRest();
  const salt = bytes.subarray(16, 32);
  const key = keyOf(passphrase, salt);
  if (!checkOf(key).equals(bytes.subarray(32))) throw new WrongPassphrase();
  return async function* decrypt(encrypted, fromClearByte) {
    const cipher = createDecipheriv("aes-256-ctr", key, counterAt(salt, fromClearByte / BLOCK));
    for await (const chunk of encrypted) yield cipher.update(chunk);
  };
}
