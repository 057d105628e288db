/** For suites about selections: a file of any form, read as `get` reads it. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RunError } from "../../src/errors.ts";
import { type ZipInput, zipStream } from "../../src/lib/zip-writer.ts";
import type { Archives } from "../../src/selections/found.ts";
import { type ReadSelection, readSelection } from "../../src/selections/read.ts";

export const ARCHIVES: Archives = {
  knows: (name) => ["tcia", "nlst", "web"].includes(name),
  ofServer: (url) => ({ "a.example.org": "tcia", "n.example.org": "nlst" })[url.host] ?? null,
  fallback: "tcia",
};

export interface ReadText extends Omit<ReadSelection, "refs"> {
  /** Each as `archive:a/b`. */
  readonly refs: readonly string[];
  readonly fetched: readonly string[];
}

/** `web`: what is at URLs, undefined for what is not there. */
export async function readContent(
  name: string,
  content: string | Uint8Array,
  web: Readonly<Record<string, string | Uint8Array>> = {},
  beside: Readonly<Record<string, string>> = {},
): Promise<ReadText> {
  const folder = await mkdtemp(join(tmpdir(), "gantry-read-"));
  const fetched: string[] = [];
  try {
    const path = join(folder, name);
    await writeFile(path, content);
    for (const [other, text] of Object.entries(beside)) await writeFile(join(folder, other), text);
    const temporary = await mkdtemp(join(folder, "tmp-"));
    const read = await readSelection(
      { path, name, url: null, folder },
      {
        archives: ARCHIVES,
        temporary: async () => temporary,
        fetch: async (url, to) => {
          fetched.push(url.href);
          const body = web[url.href];
          if (body === undefined) throw new RunError("access-item", `${url.href} is not there (HTTP 404)`);
          await writeFile(to, body);
        },
        signal: new AbortController().signal,
      },
    );
    const refs: string[] = [];
    for await (const { archive, path: place } of read.refs()) refs.push(`${archive}:${place.join("/")}`);
    return { ...read, refs, fetched };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** A spreadsheet as writers of them lay it out; a cell that begins with `=` is an inline text, one that begins with `<c` stands as it is. */
export async function spreadsheet(
  sheets: Readonly<Record<string, readonly (readonly string[])[]>>,
  options: { readonly hidden?: readonly string[]; readonly more?: readonly ZipInput[] } = {},
): Promise<Uint8Array> {
  const shared: string[] = [];
  const xml = (text: string): string => text.replace(/&/gu, "&amp;").replace(/</gu, "&lt;");
  const titles = Object.keys(sheets);
  const cell = (text: string, column: number, row: number): string => {
    const at = `r="${String.fromCharCode(65 + column)}${row}"`;
    if (text === "") return "";
    if (text.startsWith("<c")) return text;
    if (text.startsWith("=")) return `<c ${at} t="inlineStr"><is><t>${xml(text.slice(1))}</t></is></c>`;
    if (/^\d+$/u.test(text)) return `<c ${at}><v>${text}</v></c>`;
    shared.push(`<si><r><t>${xml(text.slice(0, 2))}</t></r><r><t>${xml(text.slice(2))}</t></r></si>`);
    return `<c ${at} t="s"><v>${shared.length - 1}</v></c>`;
  };
  const entries = titles.map((title, index) => {
    const rows = sheets[title]?.map(
      (row, at) =>
        `<row r="${at + 1}">${row.map((text, column) => cell(text, column, at + 1)).join("")}</row>`,
    );
    return {
      name: `xl/worksheets/sheet${index + 1}.xml`,
      text: `<?xml version="1.0"?><worksheet><sheetData>${rows?.join("")}</sheetData></worksheet>`,
    };
  });
  const state = (title: string): string => (options.hidden?.includes(title) ? ' state="hidden"' : "");
  const parts = [
    ...entries,
    {
      name: "xl/workbook.xml",
      text: `<workbook xmlns:r="x"><sheets>${titles.map((title, index) => `<sheet name="${xml(title)}" sheetId="${index + 1}"${state(title)} r:id="rId${index + 1}"/>`).join("")}</sheets></workbook>`,
    },
    {
      name: "xl/_rels/workbook.xml.rels",
      text: `<Relationships>${titles.map((_, index) => `<Relationship Id="rId${index + 1}" Target="${index === 0 ? "/xl/" : ""}worksheets/sheet${index + 1}.xml"/>`).join("")}</Relationships>`,
    },
    { name: "xl/sharedStrings.xml", text: `<sst>${shared.join("")}</sst>` },
  ].map(({ name, text }) => ({ name, body: Buffer.from(text) }));
  return zipped([...parts, ...(options.more ?? [])]);
}

export async function zipped(entries: readonly ZipInput[]): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of zipStream(entries)) chunks.push(chunk);
  return Buffer.concat(chunks);
}
