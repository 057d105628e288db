/**
 * Columns of the NBIA replies and the rows that a series of the sandbox's data gives, by generation of the API.
 * Names and order: CBIIT/NBIA-TCIA software/nbia-api restAPI/V1_getSeries.java, restAPI/v4/V4_getSeries.java and
 * their neighbours, official v4 OpenAPI (nbia-api.yaml).
 */
import type { SandboxSeries } from "../../../sandbox/data/dataset.ts";
import { type Cell, Decimal, type Row } from "./format.ts";

type Column<T> = readonly [name: string, cell: (thing: T) => Cell];

export interface Table<T> {
  readonly columns: readonly string[];
  row(thing: T): Row;
}

function table<T>(columns: readonly Column<T>[]): Table<T> {
  const cells = columns.map(([, cell]) => cell);
  return { columns: columns.map(([name]) => name), row: (thing) => cells.map((cell) => cell(thing)) };
}

/** v1 and v2: a java.sql.Timestamp as text, `yyyy-MM-dd HH:mm:ss.0`. */
export function timestamp(moment: string | null): string | null {
  if (moment === null) return null;
  return `${moment.length === 10 ? `${moment} 00:00:00` : moment}.0`;
}

/** v4: `MM-dd-yyyy`, without the time of day. */
export function usDate(moment: string | null): string | null {
  if (moment === null) return null;
  const [year, month, day] = moment.slice(0, 10).split("-");
  return `${month}-${day}-${year}`;
}

/** getSeriesMetaData: java.util.Date.toString(), e.g. `Mon Nov 04 11:45:52 UTC 2013`. */
export function javaDate(moment: string | null): string | null {
  if (moment === null) return null;
  const iso = moment.length === 10 ? `${moment}T00:00:00Z` : `${moment.replace(" ", "T")}Z`;
  const [weekday, day, month, year, time] = new Date(iso).toUTCString().replace(",", "").split(" ");
  return `${weekday} ${month} ${day} ${time} UTC ${year}`;
}

/** Descriptions of getSeriesMetaData lose every character outside this set. */
function stripped(text: string | null): string | null {
  return text === null ? null : text.replace(/[^a-zA-Z0-9 .-]/g, "");
}

const digits = (value: number | null): string | null => (value === null ? null : String(value));
const none = (): null => null;
const decimal = (value: number | null): Decimal | null => (value === null ? null : new Decimal(value));

/** Columns 1 to 15 of v1 getSeries, which other endpoints repeat. */
const SERIES_V1_BASE: readonly Column<SandboxSeries>[] = [
  ["SeriesInstanceUID", (s) => s.seriesInstanceUid],
  ["StudyInstanceUID", (s) => s.studyInstanceUid],
  ["Modality", (s) => s.modality],
  ["ProtocolName", (s) => s.protocolName],
  ["SeriesDate", (s) => timestamp(s.seriesDate)],
  ["SeriesDescription", (s) => s.seriesDescription],
  ["BodyPartExamined", (s) => s.bodyPartExamined],
  ["SeriesNumber", (s) => s.seriesNumber],
  ["AnnotationsFlag", none],
  ["Collection", (s) => s.collection],
  ["PatientID", (s) => s.patientId],
  ["Manufacturer", (s) => s.manufacturer],
  ["ManufacturerModelName", (s) => s.manufacturerModelName],
  ["SoftwareVersions", (s) => s.softwareVersions],
  ["ImageCount", (s) => s.imageCount],
];

export const SERIES_V1 = table<SandboxSeries>([
  ...SERIES_V1_BASE,
  ["TimeStamp", (s) => timestamp(s.submittedAt)],
  ["LicenseName", (s) => s.licenseName],
  ["LicenseURI", (s) => s.licenseUri],
  ["CollectionURI", (s) => s.dataDescriptionUri],
  ["FileSize", (s) => s.fileSizeBytes],
  ["DateReleased", (s) => timestamp(s.releasedAt)],
  ["StudyDesc", (s) => s.studyDescription],
  ["StudyDate", (s) => timestamp(s.studyDate)],
  ["ThirdPartyAnalysis", (s) => s.thirdPartyAnalysis],
]);

