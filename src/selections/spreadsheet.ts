/**
 * `.xlsx`: the rows of every visible sheet whose first row names series. Read twice, as a stream: first the names of
 * the sheets and the shared texts, then the sheets. Facts: ECMA-376 part 1, 12.3 (package), 18.2 (workbook), 18.3
 * (worksheet), 18.4 (shared strings).
 */
import { RunError } from "../errors.ts";
import { unzip, type ZipEntry } from "../lib/unzip.ts";
import { displayName } from "../model/safe-path.ts";
import { type Columns, parseColumns, readRow } from "./columns.ts";
import type { Archives, Found, FoundBatches } from "./found.ts";
import { noColumn } from "./table.ts";
import { fileChunks } from "./xml.ts";
import { readXml } from "./xml-events.ts";

/** What a spreadsheet may make us do: the largest real ones have some 7,000 rows and 3 MB. */
const LIMITS = { maxEntries: 10_000, maxEntryBytes: 2 ** 30, maxTotalBytes: 2 ** 30 };
/** 500,000 UIDs. */
const MAX_SHARED_BYTES = 32 * 1024 * 1024;
const MAX_CELL_CHARACTERS = 32_767;
/** Of all sheets together; a sheet of Excel ends at 1,048,576 rows (Excel specifications and limits). */
const MAX_ROWS = 2_000_000;
/** Cells beyond are not looked at. */
const MAX_CELLS = 1_024;

interface Workbook {
  /** By path in the package, in the order of the workbook. */
  readonly sheets: ReadonlyMap<string, { readonly title: string; readonly visible: boolean }>;
  readonly shared: SharedTexts;
}

/**
 * Memory is bounded by the shared texts, at most 32 MiB. Throws `bad-selection` for what is no spreadsheet, one that
 * inflates to more than 1 GiB or holds more texts, and one without a sheet whose first row names series.
 */
export async function* readSpreadsheet(path: string, name: string, archives: Archives): FoundBatches {
  try {
    const workbook = await readWorkbook(path, name);
    yield* readSheets(path, name, workbook, archives);
  } catch (error) {
    if (!(error instanceof RunError) || error.code !== "proof-format") throw error;
    throw new RunError(
      "bad-selection",
      `${name} can't be read as a spreadsheet: ${displayName(error.message)}`,
      {
        hint: "check that the file is whole, or save it as .csv",
        cause: error,
      },
    );
  }
}

async function* readSheets(
  path: string,
  name: string,
  { sheets, shared }: Workbook,
  archives: Archives,
): FoundBatches {
  let firstRow: readonly string[] | null = null;
  let named = false;
  let count = 0;
  for await (const entry of unzip(fileChunks(path), LIMITS)) {
    const sheet = sheets.get(entry.name.toLowerCase());
    if (!sheet?.visible) continue;
    let columns: Columns | null = null;
    let header = true;
    for await (const rows of readRows(entry, `${name} ${sheet.title}`, shared)) {
      const found: Found[] = [];
      count += rows.length;
      if (count > MAX_ROWS) throw tooLarge(name, `more than ${MAX_ROWS} rows`);
      for (const { cells, number } of rows) {
        if (header) {
          if (cells.every((cell) => cell.trim() === "")) continue;
          header = false;
          columns = parseColumns(cells);
          firstRow ??= cells;
        } else if (columns) {
          const one = readRow(columns, cells, archives, () => ` ${sheet.title}!${number}`);
          if (one) found.push(one);
        }
      }
      yield found;
    }
    named ||= columns !== null;
  }
  if (!named) throw noColumn(name, firstRow ?? []);
}

interface SheetRow {
  readonly cells: readonly string[];
  readonly number: number;
}

async function* readRows(entry: ZipEntry, name: string, shared: SharedTexts): AsyncGenerator<SheetRow[]> {
  let rows: SheetRow[] = [];
  let cells: string[] = [];
  let number = 0;
  let column = -1;
  let type = "";
  let text = "";
  let formula: string | null = null;
  let reading = false;
  let inFormula = false;
  let phonetic = false;
  const events = readXml(entry.body, name, () => ({
    open(tag, attributes) {
      if (tag === "row") {
        cells = [];
        column = -1;
        number = Number(attributes.r ?? number + 1) || number + 1;
      } else if (tag === "c") {
        column = attributes.r ? columnOf(attributes.r, column + 1) : column + 1;
        type = attributes.t ?? "n";
        text = "";
        formula = null;
      } else if (tag === "f") {
        formula = "";
        inFormula = true;
      } else if (tag === "v" || tag === "t") reading = !phonetic;
      else if (tag === "rPh") phonetic = true;
    },
    close(tag) {
      if (tag === "v" || tag === "t") reading = false;
      else if (tag === "f") inFormula = false;
      else if (tag === "rPh") phonetic = false;
      else if (tag === "c") {
        // A program that can't calculate (openpyxl) leaves the value out: a cell that is not empty, only unknown.
        // An empty text that was calculated has the type "str".
        if (formula !== null && text === "" && type !== "str") {
          type = "str";
          text = `=${formula}`;
        }
        if (column >= MAX_CELLS) return;
        while (cells.length < column) cells.push("");
        cells[column] = type === "s" ? shared.at(Number(text)) : text.slice(0, MAX_CELL_CHARACTERS);
      } else if (tag === "row") rows.push({ cells, number });
    },
    text(piece) {
      if (reading) text += piece;
      else if (inFormula) formula = `${formula}${piece}`.slice(0, MAX_SHOWN_FORMULA);
    },
  }));
  for await (const _ of events) {
    if (rows.length > 0) yield rows;
    rows = [];
  }
}

