import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { parseDicomHeader } from "../../model/dicom.ts";
import type { SandboxInstance, SandboxSeries } from "./dataset.ts";
import { mergeDatasets } from "./merge.ts";
import { buildPhantomDataset } from "./phantom.ts";
import { buildScaleDataset } from "./scale.ts";

async function bytesOf(instance: SandboxInstance): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of instance.read()) chunks.push(chunk);
  return Buffer.concat(chunks);
}

const dataset = buildPhantomDataset({ seed: 1 });
const all = [...dataset.series()];
const described = (description: string): SandboxSeries[] =>
  all.filter((series) => series.seriesDescription === description);
const instances = all.flatMap((series) => series.instances());

describe("buildPhantomDataset", () => {
  it("is small and complete", () => {
    expect(all.length).toBe(dataset.seriesCount);
    expect(all.length).toBeGreaterThanOrEqual(40);
    expect(instances.length).toBeGreaterThanOrEqual(590);
    expect(instances.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)).toBeLessThan(8e6);
    expect(new Set(all.map((series) => series.collection))).toEqual(
      new Set(["Phantom-CT", "QIN PHANTOM & CO", "Fantôme/αβ", "Phantom-Restricted"]),
    );
    expect(new Set(all.map((series) => series.modality))).toEqual(
      new Set(["CT", "MR", "PT", "SEG", "RTSTRUCT"]),
    );
    expect(all.every((series) => dataset.find(series.seriesInstanceUid) === series)).toBe(true);
    expect(dataset.find("1.2.3")).toBeUndefined();
  });

  it("uses every UID once", () => {
    expect(new Set(all.map((series) => series.seriesInstanceUid)).size).toBe(all.length);
    expect(new Set(instances.map((instance) => instance.sopInstanceUid)).size).toBe(instances.length);
    for (const { sopInstanceUid } of instances) expect(sopInstanceUid).toMatch(/^2\.25\.[1-9]\d{36,38}$/);
  });

  it("holds the awkward cases", () => {
    const twins = described("Recon 2");
    expect(twins).toHaveLength(2);
    expect(twins[0]!.seriesInstanceUid.slice(-5)).toBe(twins[1]!.seriesInstanceUid.slice(-5));
    expect(twins[0]!.studyInstanceUid).toBe(twins[1]!.studyInstanceUid);
    const [disputed] = described("Announces two images too many");
    expect(disputed!.imageCount).toBe(disputed!.instances().length + 2);
    expect(described("No images at all")[0]).toMatchObject({ imageCount: 0, fileSizeBytes: 0 });
    expect(described("No series number")[0]!.seriesNumber).toBeNull();
    expect(all.some((series) => series.manufacturer === null)).toBe(true);
    expect(all.some((series) => series.manufacturer === '"Phantom Healthcare" ')).toBe(true);
    expect(all.some((series) => series.bodyPartExamined === null)).toBe(true);
    expect(all.some((series) => series.studyDescription === null)).toBe(true);
    expect(all.some((series) => (series.seriesDescription?.length ?? 0) > 60)).toBe(true);
    expect(all.some((series) => /[/].*,|,.*[/]/.test(series.seriesDescription ?? ""))).toBe(true);
    const shared = all
      .filter((series) => series.patientId === "PHANTOM-0001")
      .map((series) => series.collection);
    expect(new Set(shared).size).toBe(2);
    expect(new Set(all.filter((s) => s.access === "restricted").map((s) => s.collection))).toEqual(
      new Set(["Phantom-Restricted"]),
    );
  });

  it("writes into the files what the rows say, at the length and MD5 they say", async () => {
    for (const series of all) {
      if (series.imageCount === series.instances().length) {
        expect(series.fileSizeBytes).toBe(
          series.instances().reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
        );
      }
      for (const instance of series.instances()) {
        const bytes = await bytesOf(instance);
        expect(bytes.length).toBe(instance.sizeBytes);
        expect(await instance.md5()).toBe(createHash("md5").update(bytes).digest("hex"));
        const header = parseDicomHeader(bytes);
        expect(header).toMatchObject({
          sopInstanceUid: instance.sopInstanceUid,
          sopClassUid: instance.sopClassUid,
          instanceNumber: instance.instanceNumber,
          acquisitionNumber: instance.acquisitionNumber,
          seriesInstanceUid: series.seriesInstanceUid,
          studyInstanceUid: series.studyInstanceUid,
          patientId: series.patientId.trimEnd(),
          patientAge: series.patientAge,
          ctpProject: series.collection,
          ctpSite: series.site,
          studyDate: series.studyDate,
          seriesDate: series.seriesDate,
          seriesDescription: series.seriesDescription,
          studyDescription: series.studyDescription,
          manufacturer: series.manufacturer?.trimEnd() ?? null,
          modality: series.modality,
          seriesNumber: series.seriesNumber,
          bodyPartExamined: series.bodyPartExamined,
          pixelSpacingMm: series.pixelSpacingMm,
          sliceThicknessMm: series.sliceThicknessMm,
          complete: true,
        });
      }
    }
  });

  it("refers from contours and segmentations to a series of the same study", async () => {
    const drawn = all.filter((series) => series.modality === "RTSTRUCT" || series.modality === "SEG");
    expect(drawn.length).toBeGreaterThanOrEqual(4);
    for (const series of drawn) {
      const bytes = await bytesOf(series.instances()[0]!);
      const siblings = all.filter(
        (other) => other !== series && other.studyInstanceUid === series.studyInstanceUid,
      );
      const sources = siblings.filter((other) => bytes.includes(other.seriesInstanceUid));
      expect(sources).toHaveLength(1);
      expect(sources[0]!.instances().some((image) => bytes.includes(image.sopInstanceUid))).toBe(true);
    }
  });

  it("shows the phantom in every slice", async () => {
    for (const series of all.filter(({ modality }) => modality === "CT" || modality === "MR")) {
      const count = series.instances().length;
      for (const index of [0, count - 1]) {
        const instance = series.instances()[index];
        if (!instance) continue;
        const bytes = await bytesOf(instance);
        // The skull is the only thing as dense as this, in any modality; grain alone stays far below.
        let brightest = 0;
        for (let at = bytes.length - 8192; at < bytes.length; at += 2) {
          brightest = Math.max(brightest, bytes.readUInt16LE(at));
        }
        expect(brightest).toBeGreaterThan(800);
      }
    }
  });

  it("depends on the seed and on nothing else", async () => {
    const again = [...buildPhantomDataset({ seed: 1 }).series()];
    expect(JSON.stringify(again)).toBe(JSON.stringify(all));
    const withImages = again.findIndex((series) => series.imageCount > 0);
    expect(await again[withImages]!.instances()[0]!.md5()).toBe(await all[withImages]!.instances()[0]!.md5());
    const other = [...buildPhantomDataset({ seed: 2 }).series()];
    expect(other.length).toBe(all.length);
    expect(other.some((series) => dataset.find(series.seriesInstanceUid))).toBe(false);
  });

  it("describes collections in HTML, where they have a description", () => {
    expect(dataset.collectionDescription("Phantom-CT")).toMatchObject({ doi: "10.5072/phantom-ct" });
    expect(dataset.collectionDescription("Fantôme/αβ")).toBeUndefined();
    expect(dataset.collectionDescription("nothing")).toBeUndefined();
  });
});

