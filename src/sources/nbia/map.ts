/** NBIA wire rows to items and rows of ours. Pure. */
import { buildUnknownItem, type Item, type Row, type Value } from "../../model/item.ts";
import { encodeSegment } from "../../model/selection.ts";
import type { LayoutPlace } from "../source.ts";
import type { WireRow } from "./wire/rows.ts";

/**
 * Columns of a series: those of v4/getSeries (V4_getSeries.java) in their order, less `Authorized` and
 * `ReleasedStatus` (always 1 and Yes for what is shown), and StudyID, which v4/getSeriesMetadata adds.
 */
export const SERIES_COLUMNS = [
  "Collection",
  "PatientID",
  "StudyInstanceUID",
  "SeriesInstanceUID",
  "Modality",
  "BodyPartExamined",
  "SeriesDescription",
  "SeriesNumber",
  "SeriesDate",
  "StudyDate",
  "StudyDesc",
  "ImageCount",
  "FileSize",
  "Manufacturer",
  "ManufacturerModelName",
  "SoftwareVersions",
  "ProtocolName",
  "AnnotationsFlag",
  "Site",
  "PatientSex",
  "PatientAge",
  "AdmittingDiagnosisDescription",
  "MaxSubmissionTimestamp",
  "DateReleased",
  "LicenseName",
  "LicenseURI",
  "DataDescriptionURI",
  "ThirdPartyAnalysis",
] as const;

const NUMBERS = new Set(["SeriesNumber", "ImageCount", "FileSize"]);
const DATES = new Set(["SeriesDate", "StudyDate", "MaxSubmissionTimestamp", "DateReleased"]);

const MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec";

/**
 * A date of any NBIA version (`MM-dd-yyyy`, `yyyy-MM-dd HH:mm:ss.0`, `yyyy/MM/dd`, and of getSeriesMetaData
 * `Mon Nov 04 11:45:52 UTC 2013`) as `yyyy-MM-dd`; else the text itself.
 */
export function isoDate(text: string): string {
  const java = /^[A-Z][a-z]{2} ([A-Z][a-z]{2}) (\d{2}) [\d:]{8} \S+ (\d{4})$/u.exec(text);
  const month = java ? MONTHS.indexOf(java[1] as string) / 3 + 1 : 0;
  if (java && month >= 1) return `${java[3]}-${String(month).padStart(2, "0")}-${java[2]}`;
  const american = /^(\d{2})-(\d{2})-(\d{4})/u.exec(text);
  if (american) return `${american[3]}-${american[1]}-${american[2]}`;
  const iso = /^(\d{4})[-/](\d{2})[-/](\d{2})/u.exec(text);
  return iso ? `${iso[1]}-${iso[2]}-${iso[3]}` : text;
}

/** One column's value: numbers as numbers whatever the endpoint sent, dates as `yyyy-MM-dd`, empty text as null. */
export function wireValue(column: string, value: unknown): Value {
  if (value === null || value === undefined || value === "") return null;
  if (NUMBERS.has(column)) {
    const number = Number(value);
    return Number.isFinite(number) ? number : String(value);
  }
  if (DATES.has(column)) return isoDate(String(value));
  return typeof value === "number" ? value : String(value);
}

export function seriesLabels(row: WireRow): Row {
  const labels: Record<string, Value> = {};
  for (const column of SERIES_COLUMNS) {
    const value = wireValue(column, row[column]);
    if (value !== null) labels[column] = value;
  }
  const studyId = wireValue("StudyID", row.StudyID);
  if (studyId !== null) labels.StudyID = studyId;
  return labels;
}

/** A row of getSeries or getSeriesMetadata as an item; null for a row without a Series Instance UID. */
export function seriesItem(archive: string, row: WireRow): Item | null {
  const uid = row.SeriesInstanceUID;
  if (typeof uid !== "string" || uid === "") return null;
  const labels = seriesLabels(row);
  const files = typeof labels.ImageCount === "number" ? labels.ImageCount : null;
  const bytes = typeof labels.FileSize === "number" ? labels.FileSize : null;
  return {
    id: seriesId(uid),
    // Day of submission, because API versions print the time with different precision.
    revision: `${files ?? "?"}-${bytes ?? "?"}-${labels.MaxSubmissionTimestamp ?? "?"}`,
    archive,
    address: `${archive}:${uid}`,
    bytes,
    files,
    labels,
  };
}

