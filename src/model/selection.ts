/**
 * Selections: what was asked for, and the items that this meant when it was asked (docs/formats/selections.md).
 * A selection file is a header line and one line an item, sorted by id. Same archive state, same bytes.
 */
import { createHash } from "node:crypto";
import { RunError } from "../errors.ts";
import type { Item } from "./item.ts";
import { LINK_ARCHIVE } from "./link.ts";
import type { Filters } from "./query.ts";
import { checkHeader } from "./receipt.ts";

export const SELECTION_KIND = "gantry-selection";
export const SELECTION_VERSION = 1;

/** What a user asked for, in a form that can be asked again. */
export type Request =
  | {
      readonly kind: "paths";
      readonly archive: string;
      /** Decoded, resolved segments; `[[]]` is the whole archive. Sorted. */
      readonly paths: readonly (readonly string[])[];
      readonly filters: Filters;
    }
  | {
      readonly kind: "list";
      /** Name of the file it came from, without folders. */
      readonly name: string;
      /** SHA-256 over the listed addresses, so that another list under the same name is another request. */
      readonly digest: string;
      readonly filters: Filters;
    };

export interface SelectionHeader {
  readonly kind: typeof SELECTION_KIND;
  readonly version: typeof SELECTION_VERSION;
  readonly request: Request;
  /** Digests of the selections that this one takes the place of. */
  readonly replaces: readonly string[];
  readonly items: number;
  /** Sums over the items that announce them. */
  readonly files: number;
  readonly bytes: number;
  /** SHA-256 of the item lines. */
  readonly itemsDigest: string;
}

export function formatItem(item: Item): string {
  const { id, revision, archive, address, bytes, files, labels, locator, unknown } = item;
  const line: Record<string, unknown> = { id, revision, archive, address, bytes, files };
  if (unknown) line.unknown = true;
  line.labels = Object.fromEntries(Object.entries(labels).filter(([, value]) => value !== null));
  if (locator !== undefined) line.locator = locator;
  return JSON.stringify(line);
}

/** Throws `bad-selection` for a line that was cut or altered. */
export function parseItem(line: string): Item {
  try {
    return JSON.parse(line) as Item;
  } catch (cause) {
    throw new RunError("bad-selection", `not an item of a selection: ${JSON.stringify(line.slice(0, 60))}`, {
      cause,
    });
  }
}

/** The id of an item line without parsing the rest. */
export function lineItemId(line: string): string {
  return line.slice(7, line.indexOf('"', 7));
}

export function parseSelectionHeader(line: string, path: string): SelectionHeader {
  return checkHeader(line, SELECTION_KIND, SELECTION_VERSION, path) as unknown as SelectionHeader;
}

/** Two gets with the same key ask for the same thing. */
export function requestKey(request: Request): string {
  return createHash("sha256").update(canonical(request)).digest("hex");
}

/** One line for people: the address and filters that were asked for. */
export function describeRequest(request: Request): string {
  const words =
    request.kind === "list"
      ? [request.name]
      : request.archive === LINK_ARCHIVE
        ? request.paths.flat()
        : request.paths.map((p) => formatAddress(request.archive, p));
  const { filters } = request;
  for (const [name, values] of Object.entries(filters.words)) words.push(`--${name} ${values?.join(",")}`);
  for (const [name, value] of Object.entries(filters.dates)) words.push(`--${name} ${value}`);
  for (const glob of filters.include) words.push(`--include ${glob}`);
  for (const glob of filters.exclude) words.push(`--exclude ${glob}`);
  if (filters.limit !== null) words.push(`--limit ${filters.limit}`);
  if (filters.limitPatients !== null) words.push(`--limit-patients ${filters.limitPatients}`);
  return words.join(" ");
}

/** `archive:a/b/c`, or `aspera://user@host/a/b/c`, each segment percent-encoded where `/`, `%` or control characters need it. */
export function formatAddress(archive: string, path: readonly string[]): string {
  const joint = archive.includes("://") ? (path.length === 0 ? "" : "/") : ":";
  return `${archive}${joint}${formatPath(path)}`;
}

/** A path as it may be appended to an address. */
export function formatPath(path: readonly string[]): string {
  return path.map(encodeSegment).join("/");
}

export function encodeSegment(segment: string): string {
  return segment.replace(/[%/\u0000-\u001f\u007f]/gu, (c) => encodeURIComponent(c));
}

/** JSON with sorted keys. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${entries.map(([k, v]) => `${JSON.stringify(k)}:${canonical(v)}`).join(",")}}`;
  }
  return JSON.stringify(value) ?? "null";
}
