/**
 * Loaded into a Node by NODE_OPTIONS=--import: writes its peak resident memory where GANTRY_BENCH_PEAK says. VmHWM, because
 * ru_maxrss would count what the parent held when it forked.
 */
import { readFileSync, writeFileSync } from "node:fs";

const path = process.env.GANTRY_BENCH_PEAK;
if (path) {
  process.on("exit", () => {
    const [, kilobytes] = /VmHWM:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
    writeFileSync(path, String(Number(kilobytes) * 1024));
  });
}
