/** What a command is made of: flags as data, examples, and one function. */
import type { Io, Signal } from "./io.ts";
import type { RunError } from "./library.ts";

/** The user's mistake on the command line; ends with exit 2. One sentence, and what to do instead. */
export class UsageError extends Error {
  override readonly name = "UsageError";
  readonly hint: string;
  constructor(message: string, hint = "") {
    super(message);
    this.hint = hint;
  }
}

export interface Flag {
  /** As commander reads it, e.g. `-o, --output <dir>`. */
  readonly flags: string;
  readonly help: string;
  /** From text to value; throws `UsageError`. `before` is the value of an earlier use of the flag. */
  readonly parse?: (text: string, before: unknown) => unknown;
  readonly choices?: readonly string[];
  /** Not shown in help: for the program's own use. */
  readonly hidden?: true;
  readonly group?: string;
}

/** A command line that was understood. */
export interface Call<Flags> {
  /** Positional arguments as typed. */
  readonly words: readonly string[];
  readonly flags: Flags;
  /** The whole command line without the program's name. */
  readonly argv: readonly string[];
}

export interface Running {
  readonly io: Io;
  /** Aborted by the first Ctrl-C or SIGTERM, with a `RunError` as reason. */
  readonly signal: AbortSignal;
  /** The first signal that came; null until then. */
  interruptedBy(): Signal | null;
  /** Said once, on the first signal; null: the command itself says what is needed. */
  onInterrupt(sentence: string | null): void;
}

export interface Command {
  /** As commander reads it, e.g. `<address> [path...]`. */
  readonly words: string;
  readonly about: string;
  readonly flags: readonly Flag[];
  /** Command line and what it does. */
  readonly examples: readonly (readonly [string, string])[];
  /** Resolves to the exit status. */
  run(call: Call<Record<string, unknown>>, running: Running): Promise<number>;
}

/** Gives `run` the type of its flags; the table of flags is what makes it true. */
export function defineCommand<Flags>(
  command: Omit<Command, "run"> & { run(call: Call<Flags>, running: Running): Promise<number> },
): Command {
  return command as unknown as Command;
}

export const isRunError = (error: unknown): error is RunError =>
  error instanceof Error && error.name === "RunError" && "code" in error && "exit" in error;

/** Jobs at once, for every command: far more than help anybody, and no more than a process can hold. */
export const parseJobs = (text: string): number => wholeNumber("--jobs", 1, 1000)(text);

export function wholeNumber(
  name: string,
  least: number,
  most = Number.MAX_SAFE_INTEGER,
): (text: string) => number {
  const range = most === Number.MAX_SAFE_INTEGER ? `of ${least} or more` : `from ${least} to ${most}`;
  return (text) => {
    const number = Number(text);
    if (!/^\d+$/.test(text) || number < least || number > most) {
      throw new UsageError(`${name} takes a whole number ${range}, not ${JSON.stringify(text)}`);
    }
    return number;
  };
}

/** Of `--webdataset`: names as in its documentation, `NAME-000000.tar` (https://github.com/webdataset/webdataset). */
export const WEBDATASET_DIGITS = 6;

/** Of `--shard-size`: `2GB`, `500 MB`; the unit is required. Throws `UsageError`. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B$/u.exec(text.trim());
  const factor = match?.[3] === "i" ? 1024 : 1000;
  const bytes = Math.round(Number(match?.[1]) * factor ** ["", "k", "M", "G", "T"].indexOf(match?.[2] ?? ""));
  if (!match || bytes < 1)
    throw new UsageError(`--shard-size takes a size with its unit, as in 2GB, not ${JSON.stringify(text)}`);
  return bytes;
}

/** A word as a POSIX shell reads it back. */
export const shellWord = (word: string): string =>
  /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
