/** What is particular to packages: sending through an upload link, odd wire values, lists of checksums. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { sourceContext } from "../../../test/support/pipeline.ts";
import { createRedactor } from "../../lib/redact.ts";
import { readSite } from "../../model/site.ts";
import { type Sandbox, startSandbox } from "../../sandbox/server.ts";
import { tinyDataset } from "../../sandbox/tiny-dataset.ts";
import { createAscp } from "../../transports/ascp/ascp.ts";
import { createHttp } from "../../transports/http.ts";
import type { Source, Upload, UploadEvent, Uploaded } from "../source.ts";
import { createFaspexSource } from "./index.ts";
import { parseClient } from "./session.ts";
import { PackageSums } from "./sums.ts";
import { SumsList } from "./sums-list.ts";
import { type PackageEntry, parseEntry, parsePackage } from "./wire.ts";

let sandbox: Sandbox;
let work: string;
const redactor = createRedactor();
const http = createHttp({ userAgent: "test", connections: 4, stallTimeoutMs: 5000, environment: {} });
beforeAll(async () => {
  sandbox = await startSandbox({ data: tinyDataset() });
  work = await mkdtemp(join(tmpdir(), "gantry-faspex-"));
});
afterAll(async () => {
  await http.close();
  await sandbox.close();
  await rm(work, { recursive: true, force: true });
});

async function open(name: string): Promise<Source> {
  const link = (await sandbox.links())[name] ?? "";
  const environment = { ...process.env, ...sandbox.environment };
  return createFaspexSource({
    archive: readSite(link)?.archive ?? "",
    url: "https://",
    http,
    ascp: createAscp({ environment, redactor, stallTimeoutMs: 20_000 }),
    redactor,
    secrets: {},
    settings: {},
    link: () => link,
  });
}

async function send(
  source: Source,
  upload: Partial<Upload>,
): Promise<{ events: UploadEvent[]; sent: Uploaded }> {
  const from = join(work, "slide.svs");
  await writeFile(from, "slide");
  const events: UploadEvent[] = [];
  const run = source.upload?.(
    {
      path: [],
      files: [{ from, name: "slides/slide.svs", bytes: 5 }],
      scratch: work,
      title: "For you",
      note: "as asked",
      recipients: [],
      encrypt: false,
      attempt: 0,
      ...upload,
    },
    sourceContext(),
  );
  if (!run) throw new Error("nothing can be sent");
  for (;;) {
    const next = await run.next();
    if (next.done) return { events, sent: next.value };
    events.push(next.value);
  }
}

describe("an upload link", () => {
  it.each(["upload", "upload-inbox"])(
    "%s: a package is made, sent, and waited for until it is complete",
    async (name) => {
      sandbox.control.reset();
      const { events, sent } = await send(await open(name), {});
      expect(sent.proof).toEqual(expect.arrayContaining(["ascp", "complete"]));
      expect(events.some((event) => event.type === "state" && event.sentence.includes("created"))).toBe(true);
      const links = await sandbox.links();
      const back = Object.keys(links).find((each) => each.startsWith("uploaded-")) ?? "";
      const source = await open(back);
      const query = {
        path: [],
        filters: { words: {}, dates: {}, include: [], exclude: [], limit: null, limitPatients: null },
      };
      const found: string[] = [];
      for await (const item of source.list(query, { complete: false }, sourceContext()))
        found.push(String(item.labels.Path));
      expect(found).toEqual(["slides/slide.svs"]);
    },
    60_000,
  );

  it("is none to get from, and a package's link is none to send by", async () => {
    const filters = { words: {}, dates: {}, include: [], exclude: [], limit: null, limitPatients: null };
    const listed = (await open("upload")).resolve({ path: ["a"], filters }, sourceContext());
    await expect(listed).rejects.toMatchObject({
      code: "usage",
      message: expect.stringContaining("to send files"),
    });
    await expect(send(await open("package"), {})).rejects.toMatchObject({
      code: "usage",
      message: expect.stringContaining("to get files"),
    });
  });
});

describe("wire values", () => {
  it("a link is what it leads to; sizes may be text, null or absent", () => {
    const file = { basename: "a.svs", type: "symbolic_link", size: 12, mtime: "2020-01-01T00:00:00Z" };
    expect(
      parseEntry({ ...file, target: { type: "file", size: "800", mtime: "2021-01-01T00:00:00Z" } }, ["d"]),
    ).toEqual({
      path: ["d", "a.svs"],
      type: "file",
      bytes: 800,
      mtime: "2021-01-01T00:00:00Z",
      isLink: true,
    });
    expect(parseEntry(file, [])).toMatchObject({ type: "unknown", bytes: null });
    expect(parseEntry({ basename: "b", type: "file", size: null }, [])).toMatchObject({
      bytes: null,
      mtime: null,
    });
    for (const name of ["", ".", "..", "a/b"])
      expect(parseEntry({ basename: name, type: "file" }, [])).toBeNull();
  });

  it("the first recipient is named as its type wants it", () => {
    const recipient = (recipients: unknown) => parsePackage({ recipients }, "1")?.recipient;
    expect(recipient([{ id: 17, recipient_type: "user" }])).toEqual({ recipient_user_id: "17" });
    expect(recipient([{ id: "3", recipient_type: "shared_inbox" }])).toEqual({ recipient_workgroup_id: "3" });
    expect(recipient([{ id: 1, recipient_type: "external_user" }])).toEqual({});
    expect(recipient(undefined)).toEqual({});
  });

  it("config.js is read with quotes of either kind, and without a client it is none", () => {
    const script = `window.config = {\n  api_url: '/api', client_id: 'ff9a', "redirect_uri": "/aspera/faspex/token"\n}`;
    expect(parseClient(script)).toEqual({ id: "ff9a", redirectUri: "/aspera/faspex/token" });
    expect(parseClient("window.config = {}")).toBeNull();
  });
});

it("the nearest list that names a file counts, of whatever kind its checksums are", async () => {
  const texts: Record<string, string> = {
    "all.sums": `${"a".repeat(32)}  sub/x.txt\n${"b".repeat(40)} *y.txt\nno checksum\n${"e".repeat(32)}  y.txt\n${"d".repeat(32)}  größe.txt`,
    "sub/sub.sums": `${"c".repeat(64)}  ./x.txt\n`,
  };
  const sums = new PackageSums(({ path }, take) =>
    take(
      (async function* () {
        // In pieces that end amid lines and characters.
        for (const byte of Buffer.from(texts[path.join("/")] ?? "")) yield Uint8Array.of(byte);
      })(),
    ),
  );
  const entry = (...path: string[]): PackageEntry => ({
    path,
    type: "file",
    bytes: 1,
    mtime: null,
    isLink: false,
  });
  const compared = sums.compare();
  await sums.enter([entry("all.sums"), entry("y.txt")], sourceContext());
  await sums.enter([entry("sub", "sub.sums")], sourceContext());
  expect(await compared.found(["sub", "x.txt"])).toBe(`sha256:${"c".repeat(64)}`);
  expect(await compared.found(["y.txt"])).toBe(`sha1:${"b".repeat(40)}`);
  expect(await compared.found(["z.txt"])).toBeNull();
  const missing: string[] = [];
  for await (const { path } of compared.missing([])) missing.push(path.join("/"));
  expect(missing).toEqual(["größe.txt"]);
  const others: string[] = [];
  for await (const { path } of sums.compare().missing(["sub"])) others.push(path.join("/"));
  expect(others).toEqual(["sub/x.txt", "sub/x.txt"]);
});

it("a list of 50,000 files is right, however its tables had to grow", async () => {
  const count = 50_000;
  const nameOf = (n: number): string => `slides/${n % 500}/TCGA-${n}-01Z-00-DX1.A2B913E9-70E6-5A88-AA78.svs`;
  const sumOf = (n: number): string => n.toString(16).padStart(32, "0");
  async function* chunks(): AsyncGenerator<Uint8Array> {
    for (let from = 0; from < count; from += 1000)
      yield Buffer.from(
        Array.from({ length: 1000 }, (_, n) => `${sumOf(from + n)}  ${nameOf(from + n)}\n`).join(""),
      );
  }
  const list = await SumsList.read(chunks());
  expect(list.lines).toBe(count);
  for (const n of [0, 1, 4095, 4096, 23_456, count - 1]) {
    expect(list.digestOf(nameOf(n))).toBe(`md5:${sumOf(n)}`);
    expect(list.lineOf(nameOf(n))).toBe(n);
  }
  expect(list.digestOf(nameOf(count))).toBeNull();
  let n = 0;
  for (const [name] of list.names()) if (name !== nameOf(n++)) throw new Error(`line ${n - 1} is ${name}`);
  expect(n).toBe(count);
});
