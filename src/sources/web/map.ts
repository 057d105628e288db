/** Links and what their servers say of them to items. Pure. */

import { buildUnknownItem, type Item } from "../../model/item.ts";
import { LINK_ARCHIVE } from "../../model/link.ts";
import type { Layout } from "../source.ts";
import { type Head, revisionOf } from "./head.ts";

export const COLUMNS = ["Name", "Type", "Bytes", "Changed"] as const;

const PREFIX = "web-file:";

export const linkOf = (item: Item): string => item.id.slice(PREFIX.length);

/** `link` is in its one spelling (`parseFileLink`), so that it needs no escape in a JSON line. */
export function fileItem(archive: string, link: string, head: Head): Item {
  const changed = changedOn(head.lastModified);
  return {
    id: `${PREFIX}${link}`,
    revision: revisionOf(head),
    archive,
    address: addressOf(archive, link),
    bytes: head.bytes,
    files: 1,
    labels: {
      URL: link,
      Name: head.name,
      ...(head.type === "" ? {} : { Type: head.type }),
      ...(head.bytes === null ? {} : { Bytes: head.bytes }),
      ...(changed === null ? {} : { Changed: changed }),
    },
  };
}

export function unknownItem(archive: string, link: string): Item {
  return buildUnknownItem({ id: `${PREFIX}${link}`, archive, address: addressOf(archive, link) });
}

/** Links are addresses as they are; only the archive that they belong to by default is ever made from them. */
function addressOf(archive: string, link: string): string {
  return archive === LINK_ARCHIVE ? link : `${archive}:${encodeURIComponent(link)}`;
}

/** `yyyy-MM-dd`, UTC. */
function changedOn(lastModified: string | null): string | null {
  const time = lastModified === null ? Number.NaN : Date.parse(lastModified);
  return Number.isNaN(time) ? null : new Date(time).toISOString().slice(0, 10);
}

const byName: Layout = ({ labels }) => ({ folder: [], file: String(labels.Name ?? labels.URL ?? "file") });

/** A file has no levels: it lies in the target folder by its name. */
export const LAYOUTS: Readonly<Record<string, Layout>> = { files: byName, flat: byName };
