/** The real binary and a sandbox as processes of their own, for runs that kill, starve and measure them. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { ScaleOptions } from "../../src/sandbox/data/scale.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const BINARY = join(ROOT, "bin", "gantry.js");
const PROBE = new URL("./rss-probe.mjs", import.meta.url).href;

export const isBuilt = (): boolean => existsSync(join(ROOT, "dist", "cli", "main.js"));

/** A folder of this test's own, and its removal. */
export function scratchFolder(name: string): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), `gantry-soak-${name}-`));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

export interface Ended {
  readonly exit: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly tookMs: number;
  /** Null when it was killed. */
  readonly peakRssBytes: number | null;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Words before `node`, e.g. `strace …`. */
  readonly wrapper?: readonly string[];
  /** Keep stdout; else it is read and thrown away. */
  readonly keepStdout?: boolean;
  readonly onStart?: (child: ChildProcess) => void;
}

/** Runs the real binary to its end. Its home is empty and its only archive is at `url`. */
export async function runGantry(
  args: readonly string[],
  home: string,
  url: string,
  options: RunOptions = {},
): Promise<Ended> {
  const config = join(home, "config.toml");
  writeFileSync(config, `[archives.tcia]\nkind = "nbia"\nurl = "${url}/nbia-api"\n`);
  const rssFile = join(home, `rss-${process.hrtime.bigint()}`);
  const command = [...(options.wrapper ?? []), process.execPath, BINARY, ...args] as [string, ...string[]];
  const startedMs = performance.now();
  const child = spawn(command[0], command.slice(1), {
    env: {
      PATH: process.env.PATH,
      HOME: home,
      TMPDIR: process.env.TMPDIR ?? tmpdir(),
      GANTRY_CONFIG: config,
      NODE_OPTIONS: `--import=${PROBE}`,
      GANTRY_RSS_FILE: rssFile,
      ...options.env,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk: Buffer) => {
    if (options.keepStdout) stdout += chunk.toString();
  });
  child.stderr.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  options.onStart?.(child);
  const [exit, signal] = (await once(child, "close")) as [number | null, string | null];
  const tookMs = performance.now() - startedMs;
  const peakRssBytes = existsSync(rssFile) ? Number(readFileSync(rssFile, "utf8")) : null;
  rmSync(rssFile, { force: true });
  return { exit, signal, stdout, stderr, tookMs, peakRssBytes };
}

const SERVER = `
const { startSandbox } = await import(process.argv[1]);
const { buildScaleDataset } = await import(process.argv[2]);
const scale = JSON.parse(process.argv[3]);
const sandbox = await startSandbox(scale === null ? {} : { data: buildScaleDataset(scale) });
process.stdout.write(sandbox.url + "\\n");
process.stdin.resume().on("end", () => process.exit(0));
`;

export interface ServerProcess {
  readonly url: string;
  /** Sends JSON to the control door. */
  door(path: string, body: unknown): Promise<void>;
  close(): Promise<void>;
}

/** A sandbox of the built tree in a process of its own, so that its memory is not counted; ends with this one. */
export async function startServer(scale: ScaleOptions | null): Promise<ServerProcess> {
  const built = (path: string): string => new URL(`../../dist/${path}`, import.meta.url).href;
  const child = spawn(
    process.execPath,
    [
      "--input-type=module",
      "-e",
      SERVER,
      built("sandbox/server.js"),
      built("sandbox/data/scale.js"),
      JSON.stringify(scale),
    ],
    { stdio: ["pipe", "pipe", "inherit"] },
  );
  const [first] = (await once(child.stdout, "data")) as [Buffer];
  const url = first.toString().trim();
  return {
    url,
    async door(path, body) {
      const reply = await fetch(`${url}/_sandbox/${path}`, { method: "POST", body: JSON.stringify(body) });
      if (!reply.ok) throw new Error(`the control door refused ${path}: ${await reply.text()}`);
      await reply.body?.cancel();
    },
    async close() {
      child.stdin.end();
      await once(child, "close");
    },
  };
}

export const megabytes = (bytes: number | null): string =>
  bytes === null ? "unknown" : `${Math.round(bytes / 1_000_000)} MB`;
