/** A job array on a real Slurm: faults of the archive, tasks that are pre-empted, and a node that is lost while its task lives on. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { parseReceipt, type Receipt, resolveReceipts } from "../../src/model/receipt.ts";
import { freshDir, hashTree, type Stage, startStage, until } from "../support/gantry.ts";
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

    it("ends complete after pre-emptions, a time limit and a lost node", async () => {
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
        const node = await cluster.nodeOf(`${job}_7`);
        expect(node).not.toBeNull();
        // Slurm pre-empts by a requeue: SIGTERM, then the queue.
        for (const task of [0, 1]) await cluster.ask("scontrol", "requeue", `${job}_${task}`);
        // The end of the time: SIGUSR1 to the batch shell, which the program has replaced. It queues itself again.
        await cluster.ask("scancel", "--batch", "--signal=USR1", `${job}_2`);
        await cluster.loseNode(node as string);
        stage.control.setFaults([
          { kind: "slow-first-byte", route: "**/getImage*", ms: 500 },
          { kind: "500", route: "**/getImage*", count: 4, skip: 5 },
          { kind: "cut", route: "**/getImage*", count: 2, skip: 12 },
        ]);
        const all = Array.from({ length: TASKS }, (_, task) => `${job}_${task}`);
        await until(
          "the array and its end are over",
          async () => {
            for (const each of all)
              await cluster.tell("scontrol", "update", `jobid=${each}`, "StartTime=now");
            return (await cluster.ask("squeue", "-h", "-o", "%i")).trim() === "";
          },
          200_000,
        );
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

      // Tasks 0 to 2 and those of the lost node ran twice; the first lives of the former ended cleanly.
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
  },
);

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
