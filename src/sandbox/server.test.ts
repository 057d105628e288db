import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { createRequire } from "node:module";
import { inflateRawSync } from "node:zlib";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { FAULT_KINDS, type Fault, parseFaults } from "./faults.ts";
import { type Sandbox, startSandbox } from "./server.ts";
import { tinyDataset } from "./tiny-dataset.ts";

let sandbox: Sandbox;
beforeAll(async () => {
  sandbox = await startSandbox({ data: tinyDataset(), seed: 7 });
});
beforeEach(() => sandbox.control.reset());
afterAll(() => sandbox.close());

const IMAGES = "/nbia-api/services/v4/getImage?SeriesInstanceUID=1.2.3.1&NewFileNames=Yes&IncludeMD5=Yes";
const ROWS = "/nbia-api/services/v4/getSeries";

interface Got {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
  /** The connection broke before the reply was complete. */
  broken: boolean;
}

/** A raw GET that follows nothing and keeps what came before the connection broke. */
async function get(path: string, headers: Record<string, string> = {}): Promise<Got> {
  const request = httpRequest(`${sandbox.url}${path}`, { headers, agent: false }).end();
  const [response] = await once(request, "response");
  const chunks: Buffer[] = [];
  let broken = false;
  try {
    for await (const chunk of response) chunks.push(chunk);
  } catch {
    broken = true;
  }
  return { status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks), broken };
}

async function door(
  method: string,
  what: string,
  body?: unknown,
): Promise<{ status: number; json: unknown }> {
  const init = body === undefined ? { method } : { method, body: JSON.stringify(body) };
  const reply = await fetch(`${sandbox.url}/_sandbox/${what}`, init);
  return { status: reply.status, json: await reply.json() };
}

interface Entry {
  name: string;
  data: Buffer | null;
  crcMatches: boolean;
}

/** Entries by the zip's directory, judged leniently: what a fault broke is told, not thrown. */
async function readZip(zip: Buffer): Promise<Entry[]> {
  const { crc32 } = await import("node:zlib");
  const end = zip.lastIndexOf(Buffer.from("504b0506", "hex"));
  const entries: Entry[] = [];
  let at = zip.readUInt32LE(end + 16);
  for (let left = zip.readUInt16LE(end + 10); left > 0; left--) {
    const nameBytes = zip.readUInt16LE(at + 28);
    const name = zip.toString("utf8", at + 46, at + 46 + nameBytes);
    const from = zip.readUInt32LE(at + 42) + 30 + nameBytes;
    let data: Buffer | null = null;
    try {
      data = inflateRawSync(zip.subarray(from, from + zip.readUInt32LE(at + 20)));
    } catch {
      // A flipped bit may break the packed data itself.
    }
    entries.push({ name, data, crcMatches: data !== null && crc32(data) === zip.readUInt32LE(at + 16) });
    at += 46 + nameBytes + zip.readUInt16LE(at + 30) + zip.readUInt16LE(at + 32);
  }
  return entries;
}

async function md5Judgement(entries: readonly Entry[]): Promise<{ right: string[]; wrong: string[] }> {
  const { createHash } = await import("node:crypto");
  const csv = entries.find(({ name }) => name === "md5hashes.csv")?.data?.toString() ?? "";
  const right: string[] = [];
  const wrong: string[] = [];
  for (const line of csv.trimEnd().split("\n").slice(1).toSorted()) {
    const [name, md5] = line.split(",") as [string, string];
    const data = entries.find((entry) => entry.name === name)?.data ?? Buffer.alloc(0);
    (createHash("md5").update(data).digest("hex") === md5 ? right : wrong).push(name);
  }
  return { right, wrong };
}

const struck = (faults: Fault | Fault[], path = IMAGES) => {
  sandbox.control.setFaults([faults].flat());
  return get(path);
};
const ENTRIES = ["LICENSE", "1-1.dcm", "1-2.dcm", "1-3.dcm", "md5hashes.csv"];
const names = (entries: readonly Entry[]) => entries.map(({ name }) => name);

