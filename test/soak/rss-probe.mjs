// Loaded into a child by NODE_OPTIONS=--import: writes its peak resident memory where GANTRY_RSS_FILE says.
// VmHWM, because ru_maxrss would count what the parent held when it forked.
import { readFileSync, writeFileSync } from "node:fs";

const path = process.env.GANTRY_RSS_FILE;
if (path) {
  process.on("exit", () => {
    const [, kilobytes] = /VmHWM:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
    writeFileSync(path, String(Number(kilobytes) * 1024));
  });
}
