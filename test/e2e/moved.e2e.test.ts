import { mkdir, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
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

describe("files that somebody moved", () => {
  let stage: Stage;
  let dir: string;
  let images: string[];

  beforeEach(async () => {
    stage = await startStage({ data: smallArchive() });
    dir = await freshDir();
    await stage.get(["tcia:"], { dir });
    images = (await listFiles(dir)).filter((path) => path.endsWith(".dcm"));
    stage.control.clearRequests();
  });

  const move = async (from: string, to: string): Promise<void> => {
    await mkdir(dirname(join(dir, to)), { recursive: true });
    await rename(join(dir, from), join(dir, to));
  };

  it("are found by their bytes, told, and not fetched again", async () => {
    const [from] = images;
    await move(from ?? "", "elsewhere/renamed by hand.dcm");
    const before = await hashTree(dir);
    const { summary, events } = await stage.get([], { dir });
    expect(summary).toMatchObject({ exit: 0, stored: { items: 0 }, here: { items: 6 } });
    expect(eventsOf(events, "item-moved")).toMatchObject([{ from, to: "elsewhere/renamed by hand.dcm" }]);
    expect(stage.requests("getImage")).toHaveLength(0);
    expect(await hashTree(dir)).toEqual(before);
    expect((await stage.get([], { dir })).events.filter((event) => event.type === "item-moved")).toEqual([]);
    expect((await runVerify(dir, { strict: true })).summary).toMatchObject({ exit: 0, extra: 0, moved: 0 });
  });

  it("verify tells them, too; they count only with --strict", async () => {
    await move(images[0] ?? "", "elsewhere/a.dcm");
    const strict = await stage.run(["verify", dir, "--strict"]);
    expect(strict.code).toBe(6);
    // It was receipted as moved by then.
    expect((await stage.run(["verify", dir, "--strict"])).code).toBe(0);
  });

  it("a whole series folder under another name stays where it is; a refresh goes there", async () => {
    const folder = dirname(images.find((path) => path.startsWith("Brain MR/")) ?? "");
    await move(folder, "my brains/first");
    expect((await stage.get([], { dir })).summary).toMatchObject({ exit: 0, stored: { items: 0 } });
    stage.control.change({ uid: "1.2.840.1.3", change: "remove-image", image: 0 });
    expect((await stage.get([], { dir })).summary).toMatchObject({ exit: 0, stored: { items: 1, files: 2 } });
    const now = (await listFiles(dir)).filter((path) => path.startsWith("my brains/"));
    expect(now).toHaveLength(2);
    expect(
      (await listFiles(dir)).filter((path) => path.startsWith("Brain MR/") && path.endsWith(".dcm")),
    ).toEqual([]);
  });

  it("a moved file among damaged ones does not hide the damage", async () => {
    const series = images.filter((path) => dirname(path) === dirname(images[0] ?? ""));
    expect(series.length).toBeGreaterThan(1);
    await move(series[0] ?? "", "elsewhere/a.dcm");
    await writeFile(join(dir, series[1] ?? ""), "broken");
    const { summary } = await stage.get([], { dir });
    expect(summary).toMatchObject({ exit: 0, stored: { items: 1 } });
    expect((await runVerify(dir)).summary).toMatchObject({ exit: 0, changed: 0, missing: 0 });
  });
});

describe("--prune", () => {
  it("moves what no selection knows out of the selection's own folders, and deletes nothing", async () => {
    const stage = await startStage({ data: smallArchive() });
    const dir = await freshDir();
    await stage.get(["tcia:"], { dir });
    const images = (await listFiles(dir)).filter(
      (path) => path.startsWith("LUNG CT/") && path.endsWith(".dcm"),
    );
    const before = await hashTree(dir);
    const own = dirname(images[0] ?? "");
    const foreign = dirname((await listFiles(dir)).find((path) => path.startsWith("Brain MR/b-1/")) ?? "");
    await writeFile(join(dir, own, "notes.txt"), "mine");
    await writeFile(join(dir, foreign, "notes.txt"), "not of this selection");
    await writeFile(join(dir, "README"), "in the target folder itself");
    const pruned = await stage.run(["get", "tcia:LUNG CT", "-o", dir, "--prune", "--json"]);
    expect(pruned.code, pruned.stderr).toBe(0);
    expect(pruned.stdout).toContain('"quarantined"');
    expect(await hashTree(dir)).toEqual({
      ...before,
      [join(foreign, "notes.txt")]: expect.any(String),
      README: expect.any(String),
    });
    const kept = (await listAll(dir)).filter((path) => path.startsWith(".gantry/quarantine/"));
    expect(kept).toHaveLength(1);
    expect(kept[0]).toMatch(new RegExp(`/${own.replace(/[.*+?^${}()|[\]\\]/gu, "\\$&")}/notes\\.txt$`, "u"));
  });
});
