import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseDicomHeader } from "../../model/dicom.ts";
import type { SandboxInstance } from "./dataset.ts";
import { buildScaleDataset } from "./scale.ts";

async function bytesOf(instance: SandboxInstance): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of instance.read()) chunks.push(chunk);
  return Buffer.concat(chunks);
}

describe("buildScaleDataset", () => {
  it("finds every series it lists, lists each once, and not in order", () => {
    fc.assert(
      fc.property(fc.nat(300), fc.nat(), (series, seed) => {
        const dataset = buildScaleDataset({ series, imagesPerSeries: 1, imageBytes: 4096, seed });
        const uids = [...dataset.series()].map((row) => row.seriesInstanceUid);
        expect(new Set(uids).size).toBe(series);
        expect(dataset.seriesCount).toBe(series);
        for (const uid of uids) expect(dataset.find(uid)?.seriesInstanceUid).toBe(uid);
        if (series > 10) expect(uids).not.toEqual(uids.toSorted());
      }),
      { numRuns: 40 },
    );
  });

  it("gives valid UIDs of the usual length and rows that repeat", () => {
    const build = () => buildScaleDataset({ series: 50, imagesPerSeries: 3, imageBytes: 4096, seed: 9 });
    const plain = (row: object) => JSON.stringify(row);
    expect([...build().series()].map(plain)).toEqual([...build().series()].map(plain));
    for (const row of build().series()) {
      expect(row.seriesInstanceUid).toMatch(/^[0-9.]{64}$/);
      expect(plain(row).length).toBeGreaterThan(700);
    }
  });

  it("does not find what it does not hold", () => {
    const dataset = buildScaleDataset({ series: 5, imagesPerSeries: 1, imageBytes: 4096, seed: 1 });
    const [row] = dataset.series();
    const other = buildScaleDataset({ series: 500, imagesPerSeries: 1, imageBytes: 4096, seed: 1 });
    const beyond = [...other.series()].filter((candidate) => !dataset.find(candidate.seriesInstanceUid));
    expect(beyond).toHaveLength(495);
    expect(dataset.find(row!.studyInstanceUid)).toBeUndefined();
    expect(dataset.find(row!.instances()[0]!.sopInstanceUid)).toBeUndefined();
    expect(dataset.find("1.2.3")).toBeUndefined();
    expect(dataset.find("")).toBeUndefined();
  });

  it("shares the series between collections", () => {
    const dataset = buildScaleDataset({
      series: 100,
      imagesPerSeries: 1,
      imageBytes: 4096,
      seed: 1,
      collections: 3,
    });
    const collections = new Set([...dataset.series()].map((row) => row.collection));
    expect([...collections].sort()).toEqual(["SCALE-01", "SCALE-02", "SCALE-03"]);
    expect(dataset.collectionDescription("SCALE-01")?.html).toContain("SCALE-01");
    expect(dataset.collectionDescription("other")).toBeUndefined();
  });

  for (const imageBytes of [2048, 2050, 4097, 65_536, 700_002]) {
    it(`makes images of ${imageBytes} bytes that say who they are`, async () => {
      const dataset = buildScaleDataset({ series: 4, imagesPerSeries: 2, imageBytes, seed: 5 });
      for (const row of dataset.series()) {
        for (const instance of row.instances()) {
          const bytes = await bytesOf(instance);
          expect(bytes.length).toBe(imageBytes - (imageBytes % 2));
          expect(instance.sizeBytes).toBe(bytes.length);
          expect(parseDicomHeader(bytes)).toMatchObject({
            sopInstanceUid: instance.sopInstanceUid,
            seriesInstanceUid: row.seriesInstanceUid,
            studyInstanceUid: row.studyInstanceUid,
            patientId: row.patientId,
            instanceNumber: instance.instanceNumber,
          });
          expect(await instance.md5()).toBe(createHash("md5").update(bytes).digest("hex"));
        }
        expect(row.fileSizeBytes).toBe(row.instances().reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));
        expect(row.imageCount).toBe(row.instances().length);
      }
    });
  }

  it("makes different images of different indices and seeds", async () => {
    const md5s = new Set<string>();
    for (const seed of [1, 2]) {
      const dataset = buildScaleDataset({ series: 3, imagesPerSeries: 3, imageBytes: 8192, seed });
      for (const row of dataset.series())
        for (const instance of row.instances()) md5s.add(await instance.md5());
    }
    expect(md5s.size).toBe(18);
  });

  it("refuses impossible options", () => {
    const options = { series: 1, imagesPerSeries: 1, imageBytes: 4096, seed: 1 };
    expect(() => buildScaleDataset({ ...options, imageBytes: 10 })).toThrow(RangeError);
    expect(() => buildScaleDataset({ ...options, imageBytes: 5e9 })).toThrow(RangeError);
    expect(() => buildScaleDataset({ ...options, series: 1e9 })).toThrow(RangeError);
    expect(() => buildScaleDataset({ ...options, series: 1.5 })).toThrow(RangeError);
    expect(() => buildScaleDataset({ ...options, collections: 0 })).toThrow(RangeError);
  });
});
