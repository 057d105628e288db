import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { smallArchive } from "../support/dataset.ts";
import {
  eventsOf,
  freshDir,
  hashTree,
  listAll,
  listFiles,
  runVerify,
  type Stage,
  startStage,
} from "../support/gantry.ts";

const SERIES = "1.2.840.1.1";

describe("an archive that changed since the last get", () => {
  let stage: Stage;
  let dir: string;

  beforeEach(async () => {
    stage = await startStage({ data: smallArchive() });
    dir = await freshDir();
    expect((await stage.get(["tcia:"], { dir })).summary.exit).toBe(0);
    stage.control.clearRequests();
  });

  /** After the change a refreshed folder equals a fresh one. */
  const expectAsFresh = async (): Promise<void> => {
    const fresh = await freshDir("fresh");
    expect((await stage.get(["tcia:"], { dir: fresh })).summary.exit).toBe(0);
    expect(await hashTree(dir)).toEqual(await hashTree(fresh));
    expect((await runVerify(dir)).summary).toMatchObject({ exit: 0, extra: 0 });
  };

  it("a changed series is fetched and swapped whole; the old files lie in quarantine", async () => {
    stage.control.change({ uid: SERIES, change: "replace-bytes", image: 1 });
    stage.control.change({ uid: SERIES, change: "touch" });
    const { summary } = await stage.get([], { dir });
    expect(summary).toMatchObject({ exit: 0, stored: { items: 1, files: 4 } });
    expect(stage.requests("getImage").map((request) => request.query.SeriesInstanceUID)).toEqual([SERIES]);
    await expectAsFresh();
    const quarantined = (await listAll(dir)).filter((path) => path.startsWith(".gantry/quarantine/"));
    expect(quarantined.length).toBeGreaterThan(0);
  });

  it("a series that lost an image loses the file", async () => {
    const before = (await listFiles(dir)).length;
    stage.control.change({ uid: SERIES, change: "remove-image", image: 0 });
    expect((await stage.get([], { dir })).summary).toMatchObject({ exit: 0, stored: { items: 1, files: 3 } });
    expect((await listFiles(dir)).length).toBe(before - 1);
    await expectAsFresh();
  });

  it("a series whose refresh fails keeps its old files under their names", async () => {
    const before = await hashTree(dir);
    stage.control.change({ uid: SERIES, change: "remove-image", image: 0 });
    stage.control.setFaults([{ kind: "wrong-bytes", route: "**/getImage" }]);
    const { summary } = await stage.get([], { dir }, { retries: 0 });
    expect(summary).toMatchObject({ exit: 3, failed: 1, failures: [{ code: "proof-digest" }] });
    expect(await hashTree(dir)).toEqual(before);
    stage.control.setFaults([]);
    expect((await stage.get([], { dir })).summary.exit).toBe(0);
    await expectAsFresh();
  });

  it("a withdrawn series stays, is told as withdrawn, and counts as no failure", async () => {
    const before = await hashTree(dir);
    stage.control.change({ uid: SERIES, change: "withdraw" });
    const refreshed = await stage.run(["get", "-o", dir]);
    expect(refreshed.code, refreshed.stderr).toBe(0);
    expect(refreshed.stderr + refreshed.stdout).toMatch(/no longer in the archive/u);
    expect(stage.requests("getImage")).toHaveLength(0);
    expect(await hashTree(dir)).toEqual(before);
    const status = await stage.run(["status", dir, "--format", "json"]);
    expect(status.code, status.stderr).toBe(0);
    const verified = await runVerify(dir);
    expect(verified.summary.exit).toBe(0);
    // Expected no more, so that a later get does not ask for it either.
    const again = await stage.get([], { dir });
    expect(again.summary).toMatchObject({ exit: 0, failed: 0, stored: { items: 0 } });
  });

  it("a withdrawn series that was asked for by its UID is withdrawn, too, and not a failure", async () => {
    const own = await freshDir("own");
    expect((await stage.get([`tcia:${SERIES}`], { dir: own })).summary.exit).toBe(0);
    stage.control.change({ uid: SERIES, change: "withdraw" });
    const { summary, events } = await stage.get([], { dir: own });
    expect(summary).toMatchObject({ exit: 0, failed: 0, withdrawn: 1 });
    expect(eventsOf(events, "item-withdrawn")).toHaveLength(1);
  });

  it("a new series is fetched, alone", async () => {
    const own = await freshDir("own");
    stage.control.change({ uid: SERIES, change: "withdraw" });
    await stage.get(["tcia:"], { dir: own });
    stage.control.change({ uid: SERIES, change: "restore" });
    stage.control.clearRequests();
    expect((await stage.get([], { dir: own })).summary).toMatchObject({ exit: 0, stored: { items: 1 } });
    expect(stage.requests("getImage")).toHaveLength(1);
    expect(await hashTree(own)).toEqual(await hashTree(dir));
  });

  it("a relabelled series keeps its path and its bytes; metadata.csv has the new words", async () => {
    const before = await listFiles(dir);
    stage.control.change({ uid: SERIES, change: "relabel", seriesDescription: "quite another name" });
    const { summary } = await stage.get([], { dir });
    expect(summary).toMatchObject({ exit: 0, stored: { items: 0 } });
    expect(stage.requests("getImage")).toHaveLength(0);
    expect(await listFiles(dir)).toEqual(before);
    expect(await readFile(join(dir, "metadata.csv"), "utf8")).toContain("quite another name");
  });

  it("a series of another patient now keeps its path", async () => {
    const before = await listFiles(dir);
    stage.control.change({ uid: SERIES, change: "rename-patient", patientId: "P9" });
    expect((await stage.get([], { dir })).summary).toMatchObject({ exit: 0, stored: { items: 0 } });
    expect(await listFiles(dir)).toEqual(before);
    expect((await runVerify(dir)).summary.exit).toBe(0);
  });
});
