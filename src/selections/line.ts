/** Single lines and values of selections: `.tcia` manifests, lists of UIDs and addresses, cells of tables. Pure. */
import { RunError } from "../errors.ts";
import { isUid, parseTarget } from "../model/address.ts";
import { isManifestLink, LINK_ARCHIVE, packageKindOf, parseFileLink } from "../model/link.ts";
import { readSite } from "../model/site.ts";
import { foreignNoun } from "./foreign.ts";

/** What a value names. `archive` is null where the file's header or the user's default decides. */
export type SelectionValue =
  | {
      readonly kind: "ref";
      readonly archive: string | null;
      readonly path: readonly string[];
      /** The link that opens the archive, a secret; absent where none is needed. */
      readonly bearer?: string;
    }
  /** A link to a manifest, which names series itself. */
  | { readonly kind: "manifest"; readonly link: string }
  | { readonly kind: "bad"; readonly reason: string };

/** What one line of a selection means. */
export type SelectionLine =
  | { readonly kind: "blank" }
  | { readonly kind: "header"; readonly key: string; readonly value: string }
  | SelectionValue;

/**
 * Keys of the manifest's header (CBIIT/NBIA-TCIA restUtil/ManifestMaker.java; `dataType` since manifest 3.0). Real
 * files have them in any order, and an extra line `Series ID` after them
 * (deploy/NBIA-Submission-Test-Data_225series_3.4gbytes.tcia).
 */
const HEADER_KEYS = new Set([
  "downloadserverurl",
  "includeannotation",
  "noofrretry",
  "databasketid",
  "manifestversion",
  "listofseriestodownload",
  "datatype",
]);

/** Fields of a record of manifest versions 1 and 2, joined by `|`; the fourth is the series (StandaloneDMV1.java). */
const OLD_RECORD_FIELDS = 8;

/** Never throws: what can't be understood is `bad` with a reason for the user. */
export function parseSelectionLine(raw: string): SelectionLine {
  const text = raw
    .replace(/^\uFEFF/u, "")
    .trim()
    .replace(/,$/u, "")
    .trim();
  if (text === "" || text.startsWith("#")) return { kind: "blank" };
  const assignment = /^([A-Za-z]+)\s*[=:]\s*(.*)$/su.exec(text);
  const key = assignment?.[1]?.toLowerCase() ?? "";
  if (HEADER_KEYS.has(key))
    return { kind: "header", key, value: (assignment?.[2] ?? "").trim().replace(/\\([:=])/gu, "$1") };
  if (/^(series\s*(id|uid)|series\s*instance\s*uid|seriesinstanceuid)$/iu.test(text))
    return { kind: "blank" };
  const fields = text.split("|");
  if (fields.length >= OLD_RECORD_FIELDS) return { kind: "bad", reason: oldRecord(fields) };
  return parseSelectionValue(text);
}

function oldRecord(fields: readonly string[]): string {
  const series = fields[3]?.trim() ?? "";
  const advice = isUid(series) ? `; the series is ${series}, and its UID alone would do` : "";
  return `a record of a manifest of version 1 or 2, which is not read${advice}`;
}

/** A UID, `SERIES/IMAGE`, or an address. Never throws. */
export function parseSelectionValue(value: string): SelectionValue {
  const text = trimValue(value);
  const parts = text.split("/");
  if (parts.length <= 2 && parts.every(isUid)) return { kind: "ref", archive: null, path: parts };
  if (/^[\d.]+$/u.test(text)) {
    return { kind: "bad", reason: text.length > 64 ? "a UID has at most 64 characters" : "not a whole UID" };
  }
  if (/^[\d.]+e\+?\d+$/iu.test(text))
    return { kind: "bad", reason: "a UID that a spreadsheet took for a number, so that its digits are lost" };
  if (isManifestLink(text)) return { kind: "manifest", link: text };
  if (isAddress(text)) {
    try {
      if (isFileLink(text)) return { kind: "ref", archive: LINK_ARCHIVE, path: [parseFileLink(text)] };
      const site = readSite(text);
      if (site) {
        const { archive, path, bearer } = site;
        return { kind: "ref", archive, path, ...(bearer === null ? {} : { bearer }) };
      }
      const target = parseTarget([text]);
      if (target.kind === "archive")
        return { kind: "ref", archive: target.archive, path: target.paths[0] ?? [] };
    } catch (error) {
      if (error instanceof RunError) return { kind: "bad", reason: error.message };
      throw error;
    }
  }
  const noun = foreignNoun(text);
  return { kind: "bad", reason: noun ? `${noun}, and no series of an NBIA` : "neither a UID nor an address" };
}

/** Without blanks and quotes around it. DICOM pads UIDs with one NUL, which some tables keep. */
export function trimValue(value: string): string {
  const text = value.trim();
  const bare = text.endsWith("\0") ? text.slice(0, -1) : text;
  const inQuotes = bare.length > 1 && /^["']/u.test(bare) && bare.endsWith(bare[0] as string);
  return inQuotes ? bare.slice(1, -1).trim() : bare;
}

/** Whether a value begins as the address of an archive, or as a link that is one. */
export function isAddress(text: string): boolean {
  return isLink(text) || (/^[a-z][a-z0-9-]+:(?!\/\/)/u.test(text) && !/^drs:/u.test(text));
}

/** Of a plain file, a package or an ascp site. */
const isLink = (text: string): boolean => /^(?:https?|aspera):\/\//iu.test(text);

const isFileLink = (text: string): boolean => /^https?:\/\//iu.test(text) && packageKindOf(text) === null;
