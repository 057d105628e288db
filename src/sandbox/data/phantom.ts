/** The built-in data of the sandbox: generated, deterministic, nothing on disk. */

import { createHash } from "node:crypto";
import { databaseOrder, hash32 } from "../hash32.ts";
import { archiveDates } from "./archive-facts.ts";
import type { Dataset, SandboxInstance, SandboxSeries } from "./dataset.ts";
import type { DicomElement } from "./dicom-writer.ts";
import { md5Once } from "./md5-once.ts";
import {
  encodePhantomHead,
  type PhantomSeriesFacts,
  paintPhantomFile,
  phantomFileBytes,
  SOP_CLASSES,
} from "./phantom-file.ts";
import {
  PHANTOM_PLAN,
  type PhantomKind,
  type PlannedCollection,
  type PlannedPatient,
  type PlannedSeries,
  type PlannedStudy,
} from "./phantom-plan.ts";

const MODALITIES: Readonly<Record<PhantomKind, string>> = {
  ct: "CT",
  scout: "CT",
  mr: "MR",
  pt: "PT",
  "enhanced-ct": "CT",
  rtstruct: "RTSTRUCT",
  seg: "SEG",
};

/** A UUID-derived UID (PS3.5 B.2) that depends on the name alone. */
function uidOf(seed: number, name: string): string {
  const digest = createHash("md5").update(`${seed} ${name}`).digest("hex");
  // A leading 1 to 7 keeps the decimal form at 38 or 39 digits, as nearly all real ones are.
  return `2.25.${BigInt(`0x${1 + (Number.parseInt(digest[0]!, 16) % 7)}${digest.slice(1)}`)}`;
}

function dateOf(seed: number, name: string): string {
  const day = Date.UTC(2001, 0, 1) + (hash32(`${seed} date ${name}`) % 7300) * 86_400_000;
  return new Date(day).toISOString().slice(0, 10);
}

const dicomDate = (iso: string | null): string | null => iso?.replaceAll("-", "") ?? null;

interface Place {
  readonly seed: number;
  readonly collection: PlannedCollection;
  readonly patient: PlannedPatient;
  readonly study: PlannedStudy;
  /** Unique within the data set. */
  readonly studyName: string;
}

function isoBirthDate(patient: PlannedPatient): string | null {
  return patient.birthDate?.replace(/^(\d{4})(\d\d)(\d\d)$/, "$1-$2-$3") ?? null;
}

/** The words of the series row; the same words go into the files. */
function buildRow(place: Place, planned: PlannedSeries, index: number, seriesInstanceUid: string) {
  const { seed, collection, patient, study, studyName } = place;
  const studyDate = dateOf(seed, studyName);
  const isDrawn = planned.kind === "rtstruct" || planned.kind === "seg";
  const isFlat = planned.kind === "enhanced-ct" || isDrawn;
  return {
    seriesInstanceUid,
    studyInstanceUid: uidOf(seed, studyName),
    collection: collection.collection,
    patientId: patient.patientId,
    patientName: patient.name ?? patient.patientId,
    patientSex: patient.sex ?? null,
    patientBirthDate: isoBirthDate(patient),
    patientAge: patient.age ?? null,
    ethnicGroup: patient.ethnicGroup ?? null,
    studyDate,
    studyDescription: study.description,
    studyId: study.studyId ?? null,
    admittingDiagnosis: study.admittingDiagnosis ?? null,
    modality: MODALITIES[planned.kind],
    protocolName: planned.protocol ?? null,
    seriesDate: planned.hasDate === false ? null : studyDate,
    seriesDescription: planned.description,
    bodyPartExamined: planned.bodyPart === undefined ? "CHEST" : planned.bodyPart,
    seriesNumber: planned.number === undefined ? index + 1 : planned.number,
    manufacturer: planned.manufacturer === undefined ? "Phantom Works" : planned.manufacturer,
    manufacturerModelName: planned.manufacturer === null ? null : `Ellipsoid ${MODALITIES[planned.kind]}`,
    softwareVersions: planned.manufacturer === null ? null : "syngo P 1.0\\build 7",
    pixelSpacingMm: isFlat ? null : "3.5",
    sliceThicknessMm: isFlat ? null : "3.0",
    ...collection.licence,
    dataDescriptionUri: collection.doi === null ? null : `https://doi.org/${collection.doi}`,
    ...archiveDates(seriesInstanceUid),
    thirdPartyAnalysis: isDrawn ? "YES" : null,
    site: collection.site,
    species: patient.species ?? null,
    access: collection.access,
  };
}

type Row = ReturnType<typeof buildRow>;

