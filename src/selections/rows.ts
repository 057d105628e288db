/** Rows that are JSON objects, read as the rows of a table. Pure. */
import { parseColumns, readRow } from "./columns.ts";
import { type Archives, type Found, quoted } from "./found.ts";

/** Null for a row without content; never throws. */
export function parseJsonRow(row: unknown, at: string, archives: Archives): Found | null {
  const bad = (what: string): Found => ({ kind: "bad", at, reason: what });
  if (typeof row === "string") return readRow(ONE_COLUMN, [row], archives, () => at);
  if (typeof row !== "object" || row === null || Array.isArray(row)) return bad("no row of a table");
  const columns = parseColumns(Object.keys(row));
  if (!columns) return bad(`no SeriesInstanceUID and no address (${quoted(Object.keys(row).join(" "))})`);
  const cells = Object.values(row).map((value) =>
    typeof value === "string" || typeof value === "number" ? String(value) : "",
  );
  return readRow(columns, cells, archives, () => at);
}

const ONE_COLUMN = { names: ["SeriesInstanceUID"], address: -1, series: 0, image: -1, links: [] };
