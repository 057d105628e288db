/** NBIA v1 and v2, which are the same but for access (restAPI/V1_*.java, V2_*.java of CBIIT/NBIA-TCIA at 865725e). */
import type { Dialect, Parameters, Question } from "./dialect.ts";

/** What a search endpoint takes besides `format`. */
export const V1_SEARCHES: Readonly<Record<string, readonly string[]>> = {
  getCollectionValues: [],
  getModalityValues: ["Collection", "BodyPartExamined"],
  getBodyPartValues: ["Collection", "Modality"],
  getManufacturerValues: ["Collection", "Modality", "BodyPartExamined"],
  getPatient: ["Collection", "PatientId"],
  getPatientStudy: ["Collection", "PatientID", "StudyInstanceUID"],
  getPatientByCollectionAndModality: ["Collection", "Modality"],
  NewPatientsInCollection: ["Collection", "Date"],
  NewStudiesInPatientCollection: ["Collection", "Date", "PatientID"],
  getSeries: [
    "Collection",
    "PatientID",
    "StudyInstanceUID",
    "Modality",
    "BodyPartExamined",
    "ManufacturerModelName",
    "Manufacturer",
    "SeriesInstanceUID",
  ],
  getUpdatedSeries: ["fromDate"],
  getSeriesSize: ["SeriesInstanceUID"],
  getSOPInstanceUIDs: ["SeriesInstanceUID"],
};

/** v4's parameters as an older version names them, without those that it lacks; null: no such endpoint. */
export function olderParameters(
  searches: Readonly<Record<string, readonly string[]>>,
  endpoint: string,
  parameters: Parameters,
): Parameters | null {
  const known = searches[endpoint];
  if (!known) return null;
  const taken = Object.entries(parameters).map(([name, value]) => olderParameter(endpoint, name, value));
  return { ...Object.fromEntries(taken.filter(([name]) => known.includes(name))), format: "json" };
}

/** v4 takes `MM-dd-yyyy` as fromDate everywhere; older: `Date` as `yyyy/MM/dd`, and fromDate as `dd/MM/yyyy`. */
function olderParameter(endpoint: string, name: string, value: string): readonly [string, string] {
  const date = name === "fromDate" ? /^(\d{2})-(\d{2})-(\d{4})$/u.exec(value) : null;
  if (!date) return [name, value];
  const [, month, day, year] = date;
  return endpoint === "getUpdatedSeries"
    ? ["fromDate", `${day}/${month}/${year}`]
    : ["Date", `${year}/${month}/${day}`];
}

export function v1(version: "v1" | "v2"): Dialect {
  const ask = (endpoint: string, parameters: Parameters): Question => ({
    path: `services/${version}/${endpoint}`,
    parameters,
  });
  return {
    access: version === "v1" ? "open" : "guest",
    digests: true,
    bulk: null,
    studiesApart: true,
    rows: (endpoint, parameters) => {
      const older = olderParameters(V1_SEARCHES, endpoint, parameters);
      return older && ask(endpoint, older);
    },
    counts: () => null,
    /** As the official Java client asks (DataRetrieverCLI.java): the names of NewFileNames, and md5hashes.csv. */
    images: (uid) =>
      ask("getDCMImage", { SeriesInstanceUID: uid, IncludeAnnotation: "false", MD5Verification: "true" }),
    image: (uid, sop) => ask("getSingleImage", { SeriesInstanceUID: uid, SOPInstanceUID: sop }),
    // Without the D, and with a small d: so it is written in V1_getM5HashForImage.java.
    md5: (sop) => ask("getM5HashForImage", { SOPInstanceUid: sop }),
    sharedList: (name) => ask("getContentsByName", { name }),
  };
}
