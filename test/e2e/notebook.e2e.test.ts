/** `examples/tcia-rest.ipynb`, executed whole by Jupyter, on phantoms and on real images. */
import { spawnSync } from "node:child_process";
import { copyFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openDesk } from "../support/documented.ts";
import { has, root, startStage, testData } from "../support/gantry.ts";

const NOTEBOOK = join(root, "examples/tcia-rest.ipynb");
const PACKAGES = "import ipykernel, matplotlib, pandas, pydicom";
const hasJupyter = has("jupyter-nbconvert") && spawnSync("/usr/bin/python3", ["-c", PACKAGES]).status === 0;

interface Output {
  readonly output_type: string;
  readonly text?: string | readonly string[];
  readonly data?: Readonly<Record<string, unknown>>;
}

const grounds = [
  { data: "phantoms", collection: "Phantom-CT", dataDir: undefined, skip: false },
  {
    data: "real images (needs the test data)",
    collection: "Soft-tissue-Sarcoma",
    dataDir: testData ?? "",
    skip: testData === null,
  },
];

describe.skipIf(!hasJupyter)("the notebook (needs jupyter-nbconvert, python3-pydicom …)", () => {
  for (const { data, collection, dataDir, skip } of grounds)
    it.skipIf(skip)(`runs from top to bottom on ${data}`, { timeout: 180_000 }, async () => {
      const desk = await openDesk(await startStage(dataDir === undefined ? {} : { dataDir }));
      copyFileSync(NOTEBOOK, join(desk.dir, "tcia-rest.ipynb"));
      const ended = await desk.type(
        `export GANTRY_EXAMPLE_COLLECTION='${collection}' PYDEVD_DISABLE_FILE_VALIDATION=1 MPLCONFIGDIR="$PWD"
        /usr/bin/python3 -m nbconvert --to notebook --execute --output out.ipynb tcia-rest.ipynb`,
      );
      expect(ended.code, ended.stderr).toBe(0);
      const { cells } = JSON.parse(readFileSync(join(desk.dir, "out.ipynb"), "utf8")) as {
        cells: { readonly outputs?: readonly Output[] }[];
      };
      const outputs = cells.flatMap((cell) => cell.outputs ?? []);
      expect(outputs.some(({ data: shown }) => shown !== undefined && "image/png" in shown)).toBe(true);
      const text = outputs.map((output) => [output.text ?? ""].flat().join("")).join("\n");
      expect(text).toContain("Nothing to fetch.");
      expect(text).toContain("Every file is byte for byte what was stored.");
      // No bar that is drawn over, no colour, no question.
      expect(text).not.toMatch(/\u001b|\r(?!\n)|\? *\r?$/mu);
    });
});
