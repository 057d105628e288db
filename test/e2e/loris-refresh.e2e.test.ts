/** A folder of a LORIS asked for again: what changed is noticed, whatever the archive's ETags say. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { freshDir, listAll, listFiles, startStage } from "../support/gantry.ts";

const stage = await startStage();
const loggedIn = {
  environment: {
    ...stage.environment,
    ...Object.fromEntries(
      ["PREVENTAD", "LORIS_M"].flatMap((name) => [
        [`GANTRY_${name}_USER`, "demo"],
        [`GANTRY_${name}_PASSWORD`, "demo"],
      ]),
    ),
  },
};
beforeEach(() => stage.control.reset());

/** A folder with a part of each family, and its files by their endings. */
async function filled(word: string): Promise<{ dir: string; file: (end: string) => string; items: number }> {
  const dir = await freshDir();
  const words = { modality: ["t1w"] };
  const filters = { words, dates: {}, include: [], exclude: [], limit: null, limitPatients: null };
  const { summary } = await stage.get([word], { dir, filters }, loggedIn);
  expect(summary).toMatchObject({ exit: 0, failed: 0 });
  const files = await listFiles(dir);
  stage.control.clearRequests();
  return {
    dir,
    items: summary.stored.items,
    file: (end) => files.find((path) => path.endsWith(end)) ?? "",
  };
}

const again = async (dir: string) => (await stage.get([], { dir }, loggedIn)).summary;
const nameOf = (path: string): string => path.slice(path.lastIndexOf("/") + 1);

describe.each(["preventad:", "loris-m:minc"])("%s asked for again", (word) => {
  it("is asked conditionally where ETags say something, and only there (defects 4, 11 and 18)", async () => {
    const { dir } = await filled(word);
    expect(await again(dir)).toMatchObject({ exit: 0, stored: { items: 0 } });
    const asked = stage.control.requests().filter(({ headers }) => headers["if-none-match"] !== undefined);
    expect(asked.length).toBeGreaterThan(0);
    expect(asked.map(({ status }) => status)).toEqual(asked.map(() => 304));
    expect(asked.filter(({ path }) => /\/projects\/|\/qc$|\/candidates\/\d+\/\w+$/u.test(path))).toEqual([]);
    expect(new Set(asked.map(({ path }) => path)).size).toBe(asked.length);
    expect(stage.control.requests().filter(({ headers }) => headers.cookie !== undefined)).toEqual([]);
  });

  it("has an image again that has another time or other bytes in the archive", async () => {
    const { dir, file } = await filled(word);
    const image = file(word === "preventad:" ? "T1w.nii.gz" : ".mnc");
    await stage.control.changeFile({ file: nameOf(image), change: "touch" });
    expect(await again(dir)).toMatchObject({ exit: 0, stored: { items: 1 } });
    expect(await again(dir)).toMatchObject({ exit: 0, stored: { items: 0 } });
  });

  it("does not take a failure of conditional requests for an answer", async () => {
    const { dir } = await filled(word);
    const route = word === "preventad:" ? "**/bids/*_T1w.nii.gz" : "**/images/*.mnc";
    stage.control.setFaults([{ kind: "expired-token", route, count: 1 }]);
    expect(await again(dir)).toMatchObject({ exit: 0, stored: { items: 0 } });
    expect(stage.requests("login")).toHaveLength(2);
  });

  it("keeps everything when the archive is away", async () => {
    const { dir } = await filled(word);
    const before = await listFiles(dir);
    stage.control.setFaults([{ kind: "reset", route: "**/images/**" }]);
    const { summary } = await stage.get([], { dir }, { ...loggedIn, retries: 0 });
    expect(summary.exit).not.toBe(0);
    expect(await listFiles(dir)).toEqual(before);
  });
});

describe("files that are the same by their ETag", () => {
  it("are compared, and what changed takes the old one's place (defect 4)", async () => {
    const { dir } = await filled("preventad:");
    const text = "participant_id\tsex\n";
    await stage.control.changeFile({ file: "participants.tsv", change: "rewrite", text });
    expect(await again(dir)).toMatchObject({ exit: 0, stored: { items: 1 } });
    expect(await readFile(join(dir, "participants.tsv"), "utf8")).toBe(text);
    const kept = (await listAll(dir)).filter((path) =>
      /^\.gantry\/quarantine\/.*participants\.tsv$/u.test(path),
    );
    expect(kept).toHaveLength(1);
  });

  it("are noticed when their length is the same, too", async () => {
    const { dir } = await filled("preventad:");
    const before = await readFile(join(dir, "README"), "utf8");
    await stage.control.changeFile({ file: "README", change: "replace-bytes" });
    expect(await again(dir)).toMatchObject({ exit: 0, stored: { items: 1 } });
    expect(await readFile(join(dir, "README"), "utf8")).not.toBe(before);
  });
});

describe("a file that the archive has no more", () => {
  it("is a failed item, and stays", async () => {
    const { dir, file } = await filled("preventad:");
    const image = file("T1w.nii.gz");
    await stage.control.changeFile({ file: nameOf(image), change: "remove" });
    const summary = await again(dir);
    expect(summary).toMatchObject({ exit: 3, failed: 1, failures: [{ code: "access-item" }] });
    expect(await listFiles(dir)).toContain(image);
  });
});
