/** Selections that `find --save` wrote, and rows of a listing as JSON Lines. */
import { RunError } from "../errors.ts";
import { parseItem, parseSelectionHeader } from "../model/selection.ts";
import { type Archives, type Found, type FoundBatches, quoted } from "./found.ts";
import { isAddress, parseSelectionValue } from "./line.ts";
import { foundFrom } from "./refs.ts";
import { parseJsonRow } from "./rows.ts";
import { readTextLines } from "./text-lines.ts";

/** The addresses of a saved selection. Throws `folder-newer` for one of a newer version. */
export async function* readOwn(path: string, name: string, archives: Archives): FoundBatches {
  for await (const { texts, firstNumber } of readTextLines(path, name)) {
    if (firstNumber === 1) parseSelectionHeader(texts[0] ?? "", path);
    const found: Found[] = [];
    for (const [index, text] of texts.entries()) {
      const number = firstNumber + index;
      if (number > 1 && text.trim() !== "") found.push(readItemRef(text, `:${number}`, archives));
    }
    yield found;
  }
}

function readItemRef(text: string, at: string, archives: Archives): Found {
  try {
    const item: unknown = parseItem(text);
    const address = typeof item === "object" && item !== null && "address" in item ? item.address : null;
    if (typeof address !== "string")
      return { kind: "bad", at, reason: `not an item of a selection (${quoted(text)})` };
    const value = isAddress(address) ? parseSelectionValue(address) : null;
    if (value === null) return { kind: "bad", at, reason: `${quoted(address)} is no address in an archive` };
    return foundFrom(value, address, archives.fallback, archives, () => at);
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    return { kind: "bad", at, reason: error.message };
  }
}

/** One JSON object a line, as `--format jsonl` writes them. */
export async function* readJsonLines(path: string, name: string, archives: Archives): FoundBatches {
  for await (const { texts, firstNumber } of readTextLines(path, name)) {
    const found: Found[] = [];
    for (const [index, text] of texts.entries()) {
      if (text.trim() === "") continue;
      const at = `:${firstNumber + index}`;
      let row: unknown;
      try {
        row = JSON.parse(text.replace(/^\uFEFF/u, ""));
      } catch {
        found.push({ kind: "bad", at, reason: `no JSON (${quoted(text)})` });
        continue;
      }
      const one = parseJsonRow(row, at, archives);
      if (one) found.push(one);
    }
    yield found;
  }
}
