/**
 * The one error class and the one table of codes.
 *
 * Everything that can go wrong for a reason other than a bug of ours is a `RunError` with a code from
 * `ERROR_TABLE`. Callers match codes, never message text. The table says for each code which exit status it
 * leads to and whether trying again can help.
 */

/** Whether trying the same thing again can help: `never`, `later` (with backoff), `spent` (was tried enough). */
export type Retry = "never" | "later" | "spent";

interface CodeFacts {
  /** Process exit status when every failure of a run shares it (docs/exit-codes.md). */
  readonly exit: 1 | 2 | 3 | 4 | 5 | 6 | 7 | 130 | 143;
  readonly retry: Exclude<Retry, "spent">;
  /** What a user can do when the thrower knows nothing better. */
  readonly hint: string;
}

const facts = (exit: CodeFacts["exit"], retry: CodeFacts["retry"], hint: string): CodeFacts => ({
  exit,
  retry,
  hint,
});

export const ERROR_TABLE = {
  bug: facts(1, "never", "this is a fault of gantry itself: please report it with the log file"),

  usage: facts(2, "never", "see `gantry --help`"),
  "bad-selection": facts(2, "never", "mend the line, or leave it out with --skip-bad"),
  "unknown-name": facts(2, "never", "list what exists with `gantry ls`"),
  "unsupported-filter": facts(2, "never", "leave the filter out"),
  "no-match": facts(2, "never", "try the same filters with `gantry find`"),
  "folder-busy": facts(2, "never", "wait for the other run, or end it with `gantry stop DIR`"),
  "folder-newer": facts(2, "never", "use the newer gantry that wrote this folder"),
  "folder-layout": facts(2, "never", "a folder keeps the layout of its first get; use another folder"),
  "array-over": facts(2, "never", "`gantry slurm resume DIR` fetches what is missing"),
  "folder-unknown": facts(2, "never", "name a folder that `gantry get` has filled"),

  "some-failed": facts(3, "never", "run the same command again: it fetches only what is missing"),

  "array-incomplete": facts(3, "never", "`gantry slurm resume DIR` fetches what is missing"),

  "access-login": facts(4, "never", "check the user name and password"),
  "access-denied": facts(4, "never", "ask the archive for access"),
  "access-item": facts(
    4,
    "never",
    "unknown, withdrawn or not permitted: the archive does not tell them apart",
  ),

  "archive-unreachable": facts(5, "later", "check the network, then run the same command again"),
  "archive-busy": facts(5, "later", "run the same command again later, or with fewer --jobs"),
  "archive-stalled": facts(5, "later", "run the same command again, or with a larger --stall-timeout"),
  "archive-cut": facts(5, "later", "run the same command again"),
  "archive-error": facts(5, "later", "run the same command again later"),
  "archive-reply": facts(
    5,
    "later",
    "run the same command again later; a proxy or login page may be in the way",
  ),
  "archive-redirect": facts(5, "later", "a proxy or login page may be in the way"),

  "proof-format": facts(6, "later", "run the same command again"),
  "proof-digest": facts(6, "later", "run the same command again"),
  "proof-count": facts(6, "later", "run the same command again"),
  "proof-size": facts(6, "later", "run the same command again"),

  "disk-full": facts(7, "never", "free some space, then run the same command again"),
  "disk-inodes": facts(7, "never", "free some inodes, then run the same command again"),
  "disk-quota": facts(7, "never", "free some quota, then run the same command again"),
  "disk-permission": facts(7, "never", "choose a folder that you may write to"),
  "disk-error": facts(7, "never", "check the disk, then run the same command again"),

  interrupted: facts(130, "never", "run the same command again to go on"),
  terminated: facts(143, "never", "run the same command again to go on"),
} as const satisfies Record<string, CodeFacts>;

export type ErrorCode = keyof typeof ERROR_TABLE;

/** Where it happened. `url` must already be redacted. */
export interface ErrorPlace {
  readonly operation?: string;
  /** Name of the configured archive, e.g. `tcia`. */
  readonly archive?: string;
  /** Id of the item, e.g. `dicom-series:1.2.3`. */
  readonly item?: string;
  readonly path?: string;
  readonly url?: string;
}

export interface RunErrorOptions {
  readonly retry?: Retry;
  readonly at?: ErrorPlace;
  readonly hint?: string;
  readonly cause?: unknown;
  /** The archive's own wish, from Retry-After. */
  readonly retryAfterMs?: number;
}

/** An expected failure. `message` says what happened to what, without the hint and without secrets. */
export class RunError extends Error {
  override readonly name = "RunError";
  readonly code: ErrorCode;
  readonly retry: Retry;
  readonly at: ErrorPlace;
  readonly hint: string;
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, options: RunErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retry = options.retry ?? ERROR_TABLE[code].retry;
    this.at = options.at ?? {};
    this.hint = options.hint ?? ERROR_TABLE[code].hint;
    this.retryAfterMs = options.retryAfterMs;
  }

  get exit(): number {
    return ERROR_TABLE[this.code].exit;
  }

  /** The same error with places added (known ones win), and possibly another retry. */
  with(at: ErrorPlace, retry: Retry = this.retry): RunError {
    const copy = new RunError(this.code, this.message, {
      retry,
      at: { ...at, ...this.at },
      hint: this.hint,
      cause: this.cause,
      ...(this.retryAfterMs === undefined ? {} : { retryAfterMs: this.retryAfterMs }),
    });
    if (this.stack !== undefined) copy.stack = this.stack;
    return copy;
  }
}

/** Our own mistakes: thrown as a plain Error, ends the process with exit 1. */
export function assert(condition: unknown, what: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${what}`);
}
