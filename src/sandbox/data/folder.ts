/** The DICOM files of a folder as an archive would hold them: `gantry sandbox --data DIR`. */

import { createReadStream, type Dirent } from "node:fs";
import { open, readdir, readFile, realpath, stat } from "node:fs/promises";
import { basename, join, sep } from "node:path";
import { parse as parseCsv } from "csv-parse/sync";
import { type DicomHeader, parseDicomHeader } from "../../model/dicom.ts";
import { databaseOrder } from "../hash32.ts";
import { archiveDates, CC_BY_3 } from "./archive-facts.ts";
import type { Dataset, SandboxInstance, SandboxSeries } from "./dataset.ts";
import { md5Once } from "./md5-once.ts";

const COLLECTIONS_FILE = "collections.csv";
const HEAD_BYTES = [64 * 1024, 1024 * 1024, 16 * 1024 * 1024];
/** Heads read at once; their results are still taken in order of path. */
const HEADS_AT_ONCE = 16;
const MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10";

interface Licence {
  readonly licenseName: string;
  readonly licenseUri: string | null;
}

interface FoundFile {
  /** Relative to the folder, with slashes. */
  readonly path: string;
  /** Where its bytes are; differs from `path` when that is a link within the folder. */
  readonly target: string;
}

type Problem = Dataset["problems"][number];

const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Every regular file below `root`, unsorted. Names that begin with a dot are passed over. */
async function walk(root: string, problems: Problem[]): Promise<FoundFile[]> {
  const found: FoundFile[] = [];
  const visit = async (folder: string): Promise<void> => {
    let entries: Dirent[];
    try {
      entries = await readdir(join(root, folder), { withFileTypes: true });
    } catch (error) {
      problems.push({ path: folder, reason: `The folder cannot be read: ${reasonOf(error)}.` });
      return;
    }
    for (const entry of entries) {
      if (entry.name.startsWith(".")) continue;
      const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
      if (entry.isDirectory()) await visit(path);
      else if (entry.isFile()) found.push({ path, target: join(root, path) });
      else if (entry.isSymbolicLink()) {
        const followed = await followLink(root, path);
        if ("reason" in followed) problems.push(followed);
        else found.push(followed);
      } else problems.push({ path, reason: "This is neither a file nor a folder." });
    }
  };
  await visit("");
  return found;
}

async function followLink(root: string, path: string): Promise<FoundFile | Problem> {
  try {
    const target = await realpath(join(root, path));
    if (!target.startsWith(root.endsWith(sep) ? root : root + sep) && target !== root) {
      return { path, reason: "A link that leads out of the folder is not followed." };
    }
    if ((await stat(target)).isFile()) return { path, target };
    return { path, reason: "A link to a folder is not followed; its files are read where they are." };
  } catch (error) {
    return { path, reason: `The link cannot be followed: ${reasonOf(error)}.` };
  }
}

/** Collection by folder, from `collections.csv`. */
async function readCollections(root: string, problems: Problem[]): Promise<Map<string, string>> {
  const collections = new Map<string, string>();
  let text: string;
  try {
    text = await readFile(join(root, COLLECTIONS_FILE), "utf8");
  } catch {
    return collections;
  }
  try {
    const rows = parseCsv(text, { columns: true, bom: true, trim: true, skip_empty_lines: true }) as Record<
      string,
      string | undefined
    >[];
    for (const { folder, collection } of rows) {
      if (folder === undefined || !collection) throw new Error("it needs the columns folder and collection");
      const clean = folder.replaceAll("\\", "/").replace(/^(\.\/)+|\/+$/g, "");
      collections.set(clean === "." ? "" : clean, collection);
    }
  } catch (error) {
    problems.push({
      path: COLLECTIONS_FILE,
      reason: `The list of collections is not used: ${reasonOf(error)}.`,
    });
    collections.clear();
  }
  return collections;
}

/** The folders a path lies in, innermost first, ending with "" (the whole). */
function* foldersAbove(path: string): Generator<string> {
  for (let end = path.lastIndexOf("/"); end > 0; end = path.lastIndexOf("/", end - 1))
    yield path.slice(0, end);
  yield "";
}

/** The licence named in a licence text as the archive writes it into its zips, `… under the NAME (URL)`. */
function parseLicence(text: string): Licence | undefined {
  const match = /((?:Creative Commons|TCIA|NIH)[^()\n]{0,120}?Licen[cs]e)\s*\((https?:\/\/[^\s)]+)\)/i.exec(
    text,
  );
  return match ? { licenseName: match[1]!, licenseUri: match[2]! } : undefined;
}

/** Licence by folder, from `X.LICENSE.txt` beside folder X or `LICENSE` in it. */
async function readLicences(files: readonly FoundFile[]): Promise<Map<string, Licence>> {
  const licences = new Map<string, Licence>();
  for (const { path, target } of files) {
    const folder = licencedFolder(path);
    if (folder === undefined || (await stat(target)).size > 1024 * 1024) continue;
    const licence = parseLicence(await readFile(target, "utf8"));
    if (licence) licences.set(folder, licence);
  }
  return licences;
}

