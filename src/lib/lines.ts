/** Reads text files of any size line by line in constant memory. */

import { open } from "node:fs/promises";
import { RunError } from "../errors.ts";
import { onDisk } from "./durable-file.ts";

const READ_BYTES = 256 * 1024;
const DEFAULT_MAX_LINE_BYTES = 64 * 1024 * 1024;
const NEWLINE = 10;

export interface ReadLinesOptions {
  /** Byte offset of the file to begin at, which must be the begin of a line. Default 0. */
  readonly startBytes?: number;
  /** A longer line is a `disk-error`. Default 64 MiB. */
  readonly maxLineBytes?: number;
}

export interface Line {
  /** Decoded as UTF-8, without its "\n"; a "\r" before it is kept. Bytes that are no UTF-8 become U+FFFD. */
  readonly text: string;
  /** Counted from 1 at `startBytes`. */
  readonly number: number;
  /** Where the line begins in the file. */
  readonly offsetBytes: number;
  /** False for a last line without newline: torn, or still being written. */
  readonly complete: boolean;
}

export interface LineBatch {
  /** At least one; each as in `Line.text`. The strings hold no memory but their own. */
  readonly texts: readonly string[];
  /** For each text the bytes of its line in the file, newline included. */
  readonly sizesBytes: readonly number[];
  /** Number of the first text, counted from 1 at `startBytes`. */
  readonly firstNumber: number;
  /** Where the first line begins in the file, and where the byte after the last one is. */
  readonly offsetBytes: number;
  readonly endBytes: number;
  /** False when the last text has no newline; only so in the last batch. */
  readonly complete: boolean;
}

/** Every line of the file. For millions of lines `readLineBatches` is faster. Throws `disk-error`. */
export async function* readLines(path: string, options: ReadLinesOptions = {}): AsyncGenerator<Line> {
  for await (const batch of readLineBatches(path, options)) {
    let offsetBytes = batch.offsetBytes;
    const last = batch.texts.length - 1;
    for (const [index, text] of batch.texts.entries()) {
      const complete = index < last || batch.complete;
      yield { text, number: batch.firstNumber + index, offsetBytes, complete };
      offsetBytes += batch.sizesBytes[index]!;
    }
  }
}

/** The lines of each read of the file. Stopping early closes the file. Throws `disk-error`. */
export async function* readLineBatches(
  path: string,
  options: ReadLinesOptions = {},
): AsyncGenerator<LineBatch> {
  const maxLineBytes = options.maxLineBytes ?? DEFAULT_MAX_LINE_BYTES;
  const at = { operation: "read", path };
  const file = await onDisk(at, () => open(path, "r"));
  try {
    let buffer = Buffer.allocUnsafe(READ_BYTES);
    /** Bytes of a begun line at the front of the buffer; they hold no newline. */
    let keptBytes = 0;
    let offsetBytes = options.startBytes ?? 0;
    let firstNumber = 1;
    for (;;) {
      const room = buffer.length - keptBytes;
      const position = offsetBytes + keptBytes;
      const { bytesRead } = await onDisk(at, () => file.read(buffer, keptBytes, room, position));
      if (bytesRead === 0) break;
      const filled = keptBytes + bytesRead;
      const texts: string[] = [];
      const sizesBytes: number[] = [];
      const bytes = buffer.subarray(0, filled);
      let begin = 0;
      // The kept bytes were searched before.
      let newline = bytes.indexOf(NEWLINE, keptBytes);
      while (newline !== -1) {
        checkLength(newline - begin, maxLineBytes, firstNumber + texts.length, path);
        texts.push(bytes.toString("utf8", begin, newline));
        sizesBytes.push(newline + 1 - begin);
        begin = newline + 1;
        newline = bytes.indexOf(NEWLINE, begin);
      }
      keptBytes = filled - begin;
      checkLength(keptBytes, maxLineBytes, firstNumber + texts.length, path);
      if (texts.length > 0) {
        const endBytes = offsetBytes + begin;
        const batch = { texts, sizesBytes, firstNumber, offsetBytes, endBytes, complete: true };
        firstNumber += texts.length;
        offsetBytes = endBytes;
        yield batch;
      }
      if (keptBytes === buffer.length) {
        const larger = Buffer.allocUnsafe(buffer.length * 2);
        buffer.copy(larger, 0, 0, keptBytes);
        buffer = larger;
      } else if (begin > 0) {
        buffer.copyWithin(0, begin, filled);
      }
    }
    if (keptBytes > 0) {
      yield {
        texts: [buffer.toString("utf8", 0, keptBytes)],
        sizesBytes: [keptBytes],
        firstNumber,
        offsetBytes,
        endBytes: offsetBytes + keptBytes,
        complete: false,
      };
    }
  } finally {
    await file.close();
  }
}

function checkLength(bytes: number, maxBytes: number, number: number, path: string): void {
  if (bytes <= maxBytes) return;
  throw new RunError(
    "disk-error",
    `${path}: line ${number} is longer than ${maxBytes} bytes, so this is no file of lines`,
    {
      at: { operation: "read", path },
      hint: "check that the file is the one you mean and is not damaged",
    },
  );
}
