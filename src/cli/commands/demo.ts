import { defineCommand, type Running, shellWord, UsageError } from "../command.ts";
import { hasColour, type Io, isScreen } from "../io.ts";
import { drawSlice, readSlice, type Slice } from "../render/slice.ts";
import { shown } from "../render/wording.ts";
import { createWriter } from "../render/writer.ts";
import type { System } from "../system.ts";
import { configOf } from "./sandbox.ts";

const PATIENT = "tcia:Phantom-CT/PHANTOM-0001";
/** A reader's breath between two steps; only on a terminal. */
const BREATH_MS = 700;
const PICTURE_COLUMNS = 48;

export const command = defineCommand<object>({
  words: "[dir]",
  about:
    "The guided first run, without the internet: finds, downloads, proves, breaks and mends images of the sandbox. With DIR (new or empty) the data stay there.",
  flags: [],
  examples: [
    ["gantry demo", "see it once"],
    ["gantry demo phantom", "and keep the images"],
  ],
  async run({ words }, running) {
    const { io } = running;
    const system = await io.system();
    if (words[0] !== undefined && !(await system.isEmpty(words[0]))) {
      throw new UsageError(
        `${JSON.stringify(words[0])} is not an empty folder`,
        "name a new folder, or none",
      );
    }
    const { startSandbox } = await import("../../sandbox/server.ts");
    const sandbox = await startSandbox();
    const folder = await system.makeTemporaryFolder();
    try {
      const config = `${folder}/config.toml`;
      await system.writeText(config, configOf(sandbox.archives));
      // Accounts of the real archives are not for the stand-ins.
      const names = sandbox.archives.map(({ name }) => `GANTRY_${name.toUpperCase().replaceAll("-", "_")}_`);
      const own = Object.entries(io.env).filter(([key]) => !names.some((name) => key.startsWith(name)));
      const env = { ...Object.fromEntries(own), ...sandbox.environment, GANTRY_CONFIG: config };
      const dir = words[0] ?? `${folder}/phantom`;
      return await guide({
        running,
        system,
        env,
        dir,
        kept: words[0] !== undefined,
        spoil: (uids) =>
          sandbox.control.setFaults([
            {
              kind: "short-zip",
              images: 3,
              count: 1,
              ...(uids[0] === undefined ? {} : { containing: uids[0] }),
            },
            { kind: "flip", count: 1, ...(uids[1] === undefined ? {} : { containing: uids[1] }) },
          ]),
        calm: () => sandbox.control.setFaults([]),
      });
    } finally {
      await system.remove(folder);
      await sandbox.close();
    }
  },
});

interface Stage {
  readonly running: Running;
  readonly system: System;
  readonly env: Io["env"];
  readonly dir: string;
  /** The data stay after the end. */
  readonly kept: boolean;
  /** Makes the archive misbehave once for each of two series. */
  readonly spoil: (uids: readonly string[]) => void;
  readonly calm: () => void;
}

class Unexpected extends Error {
  readonly status: number;
  constructor(status: number) {
    super(`ended with ${status}`);
    this.status = status;
  }
}

