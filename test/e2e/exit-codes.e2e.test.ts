import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
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
} from "../support/gantry.ts";

const UNKNOWN = "1.2.840.99.1";

describe("what a get answers", () => {
  let stage: Stage;
  let dir: string;

  beforeEach(async () => {
    stage = await startStage({ data: smallArchive() });
    dir = await freshDir();
  });

  const get = (...args: string[]) => stage.run(["get", ...args, "-o", dir, "--progress", "none"]);

  describe.each([false, true])("dry run: %s", (dry) => {
    const more = dry ? ["--dry-run"] : [];

    it("an unknown UID alone is 4", async () => {
      const result = await get(`tcia:${UNKNOWN}`, ...more);
      expect(result.code).toBe(4);
      expect(result.stdout + result.stderr).toMatch(
        /(not shown by the archive\t1|withdrawn or not permitted)/u,
      );
      expect((await get(`tcia:${UNKNOWN}`, "--json", ...more)).stdout).toMatch(
        new RegExp(
          `"item-failed".*${UNKNOWN.replaceAll(".", "\\.")}.*unknown, withdrawn or not permitted`,
          "u",
        ),
      );
    });

    it("an unknown UID among known ones is 3", async () => {
      const list = join(await temporaryDir(), "cart.tcia");
      await writeFile(list, `1.2.840.1.1\n${UNKNOWN}\n`);
      const result = await get(list, ...more);
      expect(result.code).toBe(3);
      expect((await get(list, "--json", ...more)).stdout).toContain(`dicom-series:${UNKNOWN}`);
    });

    it("unknown images of a known series are failures, too", async () => {
      expect((await get("tcia:1.2.840.1.1/1.2.3.4.5", ...more)).code).toBe(4);
      expect((await get("tcia:1.2.840.1.1/1.2.840.1.1.2", ...more)).code).toBe(0);
    });

    it("a misspelt name is 2, with near matches, and leaves nothing behind", async () => {
      const result = await get("tcia:LUNG CD", ...more);
      expect(result.code).toBe(2);
      expect(result.stderr).toContain("LUNG CT");
      expect(await listAll(dir)).toEqual([]);
    });

    it("filters that match nothing are 2", async () => {
      const result = await get("tcia:LUNG CT", "--modality", "MR", ...more);
      expect(result.code).toBe(2);
      expect(await listFiles(dir)).toEqual([]);
    });

    it("an archive that is not there is 5", async () => {
      const config = join(stage.home, "away.toml");
      await writeFile(config, '[archives.tcia]\nkind = "nbia"\nurl = "http://127.0.0.1:9/nbia-api"\n');
      const result = await stage.run(["get", "tcia:", "-o", dir, "--retries", "0", ...more], {
        env: { GANTRY_CONFIG: config },
      });
      expect(result.code, result.stderr).toBe(5);
      expect(await listFiles(dir)).toEqual([]);
    });

    it("an unknown archive is 2", async () => {
      expect((await get("tcai:LUNG CT", ...more)).code).toBe(2);
      expect((await get("C:\\data", ...more)).code).toBe(2);
    });
  });

  it("bytes that fail their proof are 6 when nothing else is stored, 3 when something is", async () => {
    stage.control.setFaults([{ kind: "wrong-bytes", route: "**/getImage", containing: "1.2.840.1.3" }]);
    expect((await get("tcia:Brain MR", "--retries", "0")).code).toBe(6);
    expect((await get("tcia:", "--retries", "0")).code).toBe(3);
    // Something of the request stands proved from before: still 3.
    expect((await get("--retries", "0")).code).toBe(3);
    stage.control.setFaults([]);
    expect((await get()).code).toBe(0);
  });

  it("mixed causes are 3 even when nothing is stored", async () => {
    stage.control.setFaults([
      { kind: "wrong-bytes", route: "**/getImage", containing: "1.2.840.1.4" },
      { kind: "500", route: "**/getImage", containing: "1.2.840.1.6" },
    ]);
    expect((await get("tcia:LUNG CT/P2", "--retries", "0")).code).toBe(3);
  });

  it("a dry run writes nothing, asks for no data and tells bytes, files and licences", async () => {
    const result = await get("tcia:", "--dry-run");
    expect(result.code, result.stderr).toBe(0);
    expect(result.stdout + result.stderr).toMatch(/Creative Commons/u);
    expect(await listAll(dir)).toEqual([]);
    expect(stage.requests("getImage")).toHaveLength(0);
  });

  it("a dry run in a filled folder changes no byte of it", async () => {
    await get("tcia:Brain MR");
    const before = await listAll(dir);
    const contents = await Promise.all(before.map((path) => readFile(join(dir, path), "utf8")));
    expect((await get("tcia:", "--dry-run")).code).toBe(0);
    expect((await get("--dry-run")).code).toBe(0);
    expect(await listAll(dir)).toEqual(before);
    expect(await Promise.all(before.map((path) => readFile(join(dir, path), "utf8")))).toEqual(contents);
  });

  it("a series whose announced count is wrong for good is stored as disputed, with a warning", async () => {
    stage.control.change({ uid: "1.2.840.1.1", change: "announce", imageCount: 6 });
    const result = await get("tcia:1.2.840.1.1");
    expect(result.code, result.stderr).toBe(0);
    expect(result.stderr + result.stdout).toMatch(/announce|disputed/u);
    const receipts = (await listAll(dir)).find((path) => path.startsWith(".gantry/receipts/")) ?? "";
    const text = await readFile(join(dir, receipts), "utf8");
    expect(text).toContain('"disputed":"the archive announces count 6, but 4 came"');
    stage.control.clearRequests();
    expect((await get()).code).toBe(0);
    expect(stage.requests("getImage")).toHaveLength(0);
    expect((await stage.run(["verify", dir])).code).toBe(0);
  });

  it("a series without images is stored, verified and not fetched again", async () => {
    const result = await get("tcia:1.2.840.1.5");
    expect(result.code, result.stderr).toBe(0);
    expect(await readFile(join(dir, "metadata.csv"), "utf8")).toContain("1.2.840.1.5");
    stage.control.clearRequests();
    expect((await get()).code).toBe(0);
    expect(stage.requests("getImage")).toHaveLength(0);
    expect((await stage.run(["verify", dir, "--strict"])).code).toBe(0);
  });

  it("one image of a series is an item of its own, proved by its MD5", async () => {
    expect((await get("tcia:1.2.840.1.1/1.2.840.1.1.2")).code).toBe(0);
    const before = await hashTree(dir);
    const images = (await listFiles(dir)).filter((path) => path.endsWith(".dcm"));
    expect(images).toHaveLength(1);
    stage.control.clearRequests();
    expect((await get()).code).toBe(0);
    expect(stage.requests("getSingleImage")).toHaveLength(0);
    expect(await hashTree(dir)).toEqual(before);
  });

  it("a file where a folder is needed, and a stall time of nothing, are 2 and harm nothing", async () => {
    const file = join(await temporaryDir(), "plain");
    await writeFile(file, "mine");
    for (const more of [[], ["--dry-run"], ["--detach"]]) {
      const result = await stage.run(["get", "tcia:", "-o", file, ...more]);
      expect(result.code, result.stderr).toBe(2);
      expect(result.stderr).toMatch(/is a file/u);
    }
    expect(await readFile(file, "utf8")).toBe("mine");
    for (const time of ["0", "0s", "0.0"]) {
      const result = await get("tcia:", "--stall-timeout", time);
      expect(result.code, result.stderr).toBe(2);
      expect(result.stderr).toContain("--stall-timeout");
    }
    expect(await listAll(dir)).toEqual([]);
  });

  it.runIf(process.platform === "linux")(
    "a place that takes no folders ends a background run and a log, and hangs neither",
    async () => {
      const detached = await stage.run(["get", "tcia:", "-o", "/proc/gantry/x", "--detach"]);
      expect(detached.code, detached.stderr).toBe(7);
      const logged = await get("tcia:Brain MR", "--log-dir", "/proc/gantry/logs");
      expect(logged.code, logged.stderr).toBe(0);
      expect(logged.stderr).toContain("/proc/gantry/logs can't be written");
    },
  );

  it("a full answer to find, ls and values leaves the code 0, also when it is empty", async () => {
    const empty = await stage.run(["find", "tcia:LUNG CT", "--modality", "MR", "--format", "json"]);
    expect(empty).toMatchObject({ code: 0 });
    expect(JSON.parse(empty.stdout)).toEqual([]);
    expect((await stage.run(["ls", "tcia:", "--modality", "XX"])).code).toBe(2);
    expect((await stage.run(["values", "tcia:", "modality", "--format", "json"])).code).toBe(0);
  });
});
