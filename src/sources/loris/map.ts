/** Rows of lists to items, which are named as the trees that come of them. Pure. */
import { createHash } from "node:crypto";
import { RunError } from "../../errors.ts";
import { buildUnknownItem, type Item, type Row } from "../../model/item.ts";
import { encodeSegment, formatAddress } from "../../model/selection.ts";
import type { Layout } from "../source.ts";
import type { WireRow } from "./api.ts";

/** The first level of the archive's tree: BIDS, or the images as they were acquired with what the database says of them. */
export const TYPES = ["bids", "minc"] as const;
export type DataType = (typeof TYPES)[number];

/** Columns of a listing of items; the archive's own names where it has one. */
export const COLUMNS = ["Type", "Project", "Candidate", "PSCID", "Visit", "LorisScanType", "Path"] as const;

const LINKS = ["Link", "TsvLink", "JsonLink", "NiftiLink", "BvalLink", "BvecLink", "EventLink"] as const;

/** Where the content of an item comes from. */
export type Locator =
  /** A file at a link. */
  | { readonly form: "file"; readonly link: string }
  /** The companions of an image: `link` with `/format/…`. */
  | { readonly form: "companions"; readonly link: string }
  /** What the database says of an image's quality, if anything. */
  | { readonly form: "quality"; readonly link: string }
  /** What the database says of a visit. */
  | { readonly form: "session"; readonly candidate: string; readonly visit: string }
  /** What a list said already. */
  | { readonly form: "text"; readonly text: string };

export interface Place {
  /** Name of the configured archive. */
  readonly archive: string;
  readonly host: string;
}

/** Whom rows are of: null for the study as a whole, and for the candidate as a whole. */
interface Owner {
  readonly project: string;
  readonly candidate: string | null;
  readonly pscid: string | null;
  readonly visit: string | null;
}

interface Named {
  readonly type: DataType;
  readonly owner: Owner;
  /** Name in the archive's tree. */
  readonly name: string;
  /** Folders and name in the tree on the disk. */
  readonly tree: readonly string[];
  readonly labels?: Row;
  readonly revision?: string;
  readonly files: number | null;
  readonly locator: Locator;
}

function item(place: Place, { type, owner, name, tree, labels, revision, files, locator }: Named): Item {
  const { project, candidate, pscid, visit } = owner;
  // Names go into receipts, and out of no folder.
  const isName = (part: string): boolean => part !== "" && !/^\.{1,2}$|[/\u0000-\u001f\u007f]/u.test(part);
  if (![project, ...tree].every(isName))
    throw new RunError("archive-reply", `${place.archive} links a file with a name that it can't serve`);
  const id = [project, type, ...tree].map(encodeSegment).join("/");
  return {
    id: `loris-file:${place.host}/${id}`,
    // Lists tell nothing that changes with a file's content.
    revision: revision ?? "listed",
    archive: place.archive,
    address: formatAddress(
      place.archive,
      [type, candidate, visit, name].filter((part) => part !== null),
    ),
    bytes: null,
    files,
    labels: {
      Type: type,
      Project: project,
      ...(candidate === null ? {} : { Candidate: candidate }),
      ...(pscid === null ? {} : { PSCID: pscid }),
      ...(visit === null ? {} : { Visit: visit }),
      ...labels,
      File: name,
      Path: tree.join("/"),
    },
    locator,
  };
}

const ownerOf = (project: string, row: WireRow): Owner => ({
  project,
  candidate: textOf(row, "Candidate"),
  pscid: textOf(row, "PSCID"),
  visit: textOf(row, "Visit"),
});

/** Of a manifest's row, the files that it links: of the study, of a session, or of an image with its side files. */
export function* exportItems(place: Place, project: string, row: WireRow): Generator<Item> {
  const owner = ownerOf(project, row);
  const { candidate, visit } = owner;
  const image = "NiftiLink" in row || "Subfolder" in row;
  const subfolder = textOf(row, "Subfolder");
  const main = textOf(row, "NiftiLink") ?? textOf(row, "JsonLink");
  const labels: Row = image
    ? {
        LorisScanType: textOf(row, "LorisScanType") ?? "unknown",
        ...(main === null ? {} : { Image: nameOf(main) }),
      }
    : {};
  for (const key of LINKS) {
    const link = textOf(row, key);
    if (link === null) continue;
    if (!link.startsWith("/"))
      throw new RunError("archive-reply", `${place.archive} links a file at a place that it can't serve`);
    const name = nameOf(link);
    const folders = [
      ...(candidate === null ? [] : [`sub-${candidate}`]),
      ...(visit === null ? [] : [`ses-${visit}`]),
      ...(subfolder === null ? [] : [subfolder]),
    ];
    const locator = { form: "file", link } as const;
    yield item(place, { type: "bids", owner, name, tree: [...folders, name], labels, files: 1, locator });
  }
}

/** What an image's row in a project's list tells. */
interface ImageRow {
  readonly owner: Owner;
  readonly candidate: string;
  readonly visit: string;
  readonly link: string;
  readonly name: string;
  readonly scanType: string;
  /** When it came into the database. */
  readonly inserted: string;
}

