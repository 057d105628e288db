/**
 * Each of the 22 defects that were observed of the published PREVENT-AD script (LAMID_PREVENT-AD, commit ee4ec46), one test
 * each that fails on the defect.
 */
import { readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { RunError } from "../../src/errors.ts";
import {
  eventsOf,
  filters,
  freshDir,
  listAll,
  listFiles,
  type RunResult,
  startStage,
  temporaryDir,
  until,
} from "../support/gantry.ts";
import { exportLinks, lorisAccount, lorisClient } from "../support/loris.ts";

const stage = await startStage();
const loggedIn = { environment: { ...stage.environment, ...lorisAccount }, retries: 0 };
const tree = [...(await exportLinks(await lorisClient(stage))).keys()];
beforeEach(() => stage.control.reset());

type Some = Parameters<typeof filters>[0];
const get = (dir: string, some: Some = {}, word = "preventad:", open = {}): Promise<RunResult> =>
  stage.get([word], { dir, filters: filters(some) }, { ...loggedIn, ...open });
const run = (args: readonly string[], more: Parameters<typeof stage.run>[1] = {}) =>
  stage.run(args, { env: lorisAccount, ...more });

const T1W: Some = { words: { modality: ["t1w"] } };
const first = (ending: string): string => tree.find((path) => path.endsWith(ending)) ?? "";
const nameOf = (path: string): string => path.slice(path.lastIndexOf("/") + 1);
const asked = (ending: string) => stage.control.requests().filter(({ path }) => path.endsWith(ending));
const endsWith = (files: readonly string[], ending: string): string[] =>
  files.filter((path) => path.endsWith(ending));

/** Programs are started, and the machine may be busy. */
const PATIENT_MS = 100_000;

describe("the published script's defect", { timeout: PATIENT_MS + 20_000 }, () => {
  it("1: files landed in the current folder in place of the one that -o names", async () => {
    const [cwd, dir] = [await temporaryDir(), await freshDir()];
    const { code } = await run(["get", "preventad:", "--modality", "t1w", "-o", dir], { cwd });
    expect(code).toBe(0);
    expect(endsWith(await listFiles(dir), "_T1w.nii.gz")).not.toEqual([]);
    expect(await readdir(cwd)).toEqual([]);
  });

  it("2: MINC ended at the first session with an image, because rows of images have no visit", async () => {
    const dir = await freshDir();
    const { summary } = await get(dir, { words: { visit: ["NAPBL00"] } }, "preventad:minc");
    expect(summary).toMatchObject({ exit: 0, failed: 0 });
    const images = endsWith(await listFiles(dir), ".mnc");
    expect(images.length).toBeGreaterThan(1);
    expect(images.filter((path) => path.split("/")[1] !== "NAPBL00")).toEqual([]);
  });

  it("3: a deleted file was never fetched again", async () => {
    const dir = await freshDir();
    await get(dir, T1W);
    const path = join(dir, first("_T1w.nii.gz"));
    const before = await readFile(path);
    await rm(path);
    await get(dir, T1W);
    expect(await readFile(path)).toEqual(before);
  });

  it("4: changed files of the study were never fetched again, their ETag being a constant", async () => {
    const dir = await freshDir();
    await get(dir, T1W);
    const etag = async (): Promise<string | null> =>
      (await (await lorisClient(stage)).get("/projects/loris/bids/participants.tsv")).headers.get("etag");
    const before = await etag();
    await stage.control.changeFile({
      file: "participants.tsv",
      change: "rewrite",
      text: "participant_id\nsub-1\n",
    });
    expect(await etag()).toBe(before);
    await get(dir, T1W);
    expect(await readFile(join(dir, "participants.tsv"), "utf8")).toBe("participant_id\nsub-1\n");
  });

  it("5: the ETag of a failure was taken for that of a file", async () => {
    const dir = await freshDir();
    const path = first("_T1w.nii.gz");
    await stage.control.changeFile({ file: nameOf(path), change: "remove" });
    const gone = await get(dir, T1W);
    expect(asked(nameOf(path)).map(({ status }) => status)).toContain(500);
    expect(gone.summary).toMatchObject({ exit: 3, failed: 1 });
    await stage.control.changeFile({ file: nameOf(path), change: "restore" });
    expect((await get(dir, T1W)).summary).toMatchObject({ exit: 0, stored: { items: 1 } });
    expect(await listFiles(dir)).toContain(path);
  });

  it("6: a reply without an ETag ended the run: a missing log, or a token after its end", async () => {
    const dir = await freshDir();
    stage.control.setFaults([
      { kind: "missing", route: "**/*_events.txt", count: 1 },
      { kind: "expired-token", route: "**/*_T1w.nii.gz", count: 1 },
    ]);
    const { summary } = await get(dir);
    expect(summary).toMatchObject({ exit: 3, failed: 1, stored: { items: tree.length - 1 } });
    expect(summary.failures[0]).toMatchObject({ code: "access-item" });
  });

  it("7: no retry, no second login, nothing at once, and no point to go on from", async () => {
    const dir = await freshDir();
    const some: Some = { words: { visit: ["NAPBL00"] } };
    const images = endsWith(tree, ".nii.gz").filter((path) => path.includes("/ses-NAPBL00/"));
    const still = images.find((path) => path.endsWith("_bold.nii.gz")) ?? "";
    stage.control.setFaults([
      { kind: "503", route: "**/*_T1w.nii.gz", count: 2, retryAfter: 0 },
      { kind: "expired-token", route: "**/*_T1w.json", count: 1 },
      { kind: "stall", route: `**/${nameOf(still)}`, fraction: 0.5 },
    ]);
    const stop = new AbortController();
    const going = get(dir, some, "preventad:", { retries: 3, signal: stop.signal });
    // While one file stands still, all others come.
    const others = images.filter((path) => path !== still);
    const isHere = async (): Promise<boolean> => {
      const here = await listFiles(dir);
      return others.every((path) => here.includes(path));
    };
    await until("all others", isHere, PATIENT_MS);
    stop.abort(new RunError("interrupted", "stopped by a test"));
    await going;
    expect(stage.requests("login").length).toBe(2);
    stage.control.setFaults([]);
    const { summary } = await get(dir, some);
    expect(summary).toMatchObject({ exit: 0, failed: 0 });
    expect(summary.here.items).toBeGreaterThanOrEqual(others.length);
  });

  it.each(["cut", "flip", "html", "empty-body"] as const)(
    "8: what came was not checked, and written under its name at once (%s)",
    async (kind) => {
      const dir = await freshDir();
      stage.control.setFaults([
        { kind, route: "**/*_T1w.nii.gz", ...(kind === "cut" ? { fraction: 0.5 } : {}) },
      ]);
      const { summary } = await get(dir, { ...T1W, limit: 1 });
      expect(summary).toMatchObject({ exit: 3, failed: 1 });
      expect(endsWith(await listFiles(dir), ".nii.gz")).toEqual([]);
    },
  );

  it("9: whole files were held in memory", async () => {
    const dir = await freshDir();
    const path = first("_T1w.nii.gz");
    stage.control.setFaults([{ kind: "stall", route: `**/${nameOf(path)}`, fraction: 0.5 }]);
    const stop = new AbortController();
    const going = get(dir, { ...T1W, limit: 1 }, "preventad:", { signal: stop.signal });
    // What has come is on the disk before the rest is there.
    const half = asked(nameOf(path));
    await until(
      "half a file",
      async () => {
        for (const each of await listAll(join(dir, ".gantry/partial")))
          if (((await stat(join(dir, ".gantry/partial", each)).catch(() => null))?.size ?? 0) > 1000)
            return true;
        return false;
      },
      PATIENT_MS,
    );
    expect(half.every(({ ending }) => ending !== "complete")).toBe(true);
    stop.abort(new RunError("interrupted", "stopped by a test"));
    await going;
  });

  it("10: candidate.json and session.json were Python, not JSON", async () => {
    const dir = await freshDir();
    await get(dir, { words: { visit: ["NAPBL00"] } }, "preventad:minc");
    const files = (await listFiles(dir)).filter((path) => /(candidate|session)\.json$/u.test(path));
    expect(files.length).toBeGreaterThan(1);
    for (const path of files)
      expect(JSON.parse(await readFile(join(dir, path), "utf8"))).toBeTypeOf("object");
  });

  it("11: files of a session were asked for once an image", async () => {
    const dir = await freshDir();
    await get(dir, { words: { visit: ["NAPBL00"] } });
    const tables = asked("_scans.tsv").map(({ path }) => path);
    expect(tables.length).toBeGreaterThan(0);
    expect(new Set(tables).size).toBe(tables.length);
  });

  it("12: a part of the tree named images that were not there", async () => {
    const dir = await freshDir();
    await get(dir, T1W);
    const [table = ""] = endsWith(await listFiles(dir), "_scans.tsv");
    const folder = table.slice(0, table.lastIndexOf("/") + 1);
    const [, ...rows] = (await readFile(join(dir, table), "utf8")).trimEnd().split("\n");
    const here = await listFiles(dir);
    for (const row of rows) expect(here).toContain(folder + row.split("\t")[0]);
  });

  it("13: words took what only looks like them", async () => {
    const dir = await freshDir();
    await get(dir, { words: { modality: ["T2star"] } });
    const files = endsWith(await listFiles(dir), ".nii.gz");
    expect(files).not.toEqual([]);
    expect(files.filter((path) => path.includes("echo-"))).toEqual([]);
    const minc = await freshDir();
    await get(minc, { words: { modality: ["asl"] } }, "preventad:minc");
    const images = endsWith(await listFiles(minc), ".mnc");
    expect(images).not.toEqual([]);
    expect(images.filter((path) => path.includes("pcasl"))).toEqual([]);
  });

  it("14: documented long options were refused without a word", async () => {
    const dir = await freshDir();
    const long = ["--modality", "t1w", "--visit", "NAPBL00", "--output", dir, "--dry-run"];
    expect(await run(["get", "preventad:", ...long])).toMatchObject({ code: 0 });
    const unknown = await run(["get", "preventad:", "--visitlabels", "NAPBL00", "-o", dir]);
    expect(unknown.code).toBe(2);
    expect(unknown.stderr).toContain("--visitlabels");
  });

  it("15: an exit status said nothing: a refused login was 0", async () => {
    const dir = await freshDir();
    const env = { ...lorisAccount, GANTRY_PREVENTAD_PASSWORD: "wrong" };
    const login = await run(["get", "preventad:", "-o", dir], { env });
    expect(login.code).toBe(4);
    expect(login.stderr).not.toBe("");
    const taken = join(await temporaryDir(), "taken");
    await writeFile(taken, "a file");
    const folder = await run(["get", "preventad:", "--modality", "t1w", "-o", taken]);
    expect([2, 7]).toContain(folder.code);
    expect(folder.stderr).toContain(taken);
    const word = await run(["get", "preventad:", "--modality", "xray", "-o", await freshDir()]);
    expect(word.code).toBe(2);
  });

  it("16: one accented name ended the run", async () => {
    const dir = await freshDir();
    const { summary } = await get(dir, { words: { visit: ["NAPBL00"] } }, "preventad:minc");
    expect(summary).toMatchObject({ exit: 0, failed: 0 });
    let sites = "";
    for (const path of endsWith(await listFiles(dir), "session.json"))
      sites += await readFile(join(dir, path), "utf8");
    expect(sites).toContain("Montréal");
  });

  it("17: messages named the wrong file, and debug output was among them", async () => {
    const dir = await freshDir();
    const { code, stdout } = await run(["get", "preventad:", "--modality", "t1w", "-o", dir]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: "" });
    const { events } = await get(await freshDir(), T1W);
    const stored = eventsOf(events, "item-stored");
    expect(stored.map(({ address }) => address)).toContain("preventad:bids/participants.tsv");
    for (const { item, address } of stored) expect(nameOf(item)).toBe(nameOf(address.replace(":", "/")));
  });

  it("18: an empty If-None-Match was sent for what was not there", async () => {
    await get(await freshDir(), T1W);
    await get(await freshDir(), { words: { visit: ["NAPBL00"] } }, "preventad:minc");
    const conditions = stage.control.requests().map(({ headers }) => headers["if-none-match"]);
    expect(conditions.length).toBeGreaterThan(10);
    expect(new Set(conditions)).toEqual(new Set([undefined]));
  });

  it("19: a folder that was not there was called not writable, and not made", async () => {
    const dir = join(await freshDir(), "deep", "below");
    expect((await get(dir, T1W)).summary).toMatchObject({ exit: 0 });
    expect(await listFiles(dir)).toContain("participants.tsv");
  });

  it("20: a failure was kept for good as .qc.json", async () => {
    const dir = await freshDir();
    const some: Some = { words: { visit: ["NAPBL00"], modality: ["t1w"] } };
    stage.control.setFaults([{ kind: "500", route: "**/qc" }]);
    const { summary } = await get(dir, some, "preventad:minc");
    expect(summary.failed).toBeGreaterThan(0);
    expect(endsWith(await listFiles(dir), ".qc.json")).toEqual([]);
    stage.control.setFaults([]);
    expect((await get(dir, some, "preventad:minc")).summary).toMatchObject({ exit: 0 });
    for (const path of endsWith(await listFiles(dir), ".qc.json"))
      expect(JSON.parse(await readFile(join(dir, path), "utf8"))).toHaveProperty("QC");
  });

  it("21: one host, and a password only by prompt", async () => {
    const dir = await freshDir();
    const file = join(await temporaryDir(), "password");
    await writeFile(file, "demo\n", { mode: 0o600 });
    const login = ["login", "loris-m28", "--user", "demo", "--password-file", file];
    expect(await stage.run(login)).toMatchObject({ code: 0 });
    const { code, stderr } = await stage.run(["get", "loris-m28:minc", "--limit", "1", "-o", dir]);
    expect(code, stderr).toBe(0);
    const none = { GANTRY_PREVENTAD_USER: "", GANTRY_PREVENTAD_PASSWORD: "" };
    const nobody = await stage.run(["get", "preventad:", "-o", await freshDir()], { env: none });
    expect(nobody.code).toBe(4);
    expect(nobody.stderr).toContain("GANTRY_PREVENTAD_USER");
  });

  it("22: of a list that began with bold nothing else was fetched", async () => {
    const [one, other] = [await freshDir(), await freshDir()];
    await get(one, { words: { modality: ["bold", "t1w"] } });
    await get(other, { words: { modality: ["t1w", "bold"] } });
    const files = await listFiles(one);
    expect(endsWith(files, "_T1w.nii.gz")).not.toEqual([]);
    expect(endsWith(files, "_bold.nii.gz")).not.toEqual([]);
    expect(await listFiles(other)).toEqual(files);
  });
});
