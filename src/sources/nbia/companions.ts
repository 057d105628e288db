/**
 * `metadata.csv` and `COLLECTION/LICENSE` as the official Java retriever 4.4.1 leaves them
 * (software/nbia-download-manager, DataRetrieverCLI.java), so that existing scripts go on working.
 */

import { SOP_CLASS_NAMES } from "../../lib/sop-classes.ts";
import { displayName } from "../../model/safe-path.ts";
import type { Companion, HeldItem } from "../source.ts";
import { plainDescription } from "./map.ts";

const HEADER =
  "Series UID,Collection,3rd Party Analysis,Data Description URI,Subject ID,Study UID,Study Description,Study Date," +
  "Series Description,Manufacturer,Modality,SOP Class Name,SOP Class UID,Number of Images,File Size,File Location," +
  "Download Timestamp";

export async function* companions(held: () => AsyncIterable<HeldItem>): AsyncGenerator<Companion> {
  yield { path: ["metadata.csv"], content: metadataCsv(held), keep: false };
  // A few texts a collection: nearly all have one licence for all of their series.
  const licences = new Map<string, Set<string>>();
  for await (const { item } of held()) {
    const { Collection: collection, LicenseName: name, LicenseURI: url } = item.labels;
    if (typeof collection !== "string") continue;
    const texts = licences.get(collection) ?? new Set();
    licences.set(collection, texts);
    if (name != null || url != null) texts.add(`${name ?? "Not Specified"} (${url ?? "Not Specified"})`);
  }
  for (const [collection, texts] of licences)
    yield { path: [collection, "LICENSE"], content: license(collection, [...texts].sort()), keep: true };
}

/** One row a series, sorted by Series UID, CRLF, unquoted: a comma in a value becomes a blank, as the server does it for manufacturers. */
async function* metadataCsv(held: () => AsyncIterable<HeldItem>): AsyncGenerator<string> {
  yield `${HEADER}\r\n`;
  for await (const each of held()) {
    if (each.item.id.startsWith("dicom-series:")) yield `${metadataRow(each)}\r\n`;
  }
}

function metadataRow({ item, place, files, bytes, facts, storedAt }: HeldItem): string {
  const l = item.labels;
  const sopClass = facts.SOPClassUID == null ? "" : String(facts.SOPClassUID);
  return [
    l.SeriesInstanceUID,
    l.Collection,
    l.ThirdPartyAnalysis,
    l.DataDescriptionURI,
    l.PatientID,
    l.StudyInstanceUID,
    plainDescription(String(l.StudyDesc ?? "")),
    String(l.StudyDate ?? "").replace(/^(\d{4})-(\d{2})-(\d{2})$/u, "$2-$3-$1"),
    plainDescription(String(l.SeriesDescription ?? "")),
    l.Manufacturer,
    l.Modality,
    SOP_CLASS_NAMES[sopClass] ?? "",
    sopClass,
    files,
    humanSize(bytes),
    `./${place}`,
    storedAt,
  ]
    .map((value) => displayName(String(value ?? "").replace(/[,\r\n]/gu, " ")))
    .join(",");
}

/** Decimal units, two digits; below 1000 plain bytes (`999 B`, `3.00 KB`). */
export function humanSize(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  const units = ["KB", "MB", "GB", "TB", "PB"];
  let value = bytes / 1000;
  let unit = 0;
  while (value >= 999.995 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value.toFixed(2)} ${units[unit]}`;
}

async function* license(collection: string, licences: readonly string[]): AsyncGenerator<string> {
  const names = licences.length === 0 ? "Not Specified (Not Specified)" : licences.join(" and ");
  const subject = displayName(`collection ${collection} are covered by the licence ${names}`);
  yield `License\n\nThe images of the ${subject}. `;
  yield "By downloading them you agree to abide by its terms.\n";
}
