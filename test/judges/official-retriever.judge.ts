/**
 * The official NBIA Data Retriever's command line (Java, CBIIT/NBIA-TCIA software/nbia-download-manager,
 * DataRetrieverCLI) as it is, led to the sandbox by the manifest's own `downloadServerUrl`; and its output beside ours
 * for the same manifest.
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { SandboxSeries } from "../../src/sandbox/data/dataset.ts";
import { datasetOf } from "../../src/sandbox/tiny-dataset.ts";
import { dicomSeries } from "../support/dataset.ts";
import { freshDir, listFiles, temporaryDir } from "../support/gantry.ts";
import {
  type Archive,
  DATA_SETS,
  dicomDigests,
  filesByPath,
  imageDigests,
  openArchive,
  publicSeries,
  requestCounts,
  uidsOf,
  writeManifest,
} from "./archive.ts";
import { type Ended, lack, program, runClient } from "./clients.ts";

const retriever = program("nbia-data-retriever");
const missing = lack(retriever, "nbia-data-retriever");

interface Retrieved extends Ended {
  /** Its `-d`, and the folder in it that is named after the manifest. */
  readonly dir: string;
  readonly root: string;
}

/** Run the retriever on a manifest of these series. It takes the manifest's name up to the first dot of its path. */
async function retrieve(
  archive: Archive,
  uids: readonly string[],
  args: readonly string[],
  { input = "", dir }: { input?: string; dir?: string } = {},
): Promise<Retrieved> {
  const folder = await temporaryDir();
  const target = dir ?? join(folder, "out");
  await writeManifest(folder, "cart.tcia", archive.stage.sandbox.url, uids);
  archive.stage.control.clearRequests();
  const ended = await runClient(retriever ?? "", ["--cli", "cart.tcia", "-d", target, ...args], {
    cwd: folder,
    input,
  });
  return { ...ended, dir: target, root: join(target, "cart") };
}

/** The same series by our own `get` of the same manifest; its folder. */
async function getOurs(archive: Archive, uids: readonly string[], layout: string): Promise<string> {
  const cart = await writeManifest(await temporaryDir(), "cart.tcia", archive.stage.sandbox.url, uids);
  const dir = await freshDir();
  const got = await archive.stage.run(["get", cart, "-o", dir, "--layout", layout, "--progress", "none"]);
  expect(got.code, got.stderr).toBe(0);
  return dir;
}

/** Judged apart: texts of their own, and the lists of sums that `-m` leaves behind. */
const BESIDE = /(^|\/)(metadata\.csv|LICENSE|md5hashes\.csv)$/u;

async function dataFiles(dir: string): Promise<Record<string, string>> {
  return Object.fromEntries([...(await filesByPath(dir))].filter(([path]) => !BESIDE.test(path)).sort());
}

const licenses = async (dir: string): Promise<string[]> =>
  (await listFiles(dir)).filter((path) => path.endsWith("/LICENSE"));

/** Rows of a metadata.csv by Series UID; it quotes nothing, and none of these values has a comma. */
async function readMetadata(dir: string): Promise<Map<string, Record<string, string>>> {
  const text = await readFile(join(dir, "metadata.csv"), "utf8");
  expect(text.endsWith("\r\n")).toBe(true);
  const [header = "", ...lines] = text.slice(0, -2).split("\r\n");
  const columns = header.split(",");
  const rows = lines.map((line) => {
    const cells = line.split(",");
    expect(cells.length, line).toBe(columns.length);
    return Object.fromEntries(columns.map((column, index) => [column, cells[index] ?? ""]));
  });
  return new Map(rows.map((row) => [row["Series UID"] ?? "", row]));
}

/** Patients and collections whose names are file names everywhere: the others have a test of their own. */
const isFileName = (name: string): boolean => /^[^/:*?"<>|]*[^/:*?"<>| .]$/u.test(name) && name !== "CON";
const plainSeries = (archive: Archive): readonly SandboxSeries[] =>
  publicSeries(archive).filter((series) => isFileName(series.collection) && isFileName(series.patientId));

const LAYOUTS = [
  { layout: "descriptive", flags: ["--dd", "-m"] },
  { layout: "classic", flags: ["--cd"] },
];

