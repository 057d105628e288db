/** Everything the program touches outside itself. Only `main` acts on signals; commands get this and nothing else. */
import { type Library, loadLibrary } from "./library.ts";
import type { System } from "./system.ts";

/** A stream to write to, as `process.stdout` is one. */
export interface Output {
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
  write(data: string | Uint8Array, done?: (error?: Error | null) => void): boolean;
  on(event: "error", listener: (error: Error) => void): unknown;
}

/** SIGUSR1 is how Slurm tells that the time of a job is nearly over (sbatch --signal). */
export type Signal = "SIGINT" | "SIGTERM" | "SIGUSR1";
export type Environment = Readonly<Record<string, string | undefined>>;

export interface Io {
  readonly stdout: Output;
  readonly stderr: Output;
  readonly stdin: AsyncIterable<Uint8Array | string> & { readonly isTTY?: boolean | undefined };
  readonly env: Environment;
  readonly cwd: string;
  /** This program as a command line, for children: the interpreter, its flags and the script. */
  readonly program: readonly string[];
  /** The handler is called for each signal; the result takes it off again. */
  onSignal(handler: (signal: Signal) => void): () => void;
  /** Ends the process at once. */
  exit(status: number): void;
  now(): Date;
  /** Milliseconds that only grow. */
  monotonicMs(): number;
  /** Resolves after so long, or as soon as the signal is aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  library(): Promise<Library>;
  system(): Promise<System>;
}

export const systemIo = (): Io => ({
  stdout: process.stdout,
  stderr: process.stderr,
  get stdin() {
    return process.stdin;
  },
  env: process.env,
  cwd: process.cwd(),
  program: [process.execPath, ...process.execArgv, process.argv[1] ?? ""],
  onSignal(handler) {
    const signals: readonly Signal[] = ["SIGINT", "SIGTERM", "SIGUSR1"];
    for (const signal of signals) process.on(signal, handler);
    return () => {
      for (const signal of signals) process.off(signal, handler);
    };
  },
  exit: (status) => process.exit(status),
  now: () => new Date(),
  monotonicMs: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const end = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", end);
        resolve();
      };
      const timer = setTimeout(end, ms);
      signal?.addEventListener("abort", end, { once: true });
    }),
  library: loadLibrary,
  system: async () => (await import("./system.ts")).system,
});

/** Somebody can be asked: a notebook shows terminals that nobody can type into. */
export const canAsk = (io: Io): boolean =>
  io.stdin.isTTY === true && io.stderr.isTTY === true && io.env.JPY_PARENT_PID === undefined;

/** A screen on which lines can be drawn over. */
export const isScreen = (io: Io, output: Output): boolean =>
  output.isTTY === true && io.env.JPY_PARENT_PID === undefined && io.env.TERM !== "dumb";

/** NO_COLOR (no-color.org): any value but an empty one. */
export const hasColour = (io: Io, output: Output): boolean =>
  isScreen(io, output) && (io.env.NO_COLOR ?? "") === "";
