/** What is particular to plain files: resuming, what is vouched for, names, folders shared with other archives. */
import { createHash, randomBytes } from "node:crypto";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type FileServer, startFileServer } from "../../../test/support/file-server.ts";
import { eventsOf, freshDir, listAll, listFiles, temporaryDir } from "../../../test/support/gantry.ts";
import { type PipelineOptions, runPipeline } from "../../../test/support/pipeline.ts";
import { RunError } from "../../errors.ts";
import { createRedactor } from "../../lib/redact.ts";
import { createHttp } from "../../transports/http.ts";
import type { Source } from "../source.ts";
import { createWebSource } from "./index.ts";

const SIZE = 3 * 1024 * 1024 + 17;
const big = { bytes: randomBytes(SIZE), type: "application/octet-stream", modified: new Date("2020-01-02") };
const small = { bytes: Buffer.from("a,b\n1,2\n"), type: "text/csv", modified: new Date("2020-01-02") };

let server: FileServer;
let source: Source;
let dir: string;
const http = createHttp({ userAgent: "test", connections: 4, stallTimeoutMs: 2000, environment: {} });

beforeAll(async () => {
  server = await startFileServer({});
  source = createWebSource({
    archive: "web",
    url: "https://",
    http,
    redactor: createRedactor(),
    secrets: {},
    settings: {},
  });
});
afterAll(async () => {
  await http.close();
  await server.close();
});
beforeEach(async () => {
  server.setFaults([]);
  server.files.clear();
  server.files.set("/big.bin", big);
  server.files.set("/small.csv", small);
  for (const name of Object.keys(server.headers)) delete server.headers[name];
  server.requests.length = 0;
  dir = await freshDir();
});

const get = (words: readonly string[], options: Partial<PipelineOptions> = {}) =>
  runPipeline(
    source,
    words.map((word) => (word.startsWith("/") ? `${server.url}${word}` : word)),
    { dir, ...options },
  );
const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const stored = async (name: string): Promise<string> => digest(await readFile(join(dir, name)));
/** Requests for bytes, not the questions what a link has. */
const fetches = () => server.requests.filter((each) => each.headers.range !== "bytes=0-0");
const receipts = async (): Promise<Record<string, unknown>[]> => {
  const lines: Record<string, unknown>[] = [];
  for (const name of await readdir(join(dir, ".gantry/receipts"))) {
    const [, ...rest] = (await readFile(join(dir, ".gantry/receipts", name), "utf8")).trim().split("\n");
    lines.push(...rest.map((line) => JSON.parse(line) as Record<string, unknown>));
  }
  return lines;
};
const unfinished = async () => (await listAll(dir)).filter((path) => path.startsWith(".gantry/partial/"));

