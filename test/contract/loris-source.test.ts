import { createHash } from "node:crypto";
import { afterAll } from "vitest";
import { createRedactor } from "../../src/index.ts";
import { buildPhantomStudies } from "../../src/sandbox/data/phantom-study.ts";
import { filesOf, type ImagingStudy, type Studies, type StudyImage } from "../../src/sandbox/data/studies.ts";
import type { Fault } from "../../src/sandbox/faults.ts";
import { startSandbox } from "../../src/sandbox/server.ts";
import { createLorisSource } from "../../src/sources/loris/index.ts";
import { createHttp } from "../../src/transports/http.ts";
import { type Lie, type ListLie, type SourceStand, sourceContract } from "./source.contract.ts";

/** Two candidates with one visit of two images each: every kind of file, and little to move. */
function smallStudies(): Studies {
  const all = buildPhantomStudies({ candidates: 2 });
  const [bids] = all.studies;
  const small: ImagingStudy = {
    ...(bids as ImagingStudy),
    candidates: (bids as ImagingStudy).candidates.map((candidate) => ({
      ...candidate,
      visits: candidate.visits.slice(0, 1).map((visit) => ({
        ...visit,
        images: [visit.images[0], visit.images.at(-1)].flatMap((each) => each ?? []),
      })),
    })),
  };
  return { ...all, studies: [small] };
}

const studies = smallStudies();
const [study] = studies.studies as readonly [ImagingStudy];

const FAULTS = (DATA: string, LISTS: string): Partial<Readonly<Record<Lie | ListLie, Fault>>> => ({
  "flipped-bit": { kind: "flip", route: DATA },
  "short-body": { kind: "short-body", route: DATA, fraction: 0.5 },
  "missing-file": { kind: "missing", route: DATA },
  "html-for-data": { kind: "html", route: DATA },
  "html-labelled-as-data": { kind: "html-zip", route: DATA },
  "json-error": { kind: "json-error", route: DATA },
  "empty-body": { kind: "empty-body", route: DATA },
  busy: { kind: "429", route: DATA },
  "busy-until": { kind: "503", route: DATA, retryAfter: 3 },
  "error-502": { kind: "502", route: DATA },
  "error-504": { kind: "504", route: DATA },
  stall: { kind: "stall", route: DATA, fraction: 0.5 },
  "slow-first-byte": { kind: "slow-first-byte", route: DATA, ms: 2500 },
  cut: { kind: "cut", route: DATA, fraction: 0.9 },
  reset: { kind: "reset", route: DATA },
  "redirect-elsewhere": { kind: "redirect", route: DATA },
  "redirect-loop": { kind: "redirect-loop", route: DATA },
  "expired-token": { kind: "expired-token", route: DATA },
  "trailing-bytes": { kind: "trailing", route: DATA },
  "list-cut": { kind: "cut", route: LISTS, fraction: 0.7 },
  "list-torn": { kind: "truncated-json", route: LISTS, fraction: 0.7 },
  "list-html": { kind: "html", route: LISTS },
  "list-busy": { kind: "429", route: LISTS, retryAfter: 2 },
  "list-error": { kind: "502", route: LISTS },
});

const PASSWORD = "s3cret-of-demo";
const sandbox = await startSandbox({ studies, password: PASSWORD });
afterAll(() => sandbox.close());
const { host } = new URL(sandbox.url);

interface Side {
  /** Of the sandbox. */
  readonly name: string;
  readonly data: string;
  readonly lists: string;
}