describe("faults on the wire", () => {
  it("cut: after N bytes, or a share, and always before the end", async () => {
    const whole = (await get(IMAGES)).body;
    const cut = await struck({ kind: "cut", afterBytes: 500 });
    expect([cut.status, cut.broken, cut.body.length]).toEqual([200, true, 500]);
    expect(cut.body).toEqual(whole.subarray(0, 500));
    const share = await struck({ kind: "cut", fraction: 0.25 });
    expect([share.broken, share.body.length]).toEqual([true, Math.floor(whole.length / 4)]);
    const late = await struck({ kind: "cut", afterBytes: 10_000_000 });
    expect([late.broken, late.body.length]).toEqual([true, whole.length]);
    expect(sandbox.control.requests().at(-1)).toMatchObject({ fault: "cut", ending: "cut", status: 200 });
  });

  it("stall: sends N bytes, then nothing, with the socket open", async () => {
    sandbox.control.setFaults([{ kind: "stall", afterBytes: 700 }]);
    const request = httpRequest(`${sandbox.url}${IMAGES}`, { agent: false }).end();
    const [response] = await once(request, "response");
    let bytes = 0;
    while (bytes < 700) bytes += (await once(response, "data"))[0].length;
    expect(bytes).toBe(700);
    expect(response.complete).toBe(false);
    expect(sandbox.control.requests().at(-1)?.ending).toBe("open");
    request.destroy();
  });

  it("slow-first-byte and slow: late, but whole", async () => {
    const whole = (await get(IMAGES)).body;
    let started = performance.now();
    const late = await struck({ kind: "slow-first-byte", ms: 60 });
    expect(performance.now() - started).toBeGreaterThanOrEqual(55);
    expect(late.body).toEqual(whole);
    started = performance.now();
    const slow = await struck({ kind: "slow", bytesPerSecond: whole.length * 10 });
    expect(performance.now() - started).toBeGreaterThanOrEqual(80);
    expect(slow.body).toEqual(whole);
  });

  it("reset: no reply at all", async () => {
    await expect(struck({ kind: "reset" })).rejects.toMatchObject({ code: "ECONNRESET" });
  });

  it("429, 500, 502, 503, 504: the front end's pages, Retry-After as asked", async () => {
    for (const kind of ["429", "500", "502", "503", "504"] as const) {
      const got = await struck({ kind });
      expect([got.status, got.headers["retry-after"]]).toEqual([Number(kind), undefined]);
    }
    expect((await struck({ kind: "429", retryAfter: 3 })).headers["retry-after"]).toBe("3");
    const date = "Fri, 01 Jan 2100 00:00:00 GMT";
    expect((await struck({ kind: "503", retryAfter: date })).headers["retry-after"]).toBe(date);
  });

  it("pages and errors that say 200", async () => {
    const type = async (kind: Fault["kind"]) => {
      const { status, headers, body } = await struck({ kind });
      return [status, headers["content-type"], body.toString().slice(0, 9)];
    };
    expect(await type("html")).toEqual([200, "text/html; charset=utf-8", "<!DOCTYPE"]);
    expect(await type("html-zip")).toEqual([200, "application/octet-stream", "<!DOCTYPE"]);
    expect(await type("json-error")).toEqual([200, "application/json", '{"errorMe']);
    expect(await type("empty-body")).toEqual([200, undefined, ""]);
    expect(await type("expired-token")).toEqual([401, undefined, ""]);
  });

  it("redirect: to another origin, which remembers what it was told", async () => {
    sandbox.control.setFaults([{ kind: "redirect" }]);
    const first = await get(IMAGES);
    expect(first.status).toBe(302);
    expect(new URL(first.headers.location!).origin).toBe(sandbox.elsewhere.url);
    expect(sandbox.elsewhere.url).not.toBe(sandbox.url);
    const page = await fetch(first.headers.location!, { headers: { authorization: "Bearer leak" } });
    expect([page.status, page.headers.get("content-type")]).toEqual([200, "text/html"]);
    await page.text();
    expect(sandbox.elsewhere.requests.at(-1)?.headers.authorization).toBe("Bearer leak");
    const { json } = await door("GET", "elsewhere");
    expect(json).toMatchObject([{ path: "/login" }]);
    sandbox.control.reset();
    expect(sandbox.elsewhere.requests).toEqual([]);
  });

  it("redirect-loop: never ends", async () => {
    let { headers, status } = await struck({ kind: "redirect-loop", count: 1 });
    for (let i = 0; i < 3; i++) {
      expect(status).toBe(302);
      ({ headers, status } = await get(headers.location!));
    }
  });

  it("truncated-json: cut text, well-ended connection, rows only", async () => {
    const whole = (await get(ROWS)).body;
    const cut = await struck({ kind: "truncated-json" }, ROWS);
    expect([cut.status, cut.broken, cut.body.length]).toEqual([200, false, Math.floor(whole.length / 2)]);
    expect((await get(IMAGES)).body.length).toBeGreaterThan(0);
    expect(sandbox.control.requests().at(-1)?.fault).toBeNull();
  });
});

