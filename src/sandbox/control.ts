/** The control door: what a test or a person can see and change while the sandbox runs, in-process and over HTTP. */
import type { IncomingHttpHeaders } from "node:http";
import * as v from "valibot";
import { type ChangedDataset, parseSeriesChange, type SeriesChange } from "./changes.ts";
import type { Dataset } from "./data/dataset.ts";
import type { Packages } from "./data/packages.ts";
import type { Studies } from "./data/studies.ts";
import type { TransferServer } from "./fasp/transfer-server.ts";
import { FAULT_KINDS, type Fault, type FaultDeck, type FaultKind, parseFaults } from "./faults.ts";
import type { PackageShelf } from "./packages.ts";
import type { Reply, SandboxArchive, StandIn, TokenRules } from "./stand-ins.ts";
import { type ChangedStudies, type FileChange, parseFileChange } from "./study-changes.ts";
import type { Ending } from "./wire.ts";

/** One request that came in. Grows while it is answered: `status` is 0 and `ending` "open" until then. */
export interface SeenRequest {
  /** From 1, in the order of arrival. */
  readonly number: number;
  /** Milliseconds since the sandbox was started. */
  readonly startedMs: number;
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  /** Form fields of the body, each with all its values, of each the first 65,536 characters. */
  readonly form: Readonly<Record<string, readonly string[]>>;
  /** A body of JSON, its first 65,536 characters; null when there was none. */
  readonly json: string | null;
  /** As received, Authorization included. */
  readonly headers: IncomingHttpHeaders;
  status: number;
  /** Bytes of the body that were handed to the socket. */
  bytesSent: number;
  ending: Ending | "open";
  fault: FaultKind | null;
  /** What the sandbox itself got wrong, if anything. */
  problem: string | null;
}

/** The same as the HTTP door `/_sandbox/`, without HTTP. Wrong input throws an Error with one sentence. */
export interface SandboxControl {
  /** Undo everything: faults, changes of the archive, record of requests, tokens. */
  reset(): void;
  /** Seed of the fault draws; also of the built-in data, when that is what is served. Resets. */
  seed(seed: number): Promise<void>;
  requests(): readonly SeenRequest[];
  clearRequests(): void;
  /** Replaces the faults in force; an empty list ends them. */
  setFaults(faults: readonly Fault[]): void;
  faults(): readonly (Fault & { met: number; struck: number })[];
  /** Change one series of the archive. */
  change(change: SeriesChange): void;
  /** Change one file of an imaging study. */
  changeFile(change: FileChange): Promise<void>;
  /** `ttlSeconds` holds for tokens given from now on; `expireNow` ends all that were given. */
  tokens(rules: { ttlSeconds?: number | undefined; expireNow?: boolean | undefined }): void;
  /** Build and keep the zip of every series (or of those named) now. Does nothing without `precompute`. */
  precompute(seriesInstanceUids?: Iterable<string>): Promise<void>;
}

/** The oldest are forgotten beyond this many, half as many again at a time. */
const KEPT_REQUESTS = 100_000;

export class RequestLog {
  #seen: SeenRequest[] = [];
  #count = 0;

