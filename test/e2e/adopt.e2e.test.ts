/**
 * Folders of other tools: whatever they called their files, what is there is proved and stays, and the request log
 * holds exactly what was missing.
 */
import { createHash } from "node:crypto";
import { cp, mkdir, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { readDicomIdentity } from "../../src/model/dicom.ts";
import { smallArchive } from "../support/dataset.ts";
import {
  eventsOf,
  freshDir,
  listAll,
  listFiles,
  runVerify,
  type Stage,
  startStage,
  temporaryDir,
} from "../support/gantry.ts";

/** Images of the small archive; one of its six series has none. */
const IMAGES = 16;
const SERIES = 5;
/** The series that loses or breaks a file, and its first image. */
const VICTIM = "1.2.840.1.1";
const LOST = `${VICTIM}.1`;

let stage: Stage;
/** The images as an unzipped series leaves them, by series UID: name to path in a folder that nobody changes. */
let pristine: string;

beforeAll(async () => {
  stage = await startStage({ data: smallArchive() });
  pristine = await freshDir("pristine");
  const { summary } = await stage.get(["tcia:"], { dir: pristine, layout: "uid" });
  expect(summary).toMatchObject({ exit: 0, stored: { files: IMAGES } });
});
beforeEach(() => {
  stage.control.reset();
});

const md5 = (bytes: Uint8Array): string => createHash("md5").update(bytes).digest("hex");
const put = async (path: string, content: string | Uint8Array): Promise<void> => {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, content);
};

interface Image {
  readonly series: string;
  readonly sop: string;
  readonly name: string;
  readonly bytes: Buffer;
}

async function images(): Promise<Image[]> {
  const all: Image[] = [];
  for (const path of await listFiles(pristine)) {
    if (!path.endsWith(".dcm")) continue;
    const bytes = await readFile(join(pristine, path));
    const sop = readDicomIdentity(bytes)?.sopInstanceUid ?? "";
    all.push({ series: dirname(path), sop, name: basename(path), bytes });
  }
  expect(all).toHaveLength(IMAGES);
  return all;
}

type Build = (dir: string) => Promise<void>;

/** A tree of the Java retriever: its folder names are those of our own layouts (test/e2e/names.e2e.test.ts). */
const java =
  (layout: "descriptive" | "classic", sums: boolean): Build =>
  async (dir) => {
    const made = await freshDir();
    await stage.get(["tcia:"], { dir: made, layout });
    await rm(join(made, ".gantry"), { recursive: true });
    await cp(made, dir, { recursive: true });
    await writeFile(
      join(dir, "metadata.csv"),
      "Series UID,Collection\r\n1.2.840.1.1,written by the old tool\r\n",
    );
    if (!sums) return;
    const folders = new Set((await listFiles(dir)).filter((p) => p.endsWith(".dcm")).map((p) => dirname(p)));
    for (const folder of folders) {
      const lines = ["Filename,MD5Hash"];
      for (const name of await readdir(join(dir, folder)))
        lines.push(`${name},${md5(await readFile(join(dir, folder, name)))}`);
      await writeFile(join(dir, folder, "md5hashes.csv"), `${lines.join("\n")}\n`);
    }
  };

/** TCIA/data-retriever, core/app/download.go (4209c4a): Patient/Study UID/Series UID, and its cache of metadata. */
const go: Build = async (dir) => {
  for (const { series, name, bytes } of await images()) {
    await put(join(dir, "P", "1.2.840.1.70", series, name), bytes);
    await put(join(dir, "metadata", `${series}.json`), "{}");
  }
  await writeFile(join(dir, "metadata.csv"), "SeriesInstanceUID,completion_status\n");
};

/** tcia_utils nbia.py `downloadSeries` (ef45a04): a folder a series, LICENSE in it; `hash="y"`: counted names and sums. */
const tciaUtils =
  (hash: boolean): Build =>
  async (dir) => {
    const sums = new Map<string, string[]>();
    for (const { series, name, bytes } of await images()) {
      const lines = sums.get(series) ?? ["Filename,MD5Hash"];
      sums.set(series, lines);
      const counted = `${lines.length}.dcm`.padStart(12, "0");
      await put(join(dir, series, hash ? counted : name), bytes);
      lines.push(`${counted},${md5(bytes)}`);
      if (!hash) await put(join(dir, series, "LICENSE"), "License Information.");
    }
    for (const [series, lines] of hash ? sums : [])
      await put(join(dir, series, "md5hashes.csv"), `${lines.join("\n")}\n`);
  };

/** LuxImagingAI/URT TciaDownloader.py `rename_patients`: dates are `unknown_date` where the archive has none. */
const renamed: Build = async (dir) => {
  for (const { series, name, bytes } of await images()) {
    const path = join("P1", `unknown_date-CHEST-${series.slice(-5)}`, `2.0-nan-${series.slice(-5)}`, name);
    await put(join(dir, "LUNG CT", path), bytes);
  }
};

/** Everything in one folder, under names that say nothing. */
const mixed =
  (folder: string): Build =>
  async (dir) => {
    for (const [index, { bytes }] of (await images()).entries())
      await put(join(dir, folder, `IM${String(index).padStart(5, "0")}`), bytes);
  };

/** Paths of the data set with the SOP Instance UID of each. */
async function sops(dir: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const path of await listFiles(dir)) {
    const sop = readDicomIdentity(await readFile(join(dir, path)))?.sopInstanceUid;
    if (sop) found.set(path, sop);
  }
  return found;
}
const pathOf = async (dir: string, sop: string): Promise<string> => {
  const path = [...(await sops(dir))].find(([, each]) => each === sop)?.[0];
  if (path === undefined) throw new Error(`${sop} is not below ${dir}`);
  return path;
};
async function flipByte(path: string): Promise<void> {
  const file = await open(path, "r+");
  const { size } = await file.stat();
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, size - 5);
  byte[0] = (byte[0] as number) ^ 1;
  await file.write(byte, 0, 1, size - 5);
  await file.close();
}