describe("faults in the zip", () => {
  it("short-zip: valid, sums and all, but the last images are missing", async () => {
    const entries = await readZip((await struck({ kind: "short-zip", images: 2 })).body);
    expect(names(entries)).toEqual(["LICENSE", "1-1.dcm", "md5hashes.csv"]);
    expect(await md5Judgement(entries)).toEqual({ right: ["1-1.dcm"], wrong: [] });
    const bare = await readZip((await struck({ kind: "short-zip-no-md5" })).body);
    expect(names(bare)).toEqual(["LICENSE", "1-1.dcm", "1-2.dcm"]);
    const empty = await readZip((await struck({ kind: "empty-zip" })).body);
    expect(empty).toMatchObject([{ name: "LICENSE", data: Buffer.alloc(0) }]);
  });

  it("wrong-md5 lies in the list, wrong-bytes in the image; the zip itself is right", async () => {
    const truth = await readZip((await get(IMAGES)).body);
    const lie = await readZip((await struck({ kind: "wrong-md5", image: 1 })).body);
    expect(await md5Judgement(lie)).toEqual({ right: ["1-1.dcm", "1-3.dcm"], wrong: ["1-2.dcm"] });
    expect(lie[2]!.data).toEqual(truth[2]!.data);
    const altered = await readZip((await struck({ kind: "wrong-bytes" })).body);
    expect(await md5Judgement(altered)).toEqual({ right: ["1-2.dcm", "1-3.dcm"], wrong: ["1-1.dcm"] });
    expect(altered.every(({ crcMatches }) => crcMatches)).toBe(true);
    expect(altered[1]!.data).toHaveLength(truth[1]!.data!.length);
    const sum = "/nbia-api/services/v4/getMD5HashForImage?SOPInstanceUID=1.2.3.1.1";
    const wrong = (await struck({ kind: "wrong-md5" }, sum)).body.toString();
    sandbox.control.setFaults([]);
    expect(wrong).not.toBe((await get(sum)).body.toString());
  });

  it("flip: one bit, so that the CRC of one image fails", async () => {
    const whole = (await get(IMAGES)).body;
    const { body } = await struck({ kind: "flip", image: 2 });
    const different = [...body.keys()].filter((at) => body[at] !== whole[at]);
    expect(different).toHaveLength(1);
    const bad = (await readZip(body)).filter(({ crcMatches }) => !crcMatches);
    expect(names(bad)).toEqual(["1-3.dcm"]);
  });

  it("hostile-name, extra-file, duplicate-entry", async () => {
    const evil = await readZip((await struck({ kind: "hostile-name" })).body);
    expect(names(evil)).toEqual(["LICENSE", "../../evil.dcm", ...ENTRIES.slice(2)]);
    const absolute = await readZip(
      (await struck({ kind: "hostile-name", name: "/tmp/\u001b[2J\n.dcm" })).body,
    );
    expect(names(absolute)).toContain("/tmp/\u001b[2J\n.dcm");
    const extra = await readZip((await struck({ kind: "extra-file" })).body);
    expect(names(extra)).toEqual([...ENTRIES.slice(0, 4), "unexpected.txt", "md5hashes.csv"]);
    const twice = await readZip((await struck({ kind: "duplicate-entry" })).body);
    expect(names(twice)).toEqual(["LICENSE", "1-1.dcm", "1-1.dcm", ...ENTRIES.slice(2)]);
  });

  it("trailing and truncated-directory: around a zip that is else right", async () => {
    const whole = (await get(IMAGES)).body;
    const longer = (await struck({ kind: "trailing", bytes: 10 })).body;
    expect(longer).toEqual(Buffer.concat([whole, Buffer.alloc(10, 0xa5)]));
    const shorter = await struck({ kind: "truncated-directory", bytes: 30 });
    expect([shorter.broken, shorter.body]).toEqual([false, whole.subarray(0, -30)]);
  });

  it("bomb: an image inflates to far more than was announced", async () => {
    const { body } = await struck({ kind: "bomb", inflatesToBytes: 4_000_000 });
    expect(body.length).toBeLessThan(40_000);
    const entries = await readZip(body);
    expect(names(entries)).toEqual(ENTRIES);
    expect(entries[1]!.data).toHaveLength(4_000_000);
  });

  it("strikes single images too, where it can", async () => {
    const single = "/nbia-api/services/v4/getSingleImage?SeriesInstanceUID=1.2.3.1&SOPInstanceUID=1.2.3.1.1";
    const whole = (await get(single)).body;
    const altered = await struck({ kind: "wrong-bytes" }, single);
    expect(altered.body).toHaveLength(whole.length);
    expect(altered.body).not.toEqual(whole);
    expect((await struck({ kind: "short-zip" }, single)).body).toEqual(whole);
  });
});

