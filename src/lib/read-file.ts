/** Reads files. But for `readBytes` a link as the last part of a path is not followed. */
import { constants, createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { onDisk, toDiskError } from "./durable-file.ts";

// Windows has neither flag. Without O_NONBLOCK a named pipe would hold us until somebody writes to it.
const optional: { O_NOFOLLOW?: number; O_NONBLOCK?: number } = constants;
const READ_FLAGS = constants.O_RDONLY | (optional.O_NOFOLLOW ?? 0) | (optional.O_NONBLOCK ?? 0);

/** The first bytes of a file, links not followed. Throws `disk-…`. */
export async function readFileHead(path: string, bytes: number): Promise<Uint8Array> {
  return onDisk({ operation: "read", path }, async () => {
    const file = await open(path, READ_FLAGS);
    try {
      const buffer = Buffer.alloc(bytes);
      const { bytesRead } = await file.read(buffer, 0, bytes, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  });
}

/** All bytes of a file, links not followed. Throws `disk-…`. */
export async function* readFileStream(path: string): AsyncGenerator<Uint8Array> {
  const file = await onDisk({ operation: "read", path }, () => open(path, READ_FLAGS));
  try {
    for (;;) {
      const buffer = Buffer.allocUnsafeSlow(256 * 1024);
      const { bytesRead } = await onDisk({ operation: "read", path }, () =>
        file.read(buffer, 0, buffer.length, null),
      );
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
}

/** Bytes of a file, a link followed; without a range all of them. Throws `disk-…`. */
export async function* readBytes(
  path: string,
  range?: { readonly offset: number; readonly length: number },
): AsyncGenerator<Uint8Array> {
  if (range?.length === 0) return;
  const ends = range ? { start: range.offset, end: range.offset + range.length - 1 } : {};
  try {
    yield* createReadStream(path, { ...ends, highWaterMark: 256 * 1024 }) as AsyncIterable<Buffer>;
  } catch (error) {
    throw (await toDiskError(error, { operation: "read", path })) ?? error;
  }
}
