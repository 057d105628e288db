/**
 * What suites share: a sandbox with a configuration that points at it, the library and the real program run
 * against it, and trees that can be compared. Everything that is started here is ended after the suite.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterAll } from "vitest";
import {
  type Gantry,
  type GetOptions,
  NO_FILTERS,
  type OpenOptions,
  open,
  type RunEvent,
  type RunSummary,
  type VerifySummary,
  verify,
} from "../../src/index.ts";
import type { SandboxControl, SeenRequest } from "../../src/sandbox/control.ts";
import { type Sandbox, type SandboxOptions, startSandbox } from "../../src/sandbox/server.ts";
import { ensureBuilt, root } from "./built.ts";

export { ensureBuilt, root };

/** Folder of real data, or null: then suites that need it are skipped by name. */
export const testData: string | null =
  [process.env.GANTRY_TEST_DATA, join(root, "..", "shared", "data")].find(
    (path) => path !== undefined && path !== "" && existsSync(path),
  ) ?? null;

/** Is this program on the path, or where a system keeps its own? For suites that are skipped without it. */
export function has(program: string): boolean {
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin"];
  return folders.some((folder) => folder !== "" && existsSync(join(folder, program)));
}

const cleanups: (() => Promise<void>)[] = [];
/** Runs after the suites of this file, last one first. */
export function atEnd(cleanup: () => Promise<void>): void {
  cleanups.push(cleanup);
}
afterAll(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** A new empty folder, removed after the suite. */
export async function temporaryDir(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "gantry-test-"));
  // A background run that has told of its end may still be putting its folder in order.
  atEnd(() => rm(path, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }));
  return path;
}

/** A path in a new folder at which nothing is yet: a target folder for a first get. */
export async function freshDir(name = "data"): Promise<string> {
  return join(await temporaryDir(), name);
}

export interface RunResult {
  readonly summary: RunSummary;
  readonly events: readonly RunEvent[];
}

export interface ProgramResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Program {
  readonly child: ChildProcess;
  readonly pid: number;
  /** What came until now. */
  readonly stdout: () => string;
  readonly stderr: () => string;
  kill(signal?: NodeJS.Signals): void;
  readonly ended: Promise<ProgramResult>;
}

export interface ProgramOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Written to standard input, which is then closed. */
  readonly input?: string;
  /** Put before `node bin/gantry.js`, e.g. `["strace", "-f"]`. */
  readonly prefix?: readonly string[];
}

/** A sandbox, a home folder and a configuration that names the sandbox's archives. */
export interface Stage {
  readonly sandbox: Sandbox;
  readonly control: SandboxControl;
  /** All that a process needs to reach the sandbox and nothing else; without credentials. */
  readonly environment: Readonly<Record<string, string>>;
  readonly home: string;
  openGantry(options?: OpenOptions): Promise<Gantry>;
  /** One get through the library, opened for it and closed after it. */
  get(
    words: readonly string[],
    options: Partial<GetOptions> & { dir: string },
    openOptions?: OpenOptions,
  ): Promise<RunResult>;
  /** The real program. */
  start(args: readonly string[], options?: ProgramOptions): Program;
  run(args: readonly string[], options?: ProgramOptions): Promise<ProgramResult>;
  /** Requests seen whose path ends in the endpoint, e.g. `getImage`. */
  requests(endpoint: string): readonly SeenRequest[];
}

