/** What a dry run found, for people and programs. */
import type { Io } from "../io.ts";
import type { Citation, Row, RunEvent } from "../library.ts";
import { type TableFlags, writeTable } from "./table.ts";
import { counted, lasting, shown, sized } from "./wording.ts";
import { say } from "./writer.ts";

/** What a dry run found: one row for each share, sizes in bytes. */
export async function writePlan(
  io: Io,
  planned: Extract<RunEvent, { type: "planned" }>,
  flags: TableFlags & { readonly pack?: string },
): Promise<void> {
  const { wanted, fetch, here, found, unknown, withdrawn, dropped, licences } = planned;
  const { freeBytes, freeInodes, quotaBytes, quotaInodes } = planned;
  async function* rows(): AsyncIterable<Row> {
    yield { what: "wanted", ...wanted };
    yield { what: "to fetch", ...fetch };
    yield { what: "here already", ...here };
    if (found.items > 0) yield { what: "here, to be proved", ...found };
    yield { what: "not shown by the archive", items: unknown, files: null, bytes: null };
    yield { what: "withdrawn", items: withdrawn, files: null, bytes: null };
    yield { what: "dropped", items: dropped, files: null, bytes: null };
    yield { what: "free on the disk", items: null, files: freeInodes, bytes: freeBytes };
    if (quotaBytes !== null || quotaInodes !== null)
      yield { what: "left of the quota", items: null, files: quotaInodes, bytes: quotaBytes };
  }
  await writeTable(io, { columns: ["what", "items", "files", "bytes"], rows: rows() }, flags);
  const lines: string[] = [];
  lines.push(...foreseen(planned, flags));
  if (licences.length > 0) lines.push("Using these data would owe:", ...licences.map(owed));
  if (lines.length > 0) say(io, ...lines);
}

/** Inodes and time, in sentences. */
function foreseen(
  planned: Extract<RunEvent, { type: "planned" }>,
  flags: TableFlags & { readonly pack?: string },
): string[] {
  const { fetch, inodes, bytesPerSecond, rateFrom, seconds } = planned;
  const lines: string[] = [];
  if (flags.pack !== undefined) {
    lines.push(`Archive files and their indexes take ${counted(inodes.packed, "inode")}.`);
  } else if (inodes.loose > inodes.packed) {
    const packed = inodes.packed === 2 ? "one archive file (--pack) takes" : "archive files (--pack) take";
    const loose = `Loose files take ${counted(inodes.loose, "inode")} and one for each folder`;
    lines.push(`${loose}, ${packed} ${inodes.packed}; the records beside them take some twenty.`);
  }
  if (fetch.items === 0) return lines;
  if (bytesPerSecond === null)
    lines.push(
      "How long it takes is known once something was fetched into this folder: try --limit 5 first.",
    );
  else if (seconds === null) lines.push("How long it takes can't be told: not all sizes are announced.");
  else {
    const from =
      rateFrom === "runs" ? "as measured in the last runs of this folder" : "which --bandwidth allows";
    lines.push(`It takes about ${lasting(seconds * 1000)} at ${sized(bytesPerSecond)}/s, ${from}.`);
  }
  return lines;
}

const owed = ({ collection, licence, doi }: Citation): string =>
  `  ${shown(collection)}: ${shown(licence ?? "licence not stated")}${doi === null ? "" : `, cite ${shown(doi)}`}`;
