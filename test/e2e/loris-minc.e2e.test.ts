/** MINC trees and servers without a BIDS export: both families, told apart by what they answer. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import type { Row } from "../../src/model/item.ts";
import { filters, freshDir, listFiles, runVerify, startStage } from "../support/gantry.ts";

const stage = await startStage();
const NAMES = ["preventad", "loris-m", "loris-m22", "loris-m28"] as const;
const loggedIn = {
  environment: {
    ...stage.environment,
    ...Object.fromEntries(
      NAMES.flatMap((name) => {
        const prefix = `GANTRY_${name.toUpperCase().replaceAll("-", "_")}_`;
        return [
          [`${prefix}USER`, "demo"],
          [`${prefix}PASSWORD`, "demo"],
        ];
      }),
    ),
  },
};
beforeEach(() => stage.control.reset());

async function find(words: readonly string[], some: Parameters<typeof filters>[0] = {}): Promise<Row[]> {
  const gantry = await stage.openGantry(loggedIn);
  try {
    const found: Row[] = [];
    const { rows } = await gantry.find(words, { filters: filters(some) });
    for await (const row of rows) found.push(row);
    return found;
  } finally {
    await gantry.close();
  }
}

const of = (rows: readonly Row[], column: string): string[] =>
  [...new Set(rows.flatMap((row) => (row[column] == null ? [] : [String(row[column])])))].sort();

describe.each(NAMES)("get %s:minc", (name) => {
  it("writes candidates, sessions, images and what is said of their quality (defects 2, 10 and 20)", async () => {
    const dir = await freshDir();
    const all = await find([`${name}:minc`]);
    const [candidate = ""] = of(all, "Candidate");
    const { summary } = await stage.get([`${name}:minc/${candidate}`], { dir }, loggedIn);
    expect(summary).toMatchObject({ exit: 0, failed: 0 });
    const files = await listFiles(dir);
    const paths = of(
      all.filter(({ Candidate }) => Candidate === candidate),
      "Path",
    );
    expect(files).toEqual(paths);
    const json = async (path: string): Promise<unknown> =>
      JSON.parse(await readFile(join(dir, path), "utf8"));
    expect(await json(`${candidate}/candidate.json`)).toMatchObject({ PSCID: expect.any(String) });
    const session = files.find((path) => path.endsWith("/session.json")) ?? "";
    expect(await json(session)).toMatchObject({ Visit: session.split("/")[1] });
    const [image = ""] = files.filter((path) => path.endsWith(".mnc"));
    expect(await json(`${image}.qc.json`)).toHaveProperty("QC");
    expect((await runVerify(dir)).summary).toMatchObject({ exit: 0 });
    const again = await stage.get([], { dir }, loggedIn);
    expect(again.summary).toMatchObject({ exit: 0, stored: { items: 0 } });
  });
});

describe("servers without a BIDS export", () => {
  it.each(["loris-m", "loris-m28"])("give images with their companions: %s", async (name) => {
    const dir = await freshDir();
    const all = await find([`${name}:`]);
    const [candidate = ""] = of(all, "Candidate");
    const { summary } = await stage.get([`${name}:bids/sub-${candidate}`], { dir }, loggedIn);
    expect(summary).toMatchObject({ exit: 0, failed: 0 });
    const files = await listFiles(dir);
    expect(files.some((path) => /^sub-\d+\/ses-\w+\/\w+\.nii\.gz$/u.test(path))).toBe(true);
    expect(files.some((path) => path.endsWith("dwi65_001.bvec"))).toBe(true);
    const again = await stage.get([], { dir }, loggedIn);
    expect(again.summary).toMatchObject({ exit: 0, stored: { items: 0 } });
  });

  it("say so where they offer no NIfTI", async () => {
    await expect(find(["loris-m22:"])).rejects.toMatchObject({
      code: "unknown-name",
      hint: expect.stringContaining("loris-m22:minc"),
    });
  });

  it("have projects, which narrow as a filter and in the address", async () => {
    const all = await find(["loris-m:minc"]);
    expect(of(all, "Project")).toEqual(["PREVENT-AD", "Pilot"]);
    const pilot = await find(["loris-m:minc"], { words: { project: ["pilot"] } });
    expect(of(pilot, "Project")).toEqual(["Pilot"]);
    expect(await find(["loris-m:minc/pilot:"])).toEqual(pilot);
    const [candidate = ""] = of(pilot, "Candidate");
    expect(await find([`loris-m:minc/Pilot:${candidate}`])).toEqual(pilot);
    await expect(find(["loris-m:minc/Pilots:"])).rejects.toMatchObject({
      hint: expect.stringContaining("Pilot"),
    });
  });
});
