/** Lines of ready selections: `.tcia` manifests in all their forms, lists of UIDs and addresses. Pure. */
import { RunError } from "../errors.ts";
import { isUid, parseTarget } from "./address.ts";

/** What one line of a selection means. `archive` is null where the file's header or the user's default decides. */
export type SelectionLine =
  | { readonly kind: "blank" }
  | { readonly kind: "header"; readonly key: string; readonly value: string }
  | { readonly kind: "ref"; readonly archive: string | null; readonly path: readonly string[] }
  | { readonly kind: "bad"; readonly reason: string };

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
  const parts = text.split("/");
  if (parts.length <= 2 && parts.every(isUid)) return { kind: "ref", archive: null, path: parts };
  if (/^[\d.]+$/u.test(text)) {
    return { kind: "bad", reason: text.length > 64 ? "a UID has at most 64 characters" : "not a whole UID" };
  }
  if (/^[a-z][a-z0-9-]+:(?!\/\/)/u.test(text)) {
    try {
      const target = parseTarget([text]);
      if (target.kind === "archive")
        return { kind: "ref", archive: target.archive, path: target.paths[0] ?? [] };
    } catch (error) {
      if (error instanceof RunError) return { kind: "bad", reason: error.message };
      throw error;
    }
  }
  if (/^s3:|^cp\s/u.test(text))
    return {
      kind: "bad",
      reason: "a line for the Imaging Data Commons, which is no archive of this version yet",
    };
  if (text.startsWith("<"))
    return { kind: "bad", reason: "a line of XML; manifests in XML are not read by this version yet" };
  return { kind: "bad", reason: "neither a UID nor an address" };
}
