/** Findings of a diagnosis as a table, and the exit status that they mean. */
import type { Running } from "./command.ts";
import type { Finding, Row } from "./library.ts";
import { type TableFlags, writeTable } from "./render/table.ts";
import { shown } from "./render/wording.ts";
import { say } from "./render/writer.ts";

type About = Finding & { readonly subject: string };

const COLUMNS = ["subject", "check", "result", "detail", "hint"] as const;

/**
 * Writes a row for each finding as it comes; then says what is in the way, of each subject the first. Resolves to 0,
 * or to the exit status of the first failure.
 */
export async function writeFindings(
  findings: AsyncIterable<About>,
  flags: TableFlags,
  { io }: Pick<Running, "io">,
): Promise<number> {
  const blockers: About[] = [];
  async function* rows(): AsyncIterable<Row> {
    for await (const finding of findings) {
      if (finding.result === "failed") blockers.push(finding);
      const { subject, check, result, detail, hint } = finding;
      yield { subject, check, result, detail, hint: hint === "" ? null : hint };
    }
  }
  await writeTable(io, { columns: COLUMNS, summary: COLUMNS.slice(0, 4), rows: rows() }, flags);
  if (blockers.length === 0) say(io, "All is well.");
  for (const { subject, check, detail, hint } of blockers) {
    say(io, `${shown(subject)}, ${check}: ${shown(detail)}`, ...(hint === "" ? [] : [`  ${shown(hint)}`]));
  }
  return blockers[0]?.error?.exit ?? 0;
}
