/** Files of NBIA series that another tool left: known by the UIDs in them, whatever their names and folders. */
import { RunError } from "../../errors.ts";
import { unzip } from "../../lib/unzip.ts";
import { type DicomIdentity, parseDicomHeader, readDicomIdentity } from "../../model/dicom.ts";
import type { Item } from "../../model/item.ts";
import type { Claim, ForeignFile, ForeignFiles, SourceContext } from "../source.ts";
import type { NbiaApi } from "./api.ts";
import { deliverZip, factsOf } from "./delivery.ts";
import { archiveNames } from "./file-names.ts";
import { instanceId, instanceItem, seriesId, seriesUidOf, sopOf } from "./map.ts";
import { parseMd5Hashes } from "./md5hashes.ts";

/** What of the first image in a zip is looked at. */
const IMAGE_HEAD_BYTES = 64 * 1024;
/** A bomb in what comes before the first image stops here. */
const LOOKED_AT_BYTES = 4 * 1024 ** 3;
/** Entries that may come before the first image: LICENSE, and what another tool may have put there. */
const ENTRIES_BEFORE = 4;

export function nbiaForeign(api: NbiaApi): ForeignFiles {
  return {
    async claims(file) {
      if (isZip(file)) return zipClaims(file);
      const identity = readDicomIdentity(file.head);
      if (identity && !identity.complete && identity.seriesInstanceUid === null && !file.whole) return "more";
      return claimsOf(identity);
    },
    async parts(item: Item, context: SourceContext) {
      const sop = sopOf(item);
      if (sop !== undefined) return new Set([sop]);
      const listed = new Set<string>();
      const parameters = { SeriesInstanceUID: seriesUidOf(item) };
      for await (const row of api.rows("getSOPInstanceUIDs", parameters, context)) {
        if (typeof row.SOPInstanceUID === "string") listed.add(row.SOPInstanceUID);
      }
      // The NLST server lists nothing for any series (kirbyju/TCIA_Notebooks#33).
      return listed.size === 0 ? null : listed;
    },
    part: (item, sop) => (sopOf(item) === undefined ? instanceItem(item, sop) : item),
    names(files) {
      const images = files.map(({ part, head }) => {
        const header = parseDicomHeader(head);
        return {
          part,
          instanceNumber: header?.instanceNumber ?? null,
          acquisitionNumber: header?.acquisitionNumber ?? null,
        };
      });
      return archiveNames(images);
    },
    facts: factsOf,
    sums: { name: "md5hashes.csv", parse: parseMd5Hashes },
    unpack: (item, read) => deliverZip(item, "", async () => read()),
  };
}

/** The series first: where a series and one of its images are both wanted, the file is the series'. */
function claimsOf(identity: DicomIdentity | undefined): Claim[] {
  const sop = identity?.sopInstanceUid;
  const series = identity?.seriesInstanceUid;
  if (!sop || !series) return [];
  return [
    { item: seriesId(series), part: sop },
    { item: instanceId(sop), part: sop },
  ];
}

const isZip = ({ path, head }: ForeignFile): boolean =>
  /\.zip$/iu.test(path) && head[0] === 0x50 && head[1] === 0x4b && head[2] === 3 && head[3] === 4;

/** A zip is of the series that its first image is of (tcia_utils `as_zip`, the Go retriever without decompression). */
async function zipClaims(file: ForeignFile): Promise<Claim[]> {
  const limits = { maxTotalBytes: LOOKED_AT_BYTES };
  let seen = 0;
  try {
    for await (const entry of unzip(file.read(), limits)) {
      seen += 1;
      const identity = readDicomIdentity(await readHead(entry.body));
      if (identity?.seriesInstanceUid) return [{ item: seriesId(identity.seriesInstanceUid), part: null }];
      if (seen > ENTRIES_BEFORE) return [];
    }
  } catch (error) {
    // No zip, or a broken one: nothing of it can be used.
    if (error instanceof RunError && error.code === "proof-format") return [];
    throw error;
  }
  return [];
}

async function readHead(body: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    chunks.push(chunk);
    size += chunk.length;
    if (size >= IMAGE_HEAD_BYTES) break;
  }
  return Buffer.concat(chunks).subarray(0, IMAGE_HEAD_BYTES);
}
