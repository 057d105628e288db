/**
 * getSimpleSearch: numbered criteria in a form, patients with their studies and series in reply
 * (CBIIT/NBIA-TCIA software/nbia-api restUtil/SearchUtil.java).
 */
import type { SandboxSeries } from "../../../sandbox/data/dataset.ts";
import type { Reply } from "../../../sandbox/stand-ins.ts";
import { parseDashDate } from "./dates.ts";
import { serverError } from "./format.ts";
import { manifest } from "./manifests.ts";
import { type ArchiveView, type Call, FILTERS, type NamedEndpoint, patientKey } from "./view.ts";

export function* simpleSearchEndpoints(view: ArchiveView): Iterable<NamedEndpoint> {
  for (const [name, api] of [
    ["getSimpleSearch", "v4"],
    ["getSimpleSearchWithModalityAndBodyPartPaged", "advanced"],
  ] as const) {
    yield [name, { apis: [api], verb: "POST", serves: "rows", run: (call) => search(view, call) }];
  }
  yield [
    "getManifestForSimpleSearch",
    { apis: ["v4", "advanced"], verb: "POST", serves: "page", run: (call) => searchManifest(view, call) },
  ];
}

interface Patient {
  readonly first: SandboxSeries;
  readonly studies: Map<string, string[]>;
  readonly modalities: Set<string>;
  readonly bodyParts: Set<string>;
  readonly studyDates: Set<string>;
  series: number;
}

async function search(view: ArchiveView, call: Call): Promise<Reply> {
  const result = await searched(view, call);
  if ("status" in result) return result;
  const { patients, page, start } = result;
  const reply = {
    resultSet: page.map((patient, index) => ({
      subjectId: patient.first.patientId,
      project: patient.first.collection,
      id: start + index + 1,
      studyIdentifiers: [...patient.studies].map(([studyIdentifier, seriesIdentifiers]) => ({
        studyIdentifier,
        seriesIdentifiers,
      })),
      totalNumberOfStudies: patient.studies.size,
      totalNumberOfSeries: patient.series,
      modalities: [...patient.modalities].sort(),
      bodyParts: [...patient.bodyParts].sort(),
      species: [patient.first.species?.code ?? "337915000"],
      timepoints: [],
      authorized: 1,
    })),
    totalPatients: patients.length,
    bodyParts: facet(patients, ({ bodyParts }) => bodyParts),
    modalities: facet(patients, ({ modalities }) => modalities),
    collections: facet(patients, ({ first }) => [first.collection]),
    species: facet(patients, ({ first }) => [first.species?.code ?? "337915000"]),
    sort: call.request.form.get("sortField") ?? "subject",
  };
  return { status: 200, headers: { "Content-Type": "application/json" }, body: JSON.stringify(reply) };
}

/** The manifest of the page's series (restAPI/v4/GetManifestForSimpleSearch.java); annotations are never asked for. */
async function searchManifest(view: ArchiveView, call: Call): Promise<Reply> {
  const result = await searched(view, call);
  if ("status" in result) return result;
  return manifest(
    call,
    result.page.flatMap(({ studies }) => [...studies.values()].flat()),
  );
}

/** Patients that match, sorted, and those of them that `start` and `size` ask for. */
async function searched(
  view: ArchiveView,
  call: Call,
): Promise<{ patients: readonly Patient[]; page: readonly Patient[]; start: number } | Reply> {
  const form = call.request.form;
  let criteria: Criteria;
  let start: number;
  let size: number | null;
  try {
    criteria = readCriteria(form, call.api);
    start = wholeNumber(form.get("start") ?? "0");
    size = form.has("size") ? wholeNumber(form.get("size")!) : null;
  } catch (error) {
    if (error instanceof SearchError) return serverError(error.message);
    throw error;
  }
  const { wanted, wantedPatient } = criteria;
  const found = new Map<string, Patient>();
  for await (const series of view.series(call, wanted)) {
    const key = patientKey(series);
    const patient: Patient = found.get(key) ?? {
      first: series,
      studies: new Map(),
      modalities: new Set(),
      bodyParts: new Set(),
      studyDates: new Set(),
      series: 0,
    };
    found.set(key, patient);
    const uids = patient.studies.get(series.studyInstanceUid) ?? [];
    patient.studies.set(series.studyInstanceUid, [...uids, series.seriesInstanceUid]);
    if (series.modality !== null) patient.modalities.add(series.modality);
    if (series.bodyPartExamined !== null) patient.bodyParts.add(series.bodyPartExamined.toUpperCase());
    if (series.studyDate !== null) patient.studyDates.add(series.studyDate);
    patient.series++;
  }
  const patients = [...found.values()].filter(wantedPatient);
  patients.sort(order(form.get("sortField"), form.get("sortDirection")));
  return { patients, page: patients.slice(start, start + (size ?? patients.length)), start };
}

