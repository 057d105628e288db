/** A package whose bytes come over HTTP; by ascp its lies are told in test/e2e and src/transports/ascp. */
import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createRedactor } from "../../src/index.ts";
import { readSite } from "../../src/model/site.ts";
import type { Fault } from "../../src/sandbox/faults.ts";
import { startSandbox } from "../../src/sandbox/server.ts";
import { createFaspexSource } from "../../src/sources/faspex/index.ts";
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
const isData = (path: string): boolean => /\/v1\/download\/./u.test(path);

async function stand(): Promise<SourceStand> {
  sandbox.control.reset();
  const http = createHttp({ userAgent: "test", connections: 8, stallTimeoutMs: 500, environment: {} });
  const redactor = createRedactor();
  const source = createFaspexSource({
    archive,
    url: "https://",
    http,
    redactor,
    secrets: {},
    settings: {},
    link: () => link,
  });
  const seen = () => sandbox.control.requests().filter(({ path }) => isData(path));
  return {
    source,
    lie: (lie, count) => {
      const fault = FAULTS[lie];
      if (!fault) throw new Error(`no fault stands for ${lie}`);
      sandbox.control.setFaults([{ ...fault, ...(count === undefined ? {} : { count }) }]);
    },
    honest: () => sandbox.control.setFaults([]),
    open: () => seen().filter(({ ending }) => ending === "open").length,
    fetches: () => seen().length,
    secrets: [new URL(link).searchParams.get("context") ?? ""],
    close: async () => {
      await source.close();
      await http.close();
    },
  };
}

sourceContract("faspex", stand, {
  items: Object.keys(ALL).map(id),
  digests: async (item) =>
    Object.entries(ALL)
      .filter(([name]) => item === id(name))
      .map(([, text]) => md5(text)),
  proof: ["count", "size"],
  victim: id("slides/a.svs"),
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
