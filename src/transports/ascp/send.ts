/** Files that are sent: one transfer by ascp, which has to count all of them over. */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import type { Ascp, AscpEvent, AscpJob } from "./ascp.ts";

/**
 * Yields the bytes that are over; ends with what is proved: `count` where ascp tells how many files it sent, and `ascp`. Throws what
 * `Ascp.transfer` and ascp's report of a file say, `proof-count`.
 */
export async function* sendFiles(
  ascp: Ascp,
  host: string,
  job: AscpJob,
  context: Context,
): AsyncGenerator<{ readonly type: "progress"; readonly bytes: number }, readonly string[]> {
  let done: Extract<AscpEvent, { type: "done" }> | null = null;
  let failure: RunError | null = null;
  for await (const event of ascp.transfer(job, context)) {
    if (event.type === "progress") yield { type: "progress", bytes: event.bytes };
    else if (event.type === "file-failed") failure ??= event.error;
    else if (event.type === "done") done = event;
  }
  if (failure) throw failure;
  const count = done?.files ?? null;
  const sent = job.spec.paths.length;
  if (count !== null && count !== sent)
    throw new RunError("proof-count", `${host} has ${count} of the ${sent} files`);
  return count === null ? ["ascp"] : ["count", "ascp"];
}