export const seriesId = (uid: string): string => `dicom-series:${uid}`;
export const instanceId = (uid: string): string => `dicom-instance:${uid}`;

/** One image of a series as an item of its own. Its size is not announced anywhere. */
export function instanceItem(series: Item, sopInstanceUid: string): Item {
  const seriesUid = series.id.slice(series.id.indexOf(":") + 1);
  return {
    id: instanceId(sopInstanceUid),
    revision: series.revision,
    archive: series.archive,
    address: `${series.archive}:${seriesUid}/${sopInstanceUid}`,
    bytes: null,
    files: 1,
    labels: { ...series.labels, SOPInstanceUID: sopInstanceUid },
    locator: { series: seriesUid },
  };
}

export function unknownItem(archive: string, path: readonly string[]): Item {
  const last = path.at(-1) ?? "";
  return buildUnknownItem({
    id: path.length > 1 ? instanceId(last) : seriesId(last),
    archive,
    address: `${archive}:${path.map(encodeSegment).join("/")}`,
  });
}

const text = (labels: Row, column: string): string => {
  const value = labels[column];
  return value === null || value === undefined ? "" : String(value);
};

/** As the server cuts descriptions for getSeriesMetaData (V1_getSeriesMetaData.java): only `[a-zA-Z0-9 .-]` stays. */
export const plainDescription = (description: string): string => description.replace(/[^a-zA-Z0-9 .-]/gu, "");

/** A part of a folder name with its dash; left out when empty or the text `null`, a description also when it is `-`. */
const part = (value: string): string => (value === "" || value === "null" ? "" : `${value}-`);
const description = (value: string): string => {
  const plain = plainDescription(value).slice(0, 53);
  return plain === "-" ? "" : part(plain);
};

const americanDate = (iso: string): string => iso.replace(/^(\d{4})-(\d{2})-(\d{2})$/u, "$2-$3-$1");
const seriesNumber = (value: Value | undefined): string =>
  typeof value === "number" ? value.toFixed(6) : "";

const within = (item: Item, folder: readonly string[]): LayoutPlace => {
  const sop = item.labels.SOPInstanceUID;
  return typeof sop === "string" ? { folder, file: `${sop}.dcm` } : { folder };
};

/** Folder names of the Java retriever 4.4.1 (software/nbia-download-manager, DataRetrieverCLI.java), and simpler ones. */
export const LAYOUTS: Readonly<Record<string, (item: Item) => LayoutPlace>> = {
  descriptive: (item) => {
    const l = item.labels;
    const study =
      part(americanDate(text(l, "StudyDate"))) + part(text(l, "StudyID")) + description(text(l, "StudyDesc"));
    const series = part(seriesNumber(l.SeriesNumber)) + description(text(l, "SeriesDescription"));
    return within(item, [
      text(l, "Collection"),
      text(l, "PatientID"),
      study + text(l, "StudyInstanceUID").slice(-5),
      series + text(l, "SeriesInstanceUID").slice(-5),
    ]);
  },
  classic: (item) => {
    const l = item.labels;
    return within(item, [
      text(l, "Collection"),
      text(l, "PatientID"),
      text(l, "StudyInstanceUID"),
      text(l, "SeriesInstanceUID"),
    ]);
  },
  uid: (item) => within(item, [text(item.labels, "SeriesInstanceUID")]),
  flat: (item) => ({ ...within(item, []), prefix: `${text(item.labels, "SeriesInstanceUID")}_` }),
};

/** The SOP Instance UID of an item that is one image. */
export function sopOf(item: Item): string | undefined {
  return item.id.startsWith("dicom-instance:") ? item.id.slice("dicom-instance:".length) : undefined;
}

/** The series that an item is, or that its image is in. */
export function seriesUidOf(item: Item): string {
  const { locator } = item;
  if (typeof locator === "object" && locator !== null && "series" in locator) return String(locator.series);
  return item.id.slice(item.id.indexOf(":") + 1);
}
