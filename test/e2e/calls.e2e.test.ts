/**
 * docs/coming-from/calls.md: each line is run as it stands, and what it gives is compared with what the old endpoint
 * says, for every version of NBIA that has it.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { type Gantry, type Listing, NO_FILTERS, type Row, type Run } from "../../src/index.ts";
import { unzip } from "../../src/lib/unzip.ts";
import { buildPhantomDataset } from "../../src/sandbox/data/phantom.ts";
import { openDesk } from "../support/documented.ts";
import { atEnd, dataDigests, ensureBuilt, freshDir, root, startStage } from "../support/gantry.ts";

const ONE = { timeout: 60_000 };
const text = readFileSync(join(root, "docs/coming-from/calls.md"), "utf8");

interface Call {
  readonly old: string;
  /** Endpoint under v4's name; empty where nothing is offered. */
  readonly asks: string;
  readonly line: string;
  readonly library: string;
}

const calls: Call[] = [...text.matchAll(/^\| `(.+)` \| (?:`(\w+)`)? ?\| (.+) \| (.*)\|$/gmu)].map(
  ([, old = "", asks = "", line = "", library = ""]) => ({
    old,
    asks,
    line: line.replace(/^`(.*)`$/u, "$1"),
    library: library.trim().replace(/^`(.*)`$/u, "$1"),
  }),
);
const offered = calls.filter(({ line }) => line.startsWith("gantry "));
/** Rows with one answer are judged once. */
const questions = [...new Map(offered.map((call) => [`${call.asks} ${call.line}`, call])).values()];

// --- What the lines are about --------------------------------------------------------------------------------------

const shown = [...buildPhantomDataset({ seed: 1 }).series()].filter(({ access }) => access === "public");
/** A day with something before it and something after, whether one looks at all or at the patient below. */
const DAY = "2020-01-01";
const chosen = shown.find(
  (series) =>
    series.patientId === "PHANTOM-0003" && series.submittedAt > DAY && series.manufacturerModelName !== null,
);
if (!chosen) throw new Error("the phantoms lack what the lines are about");
const inCollection = shown.filter((series) => series.collection === chosen.collection);

const WORDS = {
  C: chosen.collection,
  P: chosen.patientId,
  S: chosen.seriesInstanceUid,
  I: chosen.instances()[1]?.sopInstanceUid ?? "",
  M: "CT",
  B: chosen.bodyPartExamined ?? "",
  V: chosen.manufacturer ?? "",
  O: chosen.manufacturerModelName ?? "",
  D: DAY,
  N: "sandbox",
};

const [year = "", month = "", day = ""] = WORDS.D.split("-");

// --- The old endpoints ---------------------------------------------------------------------------------------------

const VERSIONS = ["v4", "v1", "v2", "v3", "advanced"] as const;
type Version = (typeof VERSIONS)[number];

interface Judge {
  /** Names of the endpoint where they differ from v4's. */
  readonly names?: Partial<Record<Version, string>>;
  readonly versions: readonly Version[];
  readonly ask: (version: Version) => Record<string, string>;
  readonly post?: true;
  /** Rows of a reply that is no array of rows. */
  readonly rows?: (reply: string) => Record<string, unknown>[];
  /** Column there, column here. */
  readonly columns: readonly (readonly [string, string])[];
  /** Rows that both may have and need not: nulls, which v1 and v4 tell differently. */
  readonly leftOut?: (row: Record<string, unknown>) => boolean;
}

const SEARCHES = ["v4", "v1", "v2", "v3"] as const;
const { C, P, S, I, M, B, V, O, N } = WORDS;
const since = (version: Version): Record<string, string> =>
  version === "v4" ? { fromDate: `${month}-${day}-${year}` } : { Date: `${year}/${month}/${day}` };
const PATIENT = [
  ["PatientId", "PatientID"],
  ["PatientName", "PatientName"],
  ["PatientSex", "PatientSex"],
  ["EthnicGroup", "EthnicGroup"],
  ["SpeciesCode", "SpeciesCode"],
  ["SpeciesDescription", "SpeciesDescription"],
] as const;
const STUDY = [
  ["StudyInstanceUID", "StudyInstanceUID"],
  ["StudyDescription", "StudyDescription"],
  ["StudyID", "StudyID"],
  ["PatientAge", "PatientAge"],
  ["PatientID", "PatientID"],
  ["AdmittingDiagnosesDescription", "AdmittingDiagnosisDescription"],
  ["SeriesCount", "SeriesCount"],
] as const;
const SERIES = [
  ["SeriesInstanceUID", "SeriesInstanceUID"],
  ["StudyInstanceUID", "StudyInstanceUID"],
  ["PatientID", "PatientID"],
  ["Modality", "Modality"],
  ["ImageCount", "ImageCount"],
  ["FileSize", "FileSize"],
  ["Manufacturer", "Manufacturer"],
] as const;
const uids = (reply: string): Record<string, unknown>[] =>
  (reply.split("ListOfSeriesToDownload=\n")[1] ?? "")
    .trim()
    .split("\n")
    .map((uid) => ({ SeriesInstanceUID: uid }));

