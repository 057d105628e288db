/**
 * Reply formats of NBIA: JSON, CSV, HTML, XML with their peculiarities (CBIIT/NBIA-TCIA
 * software/nbia-api/src/gov/nih/nci/nbia/restAPI/getData.java formatResponse, restUtil/FormatOutput.java).
 * Rows are formatted as they come: a reply of any length takes constant memory.
 */
import { setImmediate } from "node:timers/promises";
import type { Reply } from "../../../sandbox/stand-ins.ts";

/** A database DECIMAL: JSON drops its trailing zeros, every other format keeps six decimals. */
export class Decimal {
  readonly value: number;
  constructor(value: number) {
    this.value = value;
  }
  toString(): string {
    return this.value.toFixed(6);
  }
}

export type Cell = string | number | Decimal | null;
export type Row = readonly Cell[];
/** `"pause"` between rows: nothing was found for a while, others may have their turn. */
export type Rows = AsyncIterable<Row>;

/** Rows are sent in pieces of about this length. */
const CHUNK_CHARACTERS = 65_536;

const SERVER_SENTENCE = "Server was not able to process your request";

/** The fixed sentence of the catch-all mapper, with the exception's message (restAPI/, `Throwable` mapper). */
export function serverError(message: string | null): Reply {
  return { status: 500, headers: { "Content-Type": "text/plain" }, body: `${SERVER_SENTENCE}\n${message}` };
}

/** Client errors are bare sentences labelled as JSON. */
export function badRequest(sentence: string): Reply {
  return { status: 400, headers: { "Content-Type": "application/json" }, body: sentence };
}

export const NOTHING: Reply = { status: 200 };

interface Format {
  readonly type: string;
  readonly disposition?: string;
  readonly head: string;
  row(row: Row, index: number): string;
  readonly tail: string;
}

/**
 * Rows as a reply. No row at all is a reply of zero bytes without Content-Type, whatever the format; an unknown
 * format is a 500, but only when there are rows.
 */
export async function formatRows(
  columns: readonly string[],
  rows: Rows | Iterable<Row>,
  format: string | null,
): Promise<Reply> {
  const iterator = Symbol.asyncIterator in rows ? rows[Symbol.asyncIterator]() : rows[Symbol.iterator]();
  const first = await iterator.next();
  if (first.done) return NOTHING;
  const form = columns.length === 1 ? singleColumn(columns[0]!, format) : severalColumns(columns, format);
  if (form === undefined)
    return { status: 500, headers: { "Content-Type": "text/plain" }, body: SERVER_SENTENCE };
  const headers: Record<string, string> = { "Content-Type": form.type };
  if (form.disposition !== undefined) headers["Content-Disposition"] = form.disposition;

  async function* text(form: Format, row: Row): AsyncIterable<string> {
    try {
      let buffer = form.head + form.row(row, 0);
      for (let index = 1; ; index++) {
        const next = await iterator.next();
        if (next.done) break;
        buffer += form.row(next.value, index);
        if (buffer.length < CHUNK_CHARACTERS) continue;
        yield buffer;
        buffer = "";
      }
      yield buffer + form.tail;
    } finally {
      await iterator.return?.();
    }
  }
  const body = text(form, first.value);
  const chunks = body[Symbol.asyncIterator]();
  const start = await chunks.next();
  if (start.done) return NOTHING;
  // Jersey keeps 8 KiB before it commits the head: shorter replies have a Content-Length.
  const short = start.value.length <= 8192;
  return { status: 200, headers, body: short ? start.value : continued(start.value, chunks) };
}

async function* continued(first: string, rest: AsyncIterator<string>): AsyncIterable<string> {
  try {
    yield first;
    for (;;) {
      const next = await rest.next();
      if (next.done) return;
      yield next.value;
    }
  } finally {
    await rest.return?.();
  }
}

/**
 * What the portal's endpoints write, with Jackson instead of the formatter of the searches
 * (software/nbia-api restUtil/JSONUtil.java): a null is written as `null`, nothing found as `[]`, slashes as they are.
 */
export function portalRows(columns: readonly string[], rows: readonly Row[]): Reply {
  const objects = rows.map((row) =>
    Object.fromEntries(columns.map((column, index) => [column, row[index] ?? null])),
  );
  return { status: 200, headers: { "Content-Type": "application/json" }, body: JSON.stringify(objects) };
}

/** Let other requests have their turn during a long walk over the data. */
export async function* politely<T>(things: Iterable<T>, every = 4096): AsyncIterable<T> {
  let count = 0;
  for (const thing of things) {
    if (++count % every === 0) await setImmediate();
    yield thing;
  }
}

