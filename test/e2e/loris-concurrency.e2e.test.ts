/** Many small files of a LORIS: the number of transfers at once bounds a run, and nothing waits for another file. */
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, it } from "vitest";
import { createRedactor } from "../../src/index.ts";
import { createLorisSource } from "../../src/sources/loris/index.ts";
import { createHttp } from "../../src/transports/http.ts";
import { freshDir, listFiles } from "../support/gantry.ts";
import { runPipeline } from "../support/pipeline.ts";

const JOBS = 8;
const SESSIONS = 4;
const IMAGES = 5;
/** With the table of each session, and an image and a side file for each image. */
const FILES = SESSIONS * (1 + 2 * IMAGES);

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

const manifest = {
  SessionFiles: Array.from({ length: SESSIONS }, (_, s) => ({
    Candidate: "1000001",
    Visit: `V${s}`,
    TsvLink: `/candidates/1000001/V${s}/bidsfiles/sub-1000001_ses-V${s}_scans.tsv`,
  })),
  Images: Array.from({ length: SESSIONS * IMAGES }, (_, n) => {
    const visit = `V${n % SESSIONS}`;
    const stem = `/candidates/1000001/${visit}/images/i${n}.mnc/bids/sub-1000001_ses-${visit}_run-${n}_T1w`;
    return {
      ...{ Candidate: "1000001", Visit: visit, LorisScanType: "t1w", Subfolder: "anat" },
      ...{ NiftiLink: `${stem}.nii`, JsonLink: `${stem}.json` },
    };
  }),
};

/** A LORIS whose files `hold` answers when it wants to; `etag` of each is its path. */
async function serve(hold: (path: string, send: () => void) => void): Promise<{ url: string }> {
  const reply = (response: ServerResponse, body: string, etag = ""): void => {
    response.writeHead(200, { ETag: etag, "Content-Length": Buffer.byteLength(body) }).end(body);
  };
  const server = createServer((request, response) => {
    const path = request.url ?? "";
    if (path.endsWith("/login")) reply(response, '{"token":"a.b.c"}');
    else if (path.endsWith("/bids/")) reply(response, JSON.stringify(manifest));
    else
      hold(path, () => {
        if (request.headers["if-none-match"] === path) response.writeHead(304, { ETag: path }).end();
        else reply(response, path.endsWith(".json") ? "{}" : "filename\n", path);
      });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/api/v0.0.3` };
}

function open(url: string) {
  const http = createHttp({ userAgent: "test", connections: JOBS, stallTimeoutMs: 30_000, environment: {} });
  closing.push(() => void http.close());
  const secrets = { user: "u", password: "p" };
  return createLorisSource({
    archive: "brain",
    url,
    http,
    redactor: createRedactor(),
    secrets,
    settings: {},
  });
}

it("as many files as there are jobs are under way at once, at a refresh, too", async () => {
  const held: (() => void)[] = [];
  let left = FILES;
  // Nobody is answered before all jobs wait: a client that goes one by one would wait for ever.
  const { url } = await serve((_path, send) => {
    held.push(send);
    if (held.length < Math.min(JOBS, left)) return;
    left -= held.length;
    for (const each of held.splice(0)) each();
  });
  const source = open(url);
  const dir = await freshDir();
  const { summary } = await runPipeline(source, ["brain:"], { dir, jobs: JOBS });
  expect(summary).toMatchObject({ exit: 0, stored: { items: FILES } });
  left = FILES;
  const again = await runPipeline(source, [], { dir, jobs: JOBS });
  expect(again.summary).toMatchObject({ exit: 0, stored: { items: 0 }, here: { items: FILES } });
});

it("a side file that does not come keeps no other file from being stored", async () => {
  let late: (() => void) | null = null;
  let answered = 0;
  const { url } = await serve((path, send) => {
    if (path.endsWith("_ses-V0_scans.tsv")) late = send;
    else {
      send();
      answered += 1;
    }
    if (answered === FILES - 1) late?.();
  });
  const dir = await freshDir();
  const { summary } = await runPipeline(open(url), ["brain:"], { dir, jobs: 2 });
  expect(summary).toMatchObject({ exit: 0, stored: { items: FILES } });
  expect((await listFiles(dir)).length).toBe(FILES);
});