const values = (column: string, ask: Record<string, string>): Judge => ({
  versions: SEARCHES,
  ask: () => ask,
  columns: [[column, "value"]],
  leftOut: (row) => (row[column] ?? row.value ?? null) === null,
});
const counts = (column: string, ask: Record<string, string>, here = "value", count = "count"): Judge => ({
  versions: ["v4", "advanced"],
  ask: () => ask,
  columns: [
    [column, here],
    ["Count", count],
  ],
  rows: (reply) =>
    (JSON.parse(reply) as Record<string, unknown>[]).map((row) => ({
      [column]: row[column] ?? row.criteria,
      Count: row.Count ?? row.count,
    })),
  leftOut: (row) => (row[column] ?? row[here] ?? null) === null,
});

const JUDGES: Readonly<Record<string, Judge>> = {
  getCollectionValues: { versions: SEARCHES, ask: () => ({}), columns: [["Collection", "Collection"]] },
  getModalityValues: values("Modality", { Collection: C, BodyPartExamined: B }),
  getBodyPartValues: values("BodyPartExamined", { Collection: C, Modality: M }),
  getManufacturerValues: values("Manufacturer", { Collection: C, Modality: M, BodyPartExamined: B }),
  getCollectionValuesAndCounts: counts("Collection", {}, "Collection", "Patients"),
  getModalityValuesAndCounts: counts("Modality", { Collection: C, BodyPartExamined: B }),
  getBodyPartValuesAndCounts: counts("BodyPartExamined", { Collection: C, Modality: M }),
  getManufacturerValuesAndCounts: counts("Manufacturer", {
    Collection: C,
    Modality: M,
    BodyPartExamined: B,
  }),
  getSpeciesValuesAndCounts: counts("SpeciesDescription", {}),
  getPatient: { versions: SEARCHES, ask: () => ({ Collection: C }), columns: PATIENT },
  getPatientByCollectionAndModality: {
    versions: SEARCHES,
    names: { v3: "PatientsByModality" },
    ask: () => ({ Collection: C, Modality: M }),
    columns: [["PatientId", "PatientID"]],
  },
  NewPatientsInCollection: {
    versions: SEARCHES,
    ask: (version) => ({ Collection: C, ...since(version) }),
    columns: PATIENT,
  },
  getPatientStudy: { versions: SEARCHES, ask: () => ({ Collection: C, PatientID: P }), columns: STUDY },
  NewStudiesInPatientCollection: {
    versions: SEARCHES,
    ask: (version) => ({ Collection: C, PatientID: P, ...since(version) }),
    // The old answer counts the new series of a study, ours all of them.
    columns: STUDY.filter(([name]) => name !== "SeriesCount"),
  },
  getSeries: {
    versions: SEARCHES,
    ask: () => ({
      Collection: C,
      PatientID: P,
      Modality: M,
      BodyPartExamined: B,
      Manufacturer: V,
      ManufacturerModelName: O,
    }),
    columns: SERIES,
  },
  getUpdatedSeries: {
    versions: ["v4", "v1", "v2"],
    ask: (version) => ({
      fromDate: version === "v4" ? `${month}-${day}-${year}` : `${day}/${month}/${year}`,
    }),
    columns: [["SeriesInstanceUID", "SeriesInstanceUID"]],
  },
  getSeriesMetaData: {
    versions: ["v1", "v2"],
    ask: () => ({ SeriesInstanceUID: S }),
    columns: [
      ["Series UID", "SeriesInstanceUID"],
      ["Subject ID", "PatientID"],
      ["Number of Images", "ImageCount"],
      ["File Size", "FileSize"],
    ],
  },
  getSeriesMetadata: { versions: ["v4"], post: true, ask: () => ({ list: S }), columns: SERIES },
  getSeriesSize: {
    versions: SEARCHES,
    ask: () => ({ SeriesInstanceUID: S }),
    columns: [
      ["TotalSizeInBytes", "Bytes"],
      ["ObjectCount", "Images"],
    ],
  },
  getSOPInstanceUIDs: {
    versions: SEARCHES,
    ask: () => ({ SeriesInstanceUID: S }),
    columns: [["SOPInstanceUID", "SOPInstanceUID"]],
  },
  getContentsByName: {
    versions: ["v1", "v2"],
    ask: () => ({ name: N }),
    columns: [["SeriesInstanceUID", "SeriesInstanceUID"]],
  },
  getDicomTags: {
    versions: ["v4", "advanced"],
    ask: () => ({ SeriesUID: S }),
    columns: [
      ["element", "element"],
      ["data", "data"],
    ],
    leftOut: (row) => String(row.name ?? "").startsWith("End "),
  },
  getCollectionDescriptions: {
    versions: ["v4", "advanced"],
    ask: () => ({ collectionName: C }),
    columns: [
      ["collectionName", "Collection"],
      ["description", "Description"],
      ["descriptionURI", "DataDescriptionURI"],
    ],
  },
  getManifestForCollection: {
    versions: ["v4", "advanced"],
    post: true,
    ask: () => ({ collection: C }),
    rows: uids,
    columns: [["SeriesInstanceUID", "SeriesInstanceUID"]],
  },
  getManifestText: {
    versions: ["v4", "advanced"],
    names: { advanced: "getManifestTextV2" },
    post: true,
    ask: () => ({ list: S }),
    rows: uids,
    columns: [["SeriesInstanceUID", "SeriesInstanceUID"]],
  },
  getSimpleSearch: {
    versions: ["v4"],
    post: true,
    ask: () => ({
      criteriaType0: "CollectionCriteria",
      value0: C,
      criteriaType1: "ImageModalityCriteria",
      value1: M,
      start: "0",
      size: "100",
      sortField: "subject",
      sortDirection: "ascending",
    }),
    rows: (reply) => (JSON.parse(reply) as { resultSet: Record<string, unknown>[] }).resultSet,
    columns: [
      ["subjectId", "PatientID"],
      ["project", "Collection"],
    ],
  },
};

