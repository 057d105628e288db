/** A few series in memory, with one of each oddity, for the tests of the sandbox's servers. */
import { createHash } from "node:crypto";
import type { Dataset, SandboxInstance, SandboxSeries } from "./data/dataset.ts";

/** Bytes of an image: `sizeBytes` of a pattern that depends on the UID. */
export function tinyBytes(sopInstanceUid: string, sizeBytes: number): Uint8Array {
  const seed = createHash("sha512").update(sopInstanceUid).digest();
  return Uint8Array.from({ length: sizeBytes }, (_, index) => seed[index % 61]! ^ (index >> 5));
}

export function tinyImage(
  sopInstanceUid: string,
  instanceNumber: number | null,
  acquisitionNumber: number | null = 1,
  sizeBytes = 3000,
): SandboxInstance {
  const bytes = tinyBytes(sopInstanceUid, sizeBytes);
  return {
    sopInstanceUid,
    sopClassUid: "1.2.840.10008.5.1.4.1.1.2",
    instanceNumber,
    acquisitionNumber,
    sizeBytes,
    md5: async () => createHash("md5").update(bytes).digest("hex"),
    async *read() {
      for (let at = 0; at < bytes.length; at += 1024) yield bytes.subarray(at, at + 1024);
    },
  };
}

export type SeriesParts = Partial<Omit<SandboxSeries, "instances">> & {
  readonly images?: readonly SandboxInstance[];
};

export function tinySeries(seriesInstanceUid: string, parts: SeriesParts = {}): SandboxSeries {
  const images =
    parts.images ?? [1, 2, 3].map((number) => tinyImage(`${seriesInstanceUid}.${number}`, number));
  return {
    seriesInstanceUid,
    studyInstanceUid: "1.2.3.100",
    collection: "LUNG CT",
    patientId: "P1",
    patientName: null,
    patientSex: "F",
    patientBirthDate: null,
    patientAge: "061Y",
    ethnicGroup: null,
    studyDate: "2003-12-12",
    studyDescription: "CHEST/ABD, contrast",
    studyId: "SID7",
    admittingDiagnosis: null,
    modality: "CT",
    protocolName: null,
    seriesDate: "2003-12-12",
    seriesDescription: "ax é, thin/5",
    bodyPartExamined: "Chest",
    seriesNumber: 2,
    manufacturer: '"GE Healthcare", Inc',
    manufacturerModelName: "Lightspeed",
    softwareVersions: null,
    pixelSpacingMm: "0.7, 0.8",
    sliceThicknessMm: "5.0",
    licenseName: "Creative Commons Attribution 3.0 Unported License",
    licenseUri: "http://creativecommons.org/licenses/by/3.0/",
    dataDescriptionUri: "https://doi.org/10.7937/tiny",
    submittedAt: "2015-05-27 17:12:21",
    releasedAt: "2015-05-27 17:12:21",
    thirdPartyAnalysis: null,
    site: null,
    species: null,
    imageCount: images.length,
    fileSizeBytes: images.reduce((sum, image) => sum + image.sizeBytes, 0),
    access: "public",
    ...parts,
    instances: () => images,
  };
}

export function datasetOf(all: readonly SandboxSeries[]): Dataset {
  const byUid = new Map(all.map((series) => [series.seriesInstanceUid, series]));
  return {
    series: () => all,
    find: (uid) => byUid.get(uid),
    seriesCount: all.length,
    problems: [],
    collectionDescription: (collection) =>
      collection === "LUNG CT" ? { html: "<p>Lungs</p>", doi: "10.7937/tiny" } : undefined,
  };
}

/** `1.2.3.1` plain; `.2` in runs of acquisitions; `.3` empty; `.4` restricted; `.5` NLST; `.6` with many nulls. */
export function tinyDataset(): Dataset {
  const runs = [1, 1, 2, 2, 1].map((acquisition, index) =>
    tinyImage(`1.2.3.2.${index + 1}`, index + 1, acquisition, 1000 + index),
  );
  return datasetOf([
    tinySeries("1.2.3.1"),
    tinySeries("1.2.3.5", { collection: "NLST", patientId: "N1", studyInstanceUid: "1.2.3.500" }),
    tinySeries("1.2.3.2", {
      patientId: "P2",
      studyInstanceUid: "1.2.3.200",
      modality: "MR",
      images: runs,
      submittedAt: "2020-01-02 03:04:05",
    }),
    tinySeries("1.2.3.3", { images: [], bodyPartExamined: null }),
    tinySeries("1.2.3.4", {
      collection: "SECRET",
      patientId: "S1",
      studyInstanceUid: "1.2.3.400",
      access: "restricted",
    }),
    tinySeries("1.2.3.6", {
      bodyPartExamined: null,
      modality: null,
      seriesNumber: null,
      seriesDescription: null,
      studyDescription: null,
      licenseName: null,
      licenseUri: null,
    }),
  ]);
}
