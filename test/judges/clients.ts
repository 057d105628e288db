/**
 * Other people's clients of NBIA, as they are: where they are looked for, and how they are run.
 *
 * Nothing of them is in this repository, and nothing here gets or builds them: whoever wants a judge installs it by
 * its own instructions and puts it, or a link to it, under the name below into the folder `GANTRY_JUDGES`
 * (docs/judges.md). What is not there is skipped by name.
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { root } from "../support/gantry.ts";

/** The folder of the clients. */
export const judgesDir = resolve(process.env.GANTRY_JUDGES || join(root, ".cache", "judges"));

/** Path of a program in the folder; null when it is not there. */
export function program(name: string): string | null {
  const path = join(judgesDir, name);
  return existsSync(path) ? path : null;
}

/** The Python that can import a module: the folder's, else the one on the PATH; null when neither can. */
export function pythonWith(module: string): string | null {
  const works = (python: string): boolean =>
    spawnSync(python, ["-c", `import ${module}`], { timeout: 60_000 }).status === 0;
  return [join(judgesDir, "python3"), "python3"].find(works) ?? null;
}

/** Why a judge is skipped, for the name of its suite; empty when it is there. */
export function lack(found: string | null, what: string): string {
  return found === null ? ` (skipped: no ${what} in ${judgesDir})` : "";
}

export interface Ended {
  readonly code: number | null;
  /** Standard output and standard error as they came, in one. */
  readonly said: string;
  readonly stdout: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  /** Then it is killed, and `code` is null. */
  readonly timeoutMs?: number;
}

/** Run a client with a small environment of its own: no configuration and no proxy of this machine reaches it. */
export function runClient(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Ended> {
  const { PATH = "", LANG = "C.UTF-8", JAVA_HOME } = process.env;
  const own = { PATH, LANG, TMPDIR: tmpdir(), HOME: options.cwd ?? tmpdir(), MPLBACKEND: "Agg" };
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: { ...own, ...(JAVA_HOME === undefined ? {} : { JAVA_HOME }), ...options.env },
    stdio: ["pipe", "pipe", "pipe"],
    timeout: options.timeoutMs ?? 180_000,
    killSignal: "SIGKILL",
  });
  let said = "";
  let stdout = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    said += text;
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  child.stdin.on("error", () => undefined);
  child.stdin.end(options.input ?? "");
  return new Promise((settle, reject) => {
    child.on("error", reject);
    child.on("close", (code) => settle({ code, said, stdout }));
  });
}
