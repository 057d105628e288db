/** Reads one large JSON array as it streams, so that a reply of any length needs constant memory. */

import { JSONParser } from "@streamparser/json";
import { RunError } from "../errors.ts";

export interface JsonArrayOptions {
  /**
   * An element that needs more bytes fails with `archive-reply`. Checked once for each `PIECE_BYTES`, so that
   * an element may be larger by that much. Default 16 MiB.
   */
  readonly maxElementBytes?: number;
  /** A reply that ends within so many bytes is parsed at once, several times faster. Default 1 MiB. */
  readonly wholeBytes?: number;
}

const DEFAULT_MAX_ELEMENT_BYTES = 16 * 1024 * 1024;
const PIECE_BYTES = 64 * 1024;
const DEFAULT_WHOLE_BYTES = 1024 * 1024;
/** How much of a reply that is no array the message shows. */
const SHOWN_CHARACTERS = 80;

/** As `parseJsonArrayBatches`, one element at a time. */
export async function* parseJsonArray(
  source: AsyncIterable<Uint8Array>,
  options: JsonArrayOptions = {},
): AsyncGenerator<unknown> {
  for await (const batch of parseJsonArrayBatches(source, options)) yield* batch;
}

/**
 * The elements of the one top-level array in `source`, in batches of at least one: those that a piece of at most
 * 64 KiB completes, or all of a reply of at most `wholeBytes`. A body of no bytes, or of white space only, is an array without elements.
 *
 * UTF-8 with or without a byte order mark; bytes that are no UTF-8 become U+FFFD. Elements before a fault are
 * yielded. Throws `archive-reply` when the text is no array, ends too early, goes on behind the array or is no
 * JSON; errors of `source` pass unchanged. Stopping early closes `source`.
 */
export async function* parseJsonArrayBatches(
  source: AsyncIterable<Uint8Array>,
  options: JsonArrayOptions = {},
): AsyncGenerator<unknown[]> {
  const maxElementBytes = options.maxElementBytes ?? DEFAULT_MAX_ELEMENT_BYTES;
  const wholeBytes = options.wholeBytes ?? DEFAULT_WHOLE_BYTES;
  const iterator = source[Symbol.asyncIterator]();
  const held: Uint8Array[] = [];
  let heldBytes = 0;
  let whole: unknown[] | undefined;
  let failure: { readonly error: unknown } | undefined;
  while (failure === undefined && heldBytes <= wholeBytes) {
    try {
      const next = await iterator.next();
      if (next.done) {
        whole = heldBytes <= maxElementBytes ? parseWhole(held) : undefined;
        break;
      }
      held.push(next.value);
      heldBytes += next.value.length;
    } catch (error) {
      failure = { error };
    }
  }
  if (whole === undefined) yield* parseStreamed(resumed(held, iterator, failure), maxElementBytes);
  else if (whole.length > 0) yield whole;
}

/** Undefined when the text is no JSON array: the streaming parser says what is wrong with it, and where. */
function parseWhole(pieces: readonly Uint8Array[]): unknown[] | undefined {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(Buffer.concat(pieces)));
    return Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** The bytes that were taken from the source, then its error or the rest of it. */
async function* resumed(
  held: readonly Uint8Array[],
  iterator: AsyncIterator<Uint8Array>,
  failure: { readonly error: unknown } | undefined,
): AsyncGenerator<Uint8Array> {
  let ended = failure !== undefined;
  try {
    yield* held;
    if (failure) throw failure.error;
    for (;;) {
      ended = true;
      const next = await iterator.next();
      if (next.done) return;
      ended = false;
      yield next.value;
    }
  } finally {
    if (!ended) await iterator.return?.();
  }
}

async function* parseStreamed(
  source: AsyncIterable<Uint8Array>,
  maxElementBytes: number,
): AsyncGenerator<unknown[]> {
  // The parser would take a stray Latin-1 byte as the begin of a long character, so the decoding is ours.
  const decoder = new TextDecoder();
  let elements: unknown[] = [];
  let fault: Error | undefined;
  // keepStack: false lets go of each element once it is told.
  const parser = new JSONParser({ paths: ["$.*"], keepStack: false });
  parser.onValue = ({ value }) => {
    elements.push(value);
  };
  parser.onError = (error) => {
    fault ??= error;
  };
  let begun = false;
  let pendingBytes = 0;

  const write = (text: string): void => {
    if (!begun) {
      const first = text.search(/[^ \t\r\n]/);
      if (first === -1) return;
      if (text[first] !== "[") throw notAnArray(text.slice(first));
      begun = true;
    }
    parser.write(text);
  };

  for await (const chunk of source) {
    for (let begin = 0; begin < chunk.length; begin += PIECE_BYTES) {
      const piece = chunk.subarray(begin, begin + PIECE_BYTES);
      write(decoder.decode(piece, { stream: true }));
      pendingBytes = elements.length > 0 ? piece.length : pendingBytes + piece.length;
      if (elements.length > 0) {
        yield elements;
        elements = [];
      }
      if (fault !== undefined) throw notJson(fault);
      if (begun && pendingBytes > maxElementBytes + PIECE_BYTES) {
        throw new RunError("archive-reply", `an element of the reply has more than ${maxElementBytes} bytes`);
      }
    }
  }
  const rest = decoder.decode();
  if (rest !== "") write(rest);
  if (!begun) return;
  if (fault !== undefined) throw notJson(fault);
  if (!parser.isEnded) parser.end();
  if (fault !== undefined) {
    throw new RunError("archive-reply", "the reply ends before its JSON array does", { cause: fault });
  }
}

function notJson(cause: Error): RunError {
  return new RunError("archive-reply", "the reply is no JSON array", { cause });
}

function notAnArray(text: string): RunError {
  const shown = JSON.stringify(text.slice(0, SHOWN_CHARACTERS));
  return new RunError("archive-reply", `the reply is no JSON array; it begins with ${shown}`);
}
