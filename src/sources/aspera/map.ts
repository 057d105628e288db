/** Paths and files of a site to items. Pure. */

import { buildUnknownItem, type Item, type Row } from "../../model/item.ts";
import { idPath } from "../../model/item-id.ts";
import { formatAddress } from "../../model/selection.ts";
import type { Layout, LayoutPlace } from "../source.ts";

export const COLUMNS = ["Host", "User", "Path", "Bytes", "Changed"] as const;
export const SUMMARY_COLUMNS = ["Path", "Bytes", "Changed"] as const;

export interface SiteName {
  readonly user: string;
  readonly host: string;
  /** Of SSH; null: the address names none. */
  readonly port: number | null;
}

/** From the archive's name, `aspera://USER@HOST[:PORT]`. */
export function siteOf(archive: string): SiteName {
  const parts = /^aspera:\/\/([^@/]+)@(\[[^\]]+\]|[^:/@]+)(?::(\d+))?$/u.exec(archive);
  const [, user, host, port] = parts ?? [];
  if (user === undefined || host === undefined) throw new Error(`${archive} is no name of a site`);
  return {
    user,
    host: host.replace(/^\[(.*)\]$/u, "$1"),
    port: port === undefined ? null : Number(port),
  };
}

// --- A site that lists: each file is an item --------------------------------------------------------------------

/** What is at a path of a site, links followed. */
export interface SiteEntry {
  readonly path: readonly string[];
  readonly type: "file" | "folder";
  readonly bytes: number;
  readonly mtimeSeconds: number;
  readonly isLink: boolean;
  /** True: its name is no UTF-8, so that it can't be asked for. */
  readonly unreadable?: boolean;
}

/** At rest encrypted files have this at the end of their names; ascp takes it away when it decrypts. */
export const AT_REST = /(?<=.)\.aspera-env$/u;

export interface FileParts {
  readonly archive: string;
  readonly entry: SiteEntry;
  /** The path that was asked for, which the file is or lies below; null: it was asked for by its address alone. */
  readonly selected: readonly string[] | null;
  /** What is encrypted at rest is to come out clear. */
  readonly decrypts: boolean;
}

export function fileItem({ archive, entry, selected, decrypts }: FileParts): Item {
  const { user, host } = siteOf(archive);
  const { path, bytes, mtimeSeconds, unreadable = false } = entry;
  const decrypted = decrypts && AT_REST.test(path.at(-1) ?? "");
  return {
    id: `aspera-file:${host}/${idPath(path)}`,
    revision: `${bytes} ${mtimeSeconds}${decrypted ? CLEAR_FILE : ""}`,
    archive,
    address: formatAddress(archive, path),
    // What comes out of an encrypted file has another size.
    bytes: decrypted ? null : bytes,
    files: 1,
    labels: {
      Host: host,
      User: user,
      Path: path.join("/"),
      Bytes: bytes,
      Changed: isoOf(mtimeSeconds),
      ...(decrypted ? { Encryption: "decrypted" } : {}),
      ...(selected === null || selected.length === 0 ? {} : { Selected: selected.join("/") }),
    },
    locator: { file: true, bytes, mtimeSeconds, ...(unreadable ? { unreadable } : {}) },
  };
}

export function unknownFile(archive: string, path: readonly string[]): Item {
  const { host } = siteOf(archive);
  return buildUnknownItem({
    id: `aspera-file:${host}/${idPath(path)}`,
    archive,
    address: formatAddress(archive, path),
  });
}

export interface FileLocator {
  readonly path: readonly string[];
  readonly bytes: number;
  readonly mtimeSeconds: number;
  readonly unreadable: boolean;
}

/** Null for the item of a site that lists nothing. */
export function fileOf({ locator, labels }: Item): FileLocator | null {
  const { bytes, mtimeSeconds, unreadable = false } = (locator ?? {}) as unknown as Partial<FileLocator>;
  if (bytes === undefined || mtimeSeconds === undefined) return null;
  return { path: String(labels.Path).split("/"), bytes, mtimeSeconds, unreadable };
}

/** How revisions say that data were decrypted on their way. */
const CLEAR_FILE = " clear";
export const CLEAR_PATH = "decrypted";
export const isClear = (revision: string): boolean =>
  revision === CLEAR_PATH || revision.endsWith(CLEAR_FILE);

export const isDecrypted = (item: Item): boolean => item.labels.Encryption !== undefined;

/** The name of the file on the disk. */
export function fileNameOf(item: Item): string {
  const name = String(item.labels.Path).split("/").at(-1) || "file";
  return isDecrypted(item) ? name.replace(AT_REST, "") : name;
}

export function entryRow(archive: string, { path, type, bytes, mtimeSeconds, isLink }: SiteEntry): Row {
  return {
    Name: path.at(-1) ?? "",
    Type: isLink ? `${type} (link)` : type,
    Bytes: type === "file" ? bytes : null,
    Changed: isoOf(mtimeSeconds),
    address: formatAddress(archive, path),
  };
}

const isoOf = (seconds: number): string => `${new Date(seconds * 1000).toISOString().slice(0, 19)}Z`;

// --- A site that lists nothing: each path is an item ------------------------------------------------------------

/** A path as it was asked for, without the `.` that says that it is a folder. */
const isNoDot = (segment: string): boolean => segment !== ".";

/** A site says nothing of what a path holds: a path is one item, whatever it turns out to be. */
export function pathItem(archive: string, path: readonly string[], revision: string): Item {
  const { user, host } = siteOf(archive);
  const source = path.filter(isNoDot).join("/") || ".";
  return {
    id: `aspera-path:${host}/${source}`,
    revision,
    archive,
    address: formatAddress(archive, path),
    bytes: null,
    files: null,
    labels: { Host: host, User: user, Path: source },
    locator: { source, file: looksLikeFile(path) },
  };
}

/** What a name tells: `x.fastq.gz` is a file, `study` and `study.v1/.` are folders. */
export const looksLikeFile = (path: readonly string[]): boolean =>
  path.length > 0 && /^[^.].*\.[a-z][a-z0-9]{0,9}$/iu.test(path.at(-1) ?? "");

export interface PathLocator {
  /** As ascp is asked for it. */
  readonly source: string;
  readonly file: boolean;
}

export function locatorOf({ locator }: Item): PathLocator {
  const { source, file } = locator as unknown as PathLocator;
  return { source, file };
}

// --- Layouts ----------------------------------------------------------------------------------------------------

function place(item: Item, above: readonly string[]): LayoutPlace {
  const { source, file } = locatorOf(item);
  const name = source === "." ? String(item.labels.Host) : (source.split("/").at(-1) ?? source);
  return file ? { folder: above, file: name } : { folder: [...above, name] };
}

/** Of a file: the folders that it lies in, from where the selection begins. */
function above(item: Item): readonly string[] {
  const { Selected, Host } = item.labels;
  const folders = String(item.labels.Path).split("/").slice(0, -1);
  return Selected === undefined
    ? [String(Host), ...folders]
    : folders.slice(String(Selected).split("/").length - 1);
}

/** `descriptive`: as ascp places it, its last name below the target. `classic`: below all folders of the site. */
export const LAYOUTS: Readonly<Record<string, Layout>> = {
  descriptive: (item) => (fileOf(item) ? { folder: above(item), file: fileNameOf(item) } : place(item, [])),
  classic: (item) =>
    fileOf(item)
      ? { folder: String(item.labels.Path).split("/").slice(0, -1), file: fileNameOf(item) }
      : place(item, locatorOf(item).source.split("/").slice(0, -1)),
};
