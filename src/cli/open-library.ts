/** What every command that asks an archive does around its one call. */
import type { Running } from "./command.ts";
import { canAsk, type Io } from "./io.ts";
import type { Gantry, Library, Listing } from "./library.ts";
import { shown } from "./render/wording.ts";
import { say } from "./render/writer.ts";

type OpenOptions = NonNullable<Parameters<Library["open"]>[0]>;

async function* stdinBytes(running: Running): AsyncIterable<Uint8Array> {
  for await (const chunk of running.io.stdin) {
    running.signal.throwIfAborted();
    yield typeof chunk === "string" ? Buffer.from(chunk) : chunk;
  }
}

/** For `open`: who sits at a terminal is asked for secrets that are missing. */
export const asking = (io: Io): Pick<OpenOptions, "askSecret"> =>
  canAsk(io) ? { askSecret: async (question) => (await io.system()).askSecret(question) } : {};

/** Opens the library with this program's surroundings, calls `use`, closes it whatever happens. */
export async function withGantry<T>(
  running: Running,
  use: (gantry: Gantry, library: Library) => Promise<T>,
  options: Partial<OpenOptions> = {},
): Promise<T> {
  const library = await running.io.library();
  const gantry = await library.open({
    environment: running.io.env,
    signal: running.signal,
    stdin: () => stdinBytes(running),
    ...asking(running.io),
    ...options,
  });
  try {
    return await use(gantry, library);
  } finally {
    await gantry.close();
  }
}

/** For commands without a log file: what the library warns of is said on stderr. */
export function logWarnings({ io }: Running): NonNullable<OpenOptions["log"]> {
  return (level, message) => {
    if (level === "warn" || level === "error") warner(io)(message);
  };
}

/** Says on stderr what a command was warned of. */
export const warner =
  (io: Io) =>
  (sentence: string): void =>
    say(io, `warning: ${shown(sentence)}`);

/** Of a listing that was shown: 4 when the archive shows none of what it was asked for by UID, 3 when it shows some. */
export function exitOf({ unknown }: Listing, rows: number): number {
  const missing = unknown?.() ?? 0;
  if (missing === 0) return 0;
  return missing === rows ? 4 : 3;
}
