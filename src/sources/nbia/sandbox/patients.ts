/** Endpoints that list patients and studies. */
import type { SandboxSeries } from "../../../sandbox/data/dataset.ts";
import type { Reply } from "../../../sandbox/stand-ins.ts";
import { parseDashDate, parseSlashDate } from "./dates.ts";
import { badRequest, formatRows, type Row, serverError } from "./format.ts";
import * as tables from "./rows.ts";
import {
  type ArchiveView,
  type Call,
  mapped,
  type NamedEndpoint,
  patientKey,
  REQUIRED,
  SEARCHES,
} from "./view.ts";

export function* patientEndpoints(view: ArchiveView): Iterable<NamedEndpoint> {
  const patients = (call: Call) => (call.api === "v4" ? tables.PATIENT_V4 : tables.PATIENT_V1);
  const studies = (call: Call) => (call.api === "v4" ? tables.STUDY_V4 : tables.STUDY_V1);
  const listPatients = (call: Call, wanted: (series: SandboxSeries) => boolean) => {
    const { columns, row } = patients(call);
    return formatRows(columns, mapped(firstOfPatients(view.series(call, wanted)), row), call.query("format"));
  };
  const listStudies = async (call: Call, wanted: (series: SandboxSeries) => boolean) => {
    const found = new Map<string, tables.Study>();
    for await (const series of view.series(call, wanted)) {
      const study = found.get(series.studyInstanceUid);
      if (study === undefined) found.set(series.studyInstanceUid, { first: series, seriesCount: 1 });
      else study.seriesCount++;
    }
    const { columns, row } = studies(call);
    return formatRows(columns, [...found.values()].map(row), call.query("format"));
  };
  /** The lower bound of the New… endpoints, or the refusal. */
  const since = (call: Call): string | Reply => {
    const given = call.query(call.api === "v4" ? "fromDate" : "Date");
    if (call.query("Collection") === null || given === null) return badRequest(REQUIRED.newItems);
    return (
      (call.api === "v4" ? parseDashDate : parseSlashDate)(given) ??
      serverError(`Unparseable date: "${given}"`)
    );
  };

  const patientFilters = ["Collection", "PatientId"];
  yield [
    "getPatient",
    {
      apis: SEARCHES,
      verb: "GET",
      serves: "rows",
      allowed: [...patientFilters, "format"],
      run: (call) => listPatients(call, view.filter(call, patientFilters)),
    },
  ];
  const studyFilters = ["Collection", "PatientID", "StudyInstanceUID"];
  yield [
    "getPatientStudy",
    {
      apis: SEARCHES,
      verb: "GET",
      serves: "rows",
      allowed: [...studyFilters, "format"],
      run: (call) => listStudies(call, view.filter(call, studyFilters)),
    },
  ];
  yield [
    "getPatientByCollectionAndModality",
    {
      apis: SEARCHES,
      verb: "GET",
      serves: "rows",
      allowed: ["Collection", "Modality", "format"],
      run: (call) => {
        if (call.query("Collection") === null || call.query("Modality") === null) {
          return badRequest(REQUIRED.collectionAndModality);
        }
        const found = firstOfPatients(view.series(call, view.filter(call, ["Collection", "Modality"])));
        const v4 = call.api === "v4";
        const columns = v4 ? ["PatientId", "Authorized"] : ["PatientId"];
        const row = ({ patientId }: SandboxSeries): Row => (v4 ? [patientId, 1] : [patientId]);
        return formatRows(columns, mapped(found, row), call.query("format"));
      },
    },
  ];
  yield [
    "NewPatientsInCollection",
    {
      apis: SEARCHES,
      verb: "GET",
      serves: "rows",
      allowed: ["Collection", "fromDate", "format"],
      run: (call) => {
        const from = since(call);
        if (typeof from !== "string") return from;
        const inCollection = view.filter(call, ["Collection"]);
        return listPatients(call, (series) => inCollection(series) && series.submittedAt >= from);
      },
    },
  ];
  yield [
    "NewStudiesInPatientCollection",
    {
      apis: SEARCHES,
      verb: "GET",
      serves: "rows",
      allowed: ["Collection", "fromDate", "PatientID", "format"],
      run: (call) => {
        const from = since(call);
        if (typeof from !== "string") return from;
        const inPatient = view.filter(call, ["Collection", "PatientID"]);
        return listStudies(call, (series) => inPatient(series) && series.submittedAt >= from);
      },
    },
  ];
}

async function* firstOfPatients(found: AsyncIterable<SandboxSeries>): AsyncIterable<SandboxSeries> {
  const known = new Set<string>();
  for await (const series of found) {
    const key = patientKey(series);
    if (known.has(key)) continue;
    known.add(key);
    yield series;
  }
}
