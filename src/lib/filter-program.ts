/** Bytes through another program's standard input and output, e.g. a compressor. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { type ErrorCode, RunError } from "../errors.ts";

export interface FilterProgram {
  readonly program: string;
  readonly args: readonly string[];
  /** The package that brings it, for who has to install it. */
  readonly from: string;
  /** What it means when the program fails, e.g. `proof-format` for a decompressor. */
  readonly failure: ErrorCode;
}

type Child = ChildProcessByStdio<Writable, Readable, Readable>;

/** Of what a program says on its standard error so much is kept. */
export const SAID_CHARACTERS = 500;

/**
 * What the program makes of `input`. Ends the program when the reader stops early. An error of the input passes
 * unchanged. Throws `usage` when there is no such program, `disk-error` when a signal ends it, its `failure` when it ends
 * with another status than 0.
 */
export async function* filterThrough(
  filter: FilterProgram,
  input: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  // In a group of its own: keys that interrupt us are not for it, what is under way is finished.
  const child: Child = spawn(filter.program, filter.args, {
    stdio: ["pipe", "pipe", "pipe"],
    detached: true,
  });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    if (said.length < SAID_CHARACTERS) said += text;
  });
  const ended = new Promise<RunError | null>((resolve) => {
    child.on("error", (cause) => resolve(filterFailure(filter, { cause })));
    child.on("close", (code, signal) =>
      resolve(code === 0 ? null : filterFailure(filter, { said, code, signal })),
    );
  });
  const fed = feed(child, input).then(
    () => null,
    (error: unknown) => {
      child.kill("SIGKILL");
      return { error };
    },
  );
  let over = false;
  try {
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) yield chunk;
    const failure = await ended;
    over = true;
    const unfed = await fed;
    if (unfed) throw unfed.error;
    if (failure) throw failure;
  } finally {
    if (!over) {
      child.kill("SIGKILL");
      await ended;
      await fed;
    }
  }
}

async function feed(
  { stdin }: Child,
  input: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<void> {
  // A program that ends early says why by its status.
  stdin.on("error", () => undefined);
  let wake = (): void => undefined;
  stdin.on("drain", () => wake()).on("close", () => wake());
  for await (const chunk of input) {
    if (stdin.destroyed) return;
    const room = new Promise<void>((resolve) => {
      wake = resolve;
    });
    if (!stdin.write(chunk) && !stdin.destroyed) await room;
  }
  stdin.end();
}

/** How a program ended, or why it did not begin. */
interface FilterEnd {
  readonly cause?: Error;
  readonly said?: string;
  readonly code?: number | null;
  readonly signal?: string | null;
}

/** What a shell ends with when there is no such program (POSIX, 2.8.2). */
const NOT_FOUND = 127;
/** More than this is the number of the signal that ended it. */
const SIGNALLED = 128;

export function filterFailure(
  { program, from, failure }: FilterProgram,
  { cause, said = "", code, signal }: FilterEnd,
): RunError {
  const missing = (cause as NodeJS.ErrnoException | undefined)?.code === "ENOENT" || code === NOT_FOUND;
  if (missing)
    return new RunError("usage", `the program ${program} is needed and not installed`, {
      hint: `install the package ${from} (Debian: apt install ${from}), or choose another format`,
      cause,
    });
  if (cause)
    return new RunError("disk-error", `the program ${program} can't be started: ${cause.message}`, { cause });
  // Of a program that a shell started the status says the same (POSIX, 2.8.2).
  const by = signal ?? ((code ?? 0) > SIGNALLED ? `signal ${(code ?? 0) - SIGNALLED}` : null);
  if (by !== null)
    return new RunError("disk-error", `the program ${program} was ended by ${by}`, {
      hint: "this machine may be short of memory: look, then run the same command again",
    });
  // Before it they put their own name, and that of a file that they have none of.
  const first = said
    .trim()
    .split("\n")[0]
    ?.replace(/^(?:\S+: )?(?:\/\*stdin\*\\ ?|\(stdin\)): /u, "");
  const why = first || `it ended with ${code ?? signal}`;
  return new RunError(failure, `${program}: ${why}`);
}