const DOWNLOAD = 'attachment; filename="SeriesMetaData.csv"';

function severalColumns(columns: readonly string[], format: string | null): Format | undefined {
  switch ((format ?? "JSON").toUpperCase()) {
    case "JSON":
      return json(columns);
    case "CSV":
    case "CSVQUOTED":
      return csv(columns);
    case "CSV-DOWNLOAD":
      return { ...csv(columns), disposition: DOWNLOAD };
    case "HTML":
      return html(columns);
    case "XML":
      return xml(columns);
    default:
      return undefined;
  }
}

function singleColumn(column: string, format: string | null): Format | undefined {
  const plain: Format = {
    type: "text/csv",
    head: `${column}\n`,
    row: ([cell]) => `${cell ?? ""}\n`,
    tail: "",
  };
  switch ((format ?? "JSON").toUpperCase()) {
    case "JSON":
      return json([column]);
    case "CSV":
      return plain;
    case "CSV-DOWNLOAD":
      return { ...plain, type: "application/force-download", disposition: DOWNLOAD };
    case "HTML":
      return html([column]);
    case "XML":
      return xml([column]);
    default:
      return undefined;
  }
}

/** JSON text of a string as Jettison 1.1 writes it: slashes escaped. */
export function jsonString(text: string): string {
  return /["\\/\u0000-\u001f]/.test(text) ? JSON.stringify(text).replaceAll("/", "\\/") : `"${text}"`;
}

function json(columns: readonly string[]): Format {
  const keys = columns.map((column) => `${jsonString(column)}:`);
  return {
    type: "application/json",
    head: "[",
    row(row, index) {
      let text = index === 0 ? "{" : ",{";
      let comma = "";
      for (let i = 0; i < keys.length; i++) {
        const cell = row[i] ?? null;
        // Null values leave the key out; a row of nulls is an empty object.
        if (cell === null) continue;
        text += comma + keys[i];
        comma = ",";
        text +=
          typeof cell === "string" ? jsonString(cell) : String(typeof cell === "number" ? cell : cell.value);
      }
      return `${text}}`;
    },
    tail: "]",
  };
}

function csv(columns: readonly string[]): Format {
  const field = (cell: Cell): string => (cell === null ? "" : String(cell).replaceAll('"', '""'));
  return {
    type: "text/csv",
    head: `"${columns.map(field).join('","')}"\n`,
    // A null in the first column writes the separator instead of the opening quote: one field too many.
    row: (row) => `${row[0] === null ? '"","' : '"'}${row.map(field).join('","')}"\n`,
    tail: "",
  };
}

function html(columns: readonly string[]): Format {
  const cells = (tag: string, texts: readonly string[]) =>
    texts.map((text) => `<${tag}>${text}</${tag}>`).join("");
  return {
    type: "text/html",
    head: `<P ALIGN='center'><TABLE BORDER=1><TR>${cells("TH", columns)}</TR>`,
    row: (row) =>
      `<TR>${cells(
        "TD",
        row.map((cell) => (cell === null ? "&nbsp;" : encoded(cell))),
      )}</TR>`,
    tail: "</TABLE></P>",
  };
}

function xml(columns: readonly string[]): Format {
  const type = (cell: Exclude<Cell, null>) =>
    typeof cell === "string"
      ? "java.lang.String"
      : typeof cell === "number"
        ? "java.lang.Integer"
        : "java.math.BigDecimal";
  return {
    type: "application/xml",
    head: '<?xml version="1.0" encoding="UTF-8" standalone="yes"?><Results>',
    row(row) {
      let text = "<Row>";
      for (const [index, column] of columns.entries()) {
        const cell = row[index] ?? null;
        if (cell !== null) text += `<${column} type='${type(cell)}'>${encoded(cell)}</${column}>`;
      }
      return `${text}</Row>`;
    },
    tail: "</Results>",
  };
}

/** HTML entities as the ESAPI encoder writes them: everything but letters, digits and `,.-_ ` is escaped. */
function encoded(cell: Exclude<Cell, null>): string {
  if (typeof cell !== "string") return String(cell);
  return cell.replace(/[^a-zA-Z0-9,.\-_ \u0100-\u{10ffff}]/gu, (character) => {
    const named = { "<": "&lt;", ">": "&gt;", "&": "&amp;", '"': "&quot;" }[character];
    return named ?? `&#x${character.codePointAt(0)!.toString(16)};`;
  });
}