/** Bytes instead of rows: what a `get` must leave. */
const IMAGES: Readonly<Record<string, { readonly versions: readonly Version[]; readonly zip: boolean }>> = {
  getImage: { versions: SEARCHES, zip: true },
  getImageWithMD5Hash: { versions: ["v4", "v1", "v2"], zip: true },
  getDCMImage: { versions: ["v4", "v1", "v2"], zip: true },
  getSingleImage: { versions: SEARCHES, zip: false },
};

ensureBuilt();
const stage = await startStage();
const archives = stage.sandbox.archives.filter(
  ({ kind, name }) => kind === "nbia" && name.startsWith("tcia"),
);
const apiKey = archives.find(({ name }) => name === "tcia-v3")?.credentials?.API_KEY ?? "";
const desk = await openDesk(stage);
let token = "";
let gantry: Gantry;

beforeAll(async () => {
  gantry = await stage.openGantry({ environment: { ...stage.environment, GANTRY_TCIA_V3_API_KEY: apiKey } });
  atEnd(() => gantry.close());
  const form = new URLSearchParams({ grant_type: "password", username: "nbia_guest", password: "" });
  const reply = await fetch(`${stage.sandbox.url}/nbia-api/oauth/token`, { method: "POST", body: form });
  token = ((await reply.json()) as { access_token: string }).access_token;
});

async function old(
  version: Version,
  endpoint: string,
  ask: Record<string, string>,
  post = false,
): Promise<Response> {
  const base = {
    v1: "nbia-api/services/v1",
    v2: "nbia-api/services/v2",
    v4: "nbia-api/services/v4",
    advanced: "nbia-api/services",
    v3: "services/v3/TCIA/query",
  }[version];
  const form = new URLSearchParams(endpoint === "getSeriesMetadata" ? { ...ask, format: "json" } : ask);
  const headers: Record<string, string> =
    version === "v3"
      ? { api_key: apiKey }
      : version === "v1" || version === "v4"
        ? {}
        : { authorization: `Bearer ${token}` };
  const url = `${stage.sandbox.url}/${base}/${endpoint}`;
  const reply = await (post
    ? fetch(url, { method: "POST", body: form, headers })
    : fetch(`${url}?${form}`, { headers }));
  if (reply.status !== 200) throw new Error(`${url}?${form}: ${reply.status} ${await reply.text()}`);
  return reply;
}

