/** The page for people who come from an ascp recipe, line by line, on a site whose files are encrypted at rest. */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { openDesk } from "../support/documented.ts";
import { listFiles, root, startStage, temporaryDir, until } from "../support/gantry.ts";

const page = readFileSync(join(root, "docs/coming-from/ascp-recipe.md"), "utf8");
const lines = [...page.matchAll(/`(gantry [a-z]+ [^`\n]+)`/gu)]
  .map(([, line]) => line ?? "")
  // From the internet; a file instead is installed in the suite of the notebook's page.
  .filter((line) => line !== "gantry ascp install");

it("every line runs as it stands", { timeout: 240_000 }, async () => {
  const data = await temporaryDir();
  mkdirSync(join(data, "studies/SDY1"), { recursive: true });
  const text = "subject,age\n1,40\n";
  writeFileSync(join(data, "studies/SDY1/subjects.csv"), text);
  const digest = createHash("md5").update(text).digest("hex");
  writeFileSync(join(data, "studies/studies.sums"), `${digest}  SDY1/subjects.csv\n`);
  const stage = await startStage({ dataDir: data });
  const desk = await openDesk(stage);
  const { site } = await stage.sandbox.links();
  expect(lines.length).toBeGreaterThan(10);
  const before = `SITE='${site}encrypted'; export ASPERA_SCP_PASS=demo ASPERA_SCP_FILEPASS='demo at rest'`;
  for (const line of lines) {
    const { code, stdout, stderr } = await desk.type(`${before}\n${line}`);
    expect({ line, code, stdout, stderr }).toMatchObject({ code: 0 });
  }
  for (const folder of ["study", "careful", "slow", "fair", "plain", "later"]) {
    await until(`${folder} is there`, async () => (await listFiles(join(desk.dir, folder))).length > 0);
    expect(readFileSync(join(desk.dir, folder, "SDY1/subjects.csv"), "utf8")).toBe(text);
  }
  const { stdout } = await desk.type("cut -f1,2 study/.gantry/listing.tsv");
  expect(stdout).toContain(`SDY1/subjects.csv\t${text.length}`);
});
