/**
 * tcia_utils (kirbyju/tcia_utils), module `nbia`: the TCIA helpdesk's own Python package. Its hosts are built in and
 * HTTPS only; it is led to the sandbox by `HTTPS_PROXY` and `REQUESTS_CA_BUNDLE`, which `requests` honours.
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

const python = pythonWith("tcia_utils.nbia");
const missing = lack(python, "Python with tcia_utils");

describe.skipIf(python === null)(`tcia_utils${missing}`, () => {
  describe("every function that asks the archive, on generated data", () => {
    let archive: Archive;
    let facts: Facts;
    let folder: string;
    let tour: Tour;
    let requests: Readonly<Record<string, number>>;
    beforeAll(async () => {
      archive = await openArchive(DATA_SETS[0]!.open);
      facts = phantomFacts(publicSeries(archive));
      folder = await temporaryDir();
      tour = await runTour(python ?? "", "tcia-utils-tour.py", archive, facts, folder);
      requests = requestCounts(archive);
    });
    const all = () => [...archive.data.series()].filter(({ collection }) => collection === facts.collection);

    it("raises nothing, asks nobody else, and gets no answer that it can't use", () => {
      expect(tour.ended.code, tour.ended.said).toBe(0);
      expect(tour.failures).toEqual([]);
      expect(tour.refused).toEqual([]);
      const refusals = Object.keys(requests).filter((name) => !name.endsWith(" 200"));
      expect(refusals).toEqual(["GET v4/getImage 400"]);
    });

    it("lists collections, patients, studies and series", () => {
      expect(column(tour.rows("getCollections"), "Collection")).toContain("Phantom-CT");
      expect(column(tour.rows("getCollections"), "Collection")).not.toContain("Phantom-Restricted");
      expect(tour.value("getCollections nlst")).toBeNull();
      const patients = [...new Set(all().map(({ patientId }) => patientId))].sort();
      expect(column(tour.rows("getPatient"), "PatientId")).toEqual(patients);
      expect(column(tour.rows("getPatient df"), "PatientId")).toEqual(patients);
      expect(column(tour.rows("getNewPatientsInCollection"), "PatientId")).toEqual(patients);
      expect(column(tour.rows("getPatientByCollectionAndModality"), "PatientId")).toEqual(patients);
      const ofPatient = all().filter(({ patientId }) => patientId === facts.patient);
      const studies = [...new Set(ofPatient.map(({ studyInstanceUid }) => studyInstanceUid))].sort();
      expect(column(tour.rows("getStudy"), "StudyInstanceUID")).toEqual(studies);
      expect(column(tour.rows("getNewStudiesInPatient"), "StudyInstanceUID")).toEqual(studies);
      const uids = uidsOf(all()).sort();
      expect(column(tour.rows("getSeries"), "SeriesInstanceUID")).toEqual(uids);
      expect(column(tour.rows("getUpdatedSeries"), "SeriesInstanceUID")).toEqual(
        expect.arrayContaining(uids),
      );
      expect(column(tour.rows("getSeries one"), "SeriesInstanceUID")).toEqual(
        uidsOf(facts.series.slice(0, 1)),
      );
      expect(tour.value("getSeries none")).toBeNull();
      expect(tour.rows("getSharedCart")).toHaveLength(5);
    });

    it("reads values, counts and sizes", () => {
      const modalities = [...new Set(all().map(({ modality }) => modality))].sort();
      expect(column(tour.rows("getModality"), "Modality")).toEqual(modalities);
      expect(column(tour.rows("getModalityCounts"), "Modality")).toEqual(modalities);
      // The database's nulls are a nameless first row.
      expect(tour.rows("getBodyPart")[0]).toEqual({});
      expect(column(tour.rows("getManufacturer"), "Manufacturer")).toContain("PHANTOM WORKS");
      const [first] = facts.series;
      const images = first?.instances() ?? [];
      expect(tour.rows("getSeriesSize")).toEqual([
        {
          TotalSizeInBytes: images.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
          ObjectCount: images.length,
        },
      ]);
      expect(column(tour.rows("getSopInstanceUids"), "SOPInstanceUID")).toEqual(
        images.map(({ sopInstanceUid }) => sopInstanceUid).sort(),
      );
      const counts = tour.rows("getCollectionPatientCounts").map((row) => [row.Collection, row.Count]);
      expect(counts).toContainEqual([facts.collection, new Set(all().map((each) => each.patientId)).size]);
    });

    it("reads metadata, tags, references and DOIs", () => {
      expect(column(tour.rows("getSeriesList"), "SeriesInstanceUID")).toEqual(uidsOf(facts.series).sort());
      expect(tour.rows("getDicomTags").find(({ element }) => element === "(0008,0060)")?.data).toBe("CT");
      expect(tour.rows("reportDicomTags")).toEqual([
        expect.objectContaining({ "Modality (0008,0060)": "CT" }),
      ]);
      const referenced = ["rtstruct", "seg"].map((kind) => String(tour.value(`getSegRefSeries ${kind}`)));
      expect(uidsOf(all())).toEqual(expect.arrayContaining(referenced));
      expect(column(tour.rows("getDoiMetadata"), "collection")).toContain(facts.collection);
      expect(column(tour.rows("getDoiMetadata series"), "seriesInstanceUID")).toEqual(uidsOf(all()).sort());
      expect(column(tour.rows("getCollectionDescriptions"), "description")).toContain(
        "Computed tomography of ellipsoids, with <contours> & segmentations.",
      );
    });

    it("searches, and makes manifests of what it finds", () => {
      expect(tour.value("getSimpleSearch")).toMatchObject({ totalPatients: 5 });
      expect(tour.value("getSimpleSearch many")).toMatchObject({ totalPatients: 5 });
      expect([...(tour.value("getSimpleSearch uids") as string[])].sort()).toEqual(uidsOf(all()).sort());
      expect(tour.value("getSimpleSearch manifest")).toContain("\nListOfSeriesToDownload=\n");
      expect(tour.value("getSimpleSearch none")).toEqual([]);
      expect(tour.value("manifestToList")).toEqual(uidsOf(facts.series));
    });

    it("reports", () => {
      const images = all().reduce((sum, { imageCount }) => sum + imageCount, 0);
      expect(tour.value("makeSeriesReport")).toMatchObject({ subjects: 5, series: all().length, images });
      expect(tour.rows("reportCollectionSummary")).toHaveLength(1);
    });

    it("downloads a manifest, with names by acquisition and a LICENSE in each series", async () => {
      const dir = join(folder, "series");
      expect(await dicomDigests(dir)).toEqual(await imageDigests(facts.series));
      const folders = [...new Set((await listFiles(dir)).map((path) => path.split("/")[0]))].sort();
      expect(folders).toEqual(uidsOf(facts.series).sort());
      expect(column(tour.rows("downloadSeries manifest"), "SeriesInstanceUID")).toEqual(folders);
      const licences = (await listFiles(dir)).filter((path) => path.endsWith("/LICENSE"));
      expect(licences).toHaveLength(facts.series.length);
    });

    it("downloads with sums, as a zip, and one image", async () => {
      const first = facts.series.slice(0, 1);
      expect(await dicomDigests(join(folder, "hash"))).toEqual(await imageDigests(first));
      expect(await listFiles(join(folder, "hash"))).toContain(`${uidsOf(first)[0]}/md5hashes.csv`);
      expect(await listFiles(join(folder, "zip"))).toEqual([`${uidsOf(first)[0]}.zip`]);
      const [image] = first[0]?.instances() ?? [];
      expect(await dicomDigests(join(folder, "image"))).toEqual([await image?.md5()]);
    });

    it("fetches nothing twice, and says what it could not get", () => {
      // Each series of the manifest once; one more as a zip; the unknown one was refused.
      expect(requests).toMatchObject({
        "GET v4/getImage 200": facts.series.length + 1,
        "GET v4/getImage 400": 1,
        "GET v4/getImageWithMD5Hash 200": 1,
      });
      expect(tour.ended.said).toContain("Error: 400 Series failed: 1.2.3.4.5");
      expect(tour.ended.said).toContain("1 failed to download.");
    });
  });

  describe.runIf(DATA_SETS.length > 1)("real data", () => {
    it("downloads every series of a manifest byte for byte", async () => {
      const archive = await openArchive(DATA_SETS[1]!.open);
      const series = publicSeries(archive);
      const folder = await temporaryDir();
      const facts = { ...phantomFacts(publicSeries(await openArchive(DATA_SETS[0]!.open))), series };
      const tour = await runTour(python ?? "", "tcia-utils-tour.py", archive, facts, folder);
      expect(tour.rows("downloadSeries manifest")).toHaveLength(series.length);
      expect(await dicomDigests(join(folder, "series"))).toEqual(await imageDigests(series));
    });
  });
});
