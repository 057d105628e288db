/**
 * The image endpoints: zips and single files, and what faults do to them. Layout of the zips: CBIIT/NBIA-TCIA
 * software/nbia-api restAPI/V1_getImage.java, restAPI/v4/V4_getImage.java; names of files:
 * software/nbia-dao ImageDAO2Impl.java setNewFileNames, dto/ImageDTO2.java compareTo.
 */
import { type ZipInput, zipStream } from "../../../lib/zip-writer.ts";
import { otherBytes } from "../../../sandbox/changes.ts";
import type { SandboxInstance, SandboxSeries } from "../../../sandbox/data/dataset.ts";
import type { Fault } from "../../../sandbox/faults.ts";
import { databaseOrder } from "../../../sandbox/hash32.ts";
import type { Reply } from "../../../sandbox/stand-ins.ts";
import { collect } from "../../../sandbox/wire.ts";

/** What distinguishes the replies of getImage, getImageWithMD5Hash and getDCMImage. */
export interface ZipShape {
  readonly license: boolean;
  /** `A-II.dcm` in instance order instead of a counter in database order. */
  readonly newFileNames: boolean;
  readonly hashes: boolean;
}

interface NamedImage {
  readonly name: string;
  readonly image: SandboxInstance;
}

/** Order of the images as the database gives them: not that of the instance numbers. */
export function inDatabaseOrder(series: SandboxSeries): SandboxInstance[] {
  return databaseOrder(series.instances(), (image) => image.sopInstanceUid);
}

/**
 * Names `A-II.dcm`: `A` counts runs of equal acquisition number, `II` counts within a run; neither is a DICOM number.
 * Widths are the digits of the number of changes plus one.
 */
export function newFileNames(images: readonly SandboxInstance[]): NamedImage[] {
  const sorted = images.toSorted(
    (a, b) =>
      (a.instanceNumber ?? Number.NEGATIVE_INFINITY) - (b.instanceNumber ?? Number.NEGATIVE_INFINITY) || 0,
  );
  const changes = (of: (image: SandboxInstance) => number | null): number =>
    sorted.filter((image, index) => index > 0 && of(image) !== of(sorted[index - 1]!)).length;
  const acquisition = (image: SandboxInstance) => image.acquisitionNumber ?? 0;
  const runWidth = String(changes(acquisition) + 1).length;
  const imageWidth = String(changes((image) => image.instanceNumber) + 1).length;
  let run = 1;
  let counter = 0;
  return sorted.map((image, index) => {
    if (index > 0 && acquisition(image) !== acquisition(sorted[index - 1]!)) {
      run++;
      counter = 0;
    }
    counter++;
    const name = `${String(run).padStart(runWidth, "0")}-${String(counter).padStart(imageWidth, "0")}.dcm`;
    return { name, image };
  });
}

function named(series: SandboxSeries, shape: ZipShape): NamedImage[] {
  if (shape.newFileNames) return newFileNames(series.instances());
  return inDatabaseOrder(series).map((image, index) => ({
    name: `${String(index + 1).padStart(8, "0")}.dcm`,
    image,
  }));
}

/** The text of LICENSE; what is not known is `Not Specified`. */
export function licenseText(series: SandboxSeries): string {
  const { collection, licenseName, licenseUri } = series;
  const or = (text: string | null) => text ?? "Not Specified";
  return (
    `License Information. The images of the collection ${collection} are offered under the license ` +
    `${or(licenseName)} (${or(licenseUri)}). Whoever uses them agrees to abide by its terms.\n`
  );
}

const SMALL_BYTES = 64 * 1024;

/** Small files in one piece, which the zip writer packs much faster. */
async function contentOf(image: SandboxInstance): Promise<ZipInput["body"]> {
  return image.sizeBytes <= SMALL_BYTES ? collect(image.read()) : image.read();
}

/** The zip of a series as bytes, with the fault (if any) in it. */
export function zipOf(series: SandboxSeries, shape: ZipShape, fault?: Fault): AsyncIterable<Uint8Array> {
  const bytes = zipStream(entriesOf(series, shape, fault));
  switch (fault?.kind) {
    case "flip":
      return whole(bytes, (zip) => flipBit(zip, fault.image ?? 0));
    case "truncated-directory":
      return whole(bytes, (zip) => zip.subarray(0, zip.byteLength - (fault.bytes ?? 40)));
    default:
      return bytes;
  }
}

