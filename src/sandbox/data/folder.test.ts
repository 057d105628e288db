import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { mkdir, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import type { Dataset } from "./dataset.ts";
import { type DicomElement, encodeDicomElement, encodeDicomHead } from "./dicom-writer.ts";
import { openFolderDataset } from "./folder.ts";

const root = new URL("../../..", import.meta.url).pathname;
const data = [process.env.GANTRY_TEST_DATA, join(root, "../shared/data")].find(
  (folder) => folder !== undefined && existsSync(folder),
);

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

/** A new folder with these files (paths relative to it); order of writing is order of keys. */
async function makeFolder(files: Readonly<Record<string, string | Uint8Array>>): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "gantry-folder-"));
  folders.push(folder);
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), content);
  }
  return folder;
}

interface Image {
  readonly sop: string;
  readonly series: string;
  readonly study?: string;
  readonly patient?: string;
  readonly number?: number;
  readonly project?: string;
  readonly filler?: number;
}

function image({ sop, series, study = "1.9", patient = "P", number, project, filler = 0 }: Image): Buffer {
  const elements: DicomElement[] = [
    [0x00080060, "CS", "CT"],
    [0x00100020, "LO", patient],
    [0x0020000d, "UI", study],
    [0x0020000e, "UI", series],
    [0x00200013, "IS", number === undefined ? null : String(number)],
  ];
  if (filler > 0) elements.push([0x00190010, "LO", "FILLER"], [0x00191010, "OB", new Uint8Array(filler)]);
  if (project) elements.push([0x00130010, "LO", "CTP"], [0x00131010, "LO", project]);
  const head = encodeDicomHead({ sopClassUid: "1.2.840.10008.5.1.4.1.1.2", sopInstanceUid: sop, elements });
  return Buffer.concat([head, encodeDicomElement([0x7fe00010, "OW", Buffer.from(sop)])]);
}

const reasonFor = (dataset: Dataset, path: string): string | undefined =>
  dataset.problems.find((problem) => problem.path === path)?.reason;