describe("mergeDatasets", () => {
  it("holds both", () => {
    const scale = buildScaleDataset({ series: 7, imagesPerSeries: 1, imageBytes: 4096, seed: 1 });
    const merged = mergeDatasets(dataset, scale);
    expect([...merged.series()]).toHaveLength(merged.seriesCount);
    for (const series of merged.series()) {
      expect(merged.find(series.seriesInstanceUid)?.collection).toBe(series.collection);
    }
    expect(merged.collectionDescription("SCALE-01")).toBeDefined();
    expect(merged.collectionDescription("Phantom-CT")).toBeDefined();
  });
});

const dcmdump = spawnSync("dcmdump", ["--version"]).status === 0;

describe.skipIf(!dcmdump)("generated files as dcmdump (DCMTK) reads them", () => {
  const folder = mkdtempSync(join(tmpdir(), "gantry-phantom-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** What dcmdump complains about; it reads a folder's files in one process. */
  async function complaintsAbout(images: readonly SandboxInstance[]): Promise<string> {
    const paths: string[] = [];
    for (const [index, instance] of images.entries()) {
      const path = join(folder, `${index}.dcm`);
      writeFileSync(path, await bytesOf(instance));
      paths.push(path);
    }
    const { status, stderr, stdout } = spawnSync("dcmdump", ["+P", "0008,0018", ...paths], {
      encoding: "utf8",
    });
    expect(status).toBe(0);
    for (const instance of images) expect(stdout).toContain(`[${instance.sopInstanceUid}]`);
    return stderr;
  }

  it("finds no fault in any phantom image", async () => {
    expect(await complaintsAbout(instances)).toBe("");
  });

  it("finds no fault in scale images of any size", async () => {
    const images = [2048, 2050, 4098, 100_000, 1_234_568].flatMap((imageBytes) => {
      const [series] = buildScaleDataset({
        series: 1,
        imagesPerSeries: 2,
        imageBytes,
        seed: imageBytes,
      }).series();
      return series!.instances();
    });
    expect(await complaintsAbout(images)).toBe("");
  });
});
