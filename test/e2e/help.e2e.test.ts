/** Every example of every `--help` runs as it stands, in the order of the help, in one folder. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { COMMANDS } from "../../src/cli/program.ts";
import { type Desk, documentedArchive, openDesk } from "../support/documented.ts";
import { startStage } from "../support/gantry.ts";

const PATIENT = { timeout: 60_000 };

let desk: Desk;
let links: Readonly<Record<string, string>>;

beforeAll(async () => {
  const stage = await startStage({ data: documentedArchive() });
  desk = await openDesk(stage);
  links = await stage.sandbox.links();
});

/** A line with the sandbox's own places for what a user fills in, and for what is fetched from the internet. */
function filledIn(line: string): string {
  return line
    .replace(/aspera:\/\/USER@HOST\/?/u, links.site ?? "")
    .replace("https://HOST/…?context=…", (line.startsWith("gantry put") ? links.upload : links.package) ?? "")
    .replace(/^gantry ascp install$/u, `gantry ascp install --sdk-url '${links.sdk}'`);
}

/** Lines that need another state of the folder than the one before them left. */
const BEFORE: Readonly<Record<string, string>> = {
  "gantry verify --sums MD5SUMS": "md5sum cart.tcia > MD5SUMS",
  "gantry login tcia --user demo --password-file secret.txt": "echo demo > secret.txt",
  "gantry put results.csv images aspera://USER@HOST/incoming":
    "mkdir -p images scans; echo a,b > results.csv; echo 1 > images/1.dcm; echo 2 > scans/2.dcm",
  "gantry ascp install --sdk-url file:///sdk.tar.gz": 'curl -fsS -o sdk.tar.gz "$SDK"',
  // An earlier example added a server that does not exist, which the doctor would rightly name.
  "gantry doctor": "gantry archives remove old || true",
};
/** What a line ends with where that is not 0. */
const ENDS_WITH: Readonly<Record<string, number>> = {
  // There is no terminal to ask.
  "gantry login tcia": 2,
  "gantry drop lctsc tcia:LCTSC/LCTSC-Test-S1-101": 2,
};
/** Lines that run until Ctrl-C, and what they have written when they are ready for it. */
const UNTIL: Readonly<Record<string, string>> = { "gantry sandbox": "Ctrl-C stops it." };

const commands = await Promise.all(
  // `get` first: other commands' examples speak of the folder that it fills.
  [...COMMANDS]
    .sort((a, b) => Number(b.name === "get") - Number(a.name === "get"))
    .map(async ({ name, load }) => ({
      name,
      examples: (await load()).command.examples,
    })),
);

describe.each(commands)("gantry help $name", ({ examples }) => {
  it.each(examples.map(([line]) => line))("%s", PATIENT, async (line) => {
    const before = BEFORE[line];
    if (before !== undefined)
      expect(await desk.type(`SDK='${links.sdk}'\n${before}`)).toMatchObject({ code: 0 });
    const until = UNTIL[line];
    const { code, stdout, stderr } = await desk.type(
      filledIn(line),
      until === undefined ? {} : { interruptAt: until },
    );
    expect({ code, stdout, stderr }).toMatchObject({ code: ENDS_WITH[line] ?? 0 });
  });
});

// A background download of an example may still be at work in the folder that is about to be removed.
afterAll(async () => {
  await desk.type("for dir in */; do gantry stop $dir; gantry status $dir --watch; done || true");
}, 60_000);
