/** Shared lists of series: which of their rows belong to a query. */
import { RunError } from "../../errors.ts";
import { isUid } from "../../model/address.ts";
import type { Query, WordFilter } from "../../model/query.ts";
import type { WireRow } from "./api.ts";

/** Columns that the contents of a list have (V1_getContentsByName.java), by filter. */
const COLUMNS: readonly (readonly [WordFilter, string])[] = [
  ["collection", "Collection"],
  ["patient", "PatientID"],
  ["study", "StudyInstanceUID"],
  ["series", "SeriesInstanceUID"],
];

/**
 * The path to look up for a row of a list, null when it does not lie below the query's path or does not pass its
 * filters by place; the pipeline filters the items again. A path that ends in an image gives the image.
 */
export function narrowedBy({ path, filters }: Query): (row: WireRow) => readonly string[] | null {
  const tests = COLUMNS.flatMap(([name, column]) => {
    const words = filters.words[name];
    return words === undefined ? [] : [{ column, wanted: new Set(words.map(fold)) }];
  });
  const [first] = path;
  const byUid = first !== undefined && isUid(first);
  const image = byUid ? path[1] : path[4];
  return (row) => {
    const series = row.SeriesInstanceUID;
    if (typeof series !== "string") return null;
    if (byUid && series !== first && row.StudyInstanceUID !== first) return null;
    if (!byUid && !path.slice(0, 4).every((segment, level) => row[COLUMNS[level]?.[1] ?? ""] === segment))
      return null;
    if (!tests.every(({ column, wanted }) => wanted.has(fold(String(row[column] ?? ""))))) return null;
    return image === undefined ? [series] : [series, image];
  };
}

export function noSharedList(archive: string, name: string): RunError {
  return new RunError("unknown-name", `${archive} has no shared list ${JSON.stringify(name)}`, {
    hint: "the archive can't list their names; they are spelt as the one who shared the list wrote them",
  });
}

const fold = (text: string): string => text.normalize("NFC").trim().toLowerCase();
