/** `find --downloads`, and what it lists given to `get`. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { smallArchive } from "../support/dataset.ts";
import {
  freshDir,
  hashTree,
  listFiles,
  runVerify,
  type Stage,
  startStage,
  temporaryDir,
} from "../support/gantry.ts";

const has = (program: string): boolean => spawnSync(program, ["-v"]).error === undefined;

type Rows = Record<string, string | number | null>[];

let stage: Stage;
let rows: Rows;
beforeAll(async () => {
  stage = await startStage({ data: smallArchive() });
  const { code, stdout, stderr } = await stage.run([
    "find",
    "tcia:lung ct",
    "--downloads",
    "--format",
    "json",
  ]);
  expect(code, stderr).toBe(0);
  rows = JSON.parse(stdout) as Rows;
});
beforeEach(() => {
  stage.control.setFaults([]);
  stage.control.clearRequests();
});

const addressOf = (title: string): string => String(rows.find((row) => row.Title === title)?.address);
const get = async (words: readonly string[], dir: string) => {
  const result = await stage.run(["get", ...words, "-o", dir, "--retries", "0"]);
  return { ...result, said: result.stdout + result.stderr };
};
/** Status and range of the requests for the bytes of a file. */
const fetches = (end: string) =>
  stage.control
    .requests()
    .filter((each) => each.path.endsWith(end) && each.headers.range !== "bytes=0-0")
    .map((each) => [each.status, each.headers.range ?? null]);

