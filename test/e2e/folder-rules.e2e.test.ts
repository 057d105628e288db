import { mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { smallArchive } from "../support/dataset.ts";
import {
  freshDir,
  hashTree,
  listAll,
  listFiles,
  type Stage,
  startStage,
  temporaryDir,
  until,
} from "../support/gantry.ts";

describe("rules of a target folder", () => {
  let stage: Stage;
  let dir: string;

  beforeEach(async () => {
    stage = await startStage({ data: smallArchive() });
    dir = await freshDir();
  });

  it("a second process in a live folder is refused, with host and pid, and harms nothing", async () => {
    stage.control.setFaults([{ kind: "slow-first-byte", route: "**/getImage", ms: 4000, count: 1 }]);
    const first = stage.start(["get", "tcia:", "-o", dir]);
    await until("the first run asks for data", () => stage.requests("getImage").length > 0);
    const second = await stage.run(["get", "tcia:", "-o", dir]);
    expect(second.code).toBe(2);
    expect(second.stderr).toContain(hostname());
    expect(second.stderr).toContain(String(first.pid));
    const ended = await first.ended;
    expect(ended.code, ended.stderr).toBe(0);
    const fresh = await freshDir("fresh");
    await stage.get(["tcia:"], { dir: fresh });
    expect(await hashTree(dir)).toEqual(await hashTree(fresh));
  });

  it("the record of a run that was killed does not keep the next one out", async () => {
    stage.control.setFaults([{ kind: "stall", route: "**/getImage", count: 1 }]);
    const first = stage.start(["get", "tcia:", "-o", dir]);
    await until("a transfer hangs", () => stage.requests("getImage").length > 0);
    first.kill("SIGKILL");
    await first.ended;
    stage.control.setFaults([]);
    const status = await stage.run(["status", dir, "--check"]);
    expect(status.code).toBe(3);
    const second = await stage.run(["get", "-o", dir]);
    expect(second.code, second.stderr).toBe(0);
    const fresh = await freshDir("fresh");
    await stage.get(["tcia:"], { dir: fresh });
    expect(await hashTree(dir)).toEqual(await hashTree(fresh));
    expect((await listAll(dir)).filter((path) => path.startsWith(".gantry/partial/"))).toEqual([]);
  });

  it("a run's record that a power cut filled with zeros keeps nobody out", async () => {
    await stage.get(["tcia:"], { dir });
    for (const path of await listAll(dir))
      if (path.startsWith(".gantry/runs/")) await writeFile(join(dir, path), "\0".repeat(300));
    expect((await stage.run(["get", "-o", dir])).code).toBe(0);
    expect((await stage.run(["status", dir, "--check"])).code).toBe(0);
  });

  it.each(["folder.json", "selections", "receipts"])(
    "a newer %s is refused and left untouched",
    async (what) => {
      await stage.get(["tcia:Brain MR"], { dir });
      const path = (await listAll(dir)).find((each) => each.startsWith(`.gantry/${what}`)) ?? "";
      const text = await readFile(join(dir, path), "utf8");
      const newer = text.replace('"version":1', '"version":2');
      expect(newer).not.toBe(text);
      await writeFile(join(dir, path), newer);
      const all = await Promise.all(
        (await listAll(dir)).map(async (each) => [each, await readFile(join(dir, each), "utf8")]),
      );
      for (const args of [
        ["get", "tcia:", "-o", dir],
        ["get", "-o", dir],
        ["verify", dir],
        ["status", dir],
      ]) {
        const result = await stage.run(args);
        if (args[0] === "verify" && what === "selections") continue;
        expect({ args: args[0], code: result.code, stderr: result.stderr }).toMatchObject({ code: 2 });
        expect(result.stderr).toMatch(/version/u);
      }
      for (const [each, before] of all as [string, string][]) {
        if (/^\.gantry\/(runs|logs)\//u.test(each)) continue;
        expect(await readFile(join(dir, each), "utf8"), each).toBe(before);
      }
      expect(stage.requests("getImage").length).toBe(1);
    },
  );

  it("the layout is fixed by the first get", async () => {
    expect((await stage.run(["get", "tcia:Brain MR", "-o", dir, "--layout", "uid"])).code).toBe(0);
    const before = await listFiles(dir);
    expect(before).toContain("1.2.840.1.3/1-1.dcm");
    const other = await stage.run(["get", "tcia:", "-o", dir, "--layout", "classic"]);
    expect(other.code).toBe(2);
    expect(other.stderr).toContain("uid");
    expect((await stage.run(["get", "tcia:", "-o", dir, "--layout", "classic", "--dry-run"])).code).toBe(2);
    expect(await listFiles(dir)).toEqual(before);
    expect((await stage.run(["get", "tcia:", "-o", dir])).code).toBe(0);
    expect(await listFiles(dir)).toContain("1.2.840.1.1/1-1.dcm");
    expect((await stage.run(["get", "tcia:", "-o", dir, "--layout", "uid"])).code).toBe(0);
  });

  it.each([
    ["classic", "LUNG CT/P1/1.2.840.1.70/1.2.840.1.1/1-1.dcm"],
    ["flat", "1.2.840.1.1_1-1.dcm"],
    ["{modality}/{patient}-{SeriesNumber}", "CT/P1-2/1-1.dcm"],
  ])("--layout %s", async (layout, path) => {
    const result = await stage.run(["get", "tcia:1.2.840.1.1", "-o", dir, "--layout", layout]);
    expect(result.code, result.stderr).toBe(0);
    expect(await listFiles(dir)).toContain(path);
  });

  it.each(["nonsense", "{nonsense}", ""])(
    "--layout %j is refused before anything is written",
    async (layout) => {
      const result = await stage.run(["get", "tcia:1.2.840.1.1", "-o", dir, "--layout", layout]);
      expect(result.code).toBe(2);
      expect(await listAll(dir)).toEqual([]);
    },
  );

  it("a layout that puts two series in one place keeps them apart", async () => {
    const result = await stage.run(["get", "tcia:LUNG CT", "-o", dir, "--layout", "{collection}/{patient}"]);
    expect(result.code, result.stderr).toBe(0);
    const images = (await listFiles(dir)).filter((path) => path.endsWith(".dcm"));
    expect(images).toHaveLength(13);
    expect(images.filter((path) => path.startsWith("LUNG CT/P1/")).length).toBeGreaterThan(0);
    expect(images.filter((path) => /^LUNG CT\/P1~[0-9a-f]{8}\//u.test(path)).length).toBeGreaterThan(0);
    expect((await stage.run(["verify", dir, "--strict"])).code).toBe(0);
  });

  it("links are never followed out of the folder", async () => {
    const outside = await temporaryDir();
    await mkdir(dir, { recursive: true });
    await symlink(outside, join(dir, "LUNG CT"));
    const result = await stage.run(["get", "tcia:LUNG CT/P1", "-o", dir]);
    expect(result.code).toBe(7);
    expect(result.stderr).toContain("symbolic link");
    expect((await listAll(outside)).filter((path) => path.endsWith(".dcm"))).toEqual([]);
  });

  it("a state folder that is a link is refused", async () => {
    const outside = await temporaryDir();
    await mkdir(dir, { recursive: true });
    await symlink(outside, join(dir, ".gantry"));
    expect((await stage.run(["get", "tcia:LUNG CT/P1", "-o", dir])).code).toBe(7);
    expect(await listAll(outside)).toEqual([]);
  });

  it("a foreign file in the way goes to quarantine, the same bytes are adopted", async () => {
    const other = await freshDir("other");
    await stage.get(["tcia:Brain MR"], { dir: other });
    const [image, second] = (await listFiles(other)).filter((path) => path.endsWith(".dcm")) as [
      string,
      string,
    ];
    await mkdir(dirname(join(dir, image)), { recursive: true });
    await writeFile(join(dir, image), "my own notes");
    await writeFile(join(dir, second), await readFile(join(other, second)));
    const { summary } = await stage.get(["tcia:Brain MR"], { dir });
    expect(summary).toMatchObject({ exit: 0 });
    expect(await hashTree(dir)).toEqual(await hashTree(other));
    const kept = (await listAll(dir)).filter((path) => path.startsWith(".gantry/quarantine/"));
    expect(kept).toHaveLength(1);
    expect(await readFile(join(dir, kept[0] ?? ""), "utf8")).toBe("my own notes");
  });

  it("a file where the folder should be is a usage or disk error, not a bug", async () => {
    await writeFile(dir, "a file");
    const result = await stage.run(["get", "tcia:Brain MR", "-o", dir]);
    expect([2, 7]).toContain(result.code);
    expect(await readFile(dir, "utf8")).toBe("a file");
  });
});
