/** NBIA v4 (restAPI/v4/ of CBIIT/NBIA-TCIA at 865725e, 2026-06-22; its OpenAPI file of 2025-11-22). */
import type { Dialect, Parameters, Question } from "./dialect.ts";

const ask = (endpoint: string, parameters: Parameters): Question => ({
  path: `services/v4/${endpoint}`,
  parameters,
});

export const v4: Dialect = {
  access: "token",
  digests: true,
  bulk: "services/v4/getSeriesMetadata",
  studiesApart: false,
  rows: (endpoint, parameters) => ask(endpoint, { ...parameters, format: "json" }),
  counts: ask,
  /** IncludeMD5: since commit 6a85f7d, 2025-11-26. A zip of LICENSE, the images and md5hashes.csv. */
  images: (uid) => ask("getImage", { SeriesInstanceUID: uid, NewFileNames: "Yes", IncludeMD5: "Yes" }),
  image: (uid, sop) => ask("getSingleImage", { SeriesInstanceUID: uid, SOPInstanceUID: sop }),
  md5: (sop) => ask("getMD5HashForImage", { SOPInstanceUID: sop }),
  // v4 has none; the same server's v1 answers (tcia_utils nbia.py getSharedCart).
  sharedList: (name) => ({ path: "services/v1/getContentsByName", parameters: { name } }),
};
