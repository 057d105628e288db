import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { freshDir, hashTree, listFiles, runVerify, startStage } from "../support/gantry.ts";

describe("a first get by the real program", () => {
  it("stores and proves a collection, then has nothing to do", async () => {
    const stage = await startStage();
    const listed = await stage.run(["ls", "tcia:", "--format", "json"]);
    expect(listed).toMatchObject({ code: 0, stderr: "" });
    const rows = JSON.parse(listed.stdout) as { Collection: string; address: string }[];
    expect(rows.length).toBeGreaterThan(1);
    const address = rows[0]?.address ?? "";

    const dir = await freshDir();
    const first = await stage.run(["get", address, "-o", dir]);
    expect(first.code, first.stderr).toBe(0);
    const files = await listFiles(dir);
    expect(files.filter((path) => path.endsWith(".dcm")).length).toBeGreaterThan(0);
    expect(files).toContain("metadata.csv");
    expect(await readFile(join(dir, ".gantry", "CITATION.txt"), "utf8")).toContain(rows[0]?.Collection);

    const before = await hashTree(dir);
    stage.control.clearRequests();
    const second = await stage.run(["get", address, "-o", dir]);
    expect(second.code, second.stderr).toBe(0);
    expect(stage.requests("getImage")).toHaveLength(0);
    expect(await hashTree(dir)).toEqual(before);
    expect((await runVerify(dir)).summary).toMatchObject({ exit: 0, changed: 0, missing: 0, extra: 0 });
  });
});
