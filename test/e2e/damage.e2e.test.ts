import {
  appendFile,
  chmod,
  open,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  unlink,
  utimes,
  writeFile,
} from "node:fs/promises";
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
  type Tree,
} from "../support/gantry.ts";

/** Under the old size and time. */
async function flipByte(path: string, at: number): Promise<void> {
  const seconds = (Math.trunc((await stat(path)).mtimeMs) + 0.5) / 1000;
  const file = await open(path, "r+");
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, at);
  byte[0] = (byte[0] as number) ^ 1;
  await file.write(byte, 0, 1, at);
  await file.close();
  await utimes(path, seconds, seconds);
}

describe("what went wrong on the disk", () => {
  let stage: Stage;
  let dir: string;
  let clean: Tree;
  let images: string[];

  beforeEach(async () => {
    stage = await startStage({ data: smallArchive() });
    dir = await freshDir();
    const { summary } = await stage.get(["tcia:"], { dir });
    expect(summary.exit).toBe(0);
    clean = await hashTree(dir);
    images = (await listFiles(dir)).filter((path) => path.endsWith(".dcm"));
    stage.control.clearRequests();
  });

  /** The item of a damaged file is fetched, and no other. */
  const mend = async (): Promise<void> => {
    stage.control.clearRequests();
    const { summary } = await stage.get([], { dir });
    expect(summary).toMatchObject({ exit: 0, failed: 0, stored: { items: 1 } });
    expect(stage.requests("getImage")).toHaveLength(1);
    expect(await hashTree(dir)).toEqual(clean);
    expect((await runVerify(dir)).summary).toMatchObject({ exit: 0, extra: 0 });
  };

  it("one flipped byte under the old size and time is found by verify and mended by the next get", async () => {
    const path = join(dir, images[2] ?? "");
    await flipByte(path, 700);
    const verified = await stage.run(["verify", dir]);
    expect(verified.code).toBe(6);
    expect(verified.stdout + verified.stderr).toContain(images[2]);
    await mend();
  });

  it("--recheck finds it, too, and mends it at once", async () => {
    const path = join(dir, images[4] ?? "");
    await flipByte(path, 900);
    expect((await stage.get([], { dir })).summary).toMatchObject({ exit: 0, stored: { items: 0 } });
    const { summary, events } = await stage.get([], { dir, recheck: true });
    expect(summary).toMatchObject({ exit: 0, stored: { items: 1 } });
    expect(eventsOf(events, "item-damaged")).toMatchObject([{ path: images[4], what: "changed" }]);
    expect(await hashTree(dir)).toEqual(clean);
  });

  it.each([
    ["shortened", (path: string) => truncate(path, 100)],
    ["gone", (path: string) => unlink(path)],
    ["overwritten", (path: string) => writeFile(path, "not an image")],
    [
      "replaced by a link",
      async (path: string) => {
        await rename(path, `${path}.kept`);
        await symlink(`${path}.kept`, path);
        await appendFile(`${path}.kept`, "!");
      },
    ],
  ] as const)("a file that is %s is mended without a verify before", async (what, damage) => {
    await damage(join(dir, images[0] ?? ""));
    stage.control.clearRequests();
    const { summary } = await stage.get([], { dir });
    expect(summary).toMatchObject({ exit: 0, failed: 0, stored: { items: 1 } });
    if (what.endsWith("link")) await unlink(join(dir, `${images[0]}.kept`));
    expect(await hashTree(dir)).toEqual(clean);
  });

  it("a touched file is hashed, believed, and not hashed again", async () => {
    const path = join(dir, images[1] ?? "");
    await utimes(path, new Date(0), new Date(0));
    const { summary } = await stage.get([], { dir });
    expect(summary).toMatchObject({ exit: 0, stored: { items: 0 } });
    expect(stage.requests("getImage")).toHaveLength(0);
    const receipts = (await listAll(dir)).filter((name) => name.startsWith(".gantry/receipts/"));
    await stage.get([], { dir });
    expect((await listAll(dir)).filter((name) => name.startsWith(".gantry/receipts/"))).toEqual(receipts);
  });

  it("a whole folder that is gone comes back", async () => {
    await rm(join(dir, "LUNG CT"), { recursive: true });
    const { summary } = await stage.get([], { dir });
    expect(summary).toMatchObject({ exit: 0, failed: 0 });
    expect(await hashTree(dir)).toEqual(clean);
  });

  it("metadata.csv and LICENSE are made anew when they are missing", async () => {
    await unlink(join(dir, "metadata.csv"));
    await unlink(join(dir, "LUNG CT", "LICENSE"));
    const { summary } = await stage.get([], { dir });
    expect(summary).toMatchObject({ exit: 0, stored: { items: 0 } });
    expect(await hashTree(dir)).toEqual(clean);
  });

  it("a torn last receipt does not count, is told, and its item is proved anew from the files that are here", async () => {
    const [name] = (await listAll(dir)).filter((path) => path.startsWith(".gantry/receipts/"));
    const path = join(dir, name ?? "");
    const text = await readFile(path, "utf8");
    await chmod(path, 0o644);
    await writeFile(path, text.slice(0, -30));
    const { summary, events } = await stage.get([], { dir });
    expect(summary).toMatchObject({ exit: 0, stored: { items: 0 }, adopted: { items: 1, fetchedFiles: 0 } });
    expect(
      eventsOf(events, "warning")
        .map((event) => event.message)
        .join(),
    ).toContain("torn");
    expect(await hashTree(dir)).toEqual(clean);
    expect((await listAll(dir)).filter((each) => each.startsWith(".gantry/quarantine/"))).toEqual([]);
  });
});
