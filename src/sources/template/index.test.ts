/** The source against its stand-in, through the pipeline as every archive is: lists, fetches, proves, retries. */

import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { RunError } from "../../errors.ts";
import { type Context, systemClock } from "../../lib/context.ts";
import { createRedactor } from "../../lib/redact.ts";
import { RetryLoop } from "../../lib/retry.ts";
import { type Filters, NO_FILTERS } from "../../model/query.ts";
import { get, type RunEnvironment } from "../../pipeline/get.ts";
import type { Fault } from "../../sandbox/faults.ts";
import type { StandIn } from "../../sandbox/stand-ins.ts";
import { datasetOf, tinyImage, tinySeries } from "../../sandbox/tiny-dataset.ts";
import { replyOfFault, send } from "../../sandbox/wire.ts";
import { createFolderSink } from "../../sinks/folder.ts";
import { createHttp, type Http } from "../../transports/http.ts";
import type { Source, SourceContext } from "../source.ts";
import { createTemplateSource } from "./index.ts";
import { openTemplateStandIn } from "./sandbox.ts";

const context: Context = {
  signal: new AbortController().signal,
  clock: { ...systemClock, sleep: async () => undefined },
  random: () => 0,
  log: () => undefined,
};
const policy = { retries: 2, baseMs: 1, capMs: 1 };
const asking: SourceContext = { ...context, retry: new RetryLoop(policy, context) };

let server: Server;
let http: Http;
let source: Source;
let dir: string;
/** Each strikes one request for a file. */
let faults: Fault[];

beforeEach(async () => {
  faults = [];
  const dataset = datasetOf([
    tinySeries("1.2.3.1", {
      patientId: "P1",
      images: [tinyImage("1.2.3.1.1", 1), tinyImage("1.2.3.1.2", 2)],
    }),
    tinySeries("1.2.3.2", { patientId: "P2", images: [tinyImage("1.2.3.2.1", 1)] }),
  ]);
  const standIn = await openTemplateStandIn({
    dataset: Object.assign(dataset, { revisionOf: () => "" }),
    user: "demo",
    password: "demo",
    tokens: { ttlSeconds: 60, generation: 1 },
    precompute: false,
  });
  server = await serve(standIn);
  http = createHttp({ userAgent: "test", connections: 4, stallTimeoutMs: 2_000, environment: {} });
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const [archive] = standIn.archives(origin);
  if (!archive) throw new Error("the stand-in has no archive");
  source = createTemplateSource({
    archive: archive.name,
    url: archive.url,
    http,
    redactor: createRedactor(),
    secrets: {},
  });
  dir = await mkdtemp(join(tmpdir(), "gantry-template-"));
});

afterEach(async () => {
  await http.close();
  server.closeAllConnections();
  server.close();
  await rm(dir, { recursive: true, force: true });
});

/** What the sandbox's server does for a registered stand-in, in small. */
async function serve(standIn: StandIn): Promise<Server> {
  const listening = createServer((incoming, response) => {
    const url = new URL(incoming.url ?? "/", "http://sandbox");
    const request = {
      method: incoming.method ?? "GET",
      path: url.pathname,
      query: url.searchParams,
      headers: incoming.headers,
      form: new URLSearchParams(),
      incoming,
    };
    const route = standIn.route(request);
    const fault = route?.serves === "file" ? faults.shift() : undefined;
    const instead = fault && replyOfFault(fault, "http://127.0.0.1:1");
    void Promise.resolve(instead ?? route?.answer(request, fault) ?? { status: 404 }).then((reply) =>
      send(response, reply, fault),
    );
  });
  await new Promise<void>((resolve) => listening.listen(0, "127.0.0.1", resolve));
  return listening;
}

function fetchAll(words: readonly string[] = ["shelf:"], filters: Filters = NO_FILTERS) {
  const environment: RunEnvironment = {
    context,
    retry: policy,
    source: async () => source,
    archiveOfHost: () => null,
    defaultArchive: "shelf",
    stdin: () => process.stdin,
    sink: createFolderSink,
    onReceived: () => undefined,
    jobs: 2,
  };
  return get(words, { dir, filters }, environment).result;
}

const dataFiles = async (): Promise<string[]> =>
  (await readdir(dir, { recursive: true })).filter((path) => path.endsWith(".dcm")).sort();

async function collect<T>(values: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const value of values) all.push(value);
  return all;
}

it("stores every file, proved by sum, count and size, and nothing twice", async () => {
  const summary = await fetchAll();
  expect(summary).toMatchObject({ exit: 0, failed: 0, stored: { items: 3, files: 3, bytes: 9000 } });
  expect(await dataFiles()).toEqual([
    "LUNG CT/P1/1.2.3.1.1.dcm",
    "LUNG CT/P1/1.2.3.1.2.dcm",
    "LUNG CT/P2/1.2.3.2.1.dcm",
  ]);
  const [name] = await readdir(join(dir, ".gantry/receipts"));
  const lines = (await readFile(join(dir, ".gantry/receipts", name as string), "utf8")).trim().split("\n");
  expect(JSON.parse(lines[1] as string)).toMatchObject({ type: "stored", proof: ["md5", "count", "size"] });
  expect(await fetchAll()).toMatchObject({ exit: 0, stored: { items: 0 }, here: { items: 3 } });
});

it.each<Fault>([
  { kind: "wrong-bytes" },
  { kind: "cut", afterBytes: 100 },
  { kind: "reset" },
  { kind: "503" },
  { kind: "html" },
  { kind: "empty-body" },
])("tries again after $kind", async (fault) => {
  faults = [fault];
  expect(await fetchAll()).toMatchObject({ exit: 0, stored: { items: 3 } });
  expect(await dataFiles()).toHaveLength(3);
});

it("never shows a file that stays wrong", async () => {
  faults = Array.from({ length: 9 }, () => ({ kind: "wrong-bytes" }) as const);
  const summary = await fetchAll();
  expect(summary.exit).toBe(6);
  expect(summary.failures.map(({ code }) => code)).toEqual(["proof-digest", "proof-digest", "proof-digest"]);
  expect(await dataFiles()).toEqual([]);
});

it("resolves names without case and tells near ones", async () => {
  const query = (...path: string[]) => ({ path, filters: NO_FILTERS });
  expect((await source.resolve(query("lung ct", "p1"), asking)).path).toEqual(["LUNG CT", "P1"]);
  const error = await source.resolve(query("LUNG"), asking).catch((caught: RunError) => caught);
  expect(error).toMatchObject({ code: "unknown-name", hint: "did you mean LUNG CT?" });
});

it("gives addresses that can be pasted back, level by level", async () => {
  const query = (...path: string[]) => ({ path, filters: NO_FILTERS });
  expect(await collect(source.browse(query(), asking))).toEqual([
    { Collection: "LUNG CT", address: "shelf:LUNG CT" },
  ]);
  expect((await collect(source.browse(query("LUNG CT"), asking))).map((row) => row.address)).toEqual([
    "shelf:LUNG CT/P1",
    "shelf:LUNG CT/P2",
  ]);
  expect(await fetchAll(["shelf:LUNG CT/P2/1.2.3.2.1"])).toMatchObject({ exit: 0, stored: { items: 1 } });
});

it("an id that is not shown is a failed item, not an error of the run", async () => {
  const summary = await fetchAll(["shelf:LUNG CT/P1/9.9"]);
  expect(summary).toMatchObject({ exit: 4, failed: 1, failures: [{ code: "access-item" }] });
});
