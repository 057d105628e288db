/** Faults: what they are, to which requests they apply, and the repeatable draw. */
import picomatch from "picomatch";
import * as v from "valibot";
import { hash32 } from "./hash32.ts";
import type { Serves } from "./stand-ins.ts";

const bytes = v.pipe(v.number(), v.integer(), v.minValue(0));
const positive = v.pipe(v.number(), v.integer(), v.minValue(1));
const fraction = v.pipe(v.number(), v.minValue(0), v.maxValue(1));

const common = {
  /** Glob on the path, or a regular expression between slashes. Absent: every path but the control door. */
  route: v.optional(v.string()),
  /** Text that the decoded query or form body has to hold, e.g. a series UID. */
  containing: v.optional(v.string()),
  probability: v.optional(fraction),
  /** How many requests it strikes at most. */
  count: v.optional(positive),
  /** How many matching requests it lets pass first. */
  skip: v.optional(bytes),
};

const at = { afterBytes: v.optional(bytes), fraction: v.optional(fraction) };
const after = { afterBytes: v.optional(bytes) };
const image = { image: v.optional(bytes) };
const retryAfter = { retryAfter: v.optional(v.union([v.number(), v.string()])) };

const kinds = {
  cut: at,
  stall: at,
  "slow-first-byte": { ms: v.optional(bytes) },
  slow: { bytesPerSecond: v.optional(positive) },
  reset: {},
  "empty-body": {},
  missing: {},
  changes: {},
  "short-body": at,
  "429": retryAfter,
  "500": {},
  "502": {},
  "503": retryAfter,
  "504": {},
  html: {},
  "json-error": {},
  "expired-token": {},
  redirect: {},
  "redirect-loop": {},
  "truncated-json": at,
  "html-zip": {},
  "short-zip": { images: v.optional(positive) },
  "short-zip-no-md5": { images: v.optional(positive) },
  "empty-zip": {},
  "wrong-md5": image,
  flip: image,
  "wrong-bytes": image,
  "hostile-name": { name: v.optional(v.string()), ...image },
  "extra-file": { name: v.optional(v.string()) },
  "duplicate-entry": image,
  trailing: { bytes: v.optional(positive) },
  "truncated-directory": { bytes: v.optional(positive) },
  bomb: { inflatesToBytes: v.optional(positive), ...image },
  "ascp-error": {
    code: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(69))),
    description: v.optional(v.string()),
    ...after,
  },
  "ascp-exit": {},
  "ascp-prompt": {},
  "ascp-hang": after,
  "ascp-killed": after,
  "ascp-no-final-frame": after,
  "ascp-late-exit": {},
  "ascp-odd-frames": {},
  "ascp-file-error": { code: v.optional(bytes), description: v.optional(v.string()) },
  "ascp-short": {},
} as const;

export type FaultKind = keyof typeof kinds;
export const FAULT_KINDS = Object.keys(kinds) as FaultKind[];

/** One fault as the control door takes it (docs/sandbox.md). */
export interface Fault {
  readonly kind: FaultKind;
  readonly route?: string | undefined;
  readonly containing?: string | undefined;
  readonly probability?: number | undefined;
  readonly count?: number | undefined;
  readonly skip?: number | undefined;
  readonly afterBytes?: number | undefined;
  readonly fraction?: number | undefined;
  readonly ms?: number | undefined;
  readonly bytesPerSecond?: number | undefined;
  /** Seconds, or the text of the header. */
  readonly retryAfter?: number | string | undefined;
  readonly images?: number | undefined;
  /** Which image, from 0 in the order of the reply. */
  readonly image?: number | undefined;
  readonly name?: string | undefined;
  readonly bytes?: number | undefined;
  readonly inflatesToBytes?: number | undefined;
  /** Of ascp's table of errors. */
  readonly code?: number | undefined;
  readonly description?: string | undefined;
}

const kindSchema = v.looseObject({ kind: v.picklist(FAULT_KINDS) });

/** Kinds that only make sense for some replies; the others strike everything. */
const ONLY_FOR: Partial<Record<FaultKind, readonly Serves[]>> = {
  "expired-token": ["zip", "file", "rows", "digest", "page", "transfer"],
  "truncated-json": ["rows"],
  missing: ["file", "sftp-file"],
  changes: ["sftp-file"],
  "short-body": ["file", "sftp-file"],
  "html-zip": ["zip", "file"],
  "wrong-md5": ["zip", "digest"],
  flip: ["zip", "file", "transfer"],
  "wrong-bytes": ["zip", "file", "transfer"],
  "short-zip": ["zip"],
  "short-zip-no-md5": ["zip"],
  "empty-zip": ["zip"],
  "hostile-name": ["zip"],
  "extra-file": ["zip"],
  "duplicate-entry": ["zip"],
  trailing: ["zip", "file"],
  "truncated-directory": ["zip"],
  bomb: ["zip"],
};

