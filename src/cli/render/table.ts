/**
 * Rows as text, in nine forms. All but `table` are written as the rows come; `table` looks at the first rows to
 * choose widths. An absent value is null in json, jsonl and xml, empty in csv and tsv, `(none)` for people.
 */
import { type Flag, UsageError } from "../command.ts";
import { hasColour, type Io, isScreen } from "../io.ts";
import type { Listing, Row, Value } from "../library.ts";
import { CONTROL, columnsOf, counted, cutTo, padTo, shown, sized } from "./wording.ts";
import { createWriter, say, type Writer } from "./writer.ts";

export const FORMATS = ["table", "json", "jsonl", "csv", "tsv", "xml", "html", "md", "sums"] as const;
export type Format = (typeof FORMATS)[number];

export interface TableFlags {
  readonly format?: Format;
  readonly fields?: string[];
}

export const TABLE_FLAGS: readonly Flag[] = [
  {
    flags: "--format <form>",
    help: "form of the table (default: table on a terminal, else tsv)",
    choices: FORMATS,
    group: "Output:",
  },
  {
    flags: "--fields <names>",
    help: "only these columns, in this order; with commas",
    parse: (text) =>
      text
        .split(",")
        .map((name) => name.trim())
        .filter((name) => name !== ""),
    group: "Output:",
  },
];

export const formatFor = (io: Io, flags: TableFlags): Format =>
  flags.format ?? (isScreen(io, io.stdout) ? "table" : "tsv");

/**
 * Writes all rows to stdout; resolves to how many there were. A table has the listing's few columns, unless fields
 * are named; every other form has them all. Throws `UsageError` for an unknown field.
 */
export async function writeTable(io: Io, listing: Listing, flags: TableFlags): Promise<number> {
  const format = formatFor(io, flags);
  const all = flags.fields === undefined && format === "table" ? listing.summary : undefined;
  const columns = all ?? chooseColumns(listing.columns, flags.fields);
  const writer = createWriter(io.stdout);
  const form = FORMS[format];
  let count = 0;
  async function* counting(): AsyncIterable<Row> {
    for await (const row of listing.rows) {
      count++;
      yield row;
    }
  }
  await form(writer, columns, counting(), io);
  await writer.flush();
  return count;
}

function chooseColumns(all: readonly string[], fields: readonly string[] | undefined): readonly string[] {
  if (fields === undefined) return all;
  if (fields.length === 0)
    throw new UsageError("--fields needs at least one name", `valid: ${all.join(", ")}`);
  return fields.map((field) => {
    const exact = all.find((name) => name === field);
    const free = all.filter((name) => name.toLowerCase() === field.toLowerCase());
    const found = exact ?? (free.length === 1 ? free[0] : undefined);
    if (found === undefined) {
      throw new UsageError(`there is no field ${JSON.stringify(field)} here`, `valid: ${all.join(", ")}`);
    }
    return found;
  });
}

type Form = (writer: Writer, columns: readonly string[], rows: AsyncIterable<Row>, io: Io) => Promise<void>;

const valueIn = (row: Row, column: string): Value => row[column] ?? null;
/** Control and direction characters are written as escapes, which a parser turns back. */
const flat = (columns: readonly string[], row: Row): string =>
  JSON.stringify(Object.fromEntries(columns.map((column) => [column, valueIn(row, column)]))).replace(
    CONTROL,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );

const asJson: Form = async (writer, columns, rows) => {
  let before = "[\n";
  for await (const row of rows) {
    await writer.write(before + flat(columns, row));
    before = ",\n";
  }
  await writer.write(before === "[\n" ? "[]\n" : "\n]\n");
};

const asJsonLines: Form = async (writer, columns, rows) => {
  for await (const row of rows) await writer.write(`${flat(columns, row)}\n`);
};

/** Control and direction characters of a name are spelt out as in a table; tabs and line ends are the form's own. */
const plain = (text: string): string => text.replace(/[^\t\r\n]+/g, shown);

