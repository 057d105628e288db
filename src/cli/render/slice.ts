/** A slice of a DICOM image drawn with characters. */

export interface Slice {
  readonly modality: string;
  readonly rows: number;
  readonly columns: number;
  /** Row by row. */
  readonly values: Uint16Array;
}

/** A single uncompressed 16-bit grey image (Explicit VR Little Endian), else null. */
export async function readSlice(file: Uint8Array): Promise<Slice | null> {
  const { default: dicomParser } = await import("dicom-parser");
  try {
    const data = dicomParser.parseDicom(file);
    const pixels = data.elements.x7fe00010;
    const [rows, columns] = [data.uint16("x00280010") ?? 0, data.uint16("x00280011") ?? 0];
    const plain = data.string("x00020010") === "1.2.840.10008.1.2.1" && data.uint16("x00280100") === 16;
    if (!plain || pixels === undefined || rows * columns === 0 || pixels.length !== rows * columns * 2)
      return null;
    const view = new DataView(file.buffer, file.byteOffset + pixels.dataOffset, pixels.length);
    const values = Uint16Array.from({ length: rows * columns }, (_, i) => view.getUint16(i * 2, true));
    return { modality: data.string("x00080060") ?? "", rows, columns, values };
  } catch {
    // dicom-parser throws strings at what it can't read.
    return null;
  }
}

const RAMP = " .:-=+*#%@";
/** Steps 232 to 255 of the 256 colours of terminals are greys. */
const FIRST_GREY = 232;
const GREYS = 24;

/** The slice as lines `width` characters wide: half blocks in greys, or a ramp of characters without colour. */
export function drawSlice(slice: Slice, width: number, colour: boolean): string[] {
  const height = Math.round((width * slice.rows) / slice.columns / 2) * 2;
  const grey = shades(slice);
  const at = (x: number, y: number): number =>
    mean(slice, grey, x / width, y / height, 1 / width, 1 / height);
  const lines: string[] = [];
  for (let y = 0; y < height; y += 2) {
    let line = "";
    for (let x = 0; x < width; x++) {
      const [top, bottom] = [at(x, y), at(x, y + 1)];
      line += colour
        ? `\u001b[38;5;${shade(top)};48;5;${shade(bottom)}m▀`
        : RAMP[Math.min(RAMP.length - 1, Math.floor(((top + bottom) / 2) * RAMP.length))];
    }
    lines.push(colour ? `${line}\u001b[0m` : line.trimEnd());
  }
  return lines;
}

const shade = (grey: number): number => FIRST_GREY + Math.min(GREYS - 1, Math.floor(grey * GREYS));

/** Values to greys of 0 to 1: a window from the noise of the air (a quarter of the image at least) to the brightest. */
function shades({ values }: Slice): (value: number) => number {
  const sorted = Uint16Array.from(values).sort();
  const low = sorted[Math.floor(sorted.length * 0.25)]!;
  const high = Math.max(low + 1, sorted[Math.floor(sorted.length * 0.99)]!);
  const air = low + (high - low) * 0.05;
  return (value) => Math.min(1, Math.max(0, (value - air) / (high - air))) ** 0.6;
}

/** The mean grey of a rectangle, in parts of the image's sides. */
function mean(
  { rows, columns, values }: Slice,
  grey: (value: number) => number,
  x: number,
  y: number,
  width: number,
  height: number,
): number {
  const [left, top] = [Math.floor(x * columns), Math.floor(y * rows)];
  const right = Math.max(left + 1, Math.floor((x + width) * columns));
  const bottom = Math.max(top + 1, Math.floor((y + height) * rows));
  let sum = 0;
  for (let row = top; row < bottom; row++) {
    for (let column = left; column < right; column++) sum += grey(values[row * columns + column] ?? 0);
  }
  return sum / ((right - left) * (bottom - top));
}
