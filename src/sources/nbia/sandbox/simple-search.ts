/**
 * getSimpleSearch: numbered criteria in a form, patients with their studies and series in reply
 * (CBIIT/NBIA-TCIA software/nbia-api restUtil/SearchUtil.java).
 */
import type { SandboxSeries } from "../../../sandbox/data/dataset.ts";
import type { Reply } from "../../../sandbox/stand-ins.ts";
import { parseDashDate } from "./dates.ts";
import { type ArchiveView, type Call, FILTERS, type NamedEndpoint, patientKey } from "./view.ts";

export function* simpleSearchEndpoints(view: ArchiveView): Iterable<NamedEndpoint> {
  for (const [name, api] of [
    ["getSimpleSearch", "v4"],
    ["getSimpleSearchWithModalityAndBodyPartPaged", "advanced"],
  ] as const) {
    yield [name, { apis: [api], verb: "POST", serves: "rows", run: (call) => search(view, call) }];
  }
}

interface Patient {
  readonly first: SandboxSeries;
  readonly studies: Map<string, string[]>;
  readonly modalities: Set<string>;
  readonly bodyParts: Set<string>;
  series: number;
}

async function search(view: ArchiveView, call: Call): Promise<Reply> {
  const form = call.request.form;
  const { wanted, minStudies } = readCriteria(form);
  const found = new Map<string, Patient>();
  for await (const series of view.series(call, wanted)) {
    const key = patientKey(series);
    const patient: Patient = found.get(key) ?? {
      first: series,
      studies: new Map(),
      modalities: new Set(),
      bodyParts: new Set(),
      series: 0,
    };
    found.set(key, patient);
    const uids = patient.studies.get(series.studyInstanceUid) ?? [];
    patient.studies.set(series.studyInstanceUid, [...uids, series.seriesInstanceUid]);
    if (series.modality !== null) patient.modalities.add(series.modality);
    if (series.bodyPartExamined !== null) patient.bodyParts.add(series.bodyPartExamined.toUpperCase());
    patient.series++;
  }
  const patients = [...found.values()].filter(({ studies }) => studies.size >= minStudies);
  patients.sort(order(form.get("sortField"), form.get("sortDirection")));
  const start = Number(form.get("start") ?? 0);
  const size = Number(form.get("size") ?? patients.length);
  const reply = {
    resultSet: patients.slice(start, start + size).map((patient, index) => ({
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
    sort: form.get("sortField") ?? "subject",
  };
  return { status: 200, headers: { "Content-Type": "application/json" }, body: JSON.stringify(reply) };
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

/** Columns by the name of a criterion in small letters. */
const COLUMNS: Readonly<Record<string, string>> = {
  collectioncriteria: "Collection",
  imagemodalitycriteria: "Modality",
  anatomicalsitecriteria: "BodyPartExamined",
  bodypartexaminedcriteria: "BodyPartExamined",
  manufacturercriteria: "Manufacturer",
  modelcriteria: "ManufacturerModelName",
  patientcriteria: "PatientID",
  studycriteria: "StudyInstanceUID",
  seriescriteria: "SeriesInstanceUID",
};

/** One type given twice is a union, different types are an intersection. The first missing number ends the list. */
function readCriteria(form: URLSearchParams) {
  const unions = new Map<string, Set<string>>();
  const tests: ((series: SandboxSeries) => boolean)[] = [];
  let minStudies = 0;
  for (let number = 0; form.has(`criteriaType${number}`); number++) {
    const type = form.get(`criteriaType${number}`)!.toLowerCase();
    const value = form.get(`value${number}`) ?? "";
    if (type === "daterangecriteria") {
      const from = parseDashDate(form.get(`fromDate${number}`) ?? "") ?? "";
      const to = parseDashDate(form.get(`toDate${number}`) ?? "")?.replace("00:00:00", "23:59:59") ?? "9";
      tests.push(({ submittedAt }) => submittedAt >= from && submittedAt <= to);
    } else if (type === "minnumberofstudiescriteria") minStudies = Number(value);
    else if (type === "patientsexcriteria") tests.push(({ patientSex }) => patientSex === value);
    else if (type === "speciescriteria")
      tests.push(({ species }) => (species?.code ?? "337915000") === value);
    else if (type in COLUMNS) {
      const union = unions.get(type) ?? new Set();
      unions.set(type, union.add(value.toUpperCase()));
    }
  }
  for (const [type, values] of unions) {
    const cell = FILTERS[COLUMNS[type]!]!;
    tests.push((series) => values.has(cell(series)?.toUpperCase() ?? ""));
  }
  return { wanted: (series: SandboxSeries) => tests.every((test) => test(series)), minStudies };
}