describe.skipIf(retriever === null)(`the official retriever${missing}`, () => {
  describe.each(DATA_SETS)("$name", ({ open }) => {
    let archive: Archive;
    let series: readonly SandboxSeries[];
    beforeAll(async () => {
      archive = await openArchive(open);
      series = plainSeries(archive);
      expect(series.length).toBeGreaterThan(25);
    });

    describe.each(LAYOUTS)("$layout", ({ layout, flags }) => {
      let theirs: Retrieved;
      let ours: string;
      let requests: Readonly<Record<string, number>>;
      beforeAll(async () => {
        theirs = await retrieve(archive, uidsOf(series), ["--agree-to-license", ...flags]);
        requests = requestCounts(archive);
        ours = await getOurs(archive, uidsOf(series), layout);
      });

      it("ends well, with every image of the data set", async () => {
        expect(theirs.code, theirs.said).toBe(0);
        expect(theirs.said).not.toMatch(/SEVERE|Exception|Error in/u);
        expect(await dicomDigests(theirs.root)).toEqual(await imageDigests(series));
      });

      it("asked what its source says, all of it anonymously", () => {
        expect(requests).toEqual({
          "GET v1/getDeniedSeries 204": Math.ceil(series.length / 15),
          "GET v1/getAllSOPClassDefinition 200": 1,
          "GET v1/getSeriesMetaData 200": series.length,
          "GET v1/getDCMImage 200": series.length,
        });
      });

      it("left a tree equal to ours", async () => {
        expect(await dataFiles(ours)).toEqual(await dataFiles(theirs.root));
      });

      it("left a metadata.csv whose columns are ours, but for what it only repeats", async () => {
        const a = await readMetadata(theirs.root);
        const b = await readMetadata(ours);
        expect([...b.keys()].sort()).toEqual([...a.keys()].sort());
        const differences: string[] = [];
        for (const [uid, row] of a) {
          expect(Object.keys(b.get(uid) ?? {})).toEqual(Object.keys(row));
          for (const [column, value] of Object.entries(row)) {
            const our = b.get(uid)?.[column];
            if (column !== "Download Timestamp" && value !== our)
              differences.push(`${uid}: ${column}: ${value} | ${our}`);
          }
        }
        const expected: string[] = [];
        for (const { seriesInstanceUid: uid, imageCount, instances } of series) {
          // It writes what was announced; we write what came.
          if (imageCount !== instances().length)
            expected.push(`${uid}: Number of Images: ${imageCount} | ${instances().length}`);
          // A class that the server's list lacks is the word null to it.
          if (a.get(uid)?.["SOP Class Name"] === "null")
            expected.push(`${uid}: SOP Class Name: null | ${b.get(uid)?.["SOP Class Name"]}`);
        }
        expect(differences.sort()).toEqual(expected.sort());
        expect(expected.length).toBeLessThan(5);
      });

      it("left a LICENSE in the same collections, which names the same licence", async () => {
        const paths = await licenses(theirs.root);
        expect(await licenses(ours)).toEqual(paths);
        expect(paths.length).toBeGreaterThan(1);
        for (const path of paths) {
          const one = series.find(({ collection }) => `${collection}/LICENSE` === path);
          for (const dir of [theirs.root, ours]) {
            const text = await readFile(join(dir, path), "utf8");
            expect(text).toContain(`${one?.licenseName} (${one?.licenseUri})`);
          }
        }
      });
    });
  });

  describe("on the generated data", () => {
    let archive: Archive;
    let restricted: readonly SandboxSeries[];
    let open: readonly SandboxSeries[];
    beforeAll(async () => {
      archive = await openArchive(DATA_SETS[0]!.open);
      restricted = [...archive.data.series()].filter(({ access }) => access === "restricted");
      open = plainSeries(archive).slice(0, 3);
      expect(restricted.length).toBeGreaterThan(1);
    });

    it("proves the sums with -m and leaves them beside the images", async () => {
      const theirs = await retrieve(archive, uidsOf(open), ["--agree-to-license", "-m"]);
      expect(theirs.said.match(/match with the records in database/gu)).toHaveLength(open.length);
      const sums = (await listFiles(theirs.root)).filter((path) => path.endsWith("/md5hashes.csv"));
      expect(sums).toHaveLength(open.length);
    });

    it("asks for the agreement, which is empty, and goes on without a prompt", async () => {
      const theirs = await retrieve(archive, uidsOf(open), []);
      expect(requestCounts(archive)).toMatchObject({ "GET v1/getUserAgreementTxt 200": 1 });
      expect(await dicomDigests(theirs.root)).toEqual(await imageDigests(open));
    });

    it("logs in, and then gets what only that user may have", async () => {
      const theirs = await retrieve(archive, uidsOf(restricted), ["-u", "demo", "-p", "demo", "-m"]);
      expect(theirs.said).not.toMatch(/SEVERE|Exception/u);
      expect(await dicomDigests(theirs.root)).toEqual(await imageDigests(restricted));
      expect(requestCounts(archive)).toMatchObject({
        "POST oauth/token 200": 1,
        "GET v2/getSeriesMetaData 200": restricted.length,
        "GET v2/getDCMImage 200": restricted.length,
      });
    });

    it("takes the login from a file, too", async () => {
      const credentials = join(await temporaryDir(), "credentials");
      await writeFile(credentials, "userName=demo\npassWord=demo\n");
      const theirs = await retrieve(archive, uidsOf(restricted), ["-l", credentials]);
      expect(await dicomDigests(theirs.root)).toEqual(await imageDigests(restricted));
    });

    it("refuses a manifest of which a part is not for it, unless forced", async () => {
      const uids = [...uidsOf(restricted), ...uidsOf(open)];
      const refused = await retrieve(archive, uids, ["--agree-to-license"]);
      expect(refused.code).toBe(2);
      expect(refused.said).toContain("You do not have access to some series");
      expect(await listFiles(refused.root)).toEqual([]);
      const forced = await retrieve(archive, uids, ["--agree-to-license", "-f"]);
      expect(forced.code).toBe(0);
      expect(await dicomDigests(forced.root)).toEqual(await imageDigests(open));
      expect(requestCounts(archive)).toMatchObject({
        "GET v1/getSeriesMetaData 204": restricted.length,
        "GET v1/getDCMImage 200": open.length,
      });
    });

    it("fetches only what its metadata.csv lacks when told so", async () => {
      const dir = await freshDir("out");
      await retrieve(archive, uidsOf(open.slice(0, 1)), ["--agree-to-license"], { dir });
      const again = await retrieve(archive, uidsOf(open), ["--agree-to-license"], { dir, input: "M\n" });
      expect(requestCounts(archive)["GET v1/getDCMImage 200"]).toBe(open.length - 1);
      expect(await dicomDigests(again.root)).toEqual(await imageDigests(open));
    });

    it("passes over a series that the archive does not know, with exit 0", async () => {
      const theirs = await retrieve(archive, ["1.2.3.4.5", ...uidsOf(open)], ["--agree-to-license"]);
      expect(theirs.code).toBe(0);
      expect(theirs.said).toContain("The metadata for series 1.2.3.4.5 cannot be accessed");
      expect(await dicomDigests(theirs.root)).toEqual(await imageDigests(open));
    });

    it("puts names that are no file names where they lead, and stops at quotes; we escape them", async () => {
      const odd = publicSeries(archive).filter((series) => !plainSeries(archive).includes(series));
      const patients = (paths: readonly string[]): string[] =>
        [...new Set(paths.map((path) => path.split("/").slice(0, -3).join("/")))].filter(Boolean).sort();
      const theirs = await retrieve(archive, uidsOf(odd), ["--agree-to-license"]);
      const ours = await getOurs(archive, uidsOf(odd), "descriptive");
      expect(patients(Object.keys(await dataFiles(theirs.root)))).toEqual([
        "Fantôme/αβ/FAN 002 ",
        "Fantôme/αβ/Möbius-β1",
        "QIN PHANTOM & CO/CON",
      ]);
      expect(patients(Object.keys(await dataFiles(ours)))).toEqual([
        "Fantôme%2Fαβ/FAN 002%20",
        "Fantôme%2Fαβ/Möbius-β1",
        "QIN PHANTOM & CO/%43ON",
        "QIN PHANTOM & CO/QIN%2F002%3Aa%2A%3F%22%3C%3E%7C",
      ]);
      // A quote in a value shifts its columns (getMetaData): the study's UID is then what was not meant.
      const lost = odd.filter(({ patientId }) => patientId.includes('"'));
      expect(theirs.said.match(/Error in downloading series/gu)).toHaveLength(lost.length);
      expect(theirs.code).toBe(0);
      expect(await dicomDigests(ours)).toEqual(await imageDigests(odd));
    });
  });

  it("mixes two series whose descriptions and last five characters are the same; we keep them apart", async () => {
    const parts = {
      patientId: "P1",
      studyInstanceUid: "1.2.840.1.70",
      seriesDescription: "ax",
      manufacturer: "Phantom Works",
    };
    const pair = [dicomSeries("1.2.840.1.12345", parts), dicomSeries("1.2.840.2.12345", parts)];
    const archive = await openArchive(() => datasetOf(pair));
    const theirs = await retrieve(archive, uidsOf(pair), ["--agree-to-license"]);
    expect(theirs.code).toBe(0);
    expect(await dicomDigests(theirs.root)).toEqual(await imageDigests(pair.slice(1)));
    expect((await readMetadata(theirs.root)).size).toBe(2);
    const ours = await getOurs(archive, uidsOf(pair), "descriptive");
    expect(await dicomDigests(ours)).toEqual(await imageDigests(pair));
    const [first, second] = [
      ...new Set(Object.keys(await dataFiles(ours)).map((path) => path.split("/")[3])),
    ];
    expect(second).toMatch(new RegExp(`^${first}~[0-9a-f]{8}$`, "u"));
  });
});
