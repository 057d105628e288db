/**
 * The library: everything that the command line, the web page and cluster jobs call.
 *
 * `open` gives the configured archives; `get` plans and transfers; `verify` proves a folder again. Expected
 * failures are `RunError`s (of a run: its summary's `error` and `failures`), cancellation is an `AbortSignal`
 * whose reason should be a `RunError` `interrupted` or `terminated`.
 */
import type * as Access from "./access.ts";
import type { Gantry, OpenOptions } from "./gantry.ts";
import { type Context, type Log, systemClock } from "./lib/context.ts";
import { writeFolderSums as writeSumsOf } from "./pipeline/folder-sums.ts";
import type { Run } from "./pipeline/get.ts";
import type { GetOptions } from "./pipeline/run-options.ts";
import { type VerifyRun, verify as verifyFolder } from "./pipeline/verify.ts";
import { openStore } from "./sinks/index.ts";
import { isAtLeast, OLDEST_VERSION } from "./transports/ascp/describe-ascp.ts";

export type { AccountOptions, LoggedIn } from "./access.ts";
export type { Account, Secrets } from "./accounts/secrets.ts";
export { type AddedArchive, addArchive, type RemovedArchive, removeArchive } from "./archives.ts";
export { checkSums, type SumsResult, writeSums } from "./checksums/sums.ts";
export type { ArchiveConfig } from "./config.ts";
export { ERROR_TABLE, type ErrorCode, RunError } from "./errors.ts";
export type {
  AscpChoices,
  FindOptions,
  Gantry,
  Listing,
  OpenOptions,
} from "./gantry.ts";
export type { Context, Log, LogLevel } from "./lib/context.ts";
export { systemClock } from "./lib/context.ts";
export { makeFolder } from "./lib/durable-file.ts";
export { parseDuration, parseRate } from "./lib/limiter.ts";
export { createRedactor, type Redactor } from "./lib/redact.ts";
export { nearMatches } from "./model/address.ts";
export type { Finding } from "./model/finding.ts";
export type { Item, Row, Value } from "./model/item.ts";
export { DATE_FILTERS, type Filters, NO_FILTERS, type Query, WORD_FILTERS } from "./model/query.ts";
export { displayName } from "./model/safe-path.ts";
export { secretLinkName } from "./model/site.ts";
export {
  readArrayEnvironment,
  readArrayJob,
  writeArrayEnvironment,
} from "./pipeline/array-job.ts";
export type { DropFound, DropOptions, DropSummary } from "./pipeline/drop.ts";
export {
  EVENTS_VERSION,
  type Failure,
  type RunEvent,
  type RunSummary,
  type Tally,
  type VerifySummary,
} from "./pipeline/events.ts";
export type { Run } from "./pipeline/get.ts";
export { type Logbook, openLogbook } from "./pipeline/logbook.ts";
export { createNotifier } from "./pipeline/notify.ts";
export type { PackOptions, PackSummary } from "./pipeline/pack.ts";
export type { PutFile, PutOptions, PutProgress, PutSummary } from "./pipeline/put.ts";
export type { ArrayPart, GetOptions } from "./pipeline/run-options.ts";
export { type FolderStatus, readStatus, type Stopped, stopRun } from "./pipeline/status.ts";
export type { VerifyRun } from "./pipeline/verify.ts";
export {
  type ArchiveFile,
  type ArchiveMember,
  isArchiveName,
} from "./sinks/archive/archive-file.ts";
export { holdsMembers, openMembers } from "./sinks/archive/stored-folder.ts";
export {
  LeftMembers,
  MemberPaths,
  type UnpackOptions,
  type UnpackSummary,
  unpackArchive,
  verifyArchive,
} from "./sinks/archive/unpack.ts";
export type { AccountKind, Citation } from "./sources/source.ts";
export { type AscpDescription, OLDEST_VERSION as OLDEST_ASCP } from "./transports/ascp/describe-ascp.ts";
export type { Installed } from "./transports/ascp/install-ascp.ts";
export { VERSION } from "./version.ts";

// What asks archives is loaded when it is called: commands that do not ask any start in half the time.

/** The configured archives, ready to be asked; close it. */
export async function open(options: OpenOptions = {}): Promise<Gantry> {
  return (await import("./gantry.ts")).open(options);
}

const access = (): Promise<typeof Access> => import("./access.ts");
export const readAccountKind: typeof Access.readAccountKind = async (...words) =>
  (await access()).readAccountKind(...words);
export const logIn: typeof Access.logIn = async (...words) => (await access()).logIn(...words);
export const logOut: typeof Access.logOut = async (...words) => (await access()).logOut(...words);
export const describeAscp: typeof Access.describeAscp = async (...words) =>
  (await access()).describeAscp(...words);
export const installAscp: typeof Access.installAscp = async (...words) =>
  (await access()).installAscp(...words);
export const diagnose: typeof Access.diagnose = async function* (...words) {
  return yield* (await access()).diagnose(...words);
};
export const isAscpNewEnough = (version: string): boolean => isAtLeast(version, OLDEST_VERSION);

/** Proves again what is in a folder, offline. */
export function verify(
  dir: string,
  options: { strict?: boolean; jobs?: number; signal?: AbortSignal; log?: Log } = {},
): VerifyRun {
  const context: Context = {
    signal: options.signal ?? new AbortController().signal,
    clock: systemClock,
    random: Math.random,
    log: options.log ?? (() => undefined),
  };
  return verifyFolder(dir, {
    context,
    store: openStore,
    ...(options.strict === undefined ? {} : { strict: options.strict }),
    ...(options.jobs === undefined ? {} : { jobs: options.jobs }),
  });
}

/** An md5 list of what a folder holds, members of archive files too, for other people's programs. */
export function writeFolderSums(
  dir: string,
  options: { to: string; signal?: AbortSignal },
): ReturnType<typeof writeSumsOf> {
  return writeSumsOf(dir, { ...options, store: openStore });
}

/** What a transfer would do, told by its `planned` event and its summary. Nothing is written in the folder. */
export function plan(gantry: Gantry, words: readonly string[], options: Omit<GetOptions, "dryRun">): Run {
  return gantry.get(words, { ...options, dryRun: true });
}

/** Downloads, proves, resumes: `gantry get`. No words: everything that was ever asked for in the folder. */
export function transfer(gantry: Gantry, words: readonly string[], options: Omit<GetOptions, "dryRun">): Run {
  return gantry.get(words, { ...options, dryRun: false });
}