describe("which requests a fault strikes", () => {
  const statuses = async (paths: readonly string[]) => {
    const found: number[] = [];
    for (const path of paths) found.push((await get(path)).status);
    return found;
  };

  it("route as glob or expression, containing, skip and count", async () => {
    sandbox.control.setFaults([{ kind: "503", route: "/nbia-api/**/getImage" }]);
    expect(await statuses([IMAGES, ROWS])).toEqual([503, 200]);
    sandbox.control.setFaults([{ kind: "503", route: "/v4/get(Series|Patient)$/" }]);
    expect(await statuses([IMAGES, ROWS])).toEqual([200, 503]);
    sandbox.control.setFaults([{ kind: "503", containing: "1.2.3.2" }]);
    expect(await statuses([IMAGES, IMAGES.replace("1.2.3.1", "1.2.3.2")])).toEqual([200, 503]);
    sandbox.control.setFaults([{ kind: "503", skip: 1, count: 2 }]);
    expect(await statuses([ROWS, ROWS, ROWS, ROWS])).toEqual([200, 503, 503, 200]);
    expect(sandbox.control.faults()).toMatchObject([{ kind: "503", met: 4, struck: 2 }]);
  });

  it("the first of the list that is drawn wins; the door is never struck", async () => {
    sandbox.control.setFaults([{ kind: "502", count: 1 }, { kind: "504" }]);
    expect(await statuses([ROWS, ROWS])).toEqual([502, 504]);
    expect((await door("GET", "")).status).toBe(200);
  });

  it("probability: repeats with the seed, whatever the order of arrival", async () => {
    const paths = Array.from({ length: 40 }, (_, i) => `${ROWS}?Collection=${i}`);
    const fault: Fault = { kind: "503", probability: 0.4 };
    sandbox.control.setFaults([fault]);
    const first = await statuses(paths);
    expect(first).toContain(503);
    expect(first).toContain(200);
    sandbox.control.setFaults([fault]);
    const backwards = await statuses(paths.toReversed());
    expect(backwards.toReversed()).toEqual(first);
    await sandbox.control.seed(8);
    sandbox.control.setFaults([fault]);
    expect(await statuses(paths)).not.toEqual(first);
    await sandbox.control.seed(7);
  });
});