describe("openFolderDataset", () => {
  it("takes the collection from collections.csv, else from CTP's tag, else from the top folder", async () => {
    const folder = await makeFolder({
      "collections.csv": '\ufefffolder,collection\nlisted,Outer\nlisted/inner/,"Inner, quoted"\n',
      "listed/a.dcm": image({ sop: "1.1", series: "1.1.1", project: "ignored" }),
      "listed/inner/deep/b.dcm": image({ sop: "1.2", series: "1.1.2" }),
      "listed-not/c.dcm": image({ sop: "1.3", series: "1.1.3", project: "From CTP" }),
      "plain/sub/d": image({ sop: "1.4", series: "1.1.4" }),
    });
    const dataset = await openFolderDataset(folder);
    expect(dataset.find("1.1.1")?.collection).toBe("Outer");
    expect(dataset.find("1.1.2")?.collection).toBe("Inner, quoted");
    expect(dataset.find("1.1.3")?.collection).toBe("From CTP");
    expect(dataset.find("1.1.4")?.collection).toBe("plain");
    expect(dataset.problems).toEqual([]);
    expect(dataset.seriesCount).toBe(4);
  });

  it("lets the first path in byte order win", async () => {
    const folder = await makeFolder({
      "b/again.dcm": image({ sop: "1.1", series: "1.1.1" }),
      "b/other.dcm": image({ sop: "1.2", series: "1.1.1" }),
      "a/first.dcm": image({ sop: "1.1", series: "1.1.1" }),
      "a/patient.dcm": image({ sop: "1.3", series: "1.1.1", patient: "Q" }),
      "a/study.dcm": image({ sop: "1.4", series: "1.1.1", study: "1.8" }),
      "A/upper.dcm": image({ sop: "1.5", series: "1.1.5" }),
      "a-b/beside.dcm": image({ sop: "1.5", series: "1.1.5" }),
    });
    const dataset = await openFolderDataset(folder);
    expect(dataset.find("1.1.1")).toMatchObject({ collection: "a", imageCount: 1, patientId: "P" });
    expect(dataset.find("1.1.5")?.collection).toBe("A");
    expect(reasonFor(dataset, "b/again.dcm")).toContain("a/first.dcm");
    expect(reasonFor(dataset, "b/other.dcm")).toContain("collection a");
    expect(reasonFor(dataset, "a/patient.dcm")).toContain("patient P");
    expect(reasonFor(dataset, "a/study.dcm")).toContain("study 1.9");
    expect(reasonFor(dataset, "a-b/beside.dcm")).toContain("A/upper.dcm");
    expect(dataset.problems).toHaveLength(5);
  });

  it("sorts images by instance number and gives their bytes and MD5", async () => {
    const files = {
      "c/1.dcm": image({ sop: "1.1", series: "1.5", number: 10 }),
      "c/2.dcm": image({ sop: "1.2", series: "1.5", number: 9 }),
      "c/3.dcm": image({ sop: "1.3", series: "1.5" }),
      "c/4.dcm": image({ sop: "1.4", series: "1.5", number: 9 }),
    };
    const series = (await openFolderDataset(await makeFolder(files))).find("1.5")!;
    expect(series.instances().map(({ sopInstanceUid }) => sopInstanceUid)).toEqual([
      "1.3",
      "1.2",
      "1.4",
      "1.1",
    ]);
    expect(series.imageCount).toBe(4);
    expect(series.fileSizeBytes).toBe(Object.values(files).reduce((sum, file) => sum + file.length, 0));
    const last = series.instances()[3]!;
    expect(await last.md5()).toBe(createHash("md5").update(files["c/1.dcm"]).digest("hex"));
    const chunks: Uint8Array[] = [];
    for await (const chunk of last.read()) chunks.push(chunk);
    expect(Buffer.concat(chunks).equals(files["c/1.dcm"])).toBe(true);
    expect(last.sizeBytes).toBe(files["c/1.dcm"].length);
  });

  it("reads on when private data push the series beyond the first 64 KiB", async () => {
    const far = image({ sop: "1.1", series: "1.5", filler: 2_000_000 });
    expect((await openFolderDataset(await makeFolder({ "c/far.dcm": far }))).find("1.5")?.imageCount).toBe(1);
  });

  it("does not depend on times of files", async () => {
    const folder = await makeFolder({ "c/1.dcm": image({ sop: "1.1", series: "1.5" }) });
    const before = (await openFolderDataset(folder)).find("1.5")!;
    await utimes(join(folder, "c/1.dcm"), 1, 1);
    const after = (await openFolderDataset(folder)).find("1.5")!;
    expect(after.submittedAt).toBe(before.submittedAt);
    expect(after.releasedAt).toBe(before.releasedAt);
    expect(after.submittedAt).toMatch(/^20\d\d-\d\d-\d\d \d\d:\d\d:\d\d$/);
    expect(after.releasedAt >= after.submittedAt).toBe(true);
  });

  it("says of everything else what it is", async () => {
    const folder = await makeFolder({
      ".git/config": "hidden",
      "collections.csv": "no,such,columns\n1,2,3\n",
      "c/empty": "",
      "c/notes.txt": "some words",
      "c/scan.nii.gz": Buffer.from([0x1f, 0x8b, 8, 0]),
      "c/bad-uid.dcm": image({ sop: "../../1", series: "1.5" }),
      "c/no-series.dcm": image({ sop: "1.1", series: "" }),
      "c/DICOMDIR": encodeDicomHead({
        sopClassUid: "1.2.840.10008.1.3.10",
        sopInstanceUid: "1.1",
        elements: [],
      }),
    });
    const dataset = await openFolderDataset(folder);
    expect(dataset.seriesCount).toBe(0);
    expect(dataset.problems.map(({ path }) => path)).toEqual([
      "c/DICOMDIR",
      "c/bad-uid.dcm",
      "c/empty",
      "c/no-series.dcm",
      "c/notes.txt",
      "c/scan.nii.gz",
      "collections.csv",
    ]);
    expect(reasonFor(dataset, "c/DICOMDIR")).toContain("DICOMDIR");
    expect(reasonFor(dataset, "c/empty")).toContain("empty file");
    expect(reasonFor(dataset, "c/notes.txt")).toContain("text");
    expect(reasonFor(dataset, "c/scan.nii.gz")).toContain("NIfTI");
    expect(reasonFor(dataset, "c/bad-uid.dcm")).toContain("SOP Instance UID");
    expect(reasonFor(dataset, "c/no-series.dcm")).toContain("Series Instance UID");
    for (const { reason } of dataset.problems) expect(reason).toMatch(/^[A-Z].*\.$/);
  });

  it("follows links to files within the folder only", async () => {
    const outside = await makeFolder({ "secret.dcm": image({ sop: "1.7", series: "1.7.7" }) });
    const folder = await makeFolder({ "z/store/1": image({ sop: "1.1", series: "1.5" }), "c/keep": "x" });
    await symlink(join(outside, "secret.dcm"), join(folder, "c/out.dcm"));
    await symlink(outside, join(folder, "c/out-folder"));
    await symlink("../z/store", join(folder, "c/in-folder"));
    await symlink("../z/store/1", join(folder, "c/in.dcm"));
    await symlink("nowhere", join(folder, "c/broken"));
    await symlink(".", join(folder, "c/loop"));
    const dataset = await openFolderDataset(folder);
    expect(dataset.find("1.7.7")).toBeUndefined();
    expect(dataset.find("1.5")).toMatchObject({ collection: "c", imageCount: 1 });
    expect(reasonFor(dataset, "c/out.dcm")).toContain("leads out");
    expect(reasonFor(dataset, "c/out-folder")).toContain("leads out");
    expect(reasonFor(dataset, "c/in-folder")).toContain("not followed");
    expect(reasonFor(dataset, "c/loop")).toContain("not followed");
    expect(reasonFor(dataset, "c/broken")).toContain("cannot be followed");
  });

  it("reads the licence beside or in a folder, and has one where there is none", async () => {
    const text =
      "It is distributed under the Creative Commons Attribution 4.0 International License (https://x.test/4/).";
    const folder = await makeFolder({
      "a/s1.LICENSE.txt": text,
      "a/s1/1.dcm": image({ sop: "1.1", series: "1.1.1" }),
      "a/s2/LICENSE": text,
      "a/s2/1.dcm": image({ sop: "1.2", series: "1.1.2" }),
      "a/s3/1.dcm": image({ sop: "1.3", series: "1.1.3" }),
    });
    const dataset = await openFolderDataset(folder);
    const read = {
      licenseName: "Creative Commons Attribution 4.0 International License",
      licenseUri: "https://x.test/4/",
    };
    expect(dataset.find("1.1.1")).toMatchObject(read);
    expect(dataset.find("1.1.2")).toMatchObject(read);
    expect(dataset.find("1.1.3")).toMatchObject({
      licenseName: "Creative Commons Attribution 3.0 Unported License",
      licenseUri: "http://creativecommons.org/licenses/by/3.0/",
    });
    expect(dataset.problems).toEqual([]);
  });

  it("throws when there is no such folder", async () => {
    await expect(openFolderDataset(join(tmpdir(), "gantry-no-such-folder"))).rejects.toThrow();
  });
});