describe("resuming", () => {
  const cutInTheMiddle = { kind: "cut", route: "/data/**", afterBytes: 2_000_000, count: 1 } as const;

  it("goes on in the middle within one run", async () => {
    server.setFaults([cutInTheMiddle]);
    const { summary } = await get(["/big.bin"], { retries: 1 });
    expect(summary).toMatchObject({ exit: 0, failed: 0 });
    const [first, second] = fetches();
    expect(first?.headers.range).toBeUndefined();
    const from = Number(/^bytes=(\d+)-$/.exec(second?.headers.range ?? "")?.[1]);
    expect(from).toBeGreaterThan(1_000_000);
    expect(second).toMatchObject({ status: 206, headers: { "if-range": expect.stringMatching(/^"/u) } });
    expect(await stored("big.bin")).toBe(digest(big.bytes));
    expect(await unfinished()).toEqual([]);
  });

  it("goes on in the middle in the next run, with --scratch elsewhere too", async () => {
    const scratch = await temporaryDir();
    server.setFaults([cutInTheMiddle]);
    const first = await get(["/big.bin"], { scratch });
    expect(first.summary).toMatchObject({ exit: 5, failures: [{ code: "archive-cut" }] });
    expect(await unfinished()).toEqual([]);
    expect((await listAll(scratch)).filter((path) => path.endsWith(".part"))).toHaveLength(1);
    const second = await get([], { scratch });
    expect(second.summary).toMatchObject({ exit: 0, failed: 0 });
    expect(fetches().map((each) => each.status)).toEqual([200, 206]);
    expect(await stored("big.bin")).toBe(digest(big.bytes));
    expect(await listAll(scratch)).toEqual([]);
  });

  it("begins anew when the file changed", async () => {
    server.setFaults([cutInTheMiddle]);
    await get(["/big.bin"]);
    const other = { ...big, bytes: randomBytes(SIZE), modified: new Date("2021-01-01") };
    server.files.set("/big.bin", other);
    const { summary } = await get(["/big.bin"]);
    expect(summary).toMatchObject({ exit: 0 });
    expect(fetches().map((each) => each.status)).toEqual([200, 200]);
    expect(await stored("big.bin")).toBe(digest(other.bytes));
  });

  it("begins anew when what was kept was damaged or lost", async () => {
    for (const damage of ["facts", "bytes"] as const) {
      server.setFaults([cutInTheMiddle]);
      await rm(dir, { recursive: true, force: true });
      await get(["/big.bin"]);
      const kept = (await unfinished()).find((path) => path.endsWith(damage === "facts" ? ".json" : ".part"));
      await writeFile(join(dir, kept as string), "{");
      server.requests.length = 0;
      expect((await get(["/big.bin"])).summary).toMatchObject({ exit: 0 });
      expect(fetches().map((each) => each.status)).toEqual([200]);
      expect(await stored("big.bin")).toBe(digest(big.bytes));
    }
  });

  it("keeps nothing when the server can't tell versions apart", async () => {
    Object.assign(server.headers, { ETag: null, "Last-Modified": null });
    server.setFaults([cutInTheMiddle]);
    const { summary } = await get(["/big.bin"]);
    expect(summary).toMatchObject({ exit: 5 });
    expect(await unfinished()).toEqual([]);
  });

  it("refuses a server that goes on elsewhere, and begins anew", async () => {
    server.setFaults([cutInTheMiddle]);
    await get(["/big.bin"]);
    server.headers["Content-Range"] = `bytes 5-${SIZE - 1}/${SIZE}`;
    // The question what the link has gives a false size, too, unless it is put right.
    const { summary } = await get(["/big.bin"], { retries: 1 });
    expect(summary).toMatchObject({ exit: 0 });
    expect(await stored("big.bin")).toBe(digest(big.bytes));
    expect(fetches().map((each) => each.status)).toEqual([200, 206, 200]);
  });

  it("proves the whole by the sum of the first reply", async () => {
    server.files.set("/big.bin", { ...big, contentMd5: true });
    server.setFaults([cutInTheMiddle]);
    await get(["/big.bin"]);
    const [part] = (await unfinished()).filter((path) => path.endsWith(".part"));
    const bytes = await readFile(join(dir, part as string));
    bytes[1000] = (bytes[1000] ?? 0) ^ 1;
    await writeFile(join(dir, part as string), bytes);
    const { summary, events } = await get(["/big.bin"], { retries: 1 });
    expect(summary).toMatchObject({ exit: 0 });
    expect(eventsOf(events, "item-retry").map((event) => event.code)).toEqual(["proof-digest"]);
    expect(await stored("big.bin")).toBe(digest(big.bytes));
  });
});

describe("proof", () => {
  const proofOf = async (words: readonly string[]) => {
    expect((await get(words)).summary).toMatchObject({ exit: 0 });
    return (await receipts()).map((line) => line.proof);
  };

  it("is the size when only that is announced", async () => {
    expect(await proofOf(["/small.csv"])).toEqual([["count", "size"]]);
  });

  it("is the sum that is announced", async () => {
    server.files.set("/small.csv", { ...small, contentMd5: true });
    expect(await proofOf(["/small.csv"])).toEqual([["md5", "count", "size"]]);
    await rm(dir, { recursive: true });
    const sha256 = createHash("sha256").update(small.bytes).digest("base64");
    server.headers["Repr-Digest"] = `sha-256=:${sha256}:`;
    expect(await proofOf(["/small.csv"])).toEqual([["md5", "count", "size", "sha256"]]);
    server.headers["Repr-Digest"] = `sha-256=:${Buffer.alloc(32).toString("base64")}:`;
    await rm(dir, { recursive: true });
    expect((await get(["/small.csv"])).summary).toMatchObject({
      exit: 6,
      failures: [{ code: "proof-digest" }],
    });
  });

  it("is none when nothing is announced, and the receipt says so", async () => {
    server.headers["Content-Length"] = null;
    server.headers["Content-Range"] = null;
    expect(await proofOf(["/small.csv"])).toEqual([["count"]]);
  });

  it("fails for another length than was listed", async () => {
    const { summary } = await get(["/small.csv"], {
      onEvent: (event) => {
        if (event.type === "planned")
          server.files.set("/small.csv", { ...small, bytes: Buffer.from("a,b\n1,2\n3,4\n") });
      },
    });
    expect(summary).toMatchObject({ exit: 6, failures: [{ code: "proof-size" }] });
    expect((await get(["/small.csv"])).summary).toMatchObject({ exit: 0 });
  });

  it("fails for a file that is not what its name says", async () => {
    server.files.set("/a.xlsx", { ...small, type: "application/octet-stream" });
    expect((await get(["/a.xlsx"])).summary).toMatchObject({ exit: 6, failures: [{ code: "proof-format" }] });
    expect(await listFiles(dir)).toEqual([]);
  });
});

describe("get", () => {
  it("takes several links, keeps clashing names apart, and fetches nothing twice", async () => {
    server.files.set("/b/small.csv", { ...small, bytes: Buffer.from("other\n") });
    const words = ["/small.csv", "/b/small.csv", "/big.bin"];
    expect((await get(words)).summary).toMatchObject({ exit: 0, stored: { items: 3 } });
    const files = await listFiles(dir);
    expect(files).toHaveLength(3);
    expect(files).toEqual(["big.bin", expect.stringMatching(/^small(~\w{8})?\.csv$/u), expect.any(String)]);
    const again = await get(words);
    expect(again.summary).toMatchObject({ exit: 0, stored: { items: 0 }, here: { items: 3 } });
    server.files.set("/small.csv", {
      ...small,
      bytes: Buffer.from("news\n"),
      modified: new Date("2022-01-01"),
    });
    const third = await get([]);
    expect(third.summary).toMatchObject({ exit: 0, stored: { items: 1 } });
  });

  it("a link that is not there is a failed item among others", async () => {
    const { summary } = await get(["/gone.csv", "/small.csv"]);
    expect(summary).toMatchObject({ exit: 3, failures: [{ code: "access-item" }], stored: { items: 1 } });
  });

  it("an empty file is a file", async () => {
    server.files.set("/empty.csv", { ...small, bytes: new Uint8Array() });
    expect((await get(["/empty.csv"])).summary).toMatchObject({ exit: 0, stored: { items: 1, bytes: 0 } });
  });

  it("a hostile name stays in the folder", async () => {
    server.files.set("/x", { ...small, saveAs: "..%2f.gantry" });
    server.files.set("/y", { ...small, saveAs: ".." });
    expect((await get(["/x", "/y"])).summary).toMatchObject({ exit: 0, stored: { items: 2 } });
    expect(await listFiles(dir)).toHaveLength(2);
  });

  it("of one that was interrupted is completed by the next run", async () => {
    const controller = new AbortController();
    const { summary } = await get(["/big.bin"], {
      signal: controller.signal,
      onEvent: (event) => {
        if (event.type === "item-started") controller.abort(new RunError("interrupted", "interrupted"));
      },
    });
    expect(summary).toMatchObject({ exit: 130 });
    expect((await get([])).summary).toMatchObject({ exit: 0 });
    expect(await stored("big.bin")).toBe(digest(big.bytes));
  });
});