describe("the door", () => {
  it("shows what is served", async () => {
    const { json } = await door("GET", "");
    expect(json).toMatchObject({
      url: sandbox.url,
      user: "demo",
      collections: { "LUNG CT": 4, NLST: 1, SECRET: 1 },
      series: 6,
      problems: [],
      archives: [
        { name: "tcia", kind: "nbia", url: `${sandbox.url}/nbia-api` },
        { name: "nlst", kind: "nbia", url: `${sandbox.url}/nlst/nbia-api` },
        { name: "tcia-v1", kind: "nbia", url: `${sandbox.url}/nbia-api`, settings: { api: "v1" } },
        { name: "tcia-v2", kind: "nbia", url: `${sandbox.url}/nbia-api`, settings: { api: "v2" } },
        { name: "tcia-v3", kind: "nbia", url: sandbox.url, settings: { api: "v3", resource: "TCIA" } },
        { name: "preventad", kind: "loris" },
        { name: "loris-m", kind: "loris" },
        { name: "loris-m22", kind: "loris" },
        { name: "loris-m28", kind: "loris" },
      ],
    });
  });

  it("records each request with its headers, and forgets them", async () => {
    await get(`${ROWS}?Collection=LUNG+CT`, { authorization: "Bearer undefined" });
    await get("/nowhere");
    const { json } = await door("GET", "requests");
    expect(json).toMatchObject([
      {
        number: 1,
        method: "GET",
        path: ROWS,
        query: { Collection: "LUNG CT" },
        headers: { authorization: "Bearer undefined" },
        status: 200,
        ending: "complete",
        fault: null,
        problem: null,
      },
      { number: 2, path: "/nowhere", status: 404 },
    ]);
    const [first] = sandbox.control.requests();
    expect(first!.bytesSent).toBe((await get(`${ROWS}?Collection=LUNG+CT`)).body.length);
    await door("DELETE", "requests");
    expect(sandbox.control.requests()).toEqual([]);
  });

  it("takes faults, tokens, seeds and resets over HTTP", async () => {
    const set = await door("POST", "faults", [{ kind: "503", count: 1 }]);
    expect(set.json).toMatchObject([{ kind: "503", met: 0, struck: 0 }]);
    expect((await get(ROWS)).status).toBe(503);
    expect((await door("GET", "faults")).json).toMatchObject([{ struck: 1 }]);
    expect((await door("DELETE", "faults")).status).toBe(200);
    expect((await door("POST", "tokens", { ttlSeconds: 5 })).status).toBe(200);
    expect((await door("POST", "seed", { seed: 7 })).status).toBe(200);
    expect((await door("POST", "reset")).status).toBe(200);
    expect((await door("POST", "precompute")).status).toBe(200);
  });

  it("refuses what it does not know, with a sentence", async () => {
    const refused = async (what: string, body: unknown) => {
      const { status, json } = await door("POST", what, body);
      expect(status).toBe(400);
      return (json as { error: string }).error;
    };
    expect(await refused("faults", [{ kind: "gremlin" }])).toContain("kind");
    expect(await refused("faults", [{ kind: "cut", retryAfter: 3 }])).toContain("retryAfter");
    expect(await refused("faults", [{ kind: "cut", probability: 2 }])).toContain("probability");
    expect(await refused("series", { uid: "9.9", change: "withdraw" })).toContain("9.9");
    expect(await refused("series", { uid: "1.2.3.1", change: "melt" })).toContain("change");
    expect((await door("GET", "nothing")).status).toBe(404);
  });
});

