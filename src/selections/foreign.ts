/** What else stands in real selection files, and which kind of archive it belongs to. */

import { packageKindOf } from "../model/link.ts";

/** A Globally Unique Identifier as Gen3 names files by it, with or without its prefix (`dg.4DFC/…`). */
const GEN3_ID = /^(dg\.[A-Za-z0-9]+\/)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/iu;
/** `cp [--options] s3://bucket/key/* target`, also `sync`, as manifests of the Imaging Data Commons have it. */
const S5CMD = /^(?:s5cmd\s+)?(?:cp|sync|mv)\s+(?:-\S+\s+)*["']?((?:s3|gs):\/\/[^\s"']+)/u;

/** What a value names that is no series of an NBIA, as a noun for a message; null when it looks like nothing known. */
export function foreignNoun(value: string): string | null {
  const text = value.trim();
  const stored = S5CMD.exec(text)?.[1] ?? text;
  if (/^(s3|gs):\/\//iu.test(stored)) {
    const bucket = stored.split("/")[2] ?? "";
    // Buckets: idc-open-data, -two, -cr on AWS, idc-open-data, idc-open-idc1, idc-open-cr on GCS (IDC documentation).
    return /^(public-datasets-)?idc(-|$)/u.test(bucket)
      ? "an object of the Imaging Data Commons"
      : "an object of an S3 store";
  }
  if (/^drs:/iu.test(text) || GEN3_ID.test(text)) return "a file of a Gen3 data commons (DRS)";
  const kind = packageKindOf(text);
  if (kind !== null) return kind === "faspex" ? "an Aspera package" : "a folder of an Aspera site";
  if (!/^https?:\/\//iu.test(text) || !URL.canParse(text)) return null;
  const { hostname } = new URL(text);
  return hostname === "pathdb.cancerimagingarchive.net" ? "a slide of PathDB" : "a plain file of a web site";
}
