/** Slices through a head-like phantom of ellipsoids, after Shepp and Logan (IEEE Trans Nucl Sci 21:21, 1974). */

export const PHANTOM_SIZE = 64;

/** How densities become stored values: `air` where there is nothing, `unit` for each 1.0 of density, grain on top. */
export interface PhantomLook {
  readonly air: number;
  readonly unit: number;
  readonly grain: number;
}

/** density, half axes x y z, centre x y z, rotation in degrees; lengths in half fields of view. */
const ELLIPSOIDS: readonly (readonly [number, number, number, number, number, number, number, number])[] = [
  [1.0, 0.69, 0.92, 0.81, 0, 0, 0, 0],
  [-0.8, 0.6624, 0.874, 0.78, 0, -0.0184, 0, 0],
  [-0.2, 0.11, 0.31, 0.22, 0.22, 0, 0, -18],
  [-0.2, 0.16, 0.41, 0.28, -0.22, 0, 0, 18],
  [0.25, 0.21, 0.25, 0.41, 0, 0.35, -0.15, 0],
  [0.3, 0.076, 0.076, 0.05, 0, 0.1, 0.25, 0],
  [0.3, 0.046, 0.046, 0.05, 0, -0.1, 0.25, 0],
  [0.35, 0.046, 0.043, 0.05, -0.08, -0.605, 0, 0],
  [0.35, 0.053, 0.053, 0.02, 0, -0.606, 0, 0],
];

/** Radius and centre (x, y) of the round lesion every phantom has around z = 0, in half fields of view. */
export function lesionOf(patient: number): { radius: number; x: number; y: number } {
  const angle = ((patient >>> 8) % 360) * (Math.PI / 180);
  return { radius: 0.1 + (patient % 50) / 1000, x: 0.35 * Math.cos(angle), y: 0.4 * Math.sin(angle) };
}

/**
 * One slice at height `z` (-1 to 1) as 16-bit little-endian unsigned values, row by row. `patient` (any 32-bit
 * number) moves the lesion, `noise` seeds the grain: same arguments, same bytes.
 */
export function paintPhantomSlice(z: number, patient: number, noise: number, look: PhantomLook): Uint8Array {
  const bytes = new Uint8Array(PHANTOM_SIZE * PHANTOM_SIZE * 2);
  const lesion = lesionOf(patient);
  const shapes = [...ELLIPSOIDS, [0.5, lesion.radius, lesion.radius, 0.3, lesion.x, lesion.y, 0, 0] as const];
  const cuts = shapes.flatMap(([density, a, b, c, x0, y0, z0, degrees]) => {
    const rest = 1 - ((z - z0) / c) ** 2;
    if (rest <= 0) return [];
    const angle = (degrees * Math.PI) / 180;
    return [
      { density, a2: a * a * rest, b2: b * b * rest, x0, y0, cos: Math.cos(angle), sin: Math.sin(angle) },
    ];
  });
  let random = noise | 1;
  for (let row = 0; row < PHANTOM_SIZE; row++) {
    const y = 1 - (2 * row + 1) / PHANTOM_SIZE;
    for (let column = 0; column < PHANTOM_SIZE; column++) {
      const x = (2 * column + 1) / PHANTOM_SIZE - 1;
      let density = 0;
      for (const { density: more, a2, b2, x0, y0, cos, sin } of cuts) {
        const u = (x - x0) * cos + (y - y0) * sin;
        const v = (y - y0) * cos - (x - x0) * sin;
        if ((u * u) / a2 + (v * v) / b2 <= 1) density += more;
      }
      random ^= random << 13;
      random ^= random >>> 17;
      random ^= random << 5;
      const value = Math.round(look.air + density * look.unit + ((random >>> 24) / 256) * look.grain);
      const clamped = Math.max(0, Math.min(4095, value));
      const at = (row * PHANTOM_SIZE + column) * 2;
      bytes[at] = clamped & 0xff;
      bytes[at + 1] = clamped >>> 8;
    }
  }
  return bytes;
}

/** The lesion at height `z` as one bit per pixel, least significant bit first (PS3.5 8.1.1). */
export function paintLesionMask(z: number, patient: number): Uint8Array {
  const bytes = new Uint8Array((PHANTOM_SIZE * PHANTOM_SIZE) / 8);
  const lesion = lesionOf(patient);
  const radius2 = lesion.radius ** 2 * (1 - (z / 0.3) ** 2);
  for (let index = 0; index < PHANTOM_SIZE * PHANTOM_SIZE; index++) {
    const x = (2 * (index % PHANTOM_SIZE) + 1) / PHANTOM_SIZE - 1;
    const y = 1 - (2 * Math.floor(index / PHANTOM_SIZE) + 1) / PHANTOM_SIZE;
    if ((x - lesion.x) ** 2 + (y - lesion.y) ** 2 <= radius2) bytes[index >>> 3]! |= 1 << (index & 7);
  }
  return bytes;
}