/** RFC 4180, with line feeds; Excel and pandas read it. */
const csvField = (value: Value): string => {
  const text = value === null ? "" : plain(String(value));
  return /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

const asCsv: Form = async (writer, columns, rows) => {
  await writer.write(`${columns.map(csvField).join(",")}\n`);
  for await (const row of rows) {
    await writer.write(`${columns.map((column) => csvField(valueIn(row, column))).join(",")}\n`);
  }
};

/** Tabs and line ends inside a value are escaped as `\t`, `\n`, `\r`, and `\` as `\\` (IANA text/tab-separated-values has no quotes). */
const TSV_ESCAPES: Readonly<Record<string, string>> = { "\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r" };
const tsvField = (value: Value): string =>
  value === null ? "" : shown(String(value).replace(/[\\\t\n\r]/g, (c) => TSV_ESCAPES[c]!));

const asTsv: Form = async (writer, columns, rows) => {
  await writer.write(`${columns.map(tsvField).join("\t")}\n`);
  for await (const row of rows) {
    await writer.write(`${columns.map((column) => tsvField(valueIn(row, column))).join("\t")}\n`);
  }
};

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};
const markup = (text: string): string =>
  text
    .toWellFormed()
    // Control characters are not allowed in XML 1.0 at all, not even escaped.
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "\ufffd")
    .replace(/[&<>"']/g, (c) => ENTITIES[c]!);

/** The other control characters and the direction marks are allowed as references. */
const xmlText = (text: string): string =>
  markup(text).replace(CONTROL, (c) => (/[\t\r\n]/.test(c) ? c : `&#x${c.charCodeAt(0).toString(16)};`));

const asXml: Form = async (writer, columns, rows) => {
  await writer.write('<?xml version="1.0" encoding="UTF-8"?>\n<rows>\n');
  for await (const row of rows) {
    const fields = columns.map((column) => {
      const value = valueIn(row, column);
      const name = `<field name="${xmlText(column)}"`;
      return value === null ? `${name} null="true"/>` : `${name}>${xmlText(String(value))}</field>`;
    });
    await writer.write(`  <row>${fields.join("")}</row>\n`);
  }
  await writer.write("</rows>\n");
};

const NONE = "(none)";

const asHtml: Form = async (writer, columns, rows) => {
  const cells = (tag: string, texts: readonly string[]): string =>
    `<tr>${texts.map((text) => `<${tag}>${markup(plain(text))}</${tag}>`).join("")}</tr>\n`;
  await writer.write(
    `<!DOCTYPE html>\n<html>\n<head><meta charset="utf-8"><title>gantry</title></head>\n<body>\n<table>\n<thead>\n${cells("th", columns)}</thead>\n<tbody>\n`,
  );
  for await (const row of rows) {
    await writer.write(
      cells(
        "td",
        columns.map((column) => String(valueIn(row, column) ?? NONE)),
      ),
    );
  }
  await writer.write("</tbody>\n</table>\n</body>\n</html>\n");
};

const mdCell = (value: Value): string =>
  shown(String(value ?? NONE).replace(/\r\n|\r|\n/g, " "))
    .replace(/[\\|`*_[\]]/g, (c) => `\\${c}`)
    .replace(/[&<>]/g, (c) => ENTITIES[c]!);

const asMarkdown: Form = async (writer, columns, rows) => {
  await writer.write(`| ${columns.map(mdCell).join(" | ")} |\n|${columns.map(() => " --- |").join("")}\n`);
  for await (const row of rows) {
    await writer.write(`| ${columns.map((column) => mdCell(valueIn(row, column))).join(" | ")} |\n`);
  }
};

/** Rows that widths are chosen from; those after them keep these widths. */
const MEASURED_ROWS = 2_000;
const GAP = "  ";
/** A column that is cut keeps this much, so that it stays of use. */
const LEAST_COLUMNS = 12;

const asTable: Form = async (writer, columns, rows, io) => {
  let measured: (readonly string[])[] | null = [];
  const numeric = columns.map(() => true);
  let widths: number[] = [];
  const line = (texts: readonly string[]): string =>
    texts
      .map((text, i) => {
        const cut = cutTo(text, widths[i]!);
        return numeric[i]
          ? " ".repeat(Math.max(0, widths[i]! - columnsOf(cut))) + cut
          : padTo(cut, widths[i]!);
      })
      .join(GAP)
      .trimEnd();
  const begin = async (first: readonly (readonly string[])[]): Promise<void> => {
    if (first.length === 0) numeric.fill(false);
    widths = columns.map((name, i) =>
      Math.max(columnsOf(name), ...first.map((texts) => columnsOf(texts[i]!))),
    );
    if (isScreen(io, io.stdout)) narrow(widths, columns, io.stdout.columns ?? 80);
    const head = line(columns.map(shown));
    await writer.write(hasColour(io, io.stdout) ? `\u001b[1m${head}\u001b[0m\n` : `${head}\n`);
    for (const texts of first) await writer.write(`${line(texts)}\n`);
    await writer.flush();
  };
  for await (const row of rows) {
    const values = columns.map((column) => valueIn(row, column));
    const texts = values.map((value, i) => tableCell(columns[i]!, value));
    if (measured === null) {
      await writer.write(`${line(texts)}\n`);
      continue;
    }
    for (const [i, value] of values.entries()) if (typeof value === "string") numeric[i] = false;
    measured.push(texts);
    if (measured.length >= MEASURED_ROWS) {
      await begin(measured);
      measured = null;
    }
  }
  if (measured !== null) await begin(measured);
};

/** A size in bytes is for people here; every other number may be an identifier and stays as it is. */
const tableCell = (column: string, value: Value): string => {
  if (value === null) return NONE;
  if (typeof value === "number") return /(bytes|filesize)$/i.test(column) ? sized(value) : String(value);
  return shown(value);
};

/** Takes from the widest column until the line fits. Addresses stay whole: they are there to be copied. */
function narrow(widths: number[], columns: readonly string[], screen: number): void {
  let over = widths.reduce((sum, width) => sum + width, GAP.length * (widths.length - 1)) - screen;
  for (; over > 0; over--) {
    let widest = -1;
    for (const [i, width] of widths.entries()) {
      if (columns[i] === "address" || width <= LEAST_COLUMNS) continue;
      if (widest < 0 || width > widths[widest]!) widest = i;
    }
    if (widest < 0) return;
    widths[widest]! -= 1;
  }
}

/** As `md5sum -c` reads it back (GNU coreutils manual, "md5 invocation"), by path as the rows come. */
const asSums: Form = async (writer, columns, rows, io) => {
  if (!columns.includes("Path") || !columns.includes("Digest")) {
    throw new UsageError(
      "--format sums is for lists of files that have checksums",
      "for example: gantry ls -R LINK --format sums, of an Aspera package",
    );
  }
  let without = 0;
  for await (const row of rows) {
    const hex = String(row.Digest ?? "").split(":")[1];
    if (hex === undefined) {
      without += 1;
      continue;
    }
    const path = String(row.Path);
    const escaped = path.replace(/[\\\n\r]/g, (c) => ({ "\\": "\\\\", "\n": "\\n" })[c] ?? "\\r");
    // Other programs need the name as it is; a screen must not obey it.
    const named = isScreen(io, io.stdout) ? shown(escaped) : escaped;
    await writer.write(`${escaped === path ? "" : "\\"}${hex}  ${named}\n`);
  }
  if (without > 0) say(io, `Left out, since no list of checksums names them: ${counted(without, "file")}.`);
};

const FORMS: Readonly<Record<Format, Form>> = {
  table: asTable,
  json: asJson,
  jsonl: asJsonLines,
  csv: asCsv,
  tsv: asTsv,
  xml: asXml,
  html: asHtml,
  md: asMarkdown,
  sums: asSums,
};
