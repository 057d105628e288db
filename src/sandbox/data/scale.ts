/** Synthetic archives of any size: rows and images are computed from their index, nothing is kept. */

import { setImmediate as nextTurn } from "node:timers/promises";
import { archiveDates, CC_BY_3 } from "./archive-facts.ts";
import type { Dataset, SandboxInstance, SandboxSeries } from "./dataset.ts";
import { type DicomFile, encodeDicomElement, encodeDicomHead } from "./dicom-writer.ts";
import { md5Once } from "./md5-once.ts";

export interface ScaleOptions {
  /** Number of series, at most 90 million. */
  readonly series: number;
  readonly imagesPerSeries: number;
  /** Size of every file: rounded down to an even number; at least about a kilobyte, at most 4 GB. */
  readonly imageBytes: number;
  readonly seed: number;
  /** Collections `SCALE-01`, `SCALE-02` … that share the series evenly; 1 when absent. */
  readonly collections?: number;
}

const CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2";
/** A UUID-derived root (PS3.5 B.2); with 19 digits below it a UID has 64 characters, as the archive's mostly do. */
const UID_ROOT = "2.25.188374092838477411038560279113920567811";
const UID_PATTERN = /^2\.25\.188374092838477411038560279113920567811\.[123]\d{3}(\d{10})\d{5}$/;
const KINDS = { study: 1, series: 2, image: 3 } as const;
const SERIES_PER_STUDY = 4;
const STUDIES_PER_PATIENT = 2;
const CHUNK_BYTES = 256 * 1024;
const GRAIN_BYTES = 2 * 1024 * 1024;
/** The event loop gets a turn after so many bytes, or hashing a large image would stop the server. */
const TURN_BYTES = 4 * 1024 * 1024;
const MD5_MEMORY = 65_536;

const DESCRIPTIONS = [
  "ThorRoutine  5.0  B40f",
  "AX T2 FRFSE PROPELLER FS",
  "LUNG 1.25mm STND, retro",
  "PET WB CTAC",
  null,
  "ep2d_diff_b50_400_800_tra_ADC",
];
const BODY_PARTS = ["CHEST", "ABDOMEN", null, "PROSTATE", "BREAST", "HEADNECK", "EXTREMITY"];
const MANUFACTURERS = ["GE MEDICAL SYSTEMS", "SIEMENS", "Philips Medical Systems", "TOSHIBA", null];
const MODELS = ["LightSpeed VCT", "Biograph mCT Flow 20", "Ingenia Elition X", "Aquilion ONE"];

/** A 32-bit mix of two numbers. */
function mix(a: number, b: number): number {
  let hash = Math.imul(a ^ (b + 0x9e3779b9), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 15) ^ Math.floor(a / 0x100000000), 0xc2b2ae35);
  hash = Math.imul(hash ^ (hash >>> 13), 0x27d4eb2f);
  return (hash ^ (hash >>> 16)) >>> 0;
}

const pick = <T>(choices: readonly T[], hash: number): T => choices[hash % choices.length] as T;

const greatestDivisor = (a: number, b: number): number => (b === 0 ? a : greatestDivisor(b, a % b));

/** A step through 0 … count-1 that meets every number once and jumps far each time. */
function strideOf(count: number): number {
  let stride = Math.max(1, Math.floor(count * 0.6180339887));
  while (greatestDivisor(stride, count) !== 1) stride++;
  return stride;
}

const isoDay = (hash: number): string =>
  new Date(Date.UTC(1995, 0, 1) + (hash % 10_000) * 86_400_000).toISOString().slice(0, 10);

/** 12-bit grain, made once for each seed; images show windows of it, so that their bytes cost nothing. */
function makeGrain(seed: number): Uint8Array {
  const grain = new Uint8Array(GRAIN_BYTES);
  let random = mix(seed, 1) | 1;
  for (let at = 0; at < GRAIN_BYTES; at += 2) {
    random ^= random << 13;
    random ^= random >>> 17;
    random ^= random << 5;
    grain[at] = random & 0xff;
    grain[at + 1] = (random >>> 8) & 0x0f;
  }
  return grain;
}

/** Rows × columns of 16 bits that fill `bytes` (even), and the trailing padding element for what they leave. */
function layOut(bytes: number): { rows: number; columns: number; paddingBytes: number } {
  let columns = 16;
  while (columns < 32_768 && columns * columns * 2 < bytes) columns *= 2;
  const line = columns * 2;
  let rows = Math.floor(bytes / line);
  // The padding element has a head of 12 bytes: less than that cannot be padded, so a line is given up for it.
  if (bytes % line !== 0 && bytes % line < 12) rows--;
  return { rows, columns, paddingBytes: bytes - rows * line };
}