export const UPDATED_SERIES_V1 = table<SandboxSeries>([
  ...SERIES_V1_BASE,
  ["DateReleased", (s) => timestamp(s.releasedAt)],
]);

export const CONTENTS_V1 = table<SandboxSeries>([
  ...SERIES_V1_BASE,
  ["Date Released", (s) => timestamp(s.releasedAt)],
]);

export const SERIES_V4 = table<SandboxSeries>([
  ["SeriesInstanceUID", (s) => s.seriesInstanceUid],
  ["StudyInstanceUID", (s) => s.studyInstanceUid],
  ["Modality", (s) => s.modality],
  ["ProtocolName", (s) => s.protocolName],
  ["SeriesDate", (s) => usDate(s.seriesDate)],
  ["SeriesDescription", (s) => s.seriesDescription],
  ["BodyPartExamined", (s) => s.bodyPartExamined],
  ["SeriesNumber", (s) => decimal(s.seriesNumber)],
  ["AnnotationsFlag", none],
  ["Collection", (s) => s.collection],
  ["Site", (s) => s.site],
  ["PatientID", (s) => s.patientId],
  ["PatientSex", (s) => s.patientSex],
  ["PatientAge", (s) => s.patientAge],
  ["AdmittingDiagnosisDescription", (s) => s.admittingDiagnosis],
  ["Manufacturer", (s) => s.manufacturer],
  ["ManufacturerModelName", (s) => s.manufacturerModelName],
  ["SoftwareVersions", (s) => s.softwareVersions],
  ["ImageCount", (s) => s.imageCount],
  ["MaxSubmissionTimestamp", (s) => usDate(s.submittedAt)],
  ["LicenseName", (s) => s.licenseName],
  ["LicenseURI", (s) => s.licenseUri],
  ["DataDescriptionURI", (s) => s.dataDescriptionUri],
  ["FileSize", (s) => s.fileSizeBytes],
  ["ReleasedStatus", () => "Yes"],
  ["DateReleased", (s) => usDate(s.releasedAt)],
  ["StudyDesc", (s) => s.studyDescription],
  ["StudyDate", (s) => usDate(s.studyDate)],
  ["ThirdPartyAnalysis", (s) => s.thirdPartyAnalysis],
  ["Authorized", () => 1],
]);

const HUMAN = { code: "337915000", description: "Homo sapiens" };
const species = (s: SandboxSeries) => s.species ?? HUMAN;

/** POST v4/getSeriesMetadata: every value is text. */
export const METADATA_V4 = table<SandboxSeries>([
  ["PatientID", (s) => s.patientId],
  ["PatientName", (s) => s.patientName],
  ["PatientSex", (s) => s.patientSex],
  ["EthnicGroup", (s) => s.ethnicGroup],
  ["Phantom", () => "NO"],
  ["SpeciesCode", (s) => species(s).code],
  ["SpeciesDescription", (s) => species(s).description],
  ["StudyInstanceUID", (s) => s.studyInstanceUid],
  ["StudyDate", (s) => usDate(s.studyDate)],
  ["StudyDesc", (s) => s.studyDescription],
  ["AdmittingDiagnosisDescription", (s) => s.admittingDiagnosis],
  ["StudyID", (s) => s.studyId],
  ["PatientAge", (s) => s.patientAge],
  ["LongitudinalTemporalEventType", none],
  ["LongitudinalTemporalOffsetFromEvent", none],
  ["SeriesInstanceUID", (s) => s.seriesInstanceUid],
  ["Collection", (s) => s.collection],
  ["Site", (s) => s.site],
  ["Modality", (s) => s.modality],
  ["ProtocolName", (s) => s.protocolName],
  ["SeriesDate", (s) => usDate(s.seriesDate)],
  ["SeriesDescription", (s) => s.seriesDescription],
  ["BodyPartExamined", (s) => s.bodyPartExamined],
  ["SeriesNumber", (s) => decimal(s.seriesNumber)?.toString() ?? null],
  ["AnnotationsFlag", none],
  ["Manufacturer", (s) => s.manufacturer],
  ["ManufacturerModelName", (s) => s.manufacturerModelName],
  ["PixelSpacing(mm)-Row", (s) => s.pixelSpacingMm],
  ["SliceThickness(mm)", (s) => s.sliceThicknessMm],
  ["SoftwareVersions", (s) => s.softwareVersions],
  ["ImageCount", (s) => digits(s.imageCount)],
  ["MaxSubmissionTimestamp", (s) => usDate(s.submittedAt)],
  ["LicenseName", (s) => s.licenseName],
  ["LicenseURI", (s) => s.licenseUri],
  ["DataDescriptionURI", (s) => s.dataDescriptionUri],
  ["FileSize", (s) => digits(s.fileSizeBytes)],
  ["ReleasedStatus", () => "Yes"],
  ["DateReleased", (s) => usDate(s.releasedAt)],
  ["ThirdPartyAnalysis", (s) => s.thirdPartyAnalysis],
  ["Authorized", () => "1"],
]);

