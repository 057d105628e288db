/**
 * Frames of the management channel of ascp (FASPMGR 2): a line `FASPMGR 2`, lines `Key: Value`, an empty line. Pure.
 * Facts: IBM Aspera "Management API" as IBM/aspera-cli 4.26 reads it (lib/aspera/ascp/management.rb): of the blanks
 * after the colon one is taken away; a new header ends an unfinished frame, which is lost; in paths ESC stands before
 * `n`, `r` and ESC for a line feed, a carriage return and itself.
 */

/** Fields by their names on the wire, `Type` included. */
export type Frame = Readonly<Record<string, string>>;

const HEADER = "FASPMGR 2";
/** No frame of a sane program is longer; what is longer is thrown away. */
const MAX_FRAME_CHARACTERS = 1 << 20;

/** Takes the channel's text in pieces cut anywhere and gives the frames that each piece completes. */
export function createFrameReader(): (bytes: Uint8Array) => Frame[] {
  const decoder = new TextDecoder();
  let rest = "";
  let fields: Record<string, string> | null = null;
  let characters = 0;
  const readLine = (line: string): Frame | null => {
    if (line === HEADER) {
      fields = Object.create(null) as Record<string, string>;
      characters = 0;
      return null;
    }
    if (fields === null) return null;
    if (line === "") {
      const done = fields;
      fields = null;
      return Object.keys(done).length === 0 ? null : done;
    }
    characters += line.length;
    const colon = line.indexOf(":");
    if (colon > 0) fields[line.slice(0, colon)] = unescapeValue(line.slice(colon + 1).replace(/^ /u, ""));
    if (characters > MAX_FRAME_CHARACTERS) fields = null;
    return null;
  };
  return (bytes) => {
    rest += decoder.decode(bytes, { stream: true });
    const frames: Frame[] = [];
    let start = 0;
    for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n", start)) {
      const frame = readLine(rest.slice(start, end).replace(/\r$/u, ""));
      if (frame) frames.push(frame);
      start = end + 1;
    }
    rest = rest.slice(start);
    if (rest.length > MAX_FRAME_CHARACTERS) {
      rest = "";
      fields = null;
    }
    return frames;
  };
}

/** A command to ascp as bytes of the channel. Line ends and escapes in values become escapes. */
export function buildFrame(fields: Frame): string {
  const lines = Object.entries(fields).map(([key, value]) => `${key}: ${escapeValue(value)}\n`);
  return `${HEADER}\n${lines.join("")}\n`;
}

const ESCAPE = "\u001b";
const ESCAPED: Readonly<Record<string, string>> = { n: "\n", r: "\r", [ESCAPE]: ESCAPE };

function unescapeValue(value: string): string {
  if (!value.includes(ESCAPE)) return value;
  let text = "";
  for (let at = 0; at < value.length; at += 1) {
    const character = value.charAt(at);
    const escaped = character === ESCAPE ? ESCAPED[value.charAt(at + 1)] : undefined;
    text += escaped ?? character;
    if (escaped !== undefined) at += 1;
  }
  return text;
}

const escapeValue = (value: string): string =>
  value
    .replaceAll(ESCAPE, ESCAPE + ESCAPE)
    .replaceAll("\n", `${ESCAPE}n`)
    .replaceAll("\r", `${ESCAPE}r`);

/** A field that counts something; null when it is absent or no number. */
export function countOf(frame: Frame, key: string): number | null {
  const text = frame[key];
  if (text === undefined || !/^\d{1,16}$/u.test(text)) return null;
  const count = Number(text);
  return Number.isSafeInteger(count) ? count : null;
}
