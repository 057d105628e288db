/** A tree that the published script for PREVENT-AD left, whole or half, is proved and completed, not fetched again. */
import { createHash } from "node:crypto";
import { mkdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import {
  eventsOf,
  filters,
  freshDir,
  hashTree,
  listFiles,
  runVerify,
  startStage,
} from "../support/gantry.ts";
import { etagPath, lorisAccount, lorisClient, writeScriptTree } from "../support/loris.ts";

const stage = await startStage();
const loggedIn = { environment: { ...stage.environment, ...lorisAccount } };
beforeEach(() => stage.control.reset());

const get = (dir: string, some: Parameters<typeof filters>[0] = {}) =>
  stage.get(["preventad:"], { dir, filters: filters(some) }, loggedIn);

/** Statuses of the replies to requests for files whose name ends so. */
const statuses = (ending: string): number[] =>
  stage.control.requests().flatMap(({ path, status }) => (path.endsWith(ending) ? [status ?? 0] : []));

describe("a tree of the published script", () => {
  it("is taken over as it lies: what the archive still has so is not fetched", async () => {
    const dir = await freshDir();
    const paths = await writeScriptTree(await lorisClient(stage), dir);
    const before = await hashTree(dir);
    stage.control.clearRequests();
    const { summary, events } = await get(dir);
    expect(summary).toMatchObject({ exit: 0, failed: 0 });
    const images = paths.filter((path) => path.endsWith(".nii.gz"));
    expect(summary.adopted.items).toBeGreaterThan(images.length);
    expect(new Set(statuses(".nii.gz"))).toEqual(new Set([304]));
    const proofs = eventsOf(events, "item-adopted").map(({ proof }) => proof.join());
    expect(new Set(proofs)).toEqual(new Set(["etag,format"]));
    // Nothing moved, nothing was thrown away, and the script's own files are still there.
    expect(await hashTree(dir)).toEqual(before);
    expect((await runVerify(dir)).summary).toMatchObject({ exit: 0, changed: 0, missing: 0 });
    expect((await get(dir)).summary).toMatchObject({ exit: 0, adopted: { items: 0 }, stored: { items: 0 } });
  });

  it("that was left half-done is completed: no ETag without good data counts", async () => {
    const dir = await freshDir();
    const paths = await writeScriptTree(await lorisClient(stage), dir);
    const clean = await hashTree(dir);
    const [cut = "", lost = "", changed = ""] = paths.filter((path) => path.endsWith(".nii.gz"));
    const table = paths.find((path) => path.endsWith(".bval")) ?? "";
    await truncate(join(dir, cut), 200);
    await rm(join(dir, lost));
    await rm(join(dir, "participants.tsv"));
    await truncate(join(dir, table), 3);
    await rm(etagPath(join(dir, changed)));
    stage.control.clearRequests();
    const { summary } = await get(dir);
    expect(summary).toMatchObject({ exit: 0, failed: 0 });
    expect(statuses(".nii.gz").filter((status) => status === 200).length).toBe(3);
    const tree = await hashTree(dir);
    for (const path of paths) expect([path, tree[path]]).toEqual([path, clean[path]]);
    const quarantined = (await listFiles(join(dir, ".gantry/quarantine"))).map((path) =>
      path.slice(path.indexOf("/") + 1),
    );
    expect(quarantined.sort()).toEqual([cut, table].sort());
  });

  it("is fetched anew where the archive has changed since", async () => {
    const dir = await freshDir();
    const paths = await writeScriptTree(await lorisClient(stage), dir);
    const image = paths.find((path) => path.endsWith("_T1w.nii.gz")) ?? "";
    const name = image.slice(image.lastIndexOf("/") + 1);
    for (const change of ["replace-bytes", "touch"] as const)
      await stage.control.changeFile({ file: name, change });
    const before = await readFile(join(dir, image));
    const { summary } = await get(dir, { words: { modality: ["t1w"] } });
    expect(summary).toMatchObject({ exit: 0 });
    expect(await readFile(join(dir, image))).not.toEqual(before);
  });

  it("has its full tables pruned when only a part is asked for, and kept aside", async () => {
    const dir = await freshDir();
    const paths = await writeScriptTree(await lorisClient(stage), dir);
    const table = paths.find((path) => path.endsWith("_scans.tsv")) ?? "";
    for (const path of paths)
      if (path.endsWith(".nii.gz") && !path.includes("_T1w")) await rm(join(dir, path));
    const full = await readFile(join(dir, table), "utf8");
    await get(dir, { words: { modality: ["t1w"] } });
    expect(await readFile(join(dir, ".gantry/originals", table), "utf8")).toBe(full);
    expect((await readFile(join(dir, table), "utf8")).length).toBeLessThan(full.length);
  });
});

describe("a published list of checksums", () => {
  const dirOf = async () => {
    const dir = await freshDir();
    const paths = await writeScriptTree(await lorisClient(stage), dir);
    return { dir, paths };
  };
  const annexLine = async (dir: string, path: string): Promise<string> => {
    const bytes = await readFile(join(dir, path));
    const md5 = createHash("md5").update(bytes).digest("hex");
    const key = `MD5E-s${bytes.length}--${md5}.nii.gz`;
    return `lrwxrwxrwx 1 d d 198 Jan 14  2025 ${path} -> ../../../.git/annex/objects/1J/x0/${key}/${key}`;
  };
  const some = { words: { modality: ["t1w"] } };

  it("proves what comes, what another tool left, and what is here already, and receipts say so", async () => {
    const { dir, paths } = await dirOf();
    const list = `${await freshDir("list")}.txt`;
    await mkdir(join(list, ".."), { recursive: true });
    const lines: string[] = [];
    for (const path of paths) lines.push(await annexLine(dir, path));
    await writeFile(list, `${lines.join("\n")}\n`);
    // What another tool left needs no question then.
    stage.control.clearRequests();
    const left = await stage.get(["preventad:"], { dir, filters: filters(some), checksums: list }, loggedIn);
    expect(left.summary).toMatchObject({ exit: 0 });
    expect(eventsOf(left.events, "item-adopted").map(({ proof }) => proof.join())).toContain(
      "published-md5,size",
    );
    expect(statuses("_T1w.nii.gz")).toEqual([]);
    const target = await freshDir();
    await get(target, some);
    const again = await stage.run(["get", "-o", target, "--checksums", list], { env: lorisAccount });
    expect(again).toMatchObject({ code: 0 });
    expect(await receiptsOf(target)).toMatch(/"proof":\["published-md5","size","count","format"\]/u);
    const fresh = await freshDir();
    const { events } = await stage.get(
      ["preventad:"],
      { dir: fresh, filters: filters(some), checksums: list },
      loggedIn,
    );
    for (const { proof } of eventsOf(events, "item-stored")) expect(proof[0]).toBe("published-md5");
  });

  it("fails what it contradicts, and leaves what is here", async () => {
    const { dir, paths } = await dirOf();
    const image = paths.find((path) => path.endsWith("_T1w.nii.gz")) ?? "";
    const list = join(dir, "list.md5");
    await writeFile(list, `${"0".repeat(32)}  ${image}\n`);
    const target = await freshDir();
    const address = `preventad:bids/${image.slice(4, 11)}/${image.split("/")[1]?.slice(4)}/${image.split("/").at(-1)}`;
    const one = await stage.run(["get", address, "-o", target, "--checksums", list, "--retries", "0"], {
      env: lorisAccount,
    });
    expect(one.code, one.stderr).toBe(6);
    expect(one.stderr).toContain("list.md5 tells of md5:0000");
    expect(await listFiles(target)).toEqual([]);
    await get(target, some);
    const here = await stage.run(["get", "-o", target, "--checksums", list, "--retries", "0"], {
      env: lorisAccount,
    });
    expect(here.code, here.stderr).toBe(3);
    expect(await listFiles(target)).toContain(image);
  });

  it("is refused before anything is asked when it can't be read", async () => {
    const dir = await freshDir();
    const missing = await stage.run(["get", "preventad:", "-o", dir, "--checksums", "/nowhere.txt"], {
      env: lorisAccount,
    });
    expect(missing.stderr).toContain("/nowhere.txt");
    expect(missing.code).toBe(2);
  });
});

async function receiptsOf(dir: string): Promise<string> {
  let text = "";
  const folder = join(dir, ".gantry/receipts");
  for (const path of await listFiles(folder)) text += await readFile(join(folder, path), "utf8");
  return text;
}
