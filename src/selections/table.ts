/** Tables in text: `.csv`, `.tsv` and their kin, whatever delimiter they have. Constant memory. */
import { RunError } from "../errors.ts";
import { type Columns, describeColumns, parseColumns, readRow } from "./columns.ts";
import type { Archives, Found, FoundBatches } from "./found.ts";
import { readTextLines } from "./text-lines.ts";

const DELIMITERS = [",", "\t", ";", "|"] as const;
type Delimiter = (typeof DELIMITERS)[number];

/** A value in quotes may hold line ends, but not a whole file: a quote that is never closed costs one row. */
const MAX_ROW_LINES = 64;

export interface TableHeader {
  readonly columns: Columns;
  readonly delimiter: Delimiter;
}

/** Reads a header line; null when it names nothing by any delimiter. */
export function parseHeader(line: string): TableHeader | null {
  let best: TableHeader | null = null;
  for (const delimiter of DELIMITERS) {
    const columns = parseColumns(splitHeader(line, delimiter));
    if (columns && (best === null || columns.names.length > best.columns.names.length))
      best = { columns, delimiter };
  }
  return best;
}

function splitHeader(line: string, delimiter: Delimiter): string[] {
  const text = line.replace(/^\uFEFF/u, "").replace(/\r$/u, "");
  const row = splitRow(text, delimiter);
  return (typeof row === "string" ? text.split(delimiter) : row).map((name) => name.trim());
}

/** Lines that may stand before the header: empty ones, comments, and Excel's own `sep=;`. */
export function isBeforeHeader(line: string): boolean {
  const text = line.replace(/^\uFEFF/u, "").trim();
  return text === "" || text.startsWith("#") || /^sep=.$/iu.test(text);
}

/**
 * The fields of one row by RFC 4180, quotes inside of unquoted fields taken as they are. `open`: a quote is not closed.
 * `torn`: something stands between a closing quote and the delimiter.
 */
export function splitRow(text: string, delimiter: string): string[] | "open" | "torn" {
  if (!text.includes('"')) return text.split(delimiter);
  const fields: string[] = [];
  let at = 0;
  for (;;) {
    if (text[at] !== '"') {
      const end = text.indexOf(delimiter, at);
      fields.push(end < 0 ? text.slice(at) : text.slice(at, end));
      if (end < 0) return fields;
      at = end + 1;
      continue;
    }
    let field = "";
    for (;;) {
      const quote = text.indexOf('"', at + 1);
      if (quote < 0) return "open";
      field += text.slice(at + 1, quote);
      at = quote;
      if (text[quote + 1] !== '"') break;
      field += '"';
      at = quote + 1;
    }
    fields.push(field);
    at += 1;
    if (at >= text.length) return fields;
    if (text[at] !== delimiter) return "torn";
    at += 1;
  }
}

/**
 * Throws `bad-selection` for a table that has no column which names something, or a line without end. A row that
 * can't be split is bad, and reading goes on with the next line.
 */
export async function* readTable(path: string, name: string, archives: Archives): FoundBatches {
  let rows: Rows | null = null;
  for await (const { texts, firstNumber } of readTextLines(path, name)) {
    const found: Found[] = [];
    for (const [index, text] of texts.entries()) {
      if (rows) rows.push(text.endsWith("\r") ? text.slice(0, -1) : text, firstNumber + index, found);
      else if (!isBeforeHeader(text)) rows = new Rows(headerOf(text, name), archives);
    }
    yield found;
  }
  const found: Found[] = [];
  rows?.end(found);
  yield found;
}

function headerOf(line: string, name: string): TableHeader {
  const header = parseHeader(line);
  if (header) return header;
  const names = DELIMITERS.map((delimiter) => splitHeader(line, delimiter)).reduce((a, b) =>
    b.length > a.length ? b : a,
  );
  throw noColumn(name, names);
}

export function noColumn(name: string, names: readonly string[]): RunError {
  return new RunError(
    "bad-selection",
    `${name} has no column that names series; its columns are ${describeColumns(names)}`,
    { hint: "name one SeriesInstanceUID, Series UID, Series ID or address in the first row" },
  );
}

class Rows {
  readonly #columns: Columns;
  readonly #delimiter: Delimiter;
  readonly #archives: Archives;
  readonly #tabbed: boolean;
  /** Lines of a row whose quote is open. */
  #pending: string[] = [];
  #firstNumber = 0;

  constructor({ columns, delimiter }: TableHeader, archives: Archives) {
    this.#columns = columns;
    this.#delimiter = delimiter;
    this.#archives = archives;
    this.#tabbed = delimiter === "\t";
  }

  push(text: string, number: number, found: Found[]): void {
    if (this.#pending.length === 0) {
      const row = splitRow(text, this.#delimiter);
      if (row === "open") {
        this.#pending = [text];
        this.#firstNumber = number;
      } else if (row === "torn") this.#addPlain(text, number, found);
      else this.#add(row, number, found);
      return;
    }
    this.#pending.push(text);
    // Only a quote can end it.
    const row = text.includes('"') ? splitRow(this.#pending.join("\n"), this.#delimiter) : "open";
    if (typeof row !== "string" && row.length === this.#columns.names.length) {
      this.#pending = [];
      this.#add(row, this.#firstNumber, found);
    } else if (row !== "open" || this.#pending.length >= MAX_ROW_LINES) this.#giveUp(found);
  }

  end(found: Found[]): void {
    while (this.#pending.length > 0) this.#giveUp(found);
  }

  /** The first line of what looked like a row of several is taken alone, and the others are read again. */
  #giveUp(found: Found[]): void {
    const [first = "", ...rest] = this.#pending;
    const number = this.#firstNumber;
    this.#pending = [];
    this.#addPlain(first, number, found);
    for (const [index, text] of rest.entries()) this.push(text, number + 1 + index, found);
  }

  /** The official metadata.csv has no quoting at all, so a quote in it is a character like any other. */
  #addPlain(text: string, number: number, found: Found[]): void {
    const row = text.split(this.#delimiter);
    if (row.length === this.#columns.names.length) this.#add(row, number, found);
    else
      found.push({
        kind: "bad",
        at: `:${number}`,
        reason: "a quote of this row is not closed, or closed too early",
      });
  }

  #add(row: readonly string[], number: number, found: Found[]): void {
    // A comment below the header, unless it has the columns of a row.
    if (row.length === 1 && this.#columns.names.length > 1 && row[0]?.trimStart().startsWith("#")) return;
    const cells = this.#tabbed ? this.#unescaped(row) : row;
    const one = readRow(this.#columns, cells, this.#archives, () => `:${number}`);
    if (one) found.push(one);
  }

  /** Addresses are ours, and so are the escapes of our `.tsv`. */
  #unescaped(row: readonly string[]): readonly string[] {
    const address = row[this.#columns.address];
    if (address === undefined || !address.includes("\\")) return row;
    return row.with(
      this.#columns.address,
      address.replace(/\\([\\tnr])/gu, (_, letter: string) => UNESCAPED[letter] ?? letter),
    );
  }
}

const UNESCAPED: Readonly<Record<string, string>> = { "\\": "\\", t: "\t", n: "\n", r: "\r" };
