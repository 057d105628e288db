/**
 * The steps of the TCIA Aspera notebook with Gantry: the page for people who come from it, line by line, on a package with
 * the notebook's names; the same on real files; and `examples/tcia-aspera.ipynb`, executed whole by Jupyter.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { type Desk, openDesk } from "../support/documented.ts";
import { has, listFiles, root, startStage, temporaryDir, testData } from "../support/gantry.ts";

const LONG = { timeout: 240_000 };
const page = readFileSync(join(root, "docs/coming-from/tcia-aspera-notebook.md"), "utf8");
const lines = [...page.matchAll(/```sh\n([\s\S]*?)```|`(gantry [a-z]+ [^`\n]+)`/gu)]
  .map(([, block, line]) => (block ?? line ?? "").trim())
  .filter((line) => line !== "gantry get -o her2");

/** A package of 1,000 small files, among them those that the notebook names, with its `.sums`. */
async function notebookPackage(): Promise<string> {
  const dir = await temporaryDir();
  const top = join(dir, "HER2_tumor_ROIs_v3");
  const paths = [
    "Yale_HER2_cohort/Annotations/Her2Pos_Case_01.xml",
    "Yale_HER2_cohort/SVS/Her2Pos_Case_01.svs",
    "Yale_trastuzumab_response_cohort/Annotations/O09-03495.xml",
    ...Array.from({ length: 997 }, (_, n) => `Filtered annotations only/${n % 20}/TCGA-${n}-01Z-00-DX1.xml`),
  ];
  const sums = paths.map((path) => {
    const text = `what ${path} holds\n`.repeat(10 + (path.length % 7));
    mkdirSync(dirname(join(top, path)), { recursive: true });
    writeFileSync(join(top, path), text);
    return `${createHash("md5").update(text).digest("hex")}  ${path}\n`;
  });
  writeFileSync(join(top, "HER2_tumor_ROIs_v3.sums"), sums.join(""));
  return dir;
}

async function openPackage(dataDir: string) {
  const stage = await startStage({ dataDir });
  const desk = await openDesk(stage);
  const links = await stage.sandbox.links();
  const sdk = await fetch(links.sdk ?? "");
  writeFileSync(join(desk.dir, "sdk.tar.gz"), Buffer.from(await sdk.arrayBuffer()));
  return { desk, link: links.package ?? "", stage };
}

const grounds = [
  { data: "1,000 files", folder: notebookPackage, rename: (line: string) => line, skip: false },
  {
    data: "real files (needs the test data)",
    folder: async () => join(testData ?? "", "package"),
    rename: (line: string) =>
      line
        .replaceAll("HER2_tumor_ROIs_v3", "Demo_HER2_tumor_ROIs_v1")
        .replaceAll("Her2Pos_Case", "Demo_Case")
        .replaceAll("Yale_", "Demo_"),
    skip: testData === null,
  },
];

describe("the page for people who come from the notebook", () => {
  for (const { data, folder, rename, skip } of grounds)
    it.skipIf(skip)(`runs line by line on ${data}`, LONG, async () => {
      const { desk, link, stage } = await openPackage(await folder());
      expect(lines.length).toBeGreaterThan(9);
      const transfers = (): number =>
        stage.control.requests().filter(({ method }) => method === "ASCP").length;
      for (const line of lines) {
        const before = transfers();
        const { code, stdout, stderr } = await desk.type(`LINK='${link}'\n${rename(line)}`);
        expect({ line, code, stdout, stderr }).toMatchObject({ code: 0 });
        // One for the list of checksums, and one for as many files as a token is good for.
        expect({ line, many: transfers() - before > 10 }).toEqual({ line, many: false });
      }
      // The two files keep their folders, or lie side by side.
      expect((await listFiles(join(desk.dir, "two"))).map((path) => path.split("/").length)).toEqual([4, 4]);
      expect(await listFiles(join(desk.dir, "flat"))).toEqual([rename("Her2Pos_Case_01.svs")]);
      // The folder knows its package: no link is needed, and nothing is fetched twice.
      const again = await desk.type("gantry get -o her2");
      expect(again, again.stderr).toMatchObject({
        code: 0,
        stderr: expect.stringContaining("Nothing to fetch"),
      });
      await findsExactly(desk);
    });
});

/** Three files are changed and two removed: the list of checksums finds these, and another `get` mends them. */
async function findsExactly(desk: Desk): Promise<void> {
  const [top = ""] = readdirSync(join(desk.dir, "her2")).filter((name) => name.startsWith("PKG"));
  const folder = join(desk.dir, "her2", top);
  const files = (await listFiles(folder)).filter((path) => !path.endsWith(".sums"));
  const hurt = files.filter((_, n) => n % Math.floor(files.length / 5) === 0).slice(0, 5);
  const gone = hurt.splice(1, 2);
  for (const path of hurt) appendFileSync(join(folder, path), "x");
  for (const path of gone) rmSync(join(folder, path));
  const check = `gantry verify --format json --sums 'her2/${top}/${top.slice("PKG - ".length)}.sums'`;
  const { code, stdout } = await desk.type(check);
  const found = (JSON.parse(stdout) as { outcome: string; path: string }[]).map(
    ({ outcome, path }) => `${outcome} ${path}`,
  );
  const wanted = [...hurt.map((path) => `changed ${path}`), ...gone.map((path) => `missing ${path}`)];
  expect({ code, found: found.sort() }).toEqual({ code: 6, found: wanted.sort() });
  const mended = await desk.type(`gantry get -o her2 && ${check}`);
  expect(mended, mended.stderr).toMatchObject({ code: 0 });
}

const PACKAGES = "import ipykernel, pandas";
const hasJupyter = has("jupyter-nbconvert") && spawnSync("/usr/bin/python3", ["-c", PACKAGES]).status === 0;

describe.skipIf(!hasJupyter)("examples/tcia-aspera.ipynb (needs jupyter-nbconvert, python3-pandas …)", () => {
  it.skipIf(testData === null)(
    "runs from top to bottom on real files (needs the test data)",
    LONG,
    async () => {
      const { desk, link, stage } = await openPackage(join(testData ?? "", "package"));
      copyFileSync(join(root, "examples/tcia-aspera.ipynb"), join(desk.dir, "tcia-aspera.ipynb"));
      const ended = await desk.type(
        `export GANTRY_SANDBOX_LINK='${link}' PYDEVD_DISABLE_FILE_VALIDATION=1
      /usr/bin/python3 -m nbconvert --to notebook --execute --output out.ipynb tcia-aspera.ipynb`,
      );
      expect(ended.code, ended.stderr).toBe(0);
      const out = readFileSync(join(desk.dir, "out.ipynb"), "utf8");
      expect(out).toContain("23 files");
      expect(out).toContain("byte for byte what was stored");
      expect(stage.control.requests().some(({ method, status }) => method === "ASCP" && status === 200)).toBe(
        true,
      );
    },
  );
});