async function* entriesOf(series: SandboxSeries, shape: ZipShape, fault?: Fault): AsyncIterable<ZipInput> {
  let images = named(series, shape);
  let { hashes } = shape;
  const struck = Math.min(fault?.image ?? 0, Math.max(0, images.length - 1));
  if (fault?.kind === "empty-zip") {
    // What a missing licence row leaves: the exception is swallowed and the zip closed behind an empty file.
    yield { name: "LICENSE", body: new Uint8Array() };
    return;
  }
  if (fault?.kind === "short-zip" || fault?.kind === "short-zip-no-md5") {
    images = images.slice(0, Math.max(0, images.length - (fault.images ?? 1)));
    if (fault.kind === "short-zip-no-md5") hashes = false;
  }
  if (fault?.kind === "hostile-name") {
    const name = fault.name ?? "../../evil.dcm";
    images = images.map((entry, index) => (index === struck ? { ...entry, name } : entry));
  }

  if (shape.license) yield { name: "LICENSE", body: Buffer.from(licenseText(series)) };
  for (const [index, { name, image }] of images.entries()) {
    const hit = index === struck;
    if (hit && fault?.kind === "wrong-bytes") yield { name, body: otherBytes(image).read() };
    else if (hit && fault?.kind === "bomb")
      yield { name, body: inflated(image, fault.inflatesToBytes ?? 2 ** 28) };
    else yield { name, body: await contentOf(image) };
    if (hit && fault?.kind === "duplicate-entry") yield { name, body: await contentOf(image) };
  }
  if (fault?.kind === "extra-file") {
    yield { name: fault.name ?? "unexpected.txt", body: Buffer.from("This file belongs to no image.\n") };
  }
  if (!hashes) return;
  const lines = await Promise.all(
    images.map(async ({ name, image }, index) => {
      const md5 = await image.md5();
      return fault?.kind === "wrong-md5" && index === struck
        ? `${name},${otherDigest(md5)}`
        : `${name},${md5}`;
    }),
  );
  // The server keeps the sums in a hash map: their order is that of no list.
  const body = ["Filename,MD5Hash", ...databaseOrder(lines, (line) => line)].join("\n");
  yield { name: "md5hashes.csv", body: Buffer.from(`${body}\n`) };
}

export function otherDigest(md5: string): string {
  return `${md5.startsWith("0") ? "1" : "0"}${md5.slice(1)}`;
}

/** The image followed by zeros, up to `sizeBytes` in all. */
async function* inflated(image: SandboxInstance, sizeBytes: number): AsyncIterable<Uint8Array> {
  yield* image.read();
  const zeros = new Uint8Array(1024 * 1024);
  for (let left = sizeBytes - image.sizeBytes; left > 0; left -= zeros.byteLength) {
    yield zeros.subarray(0, Math.min(left, zeros.byteLength));
  }
}

async function* whole(
  bytes: AsyncIterable<Uint8Array>,
  change: (zip: Uint8Array) => Uint8Array,
): AsyncIterable<Uint8Array> {
  const zip = change(await collect(bytes));
  for (let at = 0; at < zip.byteLength; at += 65_536) yield zip.subarray(at, at + 65_536);
}

/** Flip one bit in the middle of the packed data of an image; its place comes from the zip's own directory. */
function flipBit(zip: Uint8Array, image: number): Uint8Array {
  const view = Buffer.from(zip.buffer, zip.byteOffset, zip.byteLength);
  let at = view.readUInt32LE(view.length - 22 + 16);
  const places: { name: string; offset: number; packedBytes: number }[] = [];
  while (view.readUInt32LE(at) === 0x02014b50) {
    const nameBytes = view.readUInt16LE(at + 28);
    const name = view.toString("utf8", at + 46, at + 46 + nameBytes);
    const offset = view.readUInt32LE(at + 42) + 30 + nameBytes;
    places.push({ name, offset, packedBytes: view.readUInt32LE(at + 20) });
    at += 46 + nameBytes + view.readUInt16LE(at + 30) + view.readUInt16LE(at + 32);
  }
  const images = places.filter(({ name }) => name.endsWith(".dcm"));
  const place = images[Math.min(image, images.length - 1)];
  if (place !== undefined) zip[place.offset + Math.floor(place.packedBytes / 2)]! ^= 0x10;
  return zip;
}

/** Head of a zip reply: no length, no validator, no ranges. */
export function zipReply(seriesInstanceUid: string, body: AsyncIterable<Uint8Array>): Reply {
  return {
    status: 200,
    headers: {
      "Content-Type": "application/octet-stream",
      "Content-Disposition": `attachment; filename="${seriesInstanceUid}.zip"`,
    },
    body,
  };
}

/** One image as getSingleImage sends it. */
export function singleImageReply(image: SandboxInstance, fault?: Fault): Reply {
  const source = fault?.kind === "wrong-bytes" || fault?.kind === "flip" ? otherBytes(image) : image;
  return {
    status: 200,
    headers: {
      "Content-Type": "application/dicom",
      "Content-Disposition": `attachment; filename=${image.sopInstanceUid}.dcm`,
    },
    body: source.read(),
  };
}
