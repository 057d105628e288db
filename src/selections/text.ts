/** `.tcia` manifests, `.s5cmd` manifests and lists of UIDs and addresses, a line each. */
import { type Archives, type Found, type FoundBatches, quoted } from "./found.ts";
import { parseSelectionLine } from "./line.ts";
import { foundFrom } from "./refs.ts";
import { readTextLines } from "./text-lines.ts";

/** Where `bare` UIDs belong to; null: they can't be asked for, which was said. */
interface Header {
  readonly bare: string | null;
  readonly bad: Found | null;
}

/**
 * Constant memory. A header line that says that the series are elsewhere, or no DICOM, is bad, and so is every bare UID
 * below it, silently: one message is enough. Throws `bad-selection` for a line without end, `disk-…`.
 */
export async function* readText(path: string, name: string, archives: Archives): FoundBatches {
  let bare: string | null = archives.fallback;
  for await (const { texts, firstNumber } of readTextLines(path, name)) {
    const found: Found[] = [];
    for (const [index, text] of texts.entries()) {
      const line = parseSelectionLine(text);
      if (line.kind === "blank") continue;
      const at = (): string => `:${firstNumber + index}`;
      if (line.kind === "header") {
        const header = readHeader(line.key, line.value, bare, archives, at);
        bare = header.bare;
        if (header.bad) found.push(header.bad);
      } else if (line.kind === "ref" && line.archive === null && bare === null) {
        // Said once, at the header.
      } else found.push(foundFrom(line, text.trim(), bare ?? archives.fallback, archives, at));
    }
    yield found;
  }
}

function readHeader(
  key: string,
  value: string,
  bare: string | null,
  archives: Archives,
  at: () => string,
): Header {
  const bad = (reason: string): Header => ({ bare: null, bad: { kind: "bad", at: at(), reason } });
  if (key === "downloadserverurl") {
    const archive = URL.canParse(value) ? archives.ofServer(new URL(value)) : null;
    if (archive === null)
      return bad(`no configured archive is at ${quoted(value)}, so its series can't be asked for`);
    // What was said of the data before stays said.
    return { bare: bare === null ? null : archive, bad: null };
  }
  if (key === "datatype" && value !== "" && !/^dicom$/iu.test(value))
    return bad(`data of the type ${quoted(value)} is not DICOM, so its series can't be fetched`);
  return { bare, bad: null };
}
