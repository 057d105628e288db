/** What a run is told: by its user, and of the world. */
import type { Context } from "../lib/context.ts";
import type { RetryPolicy } from "../lib/retry.ts";
import type { Filters } from "../model/query.ts";
import type { Archives } from "../selections/found.ts";
import type { OpenStore } from "../sinks/sink.ts";
import type { Extra, Source } from "../sources/source.ts";
import type { AskContext } from "./asks.ts";

export interface GetOptions {
  readonly dir: string;
  readonly filters: Filters;
  /** A layout's name or a template; default: the folder's, else the source's. */
  readonly layout?: string;
  /** Archive files of this form instead of loose files: `tar.zst`, `tar.xz` or `tar`; fixed by a folder's first get. */
  readonly pack?: string;
  /** Begins another archive file when one has grown so large; absent: one takes everything. */
  readonly shardBytes?: number;
  /** In the numbers of archive files; default 5. */
  readonly shardDigits?: number;
  /** What archive files are called, instead of what was asked for. */
  readonly archiveName?: string;
  readonly jobs?: number;
  readonly dryRun?: boolean;
  readonly scratch?: string;
  readonly recheck?: boolean;
  readonly replace?: boolean;
  readonly skipBad?: boolean;
  readonly prune?: boolean;
  readonly detached?: boolean;
  /** Companions that are made only on request; the folder remembers them. */
  readonly extras?: readonly Extra[];
  /** A list that somebody published of what the files have to be: md5sum's form, or git-annex keys. */
  readonly checksums?: string;
  /** Fetch what data here name of data that are not, too. */
  readonly withReferences?: boolean;
  /** Of a job array; see `ArrayPart`. */
  readonly array?: ArrayPart;
}

/** What a run does of a get that many processes share. */
export type ArrayPart =
  /** Plans and divides the plan among so many tasks, and fetches nothing. `known`: plans from what the folder knows, and asks no archive. */
  | {
      readonly part: "plan";
      readonly tasks: number;
      readonly known?: boolean;
      /** Kept with the plan; see `ArrayRecord.job`. */
      readonly job: readonly string[];
    }
  /** Fetches slices of the plan, as task number so and so from 0, until none is left. */
  | { readonly part: "task"; readonly array: string; readonly task: number }
  /** The same, then proves that all is there, makes the derived files and ends the array. */
  | { readonly part: "finish"; readonly array: string };

/** What a run needs of the world; `src/index.ts` makes it. */
export interface RunEnvironment {
  readonly context: Context;
  readonly retry: RetryPolicy;
  readonly source: (archive: string) => Promise<Source>;
  /** See `AskContext.links`. */
  readonly links: Map<string, string>;
  readonly store: OpenStore;
  readonly archives: Archives;
  readonly fetchSelection: AskContext["fetchSelection"];
  readonly stdin: () => AsyncIterable<Uint8Array>;
  /** Told of the body bytes that data requests receive. */
  readonly onReceived: (listener: (bytes: number) => void) => void;
  readonly jobs: number;
  /** What the user allows. */
  readonly bandwidthBytesPerSecond?: number;
}
