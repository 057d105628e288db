/**
 * Records of the collection pages to rows. Pure. WordPress writes `""`, `false` and `[]` for empty, numbers as text, and
 * HTML into text (kirbyju/tcia-query-skill scripts/tcia_snapshot.py: `stringify`, `label_list`, `clean_text`).
 */
import { htmlToText } from "../../lib/html-text.ts";
import type { Row } from "../../model/item.ts";
import { isManifestLink, lastSegment, packageKindOf, parseFileLink } from "../../model/link.ts";
import { isRecord, type PageRecord } from "./pages-api.ts";

export const DOWNLOAD_COLUMNS = [
  "Collection",
  "Title",
  "DownloadType",
  "DataType",
  "FileType",
  "FileSize",
  "License",
  "Requirements",
  "Access",
  "DateUpdated",
  "Subjects",
  "Studies",
  "Series",
  "Images",
  "SearchURL",
  "URL",
  "ServedBy",
] as const;

export const DOWNLOAD_SUMMARY = [
  "Collection",
  "Title",
  "FileType",
  "FileSize",
  "License",
  "ServedBy",
] as const;

/** A collection, or an analysis result, as far as its downloads matter. */
export interface Offerer {
  readonly name: string;
  /** Other names that it is known by: slug, title. */
  readonly alsoNamed: readonly string[];
  /** Ids of its downloads in the order of its page. */
  readonly downloads: readonly string[];
  /** Records that came with it, by id. */
  readonly whole: ReadonlyMap<string, PageRecord>;
}

/** Null for what is hidden from the archive's table of collections, or has no name. */
export function offererOf(record: PageRecord, prefix: "collection" | "result"): Offerer | null {
  const hidden = text(record.hide_from_browse_table).toLowerCase();
  if (!["", "0", "no"].includes(hidden)) return null;
  const titles = [record[`${prefix}_short_title`], record.slug, record[`${prefix}_title`], record.title];
  const names = [...new Set(titles.map(text).filter((name) => name !== ""))];
  const [name, ...alsoNamed] = names;
  if (name === undefined) return null;
  const listed = record[`${prefix}_downloads`];
  const whole = new Map<string, PageRecord>();
  const downloads: string[] = [];
  for (const each of Array.isArray(listed) ? (listed as readonly unknown[]) : []) {
    const id = idOf(each);
    if (id === null || downloads.includes(id)) continue;
    downloads.push(id);
    if (isRecord(each) && Object.keys(each).length > 2) whole.set(id, each);
  }
  return { name, alsoNamed, downloads, whole };
}

/** Id of an uploaded file that has to be asked for its link; null when the record has a link of its own, or no file. */
export function mediaIdOf(record: PageRecord): string | null {
  if (linkOf(record) !== "") return null;
  const file = field(record, "download_file");
  return isRecord(file) ? idOf(file) : null;
}

/** `media`: the link of its uploaded file, where it has one. */
export function downloadRow(collection: string, record: PageRecord, media: string | null): Row {
  const license = text(field(record, "license", "data_license"));
  const requirements = text(field(record, "download_requirements"));
  const access = text(field(record, "download_access"));
  const searchUrl = text(field(record, "search_url"));
  const link = linkOf(record) || (media ?? "");
  const served = servedBy(link, { license, requirements });
  return present({
    Collection: collection,
    Title: text(field(record, "download_title")) || text(record.title),
    DownloadType: text(field(record, "download_type")),
    DataType: text(field(record, "data_type")),
    FileType: text(field(record, "file_type")),
    FileSize: sizeBytes(field(record, "download_size"), field(record, "download_size_unit")),
    License: license,
    Requirements: requirements,
    Access: access,
    DateUpdated: dateOf(text(field(record, "date_updated"))),
    Subjects: count(field(record, "subjects")),
    Studies: count(field(record, "studies", "study_count")),
    Series: count(field(record, "series", "series_count")),
    Images: count(field(record, "images", "image_count")),
    SearchURL: searchUrl,
    URL: link,
    ServedBy: served,
    address: served === SERVED ? link : "",
  });
}