/** `C7` is column 2. */
function columnOf(reference: string, otherwise: number): number {
  const letters = /^[A-Za-z]{1,3}/u.exec(reference)?.[0].toUpperCase();
  if (letters === undefined) return otherwise;
  let column = 0;
  for (const letter of letters) column = column * 26 + letter.charCodeAt(0) - 64;
  return Math.max(column - 1, otherwise);
}

async function readWorkbook(path: string, name: string): Promise<Workbook> {
  const listed: { readonly title: string; readonly id: string; readonly visible: boolean }[] = [];
  const targets = new Map<string, string>();
  const shared = new SharedTexts(name);
  for await (const entry of unzip(fileChunks(path), LIMITS)) {
    if (entry.name === "xl/workbook.xml") {
      await readAll(entry, name, (tag, attributes) => {
        if (tag !== "sheet") return;
        const id = Object.entries(attributes).find(([key]) => /(^|:)id$/u.test(key))?.[1] ?? "";
        const visible = (attributes.state ?? "visible") === "visible";
        listed.push({ title: displayName(attributes.name ?? "sheet"), id, visible });
      });
    } else if (entry.name === "xl/_rels/workbook.xml.rels") {
      await readAll(entry, name, (tag, { Id, Target }) => {
        if (tag === "Relationship" && Id && Target) targets.set(Id, packagePath(Target));
      });
    } else if (entry.name.toLowerCase() === "xl/sharedstrings.xml") await shared.read(entry);
  }
  if (listed.length === 0)
    throw new RunError("bad-selection", `${name} is a zip, but no spreadsheet`, {
      hint: "a selection is a file with the names of series, not the data",
    });
  const sheets = new Map(
    listed.flatMap(({ title, id, visible }) => {
      const target = targets.get(id);
      return target ? [[target.toLowerCase(), { title, visible }]] : [];
    }),
  );
  return { sheets, shared };
}

/** A target is absolute in the package, or relative to `xl/`. */
function packagePath(target: string): string {
  return target.startsWith("/") ? target.slice(1) : `xl/${target.replace(/^\.\//u, "")}`;
}

async function readAll(
  entry: ZipEntry,
  name: string,
  open: (tag: string, attributes: Readonly<Record<string, string>>) => void,
): Promise<void> {
  for await (const _ of readXml(entry.body, `${name} ${entry.name}`, () => ({ open })));
}

function tooLarge(name: string, what: string): RunError {
  return new RunError("bad-selection", `${name} holds ${what}, too much for a spreadsheet to be read`, {
    hint: "save the sheet as .csv, which may have any length",
  });
}

/** The texts of cells, kept outside of the JavaScript heap. */
class SharedTexts {
  readonly #name: string;
  /** Of `CHUNK_BYTES` each; a text stands in one of them. */
  readonly #chunks: Buffer[] = [];
  /** Bytes used of all chunks, the rests at their ends included. */
  #used = 0;
  /** Where each text begins, over all chunks, and how long it is. */
  #begins = new Uint32Array(1024);
  #sizes = new Uint32Array(1024);
  #count = 0;

  constructor(name: string) {
    this.#name = name;
  }

  async read(entry: ZipEntry): Promise<void> {
    let text = "";
    let reading = false;
    // How Chinese characters are read is no part of the text.
    let phonetic = false;
    const events = readXml(entry.body, `${this.#name} ${entry.name}`, () => ({
      open: (tag) => {
        if (tag === "si") text = "";
        if (tag === "rPh") phonetic = true;
        if (tag === "t") reading = !phonetic;
      },
      close: (tag) => {
        if (tag === "t") reading = false;
        if (tag === "rPh") phonetic = false;
        if (tag === "si") this.#add(text.slice(0, MAX_CELL_CHARACTERS));
      },
      text: (piece) => {
        if (reading) text += piece;
      },
    }));
    for await (const _ of events);
  }

  /** Empty for a number that names no text. */
  at(index: number): string {
    if (!Number.isInteger(index) || index < 0 || index >= this.#count) return "";
    const begin = this.#begins[index] as number;
    const from = begin % CHUNK_BYTES;
    const chunk = this.#chunks[Math.floor(begin / CHUNK_BYTES)];
    return chunk?.toString("utf8", from, from + (this.#sizes[index] as number)) ?? "";
  }

  #add(text: string): void {
    const bytes = Buffer.from(text);
    const left = CHUNK_BYTES - (this.#used % CHUNK_BYTES);
    if (bytes.length > left) this.#used += left;
    if (this.#used + bytes.length > MAX_SHARED_BYTES) throw tooLarge(this.#name, "more than 32 MiB of text");
    const at = Math.floor(this.#used / CHUNK_BYTES);
    this.#chunks[at] ??= Buffer.allocUnsafeSlow(CHUNK_BYTES);
    bytes.copy(this.#chunks[at], this.#used % CHUNK_BYTES);
    if (this.#count === this.#begins.length) {
      this.#begins = twice(this.#begins);
      this.#sizes = twice(this.#sizes);
    }
    this.#begins[this.#count] = this.#used;
    this.#sizes[this.#count] = bytes.length;
    this.#count += 1;
    this.#used += bytes.length;
  }
}

/** More than the longest text needs in UTF-8. */
const CHUNK_BYTES = 1024 * 1024;

function twice(numbers: Uint32Array): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(numbers.length * 2);
  larger.set(numbers);
  return larger;
}

/** It is only shown. */
const MAX_SHOWN_FORMULA = 100;