function imageRow(place: Place, project: string, row: WireRow): ImageRow {
  const owner = ownerOf(project, row);
  const { candidate, visit } = owner;
  const link = textOf(row, "Link");
  if (candidate === null || visit === null || link === null || !link.startsWith("/"))
    throw new RunError("archive-reply", `${place.archive} lists an image without candidate, visit or link`);
  const scanType = textOf(row, "ScanType") ?? "unknown";
  const inserted = textOf(row, "InsertTime") ?? "listed";
  return { owner, candidate, visit, link, name: nameOf(link), scanType, inserted };
}

/** Of an image's row: the image, what is said of its quality, and its session. */
export function* acquiredItems(place: Place, project: string, row: WireRow): Generator<Item> {
  const { owner, candidate, visit, link, name, scanType, inserted } = imageRow(place, project, row);
  const folders = [candidate, visit];
  const labels = { LorisScanType: scanType, Image: name };
  const of = { type: "minc", owner, labels } as const;
  const quality = `${name}.qc.json`;
  const session = "session.json";
  yield item(place, {
    ...{ ...of, name, tree: [...folders, name], revision: inserted, files: 1 },
    locator: { form: "file", link },
  });
  yield item(place, {
    // Whether there is any is seen when it is asked for.
    ...{ ...of, name: quality, tree: [...folders, quality], files: null },
    locator: { form: "quality", link: `${link}/qc` },
  });
  yield item(place, {
    ...{ type: "minc", owner, name: session, tree: [...folders, session], files: 1 },
    locator: { form: "session", candidate, visit },
  });
}

/** The NIfTI image of an image's row with its side files, on a server without a BIDS export. */
export function companionItem(place: Place, project: string, row: WireRow): Item {
  const { owner, candidate, visit, link, name, scanType, inserted } = imageRow(place, project, row);
  const stem = name.replace(/\.(?:mnc|nii)(?:\.gz)?$/u, "");
  return item(place, {
    ...{ type: "bids", owner, name: stem, tree: [`sub-${candidate}`, `ses-${visit}`, stem] },
    ...{ labels: { LorisScanType: scanType, Image: stem }, revision: inserted, files: null },
    locator: { form: "companions", link },
  });
}

/** Where the list of images says that one can be had. */
export const imageLink = (place: Place, project: string, row: WireRow): string =>
  imageRow(place, project, row).link;

/** What the list of candidates says of one, as a file; null for a row without an id. */
export function candidateItem(place: Place, project: string, row: WireRow): Item | null {
  const candidate = textOf(row, "CandID");
  if (candidate === null) return null;
  const owner: Owner = { project, candidate, pscid: textOf(row, "PSCID"), visit: null };
  const name = "candidate.json";
  const text = jsonText(row);
  return item(place, {
    ...{ type: "minc", owner, name, tree: [candidate, name], files: 1 },
    revision: createHash("md5").update(text).digest("hex"),
    locator: { form: "text", text },
  });
}

export const candidateOf = (row: WireRow): string | null => textOf(row, "CandID") ?? textOf(row, "Candidate");

/** The same bytes for the same object, whatever the order of its keys. */
export function jsonText(value: WireRow): string {
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `${JSON.stringify(Object.fromEntries(entries), null, 2)}\n`;
}

export function unknownItem({ archive, host }: Place, path: readonly string[]): Item {
  return buildUnknownItem({
    id: `loris-file:${host}/${path.map(encodeSegment).join("/")}`,
    archive,
    address: formatAddress(archive, path),
  });
}

/** As the map made it, read back from a selection. */
export function locatorOf({ id, locator }: Item): Locator {
  const known = typeof locator === "object" && locator !== null && "form" in locator;
  if (!known) throw new Error(`${id} has no locator`);
  return locator as unknown as Locator;
}

const nameOf = (link: string): string => link.slice(link.lastIndexOf("/") + 1);

/** Ids are strings or numbers, by release. */
function textOf(row: WireRow, key: string): string | null {
  const value = row[key];
  if (typeof value === "number") return String(value);
  return typeof value === "string" && value !== "" ? value : null;
}

/**
 * The tree exactly as the server names it; of companions the image's name stands before their endings. A session's table
 * of its images is shown without what is not here.
 */
const tree: Layout = (each) => {
  const parts = String(each.labels.Path ?? each.labels.File ?? "").split("/");
  const last = parts.at(-1) ?? "";
  const folder = parts.slice(0, -1);
  return isFamily(each)
    ? { folder, prefix: last }
    : { folder, file: last, original: last.endsWith("_scans.tsv") };
};

const flat: Layout = (each) => {
  const name = String(each.labels.File ?? "");
  return isFamily(each) ? { folder: [], prefix: name } : { folder: [], file: name };
};

const isFamily = (each: Item): boolean => locatorOf(each).form === "companions";

export const LAYOUTS: Readonly<Record<string, Layout>> = { descriptive: tree, bids: tree, flat };
