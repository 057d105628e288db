/** Entries of a package to items. Pure. */
import type { Digest } from "../../lib/digest.ts";
import type { Item, Row } from "../../model/item.ts";
import { idPath } from "../../model/item-id.ts";
import { formatAddress, formatPath } from "../../model/selection.ts";
import type { Layout } from "../source.ts";
import type { PackageEntry, PackageFacts } from "./wire.ts";

export const COLUMNS = ["Path", "Bytes", "Changed", "Digest"] as const;
export const SUMMARY_COLUMNS = ["Path", "Bytes", "Changed"] as const;

export interface ItemParts {
  readonly archive: string;
  readonly facts: Pick<PackageFacts, "id" | "title">;
  readonly entry: PackageEntry;
  /** Of the package's own list of sums. */
  readonly digest: Digest | null;
  /** Of a list of sums that no other names: what was read of it just now. */
  readonly read?: Digest | null;
  /** The path that was asked for, which the file is or lies below. */
  readonly selected: readonly string[];
  /** It is encrypted at rest, and is to come out clear. */
  readonly decrypted?: boolean;
  /** The list of sums names it, and the package does not have it. */
  readonly missing?: boolean;
}

export function fileItem({
  archive,
  facts,
  entry,
  digest,
  read = null,
  selected,
  decrypted = false,
  missing = false,
}: ItemParts): Item {
  const { path, bytes, mtime } = entry;
  return {
    id: `faspex-file:${archive}/${idPath(path)}`,
    revision: [
      bytes ?? "",
      mtime ?? "",
      digest ?? read ?? "",
      decrypted ? "clear" : "",
      missing ? "missing" : "",
    ]
      .join(" ")
      .trimEnd(),
    archive,
    address: formatAddress(archive, path),
    bytes,
    files: 1,
    labels: {
      Package: facts.id,
      ...(facts.title === null ? {} : { Title: facts.title }),
      Path: path.join("/"),
      ...(bytes === null ? {} : { Bytes: bytes }),
      ...(mtime === null ? {} : { Changed: mtime }),
      ...(digest === null ? {} : { Digest: digest }),
      ...(decrypted ? { Encryption: "decrypted" } : {}),
      ...(selected.length === 0 ? {} : { Selected: selected.join("/") }),
    },
    ...(missing ? { locator: { missing: true } } : {}),
    ...(digest === null && read !== null ? { locator: { read } } : {}),
  };
}

/** A package whose files nobody lists: it comes whole. Whether it has changed can't be known, but none ever does. */
export function wholeItem(
  archive: string,
  { id, title, sent }: Pick<PackageFacts, "id" | "title" | "sent">,
  decrypted: boolean,
): Item {
  return {
    id: `faspex-package:${archive}`,
    revision: decrypted ? "decrypted" : "as-sent",
    archive,
    address: formatAddress(archive, []),
    bytes: null,
    files: null,
    labels: {
      Package: id,
      ...(title === null ? {} : { Title: title }),
      ...(sent === null ? {} : { Changed: sent }),
    },
  };
}

export const isWhole = ({ id }: Item): boolean => id.startsWith("faspex-package:");

/** The one row of a listing of it; its address is the package itself. */
export const wholeRow = ({ id, title, sent }: Pick<PackageFacts, "id" | "title" | "sent">): Row => ({
  Name: folderName(title ?? id),
  Type: "package",
  Bytes: null,
  Changed: sent,
  address: "/",
});

export const pathOf = (item: Item): string[] => String(item.labels.Path ?? "").split("/");

interface Locator {
  readonly missing?: true;
  readonly read?: Digest;
}

const locatorOf = ({ locator }: Item): Locator => (locator ?? {}) as Locator;

/** What its bytes are held to. */
export const digestOf = (item: Item): Digest | null =>
  (item.labels.Digest as Digest | undefined) ?? locatorOf(item).read ?? null;

export const isMissing = (item: Item): boolean => locatorOf(item).missing === true;

export const isDecrypted = (item: Item): boolean => item.labels.Encryption !== undefined;

/** The name of the file on the disk: at rest encrypted files have an ending more (ascp manual, `--file-crypt`). */
export function fileNameOf(item: Item): string {
  const name = pathOf(item).at(-1) || "file";
  return isDecrypted(item) ? name.replace(/(?<=.)\.aspera-env$/u, "") : name;
}

/** A row of one level; what to append to the link comes last. */
export function entryRow({ path, type, bytes, mtime, isLink }: PackageEntry): Row {
  const kind = type === "unknown" ? "link" : isLink ? `${type} (link)` : type;
  return {
    Name: path.at(-1) ?? "",
    Type: kind,
    Bytes: bytes,
    Changed: mtime,
    address: formatPath(path),
  };
}

/** As a package lies on the disk after a download by ascp: a folder `PKG - TITLE`, and in it the package's own paths. */
const asPackage: Layout = (item) => {
  const top = folderName(String(item.labels.Title ?? item.labels.Package));
  return isWhole(item)
    ? { folder: [top] }
    : { folder: [top, ...pathOf(item).slice(0, -1)], file: fileNameOf(item) };
};

const folderName = (title: string): string => `PKG - ${title}`;

/** As `ascli … packages receive PATH…` places what is named: the last element of each path, in the target folder. */
const flat: Layout = (item) => {
  const { labels } = item;
  if (labels.Selected === undefined) return asPackage(item);
  const above = String(labels.Selected).split("/").length - 1;
  return { folder: pathOf(item).slice(above, -1), file: fileNameOf(item) };
};

export const LAYOUTS: Readonly<Record<string, Layout>> = { package: asPackage, flat };