describe("changing the archive", () => {
  const rows = async (query = "") => JSON.parse((await get(`${ROWS}${query}`)).body.toString() || "[]");
  const one = async () => (await rows("?SeriesInstanceUID=1.2.3.1"))[0];
  const change = (body: Record<string, unknown>) => door("POST", "series", { uid: "1.2.3.1", ...body });

  it("withdraw and restore", async () => {
    await change({ change: "withdraw" });
    expect(await rows()).toHaveLength(3);
    expect(await one()).toBeUndefined();
    expect((await get(IMAGES)).status).toBe(400);
    await change({ change: "restore" });
    expect(await rows()).toHaveLength(4);
  });

  it("touch, announce, rename-patient, relabel, restrict", async () => {
    await change({ change: "touch" });
    await change({ change: "announce", imageCount: 4, fileSizeBytes: 12_000 });
    await change({ change: "rename-patient", patientId: "P1-renamed" });
    await change({ change: "relabel", seriesDescription: "new", licenseName: null });
    const series = await one();
    expect(series).toMatchObject({
      MaxSubmissionTimestamp: "05-28-2015",
      ImageCount: 4,
      FileSize: 12_000,
      PatientID: "P1-renamed",
      SeriesDescription: "new",
    });
    expect(series).not.toHaveProperty("LicenseName");
    expect(names(await readZip((await get(IMAGES)).body))).toEqual(ENTRIES);
    await change({ change: "restrict" });
    expect(await one()).toBeUndefined();
    sandbox.control.reset();
    expect(await one()).toMatchObject({ ImageCount: 3, PatientID: "P1" });
  });

  it("replace-bytes: other bytes of the same length, with the sum of the new ones", async () => {
    const before = await readZip((await get(IMAGES)).body);
    await change({ change: "replace-bytes", image: 1 });
    const after = await readZip((await get(IMAGES)).body);
    expect(await md5Judgement(after)).toMatchObject({ wrong: [] });
    const changed = names(after.filter(({ data }, index) => !data!.equals(before[index]!.data!)));
    expect(changed).toEqual(["1-2.dcm", "md5hashes.csv"]);
    expect(after[2]!.data).toHaveLength(before[2]!.data!.length);
  });

  it("remove-image: count and size follow", async () => {
    await change({ change: "remove-image", image: 0 });
    expect(await one()).toMatchObject({ ImageCount: 2, FileSize: 6000 });
    expect(names(await readZip((await get(IMAGES)).body))).toEqual([
      "LICENSE",
      "1-1.dcm",
      "1-2.dcm",
      "md5hashes.csv",
    ]);
  });
});

it("every fault kind is documented with an example that parses", async () => {
  const page = await readFile(new URL("../../docs/sandbox.md", import.meta.url), "utf8");
  const rows = [...page.matchAll(/^\| `([a-z0-9-]+)` \| .* \| `(\{"kind": .*\})` \|$/gm)];
  expect(rows.map(([, kind]) => kind).toSorted()).toEqual(FAULT_KINDS.toSorted());
  for (const [, kind, example] of rows) expect(parseFaults(JSON.parse(example!))).toMatchObject([{ kind }]);
});

it("closes with transfers under way, and refuses a port that is taken", async () => {
  const other = await startSandbox({ data: tinyDataset() });
  other.control.setFaults([{ kind: "stall", afterBytes: 1 }]);
  const request = httpRequest(`${other.url}${IMAGES}`, { agent: false }).end();
  const [response] = await once(request, "response");
  const broken = once(response, "error");
  const port = Number(new URL(other.url).port);
  await expect(startSandbox({ data: tinyDataset(), port })).rejects.toMatchObject({ code: "EADDRINUSE" });
  await other.close();
  response.resume();
  await broken;
});

it("HEAD runs as GET, without a body", async () => {
  const request = httpRequest(`${sandbox.url}${IMAGES}`, { method: "HEAD", agent: false }).end();
  const [response] = await once(request, "response");
  expect([response.statusCode, response.headers["content-type"]]).toEqual([200, "application/octet-stream"]);
  response.resume();
  await once(response, "end");
  expect(sandbox.control.requests().at(-1)).toMatchObject({ method: "HEAD", status: 200, bytesSent: 0 });
});

describe("the library that writes certificates", () => {
  it("is loaded only where HTTPS is wanted", async () => {
    const isLoaded = (): boolean =>
      Object.keys(createRequire(import.meta.url).cache).some((path) => path.includes("/node-forge/"));
    expect(isLoaded()).toBe(false);
    const secure = await startSandbox({ data: tinyDataset(), tls: true });
    await secure.close();
    expect(isLoaded()).toBe(true);
  });
});
