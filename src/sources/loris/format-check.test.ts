import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { testData } from "../../../test/support/gantry.ts";
import { buildMinc } from "../../sandbox/data/minc-writer.ts";
import { checkedBody, niftiBytes } from "./format-check.ts";

/** A NIfTI-1 image of 10 × 10 × 10 voxels of two bytes, with content that does not pack to nothing. */
function nifti(bytes = 2352): Buffer {
  const image = Buffer.alloc(bytes);
  for (let at = 352; at < bytes; at += 1) image[at] = (at * at * 31) % 251;
  image.writeInt32LE(348, 0);
  for (const [n, length] of [3, 10, 10, 10].entries()) image.writeInt16LE(length, 40 + 2 * n);
  image.writeInt16LE(16, 72);
  image.writeFloatLE(352, 108);
  return image;
}

async function check(name: string, content: Uint8Array | string, piece = 100): Promise<Buffer> {
  const bytes = Buffer.from(content);
  async function* body(): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < bytes.length; at += piece) yield bytes.subarray(at, at + piece);
  }
  const passed: Uint8Array[] = [];
  for await (const chunk of checkedBody(name, body())) passed.push(chunk);
  return Buffer.concat(passed);
}

const flipped = (bytes: Buffer, at: number): Buffer => {
  const other = Buffer.from(bytes);
  other[at] = (other[at] ?? 0) ^ 0x55;
  return other;
};
const packed = gzipSync(nifti());
const volume = { shape: [4, 4, 4, 1], spacing: [1, 1, 1, 1], voxels: new Uint8Array(128) } as const;
const minc = Buffer.from(buildMinc(volume));

describe("what passes", () => {
  it.each([
    ["a.nii.gz", packed],
    ["a.json", '{"RepetitionTime": 2}'],
    ["a.tsv", "filename\tage\n"],
    ["README", "text < html"],
    ["a.mnc", minc],
    ["a.mnc", "CDF\u0001 and more"],
  ])("%s comes through unchanged", async (name, content) => {
    expect(await check(name, content)).toEqual(Buffer.from(content));
  });
});

describe("what is refused", () => {
  it.each([
    ["a cut MINC file", "a.mnc", minc.subarray(0, -1)],
    ["no MINC file", "a.mnc", "text"],
    ["a sum that differs", "a.nii.gz", flipped(packed, packed.length - 6)],
    ["a length that differs", "a.nii.gz", flipped(packed, packed.length - 2)],
    ["data that differ", "a.nii.gz", flipped(packed, packed.length >> 1)],
    ["a cut gzip file", "a.nii.gz", packed.subarray(0, -1)],
    ["no gzip file", "a.nii.gz", nifti()],
    ["a whole gzip file of a cut image", "a.nii.gz", gzipSync(nifti(2351))],
    ["a gzip file of another thing", "a.nii.gz", gzipSync("text")],
    ["cut JSON", "a.json", '{"a": '],
    ["an error in place of JSON", "a.json", '{"error":"File not found"}'],
    ["an error in place of a table", "a.tsv", '{"error":"File not found"}'],
    ["a web page", "a.bval", "\n<!DOCTYPE html><p>"],
    ["nothing", "README", ""],
  ])("%s", async (_what, name, content) => {
    await expect(check(name, content)).rejects.toMatchObject({ code: "proof-format" });
  });
});

it("reads headers of both byte orders", () => {
  const image = nifti();
  image.subarray(0, 4).swap32();
  image.subarray(40, 56).swap16();
  image.subarray(72, 74).swap16();
  image.subarray(108, 112).swap32();
  expect(niftiBytes(image)).toBe(2352);
});

describe.skipIf(testData === null)("real MINC files (needs GANTRY_TEST_DATA)", () => {
  const folder = join(testData ?? "", "minc");
  const names = testData === null ? [] : readdirSync(folder, { recursive: true }).map(String);
  it.each(names.filter((name) => name.endsWith(".mnc")))("%s passes", async (name) => {
    const bytes = readFileSync(join(folder, name));
    expect((await check(name, bytes, 65_536)).equals(bytes)).toBe(true);
  });
});