function licencedFolder(path: string): string | undefined {
  if (path.endsWith(".LICENSE.txt")) return path.slice(0, -".LICENSE.txt".length);
  const match = /^(?:(.*)\/)?LICENSE(?:\.txt)?$/.exec(path);
  return match ? (match[1] ?? "") : undefined;
}

/** What a file that is no DICOM is, as far as its first bytes and its name tell. */
function describeForeignFile(path: string, head: Uint8Array): string {
  const start = Buffer.from(head.subarray(0, 352));
  const startsWith = (magic: string): boolean =>
    start.subarray(0, magic.length).equals(Buffer.from(magic, "latin1"));
  const named = (pattern: RegExp): boolean => pattern.test(path);
  if (start.length === 0) return "an empty file";
  if (startsWith("\x1f\x8b")) return named(/\.nii\.gz$/i) ? "a compressed NIfTI image" : "gzip data";
  if (startsWith("PK\x03\x04")) return named(/\.xlsx$/i) ? "an Excel sheet" : "a zip archive";
  if (startsWith("CDF")) return named(/\.mnc$/i) ? "a MINC image" : "a NetCDF file";
  if (startsWith("\x89HDF")) return named(/\.mnc$/i) ? "a MINC image" : "an HDF5 file";
  if (startsWith("\x89PNG") || startsWith("\xff\xd8\xff")) return "a picture";
  if (startsWith("%PDF")) return "a PDF document";
  if (startsWith("II*\0") || startsWith("MM\0*")) return "a TIFF image";
  if (start.length === 352 && /^n[i+]1\0/.test(start.toString("latin1", 344, 348))) return "a NIfTI image";
  if (named(/\.(json|jsonl)$/i)) return "JSON text";
  if (named(/\.(csv|tsv)$/i)) return "a table";
  if (named(/\.tcia$/i)) return "a TCIA manifest";
  if (named(/\.xml$/i)) return "XML";
  const text = start.toString("latin1");
  return /^[\t\n\r\x20-\x7e\x80-\xff]*$/.test(text) ? "text" : "of unknown kind";
}

async function readHead(
  target: string,
): Promise<{ sizeBytes: number; head: Uint8Array; header?: DicomHeader }> {
  const file = await open(target);
  try {
    const sizeBytes = (await file.stat()).size;
    let head: Uint8Array = new Uint8Array(0);
    let header: DicomHeader | undefined;
    for (const limit of HEAD_BYTES) {
      const buffer = Buffer.alloc(Math.min(limit, sizeBytes));
      const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
      head = buffer.subarray(0, bytesRead);
      header = parseDicomHeader(head);
      if (!header || header.complete || bytesRead >= sizeBytes) break;
    }
    return header ? { sizeBytes, head, header } : { sizeBytes, head };
  } finally {
    await file.close();
  }
}

interface Gathered {
  readonly header: DicomHeader;
  readonly collection: string;
  readonly licence: Licence;
  readonly instances: SandboxInstance[];
}

const isUid = (text: string | null): text is string =>
  text !== null && text.length <= 64 && /^\d+(\.\d+)*$/.test(text);

/** Why a DICOM file cannot be served on its own account; undefined when it can. */
function refusal(header: DicomHeader): string | undefined {
  if (header.sopClassUid === MEDIA_STORAGE_DIRECTORY) return "This is a DICOMDIR, an index of other files.";
  const uids = {
    "SOP Instance UID": header.sopInstanceUid,
    "SOP Class UID": header.sopClassUid,
    "Series Instance UID": header.seriesInstanceUid,
    "Study Instance UID": header.studyInstanceUid,
  };
  for (const [name, uid] of Object.entries(uids)) {
    if (uid === null) return `This DICOM file has no ${name}.`;
    if (!isUid(uid)) return `The ${name} of this DICOM file is no valid UID.`;
  }
  return undefined;
}

function toInstance(header: DicomHeader, target: string, sizeBytes: number): SandboxInstance {
  const read = (): AsyncIterable<Uint8Array> => createReadStream(target, { highWaterMark: 256 * 1024 });
  return {
    sopInstanceUid: header.sopInstanceUid!,
    sopClassUid: header.sopClassUid!,
    instanceNumber: header.instanceNumber,
    acquisitionNumber: header.acquisitionNumber,
    sizeBytes,
    md5: md5Once(read),
    read,
  };
}