/** getSeriesMetaData of v1 and v2: blanks in the names, every value text. `File Location` holds the StudyID. */
export const METADATA_V1 = table<SandboxSeries>([
  ["Series UID", (s) => s.seriesInstanceUid],
  ["Collection", (s) => s.collection],
  ["3rd Party Analysis", (s) => s.thirdPartyAnalysis],
  ["Data Description URI", (s) => s.dataDescriptionUri],
  ["Subject ID", (s) => s.patientId],
  ["Study UID", (s) => s.studyInstanceUid],
  ["Study Description", (s) => stripped(s.studyDescription)],
  ["Study Date", (s) => usDate(s.studyDate)],
  ["Series Description", (s) => stripped(s.seriesDescription)],
  ["Manufacturer", (s) => s.manufacturer?.replaceAll(",", " ") ?? null],
  ["Modality", (s) => s.modality],
  ["SOP Class UID", (s) => s.instances()[0]?.sopClassUid ?? null],
  ["Number of Images", (s) => digits(s.imageCount)],
  ["File Size", (s) => digits(s.fileSizeBytes)],
  ["File Location", (s) => s.studyId],
  ["Series Number", (s) => decimal(s.seriesNumber)?.toString() ?? null],
  ["License Name", (s) => s.licenseName],
  ["License URL", (s) => s.licenseUri],
  ["Annotation Size", () => "0"],
  ["Date Released", (s) => javaDate(s.releasedAt)],
  ["Series Date", (s) => javaDate(s.seriesDate)],
  ["Protocol Name", (s) => s.protocolName],
  ["Body Part Examined", (s) => s.bodyPartExamined],
  ["Annotations Flag", none],
  ["Manufacturer Model Name", (s) => s.manufacturerModelName],
  ["Software Versions", (s) => s.softwareVersions],
  ["TimeStamp", (s) => javaDate(s.submittedAt)],
]);

/** POST getSeriesMetadata2 (unversioned). */
export const METADATA_2 = table<SandboxSeries>([
  ["Subject ID", (s) => s.patientId],
  ["Study UID", (s) => s.studyInstanceUid],
  ["Study Description", (s) => s.studyDescription],
  ["Study Date", (s) => s.studyDate],
  ["Series ID", (s) => s.seriesInstanceUid],
  ["Series Description", (s) => s.seriesDescription],
  ["Number of images", (s) => digits(s.imageCount)],
  ["File Size (Bytes)", (s) => digits(s.fileSizeBytes)],
  ["Collection Name", (s) => s.collection],
  ["Modality", (s) => s.modality],
  ["Manufacturer", (s) => s.manufacturer],
  ["3rd Party Analysis", (s) => s.thirdPartyAnalysis],
  ["Data Description URI", (s) => s.dataDescriptionUri],
  ["Series Number", (s) => decimal(s.seriesNumber)?.toString() ?? null],
  ["License Name", (s) => s.licenseName],
  ["License URL", (s) => s.licenseUri],
  ["Date Released", (s) => timestamp(s.releasedAt)],
  ["Series Date", (s) => timestamp(s.seriesDate)],
  ["Protocol Name", (s) => s.protocolName],
  ["Body Part Examined", (s) => s.bodyPartExamined],
  ["Annotations Flag", none],
  ["Manufacturer Model Name", (s) => s.manufacturerModelName],
  ["Software Versions", (s) => s.softwareVersions],
  ["TimeStamp", (s) => timestamp(s.submittedAt)],
]);

