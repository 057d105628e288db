/**
 * Every line of the pages for people who come from other programs runs as it stands. `calls.md` has a suite of its own,
 * which also compares answers; so have the pages of Aspera, whose archives are packages and sites.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { type Desk, documentedArchive, openDesk, SERIES } from "../support/documented.ts";
import { root, startStage } from "../support/gantry.ts";

const PATIENT = { timeout: 60_000 };
const folder = join(root, "docs/coming-from");

/** Shell blocks, and each `gantry COMMAND …` in code style, as they follow one another on the page. */
function linesOf(text: string): string[] {
  return [...text.matchAll(/```sh\n([\s\S]*?)```|`(gantry [a-z]+ [^`\n]+)`/gu)].flatMap(([, block, line]) =>
    block === undefined ? [(line as string).replaceAll("\\|", "|")] : block.trim().split("\n"),
  );
}

/** Lines that a test types otherwise: what they would ask for stands on standard input. */
const TYPED: Readonly<Record<string, string>> = {
  "gantry login tcia": "printf demo | gantry login tcia --user demo --password-stdin",
  "gantry login preventad": "printf demo | gantry login preventad --user demo --password-stdin",
  "gantry login old": "printf demo | gantry login old --api-key-stdin --no-check",
  "gantry login tcia --user USER --password-file FILE":
    "printf demo > FILE; chmod 600 FILE; gantry login tcia --user demo --password-file FILE",
};
const OTHER_SUITES = ["calls.md", "tcia-aspera-notebook.md", "ascp-recipe.md"];

const pages = readdirSync(folder).filter((name) => name.endsWith(".md") && !OTHER_SUITES.includes(name));

describe.each(pages)("%s", (page) => {
  let desk: Desk;
  beforeAll(async () => {
    desk = await openDesk(await startStage({ data: documentedArchive() }));
    writeFileSync(join(desk.dir, "list.csv"), `,SeriesInstanceUID\n0,${SERIES.ct}\n`);
  });

  const lines = linesOf(readFileSync(join(folder, page), "utf8"));
  it.each(lines)("%s", PATIENT, async (line) => {
    const { code, stdout, stderr } = await desk.type(TYPED[line] ?? line);
    expect({ code, stdout, stderr }).toMatchObject({ code: 0 });
  });
});
