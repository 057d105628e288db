/**
 * Items: the smallest things that are fetched, proved and receipted whole.
 *
 * An item's id is the identity of the data and not of the road to it: the same series from two archives has one
 * id. Whatever else is known of it (the archive's columns) is its labels.
 */

import { createHash } from "node:crypto";

export type Value = string | number | null;

/** A flat row as an archive gives it, under the archive's own newest column names. Absent values are left out. */
export type Row = Readonly<Record<string, Value>>;

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

export interface Item {
  /** `dicom-series:UID`, `dicom-instance:UID`, … */
  readonly id: string;
  /** Opaque; changes when the archive's data of this item changed. Empty for an unknown item. */
  readonly revision: string;
  /** Name of the configured archive that serves it, e.g. `tcia`. */
  readonly archive: string;
  /** Can be pasted back on a command line, e.g. `tcia:1.3.6…`. */
  readonly address: string;
  /** Announced size of the data files in bytes, null when the archive does not say. */
  readonly bytes: number | null;
  /** Announced number of data files, null when the archive does not say. */
  readonly files: number | null;
  readonly labels: Row;
  /** What the source alone needs to fetch it. */
  readonly locator?: Json;
  /** Asked for by a well-formed id that the archive does not show: unknown, withdrawn or not permitted. */
  readonly unknown?: true;
}

/** An item of which nothing is known but what it was asked for by; see `Item.unknown`. */
export const buildUnknownItem = (named: Pick<Item, "id" | "archive" | "address">): Item => ({
  ...named,
  revision: "",
  bytes: null,
  files: null,
  labels: {},
  unknown: true,
});

/** 24 hex digits: what all that a source keeps of an unfinished item is called by, in every run (`FetchOptions.scratch`). */
export const scratchName = ({ id, revision }: Pick<Item, "id" | "revision">): string =>
  createHash("sha256").update(`${id}\n${revision}`).digest("hex").slice(0, 24);

/** What a file's name says of which item it is; a dot before it marks what is being written. Null for other files. */
export const scratchNameOf = (fileName: string): string | null =>
  /^\.?([0-9a-f]{24})(?![0-9a-f])/u.exec(fileName)?.[1] ?? null;