function sharedElements(row: Row): DicomElement[] {
  const isDrawn = row.modality === "RTSTRUCT" || row.modality === "SEG";
  const elements: DicomElement[] = [
    [0x00080020, "DA", dicomDate(row.studyDate)],
    [0x00080030, "TM", "120000"],
    [0x00080050, "SH", null],
    [0x00080060, "CS", row.modality],
    [0x00080070, "LO", row.manufacturer],
    [0x00080090, "PN", null],
    [0x00100010, "PN", row.patientName],
    [0x00100020, "LO", row.patientId],
    [0x00100030, "DA", dicomDate(row.patientBirthDate)],
    [0x00100040, "CS", row.patientSex],
    [0x00120062, "CS", "YES"],
    [0x00120063, "LO", "Generated, no person"],
    [0x00130010, "LO", "CTP"],
    [0x00131010, "LO", row.collection],
    [0x0020000d, "UI", row.studyInstanceUid],
    [0x0020000e, "UI", row.seriesInstanceUid],
    [0x00200010, "SH", row.studyId],
    [0x00200011, "IS", row.seriesNumber === null ? null : String(row.seriesNumber)],
  ];
  const optional: readonly (readonly [tag: number, vr: string, value: string | null])[] = [
    [0x00080021, "DA", dicomDate(row.seriesDate)],
    [0x00081030, "LO", row.studyDescription],
    [0x0008103e, "LO", row.seriesDescription],
    [0x00081080, "LO", row.admittingDiagnosis],
    [0x00081090, "LO", row.manufacturerModelName],
    [0x00101010, "AS", row.patientAge],
    [0x00102160, "SH", row.ethnicGroup],
    [0x00131012, "LO", row.site],
    [0x00180015, "CS", row.bodyPartExamined],
    [0x00181020, "LO", row.softwareVersions],
    [0x00181030, "LO", row.protocolName],
  ];
  for (const element of optional) if (element[2] !== null) elements.push(element);
  if (isDrawn) elements.push([0x00080023, "DA", dicomDate(row.studyDate)], [0x00080033, "TM", "120000"]);
  return elements;
}

function buildInstance(facts: PhantomSeriesFacts, index: number): SandboxInstance {
  // The head is made to know its length and then let go; it is made again when the file is read.
  const sizeBytes = phantomFileBytes(facts, encodePhantomHead(facts, index));
  const read = async function* (): AsyncGenerator<Uint8Array> {
    yield* paintPhantomFile(facts, index);
  };
  return {
    sopInstanceUid: facts.sopInstanceUids[index]!,
    sopClassUid: SOP_CLASSES[facts.kind],
    instanceNumber: index + 1,
    acquisitionNumber:
      facts.kind === "ct" || facts.kind === "scout" || facts.kind === "mr" || facts.kind === "pt" ? 1 : null,
    sizeBytes,
    md5: md5Once(read),
    read,
  };
}

function buildStudy(place: Place): SandboxSeries[] {
  const { seed, study, studyName, collection, patient } = place;
  const drawable: PhantomSeriesFacts[] = [];
  let previousUid = "";
  return study.series.map((planned, index) => {
    const name = `${studyName} series ${index}`;
    const ownUid = uidOf(seed, name);
    const seriesInstanceUid = planned.sharesUidEnding ? ownUid.slice(0, -5) + previousUid.slice(-5) : ownUid;
    previousUid = seriesInstanceUid;
    const row = buildRow(place, planned, index, seriesInstanceUid);
    const facts: PhantomSeriesFacts = {
      kind: planned.kind,
      seriesInstanceUid,
      frameOfReferenceUid: uidOf(seed, `${studyName} frame`),
      shared: sharedElements(row),
      sopInstanceUids: Array.from({ length: planned.images }, (_, image) =>
        uidOf(seed, `${name} image ${image}`),
      ),
      patientNumber: hash32(`${seed} ${collection.collection} ${patient.patientId}`),
      seriesNumber: hash32(`${seed} ${name}`),
      source: drawable.at(-1),
    };
    if (planned.kind === "ct" || planned.kind === "mr") drawable.push(facts);
    const instances = facts.sopInstanceUids.map((_, image) => buildInstance(facts, image));
    return {
      ...row,
      imageCount: planned.announcedImages ?? instances.length,
      fileSizeBytes: instances.reduce((sum, instance) => sum + instance.sizeBytes, 0),
      instances: () => instances,
    };
  });
}

/**
 * The phantom archive: the collections of phantom-plan.ts, awkward on purpose. UIDs, dates, lesions and grain depend
 * on `seed` (any integer) and nothing else; names, counts and descriptions are always the same. Heads are made once
 * to know their sizes, pixels only when an image is read.
 */
export function buildPhantomDataset(options: { readonly seed: number }): Dataset {
  const { seed } = options;
  const all: SandboxSeries[] = [];
  for (const collection of PHANTOM_PLAN) {
    for (const patient of collection.patients) {
      for (const [index, study] of patient.studies.entries()) {
        const studyName = `${collection.collection} / ${patient.patientId} / study ${index}`;
        all.push(...buildStudy({ seed, collection, patient, study, studyName }));
      }
    }
  }
  const rows = databaseOrder(all, (series) => series.seriesInstanceUid);
  const byUid = new Map(rows.map((series) => [series.seriesInstanceUid, series]));
  return {
    series: () => rows,
    find: (seriesInstanceUid) => byUid.get(seriesInstanceUid),
    seriesCount: rows.length,
    problems: [],
    collectionDescription: (collection) => {
      const planned = PHANTOM_PLAN.find((candidate) => candidate.collection === collection);
      return planned?.html == null ? undefined : { html: planned.html, doi: planned.doi };
    },
  };
}