function checkOptions(options: ScaleOptions): void {
  const { series, imagesPerSeries, imageBytes, collections = 1 } = options;
  const counts = { series, imagesPerSeries, imageBytes, collections };
  for (const [name, value] of Object.entries(counts)) {
    if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${name} must be a whole number`);
  }
  if (series > 90_000_000 || series * imagesPerSeries >= 1e10)
    throw new RangeError("too many series or images");
  if (imageBytes > 4e9) throw new RangeError("imageBytes must be at most 4e9");
  if (collections < 1) throw new RangeError("there must be a collection");
}

/**
 * An archive of `series` series with `imagesPerSeries` images of exactly `imageBytes` each: valid CT images of noise.
 * Series come in a fixed order far from sorted; `find` reads the index out of the UID. Every row, instance and chunk
 * is made when asked for and not kept (the last 65,536 MD5s are), so that memory does not grow with any option.
 * Chunks of `read` are views of shared memory: do not write into them. Throws RangeError for impossible options.
 */
export function buildScaleDataset(options: ScaleOptions): Dataset {
  checkOptions(options);
  const { series: count, imagesPerSeries, seed, collections = 1 } = options;
  const sizeBytes = options.imageBytes - (options.imageBytes % 2);
  const seedDigits = String(Math.abs(Math.trunc(seed)) % 1000).padStart(3, "0");
  let grain: Uint8Array | undefined;

  const uid = (kind: keyof typeof KINDS, index: number): string => {
    const tail = String(mix(index, seed + KINDS[kind]) % 100_000).padStart(5, "0");
    return `${UID_ROOT}.${KINDS[kind]}${seedDigits}${String(index).padStart(10, "0")}${tail}`;
  };
  const collectionOf = (index: number): string =>
    `SCALE-${String(1 + Math.floor((index * collections) / count)).padStart(2, "0")}`;
  const studyOf = (index: number): number => Math.floor(index / SERIES_PER_STUDY);
  const patientIdOf = (index: number): string =>
    `SCALE-${String(Math.floor(studyOf(index) / STUDIES_PER_PATIENT)).padStart(8, "0")}`;

  const fileOf = (image: number, rows: number, columns: number): DicomFile => {
    const index = Math.floor(image / imagesPerSeries);
    return {
      sopClassUid: CT_IMAGE_STORAGE,
      sopInstanceUid: uid("image", image),
      // Every value has the same length for every image, so that all heads have one length.
      elements: [
        [0x00080020, "DA", null],
        [0x00080030, "TM", null],
        [0x00080050, "SH", null],
        [0x00080060, "CS", "CT"],
        [0x00080090, "PN", null],
        [0x00100010, "PN", null],
        [0x00100020, "LO", patientIdOf(index)],
        [0x00100030, "DA", null],
        [0x00100040, "CS", null],
        [0x0020000d, "UI", uid("study", studyOf(index))],
        [0x0020000e, "UI", uid("series", index)],
        [0x00200010, "SH", null],
        [0x00200011, "IS", null],
        [0x00200013, "IS", String((image % imagesPerSeries) + 1).padStart(10, "0")],
        [0x00280002, "US", 1],
        [0x00280004, "CS", "MONOCHROME2"],
        [0x00280010, "US", rows],
        [0x00280011, "US", columns],
        [0x00280100, "US", 16],
        [0x00280101, "US", 12],
        [0x00280102, "US", 11],
        [0x00280103, "US", 0],
      ],
    };
  };
  const headBytes = encodeDicomHead(fileOf(0, 1, 1), { vr: "OW", sizeBytes: 0 }).length;
  if (sizeBytes < headBytes + 64) throw new RangeError(`imageBytes must be at least ${headBytes + 64}`);
  const layout = layOut(sizeBytes - headBytes);
  const pixelBytes = layout.rows * layout.columns * 2;
  const padding =
    layout.paddingBytes === 0
      ? undefined
      : encodeDicomElement([0xfffcfffc, "OB", new Uint8Array(layout.paddingBytes - 12)]);

  async function* read(image: number): AsyncGenerator<Uint8Array> {
    grain ??= makeGrain(seed);
    yield encodeDicomHead(fileOf(image, layout.rows, layout.columns), { vr: "OW", sizeBytes: pixelBytes });
    for (let at = 0; at < pixelBytes; at += CHUNK_BYTES) {
      const length = Math.min(CHUNK_BYTES, pixelBytes - at);
      const offset = (mix(image, at + seed) % ((GRAIN_BYTES - CHUNK_BYTES) / 2)) * 2;
      yield grain.subarray(offset, offset + length);
      if (at > 0 && at % TURN_BYTES === 0) await nextTurn();
    }
    if (padding) yield padding;
  }

  const md5s = new Map<number, () => Promise<string>>();
  const md5Of = (image: number): Promise<string> => {
    let md5 = md5s.get(image);
    if (!md5) {
      md5 = md5Once(() => read(image));
      md5s.set(image, md5);
      if (md5s.size > MD5_MEMORY) md5s.delete(md5s.keys().next().value!);
    }
    return md5();
  };

  const instancesOf = (index: number): SandboxInstance[] =>
    Array.from({ length: imagesPerSeries }, (_, k) => {
      const image = index * imagesPerSeries + k;
      return {
        sopInstanceUid: uid("image", image),
        sopClassUid: CT_IMAGE_STORAGE,
        instanceNumber: k + 1,
        acquisitionNumber: null,
        sizeBytes,
        md5: () => md5Of(image),
        read: () => read(image),
      };
    });

  const rowOf = (index: number): SandboxSeries => {
    const hash = mix(index, seed);
    const studyHash = mix(studyOf(index), seed + 11);
    const seriesInstanceUid = uid("series", index);
    const patientId = patientIdOf(index);
    const collection = collectionOf(index);
    const studyDate = isoDay(studyHash);
    return {
      seriesInstanceUid,
      studyInstanceUid: uid("study", studyOf(index)),
      collection,
      patientId,
      patientName: patientId,
      patientSex: pick(["M", "F", null], studyHash >>> 3),
      patientBirthDate: null,
      patientAge: `0${20 + (studyHash % 70)}Y`,
      ethnicGroup: null,
      studyDate,
      studyDescription: pick(["CT CHEST W CONTRAST", "MRI PROSTATE W WO", null], studyHash >>> 5),
      studyId: String(studyHash % 100_000),
      admittingDiagnosis: null,
      modality: "CT",
      protocolName: pick(["6.2 ROUTINE CHEST/ABD/PEL", null, "2_ThoraxRoutine (Adult)"], hash >>> 7),
      seriesDate: studyDate,
      seriesDescription: pick(DESCRIPTIONS, hash),
      bodyPartExamined: pick(BODY_PARTS, studyHash),
      seriesNumber: 1 + (index % SERIES_PER_STUDY),
      manufacturer: pick(MANUFACTURERS, studyHash >>> 9),
      manufacturerModelName: pick(MODELS, studyHash >>> 9),
      softwareVersions: "07MW18.4",
      pixelSpacingMm: "0.703125",
      sliceThicknessMm: "2.5",
      ...CC_BY_3,
      dataDescriptionUri: `https://doi.org/10.5072/${collection.toLowerCase()}`,
      ...archiveDates(seriesInstanceUid),
      thirdPartyAnalysis: hash % 8 === 0 ? "YES" : "NO",
      site: null,
      species: null,
      imageCount: imagesPerSeries,
      fileSizeBytes: imagesPerSeries * sizeBytes,
      access: "public",
      instances: () => instancesOf(index),
    };
  };

  function* seriesInOrder(): Generator<SandboxSeries> {
    const stride = strideOf(count);
    let index = count === 0 ? 0 : mix(seed, count) % count;
    for (let done = 0; done < count; done++) {
      yield rowOf(index);
      index = (index + stride) % count;
    }
  }

  return {
    series: () => ({ [Symbol.iterator]: seriesInOrder }),
    find: (seriesInstanceUid) => {
      const index = Number(UID_PATTERN.exec(seriesInstanceUid)?.[1] ?? Number.NaN);
      return index < count && uid("series", index) === seriesInstanceUid ? rowOf(index) : undefined;
    },
    seriesCount: count,
    problems: [],
    collectionDescription: (collection) =>
      /^SCALE-\d{2,}$/.test(collection)
        ? { html: `<p>Synthetic collection ${collection}.</p>`, doi: `10.5072/${collection.toLowerCase()}` }
        : undefined,
  };
}
