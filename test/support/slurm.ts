/** A real Slurm on this machine, of the system's packages: several nodes, a controller and munge of their own. */
import { execFile, spawnSync } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { atEnd, has, root, temporaryDir, until } from "./gantry.ts";

const execute = promisify(execFile);

/** Why there can be no cluster here, for the name of a skipped suite; null when there can. */
export function whyNoSlurm(): string | null {
  const missing = ["sbatch", "munged", "slurmctld", "slurmd"].filter((program) => !has(program));
  if (missing.length > 0) return `needs ${missing.join(", ")}`;
  return process.getuid?.() === 0 ? null : "needs root";
}

export interface Cluster {
  /** What a process needs to reach it. */
  readonly environment: Readonly<Record<string, string>>;
  /** Output of one of Slurm's programs. Throws when it fails. */
  ask(program: string, ...args: string[]): Promise<string>;
  /** The same, when failing is no fault. */
  tell(program: string, ...args: string[]): Promise<void>;
  /** Node that runs a job, or null. */
  nodeOf(job: string): Promise<string | null>;
  /** The daemon of a node dies; what it ran lives on. The node is down, and its jobs are queued again. */
  loseNode(node: string): Promise<void>;
  /** The same, and all that ran there dies with it, without a word. */
  crashNode(node: string): Promise<void>;
  /** Resolves when no job is left; one that waits for nothing but Slurm's pause after a requeue is started. */
  drained(timeoutMs: number): Promise<void>;
}

export async function startCluster(nodes: number): Promise<Cluster> {
  const dir = join(await temporaryDir(), "slurm");
  const port = 20_000 + Math.floor(Math.random() * 20_000);
  atEnd(async () => {
    spawnSync(join(root, "test/support/slurm-down.sh"), [dir], { stdio: "ignore" });
  });
  await execute(join(root, "test/support/slurm-up.sh"), [dir, String(nodes), String(port)]);
  const environment = { SLURM_CONF: join(dir, "etc/slurm.conf") };
  const env = { ...process.env, ...environment };
  const ask = async (program: string, ...args: string[]): Promise<string> =>
    (await execute(program, args, { env })).stdout;
  const tell = async (program: string, ...args: string[]): Promise<void> => {
    await ask(program, ...args).catch(() => undefined);
  };
  const pidOf = (node: string): number => Number(readFileSync(join(dir, `slurmd-${node}.pid`), "utf8"));
  const setDown = (node: string) =>
    ask("scontrol", "update", `nodename=${node}`, "state=down", "reason=lost");
  return {
    environment,
    ask,
    tell,
    nodeOf: async (job) => {
      const text = await ask("squeue", "-h", "-j", job, "-t", "R", "-o", "%N").catch(() => "");
      return text.trim() === "" ? null : text.trim();
    },
    async loseNode(node) {
      process.kill(pidOf(node), "SIGKILL");
      await setDown(node);
    },
    async crashNode(node) {
      // All of a node is in the name space that its host name is in.
      const space = (pid: string | number): string | null => {
        try {
          return readlinkSync(`/proc/${pid}/ns/uts`);
        } catch {
          return null;
        }
      };
      const ours = space(pidOf(node));
      if (ours === null || ours === space("self")) throw new Error(`${node} has no name space of its own`);
      const all = readdirSync("/proc").filter((name) => /^\d+$/u.test(name) && space(name) === ours);
      for (const pid of all) process.kill(Number(pid), "SIGKILL");
      await setDown(node);
    },
    async drained(timeoutMs) {
      await until(
        "no job is left",
        async () => {
          const jobs = (await ask("squeue", "-h", "-r", "-o", "%i %t %r")).trim();
          for (const line of jobs.split("\n")) {
            const [job = "", state, why] = line.split(" ");
            if (state === "PD" && why === "BeginTime")
              await tell("scontrol", "update", `jobid=${job}`, "StartTime=now");
          }
          return jobs === "";
        },
        timeoutMs,
      );
    },
  };
}
