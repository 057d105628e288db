/**
 * What each client calls done: two series, one of them with a fault of the archive, then the same command again
 * without it. The table of docs/judges.md is this one.
 */
import { spawnSync } from "node:child_process";
import { basename, join } from "node:path";
import { describe, expect, it } from "vitest";
import type { Fault } from "../../src/sandbox/faults.ts";
import { listFiles, temporaryDir } from "../support/gantry.ts";
import {
  type Archive,
  DATA_SETS,
  dicomDigests,
  imageDigests,
  openArchive,
  publicSeries,
  uidsOf,
  writeManifest,
} from "./archive.ts";
import { startArchiveFront } from "./archive-front.ts";
import { lack, program, pythonWith, runClient } from "./clients.ts";

interface Outcome {
  readonly exit: number | null;
  /** Whether its output has a word of failure. */
  readonly told: boolean;
  /** The images that it left under their final names. */
  readonly left: readonly string[];
}

interface Client {
  readonly name: string;
  readonly found: string | null;
  /** Get the manifest `cart.tcia` of a folder, into the folder; again with `again`. */
  get(archive: Archive, folder: string, again: boolean): Promise<Outcome>;
}

const FAILURE = /SEVERE|WARN|ERROR|Exception|Error|[Ff]ailed: [1-9]|[1-9]\d* failed|\bfailed\b/u;

const outcome = async (
  { code, said }: { code: number | null; said: string },
  dir: string,
): Promise<Outcome> => ({
  exit: code,
  told: FAILURE.test(said.replace(/Failed: 0|\b0 failed/gu, "")),
  left: await dicomDigests(dir),
});

/** One of them waits for ever for a process whose error it can't read: it is given this long. */
const PATIENCE_MS = 45_000;

const python = (module: string, lines: readonly string[]) => async (archive: Archive, folder: string) => {
  const front = await startArchiveFront(archive.stage.sandbox.url);
  const script = ["if __name__ == '__main__':", ...lines.map((line) => `    ${line}`)].join("\n");
  const found = pythonWith(module) ?? "";
  return outcome(
    await runClient(found, ["-c", script], { cwd: folder, env: front.environment, timeoutMs: PATIENCE_MS }),
    join(folder, "out"),
  );
};

const UIDS = "[line.strip() for line in open('cart.tcia') if '=' not in line]";

function goUrls(archive: Archive, image: string): string[] {
  const base = `${archive.stage.sandbox.url}/nbia-api`;
  return [
    ...["--token-url", `${base}/oauth/token`, "--meta-url", `${base}/services/v2/getSeriesMetaData`],
    ...["--image-url", `${base}/services/v2/${image}`],
  ];
}

const CLIENTS: readonly Client[] = [
  {
    name: "gantry",
    found: "",
    get: async ({ stage }, folder) => {
      const args = ["get", join(folder, "cart.tcia"), "-o", join(folder, "out"), "--retries", "1"];
      const { code, stdout, stderr } = await stage.run([...args, "--progress", "none"]);
      return outcome({ code, said: stdout + stderr }, join(folder, "out"));
    },
  },
  {
    name: "official retriever",
    found: program("nbia-data-retriever"),
    get: async (_, folder, again) => {
      const args = ["--cli", "cart.tcia", "-d", join(folder, "out"), "--agree-to-license", "-m"];
      const found = program("nbia-data-retriever") ?? "";
      const ended = await runClient(found, args, { cwd: folder, input: again ? "M\n" : "" });
      return outcome(ended, join(folder, "out"));
    },
  },
  {
    name: "tcia_utils",
    found: pythonWith("tcia_utils.nbia"),
    get: python("tcia_utils.nbia", [
      "from tcia_utils import nbia",
      `nbia.downloadSeries(${UIDS}, input_type='list', hash='y', path='out')`,
    ]),
  },
  {
    name: "nbiatoolkit",
    found: pythonWith("nbiatoolkit"),
    get: python("nbiatoolkit", [
      "from nbiatoolkit import NBIAClient",
      `done = NBIAClient().downloadSeries(${UIDS}, downloadDir='out')`,
      "print('done' if done else '1 failed')",
    ]),
  },
  {
    name: "ygidtu",
    found: program("ygidtu"),
    get: async (archive, folder) => {
      const args = ["-i", "cart.tcia", "-s", "out", ...goUrls(archive, "getImage")];
      const ended = await runClient(program("ygidtu") ?? "", args, { cwd: folder });
      const opened = await temporaryDir();
      for (const path of (await listFiles(join(folder, "out"))).filter((name) => name.endsWith(".zip")))
        spawnSync("unzip", ["-qq", join(folder, "out", path), "-d", join(opened, basename(path))]);
      return outcome(ended, opened);
    },
  },
  {
    name: "GrigoryEvko",
    found: program("GrigoryEvko"),
    get: async (archive, folder) => {
      const args = ["-i", "cart.tcia", "-o", "out", "--max-retries", "0"];
      const found = program("GrigoryEvko") ?? "";
      const urls = goUrls(archive, "getImageWithMD5Hash");
      return outcome(await runClient(found, [...args, ...urls], { cwd: folder }), join(folder, "out"));
    },
  },
];

