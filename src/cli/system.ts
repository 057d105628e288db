/** Files and processes for the few commands that need them besides the library: detach, sandbox, demo. */
import { spawn } from "node:child_process";
import { createReadStream } from "node:fs";
import { chmod, mkdir, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { constants, tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { createInterface } from "node:readline";
import { Writable } from "node:stream";
import type { Signal } from "./io.ts";

export interface Child {
  /** As a shell counts: the exit status, 128 and the signal's number, 127 when there is no such program. */
  readonly status: Promise<number>;
  kill(signal: Signal): void;
}

export interface System {
  makeTemporaryFolder(): Promise<string>;
  /** Folders on the way are made. */
  writeText(path: string, text: string, mode?: number): Promise<void>;
  /** The last so many lines of a file; empty when there is none. */
  readTail(path: string, lines: number): Promise<string>;
  readBytes(path: string): Promise<Uint8Array>;
  /** Inverts one byte of a file; negative positions count from the end. */
  invertByte(path: string, position: number): Promise<void>;
  /** Paths of the data files below a folder that end so, relative to it, sorted. */
  listFiles(dir: string, ending: string): Promise<string[]>;
  remove(path: string): Promise<void>;
  isFile(path: string): Promise<boolean>;
  /** True as well when there is no such folder. */
  isEmpty(dir: string): Promise<boolean>;
  /** Runs a program on this terminal. */
  run(command: readonly string[], env: Readonly<Record<string, string | undefined>>): Child;
  /**
   * Starts a program that outlives this one and its terminal. `ended` resolves to its status if it ends while
   * this process still waits for it.
   */
  detach(
    command: readonly string[],
    options: {
      readonly log: string;
      readonly cwd: string;
      readonly env: Readonly<Record<string, string | undefined>>;
      /** What it reads from standard input; default: nothing. */
      readonly stdin?: string;
    },
  ): Promise<{ readonly pid: number; readonly ended: Promise<number>; forget(): void }>;
  /** One line from the terminal, without its end; null at the end of input. */
  ask(question: string): Promise<string | null>;
  /** The same without showing what is typed; null as well at Ctrl-C. */
  askSecret(question: string): Promise<string | null>;
}

export const system: System = {
  makeTemporaryFolder: () => mkdtemp(join(tmpdir(), "gantry-")),
  async writeText(path, text, mode = 0o666) {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
    if (mode !== 0o666) await chmod(path, mode);
  },
  async readTail(path, lines) {
    const kept: string[] = [];
    try {
      for await (const line of createInterface({ input: createReadStream(path) })) {
        kept.push(line);
        if (kept.length > lines) kept.shift();
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
    return kept.join("\n");
  },
  readBytes: (path) => readFile(path),
  async invertByte(path, position) {
    const file = await open(path, "r+");
    try {
      const { size } = await file.stat();
      const at = position < 0 ? size + position : position;
      const byte = Buffer.alloc(1);
      await file.read(byte, 0, 1, at);
      byte[0]! ^= 0xff;
      await file.write(byte, 0, 1, at);
    } finally {
      await file.close();
    }
  },
  async listFiles(dir, ending) {
    const entries = await readdir(dir, { recursive: true, withFileTypes: true });
    return entries
      .filter((entry) => entry.isFile() && entry.name.endsWith(ending))
      .map((entry) => relative(dir, join(entry.parentPath, entry.name)))
      .filter((path) => !path.startsWith(".gantry"))
      .sort();
  },
  isFile: (path) =>
    stat(path).then(
      (facts) => facts.isFile(),
      () => false,
    ),
  async isEmpty(dir) {
    try {
      return (await readdir(dir)).length === 0;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOENT") return true;
      if (code === "ENOTDIR") return false;
      throw error;
    }
  },
  remove: (path) => rm(path, { recursive: true, force: true }),
  run(command, env) {
    const [program = "", ...args] = command;
    const child = spawn(program, args, { stdio: "inherit", env });
    return {
      status: new Promise((resolve) => {
        child.on("error", () => resolve(127));
        child.on("exit", (code, signal) =>
          resolve(code ?? 128 + (constants.signals[signal ?? "SIGTERM"] ?? 0)),
        );
      }),
      kill: (signal) => void child.kill(signal),
    };
  },
  async detach(command, { log, cwd, env, stdin }) {
    const [program = "", ...args] = command;
    // Node's recursive mkdir never ends where a folder takes no children, as below /proc.
    const { makeFolder } = await import("../index.ts");
    await makeFolder(dirname(log));
    const file = await open(log, "a");
    try {
      // Its own session (setsid), so that no hang-up of this terminal reaches it.
      const input = stdin === undefined ? "ignore" : "pipe";
      const child = spawn(program, args, { cwd, env, detached: true, stdio: [input, file.fd, file.fd] });
      const ended = new Promise<number>((resolve) => {
        child.on("exit", (code, signal) =>
          resolve(code ?? 128 + (constants.signals[signal ?? "SIGTERM"] ?? 0)),
        );
      });
      await new Promise<void>((resolve, reject) => {
        child.on("spawn", resolve);
        child.on("error", reject);
      });
      // A few lines fit into a pipe, which keeps them whatever becomes of us; one who reads nothing is no failure.
      child.stdin?.on("error", () => undefined).end(stdin);
      return { pid: child.pid ?? 0, ended, forget: () => child.unref() };
    } finally {
      await file.close();
    }
  },
  askSecret(question) {
    // A line editor that draws nowhere: raw mode, so that the terminal itself echoes nothing either.
    const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
    const lines = createInterface({ input: process.stdin, output: nowhere, terminal: true, historySize: 0 });
    // Only now: whoever answers the question at once is not shown either.
    process.stderr.write(question);
    return new Promise((resolve) => {
      lines.on("close", () => {
        process.stderr.write("\n");
        resolve(null);
      });
      lines.question("", (answer) => {
        resolve(answer);
        lines.close();
      });
    });
  },
  ask(question) {
    const lines = createInterface({ input: process.stdin, output: process.stderr });
    return new Promise((resolve) => {
      lines.on("close", () => resolve(null));
      lines.question(question, (answer) => {
        resolve(answer);
        lines.close();
      });
    });
  },
};
