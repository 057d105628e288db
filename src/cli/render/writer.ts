/** Data to stdout at the reader's pace. */
import type { Io, Output } from "../io.ts";

/** Thrown when the reader has gone (`gantry ls … | head`): not an error, the program just ends. */
export class OutputClosed extends Error {
  override readonly name = "OutputClosed";
}

/** Thrown when stdout can't be written for another reason: a full disk, most often. */
export class OutputFailed extends Error {
  override readonly name = "OutputFailed";
}

export interface Writer {
  /** Resolves when more may come; small texts are gathered. Throws `OutputClosed`, `OutputFailed`. */
  write(text: string): Promise<void>;
  /** The same for bytes, which are handed over at once. */
  writeBytes(bytes: Uint8Array): Promise<void>;
  /** Resolves when everything was handed over. */
  flush(): Promise<void>;
}

const GATHERED_CHARACTERS = 32_768;
const listened = new WeakMap<Output, { error: Error | null }>();

/** An `error` event without a listener would end the process; one listener for each stream is enough. */
function errorOf(output: Output): { error: Error | null } {
  let state = listened.get(output);
  if (state === undefined) {
    const made: { error: Error | null } = { error: null };
    output.on("error", (error) => {
      made.error ??= error;
    });
    listened.set(output, made);
    state = made;
  }
  return state;
}

export function createWriter(output: Output): Writer {
  const state = errorOf(output);
  let gathered = "";
  const hand = async (): Promise<void> => {
    const text = gathered;
    gathered = "";
    if (text !== "") await put(text);
  };
  const put = async (data: string | Uint8Array): Promise<void> => {
    await new Promise<void>((resolve, reject) => {
      output.write(data, (error) => {
        const problem = error ?? state.error;
        if (problem === null || problem === undefined) return resolve();
        const code = (problem as NodeJS.ErrnoException).code;
        const gone =
          code === "EPIPE" || code === "ERR_STREAM_DESTROYED" || code === "ERR_STREAM_WRITE_AFTER_END";
        reject(gone ? new OutputClosed() : new OutputFailed(problem.message, { cause: problem }));
      });
    });
  };
  return {
    async writeBytes(bytes) {
      await hand();
      await put(bytes);
    },
    async write(text) {
      gathered += text;
      if (gathered.length >= GATHERED_CHARACTERS) await hand();
    },
    flush: hand,
  };
}

/** Writes lines to stderr, where a reader that has gone is nobody's concern. */
export function say(io: Io, ...lines: readonly string[]): void {
  errorOf(io.stderr);
  io.stderr.write(lines.map((line) => `${line}\n`).join(""));
}
