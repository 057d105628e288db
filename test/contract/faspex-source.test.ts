/** Packages of Faspex 5: one whose bytes come over HTTP, and one of oddities that comes by ascp. */
import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createRedactor } from "../../src/index.ts";
import { readSite } from "../../src/model/site.ts";
import { buildPackages } from "../../src/sandbox/data/generated-packages.ts";
import { filesBelow } from "../../src/sandbox/data/packages.ts";
import type { Fault } from "../../src/sandbox/faults.ts";
import { type Sandbox, startSandbox } from "../../src/sandbox/server.ts";
import { tinyDataset } from "../../src/sandbox/tiny-dataset.ts";
import { createFaspexSource } from "../../src/sources/faspex/index.ts";
import { createAscp } from "../../src/transports/ascp/ascp.ts";
import { createHttp } from "../../src/transports/http.ts";
import { atEnd, temporaryDir } from "../support/gantry.ts";
import { type Lie, type ListLie, type SourceStand, sourceContract } from "./source.contract.ts";

const DATA = "**/v1/download/*";
const LISTS = "**/files/**";

const FAULTS: Partial<Readonly<Record<Lie | ListLie, Fault>>> = {
  "wrong-bytes": { kind: "wrong-bytes", route: DATA },
  "html-for-data": { kind: "html", route: DATA },
  "html-labelled-as-data": { kind: "html-zip", route: DATA },
  "json-error": { kind: "json-error", route: DATA },
  "empty-body": { kind: "empty-body", route: DATA },
  busy: { kind: "429", route: DATA },
  "busy-until": { kind: "503", route: DATA, retryAfter: 3 },
  "error-500": { kind: "500", route: DATA },
  "error-502": { kind: "502", route: DATA },
  "error-504": { kind: "504", route: DATA },
  stall: { kind: "stall", route: DATA, fraction: 0.5 },
  cut: { kind: "cut", route: DATA, fraction: 0.9 },
  reset: { kind: "reset", route: DATA },
  "redirect-elsewhere": { kind: "redirect", route: DATA },
  "list-html": { kind: "html", route: LISTS },
  "list-busy": { kind: "429", route: LISTS, retryAfter: 2 },
  "list-error": { kind: "502", route: LISTS },
};

const FILES: Readonly<Record<string, string>> = {
  "Größe 1.txt": "one\n".repeat(3000),
  "slides/a.svs": "slide a\n".repeat(5000),
  "slides/deep/b.svs": "slide b\n".repeat(5000),
};
const md5 = (text: string): string => createHash("md5").update(text).digest("hex");
const LIST = Object.entries(FILES)
  .map(([name, text]) => `${md5(text)}  ${name}\n`)
  .join("");
const ALL = { ...FILES, "list.sums": LIST };

const dataDir = await temporaryDir();
for (const [name, text] of Object.entries(ALL)) {
  const path = join(dataDir, "Contract", name);
  await mkdir(join(path, ".."), { recursive: true });
  await writeFile(path, text);
}
const sandbox = await startSandbox({ dataDir });
atEnd(() => sandbox.close());
const link = (await sandbox.links()).gateway ?? "";
const archive = readSite(link)?.archive ?? "";
const id = (name: string): string => `faspex-file:${archive}/${name}`;

/** How a stand is served: the faults of its road, and which requests are for bytes. */
interface Ground {
  readonly sandbox: Sandbox;
  readonly link: string;
  readonly faults: Partial<Readonly<Record<Lie | ListLie, Fault>>>;
  readonly isData: (request: { readonly method: string; readonly path: string }) => boolean;
  /** Null: there is no ascp. */
  readonly stallTimeoutMs: number | null;
}

async function stand(ground: Ground): Promise<SourceStand> {
  const { control, environment } = ground.sandbox;
  control.reset();
  const http = createHttp({ userAgent: "test", connections: 8, stallTimeoutMs: 500, environment: {} });
  const redactor = createRedactor();
  const { stallTimeoutMs } = ground;
  const source = createFaspexSource({
    archive: readSite(ground.link)?.archive ?? "",
    url: "https://",
    http,
    redactor,
    secrets: {},
    settings: {},
    link: () => ground.link,
    ...(stallTimeoutMs === null
      ? {}
      : { ascp: createAscp({ environment: { ...process.env, ...environment }, redactor, stallTimeoutMs }) }),
  });
  const seen = () => control.requests().filter(ground.isData);
  return {
    source,
    lie: (lie, count) => {
      const fault = ground.faults[lie];
      if (!fault) throw new Error(`no fault stands for ${lie}`);
      control.setFaults([{ ...fault, ...(count === undefined ? {} : { count }) }]);
    },
    honest: () => control.setFaults([]),
    open: () => seen().filter(({ ending }) => ending === "open").length,
    fetches: () => seen().length,
    secrets: [new URL(ground.link).searchParams.get("context") ?? ""],
    close: async () => {
      await source.close();
      await http.close();
    },
  };
}

const overHttp: Ground = {
  sandbox,
  link,
  faults: FAULTS,
  isData: ({ path }) => /\/v1\/download\/./u.test(path),
  stallTimeoutMs: null,
};

