/** Job arrays on a real Slurm: faults of the archive, tasks that are pre-empted, nodes lost with their tasks and without. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { parseReceipt, type Receipt, resolveReceipts } from "../../src/model/receipt.ts";
import {
  freshDir,
  hashTree,
  listAll,
  type Stage,
  startStage,
  temporaryDir,
  until,
} from "../support/gantry.ts";
import { type Cluster, startCluster, whyNoSlurm } from "../support/slurm.ts";

const why = whyNoSlurm();
const TASKS = 8;
const ITEMS = 37;

describe.skipIf(why !== null)(
  `a job array on Slurm${why === null ? "" : ` (${why})`}`,
  { timeout: 300_000 },
  () => {
    let stage: Stage;
    let cluster: Cluster;
    let clean: string;
    beforeAll(async () => {
      stage = await startStage();
      clean = await freshDir();
      expect((await stage.run(["get", "tcia:", "-o", clean, "--progress", "none"])).code).toBe(0);
      cluster = await startCluster(4);
    }, 120_000);

    const images = () => [...stage.requests("getImageWithMD5Hash"), ...stage.requests("getImage")];

    // Most of its time is the minute after which a lease of a node that is gone expires.
    it("ends complete after pre-emptions, a time limit, a lost node and one that died", async () => {
      const dir = await freshDir();
      stage.control.clearRequests();
      // Every task is held at its first item until all of them are at work.
      stage.control.setFaults([{ kind: "slow-first-byte", route: "**/getImage*", ms: 25_000 }]);
      const submitted = await stage.run(["slurm", "submit", "tcia:", "-o", dir, "--tasks", String(TASKS)], {
        env: cluster.environment,
      });
      expect(submitted.code, submitted.stderr).toBe(0);
      const [, array = "", job = "", end = ""] =
        /array (\S+): 8 tasks in job (\d+), its end in job (\d+)/u.exec(submitted.stdout) ?? [];
      expect(end, submitted.stdout).not.toBe("");

      let busiest = 0;
      const watching = setInterval(() => {
        busiest = Math.max(busiest, images().filter(({ ending }) => ending === "open").length);
      }, 20);
      try {
        await until(
          "every task is at work",
          () => runs(dir, array).filter(({ state }) => state === "transferring").length === TASKS,
          120_000,
        );
        // Of 4 nodes, two tasks each: one loses its daemon, and its tasks live on; one dies with its tasks.
        const [dying, lost] = [await cluster.nodeOf(`${job}_4`), await cluster.nodeOf(`${job}_7`)];
        expect(new Set([dying, lost, null]).size).toBe(3);
        // Slurm pre-empts by a requeue: SIGTERM, then the queue.
        for (const task of [0, 1]) await cluster.ask("scontrol", "requeue", `${job}_${task}`);
        // The end of the time: SIGUSR1 to the batch shell, which the program has replaced. It queues itself again.
        await cluster.ask("scancel", "--batch", "--signal=USR1", `${job}_2`);
        await cluster.loseNode(lost as string);
        await cluster.crashNode(dying as string);
        stage.control.setFaults([
          { kind: "slow-first-byte", route: "**/getImage*", ms: 500 },
          { kind: "500", route: "**/getImage*", count: 4, skip: 5 },
          { kind: "cut", route: "**/getImage*", count: 2, skip: 12 },
        ]);
        await cluster.drained(200_000);
      } finally {
        clearInterval(watching);
      }
      const report = JSON.parse(
        readFileSync(join(dir, ".gantry/arrays", `${array}.report.json`), "utf8"),
      ) as {
        failed: number;
        takenOver: number;
        runs: { task: number; exit: number | null }[];
      };
      expect(report.failed, logsOf(dir)).toBe(0);
      expect(await hashTree(dir)).toEqual(await hashTree(clean));

      // Those that died never said so; nobody waits for them any more.
      const dead = report.runs.filter(({ exit }) => exit === null);
      expect(dead.map(({ task }) => task)).toContain(4);
      expect(report.takenOver).toBeGreaterThanOrEqual(dead.length);
      // Tasks 0 to 2 and those of the lost nodes ran twice; the first lives of the former ended cleanly.
      for (const task of [0, 1, 2])
        expect(report.runs.filter((run) => run.task === task).map(({ exit }) => exit)).toContain(143);
      expect(report.runs.filter(({ task }) => task === 7).length).toBeGreaterThanOrEqual(2);

      const receipts = readReceipts(dir);
      expect(receipts.size).toBe(ITEMS);
      for (const lines of receipts.values()) expect(resolveReceipts(lines)?.heads).toHaveLength(1);
      const stored = [...receipts.values()].reduce((sum, lines) => sum + lines.length, 0);
      expect(stored - ITEMS).toBeLessThanOrEqual(report.takenOver);
      const whole = images().filter(({ ending, status }) => ending === "complete" && status === 200);
      expect(whole.length - ITEMS).toBeLessThanOrEqual(report.takenOver);
      // One item at a time for each task, and the tasks of the lost node until they are told to stop.
      expect(busiest).toBeLessThanOrEqual(TASKS + 2);
      expect(readdirSync(join(dir, ".gantry/leases"))).toEqual([]);

      // Nothing is missing: a resume plans, finds nothing to do and ends the array.
      const again = await stage.run(["slurm", "resume", dir], { env: cluster.environment });
      expect(again.code, again.stderr).toBe(0);
      expect(images().filter(({ ending, status }) => ending === "complete" && status === 200).length).toBe(
        whole.length,
      );
    });

    it("plans in a job by `sbatch x.sh`, which gets accounts of the shell only with --export=ALL", async () => {
      stage.control.setFaults([]);
      const home = await temporaryDir();
      const account = { GANTRY_TCIA_USER: "demo", GANTRY_TCIA_PASSWORD: "demo" };
      for (const options of [[], ["--export=ALL"]]) {
        const name = options.length === 0 ? "plain" : "all";
        const shown = await stage.run(
          ["slurm", "submit", "tcia:Phantom-CT", "-o", name, "--tasks", "2", "--dry-run"],
          { cwd: home, env: account },
        );
        expect(shown.code, shown.stderr).toBe(0);
        const script = join(home, `${name}.sh`);
        writeFileSync(script, shown.stdout);
        stage.control.clearRequests();
        await cluster.ask(
          "env",
          ...assignments({ ...stage.environment, ...account }),
          "sbatch",
          ...options,
          `--output=${name}.out`,
          `--chdir=${home}`,
          script,
        );
        await cluster.drained(120_000);
        const told = readFileSync(join(home, `${name}.out`), "utf8");
        expect(told).toMatch(/array \S+: 2 tasks in job \d+, its end in job \d+/u);
        const dir = join(home, name);
        expect((await stage.run(["status", dir, "--check"])).code, logsOf(dir)).toBe(0);
        expect(stage.requests("token").length > 0, told).toBe(options.length > 0);
        expect(
          readdirSync(join(dir, ".gantry")).includes("private")
            ? readdirSync(join(dir, ".gantry/private"))
            : [],
        ).toEqual([]);
      }
    });

    it("is looked on, cancelled, stopped and resumed, and fetches only what was missing", async () => {
      const dir = await freshDir();
      stage.control.setFaults([{ kind: "slow-first-byte", route: "**/getImage*", ms: 1_000 }]);
      stage.control.clearRequests();
      const env = cluster.environment;
      const submitted = await stage.run(["slurm", "submit", "tcia:", "-o", dir, "--tasks", "3"], { env });
      const [, array = "", job = "", end = ""] =
        /array (\S+): 3 tasks in job (\d+), its end in job (\d+)/u.exec(submitted.stdout) ?? [];
      expect(end, submitted.stderr).not.toBe("");
      const status = async (): Promise<Record<string, unknown>> => {
        const { code, stdout, stderr } = await stage.run(["status", dir, "--format", "json"]);
        expect(code, stderr).toBe(0);
        return (JSON.parse(stdout) as Record<string, unknown>[])[0] ?? {};
      };
      const watch = stage.start(["status", dir, "--watch", "--format", "table"]);
      await until("something is stored", async () => Number((await status()).doneItems) >= 3, 60_000);
      expect(await status()).toMatchObject({ state: "transferring", array, tasks: 3, expectedItems: ITEMS });
      // Whoever submits again is told who is at work.
      const second = await stage.run(["slurm", "submit", "tcia:", "-o", dir, "--tasks", "3"], { env });
      expect([second.code, second.stderr]).toEqual([
        2,
        expect.stringMatching(/is in use by process \d+ on \S+/u),
      ]);

      await cluster.ask("scancel", job, end);
      await cluster.drained(120_000);
      await until("its tasks have ended", async () => (await status()).state === "waiting");
      const before = Number((await status()).doneItems);
      expect(before).toBeLessThan(ITEMS);
      const stopped = await stage.run(["stop", dir]);
      expect([stopped.code, stopped.stderr]).toEqual([0, expect.stringContaining(`Array ${array} is over`)]);
      const watched = await watch.ended;
      expect([watched.code, watched.stdout]).toEqual([
        0,
        expect.stringMatching(/of 3 tasks at work, \d+ of \d+ slices done/u),
      ]);
      expect(existsSync(join(dir, ".gantry/leases", array))).toBe(false);

      const whole = () =>
        images().filter(({ ending, status: code }) => ending === "complete" && code === 200).length;
      const fetched = whole();
      stage.control.setFaults([]);
      const resumed = await stage.run(["slurm", "resume", dir], { env });
      expect([resumed.code, resumed.stderr]).toEqual([0, expect.stringContaining(`${ITEMS - before} items`)]);
      await cluster.drained(120_000);
      expect((await stage.run(["status", dir, "--check"])).code, logsOf(dir)).toBe(0);
      expect(whole() - fetched).toBe(ITEMS - before);
      expect(await hashTree(dir)).toEqual(await hashTree(clean));
    });

    it("says in one sentence what it can't queue, and what becomes of what waits", async () => {
      const dir = await freshDir();
      const env = cluster.environment;
      const submit = (...options: string[]) =>
        stage.run(["slurm", "submit", "tcia:Phantom-CT", "-o", dir, "--tasks", "2", ...options], { env });
      for (const [option, said] of [
        ["partition=p", '"partition=p" is no option of sbatch'],
        ["--array=1-5", "sbatch's --array is for gantry to set"],
      ] as const) {
        const refused = await submit("--sbatch-opt", option);
        expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining(said)]);
        expect(existsSync(dir)).toBe(false);
      }
      const unknown = await submit("--sbatch-opt=--partition=none");
      expect([unknown.code, unknown.stderr]).toEqual([
        2,
        expect.stringContaining(`Go on with: gantry slurm resume ${dir}`),
      ]);
      // The login node has no such folder, and none of the variables.
      const held = await stage.run(
        ["slurm", "resume", dir, "--sbatch-opt=--hold", "--scratch", "$NODE_DISK/gantry"],
        { env },
      );
      const [, first = ""] = /array (\S+): 2 tasks/u.exec(held.stdout) ?? [];
      expect(first, held.stderr).not.toBe("");
      const disk = await temporaryDir();
      const again = await submit("--scratch", `${disk}/$SLURM_JOB_ID`);
      expect([again.code, again.stderr]).toEqual([0, expect.stringContaining(`array ${first} is given up`)]);
      const [, , jobs = ""] = /(array \S+: 2 tasks in job) (\d+)/u.exec(again.stdout) ?? [];
      await until(
        "the first waits alone",
        async () => {
          const left = (await cluster.ask("squeue", "-h", "-o", "%A %t %r")).split("\n");
          return (
            !left.some((line) => line.startsWith(jobs)) && left.some((line) => line.includes("JobHeldUser"))
          );
        },
        120_000,
      );
      expect((await stage.run(["status", dir, "--check"])).code, logsOf(dir)).toBe(0);
      await cluster.ask(
        "scontrol",
        "release",
        ...(await cluster.ask("squeue", "-h", "-o", "%A")).trim().split(/\s+/u),
      );
      await cluster.drained(120_000);
      expect(logsOf(dir)).toContain("--scratch names $NODE_DISK, which is not set here");
      expect(await listAll(disk)).toEqual([]);
    });
  },
);