async function guide(stage: Stage): Promise<number> {
  const { running, system, dir } = stage;
  const { io } = running;
  const { main } = await import("../main.ts");
  const writer = createWriter(io.stdout);
  const colour = hasColour(io, io.stdout);
  const strong = (text: string): string => (colour ? `\u001b[1m${text}\u001b[0m` : text);
  const print = async (...lines: readonly string[]): Promise<void> => {
    await writer.write(lines.map((line) => `${line}\n`).join(""));
    await writer.flush();
  };
  let steps = 0;
  const step = async (title: string, ...lines: readonly string[]): Promise<void> => {
    if (steps > 0 && isScreen(io, io.stdout)) await io.sleep(BREATH_MS, running.signal);
    await print("", strong(`${++steps}. ${title}`), ...lines.map((line) => `   ${line}`), "");
  };
  // Signals reach the commands through the demo's own; the second one still leaves at once.
  running.onInterrupt(null);
  const inner: Io = {
    ...io,
    // One stream, so that a transcript in a file has everything in its place.
    stderr: io.stdout,
    env: stage.env,
    onSignal(handler) {
      const pass = (): void => handler("SIGINT");
      running.signal.addEventListener("abort", pass, { once: true });
      return () => running.signal.removeEventListener("abort", pass);
    },
  };
  /** Runs a command as typed; more words only make a pipe look like a terminal. */
  const type = async (
    words: readonly string[],
    expected: number,
    more: readonly string[] = [],
  ): Promise<void> => {
    running.signal.throwIfAborted();
    await print(strong(`$ gantry ${words.map(shellWord).join(" ")}`));
    const status = await main([...words, ...more], inner);
    running.signal.throwIfAborted();
    if (expected !== 0) await print(`(exit ${status})`);
    if (status !== expected) throw new Unexpected(status);
  };
  const table = ["--format", "table"];

  try {
    await print(
      strong("Gantry: the guided first run"),
      "A stand-in for The Cancer Imaging Archive now runs inside this program, with generated images.",
      "Nothing leaves this machine. Each command below is what you would type yourself.",
    );
    await step(
      "What is there?",
      "`values` shows what a field holds, with the number of patients that have it.",
    );
    await type(["values", "tcia:", "modality"], 0, table);

    await step(
      "Which series exactly?",
      "`find` lists what matches. An address can be pasted into any command.",
    );
    const fields = ["--fields", "address,Modality,SeriesDescription,ImageCount,FileSize"];
    await type(["find", PATIENT, "--modality", "CT"], 0, [...table, ...fields]);

    await step(
      "Download it.",
      "To make it interesting, the archive is now told to lie twice: one reply lacks three images,",
      'in another one a byte is wrong. Both come with "200 OK", as they do in real life.',
    );
    stage.spoil(await largestSeries(inner));
    await type(["get", PATIENT, "-o", dir], 0);
    stage.calm();
    await print(
      "",
      "   Both lies were noticed, and those series fetched again: see the lines that begin with `retry`.",
    );

    await step("Is it still what was downloaded?", "`verify` hashes every file again, today or next year.");
    await type(["verify", dir], 0, table);

    const files = await system.listFiles(dir, ".dcm");
    const victim = files[Math.floor(files.length / 2)];
    if (victim === undefined) throw new Unexpected(1);
    await system.invertByte(`${dir}/${victim}`, -1_000);
    await step("Now a disk goes bad.", "One byte was changed behind Gantry's back, in", shown(victim));
    await type(["verify", dir], 6, table);

    await step("Mend it.", "The same command that resumes a download fetches again only what is not right.");
    await type(["get", "-o", dir], 0);
    await type(["verify", dir], 0, table);

    const slice = await chooseSlice(system, dir, files);
    if (slice !== null) {
      await step("And this is what arrived.");
      const lines = drawSlice(slice.slice, PICTURE_COLUMNS, colour);
      await print(...lines.map((line) => `   ${line}`.trimEnd()), "", `   ${shown(slice.path)}`);
    }
    await print(
      "",
      stage.kept
        ? `The images are in ${shown(dir)}.`
        : "The images are gone again; `gantry demo DIR` keeps them.",
      "",
      "Next, with the real archive:",
      "  gantry ls tcia:                           its collections",
      "  gantry get tcia:LCTSC -o lctsc --dry-run  what one would take",
      "  gantry help get                           everything that `get` can do",
    );
    return 0;
  } catch (error) {
    if (!(error instanceof Unexpected)) throw error;
    await print("", `The demo ends here: the command before this line ended with exit ${error.status}.`);
    return error.status === 0 ? 1 : error.status;
  }
}

/** The UIDs of the patient's series, those with the most images first. */
async function largestSeries(io: Io): Promise<string[]> {
  const { open } = await io.library();
  const gantry = await open({ environment: io.env });
  try {
    const filters = { words: {}, dates: {}, include: [], exclude: [], limit: null, limitPatients: null };
    const sizes: { uid: string; images: number }[] = [];
    for await (const row of (await gantry.find([PATIENT], { filters })).rows) {
      sizes.push({ uid: String(row.SeriesInstanceUID ?? ""), images: Number(row.ImageCount ?? 0) });
    }
    return sizes
      .filter(({ uid }) => uid !== "")
      .sort((a, b) => b.images - a.images)
      .map(({ uid }) => uid);
  } finally {
    await gantry.close();
  }
}

/** The middle image of the largest CT series. */
async function chooseSlice(
  system: System,
  dir: string,
  files: readonly string[],
): Promise<{ slice: Slice; path: string } | null> {
  const folders = new Map<string, string[]>();
  for (const path of files) {
    const folder = path.slice(0, path.lastIndexOf("/"));
    folders.set(folder, [...(folders.get(folder) ?? []), path]);
  }
  const largest = [...folders.values()].sort((a, b) => b.length - a.length);
  for (const paths of largest) {
    const path = paths[Math.floor(paths.length / 2)]!;
    const slice = await readSlice(await system.readBytes(`${dir}/${path}`));
    if (slice?.modality === "CT") return { slice, path };
  }
  return null;
}
