// `npm test`: set up a fresh clone, then type check, lint, every suite on this Node and a part of them on Node 24.
// The last line is always `N passed, N failed, N skipped`, summed over all of it. Arguments are vitest filters for a
// quick run of some suites: `npm test -- src/model`.

import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import {
  bidsValidator,
  cache,
  quietly,
  root,
  say,
  secondNode,
  setup,
  systemPackages,
  tail,
} from "./setup.mjs";

/** The whole run shall stay under 25 minutes; a guard past that, so that a hanging suite is named and not just cut off. */
const deadline = Date.now() + 40 * 60_000;

const total = { passed: 0, failed: 0, skipped: 0 };
const failures = [];
const skips = [];
const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

function fail(name, details) {
  total.failed += 1;
  failures.push({ name, details });
}

function skip(name, reason, count = 1) {
  total.skipped += count;
  skips.push(`${name}: ${reason}`);
}

/** A check that is one program: it counts as one test. */
async function check(name, args) {
  const result = await quietly(name.replaceAll(" ", "-"), process.execPath, args, { timeoutMs: left() });
  if (result.ok) total.passed += 1;
  else fail(name, tail(result.text));
  say(`${name}: ${result.ok ? "passed" : "FAILED"}`);
}

const left = () => Math.max(1000, deadline - Date.now());

/** Why a suite was skipped when the test does not say: the condition as it stands in the file. */
function conditionOf(file, title) {
  const source = readFileSync(join(root, file), "utf8");
  const quoted = ['"', "'", "`"].map((quote) => source.indexOf(`${quote}${title}${quote}`));
  const place = Math.max(...quoted);
  if (place === -1) return "its condition does not hold here";
  const condition = /(skipIf|runIf)\((.*)\)\(\s*$/s.exec(source.slice(Math.max(0, place - 200), place));
  if (condition === null) return "its condition does not hold here";
  return condition[1] === "skipIf" ? `as ${condition[2]}` : `as not ${condition[2]}`;
}

/** One vitest run. What is skipped whole is told once, with its count. */
async function suites(name, node, filters) {
  const label = name.replaceAll(" ", "-");
  const report = join(cache, `${label}.json`);
  rmSync(report, { force: true });
  const started = Date.now();
  const reporters = ["--reporter=default", `--reporter=${join(root, "scripts/suite-report.mjs")}`];
  const result = await quietly(
    label,
    node,
    [join(root, "node_modules/vitest/vitest.mjs"), "run", "--passWithNoTests", ...reporters, ...filters],
    { env: { ...process.env, CI: "1", GANTRY_SUITE_REPORT: report }, timeoutMs: left() },
  );
  const tests = existsSync(report) ? JSON.parse(readFileSync(report, "utf8")) : [];
  const before = { ...total };
  const skipped = new Map();
  const alive = new Set(
    tests.filter((test) => test.state !== "skipped").map((test) => `${test.file}\0${test.top}`),
  );
  for (const test of tests) {
    const where = test.file === "" ? name : `${name}: ${test.file}`;
    if (test.state === "passed") total.passed += 1;
    else if (test.state === "skipped") {
      // A suite none of whose tests ran is one line; a test skipped among others has its own.
      const whole = !alive.has(`${test.file}\0${test.top}`);
      const title = whole ? test.top : test.name;
      const reason = test.note ?? conditionOf(test.file, whole ? test.top : test.name.split(" > ").at(-1));
      const line = `${where} > ${title}`;
      const known = skipped.get(line);
      skipped.set(line, { reason, count: (known?.count ?? 0) + 1 });
    } else {
      const details = test.errors.join("\n");
      fail(`${where} > ${test.name}`, details === "" ? `ended as ${test.state}` : details);
    }
  }
  for (const [line, { reason, count }] of skipped)
    skip(line, count > 1 ? `${reason} (${plural(count, "test")})` : reason, count);
  if (!result.ok && total.failed === before.failed)
    fail(`${name}: vitest ended with status ${result.status}`, tail(result.text));
  const seconds = Math.round((Date.now() - started) / 1000);
  const counts = ["passed", "failed", "skipped"]
    .map((key) => `${total[key] - before[key]} ${key}`)
    .join(", ");
  say(`${name}: ${counts} (${seconds} s)`);
  return total.passed + total.failed - before.passed - before.failed;
}

async function everything(filters) {
  const problem = await setup();
  if (problem !== undefined) fail(`set-up: ${problem.what}`, problem.details);
  if (problem?.what === "npm ci") return;
  await systemPackages();
  await bidsValidator();
  await check("type check", [join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.json"]);
  await check("lint", [join(root, "node_modules/@biomejs/biome/bin/biome"), "check", "."]);
  const here = `suites on Node ${process.versions.node.split(".")[0]}`;
  if ((await suites(here, process.execPath, filters)) === 0) fail(here, "no test ran");
  if (filters.length > 0) return;
  const there = "smoke and unit suites on Node 24";
  const second = await secondNode();
  if ("node" in second) await suites(there, second.node, ["src/", "test/e2e/smoke"]);
  else skip(there, second.reason);
}

await everything(process.argv.slice(2));
if (skips.length > 0) process.stdout.write(`\nSkipped:\n${skips.map((line) => `  ${line}\n`).join("")}`);
if (failures.length > 0) {
  process.stdout.write("\nFailed:\n");
  for (const { name, details } of failures)
    process.stdout.write(`  ${name}\n${details.replace(/^/gm, "      ")}\n`);
  process.stdout.write(`Whole logs: ${join(cache, "logs")}\n`);
}
process.stdout.write(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped\n`);
process.exitCode = total.failed > 0 ? 1 : 0;