async function stand({ name, data, lists }: Side): Promise<SourceStand> {
  sandbox.control.reset();
  const faults = FAULTS(data, lists);
  const http = createHttp({ userAgent: "gantry/test", connections: 8, stallTimeoutMs: 250, environment: {} });
  const source = createLorisSource({
    archive: "brain",
    url: urlOf(name),
    settings: {},
    http: {
      // The source's own patience is minutes; a suite has less.
      request: (request, context) =>
        http.request({ ...request, firstByteTimeoutMs: Math.min(request.firstByteTimeoutMs, 400) }, context),
      close: () => http.close(),
    },
    redactor: createRedactor(),
    secrets: { user: "demo", password: PASSWORD },
  });
  return {
    source,
    lie: (lie, count) => {
      const fault = faults[lie];
      if (!fault) throw new Error(`no fault stands for ${lie}`);
      sandbox.control.setFaults([{ ...fault, ...(count === undefined ? {} : { count }) }]);
    },
    honest: () => sandbox.control.setFaults([]),
    open: () => sandbox.control.requests().filter((each) => each.ending === "open").length,
    fetches: () => sandbox.control.requests().filter((each) => /\/images\/./u.test(each.path)).length,
    elsewhere: () => JSON.stringify(sandbox.elsewhere.requests),
    secrets: [PASSWORD, "Bearer"],
    close: async () => {
      await source.close();
      await http.close();
    },
  };
}

const urlOf = (name: string): string => sandbox.archives.find((each) => each.name === name)?.url ?? "";

/** A reply of the stand-in, asked without the client's code. */
async function ask(name: string, path: string): Promise<string> {
  const login = await fetch(`${urlOf(name)}/login`, {
    method: "POST",
    body: JSON.stringify({ username: "demo", password: PASSWORD }),
  });
  const { token } = (await login.json()) as { token: string };
  const reply = await fetch(urlOf(name) + path, { headers: { Authorization: `Bearer ${token}` } });
  return reply.text();
}

const md5 = (text: string): string => createHash("md5").update(text).digest("hex");
const sortedJson = (value: Record<string, unknown>): string =>
  `${JSON.stringify(Object.fromEntries(Object.entries(value).sort()), null, 2)}\n`;

async function md5OfFile(name: string): Promise<string> {
  const hash = createHash("md5");
  const file = [...filesOf(study)].find((each) => each.name === name);
  if (!file) throw new Error(`no file ${name}`);
  for await (const chunk of file.read()) hash.update(chunk);
  return hash.digest("hex");
}

const visits = study.candidates.flatMap(({ candId, visits }) =>
  visits.map((visit) => ({ candId, visit, t1w: visit.images[0], other: visit.images[1] })),
);
const [here, there] = visits as unknown as readonly [(typeof visits)[number], (typeof visits)[number]];
const LISTED = {
  "list-cut": "archive-cut",
  "list-torn": "archive-reply",
  "list-html": "archive-reply",
  "list-busy": "archive-busy",
  "list-error": "archive-error",
} as const;
const LIES = {
  "missing-file": "access-item",
  "flipped-bit": "proof-format",
  "short-body": "proof-format",
  "html-for-data": "proof-format",
  "html-labelled-as-data": "proof-format",
  "json-error": "proof-format",
  "empty-body": "proof-format",
  busy: "archive-busy",
  "busy-until": "archive-busy",
  "error-502": "archive-error",
  "error-504": "archive-error",
  stall: "archive-stalled",
  "slow-first-byte": "archive-stalled",
  cut: "archive-cut",
  reset: "archive-cut",
  "redirect-elsewhere": "proof-format",
  "redirect-loop": "archive-redirect",
  "expired-token": "access-login",
  "trailing-bytes": "proof-format",
} as const;

// The family of PREVENT-AD, with an export.
const exported = (path: string): string => `loris-file:${host}/loris/bids/${path}`;
const shared = study.files.map(({ name }) => exported(name));
const sessions = ({ candId, visit }: (typeof visits)[number]): string[] =>
  visit.bids.map(({ name }) => exported(`sub-${candId}/ses-${visit.label}/${name}`));
const images = ({ candId, visit }: (typeof visits)[number], image: StudyImage | undefined): string[] =>
  (image?.bids?.files ?? []).map(({ name }) =>
    exported(`sub-${candId}/ses-${visit.label}/${image?.bids?.subfolder}/${name}`),
  );
const exportedOf = (each: (typeof visits)[number]): string[] => [
  ...sessions(each),
  ...images(each, each.t1w),
  ...images(each, each.other),
];
const { candId } = here;
const label = here.visit.label;
const near = `${candId.slice(0, -1)}x`;

