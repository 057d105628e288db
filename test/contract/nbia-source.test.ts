import { createRedactor } from "../../src/index.ts";
import type { Fault } from "../../src/sandbox/faults.ts";
import { startSandbox } from "../../src/sandbox/server.ts";
import { createNbiaSource } from "../../src/sources/nbia/index.ts";
import type { ApiVersion } from "../../src/sources/nbia/wire/dialect.ts";
import { createHttp } from "../../src/transports/http.ts";
import { smallArchive } from "../support/dataset.ts";
import { type Lie, type ListLie, type SourceTraits, sourceContract } from "./source.contract.ts";

const LISTS = "**/getSeries";

/** The endpoint that gives the images of a series. */
const dataOf = (api: ApiVersion): string => (api === "v1" || api === "v2" ? "getDCMImage" : "getImage");

const faultsOf = (DATA: string): Partial<Readonly<Record<Lie | ListLie, Fault>>> => ({
  "wrong-bytes": { kind: "wrong-bytes", route: DATA },
  "wrong-digest": { kind: "wrong-md5", route: DATA },
  "flipped-bit": { kind: "flip", route: DATA },
  "missing-file": { kind: "short-zip", route: DATA },
  "missing-file-without-digests": { kind: "short-zip-no-md5", route: DATA },
  "no-files": { kind: "empty-zip", route: DATA },
  "extra-file": { kind: "extra-file", route: DATA },
  "duplicate-entry": { kind: "duplicate-entry", route: DATA },
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
  "slow-first-byte": { kind: "slow-first-byte", route: DATA, ms: 2500 },
  cut: { kind: "cut", route: DATA, fraction: 0.9 },
  reset: { kind: "reset", route: DATA },
  "redirect-elsewhere": { kind: "redirect", route: DATA },
  "redirect-loop": { kind: "redirect-loop", route: DATA },
  "expired-token": { kind: "expired-token", route: DATA },
  "torn-container": { kind: "truncated-directory", route: DATA },
  "trailing-bytes": { kind: "trailing", route: DATA },
  bomb: { kind: "bomb", route: DATA },
  "hostile-name": { kind: "hostile-name", route: DATA, name: "../../../evil.dcm" },
  "list-cut": { kind: "cut", route: LISTS, fraction: 0.7 },
  "list-torn": { kind: "truncated-json", route: LISTS, fraction: 0.7 },
  "list-html": { kind: "html", route: LISTS },
  "list-busy": { kind: "429", route: LISTS, retryAfter: 2 },
  "list-error": { kind: "500", route: LISTS },
});

const archive = smallArchive();
const id = (uid: string): string => `dicom-series:${uid}`;

const traits: SourceTraits = {
  items: [...archive.series()].map((series) => id(series.seriesInstanceUid)),
  digests: async (item) => {
    const series = archive.find(item.slice("dicom-series:".length));
    return Promise.all((series?.instances() ?? []).map((image) => image.md5()));
  },
  victim: id("1.2.840.1.1"),
  unknown: ["1.2.840.9.9.9"],
  recased: [
    { path: ["lung ct"], as: ["LUNG CT"] },
    { path: ["LUNG CT", "p1"], as: ["LUNG CT", "P1"] },
    { path: ["brain mr", "B-1", "1.2.840.1.90"], as: ["Brain MR", "b-1", "1.2.840.1.90"] },
  ],
  misspelt: [
    { path: ["LUNG CD"], near: "LUNG CT" },
    { path: ["Brain MR", "b-2"], near: "b-1" },
  ],
  filtered: [
    { filters: { words: { modality: ["mr", "PT"] } }, items: [id("1.2.840.1.3"), id("1.2.840.1.6")] },
    { filters: { words: { "body-part": ["BRAIN"] } }, items: [id("1.2.840.1.3")] },
    { filters: { dates: { since: "2020-01-02" } }, items: [id("1.2.840.1.6")] },
    { filters: { dates: { until: "2019-12-31" }, words: { patient: ["p2"] } }, items: [id("1.2.840.1.4")] },
    {
      filters: { include: ["LUNG CT/P2/**"], exclude: ["**/1.2.840.1.4"] },
      items: [id("1.2.840.1.6")],
    },
    { filters: { limitPatients: 1 }, items: [id("1.2.840.1.3")] },
  ],
  listLies: {
    "list-cut": "archive-cut",
    "list-torn": "archive-reply",
    "list-html": "archive-reply",
    "list-busy": "archive-busy",
    "list-error": "archive-error",
  },
  lies: {
    "wrong-bytes": "proof-digest",
    "wrong-digest": "proof-digest",
    "flipped-bit": "proof-format",
    "missing-file": "proof-count",
    "missing-file-without-digests": "proof-count",
    "no-files": "proof-count",
    "extra-file": "proof-digest",
    "duplicate-entry": "proof-format",
    "html-for-data": "archive-reply",
    "html-labelled-as-data": "proof-format",
    "json-error": "archive-reply",
    "empty-body": "proof-format",
    busy: "archive-busy",
    "busy-until": "archive-busy",
    "error-500": "archive-error",
    "error-502": "archive-error",
    "error-504": "archive-error",
    stall: "archive-stalled",
    "slow-first-byte": "archive-stalled",
    cut: "archive-cut",
    reset: "archive-cut",
    "redirect-elsewhere": "archive-reply",
    "redirect-loop": "archive-redirect",
    "expired-token": "access-login",
    "torn-container": "proof-format",
    "trailing-bytes": "proof-format",
    bomb: "proof-format",
    "hostile-name": "proof-format",
  },
};

