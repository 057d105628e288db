/** The program. The only place that acts on signals and decides the exit status (docs/exit-codes.md). */
import { isRunError, type Running, UsageError } from "./command.ts";
import { type Io, type Signal, systemIo } from "./io.ts";
import { readCommandLine } from "./program.ts";
import { shown } from "./render/wording.ts";
import { createWriter, OutputClosed, OutputFailed, say } from "./render/writer.ts";

const STATUS: Readonly<Record<Signal, number>> = { SIGINT: 130, SIGTERM: 143, SIGUSR1: 143 };

/** As of a local disk: that is where output that can't be written goes. */
const ON_DISK = 7;

/** Runs one command line (without the program's name). Resolves to the exit status; never rejects. */
export async function main(argv: string[], io: Io = systemIo()): Promise<number> {
  const control = new AbortController();
  let onInterrupt: string | null = "Stopping. Press Ctrl-C again to leave at once.";
  let asked: Signal | null = null;
  const release = io.onSignal((signal) => {
    if (asked !== null) return io.exit(STATUS[asked]);
    asked = signal;
    if (onInterrupt !== null) say(io, "", onInterrupt);
    void io.library().then(({ RunError }) => {
      const [code, by] =
        signal === "SIGINT" ? (["interrupted", "Ctrl-C"] as const) : (["terminated", signal] as const);
      control.abort(new RunError(code, `stopped by ${by}`));
    });
  });
  const running: Running = {
    io,
    signal: control.signal,
    interruptedBy: () => asked,
    onInterrupt: (sentence) => {
      onInterrupt = sentence;
    },
  };
  try {
    const reading = await readCommandLine(argv, { columns: io.stdout.columns ?? 80, version: readVersion });
    if (reading.kind === "show") {
      const writer = createWriter(io.stdout);
      await writer.write(reading.text);
      await writer.flush();
      return 0;
    }
    return await reading.command.run(reading.call, running);
  } catch (error) {
    if (error instanceof OutputClosed) return 0;
    return tell(io, error);
  } finally {
    release();
  }
}

/** Says what went wrong and what to do next; the status that goes with it. */
function tell(io: Io, error: unknown): number {
  if (error instanceof UsageError || isRunError(error)) {
    // A selection's bad lines are lines here, too.
    const lines = `gantry: ${error.message}`.split("\n").map((line) => shown(line));
    say(io, ...lines, ...(error.hint === "" ? [] : [`  ${shown(error.hint)}`]));
    return error instanceof UsageError ? 2 : error.exit;
  }
  if (error instanceof OutputFailed) {
    say(io, `gantry: standard output can't be written: ${shown(error.message)}`);
    return ON_DISK;
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  say(io, "gantry: this is a fault of gantry itself; please report it with these lines:", text);
  return 1;
}

async function readVersion(): Promise<string> {
  const { readFile } = await import("node:fs/promises");
  const text = await readFile(new URL("../../package.json", import.meta.url), "utf8");
  return String((JSON.parse(text) as { version: unknown }).version);
}
