/** Lines of a file that somebody says is a selection: nothing of it is trusted, its length neither. */
import { RunError } from "../errors.ts";
import { type LineBatch, readLineBatches } from "../lib/lines.ts";

const MAX_LINE_BYTES = 1024 * 1024;

/** As `readLineBatches`; a line beyond 1 MiB is `bad-selection`. */
export async function* readTextLines(path: string, name: string): AsyncGenerator<LineBatch> {
  try {
    yield* readLineBatches(path, { maxLineBytes: MAX_LINE_BYTES });
  } catch (error) {
    // What the disk has to say has a cause; that a line is too long, the reader said itself.
    if (!(error instanceof RunError) || error.cause !== undefined) throw error;
    throw new RunError("bad-selection", `${name} has a line of more than 1 MiB, so it is no selection`, {
      hint: "check that the file is the one you mean",
    });
  }
}