describe.skipIf(!data)("openFolderDataset on real files (GANTRY_TEST_DATA)", () => {
  interface IndexedSeries {
    readonly series_uid: string;
    readonly bytes: number;
    readonly files: readonly { readonly path: string; readonly sop_uid: string; readonly md5: string }[];
  }

  it("finds the 57 series and 513 instances that pydicom finds, with their MD5s", async () => {
    const index = JSON.parse(readFileSync(join(data!, "index.json"), "utf8")) as { series: IndexedSeries[] };
    const regular = index.series.filter(({ files }) => files.every(({ path }) => path.startsWith("dicom/")));
    const dataset = await openFolderDataset(join(data!, "dicom"));
    expect(dataset.seriesCount).toBe(57);
    expect(regular).toHaveLength(57);
    let images = 0;
    for (const expected of regular) {
      const series = dataset.find(expected.series_uid)!;
      expect(series.fileSizeBytes).toBe(expected.bytes);
      const md5s = new Map(expected.files.map(({ sop_uid, md5 }) => [sop_uid, md5]));
      for (const instance of series.instances()) {
        images++;
        expect(await instance.md5()).toBe(md5s.get(instance.sopInstanceUid));
      }
    }
    expect(images).toBe(513);
  });

  it("serves odd files where they can be served, under the names of collections.csv", async () => {
    const dataset = await openFolderDataset(data!);
    const collections = new Set([...dataset.series()].map((series) => series.collection));
    expect(collections).toContain("Soft-tissue-Sarcoma");
    expect(collections).toContain("dicom-odd");
    // "dicom-odd/" comes before "dicom/" in byte order, so that the odd one of two equals is served.
    expect(reasonFor(dataset, "dicom/29-nema-wg04-CT1-small/ct_image.dcm")).toContain("dicom-odd");
    expect(reasonFor(dataset, "dicom-odd/DICOMDIR-nopatient")).toContain("DICOMDIR");
    expect(reasonFor(dataset, "dicom-odd/gzipped.dcm.gz")).toContain("gzip");
  });
});