export async function startStage(options: SandboxOptions = {}): Promise<Stage> {
  const sandbox = await startSandbox(options);
  atEnd(() => sandbox.close());
  const home = await temporaryDir();
  const config = join(home, "config.toml");
  const archives = sandbox.archives.map(({ name, kind, url, settings }) => {
    const keys = Object.entries({ kind, url, ...settings });
    return `[archives.${name}]\n${keys.map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`).join("")}`;
  });
  await writeFile(config, archives.join("\n"));
  const environment: Record<string, string> = {
    ...sandbox.environment,
    PATH: process.env.PATH ?? "",
    TMPDIR: tmpdir(),
    HOME: home,
    GANTRY_CONFIG: config,
    NO_COLOR: "1",
  };
  const openGantry = (more: OpenOptions = {}): Promise<Gantry> => open({ environment, ...more });
  const start = (args: readonly string[], more: ProgramOptions = {}): Program =>
    startProgram([...args], { ...more, env: { ...environment, ...more.env } });
  return {
    sandbox,
    control: sandbox.control,
    environment,
    home,
    openGantry,
    get: async (words, { dir, ...rest }, more = {}) => {
      const gantry = await openGantry(more);
      try {
        return await runGet(gantry, words, { dir, filters: NO_FILTERS, ...rest });
      } finally {
        await gantry.close();
      }
    },
    start,
    run: (args, more = {}) => start(args, more).ended,
    requests: (endpoint) =>
      sandbox.control.requests().filter((request) => request.path.endsWith(`/${endpoint}`)),
  };
}

/** One get with all its events; they end with `run-finished`. */
export async function runGet(
  gantry: Gantry,
  words: readonly string[],
  options: GetOptions,
): Promise<RunResult> {
  const run = gantry.get(words, options);
  const events: RunEvent[] = [];
  for await (const event of run) events.push(event);
  return { summary: await run.result, events };
}

export async function runVerify(
  dir: string,
  options: Parameters<typeof verify>[1] = {},
): Promise<{ readonly summary: VerifySummary; readonly events: readonly RunEvent[] }> {
  const run = verify(dir, options);
  const events: RunEvent[] = [];
  for await (const event of run) events.push(event);
  return { summary: await run.result, events };
}

/** The events of one type. */
export function eventsOf<T extends RunEvent["type"]>(
  events: readonly RunEvent[],
  type: T,
): Extract<RunEvent, { type: T }>[] {
  return events.filter((event): event is Extract<RunEvent, { type: T }> => event.type === type);
}

/** Filters with some of them set. */
export function filters(some: Partial<typeof NO_FILTERS>): typeof NO_FILTERS {
  return { ...NO_FILTERS, ...some };
}

// --- Trees -----------------------------------------------------------------------------------------------------

/** By path: permissions, kind and SHA-256 of each file and link. */
export type Tree = Readonly<Record<string, string>>;

/**
 * Everything that must be equal between two target folders: data files, names and modes; `.gantry/` and the
 * timestamp column of metadata.csv aside.
 */
export async function hashTree(dir: string): Promise<Tree> {
  const tree: Record<string, string> = {};
  for (const path of await listFiles(dir)) {
    const full = join(dir, path);
    const facts = await stat(full);
    let bytes: Uint8Array = await readFile(full);
    if (path === "metadata.csv") bytes = Buffer.from(withoutTimestamps(bytes.toString()));
    tree[path] = `${(facts.mode & 0o7777).toString(8)} ${createHash("sha256").update(bytes).digest("hex")}`;
  }
  return tree;
}

const withoutTimestamps = (csv: string): string =>
  csv
    .split("\n")
    .map((line) => line.replace(/,[^,]*$/u, ""))
    .join("\n");

/** Every file below a folder but `.gantry/`, sorted, `/` between segments; empty when there is no folder. */
export async function listFiles(dir: string): Promise<string[]> {
  return (await listAll(dir)).filter((path) => path !== ".gantry" && !path.startsWith(".gantry/"));
}

/** Every file below a folder, `.gantry/` included. */
export async function listAll(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(dir.length + 1))
    .sort();
}

/** SHA-256 of the DICOM files of a tree, sorted; what an archive holds, whatever the names. */
export async function dataDigests(dir: string): Promise<string[]> {
  const digests: string[] = [];
  for (const path of await listFiles(dir)) {
    if (path === "metadata.csv" || path.endsWith("/LICENSE")) continue;
    digests.push(
      createHash("sha256")
        .update(await readFile(join(dir, path)))
        .digest("hex"),
    );
  }
  return digests.sort();
}

// --- The real program --------------------------------------------------------------------------------------------

function startProgram(args: string[], options: ProgramOptions & { env: Record<string, string> }): Program {
  ensureBuilt();
  const [command, ...rest] = [
    ...(options.prefix ?? []),
    process.execPath,
    join(root, "bin/gantry.js"),
    ...args,
  ];
  const child = spawn(command as string, rest, {
    env: options.env,
    cwd: options.cwd ?? options.env.HOME ?? root,
    stdio: ["pipe", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  child.stdin.on("error", () => undefined);
  child.stdin.end(options.input ?? "");
  const ended = new Promise<ProgramResult>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
  let over = false;
  const end = (): void => {
    over = true;
  };
  ended.then(end, end);
  atEnd(async () => {
    if (!over) child.kill("SIGKILL");
    await ended.catch(() => undefined);
  });
  return {
    child,
    pid: child.pid ?? -1,
    stdout: () => stdout,
    stderr: () => stderr,
    kill: (signal = "SIGKILL") => void child.kill(signal),
    ended,
  };
}

/** Waits until something holds; fails after `timeoutMs` with the name of what was waited for. */
export async function until(what: string, holds: () => unknown, timeoutMs = 20_000): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`waited ${timeoutMs} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
