/**
 * JSON documents: the flat array of a listing, and Croissant (ML Commons), the form in which TCIA describes a data set
 * with its downloads (TCIA/data-retriever core/app/croissant.go @6b2cd80; examples of 2026 in
 * kirbyju/tcia-croissant-odrl).
 */
import { readFile, stat } from "node:fs/promises";
import { RunError } from "../errors.ts";
import { onDisk } from "../lib/durable-file.ts";
import { foreignNoun } from "./foreign.ts";
import { type Archives, type Found, type FoundBatches, quoted } from "./found.ts";
import { parseJsonRow } from "./rows.ts";

/** The largest of TCIA's has 80 kB: what is listed by the thousand stands in tables that it names. */
const MAX_BYTES = 32 * 1024 * 1024;

/** Throws `bad-selection` for what is neither, is longer than 32 MiB, or no JSON. */
export async function* readJson(path: string, name: string, archives: Archives): FoundBatches {
  const at = { operation: "read", path };
  const { size } = await onDisk(at, () => stat(path));
  if (size > MAX_BYTES)
    throw new RunError("bad-selection", `${name} is JSON of more than 32 MiB, which is not read`, {
      hint: "a listing of any length can be read as .jsonl or .csv",
    });
  const text = await onDisk(at, () => readFile(path, "utf8"));
  const document = parse(text, name);
  if (Array.isArray(document))
    yield document.flatMap((row, index) => parseJsonRow(row, ` row ${index + 1}`, archives) ?? []);
  else if (isObject(document) && isDataset(document["@type"])) yield readCroissant(document, name, archives);
  else
    throw new RunError("bad-selection", `${name} is JSON, but neither a listing nor a Croissant data set`, {
      hint: "a data set has the @type Dataset, with a distribution or a recordSet",
    });
}

function parse(text: string, name: string): unknown {
  try {
    return JSON.parse(text.replace(/^\uFEFF/u, ""));
  } catch (cause) {
    throw new RunError("bad-selection", `${name} is no whole JSON`, {
      cause,
      hint: "check that the file is whole, and the one you mean",
    });
  }
}

type Json = Readonly<Record<string, unknown>>;
const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);
/** JSON-LD writes a list of one as its only member. */
const listOf = (value: unknown): readonly unknown[] =>
  value === undefined || value === null ? [] : Array.isArray(value) ? value : [value];

function isDataset(type: unknown): boolean {
  return listOf(type).some((each) => typeof each === "string" && /dataset$/iu.test(each));
}

/** A text, number, reference (`@id`) or list of them, as text. */
function textOf(value: unknown, depth = 0): string {
  if (typeof value === "string") return value.trim();
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (depth > 2) return "";
  if (Array.isArray(value)) return value.map((each) => textOf(each, depth + 1)).join(", ");
  return isObject(value) ? textOf(value["@id"] ?? value["@value"], depth + 1) : "";
}

/** `https://…/records/download_url`, `TCIA download URL` → `downloadurl`. */
const plainKey = (key: string): string =>
  key
    .slice(key.lastIndexOf("/") + 1)
    .toLowerCase()
    .replace(/[^a-z0-9]/gu, "")
    .replace(/^tcia/u, "");

/** What the data set says of one download, by plain keys. */
type Facts = Map<string, string>;

interface Download {
  readonly label: string;
  readonly facts: Facts;
}

/**
 * Downloads stand in `distribution` (a file with `additionalProperty`), and once more as `data` of a `recordSet`; one
 * download in both is met once. A record set may also say that its rows are in a file of the distribution, or have
 * the rows of series itself.
 */
