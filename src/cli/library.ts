/**
 * The library as the commands see it. Loaded only when a command runs, so that help and usage errors do not wait
 * for an HTTP client; tests hand in a fake.
 */
import type * as gantry from "../index.ts";

export type {
  ArrayPart,
  AscpChoices,
  DropFound,
  Filters,
  Finding,
  FolderStatus,
  Gantry,
  GetOptions,
  Listing,
  RunError,
  RunEvent,
  RunSummary,
  Tally,
  VerifySummary,
} from "../index.ts";

export type Row =
  Awaited<ReturnType<gantry.Gantry["list"]>> extends { rows: AsyncIterable<infer R> } ? R : never;
export type Value = Row[string];
export type Failure = gantry.RunSummary["failures"][number];
export type Citation = gantry.RunSummary["citations"][number];

/** What the commands call of src/index.ts. */
export type Library = Pick<
  typeof gantry,
  | "RunError"
  | "EVENTS_VERSION"
  | "open"
  | "verify"
  | "readStatus"
  | "stopRun"
  | "checkSums"
  | "writeFolderSums"
  | "isArchiveName"
  | "holdsMembers"
  | "openMembers"
  | "LeftMembers"
  | "MemberPaths"
  | "unpackArchive"
  | "verifyArchive"
  | "openLogbook"
  | "createNotifier"
  | "createRedactor"
  | "secretLinkName"
  | "parseRate"
  | "parseDuration"
  | "addArchive"
  | "removeArchive"
  | "readAccountKind"
  | "logIn"
  | "logOut"
  | "diagnose"
  | "describeAscp"
  | "installAscp"
  | "isAscpNewEnough"
  | "OLDEST_ASCP"
  | "VERSION"
  | "readArrayJob"
  | "readArrayEnvironment"
  | "writeArrayEnvironment"
>;

export const loadLibrary = (): Promise<Library> => import("../index.ts");
