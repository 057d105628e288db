/** Checks files against checksum lists of other programs, and writes such lists. */
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, mkdtemp, open, readdir, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { RunError } from "../errors.ts";
import type { Digest } from "../lib/digest.ts";
import { onDisk, writeFileDurably } from "../lib/durable-file.ts";
import { sortLines } from "../lib/external-sort.ts";
import { readLineBatches } from "../lib/lines.ts";
import { formatSumsLine, parseSumsLine, type SumsAlgorithm, type SumsEntry } from "./sums-line.ts";

export { parseSumsLine, type SumsAlgorithm, type SumsEntry } from "./sums-line.ts";

const READ_BYTES = 1024 * 1024;
const DEFAULT_JOBS = 4;
/** So many results of one job may wait for an earlier one: a bound for memory. */
const WINDOW = 64;
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
  const search = createSearch(options.folder ?? dirname(list));
  const progress = onProgress && createProgress(onProgress, options.monotonicMs ?? (() => performance.now()));
  if (progress) {
    // Looking at a file is waiting, most of all on network disks: many at once.
    const sizes = mapInOrder(readSums(list), 16, signal, async (line) => {
      return "bad" in line ? null : ((await search(line, sizeOf))?.found ?? 0);
    });
    for await (const size of sizes) if (size !== null) progress.expect(size);
  }
  const hashFile = createFileHasher(progress?.bytes);
  const check = async (line: SumsLine, stop: AbortSignal): Promise<SumsResult> => {
    if ("bad" in line)
      return { line: line.line, path: null, outcome: "BAD LINE", text: line.text, why: line.bad };
    const { algorithm, hex: expected, names } = line.entry;
    const facts = { line: line.line, algorithm, expected };
    const nothing = { ...facts, path: shown(names[0], line.encoding), actual: null, sizeBytes: null };
    try {
      const hit = await search(line, (path) => hashFile(path, algorithm, stop));
      if (hit === undefined) return { ...nothing, outcome: "NOT FOUND" };
      const { hex: actual, sizeBytes } = hit.found;
      const outcome = actual === expected ? "OK" : "MISMATCH";
      return { ...facts, path: hit.path, outcome, actual, sizeBytes };
    } catch (error) {
      if (!(error instanceof RunError)) throw error;
      return { ...nothing, outcome: "UNREADABLE", error };
    } finally {
      progress?.file();
    }
  };
  yield* mapInOrder(readSums(list), jobs, signal, check);
  progress?.end();
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

type Look<T> = (path: string | Buffer) => Promise<T>;
type Search = <T>(
  line: Extract<SumsLine, { entry: SumsEntry }>,
  look: Look<T>,
) => Promise<{ readonly path: string; readonly found: T } | undefined>;