const flat: Side = { name: "preventad", data: "**/images/**", lists: "/\\/projects\\/loris\\/bids\\/$/" };
sourceContract("loris, flat", () => stand(flat), {
  root: ["bids"],
  proof: ["count", "size"],
  items: [...shared, ...visits.flatMap(exportedOf)],
  digests: async (item) => [await md5OfFile(item.slice(item.lastIndexOf("/") + 1))],
  victim: images(here, here.t1w)[0] ?? "",
  unknown: ["bids", candId, label, "none.nii.gz"],
  recased: [
    { path: ["BIDS", `SUB-${candId}`, `ses-${label.toLowerCase()}`], as: ["bids", candId, label] },
    { path: ["bids", study.candidates[0]?.pscid.toLowerCase() ?? ""], as: ["bids", candId] },
  ],
  misspelt: [
    { path: ["bid"], near: "bids" },
    { path: ["bids", near], near: candId },
    { path: ["bids", candId, `${label}0`], near: label },
  ],
  filtered: [
    {
      filters: { words: { modality: ["T1W"] } },
      items: [...shared, ...visits.flatMap((each) => [...sessions(each), ...images(each, each.t1w)])],
    },
    { filters: { words: { patient: [`sub-${candId}`] } }, items: [...shared, ...exportedOf(here)] },
    {
      filters: { words: { visit: [there.visit.label.toLowerCase()], patient: [there.candId] } },
      items: [...shared, ...exportedOf(there)],
    },
  ],
  listLies: LISTED,
  lies: LIES,
});

// LORIS 24.1, without one.
const acquired = (...path: string[]): string => `loris-file:${host}/${study.name}/minc/${path.join("/")}`;
const acquiredOf = ({ candId, visit }: (typeof visits)[number]): string[] => [
  acquired(candId, "candidate.json"),
  acquired(candId, visit.label, "session.json"),
  ...visit.images.flatMap(({ native }) => [
    acquired(candId, visit.label, native.name),
    acquired(candId, visit.label, `${native.name}.qc.json`),
  ]),
];
const modular: Side = { name: "loris-m", data: "**/images/*.mnc", lists: `**/projects/${study.name}/images` };
sourceContract("loris, modular", () => stand(modular), {
  root: ["minc"],
  proof: ["count"],
  items: visits.flatMap(acquiredOf),
  digests: async (item) => {
    const [candidate = "", second = "", name = second] = item.split("/minc/")[1]?.split("/") ?? [];
    if (name === "candidate.json") {
      const list = JSON.parse(await ask("loris-m", "/candidates/")) as { Candidates: { CandID: string }[] };
      return [md5(sortedJson({ ...list.Candidates.find(({ CandID }) => CandID === candidate) }))];
    }
    const at = `/candidates/${candidate}/${second}`;
    if (name === "session.json") {
      const { Meta } = JSON.parse(await ask("loris-m", at)) as { Meta: Record<string, unknown> };
      return [md5(sortedJson(Meta))];
    }
    const image = /^(.*)\.qc\.json$/u.exec(name)?.[1];
    return [
      image === undefined ? await md5OfFile(name) : md5(await ask("loris-m", `${at}/images/${image}/qc`)),
    ];
  },
  victim: acquired(candId, label, here.t1w?.native.name ?? ""),
  unknown: ["minc", candId, label, "none.mnc"],
  recased: [{ path: ["minc", candId, label.toLowerCase()], as: ["minc", candId, label] }],
  misspelt: [{ path: ["minc", near], near: candId }],
  filtered: [
    { filters: { words: { patient: [candId] } }, items: acquiredOf(here) },
    { filters: { words: { project: [study.name.toLowerCase()] } }, items: visits.flatMap(acquiredOf) },
    {
      filters: { words: { modality: [there.other?.scanType ?? ""], patient: [there.candId] } },
      items: acquiredOf(there).filter((id) => !id.includes(there.t1w?.native.name ?? "")),
    },
  ],
  listLies: { "list-torn": "archive-reply", "list-html": "archive-reply" },
  lies: {
    "missing-file": "access-item",
    "html-for-data": "proof-format",
    "error-502": "archive-error",
    stall: "archive-stalled",
    cut: "archive-cut",
    "redirect-elsewhere": "proof-format",
    "expired-token": "access-login",
  },
});