function facet(patients: readonly Patient[], values: (patient: Patient) => Iterable<string>) {
  const counts = new Map<string, number>();
  for (const patient of patients) {
    for (const value of values(patient)) counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  return [...counts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([value, count]) => ({ value, count }));
}

function order(field: string | null, direction: string | null): (a: Patient, b: Patient) => number {
  const sign = direction === "descending" ? -1 : 1;
  const text = (patient: Patient) =>
    field === "collection" ? patient.first.collection : patient.first.patientId;
  return (a, b) => {
    if (field === "studies") return sign * (a.studies.size - b.studies.size);
    if (field === "series") return sign * (a.series - b.series);
    return text(a) === text(b) ? 0 : text(a) < text(b) ? -sign : sign;
  };
}

/** What the server can't make sense of, and what the stand-in does not know: the message of its 500. */
class SearchError extends Error {}

interface Criteria {
  wanted(series: SandboxSeries): boolean;
  wantedPatient(patient: Patient): boolean;
}

/** A column's value by the name of a criterion in small letters; compared without case. */
const COLUMNS: Readonly<Record<string, (series: SandboxSeries) => string | null>> = {
  collectioncriteria: FILTERS.Collection!,
  imagemodalitycriteria: FILTERS.Modality!,
  anatomicalsitecriteria: FILTERS.BodyPartExamined!,
  bodypartexaminedcriteria: FILTERS.BodyPartExamined!,
  manufacturercriteria: FILTERS.Manufacturer!,
  modelcriteria: FILTERS.ManufacturerModelName!,
  softwareversioncriteria: (series) => series.softwareVersions,
  patientcriteria: FILTERS.PatientID!,
  studycriteria: FILTERS.StudyInstanceUID!,
  seriescriteria: FILTERS.SeriesInstanceUID!,
  patientsexcriteria: (series) => series.patientSex,
  speciescriteria: (series) => series.species?.code ?? "337915000",
  thirdpartyanalysis: (series) => series.thirdPartyAnalysis,
};

/** What `fromN` and `toN` bound, both inclusive; a series without a value is not found. */
const RANGES: Readonly<Record<string, (series: SandboxSeries) => number | null>> = {
  patientagerangecriteria: ({ patientAge }) => years(patientAge),
  pixelspacingrangecriteria: ({ pixelSpacingMm }) =>
    pixelSpacingMm === null ? null : Number(pixelSpacingMm),
  slicethicknessrangecriteria: ({ sliceThicknessMm }) =>
    sliceThicknessMm === null ? null : Number(sliceThicknessMm),
};

/** DICOM ages in whole years (DICOMQueryHandlerImpl.java processPatientAgeRange, which knows no days). */
function years(age: string | null): number | null {
  const [, digits, unit] = /^(\d+)([ymw])$/i.exec(age ?? "") ?? [];
  if (digits === undefined || unit === undefined) return null;
  return Math.floor(Number(digits) / { y: 1, m: 12, w: 52 }[unit.toLowerCase() as "y" | "m" | "w"]);
}

/**
 * A word of it, or a "phrase", in the description of study or series or in the protocol; `*` is anything
 * (DICOMQueryHandlerImpl.java processDescription).
 */
function describedBy(text: string): (series: SandboxSeries) => boolean {
  const words = (
    text
      .toUpperCase()
      .replace(/\s+/g, " ")
      .match(/(?:"[^"]*"|[^" ])+/g) ?? []
  ).map((word) =>
    word
      .replaceAll('"', "")
      .split(/[*%]/)
      .map((part) => part.replace(/[^\w\s]/g, "\\$&"))
      .join(".*"),
  );
  if (words.length === 0) return () => true;
  const pattern = new RegExp(words.join("|"), "s");
  return ({ studyDescription, seriesDescription, protocolName }) =>
    [studyDescription, seriesDescription, protocolName].some(
      (cell) => cell !== null && pattern.test(cell.toUpperCase()),
    );
}