/** Licences that are no open ones (tcia-query-skill, `CONTROLLED_LICENSE_TERMS`). */
const CONTROLLED = /controlled access|nih controlled|tcia restricted|restricted|data usage agreement|dbgap/iu;
const OPEN = /creative commons|cc[ -]by|cc0/iu;
const PAGE = /\.(?:html?|php|aspx?|jsp)$/iu;

const SERVED = "gantry get";

function servedBy(link: string, owed: { license: string; requirements: string }): string {
  if (link === "") return "not served: it has no link";
  const restricted = !OPEN.test(owed.license) && CONTROLLED.test(`${owed.license} ${owed.requirements}`);
  if (restricted) return "not served: access has to be asked for";
  const kind = packageKindOf(link);
  if (kind !== null) return SERVED;
  if (isManifestLink(link)) return SERVED;
  try {
    const name = lastSegment(new URL(parseFileLink(link)));
    const isFile = /\.[a-z0-9]{1,8}$/iu.test(name) && !PAGE.test(name);
    return isFile ? SERVED : "not served: a web page";
  } catch {
    return "not served: no link of a plain file";
  }
}

/** v1 writes `download_url`, v2 `download url`. */
function field(record: PageRecord, ...names: readonly string[]): unknown {
  for (const name of names) {
    for (const key of [name, name.replaceAll("_", " ")]) {
      const value = record[key];
      if (value !== undefined && value !== null && value !== "" && value !== false) return value;
    }
  }
  return null;
}

function linkOf(record: PageRecord): string {
  const value = field(record, "download_url");
  const link = typeof value === "string" ? htmlToText(value) : "";
  if (link !== "") return link;
  const file = field(record, "download_file");
  return typeof file === "string" && /^https?:\/\//iu.test(file) ? file : "";
}

function idOf(value: unknown): string | null {
  const id = isRecord(value) ? (value.id ?? value.ID) : value;
  const digits = typeof id === "number" || typeof id === "string" ? String(id).trim() : "";
  return /^\d{1,12}$/u.test(digits) ? digits : null;
}

/** Words of a field, whatever it is wrapped in, joined by `; `. */
function text(value: unknown): string {
  if (typeof value === "number") return String(value);
  if (typeof value === "string") {
    const plain = htmlToText(value);
    return /^(?:false|none|null)$/iu.test(plain) ? "" : plain;
  }
  if (Array.isArray(value)) {
    const words = (value as readonly unknown[]).map(text).filter((word) => word !== "");
    return [...new Set(words)].join("; ");
  }
  if (!isRecord(value)) return "";
  for (const key of ["rendered", "label", "title", "name"])
    if (value[key] !== undefined) return text(value[key]);
  return "";
}

function count(value: unknown): number | null {
  const digits = text(value).replaceAll(",", "");
  return /^\d{1,12}$/u.test(digits) ? Number(digits) : null;
}

/** Units are decimal (tcia-query-skill scripts/tcia_public_non_dicom_metadata.py, `download_size_bytes`). */
const UNITS: Readonly<Record<string, number>> = { b: 1, bytes: 1, kb: 1e3, mb: 1e6, gb: 1e9, tb: 1e12 };

function sizeBytes(value: unknown, unit: unknown): number | null {
  const number = Number(text(value).replaceAll(",", "") || Number.NaN);
  const factor = UNITS[text(unit).toLowerCase()];
  return Number.isFinite(number) && number >= 0 && factor !== undefined ? Math.round(number * factor) : null;
}

/** `yyyy-MM-dd`, also from `yyyyMMdd` and `MM/dd/yyyy`; anything else as it is. */
function dateOf(date: string): string {
  const match = /^(\d{4})-?(\d\d)-?(\d\d)(?:$|[T ])/u.exec(date);
  if (match) return `${match[1]}-${match[2]}-${match[3]}`;
  const american = /^(\d\d)\/(\d\d)\/(\d{4})$/u.exec(date);
  return american ? `${american[3]}-${american[1]}-${american[2]}` : date;
}

/** Absent values are null, so that every row has every column. */
function present(row: Row): Row {
  return Object.fromEntries(Object.entries(row).map(([key, value]) => [key, value === "" ? null : value]));
}