const fetched = () => ({
  zips: stage.requests("getImage").map((request) => request.query.SeriesInstanceUID),
  images: stage.requests("getSingleImage").map((request) => request.query.SOPInstanceUID),
});

/** A second get has nothing to do, and the folder is proved. */
async function settled(dir: string): Promise<void> {
  expect((await runVerify(dir)).summary).toMatchObject({ exit: 0, changed: 0, missing: 0, moved: 0 });
  stage.control.clearRequests();
  const { summary } = await stage.get([], { dir });
  expect(summary).toMatchObject({ exit: 0, stored: { items: 0 }, adopted: { items: 0 }, here: { items: 6 } });
  expect(fetched()).toEqual({ zips: [], images: [] });
}

describe.each<[string, Build, string]>([
  ["Java retriever, descriptive", java("descriptive", false), "md5"],
  ["Java retriever, descriptive, with md5hashes.csv", java("descriptive", true), "md5hashes.csv"],
  ["Java retriever, classic", java("classic", false), "md5"],
  ["Java retriever, classic, with md5hashes.csv", java("classic", true), "md5hashes.csv"],
  ["Go retriever", go, "md5"],
  ["tcia_utils", tciaUtils(false), "md5"],
  ["tcia_utils with hashes", tciaUtils(true), "md5hashes.csv"],
  ["the renaming script, unknown_date", renamed, "md5"],
  ["one mixed folder, names without extension", mixed("all of it"), "md5"],
  ["all in the target folder itself", mixed("."), "md5"],
])("a folder of: %s", (_name, build, authority) => {
  let dir: string;
  let before: Map<string, string>;

  beforeEach(async () => {
    dir = join(await temporaryDir(), "old");
    await build(dir);
    before = await sops(dir);
    expect(before.size).toBe(IMAGES);
    stage.control.clearRequests();
  });

  it("whole: nothing is fetched, no file moves, and it is proved", async () => {
    const { summary, events } = await stage.get(["tcia:"], { dir });
    expect(summary).toMatchObject({
      exit: 0,
      stored: { items: 1, files: 0 },
      adopted: { items: SERIES, files: IMAGES, fetchedFiles: 0 },
    });
    expect(fetched()).toEqual({ zips: ["1.2.840.1.5"], images: [] });
    const adopted = eventsOf(events, "item-adopted");
    expect(adopted.map((event) => event.proof)).toEqual(Array(SERIES).fill([authority, "count", "size"]));
    expect(stage.requests("getMD5HashForImage")).toHaveLength(authority === "md5" ? IMAGES : 0);
    expect(await sops(dir)).toEqual(before);
    await settled(dir);
  });

  it("an image is missing: it alone is fetched, beside the others", async () => {
    const path = await pathOf(dir, LOST);
    await rm(join(dir, path));
    const { summary } = await stage.get(["tcia:"], { dir });
    expect(summary).toMatchObject({
      exit: 0,
      adopted: { items: SERIES, files: IMAGES, fetchedFiles: 1 },
    });
    expect(fetched()).toEqual({ zips: ["1.2.840.1.5"], images: [LOST] });
    expect(dirname(await pathOf(dir, LOST))).toBe(dirname(path));
    expect((await sops(dir)).size).toBe(IMAGES);
    await settled(dir);
  });

  it("an image is wrong under its right size: it alone is fetched, the wrong one is put aside", async () => {
    const path = await pathOf(dir, LOST);
    const right = await readFile(join(dir, path));
    await flipByte(join(dir, path));
    const { summary, events } = await stage.get(["tcia:"], { dir });
    expect(summary).toMatchObject({ exit: 0, adopted: { items: SERIES, fetchedFiles: 1 } });
    expect(fetched()).toEqual({ zips: ["1.2.840.1.5"], images: [LOST] });
    expect(eventsOf(events, "quarantined").map((event) => event.path)).toContain(path);
    expect(await readFile(join(dir, await pathOf(dir, LOST)))).toEqual(right);
    expect((await sops(dir)).size).toBe(IMAGES);
    await settled(dir);
  });

  it("a series is missing: it alone is fetched, at its layout's place", async () => {
    for (const [path, sop] of before) if (sop.startsWith(`${VICTIM}.`)) await rm(join(dir, path));
    const { summary } = await stage.get(["tcia:"], { dir });
    expect(summary).toMatchObject({
      exit: 0,
      adopted: { items: SERIES - 1 },
      stored: { items: 2, files: 4 },
    });
    expect(fetched().zips.sort()).toEqual([VICTIM, "1.2.840.1.5"]);
    expect(fetched().images).toEqual([]);
    expect((await sops(dir)).size).toBe(IMAGES);
    await settled(dir);
  });

  it("a dry run tells what it would take over, and touches nothing", async () => {
    await rm(join(dir, await pathOf(dir, LOST)));
    const files = await listAll(dir);
    const { summary, events } = await stage.get(["tcia:"], { dir, dryRun: true });
    expect(summary.exit).toBe(0);
    expect(eventsOf(events, "planned")).toMatchObject([
      { found: { items: SERIES, files: IMAGES - 1 }, fetch: { items: 2, files: 1 }, here: { items: 0 } },
    ]);
    expect(await listAll(dir)).toEqual(files);
    expect(stage.requests("getMD5HashForImage")).toEqual([]);
  });
});
