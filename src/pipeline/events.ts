/**
 * Run events: what every screen, log and `--json` reads (docs/formats/events.md). One line of JSON each, with
 * `v` the version of this schema and `t` the UTC time. New fields and new types may be added within a version.
 */
import type { ErrorCode } from "../errors.ts";
import type { Row } from "../model/item.ts";
import type { Citation } from "../sources/source.ts";
import type { RunProgress } from "../state/runs.ts";

export const EVENTS_VERSION = 1;

export interface Failure {
  readonly item: string;
  readonly address: string;
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string;
}

export interface Tally {
  readonly items: number;
  readonly files: number;
  readonly bytes: number;
}

/** Of data as the archive announces them. */
export interface Announced extends Tally {
  /** How many of the items have no announced size: `bytes` is without them. */
  readonly unsized: number;
}

export type RunEvent =
  | {
      readonly type: "run-started";
      readonly run: string;
      readonly dir: string;
      readonly requests: readonly string[];
    }
  /** A listing goes on: so many items found until now. */
  | { readonly type: "listing"; readonly items: number }
  | {
      readonly type: "planned";
      readonly wanted: Announced;
      readonly fetch: Announced;
      readonly here: Tally;
      /** What other tools left of wanted items, not proved yet; `fetch` is without it. */
      readonly found: Tally;
      /** Items asked for that the archive does not show. */
      readonly unknown: number;
      /** Items here that the archive shows no more. */
      readonly withdrawn: number;
      /** Items left out because they were dropped from the folder. */
      readonly dropped: number;
      readonly freeBytes: number | null;
      readonly freeInodes: number | null;
      /** What quotas leave; null where there are none, or nobody tells. */
      readonly quotaBytes: number | null;
      readonly quotaInodes: number | null;
      /** That `fetch` takes, as loose files and as archive files. */
      readonly inodes: { readonly loose: number; readonly packed: number };
      /** How fast data came in the last runs of the folder, or may come by `--bandwidth`; null when neither is known. */
      readonly bytesPerSecond: number | null;
      readonly rateFrom: "runs" | "bandwidth" | null;
      /** That `fetch` takes at that rate. */
      readonly seconds: number | null;
      readonly licences: readonly Citation[];
    }
  | {
      readonly type: "item-started";
      readonly item: string;
      readonly address: string;
      readonly labels: Row;
      readonly bytes: number | null;
    }
  | {
      readonly type: "item-retry";
      readonly item: string;
      readonly attempt: number;
      readonly code: ErrorCode;
      readonly message: string;
      readonly waitMs: number;
    }
  | {
      readonly type: "item-stored";
      readonly item: string;
      readonly address: string;
      readonly folder: string;
      readonly files: number;
      readonly bytes: number;
      readonly proof: readonly string[];
      readonly disputed: string | null;
      readonly tookMs: number;
    }
  /** Files that another tool left were proved and stay where they are (`from` null), or came out of a zip at `from`. */
  | {
      readonly type: "item-adopted";
      readonly item: string;
      readonly address: string;
      readonly folder: string;
      /** All files of the item, with those that were missing and fetched. */
      readonly files: number;
      readonly bytes: number;
      readonly fetchedFiles: number;
      readonly fetchedBytes: number;
      readonly proof: readonly string[];
      readonly disputed: string | null;
      readonly from: string | null;
      readonly tookMs: number;
    }
  | ({ readonly type: "item-failed" } & Failure)
  /** Another task of the same array took the item over, since this one was believed dead. */
  | { readonly type: "item-left"; readonly item: string; readonly address: string }
  /** The plan was divided among the tasks of an array; nothing was fetched. */
  | {
      readonly type: "divided";
      readonly array: string;
      readonly slices: number;
      readonly items: number;
      readonly bytes: number;
    }
  | { readonly type: "item-moved"; readonly item: string; readonly from: string; readonly to: string }
  | {
      readonly type: "item-damaged";
      readonly item: string;
      readonly path: string;
      readonly what: "missing" | "changed";
    }
  | { readonly type: "item-withdrawn"; readonly item: string; readonly address: string }
  | { readonly type: "quarantined"; readonly path: string; readonly why: string }
  /** At most four a second. `active`: addresses of some items under way. */
  | ({ readonly type: "progress"; readonly active: readonly string[] } & RunProgress)
  /** Of `verify`: one file is checked. */
  | {
      readonly type: "file-checked";
      readonly path: string;
      readonly outcome: "ok" | "changed" | "missing" | "moved" | "extra";
      readonly to?: string;
    }
  /** The last one of `verify`. */
  | ({ readonly type: "verify-finished" } & VerifySummary)
  /** A file here names another one that is not here (`IntendedFor` of a field map), told at the end of a run. */
  | {
      readonly type: "reference-missing";
      readonly path: string;
      /** Where it would be in the archive's own tree. */
      readonly names: string;
      /** Of what is named, where it has one. */
      readonly address: string | null;
    }
  | { readonly type: "warning"; readonly message: string }
  | ({ readonly type: "run-finished" } & RunSummary);

export interface VerifySummary {
  readonly dir: string;
  readonly exit: number;
  readonly items: number;
  readonly files: number;
  readonly bytes: number;
  /** Files by what was found. */
  readonly ok: number;
  readonly changed: number;
  readonly missing: number;
  readonly moved: number;
  readonly extra: number;
  readonly tookMs: number;
  readonly error: { readonly code: ErrorCode; readonly message: string; readonly hint: string } | null;
}

export interface RunSummary {
  readonly run: string;
  readonly dir: string;
  /** Exit status as in docs/exit-codes.md. */
  readonly exit: number;
  readonly stored: Tally;
  /** Items made from what another tool left, with the files and bytes of them that were missing and fetched. */
  readonly adopted: Tally & { readonly fetchedFiles: number; readonly fetchedBytes: number };
  readonly here: Tally;
  readonly failed: number;
  readonly withdrawn: number;
  readonly dropped: number;
  readonly disputed: number;
  readonly receivedBytes: number;
  readonly tookMs: number;
  /** The first hundred; all of them are in the log. */
  readonly failures: readonly Failure[];
  readonly citations: readonly Citation[];
  /** The sentence of an error that ended the run as a whole, else null. */
  readonly error: { readonly code: ErrorCode; readonly message: string; readonly hint: string } | null;
}
