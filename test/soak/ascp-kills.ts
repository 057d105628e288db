/**
 * Transfers by ascp in which gantry or ascp is killed at a seeded moment: of a package, of a path of a site, and of files of
 * a site that lists. Then a run to the end. Shared by the soak and its short form.
 */
import { readdirSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { type Stage, startStage, temporaryDir, until } from "../support/gantry.ts";
import { argumentsOf, processesNaming } from "../support/processes.ts";
import { seeded } from "./kill-runs.ts";
import { readTree, type Tree, wrongFiles } from "./tree.ts";

const FILES = 16;
const FILE_BYTES = 150_000;
const ENV = { ASPERA_SCP_PASS: "demo" };

export const WAYS = ["package", "site", "sftp-site"] as const;
export type Way = (typeof WAYS)[number];
export const VICTIMS = ["gantry", "ascp"] as const;

export interface AscpGround {
  readonly stage: Stage;
  readonly address: Readonly<Record<Way, string>>;
  readonly clean: Readonly<Record<Way, Tree>>;
}

let opened: Promise<AscpGround> | undefined;

/** One for each test file. */
export function openAscpGround(): Promise<AscpGround> {
  opened ??= (async () => {
    const dataDir = await temporaryDir();
    await mkdir(join(dataDir, "Kills", "deep"), { recursive: true });
    await writeFile(join(dataDir, "Kills", "list.sums"), "");
    for (let n = 0; n < FILES; n += 1)
      await writeFile(
        join(dataDir, "Kills", n % 2 ? "deep" : ".", `${n} ü.bin`),
        Buffer.alloc(FILE_BYTES, n),
      );
    const stage = await startStage({ dataDir });
    const links = await stage.sandbox.links();
    const address = {
      package: links.package ?? "",
      site: `${links.site}Kills`,
      "sftp-site": `${links["sftp-site"]}Kills`,
    };
    const clean: Partial<Record<Way, Tree>> = {};
    for (const way of WAYS) {
      const dir = await freshFolder();
      const ended = await stage.run(["get", address[way], "-o", dir], { env: ENV });
      expect(ended.code, ended.stderr).toBe(0);
      clean[way] = readTree(dir);
      expect(clean[way].size).toBe(FILES + 1);
    }
    return { stage, address, clean: clean as Record<Way, Tree> };
  })();
  return opened;
}

const freshFolder = async (): Promise<string> => join(await temporaryDir(), "data");

/** ascp itself, of the processes that a target folder is named to. */
const ascpOf = (dir: string): number[] =>
  processesNaming(dir).filter((pid) => {
    const [first = "", ...rest] = argumentsOf(pid).split("\n");
    return !first.endsWith("sh") && rest.some((word) => /^--file-(?:pair-)?list=/u.test(word));
  });

/** Kills one of the two once, at a moment that the seed says, and expects all to be well after a rerun. */
export async function killAscpOnce(
  { stage, address, clean }: AscpGround,
  way: Way,
  victim: (typeof VICTIMS)[number],
  seed: number,
): Promise<"amid" | "too late"> {
  const random = seeded(seed);
  // A file takes some 75 ms, so that a moment within the first second is amid.
  stage.control.setFaults([{ kind: "slow", bytesPerSecond: 2_000_000 }]);
  const dir = await freshFolder();
  const program = stage.start(["get", address[way], "-o", dir, "--progress", "none"], { env: ENV });
  let over = false;
  void program.ended.then(() => {
    over = true;
  });
  await until("ascp runs", () => over || ascpOf(dir).length > 0);
  await new Promise((resolve) => setTimeout(resolve, random() * 900));
  const killed = victim === "gantry" ? (over ? [] : [program.pid]) : ascpOf(dir);
  for (const pid of killed) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has ended meanwhile.
    }
  }
  const first = await program.ended;
  await until("no ascp is left", () => processesNaming(dir).length === 0);
  expect(wrongFiles(dir, clean[way]), `seed ${seed}`).toEqual([]);
  // A killed ascp is a lost connection, which is tried again.
  if (victim === "ascp") expect(first.code, first.stderr).toBe(0);
  stage.control.setFaults([]);
  const again = await stage.run(["get", address[way], "-o", dir, "--progress", "none"], { env: ENV });
  expect(again.code, again.stderr).toBe(0);
  expect([...readTree(dir)], `seed ${seed}`).toEqual([...clean[way]]);
  expect(readdirSync(join(dir, ".gantry", "partial")), "left in partial").toEqual([]);
  expect(processesNaming(dir)).toEqual([]);
  return killed.length > 0 ? "amid" : "too late";
}
