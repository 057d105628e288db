import { spawnSync } from "node:child_process";
import {
  appendFile,
  copyFile,
  lstat,
  mkdir,
  readdir,
  readFile,
  rename,
  symlink,
  writeFile,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { verify } from "../../src/index.ts";
import { smallArchive } from "../support/dataset.ts";
import {
  filters,
  freshDir,
  hashTree,
  listAll,
  listFiles,
  runVerify,
  type Stage,
  startStage,
  temporaryDir,
  until,
} from "../support/gantry.ts";

/** Of the subject, patient P1 of LUNG CT: 4 images, 3 images, none. */
const [FIRST, SECOND, EMPTY] = ["1.2.840.1.1", "1.2.840.1.2", "1.2.840.1.5"] as const;
const OWN = new Set([FIRST, SECOND, EMPTY].map((uid) => `dicom-series:${uid}`));
const P1 = "tcia:LUNG CT/P1";
const hasStrace = spawnSync("strace", ["-V"]).status === 0;

interface Line {
  readonly item: string;
  readonly type: string;
}

describe("drop", () => {
  let stage: Stage;
  let dir: string;

  beforeEach(async () => {
    stage = await startStage({ data: smallArchive() });
    dir = await freshDir();
    expect((await stage.get(["tcia:"], { dir })).summary.exit).toBe(0);
    stage.control.clearRequests();
  });

  const drop = (...args: string[]) => stage.run(["drop", dir, ...args]);
  const removedLines = async (): Promise<(Line & { text: string })[]> => {
    const found: (Line & { text: string })[] = [];
    for (const path of await listAll(dir)) {
      if (!path.startsWith(".gantry/receipts/")) continue;
      for (const text of (await readFile(join(dir, path), "utf8")).split("\n").slice(1)) {
        if (text === "") continue;
        const line = JSON.parse(text) as Line;
        if (line.type === "removed") found.push({ ...line, text });
      }
    }
    return found;
  };
  const askedFor = (): unknown[] => stage.requests("getImage").map(({ query }) => query.SeriesInstanceUID);
  /** The folder holds what a get of all but the subject leaves, proved, and nothing of it is asked for again. */
  const expectGone = async (): Promise<void> => {
    const other = await freshDir("other");
    expect((await stage.get(["tcia:"], { dir: other })).summary.exit).toBe(0);
    const wanted = Object.fromEntries(
      Object.entries(await hashTree(other)).filter(
        ([path]) => !/\/P1\//u.test(path) && path !== "metadata.csv",
      ),
    );
    const { "metadata.csv": _, ...tree } = await hashTree(dir);
    expect(tree).toEqual(wanted);
    expect((await runVerify(dir, { strict: true })).summary).toMatchObject({ exit: 0, extra: 0, missing: 0 });
    for (const path of ["metadata.csv", ".gantry/listing.tsv"])
      expect(await readFile(join(dir, path), "utf8"), path).not.toMatch(/\bP1\b/u);
    stage.control.clearRequests();
  };

  it("a dropped subject is gone, remembered by opaque ids, and no get of the folder fetches it again", async () => {
    const dropped = await drop(P1, "--yes");
    expect(dropped.code, dropped.stderr).toBe(0);
    expect(dropped.stderr).toContain("Dropped 3 items");
    expect(stage.control.requests()).toEqual([]);
    await expectGone();

    const lines = await removedLines();
    expect(new Set(lines.map(({ item }) => item))).toEqual(OWN);
    for (const { text } of lines) expect(text).not.toMatch(/P1|LUNG|\.dcm/u);
    for (const path of (await listAll(dir)).filter((each) => each.startsWith(".gantry/dropped/")))
      expect(await readFile(join(dir, path), "utf8")).not.toMatch(/P1|LUNG/u);

    for (const words of [[], ["tcia:"], ["tcia:LUNG CT"]]) {
      const { summary } = await stage.get(words, { dir });
      expect(summary, JSON.stringify(words)).toMatchObject({
        exit: 0,
        failed: 0,
        dropped: 3,
        stored: { items: 0 },
      });
    }
    expect(
      (await stage.get(["tcia:LUNG CT"], { dir, replace: true, prune: true, recheck: true })).summary,
    ).toMatchObject({ exit: 0, dropped: 3, stored: { items: 0 } });
    expect(askedFor()).toEqual([]);
    await expectGone();
    const status = await stage.run(["status", dir, "--check", "--format", "json"]);
    expect(status.code, status.stdout).toBe(0);
    expect(JSON.parse(status.stdout)).toMatchObject([
      { dropped: 3, missing: 0, withdrawn: 1, state: "complete" },
    ]);
    const told = await stage.run(["get", "-o", dir, "--dry-run", "--format", "tsv"]);
    expect(told.stdout).toMatch(/^dropped\t3\t/mu);
    expect((await stage.run(["get", "-o", dir])).stderr).toMatch(/dropped from this folder: 3/u);
  });

  it("what a killed run left without a receipt goes with its subject", async () => {
    // As after a kill between the rename of a folder and its receipt: the images are there, and no line names them.
    const folder = join(dir, ".gantry/receipts");
    for (const name of await readdir(folder)) {
      const lines = (await readFile(join(folder, name), "utf8")).split("\n");
      const kept = lines.filter(
        (line, index) => index === 0 || ![...OWN].some((id) => line.includes(`"${id}"`)),
      );
      await writeFile(join(folder, name), kept.join("\n"));
    }
    const dropped = await drop(P1, "--yes");
    expect(dropped.code, dropped.stderr).toBe(0);
    await expectGone();
  });

  it("a series that the archive adds to a dropped subject later stays away, and so does its single image", async () => {
    stage.control.change({ uid: SECOND, change: "withdraw" });
    const own = await freshDir("own");
    await stage.get(["tcia:LUNG CT"], { dir: own });
    expect((await stage.run(["drop", own, P1.toLowerCase(), "--yes"])).code).toBe(0);
    stage.control.change({ uid: SECOND, change: "restore" });
    stage.control.clearRequests();
    expect((await stage.get([], { dir: own })).summary).toMatchObject({
      exit: 0,
      dropped: 3,
      stored: { items: 0 },
    });
    expect((await stage.run(["status", own, "--check"])).code).toBe(0);
    const image = await stage.run(["get", `tcia:${SECOND}/${SECOND}.1`, "-o", own]);
    expect([image.code, image.stderr]).toEqual([2, expect.stringContaining("dropped")]);
    expect(askedFor()).toEqual([]);
    expect(stage.requests("getSingleImage")).toEqual([]);
  });

  it("who asks for nothing but what was dropped is told so with exit 2, and leaves no trace", async () => {
    await drop(P1, "--yes");
    const before = await listAll(dir);
    const asked = await stage.run(["get", P1, "-o", dir]);
    expect([asked.code, asked.stderr]).toEqual([2, expect.stringContaining("was dropped from")]);
    expect((await stage.run(["get", P1, "-o", dir, "--dry-run"])).code).toBe(2);
    const state = (paths: string[]) => paths.filter((path) => !/\.gantry\/(runs|logs)\//u.test(path));
    expect(state(await listAll(dir))).toEqual(state(before));
    const status = await stage.run(["status", dir, "--format", "json"]);
    expect(JSON.parse(status.stdout)).toMatchObject([{ askingRequests: 0, missing: 0, dropped: 3 }]);
  });

  it("a folder that was asked for the subject alone is empty and at peace, also when the archive shows it no more", async () => {
    const own = await freshDir("own");
    await stage.get([P1], { dir: own });
    expect((await stage.run(["drop", own, "--patient", "P1", "--yes"])).code).toBe(0);
    expect(await listFiles(own)).toEqual([]);
    for (const uid of [FIRST, SECOND, EMPTY]) stage.control.change({ uid, change: "withdraw" });
    expect((await stage.get([], { dir: own })).summary).toMatchObject({ exit: 0, dropped: 3 });
    expect((await stage.run(["status", own, "--check"])).code).toBe(0);
    expect((await runVerify(own)).summary.exit).toBe(0);
  });

  it("two selections that name it, copies in quarantine, edited and moved files, lists of sums: all go", async () => {
    await stage.get([`tcia:${FIRST}`], { dir });
    stage.control.change({ uid: FIRST, change: "replace-bytes", image: 1 });
    stage.control.change({ uid: FIRST, change: "touch" });
    await stage.get([], { dir });
    expect((await listAll(dir)).some((path) => path.startsWith(".gantry/quarantine/"))).toBe(true);
    const files = (await listFiles(dir)).filter((path) => /\/P1\//u.test(path) && path.endsWith(".dcm"));
    const [edited = "", moved = "", copied = "", linked = ""] = files;
    await appendFile(join(dir, edited), "an edit");
    await rename(join(dir, moved), join(dir, "renamed.dcm"));
    await copyFile(join(dir, copied), join(dir, "copy.dcm"));
    const outside = join(await temporaryDir(), "outside.dcm");
    await rename(join(dir, linked), outside);
    await symlink(outside, join(dir, linked));
    await writeFile(join(dir, "notes.txt"), "mine");
    await writeFile(join(dir, dirname(copied), "segmentation.nii"), "mine, too");
    expect((await stage.run(["verify", dir, "--write-sums"])).code).toBe(0);
    const dropped = await drop(P1, "--yes");
    expect(dropped.code, dropped.stderr).toBe(0);
    const left = await listAll(dir);
    expect(left.filter((path) => /quarantine|renamed|copy|MD5SUMS/u.test(path))).toEqual([]);
    expect(left.filter((path) => /\/P1\//u.test(path) && !path.startsWith(".gantry/"))).toEqual([
      `${dirname(copied)}/segmentation.nii`,
    ]);
    expect(await readFile(join(dir, "notes.txt"), "utf8")).toBe("mine");
    // Behind a link is not in the folder.
    expect((await lstat(outside)).isFile()).toBe(true);
    expect((await runVerify(dir)).summary).toMatchObject({ exit: 0, extra: 2 });
  });

  it("nothing behind a linked folder is deleted; it is said, and the drop is finished once the link is gone", async () => {
    const file = (await listFiles(dir)).find((path) => /\/P1\//u.test(path)) ?? "";
    const folder = dirname(file);
    const outside = join(await temporaryDir(), "outside");
    await rename(join(dir, folder), outside);
    await symlink(outside, join(dir, folder));
    const refused = await drop(P1, "--yes");
    expect([refused.code, refused.stderr]).toEqual([7, expect.stringContaining("symbolic link")]);
    expect((await listAll(outside)).length).toBeGreaterThan(0);
    const warned = await stage.run(["get", "-o", dir]);
    expect([warned.code, warned.stderr]).toEqual([0, expect.stringContaining("not all deleted")]);
    expect(spawnSync("rm", [join(dir, folder)]).status).toBe(0);
    expect((await drop(P1, "--yes")).code).toBe(0);
    await expectGone();
  });

  it.skipIf(!hasStrace).each([
    ["drop", ["drop", "DIR", P1, "--yes"]],
    ["get", ["get", "-o", "DIR"]],
  ])("killed between the receipts and the deletion: %s finishes it (needs strace)", async (_, again) => {
    const file = join(dir, (await listFiles(dir)).find((path) => path.includes("/P1/")) ?? "");
    const killed = await stage.run(["drop", dir, P1, "--yes"], {
      prefix: [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-P",
        file,
        "-e",
        "inject=unlink,unlinkat:signal=KILL",
      ],
    });
    expect([null, 137], killed.stderr).toContain(killed.code);
    expect(new Set((await removedLines()).map(({ item }) => item))).toEqual(OWN);
    expect((await listFiles(dir)).some((path) => /\/P1\//u.test(path))).toBe(true);
    const run = verify(dir);
    const warnings: string[] = [];
    for await (const event of run) if (event.type === "warning") warnings.push(event.message);
    expect([(await run.result).exit, warnings]).toEqual([0, [expect.stringContaining("drop")]]);
    const finished = await stage.run(again.map((word) => (word === "DIR" ? dir : word)));
    expect(finished.code, finished.stderr).toBe(0);
    expect(askedFor()).toEqual([]);
    await expectGone();
    expect((await removedLines()).length).toBe(OWN.size);
  });

  it.skipIf(!hasStrace)("killed before the receipts: a get finishes it (needs strace)", async () => {
    const dropped = join(dir, ".gantry/dropped");
    await mkdir(dropped);
    const killed = await stage.run(["drop", dir, "--modality", "PT", "--yes"], {
      // The folder is synced when the record has its name.
      prefix: ["strace", "-f", "-qq", "-o", "/dev/null", "-P", dropped, "-e", "inject=fsync:signal=KILL"],
    });
    expect([null, 137], killed.stderr).toContain(killed.code);
    const pending = async (): Promise<number> =>
      (await listAll(dropped)).filter((path) => path.endsWith(".pending.jsonl")).length;
    expect([await pending(), await removedLines()]).toEqual([1, []]);
    const files = (await listFiles(dir)).length;
    expect((await stage.get([], { dir })).summary).toMatchObject({
      exit: 0,
      dropped: 1,
      stored: { items: 0 },
    });
    expect((await removedLines()).map(({ item }) => item)).toEqual(["dicom-series:1.2.840.1.6"]);
    expect([await pending(), (await listFiles(dir)).length]).toEqual([0, files - 3]);
  });

  it("one study, one series, by filter or by address; a narrow filter remembers items only", async () => {
    expect((await drop("--series", SECOND, "--yes")).code).toBe(0);
    expect((await removedLines()).map(({ item }) => item)).toEqual([`dicom-series:${SECOND}`]);
    expect((await drop("tcia:1.2.840.1.71", "--yes")).code).toBe(0);
    expect((await removedLines()).map(({ item }) => item).sort()).toEqual(
      [`dicom-series:${SECOND}`, `dicom-series:${EMPTY}`].sort(),
    );
    const gantry = await stage.openGantry();
    const options = { dir, filters: filters({ words: { modality: ["mr"] } }) };
    expect(await gantry.drop([], options)).toMatchObject({
      done: true,
      branches: [],
      going: { items: 1, files: 3 },
    });
    await gantry.close();
    expect((await stage.get([], { dir })).summary).toMatchObject({ exit: 0, dropped: 3 });
  });

  it("shows first, asks first, refuses what it can't mean", async () => {
    const before = await hashTree(dir);
    const shown = await drop("--patient", "P1", "--dry-run", "--format", "json");
    expect([shown.code, JSON.parse(shown.stdout)[0]]).toMatchObject([
      0,
      { what: "to delete", items: 3, files: 7 },
    ]);
    const unasked = await drop(P1);
    expect([unasked.code, unasked.stderr]).toEqual([2, expect.stringContaining("--yes")]);
    const gantry = await stage.openGantry();
    const asked = await gantry.drop([P1], { dir, filters: filters({}), confirm: async () => false });
    expect(asked).toMatchObject({ done: false, going: { items: 3 } });
    await gantry.close();
    for (const [args, says] of [
      [["tcia:LUNG CT/P11"], /did you mean P1/u],
      [["--patient", "nobody-at-all"], /known here are/u],
      [["--modality", "US"], /nothing/u],
      [["tcia:"], /nothing was named/u],
      [[], /nothing was named/u],
      [["--patient", "P1", "--limit", "1"], /--limit/u],
      [[`tcia:${FIRST}/${FIRST}.1`], /can't be dropped alone/u],
      [["cart.tcia"], /no address/u],
    ] as [string[], RegExp][]) {
      const refused = await drop(...args, "--yes");
      expect([args, refused.code, refused.stderr]).toEqual([args, 2, expect.stringMatching(says)]);
    }
    expect(await hashTree(dir)).toEqual(before);
    expect(await removedLines()).toEqual([]);
    expect((await stage.run(["drop", await temporaryDir(), P1, "--yes"])).code).toBe(2);
  });

  it("is refused while a run is at work", async () => {
    stage.control.change({ uid: FIRST, change: "touch" });
    stage.control.setFaults([{ kind: "stall", route: "**/getImage", count: 1 }]);
    const first = stage.start(["get", "-o", dir]);
    await until("a transfer hangs", () => stage.requests("getImage").length > 0);
    const refused = await drop(P1, "--yes");
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining(String(first.pid))]);
    first.kill("SIGKILL");
    await first.ended;
    // What it left unfinished goes with the rest.
    expect((await drop(P1, "--yes")).code).toBe(0);
    await expectGone();
    expect((await listAll(dir)).filter((path) => path.startsWith(".gantry/partial/"))).toEqual([]);
  });

  it("what another item holds now is not deleted by a drop that is finished late", async () => {
    const path =
      (await listFiles(dir)).find((each) => each.includes("/P1/") && each.endsWith("1-1.dcm")) ?? "";
    expect((await drop(P1, "--yes")).code).toBe(0);
    // As if the power had failed before the drop said that it was finished.
    for (const each of await listAll(join(dir, ".gantry/dropped")))
      await rename(
        join(dir, ".gantry/dropped", each),
        join(dir, ".gantry/dropped", each.replace(/\.jsonl$/u, ".pending.jsonl")),
      );
    const other =
      (await listFiles(dir)).find((each) => each.includes("Brain MR/") && each.endsWith("1-1.dcm")) ?? "";
    await mkdir(dirname(join(dir, path)), { recursive: true });
    await rename(join(dir, other), join(dir, path));
    expect((await runVerify(dir)).summary).toMatchObject({ exit: 0, moved: 1 });
    const again = await drop(P1, "--yes");
    expect([again.code, again.stderr]).toEqual([0, expect.stringContaining("Dropped before: 3 items")]);
    expect((await runVerify(dir)).summary).toMatchObject({ exit: 0, missing: 0, extra: 0 });
    expect(await listFiles(dir)).toContain(path);
  });
});
