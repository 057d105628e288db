/** Checks files against checksum lists of other programs, and writes such lists. */
import { type FileHandle, mkdtemp, open, readdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { RunError } from "../errors.ts";
import type { Digest } from "../lib/digest.ts";
import { onDisk, writeFileDurably } from "../lib/durable-file.ts";
import { sortLines } from "../lib/external-sort.ts";
import { readLineBatches } from "../lib/lines.ts";
import { formatSumsLine, parseSumsLine, type SumsAlgorithm, type SumsEntry } from "../model/sums-line.ts";
import { type HashAnswer, type HashThreads, openHashThreads } from "./hash-threads.ts";

export { parseSumsLine, type SumsAlgorithm, type SumsEntry } from "../model/sums-line.ts";

const DEFAULT_JOBS = 4;
/** So many lines for each job are in work, or wait for an earlier one: a bound for memory. */
const WINDOW = 256;
const PROGRESS_EVERY_MS = 250;

export type SumsLine =
  /** `encoding` latin1: the line is no UTF-8, and each character of the names stands for one byte. */
  | { readonly line: number; readonly entry: SumsEntry; readonly encoding: "utf8" | "latin1" }
  | { readonly line: number; readonly bad: string; readonly text: string };

/**
 * The lines of a list in order, numbered from 1, without blank ones and comments; in constant memory. A bad line has
 * the reason in `bad`. A list that does not exist, or is a folder, is `usage`; other failures to read are `disk-…`.
 */
export async function* readSums(path: string): AsyncGenerator<SumsLine> {
  const file = await openList(path);
  try {
    for await (const batch of readLineBatches(path)) {
      let offsetBytes = batch.offsetBytes;
      for (const [index, decoded] of batch.texts.entries()) {
        const sizeBytes = batch.sizesBytes[index]!;
        const line = batch.firstNumber + index;
        const raw = decoded.includes("\uFFFD") ? await readRaw(file, offsetBytes, sizeBytes) : undefined;
        offsetBytes += sizeBytes;
        const text = raw ?? decoded;
        try {
          const entry = parseSumsLine(text);
          if (entry !== null) yield { line, entry, encoding: raw === undefined ? "utf8" : "latin1" };
        } catch (error) {
          if (!(error instanceof RunError)) throw error;
          yield { line, bad: error.message, text: decoded };
        }
      }
    }
  } finally {
    await file.close();
  }
}

async function openList(path: string): Promise<FileHandle> {
  const problem = (what: string): RunError =>
    new RunError("usage", `the checksum list ${path} ${what}`, {
      at: { operation: "read", path },
      hint: "name a list as md5sum or sha256sum writes it",
    });
  let file: FileHandle;
  try {
    file = await onDisk({ operation: "read", path }, () => open(path, "r"));
  } catch (error) {
    const code = error instanceof RunError ? (error.cause as NodeJS.ErrnoException).code : undefined;
    throw code === "ENOENT" || code === "ENOTDIR" ? problem("does not exist") : error;
  }
  if ((await file.stat()).isFile()) return file;
  await file.close();
  throw problem("is no file");
}

/** The bytes of a line as Latin-1, or undefined when they are good UTF-8 (that holds a U+FFFD itself). */
async function readRaw(
  file: FileHandle,
  offsetBytes: number,
  sizeBytes: number,
): Promise<string | undefined> {
  const bytes = Buffer.alloc(sizeBytes);
  await file.read(bytes, 0, sizeBytes, offsetBytes);
  if (Buffer.from(bytes.toString("utf8")).equals(bytes)) return undefined;
  return bytes.toString("latin1").replace(/\n$/, "");
}

export type SumsResult =
  | {
      /** Number of the line in the list, from 1. */
      readonly line: number;
      /** As the file is named on disk, else as the list names it; relative to the folder. */
      readonly path: string;
      readonly outcome: "OK" | "MISMATCH" | "NOT FOUND" | "UNREADABLE";
      readonly algorithm: SumsAlgorithm;
      /** Lower-case hex. */
      readonly expected: string;
      /** Null when there is nothing to read. */
      readonly actual: string | null;
      readonly sizeBytes: number | null;
      /** Why it is `UNREADABLE`. */
      readonly error?: RunError;
    }
  | {
      readonly line: number;
      readonly path: null;
      readonly outcome: "BAD LINE";
      readonly text: string;
      readonly why: string;
    };

export interface SumsProgress {
  readonly doneFiles: number;
  readonly totalFiles: number;
  readonly doneBytes: number;
  /** Of the files that were there when the check began. */
  readonly totalBytes: number;
  readonly bytesPerSecond: number;
  /** Null until it can be told. */
  readonly etaSeconds: number | null;
}

export interface CheckSumsOptions {
  readonly list: string;
  /** What the names are relative to. Default: the folder of the list. */
  readonly folder?: string;
  /** How many files are read at once. Default 4. */
  readonly jobs?: number;
  readonly signal?: AbortSignal;
  /**
   * Called at most four times a second and once at the end. With it the list is read twice: all files are looked at
   * for their sizes before the first is hashed.
   */
  readonly onProgress?: (progress: SumsProgress) => void;
  /** Default: `performance.now`. */
  readonly monotonicMs?: () => number;
}

/**
 * One result for each line, in the order of the list; blank lines and comments have none. A name is looked for as its
 * exact bytes first, then as any name that is the same after NFC. Links are followed, as md5sum does: nothing is
 * written. Memory does not grow with the list.
 *
 * Throws `usage` when the list does not exist or has not one good line, and the signal's reason. Whatever concerns
 * one file is its result.
 */
export async function* checkSums(options: CheckSumsOptions): AsyncGenerator<SumsResult> {
  const { list, onProgress, signal, jobs = DEFAULT_JOBS } = options;
  await mustHaveEntry(list);
  const threads = openHashThreads(jobs);
  const search = createSearch(options.folder ?? dirname(list), threads);
  const inOrder = <T>(work: (line: SumsLine) => Promise<T>): AsyncGenerator<T> =>
    mapInOrder(readSums(list), jobs * WINDOW, work);
  const stop = (): Promise<void> => threads.close(signal?.reason);
  signal?.addEventListener("abort", stop, { once: true });
  const monotonicMs = options.monotonicMs ?? (() => performance.now());
  const progress = onProgress && createProgress(onProgress, monotonicMs, threads);
  try {
    signal?.throwIfAborted();
    if (progress) {
      const size = async (line: SumsLine): Promise<number | null> =>
        "bad" in line ? null : ((await search(line, null))?.sizeBytes ?? 0);
      for await (const bytes of inOrder(size)) if (bytes !== null) progress.expect(bytes);
      progress.begin();
    }
    for await (const result of inOrder((line) => check(line, search))) {
      if (result.outcome !== "BAD LINE") progress?.file();
      yield result;
    }
    progress?.end();
  } finally {
    progress?.stop();
    signal?.removeEventListener("abort", stop);
    await threads.close();
  }
}

async function check(line: SumsLine, search: Search): Promise<SumsResult> {
  if ("bad" in line)
    return { line: line.line, path: null, outcome: "BAD LINE", text: line.text, why: line.bad };
  const { algorithm, hex: expected, names } = line.entry;
  const facts = { line: line.line, algorithm, expected };
  const nothing = { ...facts, path: shown(names[0], line.encoding), actual: null, sizeBytes: null };
  try {
    const hit = await search(line, algorithm);
    if (hit === undefined) return { ...nothing, outcome: "NOT FOUND" };
    const { path, hex: actual, sizeBytes } = hit;
    return { ...facts, path, outcome: actual === expected ? "OK" : "MISMATCH", actual, sizeBytes };
  } catch (error) {
    if (!(error instanceof RunError) || error.exit !== 7) throw error;
    return { ...nothing, outcome: "UNREADABLE", error };
  }
}

async function mustHaveEntry(list: string): Promise<void> {
  let first: string | undefined;
  for await (const line of readSums(list)) {
    if ("entry" in line) return;
    first ??= `, line ${line.line}: ${line.bad}`;
  }
  throw new RunError("usage", `the checksum list ${list} has not one good line${first ?? ": it is empty"}`, {
    at: { operation: "read", path: list },
    hint: "name a list as md5sum or sha256sum writes it",
  });
}

const shown = (name: string, encoding: "utf8" | "latin1"): string =>
  encoding === "utf8" ? name : Buffer.from(name, "latin1").toString("utf8");

/** What there is under the names of a line, hashed; with algorithm null only its size. Undefined: nothing. */
type Search = (
  line: Extract<SumsLine, { entry: SumsEntry }>,
  algorithm: SumsAlgorithm | null,
) => Promise<(HashAnswer & { readonly path: string }) | undefined>;

function createSearch(folder: string, threads: HashThreads): Search {
  const siblings = createSiblings();
  return async ({ entry: { names }, encoding }, algorithm) => {
    const paths = names.map((name) =>
      encoding === "utf8"
        ? join(folder, name)
        : Buffer.concat([Buffer.from(`${folder}/`), Buffer.from(name, "latin1")]),
    );
    const hit = await threads.ask(paths, algorithm);
    if (hit !== null) return { ...hit, path: shown(names[hit.index]!, encoding) };
    if (encoding === "latin1") return undefined;
    for (const name of names) {
      const path = await siblings(folder, name);
      const other = path === undefined ? null : await threads.ask([join(folder, path)], algorithm);
      if (other !== null) return { ...other, path: path! };
    }
    return undefined;
  };
}

/** Finds the path whose segments are the same after NFC. Undefined: there is none, or it is the same text. */
function createSiblings(): (folder: string, name: string) => Promise<string | undefined> {
  const beyondAscii = /[^\0-\x7f]/;
  /** By folder: NFC to the name on disk, of names that have more than one form. The oldest is forgotten. */
  const known = new Map<string, Promise<ReadonlyMap<string, string>>>();
  const listed = (folder: string): Promise<ReadonlyMap<string, string>> => {
    const old = known.get(folder);
    if (old) return old;
    const names = readdir(folder).then(
      (all) => new Map(all.filter((name) => beyondAscii.test(name)).map((name) => [name.normalize(), name])),
      () => new Map<string, string>(),
    );
    if (known.size >= 8) known.delete(known.keys().next().value!);
    known.set(folder, names);
    return names;
  };
  return async (folder, name) => {
    if (!beyondAscii.test(name)) return undefined;
    const path: string[] = [];
    for (const segment of name.split("/")) {
      const plain = !beyondAscii.test(segment);
      const there = plain ? segment : (await listed(join(folder, ...path))).get(segment.normalize());
      if (there === undefined) return undefined;
      path.push(there);
    }
    const other = path.join("/");
    return other === name ? undefined : other;
  };
}

function createProgress(
  report: (progress: SumsProgress) => void,
  monotonicMs: () => number,
  threads: HashThreads,
) {
  let totalFiles = 0;
  let totalBytes = 0;
  let doneFiles = 0;
  let startedMs = 0;
  let toldMs = 0;
  // Bytes pass in the threads, so a timer asks them: one large file has no other event until its end.
  let timer: NodeJS.Timeout | undefined;
  const tell = (nowMs: number, ended: boolean): void => {
    toldMs = nowMs;
    const { doneBytes } = threads;
    const seconds = (nowMs - startedMs) / 1000;
    const bytesPerSecond = seconds > 0 ? doneBytes / seconds : 0;
    const leftBytes = Math.max(0, totalBytes - doneBytes);
    const etaSeconds = ended ? 0 : bytesPerSecond > 0 ? leftBytes / bytesPerSecond : null;
    report({ doneFiles, totalFiles, doneBytes, totalBytes, bytesPerSecond, etaSeconds });
  };
  const tellNowAndThen = (): void => {
    const nowMs = monotonicMs();
    if (nowMs - toldMs >= PROGRESS_EVERY_MS) tell(nowMs, false);
  };
  return {
    expect(bytes: number): void {
      totalFiles += 1;
      totalBytes += bytes;
    },
    begin(): void {
      startedMs = monotonicMs();
      tell(startedMs, false);
      timer = setInterval(tellNowAndThen, PROGRESS_EVERY_MS);
    },
    file(): void {
      doneFiles += 1;
      tellNowAndThen();
    },
    end: (): void => tell(monotonicMs(), true),
    stop: (): void => clearInterval(timer),
  };
}

/**
 * `work` on each input, `window` of them at once, results in the order of the input. What is begun when this stops
 * early is left to its owner.
 */
async function* mapInOrder<T, R>(
  input: AsyncIterable<T>,
  window: number,
  work: (value: T) => Promise<R>,
): AsyncGenerator<R> {
  let begun: Promise<R>[] = [];
  let next = 0;
  for await (const value of input) {
    const result = work(value);
    // It is awaited in its turn, which may be after it failed.
    result.catch(() => {});
    begun.push(result);
    if (begun.length - next < window) continue;
    yield await begun[next]!;
    next += 1;
    if (next < window) continue;
    begun = begun.slice(next);
    next = 0;
  }
  for (; next < begun.length; next += 1) yield await begun[next]!;
}

export interface WriteSumsOptions {
  /** What the paths are relative to. */
  readonly folder: string;
  /** In any order. A known digest of the wanted algorithm saves reading the file; any other is not used. */
  readonly files: AsyncIterable<{ readonly path: string; readonly digest?: Digest }>;
  readonly algorithm: SumsAlgorithm;
  /** The list: appears whole and synced, or not at all. */
  readonly to: string;
  /** How many files are read at once. Default 4. */
  readonly jobs?: number;
  readonly signal?: AbortSignal;
}

/**
 * Writes a list that `md5sum -c` or its kin of the algorithm accepts, sorted by path (by UTF-16 code units, so the same
 * everywhere), in constant memory. Returns the number of files. Throws `disk-…`, also for a file that is not there.
 */
export async function writeSums(options: WriteSumsOptions): Promise<{ readonly files: number }> {
  const { folder, algorithm, signal, to, jobs = DEFAULT_JOBS } = options;
  const threads = openHashThreads(jobs);
  const stop = (): Promise<void> => threads.close(signal?.reason);
  signal?.addEventListener("abort", stop, { once: true });
  let files = 0;
  let scratch: string | undefined;
  const lines = mapInOrder(options.files, jobs * WINDOW, async ({ path, digest }) => {
    files += 1;
    if (digest?.startsWith(`${algorithm}:`))
      return JSON.stringify([path, digest.slice(algorithm.length + 1)]);
    const at = { operation: "read", path: join(folder, path) };
    const answer = await threads.ask([at.path], algorithm);
    if (answer === null) throw new RunError("disk-error", `${at.path}: it does not exist`, { at });
    return JSON.stringify([path, answer.hex]);
  });
  async function* sorted(): AsyncGenerator<string> {
    const key = (line: string): string => (JSON.parse(line) as [string, string])[0];
    const inFolder = async (): Promise<string> => {
      scratch = await mkdtemp(join(dirname(to), ".sums-"));
      return scratch;
    };
    for await (const line of sortLines(lines, { key, folder: inFolder })) {
      signal?.throwIfAborted();
      const [path, hex] = JSON.parse(line) as [string, string];
      yield formatSumsLine(hex, path);
    }
  }
  try {
    signal?.throwIfAborted();
    await writeFileDurably(to, sorted());
  } finally {
    signal?.removeEventListener("abort", stop);
    await threads.close();
    if (scratch !== undefined) await rm(scratch, { recursive: true, force: true });
  }
  return { files };
}