  add(request: Omit<SeenRequest, "number">): SeenRequest {
    const seen = { number: ++this.#count, ...request };
    this.#seen.push(seen);
    if (this.#seen.length > KEPT_REQUESTS * 1.5) this.#seen = this.#seen.slice(-KEPT_REQUESTS);
    return seen;
  }

  list(): readonly SeenRequest[] {
    return this.#seen;
  }

  clear(): void {
    this.#seen = [];
    this.#count = 0;
  }
}

export interface ControlParts {
  readonly dataset: ChangedDataset;
  readonly studies: ChangedStudies;
  readonly packages: PackageShelf;
  readonly transfers: TransferServer;
  readonly deck: FaultDeck;
  readonly log: RequestLog;
  readonly elsewhereLog: RequestLog;
  readonly tokens: TokenRules;
  readonly standIns: readonly StandIn[];
  /** Data for a seed, when the data are the built-in ones. */
  readonly dataFor: ((seed: number) => Promise<Dataset>) | undefined;
  readonly studiesFor: ((seed: number) => Promise<Studies>) | undefined;
  readonly packagesFor: ((seed: number) => Promise<Packages>) | undefined;
  readonly startSeed: number;
  readonly precompute: boolean;
}

export function createControl(parts: ControlParts): SandboxControl {
  const { dataset, studies, deck, log, elsewhereLog, tokens, standIns, transfers } = parts;
  let seed = parts.startSeed;
  const reset = (base?: Dataset, studiesOf?: () => Promise<Studies>): void => {
    deck.set([], seed);
    dataset.reset(base);
    studies.reset(studiesOf);
    log.clear();
    elsewhereLog.clear();
    tokens.ttlSeconds = undefined;
    tokens.generation++;
    transfers.reset();
    for (const standIn of standIns) standIn.reset();
  };
  return {
    reset: () => reset(),
    async seed(next) {
      seed = next;
      const { studiesFor, packagesFor } = parts;
      if (packagesFor !== undefined) parts.packages.replace(() => packagesFor(next));
      reset(await parts.dataFor?.(next), studiesFor && (() => studiesFor(next)));
    },
    requests: () => log.list(),
    clearRequests: () => log.clear(),
    setFaults: (faults) => deck.set(parseFaults(faults)),
    faults: () => deck.list(),
    change: (change) => dataset.apply(parseSeriesChange(change)),
    changeFile: (change) => studies.apply(parseFileChange(change)),
    tokens({ ttlSeconds, expireNow }) {
      if (ttlSeconds !== undefined) tokens.ttlSeconds = ttlSeconds;
      if (expireNow) tokens.generation++;
    },
    async precompute(uids) {
      if (!parts.precompute) return;
      const all = function* () {
        for (const series of dataset.series()) yield series.seriesInstanceUid;
      };
      for (const standIn of standIns) await standIn.precompute?.(uids ?? all());
    },
  };
}

const seedSchema = v.strictObject({ seed: v.pipe(v.number(), v.integer()) });
const tokenSchema = v.strictObject({
  ttlSeconds: v.optional(v.pipe(v.number(), v.minValue(0))),
  expireNow: v.optional(v.boolean()),
});

/** What the door shows of the running sandbox. */
export interface Showcase {
  readonly url: string;
  readonly elsewhere: string;
  readonly archives: readonly SandboxArchive[];
  /** Links of packages and addresses of sites, as they are pasted. */
  readonly links: Readonly<Record<string, string>>;
  /** The stand-in ascp. */
  readonly ascp: string;
  /** The HTTPS side, null when there is none. */
  readonly tls: { readonly url: string; readonly caFile: string } | null;
  readonly user: string;
  readonly password: string;
  /** Names of the imaging studies with the number of their images. */
  readonly studies: Readonly<Record<string, number>>;
  /** What of the data could not be served. */
  readonly problems: Dataset["problems"];
  elsewhereRequests(): readonly SeenRequest[];
}

const HELP = {
  "GET /_sandbox/": "this page",
  "POST /_sandbox/reset": "undo everything: faults, changes, record of requests, tokens",
  "POST /_sandbox/seed": '{"seed": 7}',
  "GET /_sandbox/links":
    "links of packages and addresses of sites by name; links/NAME is one of them as text",
  "GET /_sandbox/requests": "every request seen; DELETE forgets them",
  "GET /_sandbox/elsewhere": "requests that followed a redirect to the other origin",
  "POST /_sandbox/faults": `a list of {"kind": …}; GET shows them with counts, DELETE ends them; kinds: ${FAULT_KINDS.join(", ")}`,
  "POST /_sandbox/series":
    '{"uid": …, "change": "withdraw" | "restore" | "touch" | "announce" | "replace-bytes" | "remove-image" | "rename-patient" | "restrict" | "relabel"}',
  "POST /_sandbox/files":
    '{"file": …, "change": "withdraw" | "restore" | "touch" | "replace-bytes" | "rewrite" | "remove"}',
  "POST /_sandbox/tokens": '{"ttlSeconds": 60} or {"expireNow": true}',
  "POST /_sandbox/precompute": "build and keep every zip now (when started so)",
};

/** Answer a request at the door. */
export async function answerDoor(
  request: { method: string; path: string; body: Buffer },
  control: SandboxControl,
  dataset: Dataset,
  showcase: Showcase,
): Promise<Reply> {
  const what = request.path.replace(/^\/_sandbox\/?/, "").replace(/\/$/, "");
  const json = (): unknown => (request.body.length === 0 ? {} : JSON.parse(request.body.toString("utf8")));
  const done = { done: true };
  try {
    if (request.method === "GET" && what.startsWith("links/")) {
      const link = showcase.links[what.slice("links/".length)];
      if (link !== undefined)
        return { status: 200, headers: { "Content-Type": "text/plain" }, body: `${link}\n` };
    }
    switch (`${request.method} ${what}`) {
      case "GET ":
      case "HEAD ":
        return reply(200, {
          sandbox: 1,
          url: showcase.url,
          elsewhere: showcase.elsewhere,
          user: showcase.user,
          password: showcase.password,
          archives: showcase.archives,
          links: showcase.links,
          ascp: showcase.ascp,
          tls: showcase.tls,
          collections: countCollections(dataset),
          series: dataset.seriesCount,
          studies: showcase.studies,
          problems: showcase.problems,
          help: HELP,
        });
      case "GET links":
        return reply(200, showcase.links);
      case "POST reset":
        control.reset();
        return reply(200, done);
      case "POST seed":
        await control.seed(v.parse(seedSchema, json()).seed);
        return reply(200, done);
      case "GET requests":
        return reply(200, control.requests());
      case "DELETE requests":
        control.clearRequests();
        return reply(200, done);
      case "GET elsewhere":
        return reply(200, showcase.elsewhereRequests());
      case "GET faults":
        return reply(200, control.faults());
      case "POST faults":
        control.setFaults(parseFaults(json()));
        return reply(200, control.faults());
      case "DELETE faults":
        control.setFaults([]);
        return reply(200, done);
      case "POST series":
        control.change(parseSeriesChange(json()));
        return reply(200, done);
      case "POST files":
        await control.changeFile(parseFileChange(json()));
        return reply(200, done);
      case "POST tokens":
        control.tokens(v.parse(tokenSchema, json()));
        return reply(200, done);
      case "POST precompute":
        await control.precompute();
        return reply(200, done);
      case "GET loop":
      case "HEAD loop":
      case "POST loop":
        return { status: 302, headers: { Location: "/_sandbox/loop" } };
      default:
        return reply(404, { error: `nothing at ${request.method} ${request.path}`, help: HELP });
    }
  } catch (error) {
    return reply(400, { error: error instanceof Error ? error.message : String(error) });
  }
}

function reply(status: number, value: unknown): Reply {
  return {
    status,
    headers: { "Content-Type": "application/json" },
    body: `${JSON.stringify(value, null, Array.isArray(value) && value.length > 1000 ? 0 : 2)}\n`,
  };
}

function countCollections(dataset: Dataset): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { collection } of dataset.series()) counts[collection] = (counts[collection] ?? 0) + 1;
  return counts;
}