/** Of the faults that strike everything those that mean something to a session of ascp. */
const ALSO_FOR_TRANSFERS: readonly FaultKind[] = ["cut", "slow"];
/** The same of files and folders over SFTP. */
const ALSO_FOR_SFTP: readonly FaultKind[] = ["cut", "reset", "stall", "500"];

/** Does a fault of this kind make sense for what is served? */
function strikes(kind: FaultKind, serves: Serves): boolean {
  if (kind.startsWith("ascp-")) return serves === "transfer";
  const only = ONLY_FOR[kind];
  if (only !== undefined) return only.includes(serves);
  if (serves.startsWith("sftp-")) return ALSO_FOR_SFTP.includes(kind);
  return serves !== "transfer" || ALSO_FOR_TRANSFERS.includes(kind);
}

/** Parse a list of faults, or one. Throws an Error with one sentence for people. */
export function parseFaults(input: unknown): Fault[] {
  return (Array.isArray(input) ? input : [input]).map((one: unknown) => {
    const { kind } = parsed(kindSchema, one);
    // The schema of each kind holds a part of what Fault names, which the compiler can't follow over all kinds.
    const fault = parsed(v.strictObject({ kind: v.literal(kind), ...common, ...kinds[kind] }), one) as Fault;
    pathMatcher(fault.route);
    return fault;
  });
}

function parsed<T>(schema: v.GenericSchema<unknown, T>, input: unknown): T {
  const result = v.safeParse(schema, input);
  if (result.success) return result.output;
  const reasons = result.issues.map((issue) => `${v.getDotPath(issue) ?? "fault"}: ${issue.message}`);
  throw new Error(reasons.join("; "));
}

function pathMatcher(route: string | undefined): (path: string) => boolean {
  if (route === undefined) return () => true;
  const regex = /^\/(.*)\/$/.exec(route);
  // A glob that happens to begin and end with a slash matches no route of any archive, so the two cannot be confused.
  if (regex) {
    const compiled = new RegExp(regex[1]!);
    return (path) => compiled.test(path);
  }
  return picomatch(route, { dot: true, bash: true });
}

export interface FaultTarget {
  readonly method: string;
  readonly path: string;
  /** Decoded query and form, for `containing`. Asked for only when there are faults: a form can have many megabytes. */
  details(): string;
  readonly serves: Serves;
}

interface Card {
  readonly fault: Fault;
  readonly matches: (path: string) => boolean;
  met: number;
  struck: number;
}

/** The faults in force. At most one strikes a request: the first of the list that matches and is drawn. */
export class FaultDeck {
  #cards: Card[] = [];
  #seed: number;
  #seen = new Map<number, number>();

  constructor(seed: number) {
    this.#seed = seed;
  }

  set(faults: readonly Fault[], seed = this.#seed): void {
    this.#seed = seed;
    this.#seen.clear();
    this.#cards = faults.map((fault) => ({ fault, matches: pathMatcher(fault.route), met: 0, struck: 0 }));
  }

  /** The faults with how many requests each met and struck. */
  list(): (Fault & { met: number; struck: number })[] {
    return this.#cards.map(({ fault, met, struck }) => ({ ...fault, met, struck }));
  }

  /**
   * The fault that strikes this request. The draw depends on the seed, the fault, the request and how often the same
   * request came before, never on the order in which parallel requests arrive: the same run meets the same faults.
   */
  draw(target: FaultTarget): Fault | undefined {
    if (this.#cards.length === 0) return undefined;
    const details = target.details();
    const same = hash32(`${target.method} ${target.path}?${details}`);
    const nth = this.#seen.get(same) ?? 0;
    this.#seen.set(same, nth + 1);
    for (const [index, card] of this.#cards.entries()) {
      const { fault } = card;
      if (!strikes(fault.kind, target.serves)) continue;
      if (!card.matches(target.path)) continue;
      if (fault.containing !== undefined && !details.includes(fault.containing)) continue;
      card.met++;
      if (card.met <= (fault.skip ?? 0)) continue;
      if (fault.count !== undefined && card.struck >= fault.count) continue;
      const chance = hash32(`${this.#seed} ${index} ${nth} ${same}`) / 2 ** 32;
      if (chance >= (fault.probability ?? 1)) continue;
      card.struck++;
      return fault;
    }
    return undefined;
  }
}