sourceContract("faspex", () => stand(overHttp), {
  items: Object.keys(ALL).map(id),
  digests: async (item) =>
    Object.entries(ALL)
      .filter(([name]) => item === id(name))
      .map(([, text]) => md5(text)),
  proof: ["count", "size"],
  victim: id("slides/a.svs"),
  // The list of checksums comes first: what it then says wrong of a file, and itself, as it comes right the second time.
  spoiltByOne: 2,
  unknown: ["slides", "gone.svs"],
  recased: [
    { path: ["SLIDES", "A.svs"], as: ["slides", "a.svs"] },
    { path: ["Gro\u0308\u00dfe 1.txt"], as: ["Größe 1.txt"] },
  ],
  misspelt: [
    { path: ["slide"], near: "slides" },
    { path: ["slides", "a.sv"], near: "slides/a.svs" },
  ],
  filtered: [
    { filters: { include: ["slides/**"] }, items: [id("slides/a.svs"), id("slides/deep/b.svs")] },
    { filters: { include: ["**/*.svs"], exclude: ["slides/deep/**"] }, items: [id("slides/a.svs")] },
  ],
  listLies: { "list-html": "archive-reply", "list-busy": "archive-busy", "list-error": "archive-error" },
  lies: {
    "wrong-bytes": "proof-digest",
    "html-for-data": "archive-reply",
    "html-labelled-as-data": "proof-digest",
    "json-error": "archive-reply",
    "empty-body": "proof-digest",
    busy: "archive-busy",
    "busy-until": "archive-busy",
    "error-500": "archive-error",
    "error-502": "archive-error",
    "error-504": "archive-error",
    stall: "archive-stalled",
    cut: "archive-cut",
    reset: "archive-cut",
    "redirect-elsewhere": "archive-reply",
  },
});

const generated = await startSandbox({ data: tinyDataset() });
atEnd(() => generated.close());
const links = await generated.links();
const odd = (await buildPackages({ seed: 1 })).packages[2]?.root;
if (odd === undefined) throw new Error("there is no package of oddities");
/** Names with blanks, marks and a line break; sizes as text and not at all; links whose target is told, half told or not. */
const ODD = new Map([...filesBelow(odd)].map(({ path, file }) => [path, file]));
const oddArchive = readSite(links.odd ?? "")?.archive ?? "";
const oddId = (path: string): string =>
  `faspex-file:${oddArchive}/${path.replaceAll("%", "%25").replaceAll("\n", "%0A")}`;

const byAscp: Ground = {
  sandbox: generated,
  link: links.odd ?? "",
  faults: {
    ...FAULTS,
    // Not of the folder that is asked for in place of the name with a line break.
    "short-body": { kind: "ascp-file-error", code: 35, containing: "far away.svs" },
    // After the first piece of each session: the second try goes on where that left off, and is cut again.
    cut: { kind: "ascp-error", code: 16, afterBytes: 1 },
    stall: { kind: "ascp-hang", afterBytes: 1 },
    reset: { kind: "ascp-killed", afterBytes: 1 },
    busy: { kind: "ascp-error", code: 61 },
    "expired-token": { kind: "ascp-error", code: 1, description: "Token has expired" },
    "missing-file": { kind: "ascp-short" },
    "no-last-word": { kind: "ascp-no-final-frame", afterBytes: 1 },
    "failure-after-success": { kind: "ascp-late-exit" },
    "silent-end": { kind: "ascp-exit" },
    "torn-words": { kind: "ascp-odd-frames" },
    "question-asked": { kind: "ascp-prompt" },
  },
  isData: ({ method }) => method === "ASCP",
  stallTimeoutMs: 2500,
};

sourceContract("faspex by ascp", () => stand(byAscp), {
  items: [...ODD.keys()].map(oddId),
  digests: async (item) => {
    const [, file] = [...ODD].find(([path]) => oddId(path) === item) ?? [];
    const hash = createHash("md5");
    for await (const chunk of file?.read() ?? []) hash.update(chunk);
    return [hash.digest("hex")];
  },
  proof: ["count", "size"],
  victim: oddId("links/far away.svs"),
  unknown: ["sizes", "gone.bin"],
  recased: [
    { path: ["NAMES", "caf\u00e9.TXT"], as: ["names", "cafe\u0301.txt"] },
    { path: ["links", "TO A FOLDER, untold", "one.txt"], as: ["links", "to a folder, untold", "one.txt"] },
  ],
  misspelt: [
    { path: ["name"], near: "names" },
    { path: ["sizes", "text.bim"], near: "sizes/text.bin" },
  ],
  filtered: [
    {
      filters: { include: ["sizes/**"] },
      items: ["empty", "null", "text"].map((name) => oddId(`sizes/${name}.bin`)),
    },
    {
      filters: { include: ["**/*.svs"], exclude: ["links/no *"] },
      items: [oddId("links/far away.svs")],
    },
  ],
  // Listings are asked for over HTTP all the same.
  listLies: {},
  lies: {
    "short-body": "archive-error",
    cut: "archive-cut",
    stall: "archive-stalled",
    reset: "archive-cut",
    busy: "archive-busy",
    "expired-token": "archive-error",
    "missing-file": "archive-cut",
    "no-last-word": "archive-cut",
    // The file was told to be whole, and is: what ascp says of itself afterwards is of other files.
    "failure-after-success": "stored",
    "silent-end": "archive-cut",
    "torn-words": "stored",
    "question-asked": "access-login",
  },
});