const patientColumns = (birthDate: boolean): readonly Column<SandboxSeries>[] => [
  ["PatientId", (s) => s.patientId],
  ["PatientName", (s) => s.patientName],
  ...(birthDate
    ? ([["PatientBirthDate", (s) => timestamp(s.patientBirthDate)]] satisfies Column<SandboxSeries>[])
    : []),
  ["PatientSex", (s) => s.patientSex],
  ["EthnicGroup", (s) => s.ethnicGroup],
  ["Collection", (s) => s.collection],
  ["Phantom", () => "NO"],
  ["SpeciesCode", (s) => species(s).code],
  ["SpeciesDescription", (s) => species(s).description],
];

export const PATIENT_V1 = table<SandboxSeries>(patientColumns(true));
export const PATIENT_V4 = table<SandboxSeries>([...patientColumns(false), ["Authorized", () => 1]]);

/** A study: its first series in database order, and how many there are. */
export interface Study {
  readonly first: SandboxSeries;
  seriesCount: number;
}

const studyColumns = (v4: boolean): readonly Column<Study>[] => [
  ["StudyInstanceUID", ({ first }) => first.studyInstanceUid],
  ["StudyDate", ({ first }) => (v4 ? usDate : timestamp)(first.studyDate)],
  ["StudyDescription", ({ first }) => first.studyDescription],
  ["AdmittingDiagnosesDescription", ({ first }) => first.admittingDiagnosis],
  ["StudyID", ({ first }) => first.studyId],
  ["PatientAge", ({ first }) => first.patientAge],
  ["PatientID", ({ first }) => first.patientId],
  ["PatientName", ({ first }) => first.patientName],
  ...(v4
    ? []
    : ([["PatientBirthDate", ({ first }) => timestamp(first.patientBirthDate)]] satisfies Column<Study>[])),
  ["PatientSex", ({ first }) => first.patientSex],
  ["EthnicGroup", ({ first }) => first.ethnicGroup],
  ["Collection", ({ first }) => first.collection],
  ["SeriesCount", ({ seriesCount }) => seriesCount],
  ["LongitudinalTemporalEventType", none],
  ["LongitudinalTemporalOffsetFromEvent", none],
];

export const STUDY_V1 = table<Study>(studyColumns(false));
/** Columns of an endpoint of v1, undefined for one that gives no rows. */
export function columnsOf(endpoint: string): readonly string[] | undefined {
  return COLUMNS_V1.get(endpoint);
}

export const STUDY_V4 = table<Study>([...studyColumns(true), ["Authorized", () => 1]]);

const COLUMNS_V1: ReadonlyMap<string, readonly string[]> = new Map([
  ["getCollectionValues", ["Collection"]],
  ["getModalityValues", ["Modality"]],
  ["getBodyPartValues", ["BodyPartExamined"]],
  ["getManufacturerValues", ["Manufacturer"]],
  ["getPatient", PATIENT_V1.columns],
  ["NewPatientsInCollection", PATIENT_V1.columns],
  ["getPatientByCollectionAndModality", ["PatientId"]],
  ["getPatientStudy", STUDY_V1.columns],
  ["NewStudiesInPatientCollection", STUDY_V1.columns],
  ["getSeries", SERIES_V1.columns],
  ["getSeriesSize", ["TotalSizeInBytes", "ObjectCount"]],
  ["getSOPInstanceUIDs", ["SOPInstanceUID"]],
  ["getContentsByName", CONTENTS_V1.columns],
]);