describe("find --downloads", () => {
  it("lists what a collection's page offers, with sizes, licences and how to get it", () => {
    expect(rows.map(({ Title, FileSize, ServedBy }) => [Title, typeof FileSize, ServedBy])).toEqual([
      ["Images & Radiation Therapy – DICOM", "number", "gantry get"],
      ["Clinical data", "number", "gantry get"],
      ["Segmentations", "number", "gantry get"],
      ["Tissue slide images", "number", "gantry get"],
      ["Genomics", "object", expect.stringMatching(/^not served/u)],
    ]);
    expect(rows[0]).toMatchObject({ Collection: "LUNG CT", License: "CC BY 4.0", Access: "Public" });
  });

  it("lists all pages, and narrows by collection, date and number", async () => {
    const list = async (...more: string[]): Promise<Rows> => {
      const { code, stdout, stderr } = await stage.run([
        "find",
        "tcia:",
        "--downloads",
        "--format",
        "json",
        ...more,
      ]);
      expect(code, stderr).toBe(0);
      return JSON.parse(stdout) as Rows;
    };
    const all = await list();
    expect(new Set(all.map((row) => row.Collection)).size).toBeGreaterThan(2);
    expect(await list("--collection", "lung ct")).toEqual(rows);
    expect(await list("--limit", "2")).toEqual(all.slice(0, 2));
    const dates = all.map((row) => String(row.DateUpdated)).sort();
    const since = String(dates.at(-1));
    expect(await list("--since", since)).toEqual(all.filter((row) => row.DateUpdated === since));
  });

  it("refuses what it can't answer", async () => {
    for (const [words, sentence] of [
      [["tcia:", "--modality", "CT"], /can't be filtered by --modality/u],
      [["tcia:", "--count"], /--downloads and --count/u],
      [["tcia:LUNG CT", "--save", "x.jsonl"], /--downloads and --save/u],
      [["tcia:LUNG CD"], /did you mean LUNG CT/u],
      [["tcia:LUNG CT/P1"], /whole collection/u],
    ] as const) {
      const { code, stderr } = await stage.run(["find", ...words, "--downloads"]);
      expect(code, stderr).toBe(2);
      expect(stderr).toMatch(sentence);
    }
  });

  it("says when an archive's pages are not configured", async () => {
    const GANTRY_CONFIG = join(await temporaryDir(), "config.toml");
    await writeFile(GANTRY_CONFIG, '[archives.bare]\nkind = "nbia"\nurl = "http://127.0.0.1:1/nbia-api"\n');
    const { code, stderr } = await stage.run(["find", "bare:", "--downloads"], { env: { GANTRY_CONFIG } });
    expect(code).toBe(2);
    expect(stderr).toMatch(/pages = "https:\/\/HOST\/api"/u);
  });
});

describe("get of what it lists", () => {
  it.skipIf(!has("unzip"))(
    "files are fetched, whole in the eyes of unzip, and proved again (needs unzip)",
    async () => {
      const dir = await freshDir();
      const { code, said } = await get([addressOf("Clinical data"), addressOf("Segmentations")], dir);
      expect(code, said).toBe(0);
      expect(await listFiles(dir)).toEqual(["lung-ct-annotations.zip", "lung-ct-clinical.xlsx"]);
      for (const file of await listFiles(dir)) {
        const { status, stdout } = spawnSync("unzip", ["-tq", join(dir, file)], { encoding: "utf8" });
        expect(status, stdout).toBe(0);
      }
      expect((await runVerify(dir)).summary).toMatchObject({ exit: 0 });
      stage.control.clearRequests();
      expect((await get([], dir)).code).toBe(0);
      expect(fetches(".zip")).toEqual([]);
    },
  );

  it("a manifest is fetched and its series with it", async () => {
    const dir = await freshDir();
    const { code, said } = await get([addressOf("Images & Radiation Therapy – DICOM")], dir);
    expect(code, said).toBe(0);
    const wanted = [...smallArchive().series()].filter((each) => each.collection === "LUNG CT");
    const images = (await listFiles(dir)).filter((path) => path.endsWith(".dcm"));
    expect(images).toHaveLength(wanted.reduce((sum, each) => sum + each.instances().length, 0));
    expect((await runVerify(dir)).summary).toMatchObject({ exit: 0 });
  });

  it("a package is fetched by its link, and its site's password is at hand in the sandbox", async () => {
    const dir = await freshDir();
    const { code, said } = await get([addressOf("Tissue slide images"), "README.txt"], dir);
    expect(code, said).toBe(0);
    expect(await listFiles(dir)).toEqual([expect.stringMatching(/^PKG - .*\/README\.txt$/u)]);
    const { site } = await stage.sandbox.links();
    const from = `${site}Phantom_tumor_ROIs_v1/README.txt`;
    expect(await get([from], await freshDir())).toMatchObject({ code: 0 });
  });

  it("a package's link that is cut is refused, and its key is not repeated", async () => {
    const link = addressOf("Tissue slide images").slice(0, -10);
    const { code, said } = await get([link], await freshDir());
    expect(code).toBe(2);
    expect(said).toMatch(/cut or damaged.*copy the whole link/su);
    expect(said).not.toContain(new URL(link).searchParams.get("context"));
  });

  it("a file that is cut goes on in the middle with the next run", async () => {
    const dir = await freshDir();
    const link = addressOf("Segmentations");
    stage.control.setFaults([{ kind: "cut", route: "**/*.zip", skip: 1, afterBytes: 1_200_000 }]);
    const first = await get([link], dir);
    expect(first.code, first.said).toBe(5);
    stage.control.setFaults([]);
    const second = await get([], dir);
    expect(second.code, second.said).toBe(0);
    expect(fetches(".zip")).toEqual([
      [200, null],
      [206, expect.stringMatching(/^bytes=1[0-9]{6}-$/u)],
    ]);
    const clean = await freshDir();
    await get([link], clean);
    expect(await hashTree(dir)).toEqual(await hashTree(clean));
  });

  it("a file that changed meanwhile begins anew", async () => {
    const dir = await freshDir();
    const link = addressOf("Segmentations");
    stage.control.setFaults([{ kind: "cut", route: "**/*.zip", skip: 1, afterBytes: 1_200_000 }]);
    expect((await get([link], dir)).code).toBe(5);
    stage.control.setFaults([]);
    const [series] = [...smallArchive().series()].filter((each) => each.collection === "LUNG CT");
    const uid = String(series?.seriesInstanceUid);
    stage.control.change({ uid, change: "touch", submittedAt: "2033-01-01 00:00:00" });
    const { code, said } = await get([], dir);
    expect(code, said).toBe(0);
    expect(fetches(".zip").map(([status]) => status)).toEqual([200, 200]);
    stage.control.change({ uid, change: "restore" });
  });

  it("a login page with status 200 is never data", async () => {
    for (const [kind, code] of [
      ["html", 5],
      ["html-zip", 6],
    ] as const) {
      const dir = await freshDir();
      stage.control.setFaults([{ kind, route: "**/*.xlsx", skip: 1 }]);
      const result = await get([addressOf("Clinical data")], dir);
      expect(result.code, result.said).toBe(code);
      expect(await listFiles(dir)).toEqual([]);
    }
  });

  it("files of links lie beside an archive's series in one folder, whichever came first", async () => {
    const link = addressOf("Clinical data");
    const trees: string[][] = [];
    for (const words of [
      [["tcia:LUNG CT/P1"], [link]],
      [[link], ["tcia:LUNG CT/P1"]],
    ]) {
      const dir = await freshDir();
      for (const each of words) {
        const { code, said } = await get(each, dir);
        expect(code, said).toBe(0);
      }
      const again = await get([], dir);
      expect(again.code, again.said).toBe(0);
      expect((await runVerify(dir)).summary).toMatchObject({ exit: 0 });
      trees.push(await listFiles(dir));
      await rm(join(dir, "lung-ct-clinical.xlsx"));
      expect((await get([], dir)).code).toBe(0);
      expect(
        createHash("md5")
          .update(await readFile(join(dir, "lung-ct-clinical.xlsx")))
          .digest("hex"),
      ).toMatch(/^[0-9a-f]{32}$/u);
    }
    expect(trees[0]).toEqual(trees[1]);
    expect(trees[0]).toContain("lung-ct-clinical.xlsx");
    expect(trees[0]?.some((path) => path.startsWith("LUNG CT/P1/"))).toBe(true);
  });
});
