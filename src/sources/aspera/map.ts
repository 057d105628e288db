/** Paths of a site to items. Pure. */
import type { Item } from "../../model/item.ts";
import { formatAddress } from "../../model/selection.ts";
import type { Layout, LayoutPlace } from "../source.ts";

export const COLUMNS = ["Host", "User", "Path"] as const;

export interface SiteName {
  readonly user: string;
  readonly host: string;
  /** Of SSH. */
  readonly port: number;
}

/** ascp's own default is 22; sites of Aspera servers nearly all listen on 33001 (IBM Aspera HSTS 4.4, "Firewall"). */
const DEFAULT_PORT = 33001;

/** From the archive's name, `aspera://USER@HOST[:PORT]`. */
export function siteOf(archive: string): SiteName {
  const parts = /^aspera:\/\/([^@/]+)@(\[[^\]]+\]|[^:/@]+)(?::(\d+))?$/u.exec(archive);
  const [, user, host, port] = parts ?? [];
  if (user === undefined || host === undefined) throw new Error(`${archive} is no name of a site`);
  return { user, host: host.replace(/^\[(.*)\]$/u, "$1"), port: Number(port ?? DEFAULT_PORT) };
}

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

function place(item: Item, above: readonly string[]): LayoutPlace {
  const { source, file } = locatorOf(item);
  const name = source === "." ? String(item.labels.Host) : (source.split("/").at(-1) ?? source);
  return file ? { folder: above, file: name } : { folder: [...above, name] };
}

/** `descriptive`: as ascp places it, its last name below the target. `classic`: below all folders of the site. */
export const LAYOUTS: Readonly<Record<string, Layout>> = {
  descriptive: (item) => place(item, []),
  classic: (item) => place(item, locatorOf(item).source.split("/").slice(0, -1)),
};
