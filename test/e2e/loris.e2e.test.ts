/** The BIDS tree of a LORIS as PREVENT-AD runs it: listed, fetched, proved, resumed. */
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import type { Row } from "../../src/model/item.ts";
import { filters, freshDir, listFiles, runVerify, startStage } from "../support/gantry.ts";

const stage = await startStage();
const account = { GANTRY_PREVENTAD_USER: "demo", GANTRY_PREVENTAD_PASSWORD: "demo" };
const loggedIn = { environment: { ...stage.environment, ...account } };
beforeEach(() => stage.control.reset());

const DATA = "**/candidates/**";

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

const images = (items: readonly Row[]): string[] => [
  ...new Set(items.flatMap(({ LorisScanType }) => (LorisScanType ? [String(LorisScanType)] : []))),
];
const all = await find(["preventad:"]);
const [candidate = ""] = all.flatMap(({ Candidate }) => (Candidate ? [String(Candidate)] : []));
const t1w = all.find(({ Path }) => String(Path).endsWith("T1w.nii.gz"));

describe("get preventad:", () => {
  it("fetches the tree as the server names it, proved by length and format, and nothing twice", async () => {
    const dir = await freshDir();
    const { summary } = await stage.get(["preventad:"], { dir }, loggedIn);
    expect(summary).toMatchObject({ exit: 0, failed: 0, stored: { items: all.length } });
    const files = await listFiles(dir);
    expect(files).toEqual(expect.arrayContaining(all.map(({ Path }) => String(Path))));
    expect(files).toContain("dataset_description.json");
    expect((await runVerify(dir)).summary).toMatchObject({ exit: 0 });
    const again = await stage.get(["preventad:"], { dir }, loggedIn);
    expect(again.summary).toMatchObject({ exit: 0, stored: { items: 0 } });
  });

  it("fetches what was deleted or damaged again (defect 3)", async () => {
    const dir = await freshDir();
    const words = [`preventad:bids/sub-${candidate}`];
    await stage.get(words, { dir }, loggedIn);
    const path = join(dir, "participants.tsv");
    const before = await readFile(path);
    await rm(path);
    const { summary } = await stage.get(words, { dir }, loggedIn);
    expect(summary).toMatchObject({ exit: 0, stored: { items: 1 } });
    expect(await readFile(path)).toEqual(before);
    await writeFile(path, "damaged");
    expect((await runVerify(dir)).summary.exit).not.toBe(0);
  });

  it("goes on after a file that is linked but not there (defects 5 and 6)", async () => {
    const dir = await freshDir();
    stage.control.setFaults([{ kind: "missing", route: DATA, count: 1 }]);
    const { summary } = await stage.get(["preventad:"], { dir, jobs: 1 }, loggedIn);
    expect(summary).toMatchObject({ failed: 1, stored: { items: all.length - 1 } });
    expect(summary.failures[0]).toMatchObject({ code: "access-item" });
  });

  it("logs in again when the token ends in mid-run (defect 7)", async () => {
    const dir = await freshDir();
    stage.control.setFaults([{ kind: "expired-token", route: DATA, count: 1 }]);
    const { summary } = await stage.get([`preventad:bids/${candidate}`], { dir }, loggedIn);
    expect(summary).toMatchObject({ exit: 0, failed: 0 });
    expect(stage.requests("login")).toHaveLength(2);
  });

  it.each(["html", "flip", "cut"] as const)(
    "never stores what is not the data: %s (defect 8)",
    async (kind) => {
      const dir = await freshDir();
      stage.control.setFaults([
        { kind, route: "**/*T1w.nii.gz", ...(kind === "cut" ? { fraction: 0.5 } : {}) },
      ]);
      const { summary } = await stage.get([String(t1w?.address)], { dir }, { ...loggedIn, retries: 0 });
      expect(summary).toMatchObject({ failed: 1, stored: { items: 0 } });
      expect((await listFiles(dir)).filter((path) => path.endsWith(".nii.gz"))).toEqual([]);
    },
  );
});

describe("find preventad:", () => {
  it("names each file once (defect 11)", () => {
    expect(new Set(all.map(({ address }) => address)).size).toBe(all.length);
    expect(all.filter(({ Path }) => String(Path).endsWith("_scans.tsv")).length).toBeGreaterThan(0);
  });

  it("takes modality words as families, in any order (defects 13 and 22)", async () => {
    const one = await find(["preventad:"], { words: { modality: ["bold", "t1w"] } });
    const other = await find(["preventad:"], { words: { modality: ["T1W", "bold"] } });
    expect(images(one).sort()).toEqual(["bold", "t1w-defaced"]);
    expect(other).toEqual(one);
    // The tree keeps its description, so that it stays a BIDS dataset.
    expect(one.map(({ Path }) => Path)).toContain("dataset_description.json");
  });

  it("lists one candidate with the files of the study", async () => {
    const some = await find([`preventad:bids/sub-${candidate}`]);
    expect(new Set(some.map(({ Candidate }) => Candidate ?? undefined))).toEqual(
      new Set([candidate, undefined]),
    );
    expect(await find(["preventad:"], { words: { patient: [`sub-${candidate}`] } })).toEqual(some);
  });

  it("refuses words that the archive does not have", async () => {
    for (const words of [{ modality: ["xray"] }, { visit: ["NOWHEN"] }, { patient: ["1"] }])
      await expect(find(["preventad:"], { words })).rejects.toMatchObject({ code: "unknown-name" });
  });

  it("says why a login was refused", async () => {
    const env = { GANTRY_PREVENTAD_USER: "demo", GANTRY_PREVENTAD_PASSWORD: "wrong" };
    const { code, stderr } = await stage.run(["find", "preventad:"], { env });
    expect(code).toBe(4);
    expect(stderr).toContain("wrong user name or password");
  });

  it("drops a family of images whatever it was fetched with, and nothing that others share", async () => {
    const dir = await freshDir();
    await stage.get([`preventad:bids/sub-${candidate}`], { dir }, loggedIn);
    const before = await listFiles(dir);
    const fieldmaps = before.filter((path) => path.includes("/fmap/"));
    expect(fieldmaps.length).toBeGreaterThan(0);
    const { code, stderr } = await stage.run(["drop", dir, "--modality", "FieldMap", "--yes"]);
    expect(code, stderr).toBe(0);
    expect(await listFiles(dir)).toEqual(before.filter((path) => !fieldmaps.includes(path)));
    const one = await stage.run(["drop", dir, "--patient", `sub-${candidate}`, "--yes"]);
    expect(one.code, one.stderr).toBe(0);
    expect((await listFiles(dir)).filter((path) => path.startsWith("sub-"))).toEqual([]);
    expect(await listFiles(dir)).toContain("dataset_description.json");
  });
});