/** Runs `look` on the first reading of a name that is there. Other failures than absence are thrown as `disk-…`. */
function createSearch(folder: string): Search {
  const siblings = createSiblings();
  const attempt = async <T>(path: string | Buffer, look: Look<T>): Promise<{ found: T } | undefined> => {
    try {
      return { found: await look(path) };
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === "ENOENT" || code === "ENOTDIR" || code === "ENAMETOOLONG") return undefined;
      return onDisk({ operation: "read", path: path.toString() }, () => Promise.reject(error));
    }
  };
  return async ({ entry, encoding }, look) => {
    for (const name of entry.names) {
      const path =
        encoding === "utf8"
          ? join(folder, name)
          : Buffer.concat([Buffer.from(`${folder}/`), Buffer.from(name, "latin1")]);
      const hit = await attempt(path, look);
      if (hit) return { path: shown(name, encoding), ...hit };
    }
    if (encoding === "latin1") return undefined;
    for (const name of entry.names) {
      const other = await siblings(folder, name);
      const hit = other === undefined ? undefined : await attempt(join(folder, other), look);
      if (hit) return { path: other!, ...hit };
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

async function sizeOf(path: string | Buffer): Promise<number> {
  const facts = await stat(path);
  return facts.isFile() ? facts.size : 0;
}

/**
 * Hashes whole files of any name (paths that are no UTF-8 are Buffers), following links, a bounded number at once.
 * Unlike `hashFile` it tells the bytes as they pass and throws plain fs errors, for the caller to tell absence.
 */
function createFileHasher(onBytes: (bytes: number) => void = () => {}) {
  const spare: Buffer[] = [];
  const take = (): Buffer => spare.pop() ?? Buffer.allocUnsafeSlow(READ_BYTES);
  return async (
    path: string | Buffer,
    algorithm: SumsAlgorithm,
    signal: AbortSignal,
  ): Promise<{ hex: string; sizeBytes: number }> => {
    // Windows has no O_NONBLOCK; without it a named pipe would hold us until somebody writes to it.
    const { O_NONBLOCK = 0 }: { O_NONBLOCK?: number } = constants;
    const file = await open(path, constants.O_RDONLY | O_NONBLOCK);
    let full = take();
    let filling = take();
    try {
      if (!(await file.stat()).isFile())
        throw new RunError("disk-error", `${path}: it is no regular file`, { at: { operation: "read" } });
      const hash = createHash(algorithm);
      const read = async (): Promise<number> => (await file.read(filling, 0, filling.length, null)).bytesRead;
      let sizeBytes = 0;
      for (let bytes = await read(); bytes > 0; ) {
        [full, filling] = [filling, full];
        // The disk fills one buffer while the other is hashed.
        const next = read();
        hash.update(full.subarray(0, bytes));
        sizeBytes += bytes;
        onBytes(bytes);
        bytes = await next;
        signal.throwIfAborted();
      }
      return { hex: hash.digest("hex"), sizeBytes };
    } finally {
      spare.push(full, filling);
      await file.close();
    }
  };
}

function createProgress(report: (progress: SumsProgress) => void, monotonicMs: () => number) {
  let total = { files: 0, bytes: 0 };
  let done = { files: 0, bytes: 0 };
  let startedMs: number | undefined;
  let toldMs = Number.NEGATIVE_INFINITY;
  const tell = (nowMs: number): void => {
    toldMs = nowMs;
    const seconds = (nowMs - (startedMs ?? nowMs)) / 1000;
    const bytesPerSecond = seconds > 0 ? done.bytes / seconds : 0;
    const leftBytes = Math.max(0, total.bytes - done.bytes);
    report({
      doneFiles: done.files,
      totalFiles: total.files,
      doneBytes: done.bytes,
      totalBytes: total.bytes,
      bytesPerSecond,
      etaSeconds: leftBytes === 0 ? 0 : bytesPerSecond > 0 ? leftBytes / bytesPerSecond : null,
    });
  };
  const step = (): void => {
    const nowMs = monotonicMs();
    startedMs ??= nowMs;
    if (nowMs - toldMs >= PROGRESS_EVERY_MS) tell(nowMs);
  };
  return {
    expect(bytes: number): void {
      total = { files: total.files + 1, bytes: total.bytes + bytes };
    },
    bytes(bytes: number): void {
      startedMs ??= monotonicMs();
      done = { ...done, bytes: done.bytes + bytes };
      step();
    },
    file(): void {
      done = { ...done, files: done.files + 1 };
      step();
    },
    end: (): void => tell(monotonicMs()),
  };
}

/**
 * `work` on each input, `jobs` at once, results in the order of the input. At most `jobs * WINDOW` results wait for an
 * earlier one. When it fails, is stopped early or `signal` aborts, begun work is told so by its own signal and awaited.
 */
async function* mapInOrder<T, R>(
  input: AsyncIterable<T>,
  jobs: number,
  signal: AbortSignal | undefined,
  work: (value: T, stop: AbortSignal) => Promise<R>,
): AsyncGenerator<R> {
  const stopping = new AbortController();
  const stop = signal ? AbortSignal.any([signal, stopping.signal]) : stopping.signal;
  const begun: Promise<R>[] = [];
  const waiting: (() => void)[] = [];
  let running = 0;
  const run = async (value: T): Promise<R> => {
    if (running >= jobs) await new Promise<void>((resolve) => waiting.push(resolve));
    else running += 1;
    try {
      stop.throwIfAborted();
      return await work(value, stop);
    } finally {
      const next = waiting.shift();
      if (next) next();
      else running -= 1;
    }
  };
  try {
    for await (const value of input) {
      const result = run(value);
      // It is awaited in its turn, which may be after it failed.
      result.catch(() => {});
      begun.push(result);
      if (begun.length >= jobs * WINDOW) yield await begun.shift()!;
    }
    while (begun.length > 0) yield await begun.shift()!;
  } finally {
    stopping.abort();
    await Promise.allSettled(begun);
  }
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
  const hashFile = createFileHasher();
  let files = 0;
  let scratch: string | undefined;
  const lines = mapInOrder(options.files, jobs, signal, async ({ path, digest }, stop) => {
    const at = { operation: "read", path: join(folder, path) };
    const hex = digest?.startsWith(`${algorithm}:`)
      ? digest.slice(algorithm.length + 1)
      : (await onDisk(at, () => hashFile(at.path, algorithm, stop))).hex;
    files += 1;
    return JSON.stringify([path, hex]);
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
    await writeFileDurably(to, sorted());
  } finally {
    if (scratch !== undefined) await rm(scratch, { recursive: true, force: true });
  }
  return { files };
}