function toSeries({ header, collection, licence, instances }: Gathered): SandboxSeries {
  // Stable: images without a number come first, equal numbers stay in order of path.
  instances.sort((a, b) => (a.instanceNumber ?? -Infinity) - (b.instanceNumber ?? -Infinity) || 0);
  const { sopInstanceUid, sopClassUid, instanceNumber, acquisitionNumber, transferSyntaxUid, ...row } =
    header;
  const { ctpProject, ctpSite, complete, ...shown } = row;
  return {
    ...shown,
    seriesInstanceUid: header.seriesInstanceUid!,
    studyInstanceUid: header.studyInstanceUid!,
    collection,
    patientId: patientOf(header),
    ...licence,
    dataDescriptionUri: null,
    ...archiveDates(header.seriesInstanceUid!),
    thirdPartyAnalysis: null,
    site: ctpSite,
    species: null,
    imageCount: instances.length,
    fileSizeBytes: instances.reduce((sum, instance) => sum + instance.sizeBytes, 0),
    access: "public",
    instances: () => instances,
  };
}

/** The archive's patient id is never null; images without one (samples, phantoms) share this one. */
const patientOf = (header: DicomHeader): string => header.patientId ?? "UNKNOWN";

/**
 * Indexes the DICOM files below `dir` by their heads; pixel data are read only when asked for.
 *
 * The collection of a file is that of the innermost folder named in `dir`/collections.csv (columns `folder`, relative
 * to `dir`, and `collection`); else the project CTP wrote into it, (0013,xx10); else the name of the top folder it
 * lies in. Files are taken in byte order of their relative paths, as `LC_ALL=C sort` has them: when two claim one
 * SOP Instance UID, or one series for two collections, patients or studies, the first wins and the other is listed in
 * `problems`, as is every file that is not served. Names that begin with a dot are passed over, links are followed to
 * files within `dir` only. A series row takes its words from its first file. Throws the error of the file system when
 * `dir` itself cannot be read.
 */
export async function openFolderDataset(dir: string): Promise<Dataset> {
  const root = await realpath(dir);
  await readdir(root);
  const problems: Problem[] = [];
  const collections = await readCollections(root, problems);
  const files = (await walk(root, problems)).sort((a, b) => byBytes(a.path, b.path));
  const licences = await readLicences(files);

  const collectionOf = (path: string, header: DicomHeader): string => {
    for (const folder of foldersAbove(path)) {
      const collection = collections.get(folder);
      if (collection !== undefined) return collection;
    }
    const slash = path.indexOf("/");
    return header.ctpProject ?? (slash > 0 ? path.slice(0, slash) : basename(root));
  };
  const licenceOf = (path: string): Licence => {
    for (const folder of foldersAbove(path)) {
      const licence = licences.get(folder);
      if (licence) return licence;
    }
    return CC_BY_3;
  };

  const gathered = new Map<string, Gathered>();
  const pathBySop = new Map<string, string>();
  const take = (path: string, target: string, sizeBytes: number, header: DicomHeader): string | undefined => {
    const refused = refusal(header);
    if (refused) return refused;
    const collection = collectionOf(path, header);
    const earlier = pathBySop.get(header.sopInstanceUid!);
    if (earlier !== undefined) return `Its SOP Instance UID is already that of ${earlier}.`;
    const series = gathered.get(header.seriesInstanceUid!);
    if (series && series.collection !== collection) {
      return `Its series already belongs to the collection ${series.collection}.`;
    }
    if (series && patientOf(series.header) !== patientOf(header)) {
      return `Its series already belongs to the patient ${patientOf(series.header)}.`;
    }
    if (series && series.header.studyInstanceUid !== header.studyInstanceUid) {
      return `Its series already belongs to the study ${series.header.studyInstanceUid}.`;
    }
    pathBySop.set(header.sopInstanceUid!, path);
    const instance = toInstance(header, target, sizeBytes);
    if (series) series.instances.push(instance);
    else {
      gathered.set(header.seriesInstanceUid!, {
        header,
        collection,
        licence: licenceOf(path),
        instances: [instance],
      });
    }
    return undefined;
  };

  const images = files.filter(({ path }) => path !== COLLECTIONS_FILE && licencedFolder(path) === undefined);
  for (let from = 0; from < images.length; from += HEADS_AT_ONCE) {
    const batch = images.slice(from, from + HEADS_AT_ONCE);
    const heads = await Promise.all(
      batch.map(({ target }) => readHead(target).catch((error: unknown) => ({ error: reasonOf(error) }))),
    );
    for (const [index, { path, target }] of batch.entries()) {
      const read = heads[index]!;
      let reason: string | undefined;
      if ("error" in read) reason = `The file cannot be read: ${read.error}.`;
      else if (!read.header) reason = `This is not a DICOM file but ${describeForeignFile(path, read.head)}.`;
      else reason = take(path, target, read.sizeBytes, read.header);
      if (reason !== undefined) problems.push({ path, reason });
    }
  }

  const rows = databaseOrder([...gathered.values()].map(toSeries), (series) => series.seriesInstanceUid);
  const byUid = new Map(rows.map((series) => [series.seriesInstanceUid, series]));
  problems.sort((a, b) => byBytes(a.path, b.path));
  return {
    series: () => rows,
    find: (seriesInstanceUid) => byUid.get(seriesInstanceUid),
    seriesCount: rows.length,
    problems,
    collectionDescription: () => undefined,
  };
}
