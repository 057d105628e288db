/** How long the program takes to say its version, beside Node doing nothing. */
import { spawnSync } from "node:child_process";
import { median } from "./measure.ts";
import { PROGRAM } from "./product.ts";

const ROUNDS = 15;
const GOAL = 1.5;

export function benchStartUp(): void {
  const time = (args: readonly string[]): number => {
    const started = performance.now();
    const { status } = spawnSync(process.execPath, args, { stdio: "ignore" });
    if (status !== 0) throw new Error(`node ${args.join(" ")} ended with ${status}`);
    return performance.now() - started;
  };
  const cases = [
    ["-e", "0"],
    [PROGRAM, "--version"],
    [PROGRAM, "get", "--help"],
  ];
  const times = cases.map((): number[] => []);
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [index, args] of cases.entries()) times[index]?.push(time(args));
  }
  const [nothing = Number.NaN, version = Number.NaN, help = Number.NaN] = times.map(median);
  const ratio = version / nothing;
  process.stdout.write(
    `\nstart-up, ${ROUNDS} rounds, medians\n` +
      `  node -e 0 ${nothing.toFixed(0)} ms, gantry --version ${version.toFixed(0)} ms, ` +
      `gantry get --help ${help.toFixed(0)} ms\n` +
      `  goal (--version ≤ ${GOAL} × node -e 0): ${ratio.toFixed(2)}, ${ratio <= GOAL ? "met" : "NOT met"}\n`,
  );
}
