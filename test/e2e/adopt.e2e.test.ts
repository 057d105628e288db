/**
 * Folders of other tools: whatever they called their files, what is there is proved and stays, and the request log
 * holds exactly what was missing.
 */
import { createHash } from "node:crypto";
import {
  cp,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  writeFile,
} from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { readDicomIdentity } from "../../src/model/dicom.ts";
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
  temporaryDir,
  until,
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

describe("what else lies in old folders", () => {
  let dir: string;

  beforeEach(async () => {
    dir = join(await temporaryDir(), "old");
    stage.control.clearRequests();
  });

  /** `as_zip=True`; `sums` as the Go retriever asks for them. */
  const zips = async (sums: boolean): Promise<void> => {
    for (const uid of new Set((await images()).map((image) => image.series))) {
      const query = `SeriesInstanceUID=${uid}&NewFileNames=Yes${sums ? "&IncludeMD5=Yes" : ""}`;
      const base = stage.sandbox.archives.find(({ name }) => name === "tcia")?.url ?? "";
      const reply = await fetch(`${base}/services/v4/getImage?${query}`);
      await put(join(dir, `${uid}.zip`), new Uint8Array(await reply.arrayBuffer()));
    }
    stage.control.clearRequests();
  };

  it.each([true, false])("kept zips are unpacked from the disk (list of sums: %s)", async (sums) => {
    await zips(sums);
    const { summary, events } = await stage.get(["tcia:"], { dir });
    expect(summary).toMatchObject({ exit: 0, adopted: { items: SERIES, files: IMAGES, fetchedFiles: 0 } });
    expect(fetched()).toEqual({ zips: ["1.2.840.1.5"], images: [] });
    expect(eventsOf(events, "item-adopted").every(({ from }) => from?.endsWith(".zip"))).toBe(true);
    expect((await listFiles(dir)).filter((path) => path.endsWith(".zip"))).toHaveLength(SERIES);
    await settled(dir);
  });

  it("a cut zip is told, left, and its series fetched", async () => {
    await zips(true);
    const path = join(dir, `${VICTIM}.zip`);
    await writeFile(path, (await readFile(path)).subarray(0, -200));
    const { summary, events } = await stage.get(["tcia:"], { dir });
    expect(summary).toMatchObject({ exit: 0, adopted: { items: SERIES - 1 } });
    expect(fetched().zips.sort()).toEqual([VICTIM, "1.2.840.1.5"]);
    expect(
      eventsOf(events, "warning")
        .map(({ message }) => message)
        .join(),
    ).toContain(`${VICTIM}.zip`);
    await settled(dir);
  });

  it("what the Go retriever had half unpacked is copied to where it belongs", async () => {
    for (const { series, sop, name, bytes } of await images())
      if (sop !== LOST) await put(join(dir, "P", `${series}.uncompressed.tmp`, name), bytes);
    const fresh = await freshDir("fresh");
    await stage.get(["tcia:"], { dir: fresh });
    stage.control.clearRequests();
    const { summary } = await stage.get(["tcia:"], { dir });
    expect(summary).toMatchObject({ exit: 0, adopted: { items: SERIES, fetchedFiles: 1 } });
    expect(fetched()).toEqual({ zips: ["1.2.840.1.5"], images: [LOST] });
    await rm(join(dir, "P"), { recursive: true });
    expect(await hashTree(dir)).toEqual(await hashTree(fresh));
    await settled(dir);
  });

  it("links, empty, cut and foreign files are passed over", async () => {
    await mixed("all")(dir);
    const outside = join(await temporaryDir(), "outside.dcm");
    const path = await pathOf(dir, LOST);
    await rename(join(dir, path), outside);
    await symlink(outside, join(dir, path));
    await put(join(dir, "all", "empty"), "");
    await put(join(dir, "all", "notes.txt"), "mine");
    const second = await pathOf(dir, `${VICTIM}.2`);
    await truncate(join(dir, second), 200);
    const { summary } = await stage.get(["tcia:"], { dir });
    expect(summary).toMatchObject({ exit: 0, adopted: { items: SERIES, fetchedFiles: 2 } });
    expect(fetched().images.sort()).toEqual([LOST, `${VICTIM}.2`]);
    await settled(dir);
  });

  it("the old metadata.csv is kept aside", async () => {
    await java("classic", false)(dir);
    await stage.get(["tcia:"], { dir });
    expect(await readFile(join(dir, "metadata.csv"), "utf8")).not.toContain("written by the old tool");
    const [kept] = (await listAll(dir)).filter((path) => /quarantine\/[^/]+\/metadata\.csv$/u.test(path));
    expect(await readFile(join(dir, kept ?? ""), "utf8")).toContain("written by the old tool");
  });

  it("--prune moves copies of what is here, and leaves what is not of the selection", async () => {
    await tciaUtils(false)(dir);
    await mixed(".")(dir);
    await put(join(dir, "README"), "mine");
    expect((await stage.get(["tcia:LUNG CT"], { dir, prune: true })).summary.exit).toBe(0);
    const left = await sops(dir);
    const brain = [...left.values()].filter((sop) => sop.startsWith("1.2.840.1.3."));
    expect(brain).toHaveLength(6);
    expect(left.size).toBe(IMAGES - 3 + 6);
    expect(await readFile(join(dir, "README"), "utf8")).toBe("mine");
    expect((await runVerify(dir)).summary.exit).toBe(0);
  });

  it("a run that is killed while it completes a series ends as if it had not been", async () => {
    await java("classic", false)(dir);
    const whole = await sops(dir);
    const lost = await pathOf(dir, LOST);
    await rm(join(dir, lost));
    stage.control.setFaults([{ kind: "stall", route: "**/getSingleImage", count: 1 }]);
    const run = stage.start(["get", "tcia:", "-o", dir, "--layout", "classic"]);
    await until("an image is asked for", () => stage.requests("getSingleImage").length > 0);
    run.kill("SIGKILL");
    await run.ended;
    stage.control.setFaults([]);
    stage.control.clearRequests();
    expect((await stage.get([], { dir })).summary.exit).toBe(0);
    expect(fetched().images).toEqual([LOST]);
    expect(await sops(dir)).toEqual(whole);
    await settled(dir);
  });

  it("a refresh of one series in a mixed folder leaves the others alone", async () => {
    await mixed("all")(dir);
    await stage.get(["tcia:"], { dir });
    stage.control.change({ uid: VICTIM, change: "remove-image", image: 0 });
    expect((await stage.get([], { dir })).summary).toMatchObject({ exit: 0, stored: { items: 1, files: 3 } });
    expect((await sops(dir)).size).toBe(IMAGES - 1);
    expect((await runVerify(dir)).summary).toMatchObject({ exit: 0, changed: 0, missing: 0 });
  });

  it("a new series whose place is a folder of another's old files goes beside it", async () => {
    const classic = await freshDir("classic");
    await java("classic", false)(classic);
    const place = dirname(await pathOf(classic, LOST));
    for (const { series, name, bytes } of await images())
      if (series === "1.2.840.1.2") await put(join(dir, place, name), bytes);
    stage.control.clearRequests();
    const { summary } = await stage.get(["tcia:"], { dir, layout: "classic" });
    expect(summary).toMatchObject({ exit: 0, adopted: { items: 1, files: 3 } });
    expect((await sops(dir)).size).toBe(IMAGES);
    await settled(dir);
  });
});
