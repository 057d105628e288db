/** What NBIA says of collections, patients, studies and images, under the newest column names. */
import { RunError } from "../../errors.ts";
import type { DicomTag } from "../../model/dicom-tags.ts";
import type { Item, Row, Value } from "../../model/item.ts";
import { formatAddress } from "../../model/selection.ts";
import type { SourceContext } from "../source.ts";
import type { NbiaApi, Parameters, WireRow } from "./api.ts";
import { seriesUidOf, sopOf, wireValue } from "./map.ts";

/** V4_getCollectionDescriptions.java, V4_getPatient.java, V4_getPatientStudy.java, less what tells the place. */
export const LEVEL_COLUMNS: Readonly<Record<string, readonly string[]>> = {
  collection: ["DataDescriptionURI", "Description"],
  patient: ["PatientName", "PatientSex", "EthnicGroup", "Phantom", "SpeciesCode", "SpeciesDescription"],
  study: [
    "StudyDate",
    "StudyDescription",
    "AdmittingDiagnosisDescription",
    "StudyID",
    "PatientAge",
    "PatientName",
    "PatientSex",
    "EthnicGroup",
    "SeriesCount",
    "LongitudinalTemporalEventType",
    "LongitudinalTemporalOffsetFromEvent",
  ],
  instance: ["SOPInstanceUID"],
};

/** Column of ours to the column of the wire, where they differ. */
const WIRE_NAMES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  collection: {
    Collection: "collectionName",
    DataDescriptionURI: "descriptionURI",
    Description: "description",
  },
  patient: { PatientID: "PatientId" },
  study: { AdmittingDiagnosisDescription: "AdmittingDiagnosesDescription" },
};

const PLACE_COLUMNS: Readonly<Record<string, readonly string[]>> = {
  collection: ["Collection"],
  patient: ["Collection", "PatientID"],
  study: ["Collection", "PatientID", "StudyInstanceUID"],
};

/** See `Source.places`. */
export async function* places(
  api: NbiaApi,
  level: string,
  [collection, patient, study]: readonly string[],
  context: SourceContext,
): AsyncGenerator<Row> {
  const columns = [...(PLACE_COLUMNS[level] ?? []), ...(LEVEL_COLUMNS[level] ?? [])];
  const parameters: Record<string, string> = {};
  const set = (name: string, value: string | undefined): void => {
    if (value !== undefined) parameters[name] = value;
  };
  // Older versions say nothing of a collection.
  if (level === "collection" && !api.serves("getCollectionDescriptions", "counts")) return;
  if (level === "collection") {
    set("collectionName", collection);
  } else {
    set("Collection", collection);
    set(level === "patient" ? "PatientId" : "PatientID", patient);
    if (level === "study") set("StudyInstanceUID", study);
  }
  for await (const row of rowsOf(api, level, parameters, context)) yield named(level, columns, row);
}

function rowsOf(
  api: NbiaApi,
  level: string,
  parameters: Parameters,
  context: SourceContext,
): AsyncIterable<WireRow> {
  if (level === "collection") return api.counts("getCollectionDescriptions", parameters, context);
  return api.rows(level === "patient" ? "getPatient" : "getPatientStudy", parameters, context);
}

function named(level: string, columns: readonly string[], row: WireRow): Row {
  const names = WIRE_NAMES[level] ?? {};
  const value = (column: string): Value => wireValue(column, row[column] ?? row[names[column] ?? column]);
  return Object.fromEntries(columns.map((column) => [column, value(column)]));
}

/** See `Source.parts`: the images of a series, or the one that the item is. */
export async function* parts(api: NbiaApi, item: Item, context: SourceContext): AsyncGenerator<Row> {
  const series = seriesUidOf(item);
  const row = (sop: string): Row => ({
    SOPInstanceUID: sop,
    address: formatAddress(item.archive, [series, sop]),
  });
  const sop = sopOf(item);
  if (sop !== undefined) {
    yield row(sop);
    return;
  }
  for await (const { SOPInstanceUID } of api.rows(
    "getSOPInstanceUIDs",
    { SeriesInstanceUID: series },
    context,
  )) {
    if (typeof SOPInstanceUID === "string") yield row(SOPInstanceUID);
  }
}

/** The head of an image is read in steps, each twice as long, so that pixels are not fetched with it. */
const FIRST_HEAD_BYTES = 256 * 1024;
const LONGEST_HEAD_BYTES = 64 * 1024 * 1024;

/** See `Source.tags`. v4 tells them of a series' first image; of others, and to older versions, the image itself does. */
export async function* tags(api: NbiaApi, item: Item, context: SourceContext): AsyncGenerator<Row> {
  const series = seriesUidOf(item);
  let sop = sopOf(item);
  if (sop === undefined && api.serves("getDicomTags", "counts")) {
    const begun = new Map<Value, Value>();
    for await (const row of api.counts("getDicomTags", { SeriesUID: series }, context)) {
      const cell = (column: string): Value => wireValue(column, row[column]);
      const [element, name] = [cell("element"), cell("name")];
      // A sequence is closed by a row of the same element (NCIADicomTextObject.java); the `>` tell it anyway.
      const end = `End ${begun.get(element) ?? ""}`.trim();
      if (begun.has(element) && String(name ?? "").trim() === end) continue;
      begun.set(element, name);
      yield { element, name, data: cell("data") };
    }
    return;
  }
  if (sop === undefined) {
    for await (const row of api.rows("getSOPInstanceUIDs", { SeriesInstanceUID: series }, context)) {
      if (typeof row.SOPInstanceUID === "string") sop ??= row.SOPInstanceUID;
    }
  }
  if (sop === undefined) return;
  const image = sop;
  for (const tag of await context.retry.run(`image ${image}`, (attempt) =>
    readTags(api, series, image, attempt, context),
  ))
    yield { ...tag };
}

async function readTags(
  api: NbiaApi,
  series: string,
  sop: string,
  attempt: number,
  context: SourceContext,
): Promise<readonly DicomTag[]> {
  const { readDicomTags } = await import("../../model/dicom-tags.ts");
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  let enough = FIRST_HEAD_BYTES;
  for await (const chunk of await api.image(series, sop, attempt, context)) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes < enough) continue;
    const tags = readDicomTags(Buffer.concat(chunks));
    if (tags) return tags;
    enough = bytes * 2;
    if (bytes > LONGEST_HEAD_BYTES) break;
  }
  const tags = bytes > LONGEST_HEAD_BYTES ? null : readDicomTags(Buffer.concat(chunks));
  if (tags) return tags;
  throw new RunError("archive-reply", `the image ${sop} has no DICOM head that can be read`);
}
