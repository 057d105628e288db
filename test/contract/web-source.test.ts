import { createHash } from "node:crypto";
import { createRedactor } from "../../src/index.ts";
import type { Fault } from "../../src/sandbox/faults.ts";
import type { PlainFile } from "../../src/sandbox/plain-file.ts";
import type { Source } from "../../src/sources/source.ts";
import { createWebSource } from "../../src/sources/web/index.ts";
import { createHttp } from "../../src/transports/http.ts";
import { type FileServer, startFileServer } from "../support/file-server.ts";
import { type Lie, type ListLie, type SourceStand, sourceContract } from "./source.contract.ts";

const DATA = "/data/**";
const LISTS = "/probe/**";

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
  "redirect-loop": { kind: "redirect-loop", route: DATA },
  "expired-token": { kind: "expired-token", route: DATA },
  "list-html": { kind: "html", route: LISTS },
  "list-busy": { kind: "429", route: LISTS, retryAfter: 2 },
  "list-error": { kind: "500", route: LISTS },
};

const file = (text: string, modified: string): PlainFile => ({
  bytes: Buffer.from(text.repeat(2000)),
  type: "text/csv",
  modified: new Date(modified),
  contentMd5: true,
});
const FILES = {
  "/uploads/clinical.csv": file("patient,age\nP1,61\n", "2020-01-02T03:04:05Z"),
  "/uploads/other/clinical.csv": file("patient,age\nP2,62\n", "2015-05-27T17:12:21Z"),
  "/uploads/%C3%A4nderungen%20neu.txt": file("neu\n", "2015-05-27T17:12:21Z"),
};
/** A port that stays the same, so that addresses do. */
const names = Object.keys(FILES);

/** Links have no root: here it is all that the server has. */
function withRoot(source: Source, links: readonly string[]): Source {
  const own = (path: readonly string[]): boolean => path.length === 0;
  const rooted: Partial<Source> = {
    resolve: async (query, context) => (own(query.path) ? query : source.resolve(query, context)),
    list: async function* (query, options, context) {
      if (!own(query.path)) yield* source.list(query, options, context);
      else for (const link of links) yield* source.list({ ...query, path: [link] }, options, context);
    },
    browse: async function* (query, context) {
      if (!own(query.path)) yield* source.browse(query, context);
      else for (const link of links) yield* source.browse({ ...query, path: [link] }, context);
    },
  };
  return new Proxy(source, {
    get: (target, key) => {
      const mine: unknown = Reflect.get(rooted, key);
      const value: unknown = mine ?? Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

const server: FileServer = await startFileServer(FILES);
const links = names.map((name) => `${server.url}${name}`);

async function stand(): Promise<SourceStand> {
  for (const [name, each] of Object.entries(FILES)) server.files.set(name, each);
  server.setFaults([]);
  const http = createHttp({ userAgent: "test", connections: 8, stallTimeoutMs: 250, environment: {} });
  const source = createWebSource({
    archive: "web",
    url: "https://",
    http,
    redactor: createRedactor(),
    secrets: {},
    settings: {},
  });
  return {
    source: withRoot(source, links),
    lie: (lie, count) => {
      const fault = FAULTS[lie];
      if (!fault) throw new Error(`no fault stands for ${lie}`);
      server.setFaults([{ ...fault, ...(count === undefined ? {} : { count }) }]);
    },
    honest: () => server.setFaults([]),
    open: () => server.open(),
    fetches: () => server.requests.filter((each) => each.headers.range !== "bytes=0-0").length,
    elsewhere: () => server.elsewhere(),
    close: async () => {
      await source.close();
      await http.close();
    },
  };
}

const id = (index: number): string => `web-file:${links[index]}`;

sourceContract("web", stand, {
  items: links.map((link) => `web-file:${link}`),
  digests: async (item) => {
    const found = Object.entries(FILES).find(([name]) => item.endsWith(`${server.url}${name}`));
    return found ? [createHash("md5").update(found[1].bytes).digest("hex")] : [];
  },
  victim: id(0),
  unknown: [`${server.url}/uploads/gone.csv`],
  recased: [],
  misspelt: [],
  filtered: [
    { filters: { dates: { since: "2020-01-02" } }, items: [id(0)] },
    { filters: { dates: { until: "2019-12-31" } }, items: [id(1), id(2)] },
  ],
  listLies: { "list-html": "archive-reply", "list-busy": "archive-busy", "list-error": "archive-error" },
  lies: {
    "wrong-bytes": "proof-digest",
    "html-for-data": "archive-reply",
    "html-labelled-as-data": "proof-size",
    "json-error": "proof-size",
    "empty-body": "proof-size",
    busy: "archive-busy",
    "busy-until": "archive-busy",
    "error-500": "archive-error",
    "error-502": "archive-error",
    "error-504": "archive-error",
    stall: "archive-stalled",
    cut: "archive-cut",
    reset: "archive-cut",
    "redirect-elsewhere": "archive-reply",
    "redirect-loop": "archive-redirect",
    "expired-token": "access-login",
  },
});
