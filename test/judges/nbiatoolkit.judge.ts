/**
 * nbiatoolkit (bhklab/nbia-toolkit, published by jjjermiah): v2 with a token, v1 and the advanced interface. Its hosts
 * are built in and HTTPS only; it is led to the sandbox by `HTTPS_PROXY` and `REQUESTS_CA_BUNDLE`.
 */
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { listFiles, temporaryDir } from "../support/gantry.ts";
import {
  type Archive,
  DATA_SETS,
  dicomDigests,
  imageDigests,
  openArchive,
  publicSeries,
  requestCounts,
  uidsOf,
} from "./archive.ts";
import { lack, pythonWith } from "./clients.ts";
import { column, type Facts, phantomFacts, runTour, type Tour } from "./tours.ts";

const python = pythonWith("nbiatoolkit");
const missing = lack(python, "Python with nbiatoolkit");

describe.skipIf(python === null)(`nbiatoolkit${missing}`, () => {
  let archive: Archive;
  let facts: Facts;
  let folder: string;
  let tour: Tour;
  let requests: Readonly<Record<string, number>>;
  beforeAll(async () => {
    archive = await openArchive(DATA_SETS[0]!.open);
    facts = phantomFacts(publicSeries(archive));
    folder = await temporaryDir();
    tour = await runTour(python ?? "", "nbiatoolkit-tour.py", archive, facts, folder);
    requests = requestCounts(archive);
  });
  const all = () => [...archive.data.series()].filter(({ collection }) => collection === facts.collection);

  it("raises only where its own documentation says so, and asks nobody else", () => {
    expect(tour.ended.code, tour.ended.said).toBe(0);
    expect(tour.failures).toEqual(["getSeries none", "getRefSeriesUIDs seg"]);
    // It calls an empty reply an error, and knows references of RTSTRUCT only.
    expect(tour.raised("getSeries none")).toContain("The response content is empty");
    expect(tour.raised("getRefSeriesUIDs seg")).toContain("Series is not an RTSTRUCT");
    expect(tour.refused).toEqual([]);
    expect(Object.keys(requests).filter((name) => !name.endsWith(" 200"))).toEqual([]);
  });

  it("logs in below services/, twice as is its way, and out again by GET", () => {
    expect(requests).toMatchObject({ "POST oauth/token 200": 2, "GET logout 200": 1 });
    const authorized = archive.stage.control
      .requests()
      .filter(({ path }) => path.includes("/v2/"))
      .every(({ headers }) => String(headers.authorization).startsWith("Bearer ey"));
    expect(authorized).toBe(true);
  });

  it("lists with what the account may see", () => {
    expect(column(tour.rows("getCollections"), "Collection")).toContain("Phantom-Restricted");
    expect(column(tour.rows("getCollections prefix"), "Collection")).toEqual([
      "Phantom-CT",
      "Phantom-Restricted",
    ]);
    const patients = [...new Set(all().map(({ patientId }) => patientId))].sort();
    for (const call of ["getPatients", "getNewPatients", "getPatientsByCollectionAndModality"])
      expect(column(tour.rows(call), "PatientId"), call).toEqual(patients);
    const studies = [...new Set(all().map(({ studyInstanceUid }) => studyInstanceUid))].sort();
    expect(column(tour.rows("getStudies"), "StudyInstanceUID")).toEqual(studies);
    expect(column(tour.rows("getSeries"), "SeriesInstanceUID")).toEqual(uidsOf(all()).sort());
    const ct = all().filter(({ modality }) => modality === "CT");
    expect(column(tour.rows("getSeries df"), "SeriesInstanceUID")).toEqual(uidsOf(ct).sort());
    expect(column(tour.rows("getNewSeries"), "SeriesInstanceUID")).toEqual(
      expect.arrayContaining(uidsOf(all())),
    );
  });

  it("reads counts, descriptions, metadata and tags", () => {
    expect(tour.rows("getCollectionPatientCount")).toContainEqual({
      Collection: facts.collection,
      PatientCount: "5",
    });
    expect(column(tour.rows("getModalityValues counts"), "Modality")).toEqual(
      [...new Set(all().map(({ modality }) => modality))].sort(),
    );
    expect(tour.rows("getBodyPartCounts")).toContainEqual({ criteria: "CHEST", count: expect.any(String) });
    expect(tour.rows("getCollectionDescriptions")).toEqual([
      expect.objectContaining({
        Collection: facts.collection,
        LastUpdated: expect.stringMatching(/^\d{4}-\d\d-\d\d$/u),
      }),
    ]);
    expect(column(tour.rows("getSeriesMetadata"), "Series UID")).toEqual(uidsOf(facts.series).sort());
    expect(uidsOf(all())).toEqual(expect.arrayContaining([...tour.rows("getRefSeriesUIDs rtstruct")]));
    expect(tour.value("generateFilePathFromDICOMTags")).toMatch(/^PHANTOM-0004\/CT-2-\d{5}\/1\.dcm$/u);
  });

  it("downloads with sums, which it proves, and sorts by its own reading of the files", async () => {
    expect(tour.value("downloadSeries pattern")).toBe(true);
    const [first] = facts.series;
    const dir = join(folder, "pattern");
    expect(await dicomDigests(dir)).toEqual(await imageDigests([first!]));
    const names = (await listFiles(dir)).map((path) => path.split("/")[0]);
    expect([...new Set(names)]).toEqual([facts.patient]);
    expect(requests).toMatchObject({ "GET v2/getImageWithMD5Hash 200": facts.series.length + 1 });
    expect(tour.value("downloadSeries")).toBe(true);
    expect(await dicomDigests(join(folder, "series"))).toEqual(await imageDigests(facts.series));
  });
});
