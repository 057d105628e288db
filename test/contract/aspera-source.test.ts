/** Sites: one whose server speaks SFTP, and whose files come by it; and one that lists nothing, whose paths come by ascp. */
import { createHash } from "node:crypto";
import { mkdir, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createRedactor } from "../../src/index.ts";
import type { Fault } from "../../src/sandbox/faults.ts";
import { startSandbox } from "../../src/sandbox/server.ts";
import { createAsperaSource } from "../../src/sources/aspera/index.ts";
import { createAscp } from "../../src/transports/ascp/ascp.ts";
import { createHttp } from "../../src/transports/http.ts";
import { createSftp } from "../../src/transports/sftp/sftp.ts";
import { SiteSecrets } from "../../src/transports/site-secrets.ts";
import { atEnd, temporaryDir } from "../support/gantry.ts";
import { type Lie, type ListLie, type SourceStand, sourceContract } from "./source.contract.ts";

const DATA = "/sftp/Contract/**";

const FAULTS: Partial<Readonly<Record<Lie | ListLie, Fault>>> = {
  "short-body": { kind: "short-body", route: DATA },
  "empty-body": { kind: "short-body", route: DATA, afterBytes: 0 },
  "wrong-bytes": { kind: "changes", route: DATA },
  "missing-file": { kind: "missing", route: DATA },
  "error-500": { kind: "500", route: `${DATA}/*.svs` },
  stall: { kind: "stall", route: DATA, fraction: 0.5 },
  cut: { kind: "cut", route: DATA, fraction: 0.9 },
  reset: { kind: "reset", route: DATA },
  "list-cut": { kind: "cut", route: "/sftp/Contract/slides" },
  "list-error": { kind: "500", route: "/sftp/Contract/slides" },
};

const FILES: Readonly<Record<string, string>> = {
  "Größe 1.txt": "one\n".repeat(3000),
  "two\nlines.txt": "two\n",
  empty: "",
  "slides/a.svs": "slide a\n".repeat(100_000),
  "slides/deep/b.svs": "slide b\n".repeat(5000),
};
const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

const dataDir = await temporaryDir();
for (const [name, text] of Object.entries(FILES)) {
  const path = join(dataDir, "Contract", name);
  await mkdir(join(path, ".."), { recursive: true });
  await writeFile(path, text);
  await utimes(path, 1_600_000_000, 1_600_000_000);
}
const sandbox = await startSandbox({ dataDir });
atEnd(() => sandbox.close());
const links = await sandbox.links();
const archiveOf = (name: string): string => (links[name] ?? "").replace(/\/$/u, "");
const id = (name: string): string =>
  `aspera-file:127.0.0.1/Contract/${name.replace("\n", encodeURIComponent("\n"))}`;

/** How a stand is served: whose account, the faults of its road, and which requests are for bytes. */
interface Ground {
  readonly archive: string;
  readonly faults: typeof FAULTS;
  readonly isData: (request: { readonly method: string; readonly path: string }) => boolean;
  readonly transport: "ascp" | "sftp";
  readonly stallTimeoutMs: number;
}

async function stand(ground: Ground): Promise<SourceStand> {
  const { archive, transport, stallTimeoutMs } = ground;
  sandbox.control.reset();
  const home = await temporaryDir();
  const environment = { ...process.env, ...sandbox.environment, ASPERA_SCP_PASS: "demo", HOME: home };
  const http = createHttp({ userAgent: "test", connections: 8, stallTimeoutMs, environment });
  const redactor = createRedactor();
  const common = { environment, redactor, stallTimeoutMs };
  const secrets = new SiteSecrets(common);
  const knownHosts = join(home, "known_hosts");
  const source = createAsperaSource({
    ...{ archive, url: "https://", http, redactor, secrets: {}, settings: {} },
    ascp: createAscp(common),
    sftp: (site) => createSftp(site, { ...common, secrets, knownHosts }),
    transport,
  });
  const seen = () => sandbox.control.requests().filter(ground.isData);
  return {
    source,
    lie: (lie, count) => {
      const fault = ground.faults[lie];
      if (!fault) throw new Error(`no fault stands for ${lie}`);
      sandbox.control.setFaults([{ ...fault, ...(count === undefined ? {} : { count }) }]);
    },
    honest: () => sandbox.control.setFaults([]),
    open: () => seen().filter(({ ending }) => ending === "open").length,
    fetches: () => seen().length,
    secrets: [],
    close: async () => {
      await source.close();
      await http.close();
    },
  };
}

const overSftp: Ground = {
  archive: archiveOf("sftp-site"),
  faults: FAULTS,
  isData: ({ method, path }) =>
    method === "SFTP" && Object.keys(FILES).some((name) => path === `/sftp/Contract/${name}`),
  transport: "sftp",
  stallTimeoutMs: 1500,
};

sourceContract("aspera over SFTP", () => stand(overSftp), {
  root: ["Contract"],
  items: Object.keys(FILES).map(id),
  digests: async (item) =>
    Object.entries(FILES)
      .filter(([name]) => item === id(name))
      .map(([, text]) => sha256(text)),
  proof: ["count", "size"],
  victim: id("slides/a.svs"),
  unknown: ["Contract", "slides", "gone.svs"],
  recased: [
    { path: ["contract", "SLIDES", "A.svs"], as: ["Contract", "slides", "a.svs"] },
    { path: ["Contract", "Gro\u0308\u00dfe 1.txt"], as: ["Contract", "Größe 1.txt"] },
  ],
  misspelt: [
    { path: ["Contract", "slide"], near: "slides" },
    { path: ["Contract", "slides", "a.sv"], near: "slides/a.svs" },
  ],
  filtered: [
    { filters: { include: ["Contract/slides/**"] }, items: [id("slides/a.svs"), id("slides/deep/b.svs")] },
    { filters: { dates: { until: "2020-09-13" } }, items: Object.keys(FILES).map(id) },
    { filters: { dates: { since: "2021-01-01" } }, items: [] },
  ],
  listLies: { "list-cut": "archive-cut", "list-error": "archive-error" },
  lies: {
    "short-body": "proof-size",
    "empty-body": "proof-size",
    "wrong-bytes": "proof-size",
    "missing-file": "access-item",
    "error-500": "archive-error",
    stall: "archive-stalled",
    cut: "archive-cut",
    reset: "archive-cut",
  },
});

/** The other ways in which a session can end wrong are in test/e2e/aspera-sites: each try is a program that starts. */
const byAscp: Ground = {
  archive: archiveOf("site"),
  faults: {
    "missing-file": { kind: "ascp-short" },
    cut: { kind: "ascp-error", code: 16, afterBytes: 100_000 },
    "question-asked": { kind: "ascp-prompt" },
  },
  isData: ({ method }) => method === "ASCP",
  transport: "ascp",
  stallTimeoutMs: 2500,
};

sourceContract("aspera by ascp", () => stand(byAscp), {
  opaque: true,
  root: ["Contract"],
  items: ["aspera-path:127.0.0.1/Contract"],
  digests: async () => Object.values(FILES).map(sha256),
  proof: ["count", "size"],
  victim: "aspera-path:127.0.0.1/Contract",
  unknown: [],
  recased: [],
  misspelt: [],
  filtered: [],
  listLies: {},
  lies: { "missing-file": "proof-count", cut: "archive-cut", "question-asked": "access-login" },
});
