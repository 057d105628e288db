/**
 * The library: everything that the command line, the web page and cluster jobs call.
 *
 * `open` gives the configured archives; `get` plans and transfers; `verify` proves a folder again. Expected
 * failures are `RunError`s (of a run: its summary's `error` and `failures`), cancellation is an `AbortSignal`
 * whose reason should be a `RunError` `interrupted` or `terminated`.
 */
import type { Gantry, OpenOptions } from "./gantry.ts";
import { type Context, type Log, systemClock } from "./lib/context.ts";
import type { FolderSums } from "./pipeline/folder-sums.ts";
import type { Run } from "./pipeline/get.ts";
import type { GetOptions } from "./pipeline/run-options.ts";
import type { VerifyRun } from "./pipeline/verify.ts";

export type { AccountOptions, LoggedIn } from "./access.ts";
export type { Account, Secrets } from "./accounts/secrets.ts";
export type { AddedArchive, RemovedArchive } from "./archives.ts";
export type { SumsResult } from "./checksums/sums.ts";
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
export type { FolderStatus, Stopped } from "./pipeline/status.ts";
export type { VerifyRun } from "./pipeline/verify.ts";
export { isArchiveName } from "./sinks/archive/archive-name.ts";
export { LeftMembers, MemberPaths } from "./sinks/archive/member-paths.ts";
export {
  type ArchiveFile,
  type ArchiveMember,
  holdsMembers,
  openMembers,
} from "./sinks/archive/members.ts";
export type { UnpackOptions, UnpackSummary } from "./sinks/archive/unpack.ts";
export type { AccountKind, Citation } from "./sources/source.ts";
export {
  type AscpDescription,
  isNewEnough as isAscpNewEnough,
  OLDEST_VERSION as OLDEST_ASCP,
} from "./transports/ascp/describe-ascp.ts";
export type { Installed } from "./transports/ascp/install-ascp.ts";
export { VERSION } from "./version.ts";

// A command starts in half the time when only what it calls is loaded, so most of the library is loaded when called.

/** A function that is loaded when it is called. */
const late =
  <Words extends unknown[], T>(load: () => Promise<(...words: Words) => Promise<T>>) =>
  async (...words: Words): Promise<T> =>
    (await load())(...words);

/** The same of one that yields. */
const lateRows = <Words extends unknown[], T>(load: () => Promise<(...words: Words) => AsyncGenerator<T>>) =>
  async function* (...words: Words): AsyncGenerator<T> {
    yield* (await load())(...words);
  };

/** The configured archives, ready to be asked; close it. */
export async function open(options: OpenOptions = {}): Promise<Gantry> {
  return (await import("./gantry.ts")).open(options);
}

export const readAccountKind = late(async () => (await import("./access.ts")).readAccountKind);
export const logIn = late(async () => (await import("./access.ts")).logIn);
export const logOut = late(async () => (await import("./access.ts")).logOut);
export const describeAscp = late(async () => (await import("./access.ts")).describeAscp);
export const installAscp = late(async () => (await import("./access.ts")).installAscp);
export const diagnose = lateRows(async () => (await import("./access.ts")).diagnose);
export const addArchive = late(async () => (await import("./archives.ts")).addArchive);
export const removeArchive = late(async () => (await import("./archives.ts")).removeArchive);
export const checkSums = lateRows(async () => (await import("./checksums/sums.ts")).checkSums);
export const writeSums = late(async () => (await import("./checksums/sums.ts")).writeSums);
export const readStatus = late(async () => (await import("./pipeline/status.ts")).readStatus);
export const stopRun = late(async () => (await import("./pipeline/status.ts")).stopRun);
export const readArrayJob = late(async () => (await import("./pipeline/array-job.ts")).readArrayJob);
export const readArrayEnvironment = late(
  async () => (await import("./pipeline/array-job.ts")).readArrayEnvironment,
);
export const writeArrayEnvironment = late(
  async () => (await import("./pipeline/array-job.ts")).writeArrayEnvironment,
);
export const unpackArchive = late(async () => (await import("./sinks/archive/unpack.ts")).unpackArchive);
export const verifyArchive = lateRows(async () => (await import("./sinks/archive/unpack.ts")).verifyArchive);

/** Proves again what is in a folder, offline. */
export function verify(
  dir: string,
  options: { strict?: boolean; jobs?: number; signal?: AbortSignal; log?: Log } = {},
): VerifyRun {
  const { strict, jobs, signal = new AbortController().signal, log = () => undefined } = options;
  const context: Context = { signal, clock: systemClock, random: Math.random, log };
  const run = (async () => {
    const { openStore: store } = await import("./sinks/index.ts");
    return (await import("./pipeline/verify.ts")).verify(dir, {
      ...{ context, store },
      ...(strict === undefined ? {} : { strict }),
      ...(jobs === undefined ? {} : { jobs }),
    });
  })();
  return {
    result: run.then(({ result }) => result),
    async *[Symbol.asyncIterator]() {
      yield* await run;
    },
  };
}

/** An md5 list of what a folder holds, members of archive files too, for other people's programs. */
export async function writeFolderSums(
  dir: string,
  options: { to: string; signal?: AbortSignal },
): Promise<FolderSums> {
  const { openStore: store } = await import("./sinks/index.ts");
  return (await import("./pipeline/folder-sums.ts")).writeFolderSums(dir, { ...options, store });
}

/** What a transfer would do, told by its `planned` event and its summary. Nothing is written in the folder. */
export function plan(gantry: Gantry, words: readonly string[], options: Omit<GetOptions, "dryRun">): Run {
  return gantry.get(words, { ...options, dryRun: true });
}

/** Downloads, proves, resumes: `gantry get`. No words: everything that was ever asked for in the folder. */
export function transfer(gantry: Gantry, words: readonly string[], options: Omit<GetOptions, "dryRun">): Run {
  return gantry.get(words, { ...options, dryRun: false });
}
