/** Rows of any NBIA version under the names of v4. Pure. */

/** A row as it comes: null columns are absent keys, numbers may be text. */
export type WireRow = Readonly<Record<string, unknown>>;

/**
 * Older names of columns: v1 and v2 getSeries, the study's diagnosis (also in v4), the list contents and the
 * spaced names of getSeriesMetaData and getSeriesMetadata2, whose `File Location` holds the study's ID
 * (V1_getSeriesMetaData.java).
 */
const NAMES: Readonly<Record<string, string>> = {
  TimeStamp: "MaxSubmissionTimestamp",
  CollectionURI: "DataDescriptionURI",
  AdmittingDiagnosesDescription: "AdmittingDiagnosisDescription",
  "Date Released": "DateReleased",
  "Series UID": "SeriesInstanceUID",
  "Series ID": "SeriesInstanceUID",
  "Collection Name": "Collection",
  "3rd Party Analysis": "ThirdPartyAnalysis",
  "Data Description URI": "DataDescriptionURI",
  "Subject ID": "PatientID",
  "Study UID": "StudyInstanceUID",
  "Study Description": "StudyDesc",
  "Study Date": "StudyDate",
  "Series Description": "SeriesDescription",
  "SOP Class UID": "SOPClassUID",
  "Number of Images": "ImageCount",
  "Number of images": "ImageCount",
  "File Size": "FileSize",
  "File Size (Bytes)": "FileSize",
  "File Location": "StudyID",
  "Series Number": "SeriesNumber",
  "License Name": "LicenseName",
  "License URL": "LicenseURI",
  "Annotation Size": "AnnotationSize",
  "Series Date": "SeriesDate",
  "Protocol Name": "ProtocolName",
  "Body Part Examined": "BodyPartExamined",
  "Annotations Flag": "AnnotationsFlag",
  "Manufacturer Model Name": "ManufacturerModelName",
  "Software Versions": "SoftwareVersions",
};

/** `listsPatients`: of an endpoint whose rows are patients, which say PatientId, and of old may say PatientID. */
export function normalRow(row: WireRow, listsPatients: boolean): WireRow {
  let renamed: Record<string, unknown> | null = null;
  if (listsPatients && row.PatientId === undefined && row.PatientID !== undefined)
    renamed = { ...row, PatientId: row.PatientID };
  for (const name of Object.keys(row)) {
    const newest = NAMES[name];
    if (newest === undefined) continue;
    renamed ??= { ...row };
    renamed[newest] = row[name];
    delete renamed[name];
  }
  return renamed ?? row;
}

/** Columns of a study that v1's rows of series do not have under any name. */
const OF_STUDY = ["StudyID", "PatientSex", "PatientAge", "AdmittingDiagnosisDescription"];
/** And those that the oldest rows lack, which end with ImageCount. By the series' name, then the study's. */
const OF_OLD_STUDY: readonly (readonly [string, string])[] = [
  ["StudyDate", "StudyDate"],
  ["StudyDesc", "StudyDescription"],
  ["Collection", "Collection"],
  ["PatientID", "PatientID"],
];

/**
 * A row of getSeries with what only its study's row (getPatientStudy) tells. A column that the version has and this
 * series has not stays absent: a study may say more than its series.
 */
export function withStudy(series: WireRow, study: WireRow): WireRow {
  const row: Record<string, unknown> = { ...series };
  const fill = (column: string, value: unknown): void => {
    if (row[column] === undefined && value !== undefined) row[column] = value;
  };
  for (const column of OF_STUDY) fill(column, study[column]);
  const isOld = row.MaxSubmissionTimestamp === undefined && row.FileSize === undefined;
  if (isOld) for (const [column, ofStudy] of OF_OLD_STUDY) fill(column, study[ofStudy]);
  return row;
}

/** The columns of a study that `withStudy` reads. */
export function studyPart(study: WireRow): WireRow {
  const columns = [...OF_STUDY, ...OF_OLD_STUDY.map(([, ofStudy]) => ofStudy)];
  return Object.fromEntries(columns.map((column) => [column, study[column]]));
}
