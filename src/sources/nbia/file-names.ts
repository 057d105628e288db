/** The names of images in a zip with `NewFileNames=Yes`: `A-II.dcm` (ImageDAO2Impl.java `setNewFileNames`). */
import { compareKeys } from "../../lib/external-sort.ts";

export interface NumberedImage {
  readonly part: string;
  readonly instanceNumber: number | null;
  readonly acquisitionNumber: number | null;
}

/**
 * By part. Images go by instance number; A counts the runs of one acquisition number, II the images of a run, each as
 * wide as the number of its changes needs. Null when two images have the same instance number: then the order is that
 * of the archive's database, which nobody tells.
 */
export function archiveNames(images: readonly NumberedImage[]): ReadonlyMap<string, string> | null {
  const sorted = [...images].sort(
    (a, b) => (a.instanceNumber ?? -1) - (b.instanceNumber ?? -1) || compareKeys(a.part, b.part),
  );
  const numbers = new Set(sorted.map((image) => image.instanceNumber));
  if (numbers.size !== sorted.length) return null;
  let run = 1;
  let index = 0;
  let last: number | null = null;
  const places = sorted.map(({ part, acquisitionNumber }) => {
    const acquisition = acquisitionNumber ?? 0;
    if (last !== null && acquisition !== last) {
      run += 1;
      index = 0;
    }
    last = acquisition;
    index += 1;
    return { part, run, index };
  });
  const width = (number: number): number => String(number).length;
  const runWidth = width(run);
  const indexWidth = width(numbers.size);
  const padded = (number: number, digits: number): string => String(number).padStart(digits, "0");
  return new Map(
    places.map((place) => [
      place.part,
      `${padded(place.run, runWidth)}-${padded(place.index, indexWidth)}.dcm`,
    ]),
  );
}
