import { execFileSync, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import yauzl from "yauzl";
import { unzip } from "./unzip.ts";
import { type ZipInput, type ZipStreamOptions, zipStream } from "./zip-writer.ts";

const digest = (data: Uint8Array): string => `${data.length} ${createHash("md5").update(data).digest("hex")}`;

async function collect(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}

async function* inChunks(data: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size);
}

const files: Record<string, Buffer> = {
  LICENSE: Buffer.from("License Information.\n"),
  "1-01.dcm": randomBytes(3000),
  "1-02.dcm": Buffer.from(randomBytes(150_000).toString("hex")),
  "größe/日本.dcm": Buffer.alloc(500_000),
  empty: Buffer.alloc(0),
  "md5hashes.csv": Buffer.from("Filename,MD5Hash\n"),
};

const inputs = (streamed: boolean, method?: "deflate" | "store"): ZipInput[] =>
  Object.entries(files).map(([name, data]) => ({
    name,
    body: streamed ? inChunks(data, 7000) : data,
    ...(method === undefined ? {} : { method }),
  }));

const truth = Object.entries(files).map(([name, data]) => [name, digest(data)]);

async function byUnzip(stream: AsyncIterable<Uint8Array>): Promise<unknown> {
  const found: [string, string][] = [];
  for await (const entry of unzip(stream)) found.push([entry.name, digest(await collect(entry.body))]);
  return found;
}

async function byYauzl(zip: Buffer): Promise<unknown> {
  const found: [string, string][] = [];
  const archive = await new Promise<yauzl.ZipFile>((resolve, reject) =>
    yauzl.fromBuffer(zip, { lazyEntries: true }, (error, file) => (error ? reject(error) : resolve(file))),
  );
  return new Promise((resolve, reject) => {
    archive.on("error", reject);
    archive.on("end", () => resolve(found));
    archive.on("entry", (entry: yauzl.Entry) => {
      archive.openReadStream(entry, (error, stream) => {
        if (error) return reject(error);
        collect(stream).then((data) => {
          found.push([entry.fileName, digest(data)]);
          archive.readEntry();
        }, reject);
      });
    });
    archive.readEntry();
  });
}

function has(command: string): boolean {
  return (process.env.PATH ?? "").split(":").some((folder) => existsSync(join(folder, command)));
}

const shapes: [what: string, options: ZipStreamOptions, method: "deflate" | "store" | undefined][] = [
  ["deflated", {}, undefined],
  ["level 0", { level: 0 }, undefined],
  [
    "level 9 with comment and time",
    { level: 9, comment: "é!", modified: new Date("2026-02-03T04:05:06Z") },
    undefined,
  ],
  ["stored", { store: true }, undefined],
  ["stored by entry", {}, "store"],
  ["zip64", { zip64: true }, undefined],
  ["zip64 stored", { zip64: true, store: true }, undefined],
  ["in small chunks", { chunkBytes: 1 }, undefined],
];

describe.each(shapes)("zipStream, %s", (_what, options, method) => {
  it.each([false, true])("is read by unzip and yauzl (streamed bodies: %s)", async (streamed) => {
    expect(await byUnzip(zipStream(inputs(streamed, method), options))).toEqual(truth);
    expect(await byYauzl(await collect(zipStream(inputs(streamed, method), options)))).toEqual(truth);
  });

  it.skipIf(!has("unzip") || !has("zipinfo"))("satisfies unzip -t and zipinfo", async () => {
    const folder = await mkdtemp(join(tmpdir(), "zip-writer-"));
    try {
      const path = join(folder, "a.zip");
      for (const streamed of [false, true]) {
        await writeFile(path, await collect(zipStream(inputs(streamed, method), options)));
        const judged = spawnSync("unzip", ["-tqq", path], { encoding: "utf8" });
        expect(judged.stdout + judged.stderr).toBe("");
        expect(judged.status).toBe(0);
        expect(execFileSync("zipinfo", ["-h", path], { encoding: "utf8" })).toMatch(/number of entries: 6/);
      }
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});

describe("zipStream", () => {
  it("leaves sizes and CRC of deflated entries to a signed descriptor", async () => {
    const zip = await collect(zipStream([{ name: "a", body: Buffer.from("hello") }]));
    expect(zip.readUInt16LE(6)).toBe(0x0808);
    expect(zip.subarray(14, 26)).toEqual(Buffer.alloc(12));
    expect(zip.indexOf(Buffer.from("PK\x07\x08"))).toBe(31 + zip.readUInt32LE(zip.indexOf("PK\x07\x08") + 8));
  });

  it("gives equal bytes for equal input", async () => {
    const [one, two] = [await collect(zipStream(inputs(true))), await collect(zipStream(inputs(true)))];
    expect(one.equals(two)).toBe(true);
  });

  it("takes entries as they come and writes an empty zip", async () => {
    async function* entries(): AsyncGenerator<ZipInput> {
      yield* inputs(true);
    }
    expect(await byUnzip(zipStream(entries()))).toEqual(truth);
    expect(await byUnzip(zipStream([]))).toEqual([]);
    expect(await byUnzip(zipStream([], { zip64: true }))).toEqual([]);
  });

  it("comes back from unzip as it was", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.stringMatching(/^[a-zé日]{1,8}$/), { maxLength: 5 }),
        fc.array(fc.uint8Array({ maxLength: 500 }), { minLength: 5, maxLength: 5 }),
        fc.boolean(),
        fc.boolean(),
        fc.boolean(),
        async (names, bodies, store, zip64, streamed) => {
          const given = names.map((name, n) => ({
            name,
            body: streamed ? inChunks(bodies[n]!, 99) : bodies[n]!,
          }));
          const expected = names.map((name, n) => [name, digest(bodies[n]!)]);
          expect(await byUnzip(zipStream(given, { store, zip64 }))).toEqual(expected);
        },
      ),
    );
  });

  it("counts more than 65535 entries in zip64", async () => {
    function* entries(): Generator<ZipInput> {
      for (let n = 0; n < 65_600; n += 1) yield { name: `${n}`, body: new Uint8Array(0), method: "store" };
    }
    let count = 0;
    for await (const _ of unzip(zipStream(entries()))) count += 1;
    expect(count).toBe(65_600);
  });

  it.each(["deflate", "store"] as const)("passes the error of a body unchanged (%s)", async (method) => {
    const broken = new Error("no such phantom");
    async function* body(): AsyncGenerator<Uint8Array> {
      yield randomBytes(100_000);
      throw broken;
    }
    await expect(collect(zipStream([{ name: "a", body: body(), method }]))).rejects.toBe(broken);
  });

  it.each(["deflate", "store"] as const)("closes the body when the consumer stops (%s)", async (method) => {
    let given = 0;
    let closed = false;
    async function* body(): AsyncGenerator<Uint8Array> {
      try {
        for (; given < 10_000; given += 1) yield randomBytes(10_000);
      } finally {
        closed = true;
      }
    }
    for await (const _ of zipStream([{ name: "a", body: body(), method }])) break;
    expect(closed).toBe(true);
    expect(given).toBeLessThan(100);
  });
});
