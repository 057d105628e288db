/** NIfTI-1 files of phantoms (nifti1.h of the NIfTI Data Format Working Group). */
import { gunzipSync, gzipSync } from "node:zlib";
import { PHANTOM_SIZE, paintPhantomSlice } from "./phantom-image.ts";

/** 16-bit signed voxels, x fastest. */
export interface Volume {
  readonly shape: readonly [x: number, y: number, z: number, volumes: number];
  /** Millimetres, and seconds between volumes. */
  readonly spacing: readonly [x: number, y: number, z: number, seconds: number];
  /** Little-endian. */
  readonly voxels: Uint8Array;
}

const HEADER_BYTES = 352;
const INT16 = 4;

/** A head of ellipsoids; `side` divides 64. Same arguments, same voxels. */
export function phantomVolume(options: {
  readonly side: number;
  readonly slices: number;
  readonly volumes: number;
  /** Between volumes. */
  readonly seconds: number;
  /** Moves the lesion. */
  readonly patient: number;
  /** Seeds the grain. */
  readonly noise: number;
  readonly unit: number;
}): Volume {
  const { side, slices, volumes, patient, noise, unit } = options;
  const step = PHANTOM_SIZE / side;
  const voxels = Buffer.alloc(side * side * slices * volumes * 2);
  let at = 0;
  for (let volume = 0; volume < volumes; volume++) {
    for (let slice = 0; slice < slices; slice++) {
      const z = (2 * slice + 1) / slices - 1;
      const grain = noise + volume * 1009 + slice * 31;
      const plane = Buffer.from(paintPhantomSlice(z, patient, grain, { air: 0, unit, grain: 3 }));
      for (let y = 0; y < side; y++)
        for (let x = 0; x < side; x++) {
          voxels.writeUInt16LE(plane.readUInt16LE(2 * (y * step * PHANTOM_SIZE + x * step)) & 0x7fff, at);
          at += 2;
        }
    }
  }
  const width = 192 / side;
  return {
    shape: [side, side, slices, volumes],
    spacing: [width, width, 192 / slices, options.seconds],
    voxels,
  };
}

/** The gzipped file (`.nii.gz`). */
export function buildNifti({ shape, spacing, voxels }: Volume): Uint8Array {
  const header = Buffer.alloc(HEADER_BYTES);
  const [x, y, z, volumes] = shape;
  header.writeInt32LE(348, 0);
  const dimensions = [volumes > 1 ? 4 : 3, x, y, z, volumes, 1, 1, 1];
  for (const [i, size] of dimensions.entries()) header.writeInt16LE(size, 40 + 2 * i);
  header.writeInt16LE(INT16, 70);
  header.writeInt16LE(16, 72);
  for (const [i, size] of [1, ...spacing, 0, 0, 0].entries()) header.writeFloatLE(size, 76 + 4 * i);
  header.writeFloatLE(HEADER_BYTES, 108);
  header.writeFloatLE(1, 112);
  // Millimetres and seconds.
  header.writeUInt8(2 | 8, 123);
  header.write("Gantry sandbox phantom", 148, "latin1");
  // Scanner coordinates, the middle of the volume at the origin.
  header.writeInt16LE(1, 254);
  for (const axis of [0, 1, 2]) {
    header.writeFloatLE(spacing[axis]!, 280 + 16 * axis + 4 * axis);
    header.writeFloatLE((-spacing[axis]! * (shape[axis]! - 1)) / 2, 280 + 16 * axis + 12);
  }
  header.write("n+1\0", 344, "latin1");
  return gzipSync(Buffer.concat([header, voxels]), { level: 6 });
}

/**
 * The volume of a `.nii` or `.nii.gz` with 16-bit little-endian voxels; null for any other. Scaling and the affine
 * are passed over: for stand-ins of the same picture in another format.
 */
export function readNifti(file: Uint8Array): Volume | null {
  let bytes: Buffer;
  try {
    bytes = Buffer.from(file[0] === 0x1f && file[1] === 0x8b ? gunzipSync(file) : file);
  } catch {
    return null;
  }
  if (bytes.length < HEADER_BYTES || bytes.readInt32LE(0) !== 348 || bytes.readInt16LE(70) !== INT16)
    return null;
  const size = (i: number): number =>
    i <= bytes.readInt16LE(40) ? Math.max(1, bytes.readInt16LE(40 + 2 * i)) : 1;
  const shape = [size(1), size(2), size(3), size(4)] as const;
  const start = bytes.readFloatLE(108);
  const voxels = bytes.subarray(start, start + shape.reduce((product, each) => product * each, 2));
  const width = (i: number): number => Math.abs(bytes.readFloatLE(76 + 4 * i)) || 1;
  return { shape, spacing: [width(1), width(2), width(3), width(4)], voxels };
}
