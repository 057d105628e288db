/**
 * The steps of the TCIA Aspera notebook with Gantry: the page for people who come from it, line by line, on a package with
 * the notebook's names; the same on real files; and `examples/tcia-aspera.ipynb`, executed whole by Jupyter.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { openDesk } from "../support/documented.ts";
import { has, listFiles, root, startStage, temporaryDir, testData } from "../support/gantry.ts";

const LONG = { timeout: 240_000 };
const page = readFileSync(join(root, "docs/coming-from/tcia-aspera-notebook.md"), "utf8");
const lines = [...page.matchAll(/```sh\n([\s\S]*?)```|`(gantry [a-z]+ [^`\n]+)`/gu)]
  .map(([, block, line]) => (block ?? line ?? "").trim())
  .filter((line) => line !== "gantry get -o her2");

/** A package of small files under the names that the notebook uses, with its `.sums`. */
async function notebookPackage(): Promise<string> {
  const dir = await temporaryDir();
  const top = join(dir, "HER2_tumor_ROIs_v3");
  const sums = [
    "Yale_HER2_cohort/Annotations/Her2Pos_Case_01.xml",
    "Yale_HER2_cohort/SVS/Her2Pos_Case_01.svs",
    "Yale_trastuzumab_response_cohort/Annotations/O09-03495.xml",
  ].map((path) => {
    const text = `what ${path} holds\n`.repeat(500);
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
  { data: "the notebook's names", folder: notebookPackage, rename: (line: string) => line, skip: false },
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
      const { desk, link } = await openPackage(await folder());
      expect(lines.length).toBeGreaterThan(9);
      for (const line of lines) {
        const { code, stdout, stderr } = await desk.type(`LINK='${link}'\n${rename(line)}`);
        expect({ line, code, stdout, stderr }).toMatchObject({ code: 0 });
      }
      // The two files keep their folders, or lie side by side.
      expect((await listFiles(join(desk.dir, "two"))).map((path) => path.split("/").length)).toEqual([4, 4]);
      expect(await listFiles(join(desk.dir, "flat"))).toEqual([rename("Her2Pos_Case_01.svs")]);
      // The folder knows its package: no link is needed, and nothing is fetched twice.
      const again = await desk.type("gantry get -o her2");
      expect(again, again.stderr).toMatchObject({ code: 0 });
    });
});

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