function readCroissant(document: Json, name: string, archives: Archives): Found[] {
  const downloads: Download[] = [];
  const byKey = new Map<string, Download>();
  const found: Found[] = [];
  const add = (label: string, facts: Facts): void => {
    const keys = ["downloadid", "fileobjectid", "url"].flatMap((key) =>
      facts.get(key) ? [`${key} ${facts.get(key)}`] : [],
    );
    const known = keys.map((key) => byKey.get(key)).find((each) => each !== undefined);
    const download = known ?? { label, facts: new Map() };
    if (!known) downloads.push(download);
    for (const [key, value] of facts) if (!download.facts.get(key)) download.facts.set(key, value);
    for (const key of keys) byKey.set(key, download);
  };
  for (const distribution of listOf(document.distribution).filter(isObject))
    add(textOf(distribution.name) || textOf(distribution["@id"]), factsOfFile(distribution));
  /** Files that hold the rows of a record set with a column of series. */
  const tables = new Set<string>();
  for (const records of listOf(document.recordSet).filter(isObject)) {
    const label = textOf(records.name) || textOf(records["@id"]);
    for (const field of listOf(records.field).filter(isObject)) {
      const table = tableOfSeries(field);
      if (table) tables.add(table);
    }
    for (const [index, row] of listOf(records.data).filter(isObject).entries()) {
      const facts = factsOfRow(row);
      const at = ` ${quoted(label)} ${index + 1}`;
      const series = facts.get("seriesinstanceuid") ?? facts.get("seriesuid");
      if (series) {
        const one = parseJsonRow(
          { SeriesInstanceUID: series, SOPInstanceUID: facts.get("sopinstanceuid") ?? "" },
          at,
          archives,
        );
        if (one) found.push(one);
      } else add(label, facts);
    }
  }
  for (const download of downloads) found.push(readDownload(download, tables));
  if (found.length === 0)
    throw new RunError("bad-selection", `${name} is a Croissant data set without any download`, {
      hint: "it has neither a distribution nor data in a recordSet",
    });
  return found;
}

function factsOfFile(distribution: Json): Facts {
  const facts: Facts = new Map();
  for (const property of listOf(distribution.additionalProperty).filter(isObject)) {
    const value = textOf(property.value);
    if (value !== "") facts.set(plainKey(textOf(property.name)), value);
  }
  const url = textOf(distribution.contentUrl);
  if (url !== "") facts.set("url", url);
  const id = textOf(distribution["@id"]);
  if (id !== "") facts.set("fileobjectid", id);
  return facts;
}

function factsOfRow(row: Json): Facts {
  const facts: Facts = new Map();
  for (const [key, value] of Object.entries(row)) {
    const text = textOf(value);
    if (text === "") continue;
    const plain = plainKey(key);
    facts.set(plain === "downloadurl" || plain === "contenturl" ? "url" : plain, text);
  }
  return facts;
}

/** The `@id` of the file whose column has the series of a record set; null for another field. */
function tableOfSeries(field: Json): string | null {
  const source = isObject(field.source) ? field.source : {};
  const extract = isObject(source.extract) ? source.extract : {};
  const column = plainKey(textOf(extract.column) || textOf(field.name));
  if (!/^series(instance)?(uid|id)$/u.test(column)) return null;
  return textOf(source.fileObject) || textOf(source.fileSet) || null;
}

/** Roles and mechanisms: `resolveCroissantArtifactRole` of croissant.go. */
function readDownload({ label, facts }: Download, tables: ReadonlySet<string>): Found {
  const at = ` ${quoted(label)}`;
  const url = facts.get("url") ?? "";
  const bad = (what: string): Found => ({ kind: "bad", at, reason: `${what} (${quoted(url)})` });
  if (url === "") return { kind: "bad", at, reason: "it has no URL" };
  const role = (facts.get("downloadartifactrole") ?? "").toLowerCase();
  const how =
    `${facts.get("accessmechanism") ?? ""} ${facts.get("downloadrequirements") ?? ""}`.toLowerCase();
  const path = (URL.canParse(url) ? new URL(url).pathname : url).toLowerCase();
  const isManifest = role.includes("manifest") || (role === "" && how.includes("data retriever"));
  if (role.includes("transfer") || /aspera/u.test(how) || foreignNoun(url) === "an Aspera package")
    return bad("an Aspera package, and no series of an NBIA");
  if (isManifest || tables.has(facts.get("fileobjectid") ?? "") || (role === "" && path.endsWith(".tcia")))
    return { kind: "further", at, target: url };
  return bad(`${foreignNoun(url) ?? "a file"}, and no series of an NBIA`);
}
