/** What is downloaded: archives of one shape, with pixels that compress as real ones do. */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { deflateRawSync } from "node:zlib";
import type { Dataset, SandboxInstance } from "../src/sandbox/data/dataset.ts";
import { productModule } from "./product.ts";

export interface Workload {
  readonly name: string;
  readonly series: number;
  readonly imagesPerSeries: number;
  readonly imageBytes: number;
}

const LARGE_IMAGE_BYTES = 512 * 1024;

const WORKLOADS = {
  "many-small": { series: 400, imagesPerSeries: 10, imageBytes: 20_000 },
  "few-large": { series: 12, imagesPerSeries: 200, imageBytes: LARGE_IMAGE_BYTES },
  /** 160 MiB, for a compressor that takes a minute for them. */
  "some-large": { series: 16, imagesPerSeries: 20, imageBytes: LARGE_IMAGE_BYTES },
  /** 2 GB in one archive file. */
  "two-gigabytes": { series: 19, imagesPerSeries: 200, imageBytes: LARGE_IMAGE_BYTES },
  "many-tiny": { series: 10_000, imagesPerSeries: 1, imageBytes: 2_000 },
} as const;

/** Throws when there is none of the name. */
export function workloadOf(name: string): Workload {
  const shape = Object.entries(WORKLOADS).find(([each]) => each === name)?.[1];
  if (!shape) throw new Error(`there is no workload ${name}`);
  return { name, ...shape };
}

/** The one collection of every workload. */
export const COLLECTION = "SCALE-01";

const POOL_BYTES = 8 * 1024 * 1024;
const HEAD_BYTES = 8 * 1024;
const CHUNK_BYTES = 256 * 1024;

/** The archive of a workload, and where its pixels come from. */
export async function buildWorkload(workload: Workload): Promise<{ data: Dataset; pixels: string }> {
  const { buildScaleDataset } =
    await productModule<typeof import("../src/sandbox/data/scale.ts")>("sandbox/data/scale.js");
  const real = realPixels();
  const pool = real ?? (await phantomPixels());
  return {
    data: repainted(buildScaleDataset({ ...workload, seed: 1 }), pool),
    pixels: real ? "pixels of real images" : "phantom pixels",
  };
}

/**
 * The data set with every byte behind the DICOM heads taken from the pool, a different window for each image, and all its
 * values moved by a number of the image's own: no two images of an archive hold the same bytes, which a compressor with
 * a large memory would find.
 */
function repainted(data: Dataset, pool: Uint8Array): Dataset {
  const md5s = new Map<string, Promise<string>>();
  async function* read(image: SandboxInstance): AsyncGenerator<Uint8Array> {
    const random = createHash("sha1").update(image.sopInstanceUid).digest().readUInt32LE(0);
    let at = (random % ((pool.length - CHUNK_BYTES) / 2)) * 2;
    let head = true;
    for await (const chunk of image.read()) {
      if (!head && at + chunk.length > pool.length) at = 0;
      yield head ? chunk : moved(pool.subarray(at, at + chunk.length), random >>> 16);
      if (!head) at += chunk.length;
      head = false;
    }
  }
  const md5 = async (image: SandboxInstance): Promise<string> => {
    const hash = createHash("md5");
    for await (const chunk of read(image)) hash.update(chunk);
    return hash.digest("hex");
  };
  const painted = (image: SandboxInstance): SandboxInstance => ({
    ...image,
    read: () => read(image),
    md5: () => {
      const known = md5s.get(image.sopInstanceUid) ?? md5(image);
      md5s.set(image.sopInstanceUid, known);
      return known;
    },
  });
  type Series = NonNullable<ReturnType<Dataset["find"]>>;
  const series = (one: Series): Series => ({ ...one, instances: () => one.instances().map(painted) });
  return {
    ...data,
    *series() {
      for (const one of data.series()) yield series(one);
    },
    find: (uid) => {
      const found = data.find(uid);
      return found && series(found);
    },
  };
}

/** Values of 16 bits, each larger by `by`, modulo 2^16. */
function moved(pixels: Uint8Array, by: number): Uint8Array {
  const copy = Uint8Array.from(pixels);
  const values = new Uint16Array(copy.buffer, 0, copy.length >> 1);
  for (let index = 0; index < values.length; index += 1) values[index] = (values[index] as number) + by;
  return copy;
}

/** Pixels of uncompressed images from `$GANTRY_TEST_DATA` or `../shared/data`, as many as are needed. */
function realPixels(): Uint8Array | undefined {
  const folder = process.env.GANTRY_TEST_DATA ?? "../shared/data";
  const root = join(folder, "dicom");
  if (!existsSync(root)) return undefined;
  const parts: Uint8Array[] = [];
  let total = 0;
  for (const name of readdirSync(root, { recursive: true, encoding: "utf8" }).sort()) {
    if (!name.endsWith(".dcm") || total >= POOL_BYTES) continue;
    const pixels = readFileSync(join(root, name)).subarray(HEAD_BYTES);
    const ratio =
      deflateRawSync(pixels.subarray(0, CHUNK_BYTES)).length / Math.min(pixels.length, CHUNK_BYTES);
    // Files compressed already, and masks, are not what a CT or MR volume is like.
    if (pixels.length < 64 * 1024 || ratio > 0.8 || ratio < 0.2) continue;
    parts.push(pixels.subarray(0, CHUNK_BYTES));
    total += Math.min(pixels.length, CHUNK_BYTES);
  }
  return total < 4 * CHUNK_BYTES ? undefined : Buffer.concat(parts);
}

async function phantomPixels(): Promise<Uint8Array> {
  const { paintPhantomSlice } = await productModule<typeof import("../src/sandbox/data/phantom-image.ts")>(
    "sandbox/data/phantom-image.js",
  );
  const look = { air: 0, unit: 1000, grain: 16 };
  return Buffer.concat(
    Array.from({ length: 256 }, (_, slice) => paintPhantomSlice((slice - 128) / 160, 7, slice + 1, look)),
  );
}
