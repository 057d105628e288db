/** A job array without Slurm: the script alone, tasks as processes that share a folder, and what they do when some die. */
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { CACHE_FLAGS } from "../../src/cli/cache.ts";
import { GET_FLAGS } from "../../src/cli/commands/get.ts";
import { FILTER_FLAGS } from "../../src/cli/filters.ts";
import { TABLE_FLAGS } from "../../src/cli/render/table.ts";
import {
  freshDir,
  hashTree,
  type ProgramResult,
  type Stage,
  startStage,
  temporaryDir,
  until,
} from "../support/gantry.ts";

const longName = (flags: string): string => /--[a-z-]+/u.exec(flags)?.[0] ?? flags;

let stage: Stage;
let clean: string;
beforeAll(async () => {
  stage = await startStage();
  clean = await freshDir();
  expect((await stage.run(["get", "tcia:", "-o", clean, "--progress", "none"])).code).toBe(0);
});

function bash(
  args: readonly string[],
  cwd: string,
  env: Record<string, string> = {},
): Promise<ProgramResult> {
  return new Promise((resolve, reject) => {
    const child = spawn("bash", [...args], {
      cwd,
      env: { ...stage.environment, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

/** Plans an array of three tasks; its name. */
async function planned(dir: string): Promise<string> {
  const { code, stdout, stderr } = await stage.run(["slurm", "plan", "tcia:", "-o", dir, "--tasks", "3"]);
  expect(code, stderr).toBe(0);
  return stdout.split(" ")[0] as string;
}

const images = (): number => stage.requests("getImageWithMD5Hash").length + stage.requests("getImage").length;

describe("a job array without Slurm", { timeout: 90_000 }, () => {
  it("says what is missing of its own command lines", async () => {
    const home = await temporaryDir();
    for (const [words, said] of [
      [["submit", "-o", "x"], "what is to be fetched?"],
      [["task", "x", "--array", "a"], "task needs --array NAME and --task N"],
      [["finish", "x"], "finish needs --array NAME"],
    ] as const) {
      const { code, stderr } = await stage.run(["slurm", ...words], { cwd: home });
      expect(code).toBe(2);
      expect(stderr).toContain(said);
      expect(readdirSync(home)).toEqual([]);
    }
  });

  it("hands every option to those of its parts that it concerns", async () => {
    const home = await temporaryDir();
    const ofTasks = {
      ...{
        "--ascp": "/opt/ascp",
        "--key": "k.pem",
        "--resume-level": "2",
        "--policy": "low",
        "--decrypt": "",
      },
      ...{ "--transport": "sftp", "--pack": "tar", "--shard-size": "1GB", "--webdataset": "" },
      ...{ "--checksums": "sums.txt", "--retries": "3", "--stall-timeout": "30", "--scratch": "/s" },
      "--log-dir": "/logs",
    };
    const ofTheEnd = {
      ...{
        "--prune": "",
        "--with-intended": "",
        "--bidsignore": "",
        "--notify": "me",
        "--notify-every": "1h",
      },
    };
    const ofThePlan = ["--layout", "--recheck", "--replace", "--skip-bad"];
    const otherwise = [
      "--output",
      "--jobs",
      "--bandwidth",
      "--ascp-opt",
      "--dry-run",
      "--detach",
      "--detached",
    ];
    const shown = ["--json", "--progress"];
    const known = new Set([
      ...Object.keys({ ...ofTasks, ...ofTheEnd }),
      ...ofThePlan,
      ...otherwise,
      ...shown,
    ]);
    const asking = [...FILTER_FLAGS, ...CACHE_FLAGS, ...TABLE_FLAGS].map(({ flags }) => longName(flags));
    for (const { flags } of GET_FLAGS)
      expect([...known, ...asking], "a new option of get: which part of an array is it for?").toContain(
        longName(flags),
      );
    const given = Object.entries({ ...ofTasks, ...ofTheEnd }).flatMap(([name, value]) =>
      value === "" ? [name] : [name, value],
    );
    const words = ["slurm", "submit", "aspera://me@host/dir", "-o", "x", "--dry-run", "--ascp-opt=-Z1400"];
    const { code, stdout, stderr } = await stage.run([...words, ...given], { cwd: home });
    expect(code, stderr).toBe(0);
    const [task = "", end = ""] = stdout.split("\n").filter((line) => line.startsWith("  exec "));
    for (const [name, value] of Object.entries(ofTasks))
      for (const line of [task, end])
        expect(line).toMatch(new RegExp(` ${name}${value === "" ? "" : " "}`, "u"));
    for (const name of Object.keys(ofTheEnd)) {
      expect(end).toContain(` ${name}`);
      expect(task).not.toContain(` ${name}`);
    }
    expect(task).toContain(" --ascp-opt=-Z1400");
  });

  it("refuses what a script must not hold, and a folder that Slurm can't write logs into", async () => {
    const home = await temporaryDir();
    const submit = async (...words: string[]) => {
      const { code, stderr } = await stage.run(["slurm", "submit", ...words, "--dry-run"], { cwd: home });
      return { code, stderr };
    };
    for (const link of ["https://host/key?token=1", "aspera://me:secret@host/dir"])
      expect(await submit(link, "-o", "x")).toEqual({
        code: 2,
        stderr: expect.stringContaining("a link may be a key"),
      });
    expect(await submit("tcia:", "-o", "a\\b")).toEqual({
      code: 2,
      stderr: expect.stringContaining("there is a backslash in its path"),
    });
    expect(await submit("tcia:", "-o", "a\\b", "--sbatch-opt=--output=x.log")).toMatchObject({ code: 0 });
  });

  it("runs by its script, ends as a get does, and fetches nothing again", async () => {
    const home = await temporaryDir();
    const { code, stdout, stderr } = await stage.run(
      ["slurm", "submit", "tcia:", "-o", "out", "--tasks", "3", "--dry-run"],
      { cwd: home },
    );
    expect(code, stderr).toBe(0);
    expect(readdirSync(home)).toEqual([]);
    writeFileSync(join(home, "x.sh"), stdout, { mode: 0o755 });
    stage.control.clearRequests();
    const first = await bash(["x.sh", "here"], home);
    expect(first.code, first.stderr).toBe(0);
    const dir = join(home, "out");
    expect(await hashTree(dir)).toEqual(await hashTree(clean));
    const items = 37;
    expect(images()).toBe(items);
    // As on a machine without Slurm.
    const bin = await temporaryDir();
    for (const program of ["bash", "dirname"]) symlinkSync(`/usr/bin/${program}`, join(bin, program));
    const again = await bash(["x.sh"], home, { PATH: bin });
    expect(again.code, again.stderr).toBe(0);
    // Told by the end of the array, and not by its plan.
    expect(again.stderr.match(/Everything was here|To prove it again/gu)).toHaveLength(2);
    expect(images()).toBe(items);
    const submitted = await stage.run(["slurm", "submit", "tcia:Phantom-CT", "-o", "one", "--tasks", "2"], {
      ...{ cwd: home, env: { PATH: bin } },
    });
    expect([submitted.code, submitted.stderr]).toEqual([
      0,
      expect.stringContaining("There is no sbatch here"),
    ]);
  });

  it("packs, and brings an account to its tasks in no script, log or record", async () => {
    const home = await temporaryDir();
    const env = { GANTRY_TCIA_USER: "demo", GANTRY_TCIA_PASSWORD: "demo" };
    const words = ["slurm", "submit", "tcia:Phantom-CT", "-o", "out", "--tasks", "2", "--pack", "tar.zst"];
    const { code, stdout, stderr } = await stage.run([...words, "--dry-run"], { cwd: home, env });
    expect(code, stderr).toBe(0);
    expect(stdout).not.toContain("demo");
    const planned = await stage.run(
      ["slurm", "plan", "tcia:Phantom-CT", "-o", "out", "--tasks", "2", "--pack", "tar.zst"],
      { cwd: home, env },
    );
    expect(planned.code, planned.stderr).toBe(0);
    const array = planned.stdout.split(" ")[0] as string;
    const dir = join(home, "out");
    const secrets = join(dir, ".gantry/private", `${array}.json`);
    expect(statSync(secrets).mode & 0o777).toBe(0o600);
    stage.control.clearRequests();
    for (const task of ["0", "1"]) {
      const ended = await stage.run(["slurm", "task", dir, "--array", array, "--task", task]);
      expect(ended.code, ended.stderr).toBe(0);
    }
    // The account came to the task although its environment has none.
    expect(stage.requests("token").length).toBeGreaterThan(0);
    const end = await stage.run(["slurm", "finish", dir, "--array", array]);
    expect(end.code, end.stderr).toBe(0);
    expect(existsSync(secrets)).toBe(false);
    const verified = await stage.run(["verify", dir]);
    expect(verified.code, verified.stderr).toBe(0);
    expect(readdirSync(dir).filter((name) => name.endsWith(".tar.zst")).length).toBeGreaterThan(0);
  });

  it("goes on where a killed and a stopped task left it, and fetches nothing twice that was stored", async () => {
    const dir = await freshDir();
    const array = await planned(dir);
    const start = (task: number) =>
      stage.start(["slurm", "task", dir, "--array", array, "--task", String(task), "--jobs", "1"]);
    // Everything is slow, so that both are in the middle when they are ended.
    stage.control.setFaults([{ kind: "slow-first-byte", route: "**/getImage*", ms: 150 }]);
    stage.control.clearRequests();
    const tasks = [start(0), start(1)];
    await until(
      "both tasks have stored something",
      () => receipts(dir).filter((count) => count > 1).length >= 2,
    );
    tasks[0]?.kill("SIGKILL");
    tasks[1]?.kill("SIGTERM");
    const [killed, stopped] = await Promise.all(tasks.map((task) => task.ended));
    expect(killed?.signal).toBe("SIGKILL");
    expect(stopped?.code, stopped?.stderr).toBe(143);
    stage.control.setFaults([]);
    const third = await start(2).ended;
    expect(third.code, third.stderr).toBe(0);
    const end = await stage.run(["slurm", "finish", dir, "--array", array]);
    expect(end.code, end.stderr).toBe(0);
    expect(await hashTree(dir)).toEqual(await hashTree(clean));
    const whole = [...stage.requests("getImageWithMD5Hash"), ...stage.requests("getImage")].filter(
      ({ ending }) => ending === "complete",
    );
    // At most what the two had under way when they ended.
    expect(whole.length).toBeLessThanOrEqual(37 + 2);
    const report = JSON.parse(readFileSync(join(dir, ".gantry/arrays", `${array}.report.json`), "utf8")) as {
      takenOver: number;
      failed: number;
    };
    expect(report.failed).toBe(0);
    // Each held at least the slice that it was at.
    expect(report.takenOver).toBeGreaterThanOrEqual(2);
    // Late: the array is over.
    const late = await stage.run(["slurm", "task", dir, "--array", array, "--task", "0"]);
    expect(late.code, late.stderr).toBe(2);
    expect(late.stderr).toContain("is over");
  });
});

/** Lines of each receipts file. */
function receipts(dir: string): number[] {
  const folder = join(dir, ".gantry/receipts");
  return readdirSync(folder).map((name) => readFileSync(join(folder, name), "utf8").split("\n").length - 1);
}
