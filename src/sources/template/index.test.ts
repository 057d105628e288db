/** The source against its stand-in: what every source must do, and what is particular to this one. */

import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  type Lie,
  type ListLie,
  type SourceStand,
  sourceContract,
} from "../../../test/contract/source.contract.ts";
import { runPipeline } from "../../../test/support/pipeline.ts";
import { createRedactor } from "../../lib/redact.ts";
import { type Fault, FaultDeck } from "../../sandbox/faults.ts";
import { datasetOf, tinyImage, tinySeries } from "../../sandbox/tiny-dataset.ts";
import { tinyWorld } from "../../sandbox/tiny-world.ts";
import { replyOfFault, send } from "../../sandbox/wire.ts";
import { createHttp } from "../../transports/http.ts";
import { createTemplateSource } from "./index.ts";
import { openTemplateStandIn } from "./sandbox.ts";

const dataset = datasetOf([
  tinySeries("1.2.3.1", { patientId: "P1", images: [tinyImage("1.2.3.1.1", 1), tinyImage("1.2.3.1.2", 2)] }),
  tinySeries("1.2.3.2", {
    patientId: "P2",
    images: [tinyImage("1.2.3.2.1", 1)],
    submittedAt: "2020-01-02 03:04:05",
  }),
  tinySeries("1.2.3.3", { collection: "QIN & CO", patientId: "q/1", images: [tinyImage("1.2.3.3.1", 1)] }),
]);
const images = [...dataset.series()].flatMap((series) => series.instances());
const id = (uid: string): string => `template-file:${uid}`;

const DATA = "**/files/*";
const LISTS = "**/files";
const FAULTS: Partial<Readonly<Record<Lie | ListLie, Fault>>> = {
  "wrong-bytes": { kind: "wrong-bytes", route: DATA },
  "html-for-data": { kind: "html", route: DATA },
  "html-labelled-as-data": { kind: "html-zip", route: DATA },
  "json-error": { kind: "json-error", route: DATA },
  "empty-body": { kind: "empty-body", route: DATA },
  busy: { kind: "429", route: DATA },
  "busy-until": { kind: "503", route: DATA, retryAfter: 3 },
  "error-500": { kind: "500", route: DATA },
  stall: { kind: "stall", route: DATA, fraction: 0.5 },
  cut: { kind: "cut", route: DATA, fraction: 0.9 },
  reset: { kind: "reset", route: DATA },
  "expired-token": { kind: "expired-token", route: DATA },
  "list-cut": { kind: "cut", route: LISTS, fraction: 0.7 },
  "list-torn": { kind: "truncated-json", route: LISTS, fraction: 0.7 },
  "list-html": { kind: "html", route: LISTS },
  "list-busy": { kind: "429", route: LISTS, retryAfter: 2 },
  "list-error": { kind: "500", route: LISTS },
};

/** The stand-in behind a small server of its own: a registered one is served by the sandbox. */
async function makeStand(): Promise<SourceStand> {
  const standIn = await openTemplateStandIn(tinyWorld(dataset));
  const deck = new FaultDeck(1);
  let open = 0;
  let fetches = 0;
  const server = createServer((incoming, response) => {
    open += 1;
    response.on("close", () => {
      open -= 1;
    });
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
    if (route?.serves === "file") fetches += 1;
    const fault = deck.draw({
      method: request.method,
      path: request.path,
      details: () => url.search,
      serves: route?.serves ?? "page",
    });
    const instead = fault && replyOfFault(fault, "http://127.0.0.1:1");
    void Promise.resolve(instead ?? route?.answer(request, fault) ?? { status: 404 }).then((reply) =>
      send(response, reply, fault),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const [archive] = standIn.archives(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const http = createHttp({ userAgent: "test", connections: 8, stallTimeoutMs: 250, environment: {} });
  const source = createTemplateSource({
    archive: archive?.name ?? "",
    url: archive?.url ?? "",
    http,
    redactor: createRedactor(),
    secrets: {},
    settings: {},
  });
  return {
    source,
    lie: (lie, count) => {
      const fault = FAULTS[lie];
      if (!fault) throw new Error(`no fault stands for ${lie}`);
      deck.set([{ ...fault, ...(count === undefined ? {} : { count }) }]);
    },
    honest: () => deck.set([]),
    open: () => open,
    fetches: () => fetches,
    close: async () => {
      await source.close();
      await http.close();
      server.closeAllConnections();
      server.close();
    },
  };
}

sourceContract("template", makeStand, {
  items: images.map((image) => id(image.sopInstanceUid)),
  digests: async (item) =>
    Promise.all(images.filter((image) => id(image.sopInstanceUid) === item).map((image) => image.md5())),
  victim: id("1.2.3.1.1"),
  unknown: ["LUNG CT", "P1", "9.9"],
  recased: [
    { path: ["lung ct"], as: ["LUNG CT"] },
    { path: ["qin & co", "Q/1"], as: ["QIN & CO", "q/1"] },
  ],
  misspelt: [
    { path: ["LUNG CD"], near: "LUNG CT" },
    { path: ["LUNG CT", "P3"], near: "P1" },
  ],
  filtered: [
    { filters: { words: { patient: ["p2"] } }, items: [id("1.2.3.2.1")] },
    { filters: { dates: { since: "2020-01-02" } }, items: [id("1.2.3.2.1")] },
    { filters: { include: ["LUNG CT/**"], exclude: ["**/P1/*"] }, items: [id("1.2.3.2.1")] },
    { filters: { limitPatients: 1 }, items: [id("1.2.3.1.1"), id("1.2.3.1.2")] },
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
    "html-for-data": "archive-reply",
    "html-labelled-as-data": "proof-digest",
    "json-error": "proof-digest",
    "empty-body": "proof-digest",
    busy: "archive-busy",
    "busy-until": "archive-busy",
    "error-500": "archive-error",
    stall: "archive-stalled",
    cut: "archive-cut",
    reset: "archive-cut",
    "expired-token": "access-login",
  },
});

describe("one item is one file", () => {
  let stand: SourceStand;
  let dir: string;
  beforeEach(async () => {
    stand = await makeStand();
    dir = await mkdtemp(join(tmpdir(), "gantry-template-"));
  });
  afterEach(async () => {
    await stand.close();
    await rm(dir, { recursive: true, force: true });
  });

  it("lies in its patient's folder with a receipt that names sum, count and size", async () => {
    const { summary } = await runPipeline(stand.source, ["shelf:"], { dir });
    expect(summary).toMatchObject({ exit: 0, failed: 0, stored: { items: 4, files: 4, bytes: 12_000 } });
    const files = (await readdir(dir, { recursive: true })).filter((path) => path.endsWith(".dcm"));
    expect(files.sort()).toEqual([
      "LUNG CT/P1/1.2.3.1.1.dcm",
      "LUNG CT/P1/1.2.3.1.2.dcm",
      "LUNG CT/P2/1.2.3.2.1.dcm",
      "QIN & CO/q%2F1/1.2.3.3.1.dcm",
    ]);
    const [name] = await readdir(join(dir, ".gantry/receipts"));
    const [, line] = (await readFile(join(dir, ".gantry/receipts", String(name)), "utf8")).split("\n");
    expect(JSON.parse(String(line))).toMatchObject({ type: "stored", proof: ["md5", "count", "size"] });
  });

  it("that is not shown is a failed item, not an error of the run", async () => {
    const { summary } = await runPipeline(stand.source, ["shelf:LUNG CT/P1/9.9"], { dir });
    expect(summary).toMatchObject({ exit: 4, failed: 1, failures: [{ code: "access-item" }] });
  });
});