/**
 * One type given twice is a union, different types are an intersection. The first missing number ends the list.
 * Criteria that the stand-in does not know (commercial, time point) throw `SearchError`: a search that ignored them would find too much.
 */
function readCriteria(form: URLSearchParams, api: Call["api"]): Criteria {
  const unions = new Map<string, Set<string>>();
  const tests: ((series: SandboxSeries) => boolean)[] = [];
  const patientTests: ((patient: Patient) => boolean)[] = [];
  const modalities = new Set<string>();
  for (let number = 0; form.has(`criteriaType${number}`); number++) {
    const given = form.get(`criteriaType${number}`)!;
    const type = given.toLowerCase();
    const value = (): string => {
      const text = form.get(`value${number}`);
      if (text === null) throw new SearchError("null");
      return text;
    };
    const day = (name: string): string => {
      const text = form.get(`${name}${number}`);
      const parsed = text === null ? undefined : parseDashDate(text);
      if (parsed === undefined) throw new SearchError(`Unparseable date: "${text ?? ""}"`);
      return parsed;
    };
    if (type === "daterangecriteria") {
      const from = day("fromDate");
      const to = day("toDate").replace("00:00:00", "23:59:59");
      tests.push(({ submittedAt }) => submittedAt >= from && submittedAt <= to);
    } else if (type === "minnumberofstudiescriteria") {
      const least = wholeNumber(value());
      patientTests.push(({ studies }) => studies.size >= least);
    } else if (type === "minnumberofstudydatescriteria") {
      const least = wholeNumber(value());
      patientTests.push(({ studyDates }) => studyDates.size >= least);
    } else if (type === "modalityandedsearchcriteria") {
      if (value().toLowerCase() !== "all") continue;
      patientTests.push((patient) => {
        const held = new Set([...patient.modalities].map((modality) => modality.toUpperCase()));
        return [...modalities].every((modality) => held.has(modality));
      });
    } else if (type in RANGES) {
      const cell = RANGES[type]!;
      const [from, to] = [decimal(form.get(`from${number}`)), decimal(form.get(`to${number}`))];
      tests.push((series) => {
        const found = cell(series);
        return found !== null && found >= from && found <= to;
      });
    } else if (type === "phantomcriteria") {
      // 0 all, 1 without phantoms, 2 phantoms only (PhantomCriteria.java); every patient here is said to be none.
      const onlyPhantoms = value() === "2";
      tests.push(() => !onlyPhantoms);
    } else if (type === "descriptioncriteria") {
      tests.push(describedBy(value()));
    } else if (type in COLUMNS && (type !== "bodypartexaminedcriteria" || api === "v4")) {
      const union = unions.get(type) ?? new Set();
      unions.set(type, union.add(value().toUpperCase()));
      if (type === "imagemodalitycriteria") modalities.add(value().toUpperCase());
    } else throw new SearchError(`the sandbox does not know the criterion ${given}`);
  }
  for (const [type, values] of unions) {
    const cell = COLUMNS[type]!;
    tests.push((series) => {
      const text = cell(series);
      return text !== null && values.has(text.toUpperCase());
    });
  }
  return {
    wanted: (series) => tests.every((test) => test(series)),
    wantedPatient: (patient) => patientTests.every((test) => test(patient)),
  };
}

/** As java.lang.Double.parseDouble, its message included. */
function decimal(text: string | null): number {
  if (text === null) throw new SearchError("null");
  if (!/^[+-]?\d+(\.\d*)?$/.test(text)) throw new SearchError(`For input string: "${text}"`);
  return Number(text);
}

/** As java.lang.Integer.valueOf, its message included. */
function wholeNumber(text: string): number {
  if (!/^[+-]?\d+$/.test(text)) throw new SearchError(`For input string: "${text}"`);
  return Math.max(0, Number(text));
}
