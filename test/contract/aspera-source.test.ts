/** A site whose server speaks SFTP, and whose files come by it; by ascp its lies are told in test/e2e and src/transports/ascp. */
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
const archive = ((await sandbox.links())["sftp-site"] ?? "").replace(/\/$/u, "");
const id = (name: string): string =>
  `aspera-file:127.0.0.1/Contract/${name.replace("\n", encodeURIComponent("\n"))}`;
const isData = (path: string): boolean =>
  Object.keys(FILES).some((name) => path === `/sftp/Contract/${name}`);

async function stand(): Promise<SourceStand> {
  sandbox.control.reset();
  const environment = { ASPERA_SCP_PASS: "demo", HOME: await temporaryDir() };
  const http = createHttp({ userAgent: "test", connections: 8, stallTimeoutMs: 500, environment });
  const redactor = createRedactor();
  const common = { environment, redactor, stallTimeoutMs: 1500 };
  const secrets = new SiteSecrets(common);
  const knownHosts = join(environment.HOME, "known_hosts");
  const source = createAsperaSource({
    ...{ archive, url: "https://", http, redactor, secrets: {}, settings: {} },
    ascp: createAscp(common),
    sftp: (site) => createSftp(site, { ...common, secrets, knownHosts }),
    transport: "sftp",
  });
  const seen = () =>
    sandbox.control.requests().filter(({ method, path }) => method === "SFTP" && isData(path));
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
    secrets: [],
    close: async () => {
      await source.close();
      await http.close();
    },
  };
}

sourceContract("aspera", stand, {
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