/** For env(1): nothing of this process's own is left. */
const assignments = (environment: Readonly<Record<string, string>>): string[] => [
  ...Object.entries(environment).map(([name, value]) => `${name}=${value}`),
];

/** What the jobs said. */
function logsOf(dir: string): string {
  const folder = join(dir, ".gantry/logs");
  return readdirSync(folder)
    .filter((name) => name.startsWith("slurm-"))
    .map((name) => `${name}:\n${readFileSync(join(folder, name), "utf8")}`)
    .join("\n");
}

interface RunLine {
  readonly array?: string;
  readonly state: string;
}

function runs(dir: string, array: string): RunLine[] {
  const folder = join(dir, ".gantry/runs");
  return readdirSync(folder)
    .filter((name) => name.endsWith(".json"))
    .map((name) => JSON.parse(readFileSync(join(folder, name), "utf8")) as RunLine)
    .filter((run) => run.array === array);
}

/** By item, read by their format alone. */
function readReceipts(dir: string): Map<string, Receipt[]> {
  const byItem = new Map<string, Receipt[]>();
  const folder = join(dir, ".gantry/receipts");
  for (const name of readdirSync(folder)) {
    for (const line of readFileSync(join(folder, name), "utf8").split("\n").slice(1)) {
      const receipt = line === "" ? null : parseReceipt(line);
      if (receipt) byItem.set(receipt.item, [...(byItem.get(receipt.item) ?? []), receipt]);
    }
  }
  return byItem;
}