const ROUTE = "/get(DCM)?Image(WithMD5Hash)?$/";
const FAULTS: Readonly<Record<string, Omit<Fault, "route">>> = {
  "a valid zip with an image missing": { kind: "short-zip" },
  "an image with another byte": { kind: "wrong-bytes" },
  "the connection cut": { kind: "cut" },
  "a web page instead of a zip": { kind: "html-zip" },
  "503 from the front end": { kind: "503" },
};

/**
 * `exit N, told|silent, all|part; then all|part`: which images are there under their final names after the fault, and
 * after the same command without it; `and bad` when there are files with other bytes, too.
 */
async function judge(client: Client, fault: Omit<Fault, "route">): Promise<string> {
  const archive = await openArchive(DATA_SETS[0]!.open);
  const series = publicSeries(archive).filter(
    ({ collection, modality }) => collection === "Phantom-CT" && modality === "PT",
  );
  const wanted = await imageDigests(series);
  const folder = await temporaryDir();
  await writeManifest(folder, "cart.tcia", archive.stage.sandbox.url, uidsOf(series));
  const word = ({ left }: Outcome): string => {
    const good = left.filter((digest) => wanted.includes(digest)).length;
    return `${good === wanted.length ? "all" : "part"}${good === left.length ? "" : " and bad"}`;
  };
  const containing = series[0]?.seriesInstanceUid ?? "";
  archive.stage.control.setFaults([{ ...fault, route: ROUTE, containing }]);
  const first = await client.get(archive, folder, false);
  archive.stage.control.setFaults([]);
  const second = await client.get(archive, folder, true);
  const end = first.exit === null ? "hangs" : `exit ${first.exit}`;
  return `${end}, ${first.told ? "told" : "silent"}, ${word(first)}; then ${word(second)}`;
}

/** In the order of `FAULTS`. */
const EXPECTED: Readonly<Record<string, readonly string[]>> = {
  gantry: [
    "exit 3, told, part; then all",
    "exit 3, told, part; then all",
    "exit 3, told, part; then all",
    "exit 3, told, part; then all",
    "exit 3, told, part; then all",
  ],
  "official retriever": [
    "exit 0, silent, part; then part",
    "exit 0, told, part and bad; then part and bad",
    "exit 0, told, part and bad; then part and bad",
    "exit 0, told, part; then part",
    "exit 0, told, part; then all",
  ],
  tcia_utils: [
    "exit 0, silent, part; then part",
    "exit 0, silent, part and bad; then part and bad",
    "exit 0, told, part; then all",
    "exit 0, told, part; then all",
    "exit 0, told, part; then all",
  ],
  nbiatoolkit: [
    "exit 0, silent, part; then part",
    "exit 0, told, part; then all",
    "hangs, told, part; then all",
    "exit 0, told, part; then all",
    "exit 0, told, part; then all",
  ],
  ygidtu: [
    "exit 0, silent, part; then part",
    "exit 0, silent, part and bad; then part and bad",
    "exit 0, told, part; then all",
    "exit 0, silent, part; then part",
    "exit 0, silent, part; then part",
  ],
  GrigoryEvko: [
    "exit 0, told, part; then all",
    "exit 0, told, part; then all",
    "exit 0, told, part; then all",
    "exit 0, told, part; then all",
    "exit 0, told, part; then all",
  ],
};

describe.each(CLIENTS)("$name", (client) => {
  it.skipIf(client.found === null)(`calls done what it does${lack(client.found, client.name)}`, async () => {
    const outcomes: string[] = [];
    for (const [name, fault] of Object.entries(FAULTS))
      outcomes.push(`${name}: ${await judge(client, fault)}`);
    expect(outcomes).toEqual(
      Object.keys(FAULTS).map((name, index) => `${name}: ${EXPECTED[client.name]?.[index]}`),
    );
  });
});
