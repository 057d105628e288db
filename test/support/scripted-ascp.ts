/** A program in the place of ascp that does what a script says, step by step, and notes how it was called. */
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

export type Step =
  | { readonly frame: Readonly<Record<string, string | number>> }
  /** Text of the channel, in pieces of `pieces` bytes. */
  | { readonly raw: string; readonly pieces: number }
  /** A file below the destination. */
  | { readonly write: string; readonly text: string }
  | { readonly say: string; readonly to: "stdout" | "stderr" }
  | { readonly waitMs: number }
  /** Waits for a command of this type. */
  | { readonly await: string }
  /** A file that says that this step was reached. */
  | { readonly reached: string }
  | { readonly hang: true }
  | { readonly ignoreSignals: true }
  | { readonly closeChannel: true }
  | { readonly exit: number };

export interface ScriptedAscp {
  readonly program: string;
  /** What the n-th call from 0 does; the last script holds for later ones. */
  script(...scripts: (readonly Step[])[]): Promise<void>;
  calls(): Promise<readonly Call[]>;
}

export interface Call {
  readonly pid: number;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly list: string;
  readonly destination: string;
  /** What standard input gave until its end. */
  readonly stdin: string;
}

const PROGRAM = `#!${process.execPath}
const fs = require("node:fs"), net = require("node:net"), path = require("node:path");
const home = path.dirname(fs.realpathSync(process.argv[1]));
const argv = process.argv.slice(2);
const after = (name) => argv[argv.indexOf(name) + 1];
const listArg = argv.find((word) => /^--file-(?:pair-)?list=/.test(word)) ?? "";
const destination = Buffer.from(argv.at(-1), "base64").toString();
const list = listArg === "" ? "" : fs.readFileSync(listArg.slice(listArg.indexOf("=") + 1), "utf8");
const calls = path.join(home, "calls");
let n = 0;
for (;; n += 1) try { fs.mkdirSync(path.join(calls, String(n))); break; } catch (error) { if (error.code !== "EEXIST") throw error; }
const stdin = fs.readFileSync(0, "utf8");
fs.writeFileSync(path.join(calls, String(n), "call.json"), JSON.stringify({ pid: process.pid, argv, env: process.env, list, destination, stdin }));
const scripts = JSON.parse(fs.readFileSync(path.join(home, "scripts.json"), "utf8"));
const steps = scripts[Math.min(n, scripts.length - 1)];
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const socket = net.connect(Number(after("-M")), "127.0.0.1");
let heard = "";
socket.on("data", (bytes) => {
  heard += bytes;
  if (heard.includes("Type: CANCEL") && !steps.some((step) => step.ignoreSignals)) process.exit(1);
});
socket.on("error", () => undefined);
socket.on("connect", async () => {
  for (const step of steps) {
    if (step.frame) {
      const lines = Object.entries(step.frame).map(([key, value]) => key + ": " + value + "\\n");
      socket.write("FASPMGR 2\\n" + lines.join("") + "\\n");
    } else if (step.raw !== undefined) {
      const bytes = Buffer.from(step.raw);
      for (let at = 0; at < bytes.length; at += step.pieces) {
        socket.write(bytes.subarray(at, at + step.pieces));
        await sleep(1);
      }
    } else if (step.write !== undefined) {
      fs.mkdirSync(path.dirname(path.join(destination, step.write)), { recursive: true });
      fs.writeFileSync(path.join(destination, step.write), step.text);
    } else if (step.say !== undefined) process[step.to].write(step.say);
    else if (step.waitMs !== undefined) await sleep(step.waitMs);
    else if (step.await !== undefined) while (!heard.includes("Type: " + step.await)) await sleep(5);
    else if (step.reached !== undefined) fs.writeFileSync(step.reached, String(process.pid));
    else if (step.ignoreSignals) for (const name of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(name, () => undefined);
    else if (step.hang) for (;;) await sleep(1000);
    else if (step.closeChannel) { await new Promise((resolve) => socket.end(resolve)); }
    else if (step.exit !== undefined) { await new Promise((resolve) => socket.end(resolve)); process.exit(step.exit); }
  }
  await new Promise((resolve) => socket.end(resolve));
  process.exit(0);
});
`;

export async function scriptedAscp(folder: string): Promise<ScriptedAscp> {
  const program = join(folder, "ascp");
  await mkdir(join(folder, "calls"), { recursive: true });
  await writeFile(program, PROGRAM);
  await chmod(program, 0o755);
  return {
    program,
    script: (...scripts) => writeFile(join(folder, "scripts.json"), JSON.stringify(scripts)),
    async calls() {
      const calls: Call[] = [];
      for (let n = 0; ; n += 1) {
        const text = await readFile(join(folder, "calls", String(n), "call.json"), "utf8").catch(() => null);
        if (text === null) return calls;
        calls.push(JSON.parse(text) as Call);
      }
    },
  };
}
