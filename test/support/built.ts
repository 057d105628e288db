/**
 * The built program, made when a source is newer. As vitest's global setup it is made before the first suite, so that
 * no test's time counts it.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmdirSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Root of the checkout. */
export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

export default function setup(): void {
  ensureBuilt();
}

let built = false;

/** `dist/` is made anew when a source is newer; suites that run at once wait for one build. */
export function ensureBuilt(): void {
  if (built) return;
  const lock = join(root, ".cache", "build.lock");
  mkdirSync(dirname(lock), { recursive: true });
  for (let waitedMs = 0; ; waitedMs += 100) {
    if (isFresh()) break;
    try {
      mkdirSync(lock);
    } catch {
      // A lock that nobody holds any more is of a build that was killed.
      if (waitedMs > 60_000) rmdirSync(lock);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
      continue;
    }
    try {
      if (!isFresh()) build();
    } finally {
      rmdirSync(lock);
    }
    break;
  }
  built = true;
}

const MAIN = join(root, "dist", "cli", "main.js");
/** Its time is that of the start of the last build: what was edited while it ran is newer. */
const STAMP = join(root, ".cache", "build.stamp");

function isFresh(): boolean {
  if (!existsSync(MAIN) || !existsSync(STAMP)) return false;
  const stamp = statSync(STAMP).mtimeMs;
  return !readdirSync(join(root, "src"), { recursive: true, withFileTypes: true }).some(
    (entry) =>
      entry.isFile() &&
      !/(\.test\.ts|\.md)$/u.test(entry.name) &&
      statSync(join(entry.parentPath, entry.name)).mtimeMs > stamp,
  );
}

function build(): void {
  writeFileSync(STAMP, "");
  const result = spawnSync(process.execPath, [join(root, "scripts/build.mjs")], { encoding: "utf8" });
  if (!existsSync(MAIN)) throw new Error(`the build left no program:\n${result.stdout}${result.stderr}`);
}
