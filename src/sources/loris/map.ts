/** Rows of the manifest to items. Pure. */
import { RunError } from "../../errors.ts";
import type { Item, Row } from "../../model/item.ts";
import { formatAddress } from "../../model/selection.ts";
import type { Layout } from "../source.ts";
import type { ManifestRow } from "./api.ts";

/** Columns of a listing of items; the archive's own names where it has one. */
export const COLUMNS = ["Type", "Candidate", "Visit", "LorisScanType", "Path"] as const;

const LINKS = ["Link", "TsvLink", "JsonLink", "NiftiLink", "BvalLink", "BvecLink", "EventLink"] as const;

export interface Place {
  /** Name of the configured archive. */
  readonly archive: string;
  /** Host and project: what the ids of its data begin with. */
  readonly data: string;
}

/** The files that a row links: of the study, of a session, or of an image with its side files. */
export function* rowItems(place: Place, row: ManifestRow): Generator<Item> {
  const candidate = textOf(row, "Candidate");
  const visit = textOf(row, "Visit");
  const image = "NiftiLink" in row || "Subfolder" in row;
  const subfolder = textOf(row, "Subfolder");
  const main = textOf(row, "NiftiLink") ?? textOf(row, "JsonLink");
  for (const key of LINKS) {
    const link = textOf(row, key);
    if (link === null) continue;
    const name = link.slice(link.lastIndexOf("/") + 1);
    const tree = [
      ...(candidate === null ? [] : [`sub-${candidate}`]),
      ...(visit === null ? [] : [`ses-${visit}`]),
      ...(subfolder === null ? [] : [subfolder]),
      name,
    ];
    // What the server's own rules let through (LORIS 20 rewrite rules); ids go into receipts.
    if (!tree.every((part) => /^[\w.-]+$/u.test(part) && !/^\.{1,2}$/u.test(part)) || !link.startsWith("/")) {
      throw new RunError("archive-reply", `${place.archive} links a file with a name that it can't serve`);
    }
    const path = ["bids", ...[candidate, visit].filter((part) => part !== null), name];
    const type = image ? (textOf(row, "LorisScanType") ?? "unknown") : null;
    yield {
      id: `loris-file:${place.data}/bids/${tree.join("/")}`,
      // The list tells nothing that changes with a file's content.
      revision: "listed",
      archive: place.archive,
      address: formatAddress(place.archive, path),
      bytes: null,
      files: 1,
      labels: {
        Type: "bids",
        ...(candidate === null ? {} : { Candidate: candidate }),
        ...(visit === null ? {} : { Visit: visit }),
        ...(type === null ? {} : { LorisScanType: type }),
        ...(image && main !== null ? { Image: main.slice(main.lastIndexOf("/") + 1) } : {}),
        File: name,
        Path: tree.join("/"),
      },
      locator: { link },
    };
  }
}

export function unknownItem({ archive, data }: Place, path: readonly string[]): Item {
  return {
    id: `loris-file:${data}/${path.join("/")}`,
    revision: "",
    archive,
    address: formatAddress(archive, path),
    bytes: null,
    files: null,
    labels: {},
    unknown: true,
  };
}

/** The link that the manifest gives for an item. */
export function linkOf({ id, locator }: Item): string {
  const link =
    typeof locator === "object" && locator !== null && "link" in locator ? locator.link : undefined;
  if (typeof link !== "string") throw new Error(`${id} has no link`);
  return link;
}

/** Ids are strings or numbers, by release. */
function textOf(row: ManifestRow, key: string): string | null {
  const value = row[key];
  if (typeof value === "number") return String(value);
  return typeof value === "string" && value !== "" ? value : null;
}

/** The tree exactly as the server names it; a session's table of its images is shown without what is not here. */
const tree: Layout = ({ labels }) => {
  const parts = String(labels.Path ?? labels.File ?? "").split("/");
  const file = parts.at(-1) ?? "";
  return { folder: parts.slice(0, -1), file, original: file.endsWith("_scans.tsv") };
};

const flat: Layout = ({ labels }: { readonly labels: Row }) => ({
  folder: [],
  file: String(labels.File ?? ""),
});

export const LAYOUTS: Readonly<Record<string, Layout>> = { descriptive: tree, bids: tree, flat };

/** Whether a scan type is of the family that users call by `word`. Cut at dashes, whole parts are compared. */
export function isOfFamily(word: string, type: string): boolean {
  const parts = type.split("-");
  const plain = parts.filter((part) => part !== "defaced").join("-");
  switch (word) {
    case "fieldmap":
      return parts.some((part) => part.startsWith("fieldmap"));
    case "qT2star":
    case "MP2RAGE":
      return parts.includes(word);
    default:
      return plain === word;
  }
}

/** The words that users of PREVENT-AD know (its download script's `-m`). */
export const FAMILIES: readonly string[] = [
  "asl",
  "bold",
  "dwi65",
  "qT2star",
  "fieldmap",
  "FLAIR",
  "MP2RAGE",
  "t1w",
  "T2star",
  "t2w",
  "task-encoding-bold",
  "task-retrieval-bold",
];