async function stand(
  api: ApiVersion,
  secrets: { user?: string; password?: string; token?: string; apiKey?: string },
) {
  const sandbox = await startSandbox({ data: smallArchive(), password: "s3cret-of-demo" });
  const tcia = sandbox.archives.find((each) => each.name === (api === "v4" ? "tcia" : `tcia-${api}`));
  const data = dataOf(api);
  const faults = faultsOf(`**/${data}`);
  const http = createHttp({
    userAgent: "gantry/contract",
    connections: 8,
    // Longer than the bomb of the lies keeps the thread on a busy machine.
    stallTimeoutMs: 1000,
    environment: {},
  });
  const source = createNbiaSource({
    archive: "tcia",
    url: tcia?.url ?? "",
    settings: tcia?.settings ?? {},
    http: {
      // The source's own patience is minutes; a suite has less.
      request: (request, context) =>
        http.request({ ...request, firstByteTimeoutMs: Math.min(request.firstByteTimeoutMs, 400) }, context),
      close: () => http.close(),
    },
    redactor: createRedactor(),
    secrets,
  });
  return {
    source,
    lie: (lie: Lie | ListLie, count?: number) => {
      const fault = faults[lie];
      if (!fault) throw new Error(`no fault stands for ${lie}`);
      sandbox.control.setFaults([{ ...fault, ...(count === undefined ? {} : { count }) }]);
    },
    honest: () => sandbox.control.setFaults([]),
    open: () => sandbox.control.requests().filter((each) => each.ending === "open").length,
    fetches: () => sandbox.control.requests().filter((each) => each.path.endsWith(`/${data}`)).length,
    change: (what: "withdraw" | "fewer-files", item: string) => {
      const uid = item.slice("dicom-series:".length);
      sandbox.control.change(
        what === "withdraw" ? { uid, change: "withdraw" } : { uid, change: "remove-image", image: 0 },
      );
    },
    elsewhere: () => JSON.stringify(sandbox.elsewhere.requests),
    secrets: ["s3cret-of-demo", "Bearer", "api_key"],
    close: async () => {
      await source.close();
      await http.close();
      await sandbox.close();
    },
  };
}

const few: SourceTraits = {
  ...traits,
  lies: { "wrong-bytes": "proof-digest", cut: "archive-cut", "redirect-elsewhere": "archive-reply" },
  listLies: { "list-torn": "archive-reply" },
};
const login = { user: "demo", password: "s3cret-of-demo" };

/** A bomb takes seconds to build, and is met by the same unzip whatever the version. */
const { bomb: _bomb, ...olderLies } = traits.lies;
const { "expired-token": _, ...openLies } = olderLies;
/** What no count, size or form of a file can tell. */
const { "wrong-bytes": __, "wrong-digest": ___, "extra-file": ____, ...plainLies } = openLies;

sourceContract("nbia", () => stand("v4", login), traits);
sourceContract("nbia, anonymous", () => stand("v4", {}), few);
sourceContract("nbia v1", () => stand("v1", {}), { ...traits, lies: openLies });
sourceContract("nbia v2", () => stand("v2", login), { ...traits, lies: olderLies });
sourceContract("nbia v2, guest", () => stand("v2", {}), few);
sourceContract("nbia v3", () => stand("v3", { apiKey: "demo" }), {
  ...traits,
  lies: {
    ...plainLies,
    "extra-file": "proof-format",
    "missing-file": "proof-count",
    "missing-file-without-digests": "proof-count",
    "no-files": "proof-count",
  },
});
