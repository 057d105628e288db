/** What /proc tells of running processes. */
import { readdirSync, readFileSync } from "node:fs";

/** Words of a process's command line, a line each; empty when it has gone. */
export function argumentsOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", "\n");
  } catch {
    return "";
  }
}

/** Processes whose command line holds a text, zombies aside. */
export function processesNaming(text: string): number[] {
  const found: number[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/u.test(name) || !argumentsOf(Number(name)).includes(text)) continue;
    try {
      if (!/\) Z /u.test(readFileSync(`/proc/${name}/stat`, "utf8"))) found.push(Number(name));
    } catch {
      // It has gone meanwhile.
    }
  }
  return found;
}
