/**
 * Receipts: what is here and how it was proved (docs/formats/receipts.md).
 *
 * A receipts file is JSON Lines, written by one process, append-only. Its first line is a header. Every other line tells
 * the whole state of one item after an event, names the lines that it replaces, and ends with `sum`, the SHA-256
 * of its bytes before `,"sum"`. Order never comes from clocks: the current line of an item is found among the
 * lines that no other line replaces.
 */
import { createHash } from "node:crypto";
import { RunError } from "../errors.ts";
import type { Digest } from "../lib/digest.ts";
import type { Row } from "./item.ts";
import type { Place } from "./place.ts";

export const RECEIPTS_KIND = "gantry-receipts";
export const RECEIPTS_VERSION = 1;

export interface StoredFile {
  /** Relative to the target folder, `/` between segments; of a packed file its name in the archive. */
  readonly path: string;
  readonly bytes: number;
  readonly digest: Digest;
  /** Milliseconds since the epoch, whole. */
  readonly mtimeMs: number;
  /** Set when the file is no loose one, but a member of an archive file. */
  readonly packed?: Packed;
}

/** Where a member is in an archive file (docs/formats/archive.md). */
export interface Packed {
  /** Name of the archive file in the target folder. */
  readonly archive: string;
  /** Bytes of the archive file that can be unpacked without the rest, and that hold members of one item only. */
  readonly offset: number;
  readonly length: number;
  /** Where the member's header begins in what they unpack to. */
  readonly at: number;
}

/** What an archive file's index is called: it lies beside it. */
export const indexPath = (archive: string): string => `${archive}.index.jsonl`;

/** The files in the target folder that stored files are, or lie in; with repetitions. */
export function* diskPaths(files: readonly StoredFile[]): Generator<string> {
  let before: string | null = null;
  for (const { path, packed } of files) {
    if (packed === undefined) yield path;
    else if (packed.archive !== before) {
      yield packed.archive;
      yield indexPath(packed.archive);
      before = packed.archive;
    }
  }
}

export type ReceiptType = "stored" | "moved" | "damaged" | "removed";

export interface ReceiptBody {
  readonly item: string;
  readonly type: ReceiptType;
  /** Sums of the lines that this one replaces; several when two processes stored the same item. */
  readonly supersedes: readonly string[];
  readonly archive: string;
  readonly revision: string;
  /** UTC, ISO 8601. For people; never for order. */
  readonly at: string;
  /** Where the bytes came from: scheme and host. Null when nothing was fetched. */
  readonly from: string | null;
  readonly tookMs: number;
  /** Which authorities vouched, strongest first: `md5`, `count`, `size`, … */
  readonly proof: readonly string[];
  /** The announcement that the bytes contradict although every digest is right; else null. */
  readonly disputed: string | null;
  /** Where the plan put it; kept for ever, so that a path never changes. */
  readonly place: Place;
  readonly files: readonly StoredFile[];
  /** For `damaged`: the paths whose bytes are wrong or missing. Else empty. */
  readonly damaged: readonly string[];
  readonly facts: Row;
}

export interface Receipt extends ReceiptBody {
  readonly sum: string;
}

const SUM_MARK = ',"sum":"';

/** Fields of a line in their order; `item` comes first so that lines can be sorted without being parsed. */
const FIELDS = [
  "item",
  "type",
  "supersedes",
  "archive",
  "revision",
  "at",
  "from",
  "tookMs",
  "proof",
  "disputed",
  "place",
  "files",
  "damaged",
  "facts",
] as const satisfies readonly (keyof ReceiptBody)[];

/** The line of a receipt, with its newline. */
export function formatReceipt(body: ReceiptBody): { line: string; receipt: Receipt } {
  const open = JSON.stringify(Object.fromEntries(FIELDS.map((field) => [field, body[field]]))).slice(0, -1);
  const sum = createHash("sha256").update(open).digest("hex");
  return { line: `${open}${SUM_MARK}${sum}"}\n`, receipt: { ...body, sum } };
}

/** The receipt of an item that is not to be here: it says which one by its id, and nothing else of it. */
export function buildRemoved(
  { item, archive, revision }: Pick<ReceiptBody, "item" | "archive" | "revision">,
  supersedes: readonly string[],
  now: Date,
): ReceiptBody {
  return {
    item,
    type: "removed",
    supersedes,
    archive,
    revision,
    at: now.toISOString(),
    from: null,
    tookMs: 0,
    proof: [],
    disputed: null,
    place: { folder: null, file: null, prefix: "" },
    files: [],
    damaged: [],
    facts: {},
  };
}

/** The header line of a receipts file, with its newline. */
export function formatReceiptsHeader(writer: string): string {
  return `${JSON.stringify({ kind: RECEIPTS_KIND, version: RECEIPTS_VERSION, writer })}\n`;
}

/** The item id of a line, without parsing the rest; null when it does not begin as a receipt line does. */
export function receiptItem(line: string): string | null {
  if (!line.startsWith('{"item":"')) return null;
  const end = line.indexOf('"', 9);
  if (end < 0) return null;
  const raw = line.slice(9, end);
  return raw.includes("\\") ? null : raw;
}

/** A line whose sum is right, else null (torn or altered: it is told to the user and does not count). */
export function parseReceipt(line: string): Receipt | null {
  const mark = line.lastIndexOf(SUM_MARK);
  if (mark < 0) return null;
  const open = line.slice(0, mark);
  const sum = line.slice(mark + SUM_MARK.length, mark + SUM_MARK.length + 64);
  if (line.slice(mark + SUM_MARK.length + 64) !== '"}') return null;
  if (createHash("sha256").update(open).digest("hex") !== sum) return null;
  // The sum was made by formatReceipt over exactly this shape, so no schema is needed to trust it.
  return JSON.parse(line) as Receipt;
}

const RANK: Record<ReceiptType, number> = { removed: 3, damaged: 2, stored: 1, moved: 1 };

/** The state of one item: its current line and the sums that the next line has to replace. */
export interface ItemState {
  readonly current: Receipt;
  readonly heads: readonly string[];
}

/**
 * The current line among all lines of one item: of those that no other replaces, `removed` wins, then `damaged`,
 * else the greater sum. Null for no lines.
 */
export function resolveReceipts(lines: readonly Receipt[]): ItemState | null {
  const replaced = new Set(lines.flatMap((line) => line.supersedes));
  const heads = [...new Map(lines.filter((l) => !replaced.has(l.sum)).map((l) => [l.sum, l])).values()];
  const current = heads.reduce<Receipt | null>((best, line) => {
    if (best === null) return line;
    const byRank = RANK[line.type] - RANK[best.type];
    return byRank > 0 || (byRank === 0 && line.sum > best.sum) ? line : best;
  }, null);
  return current === null ? null : { current, heads: heads.map((line) => line.sum).sort() };
}

/** Throws `folder-newer` for a header of a newer version or of something else. */
export function checkHeader(
  line: string,
  kind: string,
  version: number,
  path: string,
): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(line);
  } catch {
    header = null;
  }
  if (typeof header !== "object" || header === null || !("kind" in header) || header.kind !== kind) {
    throw new RunError("folder-newer", `${path} is not a ${kind} file`, {
      hint: "move the file away if it is not gantry's, or use the version of gantry that wrote it",
    });
  }
  const found = "version" in header ? header.version : undefined;
  if (typeof found !== "number" || found > version) {
    throw new RunError(
      "folder-newer",
      `${path} has version ${String(found)}, this gantry reads up to ${version}`,
    );
  }
  return header as Record<string, unknown>;
}
