/** A small archive in memory, of DICOM files that readers accept, for suites that run against it many times. */
import { createHash } from "node:crypto";
import type { Dataset, SandboxInstance, SandboxSeries } from "../../src/sandbox/data/dataset.ts";
import { encodeDicomHead } from "../../src/sandbox/data/dicom-writer.ts";
import { datasetOf, type SeriesParts, tinyBytes, tinySeries } from "../../src/sandbox/tiny-dataset.ts";

/** One image: a DICOM head and `pixelBytes` (even) of a pattern that depends on the UID; `quick`: little work for compressors. */
export function dicomImage(
  seriesInstanceUid: string,
  sopInstanceUid: string,
  instanceNumber: number,
  pixelBytes = 2000,
  quick = false,
): SandboxInstance {
  const head = encodeDicomHead(
    {
      sopClassUid: "1.2.840.10008.5.1.4.1.1.2",
      sopInstanceUid,
      elements: [
        [0x0020000e, "UI", seriesInstanceUid],
        [0x00200013, "IS", String(instanceNumber)],
      ],
    },
    { vr: "OW", sizeBytes: pixelBytes },
  );
  const bytes = Buffer.concat([
    head,
    quick ? quickBytes(sopInstanceUid, pixelBytes) : tinyBytes(sopInstanceUid, pixelBytes),
  ]);
  return {
    sopInstanceUid,
    sopClassUid: "1.2.840.10008.5.1.4.1.1.2",
    instanceNumber,
    acquisitionNumber: 1,
    sizeBytes: bytes.length,
    md5: async () => createHash("md5").update(bytes).digest("hex"),
    async *read() {
      for (let at = 0; at < bytes.length; at += 1024) yield bytes.subarray(at, at + 1024);
    },
  };
}

/** A twelfth that nothing makes smaller, then zeros. */
function quickBytes(sopInstanceUid: string, sizeBytes: number): Uint8Array {
  const noise = createHash("shake256", { outputLength: Math.ceil(sizeBytes / 12) });
  return Buffer.concat([noise.update(sopInstanceUid).digest(), Buffer.alloc(sizeBytes)], sizeBytes);
}

export function dicomSeries(
  seriesInstanceUid: string,
  parts: SeriesParts & {
    readonly count?: number;
    readonly pixelBytes?: number;
    readonly quick?: boolean;
  } = {},
): SandboxSeries {
  const { count = 3, pixelBytes = 2000, quick = false, ...rest } = parts;
  const images = Array.from({ length: count }, (_, index) =>
    dicomImage(seriesInstanceUid, `${seriesInstanceUid}.${index + 1}`, index + 1, pixelBytes, quick),
  );
  return tinySeries(seriesInstanceUid, { images, ...rest });
}

/** Two collections, three patients, four studies, six series; one without images, one with few labels. */
export function smallArchive(): Dataset {
  return datasetOf([
    dicomSeries("1.2.840.1.3", {
      collection: "Brain MR",
      patientId: "b-1",
      studyInstanceUid: "1.2.840.1.90",
      modality: "MR",
      bodyPartExamined: "Brain",
      manufacturer: "Siemens",
    }),
    dicomSeries("1.2.840.1.1", { patientId: "P1", studyInstanceUid: "1.2.840.1.70", count: 4 }),
    dicomSeries("1.2.840.1.6", {
      patientId: "P2",
      studyInstanceUid: "1.2.840.1.80",
      modality: "PT",
      submittedAt: "2020-01-02 03:04:05",
      releasedAt: "2020-01-02 03:04:05",
    }),
    dicomSeries("1.2.840.1.2", { patientId: "P1", studyInstanceUid: "1.2.840.1.70", seriesNumber: 3 }),
    dicomSeries("1.2.840.1.5", { patientId: "P1", studyInstanceUid: "1.2.840.1.71", images: [] }),
    dicomSeries("1.2.840.1.4", {
      patientId: "P2",
      studyInstanceUid: "1.2.840.1.80",
      bodyPartExamined: null,
      seriesNumber: null,
      seriesDescription: null,
      studyDescription: null,
      licenseName: null,
      licenseUri: null,
    }),
  ]);
}
