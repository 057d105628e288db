/** What the columns of a table mean, and its rows by them; the same for text and spreadsheets. Pure. */
import { isUid } from "../model/address.ts";
import { foreignNoun } from "./foreign.ts";
import { type Archives, type Found, quoted } from "./found.ts";
import { isAddress, parseSelectionValue, trimValue } from "./line.ts";
import { foundFrom } from "./refs.ts";

/**
 * Names in small letters without blanks, underscores and the like; the best first. `Series ID` is the UID in
 * getSeriesMetadata2 and in manifests; the rest is data-retriever core/app/spreadsheets.go (2026), the index of
 * idc-index-data, and the tables of PathDB's cohort builder.
 */
const SERIES = ["seriesinstanceuid", "seriesuid", "seriesid"];
const IMAGE = ["sopinstanceuid", "sopuid"];
const LINKS = [
  "imageurl",
  "wsiimageurl",
  "drsuri",
  "fileid",
  "seriesawsurl",
  "seriesgcsurl",
  "awsurl",
  "gcsurl",
  "s3url",
  "s3uri",
  "downloadurl",
  "contenturl",
  "url",
];
/** How tables write that there is nothing (Java, R, Python, ours). */
const NOTHING = /^(null|none|nan|n\/a|na|\(none\))?$/iu;
const SHOWN_COLUMNS = 12;

export interface Columns {
  readonly names: readonly string[];
  /** Position, or -1. */
  readonly address: number;
  readonly series: number;
  readonly image: number;
  readonly links: readonly number[];
}

const plain = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]/gu, "");

/** The columns of a header row that name something; null when none does. */
export function parseColumns(names: readonly string[]): Columns | null {
  const found = names.map(plain);
  const first = (wanted: readonly string[]): number =>
    found.indexOf(wanted.find((name) => found.includes(name)) ?? "\0");
  const columns = {
    names,
    address: found.indexOf("address"),
    series: first(SERIES),
    image: first(IMAGE),
    links: LINKS.flatMap((name) => (found.includes(name) ? [found.indexOf(name)] : [])),
  };
  // An address alone may be a street.
  const named = columns.series >= 0 || columns.links.length > 0 || names[columns.address] === "address";
  return named ? columns : null;
}

/** For the message about a table without such a column. */
export function describeColumns(names: readonly string[]): string {
  const shown = names.slice(0, SHOWN_COLUMNS).map(quoted).join(", ");
  return names.length > SHOWN_COLUMNS ? `${shown} and ${names.length - SHOWN_COLUMNS} more` : shown;
}

/** What a row names; null for one without any content. */
export function readRow(
  columns: Columns,
  cells: readonly string[],
  archives: Archives,
  at: () => string,
): Found | null {
  const cell = (position: number): string => {
    const text = trimValue(cells[position] ?? "");
    return NOTHING.test(text) ? "" : text;
  };
  const bad = (reason: string): Found => ({ kind: "bad", at: at(), reason });
  const found = (text: string): Found =>
    foundFrom(parseSelectionValue(text), text, archives.fallback, archives, at);

  const address = cell(columns.address);
  if (isAddress(address)) return found(address);
  const series = cell(columns.series);
  if (series !== "") {
    const image = cell(columns.image);
    if (image === "" || series.includes("/") || !isUid(series)) return found(series);
    if (!isUid(image)) return bad(`${quoted(image)} is no UID of an image`);
    return found(`${series}/${image}`);
  }
  if (address !== "" && columns.series < 0) return found(address);
  for (const position of columns.links) {
    const link = cell(position);
    if (link === "") continue;
    const noun =
      foreignNoun(link) ??
      (/^(drsuri|fileid)$/u.test(plain(columns.names[position] ?? ""))
        ? "a file of a Gen3 data commons (DRS)"
        : "a file of another archive");
    const advice = isAddress(link) ? ", but its link alone would do" : "";
    return bad(`${noun}, and no series of an NBIA${advice} (${quoted(link)})`);
  }
  const content = cells.find((text) => text.trim() !== "");
  if (content === undefined) return null;
  const column = columns.names[columns.series] ?? columns.names[columns.address];
  return bad(`the row has nothing in the column ${quoted(column ?? "address")} (${quoted(cells.join(" "))})`);
}
