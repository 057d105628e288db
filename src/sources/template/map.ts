/** Wire rows to items. Pure. */
import type { Digest } from "../../lib/digest.ts";
import { buildUnknownItem, type Item, type Row } from "../../model/item.ts";
import { formatAddress } from "../../model/selection.ts";
import type { Layout } from "../source.ts";
import type { WireCollection, WireFile } from "./api.ts";

/** Columns of a listing of items, under the archive's own names. */
export const COLUMNS = ["Collection", "Patient", "File", "Name", "Bytes", "Changed"] as const;

const PREFIX = "template-file:";

/** The identity of the data, whatever road it came by. */
export const itemId = (fileId: string): string => `${PREFIX}${fileId}`;
export const fileId = (item: Item): string => item.id.slice(PREFIX.length);

export function fileItem(archive: string, row: WireFile, collection: WireCollection | undefined): Item {
  const { id, name, bytes, md5, changed } = row;
  return {
    id: itemId(id),
    // Whatever changes when the data change; equal revisions mean "not again".
    revision: `${bytes ?? "?"}-${md5?.toLowerCase() ?? "?"}-${changed}`,
    archive,
    address: formatAddress(archive, [row.collection, row.patient, id]),
    bytes: bytes ?? null,
    files: 1,
    labels: {
      Collection: row.collection,
      Patient: row.patient,
      File: id,
      Name: name,
      ...(bytes === undefined ? {} : { Bytes: bytes }),
      Changed: changed,
      ...(collection?.licence === undefined ? {} : { Licence: collection.licence }),
      ...(collection?.licenceUrl === undefined ? {} : { LicenceUrl: collection.licenceUrl }),
    },
    // What only this source needs: names are no identity, so the digest goes with the item.
    locator: md5 === undefined ? null : { md5: md5.toLowerCase() },
  };
}

export function unknownItem(archive: string, path: readonly string[]): Item {
  return buildUnknownItem({ id: itemId(path.at(-1) ?? ""), archive, address: formatAddress(archive, path) });
}

/** What the archive vouches for the item's only file; null when it gave no sum. */
export function digestOf({ locator }: Item): Digest | null {
  return typeof locator === "object" && locator !== null && "md5" in locator ? `md5:${locator.md5}` : null;
}

const text = (labels: Row, column: string): string => String(labels[column] ?? "");

/** Raw names: the pipeline makes them safe and free of clashes. */
export const LAYOUTS: Readonly<Record<string, Layout>> = {
  descriptive: ({ labels }) => ({
    folder: [text(labels, "Collection"), text(labels, "Patient")],
    file: text(labels, "Name"),
  }),
  flat: ({ labels }) => ({ folder: [], file: text(labels, "Name"), prefix: `${text(labels, "File")}_` }),
};
