import { readdirSync, readFileSync } from "node:fs";
import type { Program } from "./gantry.ts";

/** Arguments of the program and of whatever it started, as any user of the machine can read them. */
export function commandLines(program: Program): string[] {
  const found: string[] = [];
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/u.test(name))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      const parent = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1];
      if (Number(pid) !== program.pid && Number(parent) !== program.pid) continue;
      found.push(readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\u0000", " "));
    } catch {
      // It ended in between.
    }
  }
  return found;
}