async function oldRows(version: Version, endpoint: string, judge: Judge): Promise<Record<string, unknown>[]> {
  const reply = await old(version, judge.names?.[version] ?? endpoint, judge.ask(version), judge.post);
  const body = await reply.text();
  if (judge.rows) return judge.rows(body);
  return body === "" ? [] : (JSON.parse(body) as Record<string, unknown>[]);
}

/** Sorted, without regard to capitals, which v4 folds in its lists. */
function tuples(
  rows: readonly Record<string, unknown>[],
  columns: readonly string[],
  judge: Judge,
): readonly string[] {
  return rows
    .filter((row) => judge.leftOut?.(row) !== true)
    .map((row) =>
      columns
        .map((column) => String(row[column] ?? "").trim())
        .join(" | ")
        .toUpperCase(),
    )
    .sort();
}

async function rowsOf(listing: Listing): Promise<Row[]> {
  const rows: Row[] = [];
  for await (const row of listing.rows) rows.push(row);
  return rows;
}

/** The library's line of the table, for an archive of another version. */
async function callLibrary(call: Call, archive: string, dir: string): Promise<Listing | Run> {
  const by = (words: object = {}, dates: object = {}): object => ({
    filters: { ...NO_FILTERS, words, dates },
  });
  const scope = {
    ...WORDS,
    DIR: dir,
    FILE: `${dir}.tcia`,
    by,
    tree: { recursive: false, long: false, ...by() },
    gantry,
  };
  const code = call.library.replaceAll("tcia:", `${archive}:`);
  const run = new Function(...Object.keys(scope), `return gantry.${code};`);
  return (await run(...Object.values(scope))) as Listing | Run;
}

const versionOf = (archive: string): Version => (archive === "tcia" ? "v4" : (archive.slice(5) as Version));

const shellWords = Object.entries(WORDS)
  .map(([name, value]) => `${name}='${value}'`)
  .join("\n");

describe("the table", () => {
  it("is read whole", () => {
    expect(text.match(/^\| `/gmu)).toHaveLength(calls.length);
    expect(calls.length).toBeGreaterThan(100);
    for (const { line, asks } of calls) {
      expect(line).toMatch(/^(gantry |not offered: )/u);
      if (line.startsWith("gantry")) expect([...Object.keys(JUDGES), ...Object.keys(IMAGES)]).toContain(asks);
    }
  });

  it("asks about something: the day, the modality and the body part leave some out, and not all", () => {
    const patients = (of: typeof shown): number => new Set(of.map((series) => series.patientId)).size;
    const later = inCollection.filter((series) => series.submittedAt >= DAY);
    expect(patients(later)).toBeLessThan(patients(inCollection));
    const studies = (of: typeof shown): number => new Set(of.map((series) => series.studyInstanceUid)).size;
    const ofPatient = (series: { patientId: string }): boolean => series.patientId === P;
    expect(studies(later.filter(ofPatient))).toBe(1);
    expect(studies(inCollection.filter(ofPatient))).toBe(2);
    expect(inCollection.some(({ modality }) => modality !== M)).toBe(true);
    expect(inCollection.some(({ bodyPartExamined }) => bodyPartExamined !== B)).toBe(true);
  });

  it("names every endpoint that the stand-in serves", async () => {
    const folder = join(root, "src/sources/nbia/sandbox");
    const sources = ["values", "patients", "series", "downloads", "dicom-tags", "manifests", "simple-search"]
      .map((name) => readFileSync(join(folder, `${name}.ts`), "utf8"))
      .join("\n");
    const served = [...sources.matchAll(/"((?:get|NewPatients|NewStudies)[A-Z]\w+)"/gu)].map(
      ([, name = ""]) => name,
    );
    expect(served.length).toBeGreaterThan(25);
    const named = calls.map(({ old: call, asks }) => `${call} ${asks}`).join("\n");
    expect(served.filter((name) => !new RegExp(`\\b${name}\\b`, "u").test(named))).toEqual([]);
  });

  // Public functions of tcia_utils 3.3.4 (nbia.py at ef45a04).
  it.each(
    `setApiUrl queryData getCollections getBodyPart getModality getPatient getPatientByCollectionAndModality
    getNewPatientsInCollection getStudy getNewStudiesInPatient getSeries getUpdatedSeries getSeriesList getSeriesSize
    getSopInstanceUids getManufacturer getSharedCart downloadSeries downloadImage getCollectionDescriptions
    getCollectionPatientCounts getModalityCounts getBodyPartCounts getManufacturerCounts getDicomTags getSegRefSeries
    getDoiMetadata getSimpleSearch formatSeriesInput reportDoiSummary reportCollectionSummary reportDataSummary
    reportSeriesSubmissionDate reportSeriesReleaseDate makeSeriesReport reportDicomTags manifestToList idcOhifViewer
    log_request_exception`.split(/\s+/u),
  )("names %s of tcia_utils", (name) => {
    const section = text.split("## tcia_utils")[1] ?? "";
    expect(section).toMatch(new RegExp(`\`[^\`]*\\b${name}\\(`, "u"));
  });
});

