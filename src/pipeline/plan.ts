/**
 * The plan: for each expected item fetch or skip, with the reason. Pure.
 *
 * | the archive shows it | receipt               | revision | files on disk | decision            |
 * |----------------------|-----------------------|----------|---------------|---------------------|
 * | no                   | none                  |          |               | unknown (a failure) |
 * | no                   | stored or damaged     |          |               | withdrawn           |
 * | any                  | removed               |          |               | dropped             |
 * | yes                  | none                  |          |               | fetch: new          |
 * | yes                  | damaged               |          |               | fetch: damaged      |
 * | yes                  | stored                | other    |               | fetch: changed      |
 * | yes                  | stored                | same     | all as stored | here                |
 * | yes                  | stored                | same     | outdated      | fetch: changed      |
 * | yes                  | stored                | same     | one is not    | fetch: missing      |
 *
 * Outdated: all as stored, but the archive says, when asked, that it has other data now (`Source.isCurrent`).
 */
import type { Item } from "../model/item.ts";
import type { Place } from "../model/place.ts";
import type { ItemState, StoredFile } from "../model/receipt.ts";
import type { Found } from "./foreign.ts";

export type FetchReason = "new" | "changed" | "damaged" | "missing";

export type Decision =
  | { readonly do: "fetch"; readonly reason: FetchReason }
  | { readonly do: "skip"; readonly reason: "here" | "withdrawn" | "dropped" }
  | { readonly do: "fail"; readonly reason: "unknown" };

/** `disk`: whether all files are there as stored; asked for only where it matters. */
export function needsDisk(item: Item, state: ItemState | null): boolean {
  return !item.unknown && state?.current.revision === item.revision && isStored(state);
}

export function decide(
  item: Item,
  state: ItemState | null,
  disk: "whole" | "outdated" | "missing",
): Decision {
  if (state?.current.type === "removed") return { do: "skip", reason: "dropped" };
  if (item.unknown) return state ? { do: "skip", reason: "withdrawn" } : { do: "fail", reason: "unknown" };
  if (!state) return { do: "fetch", reason: "new" };
  if (state.current.type === "damaged") return { do: "fetch", reason: "damaged" };
  if (state.current.revision !== item.revision) return { do: "fetch", reason: "changed" };
  if (disk === "whole") return { do: "skip", reason: "here" };
  return { do: "fetch", reason: disk === "outdated" ? "changed" : "missing" };
}

export function isStored(state: ItemState | null): boolean {
  return state?.current.type === "stored" || state?.current.type === "moved";
}

/** One item to fetch, as the plan file holds it. */
export interface Task {
  readonly item: Item;
  readonly reason: FetchReason;
  readonly place: Place;
  /** Files of the receipt that the new one replaces. */
  readonly replaced: readonly StoredFile[];
  /** Sums of the receipts that the new one replaces. */
  readonly supersedes: readonly string[];
  /** Files of another tool that say they are of this item; empty for most. */
  readonly found: readonly Found[];
}
