/**
 * The register of stand-ins: one for each archive kind, and what they and the server say to each other.
 *
 * A stand-in answers requests from a data set, as the real archive is documented to answer. The server does the
 * rest: sockets, the record of requests, the faults that concern bytes on the wire, the control door.
 */
import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import type { Dataset } from "./data/dataset.ts";
import type { TransferServer } from "./fasp/transfer-server.ts";
import type { Fault } from "./faults.ts";
import type { PackageShelf } from "./packages.ts";
import type { ChangedStudies } from "./study-changes.ts";

export interface SandboxRequest {
  readonly method: string;
  /** Path as sent, without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  /** Fields of a form body; empty when the body is no form. */
  readonly form: URLSearchParams;
  /** The body of a form or of JSON as it came, for who takes no notice of its type; absent when it is neither. */
  readonly text?: string;
  /** For bodies that are neither: not read by the server. */
  readonly incoming: IncomingMessage;
}

export interface Reply {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  /**
   * Text and bytes are sent with Content-Length, iterables in chunks without it, with back-pressure. Absent: a reply
   * of zero bytes.
   */
  readonly body?: string | Uint8Array | AsyncIterable<string | Uint8Array>;
  /** Close the connection without any reply. */
  readonly hangUp?: true;
}

/** What a route gives: decides which faults make sense for it. */
export type Serves =
  | "zip"
  | "file"
  | "rows"
  | "digest"
  | "token"
  | "page"
  | "transfer"
  | "sftp-file"
  | "sftp-folder";

export interface Route {
  readonly serves: Serves;
  /** `fault` is the drawn one, if any; a route applies the kinds that concern its content and ignores the others. */
  answer(request: SandboxRequest, fault: Fault | undefined): Reply | Promise<Reply>;
  /** This archive's own form of a reply that a fault puts in place of the true one; undefined: the common form. */
  instead?(fault: Fault, request: SandboxRequest): Reply | undefined;
}

/** How a client reaches one configured archive of the sandbox. */
export interface SandboxArchive {
  readonly name: string;
  readonly kind: string;
  readonly url: string;
  /** Of its kind (`SourceKind.settings`). */
  readonly settings?: Readonly<Record<string, string>>;
  /** What a client needs to be let in, by the end of the variable's name: `API_KEY` is `GANTRY_<NAME>_API_KEY`. */
  readonly credentials?: Readonly<Record<string, string>>;
}

export interface StandIn {
  readonly kind: string;
  archives(origin: string): readonly SandboxArchive[];
  /** What people paste instead of a configured name, by a name of the sandbox's. */
  links?(origin: string): Promise<Readonly<Record<string, string>>>;
  /** The route that answers this request, or undefined when the path is not of this stand-in. Without side effects. */
  route(request: SandboxRequest): Route | undefined;
  /** Forget sessions and tokens. */
  reset(): void;
  /** Give up what is kept on disk. */
  close?(): void;
  /** Finished replies are built and kept; only when the sandbox was started with `precompute`. */
  precompute?(seriesInstanceUids: Iterable<string>): Promise<void>;
}

/** Life of the access tokens, changed at the control door. */
export interface TokenRules {
  /** Undefined: as long as the real archive's live. */
  ttlSeconds: number | undefined;
  /** Tokens of an earlier generation are expired. */
  generation: number;
}

/** What the server gives to each stand-in. */
export interface World {
  /** The data with all changes made at the control door; `revisionOf` differs after a change of that series. */
  readonly dataset: Dataset & { revisionOf(seriesInstanceUid: string): string };
  /** Imaging studies, opened when first asked for, with all changes made at the control door. */
  readonly studies: ChangedStudies;
  readonly packages: PackageShelf;
  /** What all stand-ins of the sandbox say of themselves with `StandIn.links`. */
  readonly links: (origin: string) => Promise<Readonly<Record<string, string>>>;
  /** What the stand-in `ascp` talks to. */
  readonly transfers: TransferServer;
  readonly seed: number;
  readonly user: string;
  readonly password: string;
  readonly tokens: Readonly<TokenRules>;
  readonly precompute: boolean;
}

/** One line for each archive kind. */
export const STAND_INS: readonly ((world: World) => Promise<StandIn>)[] = [
  async (world) => (await import("../sources/nbia/sandbox.ts")).openNbiaStandIn(world),
  async (world) => (await import("../sources/loris/sandbox.ts")).openLorisStandIn(world),
  async (world) => (await import("../sources/faspex/sandbox.ts")).openFaspexStandIn(world),
  async (world) => (await import("../sources/aspera/sandbox.ts")).openAsperaStandIn(world),
];
