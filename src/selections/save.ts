/** Selections in the forms of other programs: tables, and the manifest that the archive's own retriever takes. */
import { basename, extname } from "node:path";
import { RunError } from "../errors.ts";
import { writeFileDurably } from "../lib/durable-file.ts";
import type { Item, Value } from "../model/item.ts";
import { displayName } from "../model/safe-path.ts";

const FORMS = ["jsonl", "csv", "tsv", "tcia"] as const;
export type SaveForm = (typeof FORMS)[number];

/** The form by the name of the file. Throws `usage` for another one. */
export function saveForm(path: string): SaveForm {
  const extension = extname(path).toLowerCase();
  const form = FORMS.find((each) => extension === `.${each}`);
  if (form) return form;
  throw new RunError("usage", `a selection can't be saved as ${basename(path)}`, {
    hint: `the name says the form: ${FORMS.map((each) => `.${each}`).join(", ")}`,
  });
}

/** Labels and addresses, a row for each item, under a row of names. Replaces the file in one step. */
export async function saveTable(
  path: string,
  form: "csv" | "tsv",
  columns: readonly string[],
  items: AsyncIterable<Item>,
): Promise<void> {
  const field = form === "csv" ? csvField : tsvField;
  const row = (values: readonly Value[]): string =>
    `${values.map(field).join(form === "csv" ? "," : "\t")}\n`;
  async function* rows(): AsyncGenerator<string> {
    yield row([...columns, "address"]);
    for await (const { labels, address } of items)
      yield row([...columns.map((column) => labels[column] ?? null), address]);
  }
  await writeFileDurably(path, rows());
}

/** As the command line writes them to stdout, which may not import this. */
function csvField(value: Value): string {
  const text = plain(value).replace(/[^\t\r\n]+/gu, displayName);
  return /[",\r\n]|^\s|\s$/u.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const TSV_ESCAPES: Readonly<Record<string, string>> = { "\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r" };

function tsvField(value: Value): string {
  return displayName(plain(value).replace(/[\\\t\n\r]/gu, (c) => TSV_ESCAPES[c] ?? c));
}

const plain = (value: Value): string => (value === null ? "" : String(value));

const SERIES = "dicom-series:";

/**
 * A manifest of version 3, as the archive's site makes it (CBIIT/NBIA-TCIA restUtil/ManifestMaker.java): six lines,
 * then a series each. `serverOf` is what a manifest calls an archive, undefined for one that it can't name. Replaces
 * the file in one step; throws `usage`, and leaves it, when an item is no series, or of another archive than the first.
 */
export async function saveManifest(
  path: string,
  items: AsyncIterable<Item>,
  serverOf: (archive: string) => Promise<string | undefined>,
  fallback: string,
): Promise<void> {
  const refuse = (what: string): RunError =>
    new RunError("usage", `${basename(path)} can't be written: ${what}`, {
      hint: "save it as .jsonl or .csv, which hold items of every kind",
    });
  async function header(archive: string): Promise<string> {
    const server = await serverOf(archive);
    if (server === undefined) throw refuse(`a .tcia manifest can't name the archive ${archive}:`);
    return [
      `downloadServerUrl=${server}`,
      "includeAnnotation=true",
      "noOfrRetry=4",
      `databasketId=${displayName(basename(path))}`,
      "manifestVersion=3.0",
      "ListOfSeriesToDownload=\n",
    ].join("\n");
  }
  async function* lines(): AsyncGenerator<string> {
    let first: string | null = null;
    for await (const { id, archive, address } of items) {
      if (!id.startsWith(SERIES)) throw refuse(`a .tcia manifest lists whole series, and ${address} is none`);
      if (first === null) yield await header(archive);
      first ??= archive;
      if (archive !== first)
        throw refuse(`a .tcia manifest is of one archive, and this is of ${first}: and ${archive}:`);
      yield `${id.slice(SERIES.length)}\n`;
    }
    if (first === null) yield await header(fallback);
  }
  await writeFileDurably(path, lines());
}
