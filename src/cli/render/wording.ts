/** Numbers and times as people read them. */

const GROUPED = /\B(?=(\d{3})+(?!\d))/g;

/** `12,345` */
export const grouped = (number: number): string => String(Math.round(number)).replace(GROUPED, ",");

const PLURALS: Readonly<Record<string, string>> = {
  series: "series",
  study: "studies",
  retry: "retries",
  copy: "copies",
};

/** `1 file`, `12,345 files`, `2 series`. */
export const counted = (number: number, noun: string): string =>
  `${grouped(number)} ${number === 1 ? noun : (PLURALS[noun] ?? `${noun}s`)}`;

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"] as const;

/** Decimal units with three digits: `999 B`, `1.00 kB`, `27.6 MB`, `1.20 TB`. */
export function sized(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // Rounding may lift 999.9 to 1000, which belongs to the next unit.
  while (unit < UNITS.length - 1 && (unit === 0 ? value >= 1000 : value >= 999.5)) {
    value /= 1000;
    unit++;
  }
  if (unit === 0) return `${Math.round(value)} B`;
  const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** `40 ms`, `4 s`, `3 min 20 s`, `2 h 05 min`, `3 d 4 h`. */
export function lasting(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (ms < 950) return `${Math.round(ms)} ms`;
  if (ms < 9_950) return `${(ms / 1000).toFixed(1).replace(/\.0$/, "")} s`;
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${String(seconds % 60).padStart(2, "0")} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** What an item is called, by the kind in its id. */
export function nounOf(item: string): string {
  if (item.startsWith("dicom-series:")) return "series";
  if (item.startsWith("dicom-instance:")) return "image";
  return "item";
}

/** What items are called together: one noun when all are of a kind. */
export function nounOfAll(items: Iterable<string>): string {
  const nouns = new Set([...items].map(nounOf));
  return nouns.size === 1 ? [...nouns][0]! : "item";
}

/** Control characters, and those that turn the direction of a text. */
export const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

/** A name from outside for the screen: characters that could move the cursor or turn the text are spelt out. */
export const shown = (text: string): string =>
  text.toWellFormed().replace(CONTROL, (c) => `\\u{${c.codePointAt(0)!.toString(16)}}`);

const WIDE =
  /[\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\p{Emoji_Presentation}\u3000-\u303f\uff01-\uff60\uffe0-\uffe6]/u;

/** Columns that a text takes on a terminal. */
export function columnsOf(text: string): number {
  if (/^[\u0020-\u007e]*$/.test(text)) return text.length;
  let columns = 0;
  for (const character of text) {
    if (/\p{Mark}|\u200d|\ufe0f/u.test(character)) continue;
    columns += WIDE.test(character) ? 2 : 1;
  }
  return columns;
}

/** The text in at most so many columns; what was cut ends in `…`. */
export function cutTo(text: string, columns: number): string {
  if (columnsOf(text) <= columns) return text;
  let out = "";
  let used = 0;
  for (const character of text) {
    const width = columnsOf(character);
    if (used + width > columns - 1) break;
    out += character;
    used += width;
  }
  return `${out}…`;
}

export const padTo = (text: string, columns: number): string =>
  text + " ".repeat(Math.max(0, columns - columnsOf(text)));