describe.each(questions)("$asks", (call) => {
  const judge = JUDGES[call.asks];
  const images = IMAGES[call.asks];
  if (judge) it("the command's rows are the old ones", ONE, () => compareCommand(call, judge));
  for (const { name } of archives) {
    const version = versionOf(name);
    if (judge?.versions.includes(version))
      it(`${name}: the library's rows are the old ones`, ONE, () => compareLibrary(call, judge, name));
    if (images?.versions.includes(version))
      it(`${name}: the images are the old ones`, ONE, () => compareImages(call, images.zip, name));
  }
});

describe("what only v4 can be asked for", () => {
  it.each(archives.map(({ name }) => name))(
    "%s: tags are read, from the image itself if need be",
    async (name) => {
      const listing = (await callLibrary(
        { old: "", asks: "", line: "", library: 'tags(["tcia:" + S + "/" + I])' },
        name,
        "",
      )) as Listing;
      const rows = await rowsOf(listing);
      const tag = (element: string): unknown => rows.find((row) => row.element === element)?.data;
      expect(tag("(0020,000E)")).toBe(S);
      expect(tag("(0008,0018)")).toBe(I);
      expect(tag("(0008,0060)")).toBe(chosen?.modality);
    },
  );
});

async function compareCommand(call: Call, judge: Judge): Promise<void> {
  const asked = judge.versions.includes("v4") ? "v4" : (judge.versions[0] ?? "v4");
  const { code, stdout, stderr } = await desk.type(
    `${shellWords}\nFILE=cart-${call.asks}.tcia\n${call.line} --format json`,
  );
  expect({ code, stderr }).toMatchObject({ code: 0 });
  const before = await oldTuples(asked, call, judge);
  expect(before.length).toBeGreaterThan(0);
  expect(newTuples(JSON.parse(stdout) as Row[], judge)).toEqual(before);
}

async function compareLibrary(call: Call, judge: Judge, archive: string): Promise<void> {
  const version = versionOf(archive);
  const listing = (await callLibrary(call, archive, await freshDir())) as Listing;
  const rows = newTuples(await rowsOf(listing), judge);
  expect(rows).toEqual(await oldTuples(version, call, judge));
  // The older token interface answers what v4 answers, under other names.
  if (version === "v4" && judge.versions.includes("advanced"))
    expect(rows).toEqual(await oldTuples("advanced", call, judge));
}

async function oldTuples(version: Version, call: Call, judge: Judge): Promise<readonly string[]> {
  const rows = await oldRows(version, call.asks, judge);
  return tuples(
    rows,
    judge.columns.map(([there]) => there),
    judge,
  );
}

const newTuples = (rows: readonly Row[], judge: Judge): readonly string[] =>
  tuples(
    rows,
    judge.columns.map(([, here]) => here),
    judge,
  );

async function compareImages(call: Call, zip: boolean, archive: string): Promise<void> {
  const version = versionOf(archive);
  const reply = await old(version, call.asks, {
    SeriesInstanceUID: S,
    ...(zip ? {} : { SOPInstanceUID: I }),
  });
  const digests: string[] = [];
  const sha = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
  if (zip && reply.body) {
    for await (const entry of unzip(reply.body, { maxEntries: 1000, maxTotalBytes: 1 << 28 })) {
      const chunks: Uint8Array[] = [];
      for await (const chunk of entry.body) chunks.push(Buffer.from(chunk));
      if (entry.name.endsWith(".dcm")) digests.push(sha(Buffer.concat(chunks)));
    }
  } else digests.push(sha(Buffer.from(await reply.arrayBuffer())));
  const dir = await freshDir();
  const run = (await callLibrary(call, archive, dir)) as Run;
  expect(await run.result).toMatchObject({ exit: 0 });
  expect(await dataDigests(dir)).toEqual(digests.sort());
  if (version !== "v4") return;
  const { code, stderr } = await desk.type(`${shellWords}\nDIR=${call.asks}\n${call.line}`);
  expect({ code, stderr }).toMatchObject({ code: 0 });
  expect(await dataDigests(join(desk.dir, call.asks))).toEqual(digests);
}
