import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { constants, crc32, deflateRawSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { RunError } from "../errors.ts";
import { type UnzipLimits, unzip } from "./unzip.ts";
import { buildZip, extraField, type FaultEntry, type FaultZip } from "./zip-faults.test-support.ts";

type Content = { name: string; data: string }[];

/** Stands for file content: comparing large buffers element by element takes the test runner seconds. */
const digest = (data: Uint8Array): string => `${data.length} ${createHash("md5").update(data).digest("hex")}`;

/** A source that hands out `bytes` in pieces and remembers how it was treated. */
class Pieces implements AsyncIterable<Uint8Array> {
  pulled = 0;
  returned = 0;
  readonly #pieces: Iterator<Uint8Array>;
  constructor(pieces: Iterable<Uint8Array>) {
    this.#pieces = pieces[Symbol.iterator]();
  }
  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return {
      next: async () => {
        const step = this.#pieces.next();
        if (step.done !== true) this.pulled += 1;
        return step;
      },
      return: async () => {
        this.returned += 1;
        return { done: true, value: undefined };
      },
    };
  }
}

function* cutEvery(bytes: Uint8Array, sizes: readonly number[]): Generator<Uint8Array> {
  for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
    const size = sizes[turn % sizes.length]!;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

const inPieces = (bytes: Uint8Array, ...sizes: number[]): Pieces => new Pieces(cutEvery(bytes, sizes));

async function readAll(source: AsyncIterable<Uint8Array>, limits?: UnzipLimits): Promise<Content> {
  const content: Content = [];
  for await (const entry of unzip(source, limits)) {
    const parts: Uint8Array[] = [];
    for await (const part of entry.body) parts.push(part);
    const data = Buffer.concat(parts);
    expect(entry.sizeBytes).toBe(data.length);
    expect(entry.crc32).toBe(crc32(data));
    content.push({ name: entry.name, data: digest(data) });
  }
  return content;
}

async function refusal(source: AsyncIterable<Uint8Array>, limits?: UnzipLimits): Promise<string> {
  try {
    await readAll(source, limits);
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    expect(error.code).toBe("proof-format");
    return error.message;
  }
  throw new Error("the zip was accepted");
}

const text = Buffer.from("the quick brown fox jumps over the lazy dog\n".repeat(40));
const noise = randomBytes(5000);
const large = Buffer.concat(
  Array.from({ length: 30 }, () => randomBytes(5000).toString("hex")).map((s) => Buffer.from(s)),
);
const nested = buildZip({
  entries: [
    { name: "inner", data: text, method: 0 },
    { name: "b", data: noise },
  ],
});
const signatures = Buffer.concat([
  Buffer.from("PK\x07\x08"),
  noise,
  Buffer.from("PK\x07\x08PK\x07\x08PK\x03\x04PK\x01\x02PK\x05\x06"),
  Buffer.alloc(64),
  Buffer.from("PK\x07"),
]);

const good: Record<string, FaultZip> = {
  "no entries": { entries: [] },
  "deflate with descriptor": {
    entries: [
      { name: "a", data: text },
      { name: "d/b", data: noise },
    ],
  },
  "descriptor without signature": {
    entries: [
      { name: "a", data: text, descriptor: "unsigned" },
      { name: "b", data: large, descriptor: "unsigned" },
    ],
  },
  "64-bit descriptors": {
    entries: [
      { name: "a", data: text, wide: true },
      { name: "b", data: text, wide: true, descriptor: "unsigned" },
      { name: "c", wide: true, descriptor: "unsigned" },
      { name: "d", wide: true, method: 0 },
      { name: "e", data: large, wide: true, localZip64: true },
    ],
  },
  "sizes in front": {
    entries: [
      { name: "a", data: text, descriptor: "none" },
      { name: "b", data: large, descriptor: "none", method: 0 },
      { name: "c", data: large, descriptor: "none" },
      { name: "d", descriptor: "none", method: 0 },
      { name: "e", data: noise, descriptor: "none", localZip64: true },
      { name: "f", data: noise, sizesInFront: true, method: 0 },
    ],
  },
  "stored with descriptor": {
    entries: [
      { name: "a", data: text, method: 0 },
      { name: "b", data: large, method: 0, wide: true, localZip64: true },
      { name: "c", method: 0 },
    ],
  },
  "a zip stored in a zip": {
    entries: [
      { name: "in.zip", data: nested, method: 0 },
      { name: "z", data: text },
    ],
  },
  "signatures in the data": {
    entries: [
      { name: "a", data: signatures, method: 0 },
      { name: "b", data: signatures, level: 0 },
      { name: "c", data: signatures, method: 0, descriptor: "none" },
    ],
  },
  "empty entries and folders": {
    entries: [
      { name: "a" },
      { name: "d/", method: 0, descriptor: "none" },
      { name: "e/" },
      { name: "f/", method: 0 },
      { name: "b", descriptor: "unsigned" },
    ],
  },
  zip64: {
    entries: [
      { name: "a", data: text },
      { name: "b", data: large },
    ],
    zip64: true,
  },
  "zip64 without entries": { entries: [], zip64: true },
  "directory in another order": {
    entries: [
      { name: "a", data: text },
      { name: "b", data: noise },
      { name: "c", data: large },
    ],
    directory: [2, 0, 1],
  },
  comment: { entries: [{ name: "a", data: text }], comment: Buffer.from("PK\x05\x06 a comment") },
  "large entries": { entries: [1, 2, 3].map((n) => ({ name: `${n}`, data: large })) },
  "large, small, large": {
    entries: [large, text, large, noise, text, large].map((data, n) => ({ name: `${n}`, data })),
  },
};

const expected = (zip: FaultZip): Content =>
  zip.entries.map((entry) => ({ name: String(entry.name), data: digest(entry.data ?? Buffer.alloc(0)) }));

describe("reading good zips", () => {
  for (const [what, zip] of Object.entries(good)) {
    it(what, async () => {
      const bytes = buildZip(zip);
      for (const sizes of [[bytes.length], [65536], [1], [7, 1, 300], [4096]]) {
        expect(await readAll(inPieces(bytes, ...sizes))).toEqual(expected(zip));
      }
    });
  }

  it("gives the same whatever the chunks", async () => {
    const entry = fc.record({
      data: fc.oneof(
        fc.uint8Array({ maxLength: 300 }),
        fc.integer({ min: 0, max: 200_000 }).map((n) => randomBytes(n)),
        fc.integer({ min: 0, max: 200_000 }).map((n) => Buffer.alloc(n, "abc")),
        fc.constantFrom(signatures, nested, text),
      ),
      method: fc.constantFrom(0, 8),
      descriptor: fc.constantFrom("signed" as const, "unsigned" as const, "none" as const),
      wide: fc.boolean(),
      localZip64: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(entry, { maxLength: 6 }),
        fc.array(fc.integer({ min: 1, max: 100_000 }), { minLength: 1, maxLength: 5 }),
        fc.boolean(),
        async (drawn, sizes, zip64) => {
          const entries = drawn.map(
            (one, n): FaultEntry => ({
              ...one,
              // Stored data behind which no signature stands cannot be delimited by anyone.
              descriptor: one.method === 0 && one.descriptor === "unsigned" ? "signed" : one.descriptor,
              name: `entry-${n}`,
            }),
          );
          const zip = { entries, zip64 };
          expect(await readAll(inPieces(buildZip(zip), ...sizes))).toEqual(expected(zip));
        },
      ),
      { numRuns: 60 },
    );
  });

  it("reads names by the UTF-8 flag, as code page 437, and from the unicode path field", async () => {
    const raw = Buffer.from([0x81, 0x62, 0xe1]);
    const field = Buffer.concat([Buffer.from([1, 0, 0, 0, 0]), Buffer.from("größe.dcm")]);
    field.writeUInt32LE(crc32(Buffer.from("gr__e.dcm")), 1);
    const stale = Buffer.from(field);
    stale.writeUInt32LE(1, 1);
    const bytes = buildZip({
      entries: [
        { name: "größe/日本.dcm", data: text },
        { name: raw, data: text, flags: 8 },
        { name: "unflagged-ö", data: text, flags: 8 },
        { name: "gr__e.dcm", data: text, localExtra: extraField(0x7075, field) },
        { name: "stale.dcm", data: text, localExtra: extraField(0x7075, stale) },
      ],
    });
    const names = (await readAll(inPieces(bytes, 50))).map((entry) => entry.name);
    expect(names).toEqual(["größe/日本.dcm", "übß", "unflagged-ö", "größe.dcm", "stale.dcm"]);
  });

  it("reads and checks what the consumer leaves", async () => {
    const bytes = buildZip({
      entries: [large, large, text, large].map((data, n) => ({ name: `${n}`, data })),
    });
    const seen: string[] = [];
    for await (const entry of unzip(inPieces(bytes, 5000))) {
      seen.push(entry.name);
      if (entry.name === "1") for await (const _ of entry.body) break;
      if (entry.name === "3") for await (const _ of entry.body);
    }
    expect(seen).toEqual(["0", "1", "2", "3"]);
    const bad = buildZip({ entries: [{ name: "a", data: large, crc: 1 }, { name: "b" }] });
    await expect(
      (async () => {
        for await (const entry of unzip(inPieces(bad, 5000))) for await (const _ of entry.body) break;
      })(),
    ).rejects.toMatchObject({ code: "proof-format" });
  });

  it("treats a body read late or twice, or a size asked for early, as a mistake", async () => {
    const bytes = buildZip({
      entries: [
        { name: "a", data: large },
        { name: "b", data: large },
      ],
    });
    let first: AsyncIterable<Uint8Array> | undefined;
    for await (const entry of unzip(inPieces(bytes, 5000))) {
      expect(() => entry.sizeBytes).toThrow(/assertion/);
      if (first === undefined) {
        first = entry.body;
        for await (const _ of entry.body);
      }
    }
    await expect(
      (async () => {
        for await (const _ of first ?? []);
      })(),
    ).rejects.toThrow(/assertion/);
  });
});

describe("refusing bad zips", () => {
  const a = { name: "a", data: text };
  const b = { name: "b", data: large };
  const rows: Record<string, [zip: FaultZip, words: RegExp]> = {
    "wrong CRC in the descriptor": [{ entries: [{ ...a, crc: 5 }, b] }, /"a".*descriptor/],
    "wrong CRC in the descriptor of a large entry": [{ entries: [a, { ...b, crc: 5 }] }, /"b".*descriptor/],
    "wrong CRC in the header": [{ entries: [{ ...a, crc: 5, descriptor: "none" }, b] }, /"a".*CRC/],
    "wrong CRC in the directory": [{ entries: [{ ...a, centralCrc: 5 }, b] }, /"a".*CRC of the directory/],
    "wrong size in the directory": [{ entries: [{ ...a, centralSize: 5 }] }, /"a".*sizes/],
    "wrong deflated size in the directory": [{ entries: [{ ...a, centralCompressed: 5 }] }, /"a".*sizes/],
    "wrong size in the header": [{ entries: [{ ...b, localSize: 5, descriptor: "none" }] }, /"b" is larger/],
    "too great a size in the header": [
      { entries: [{ ...b, localSize: 500_000, descriptor: "none" }] },
      /"b".*sizes/,
    ],
    "wrong offset in the directory": [{ entries: [{ ...a, centralOffset: 5 }] }, /at byte 5/],
    "another name in the directory": [{ entries: [{ ...a, centralName: "c" }] }, /another name/],
    "another meaning of the name in the directory": [
      { entries: [{ ...a, name: "ö", centralFlags: 8 }] },
      /another name/,
    ],
    "another method in the directory": [{ entries: [{ ...a, centralMethod: 0 }] }, /another compression/],
    "no directory": [{ entries: [a, b], directory: [] }, /no directory for its 2/],
    "half a directory": [{ entries: [a, b], directory: [1] }, /lists 1 of 2/],
    "an entry twice in the directory": [{ entries: [a, b], directory: [0, 0] }, /twice in the directory/],
    "wrong count": [{ entries: [a, b], endCount: 3 }, /does not count/],
    "wrong count, zip64": [{ entries: [a, b], endCount: 3, zip64: true }, /does not count/],
    "wrong place of the directory": [{ entries: [a, b], endStart: 3 }, /where its directory is/],
    "wrong place of the directory, zip64": [
      { entries: [a], endStart: 3, zip64: true },
      /where its directory/,
    ],
    "a locator that points elsewhere": [{ entries: [a], zip64: true, locatorShift: 1 }, /points elsewhere/],
    "bytes behind the end": [{ entries: [a, b], trailing: Buffer.from([0]) }, /bytes follow/],
    "a second zip behind the end": [{ entries: [a], trailing: buildZip({ entries: [b] }) }, /bytes follow/],
    "bytes in front": [{ entries: [a], prefix: Buffer.from("#!/bin/sh\n") }, /not a zip/],
    "a page instead of a zip": [{ entries: [], prefix: Buffer.from("<html>") }, /not a zip/],
    "a split marker": [{ entries: [a], prefix: Buffer.from("PK\x07\x08") }, /multi-disk/],
    "several disks": [{ entries: [a], endDisk: 1 }, /multi-disk/],
    "several disks, zip64": [{ entries: [a], endDisk: 1, zip64: true }, /multi-disk/],
    "an entry on another disk": [{ entries: [{ ...a, centralDisk: 2 }] }, /multi-disk/],
    encryption: [{ entries: [{ ...a, flags: 0x0809 }] }, /encrypted/],
    "an unknown method": [{ entries: [{ ...a, method: 12 }] }, /method 12/],
    "two entries of a name": [{ entries: [a, { ...b, name: "a" }] }, /"a" comes twice/],
    "data in a folder": [{ entries: [{ ...a, name: "d/" }] }, /folder but holds data/],
    "invalid UTF-8": [{ entries: [{ ...a, name: Buffer.from([0x61, 0xff]) }] }, /not valid UTF-8/],
    "zip64 sizes that are not given": [
      { entries: [{ ...a, descriptor: "none", localSize: 0xffffffff }] },
      /promises a zip64 size/,
    ],
    "damaged small data": [{ entries: [{ ...a, compressed: Buffer.alloc(40, 0xff) }] }, /"a".*damaged/],
    "damaged large data": [
      {
        entries: [
          {
            ...b,
            // Ones begin a block of a type that does not exist.
            compressed: Buffer.concat([
              deflateRawSync(large, { finishFlush: constants.Z_SYNC_FLUSH }),
              Buffer.alloc(9000, 0xff),
            ]),
          },
        ],
      },
      /"b".*damaged/,
    ],
  };
  for (const [what, [zip, words]] of Object.entries(rows)) {
    it(what, async () => {
      const bytes = buildZip(zip);
      expect(await refusal(inPieces(bytes, bytes.length))).toMatch(words);
      expect(await refusal(inPieces(bytes, 1, 2, 3, 500))).toMatch(words);
    });
  }

  it("nothing at all", async () => {
    expect(await refusal(inPieces(Buffer.alloc(0), 1))).toMatch(/empty/);
  });

  it.each(["/etc/passwd", "../a", "a/../b", "a/..", "..", "a\\..\\b", "\\a", "C:\\a", "c:a", "a\0b", ""])(
    "the hostile name %j",
    async (name) => {
      expect(await refusal(inPieces(buildZip({ entries: [{ name, data: text }] }), 100))).toMatch(
        /hostile name/,
      );
    },
  );

  it("a hostile name in the unicode path field", async () => {
    const field = Buffer.concat([Buffer.from([1, 0, 0, 0, 0]), Buffer.from("../x")]);
    field.writeUInt32LE(crc32(Buffer.from("x")), 1);
    const bytes = buildZip({ entries: [{ name: "x", data: text, localExtra: extraField(0x7075, field) }] });
    expect(await refusal(inPieces(bytes, 100))).toMatch(/hostile name/);
  });

  it.each(["..a", "a..b", "a/...", "a/b..", ".a"])("but not the odd name %j", async (name) => {
    expect(await readAll(inPieces(buildZip({ entries: [{ name, data: text }] }), 100))).toHaveLength(1);
  });

  const small: FaultZip = {
    entries: [
      { name: "a", data: text },
      { name: "b", data: Buffer.from("stored"), method: 0 },
      { name: "c", data: Buffer.from("plain"), method: 0, descriptor: "none" },
      { name: "ö", data: text, descriptor: "unsigned", wide: true },
      { name: "e" },
    ],
  };

  it.each([false, true])("cut at every byte (zip64: %s)", async (zip64) => {
    const bytes = buildZip({ ...small, zip64, comment: Buffer.from("hi") });
    for (let length = 0; length < bytes.length; length += 1) {
      await refusal(inPieces(bytes.subarray(0, length), 33));
    }
  });

  it("a large entry cut anywhere", async () => {
    const bytes = buildZip({ entries: [{ name: "b", data: large }] });
    for (let length = 100; length < bytes.length; length += 7919) {
      expect(await refusal(inPieces(bytes.subarray(0, length), 65536))).toMatch(/too early/);
    }
  });

  it.each([false, true])("every flipped bit is refused or changes nothing (zip64: %s)", async (zip64) => {
    const bytes = buildZip({ ...small, zip64 });
    const truth = JSON.stringify(expected(small));
    let refused = 0;
    for (let at = 0; at < bytes.length; at += 1) {
      for (let bit = 0; bit < 8; bit += 1) {
        const flipped = Buffer.from(bytes);
        flipped[at]! ^= 1 << bit;
        let content: Content;
        try {
          content = await readAll(inPieces(flipped, 200));
        } catch (error) {
          if (!(error instanceof RunError)) throw error;
          refused += 1;
          continue;
        }
        if (JSON.stringify(content) !== truth) throw new Error(`bit ${bit} of byte ${at}: wrong data passed`);
      }
    }
    expect(refused).toBeGreaterThan(bytes.length * 4);
  });

  it("a large entry with any flipped bit", async () => {
    const bytes = buildZip({ entries: [{ name: "b", data: large }] });
    for (let at = 40; at < bytes.length - 100; at += 7919) {
      const flipped = Buffer.from(bytes);
      flipped[at]! ^= 1 << (at % 8);
      await refusal(inPieces(flipped, 65536));
    }
  });
});

describe("limits", () => {
  const zeros = (bytes: number): FaultEntry => ({ name: `z${bytes}`, data: Buffer.alloc(bytes) });

  it("stops a bomb after little more than the limit", async () => {
    const bomb = buildZip({ entries: [zeros(64 * 1024 * 1024)] });
    for (const limits of [{ maxEntryBytes: 3_000_000 }, { maxTotalBytes: 3_000_000 }]) {
      let seen = 0;
      const source = inPieces(bomb, 4096);
      const reading = (async () => {
        for await (const entry of unzip(source, limits))
          for await (const part of entry.body) seen += part.length;
      })();
      await expect(reading).rejects.toMatchObject({ code: "proof-format" });
      expect(seen).toBeLessThanOrEqual(3_000_000);
      expect(source.pulled).toBeLessThan(6);
      expect(source.returned).toBe(1);
    }
  });

  it("counts small entries as well", async () => {
    const bytes = buildZip({ entries: [zeros(1000), zeros(1001), zeros(1002)] });
    expect(await refusal(inPieces(bytes, 500), { maxTotalBytes: 3002 })).toMatch(/"z1002".*3002 bytes/);
    expect(await refusal(inPieces(bytes, 500), { maxEntryBytes: 1000 })).toMatch(/"z1001".*1000 bytes/);
    expect(await readAll(inPieces(bytes, 500), { maxTotalBytes: 3003, maxEntryBytes: 1002 })).toHaveLength(3);
  });

  it("refuses a promised size before the first byte", async () => {
    const bytes = buildZip({ entries: [{ ...zeros(1_000_000), descriptor: "none", method: 0 }] });
    const source = inPieces(bytes, 100);
    expect(await refusal(source, { maxEntryBytes: 999_999 })).toMatch(/larger/);
    expect(source.pulled).toBe(1);
  });

  it("stops stored data without a length", async () => {
    const bytes = buildZip({ entries: [{ ...zeros(1_000_000), method: 0 }] });
    expect(await refusal(inPieces(bytes, 100), { maxEntryBytes: 999_999 })).toMatch(/larger/);
  });

  it("counts entries", async () => {
    const bytes = buildZip({ entries: [zeros(1), zeros(2), zeros(3)] });
    expect(await refusal(inPieces(bytes, 100), { maxEntries: 2 })).toMatch(/more than the 2 entries/);
    expect(await readAll(inPieces(bytes, 100), { maxEntries: 3 })).toHaveLength(3);
  });
});

describe("pace and ending", () => {
  const many = buildZip({ entries: [1, 2, 3, 4].map((n) => ({ name: `${n}`, data: large })) });

  it("reads no further than the consumer asks", async () => {
    const incompressible = buildZip({ entries: [{ name: "a", data: randomBytes(4_000_000) }] });
    const source = inPieces(incompressible, 10_000);
    const entries = unzip(source);
    const entry = (await entries.next()).value;
    const body = entry?.body[Symbol.asyncIterator]();
    await body?.next();
    await body?.next();
    await new Promise((resolve) => setImmediate(resolve));
    expect(source.pulled).toBeLessThan(30);
    expect(source.pulled).toBeLessThan(incompressible.length / 10_000 / 10);
    await entries.return();
    expect(source.returned).toBe(1);
  });

  it("never inflates far ahead of a slow consumer", async () => {
    const bomb = buildZip({ entries: [{ name: "a", data: Buffer.alloc(200 * 1024 * 1024) }] });
    const before = process.memoryUsage().rss;
    const entries = unzip(inPieces(bomb, bomb.length));
    const entry = (await entries.next()).value;
    const body = entry?.body[Symbol.asyncIterator]();
    for (let n = 0; n < 3; n += 1) {
      await body?.next();
      for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    }
    expect(process.memoryUsage().rss - before).toBeLessThan(60 * 1024 * 1024);
    await entries.return();
  });

  it.each(["between entries", "inside a body"])(
    "closes the source when the consumer stops %s",
    async (where) => {
      const source = inPieces(many, 5000);
      for await (const entry of unzip(source)) {
        if (where === "inside a body") for await (const _ of entry.body) break;
        break;
      }
      expect(source.returned).toBe(1);
    },
  );

  it("closes the source when the consumer throws", async () => {
    const source = inPieces(many, 5000);
    const reading = (async () => {
      for await (const entry of unzip(source)) for await (const _ of entry.body) throw new Error("disk");
    })();
    await expect(reading).rejects.toThrow("disk");
    expect(source.returned).toBe(1);
  });

  it("does not close a source that has ended", async () => {
    const source = inPieces(many, 5000);
    await readAll(source);
    expect(source.returned).toBe(0);
  });

  it.each([10, 40_000, many.length - 10])(
    "passes the source's own error unchanged, after %i bytes",
    async (at) => {
      const broken = new Error("reset by peer");
      async function* source(): AsyncGenerator<Uint8Array> {
        yield many.subarray(0, at);
        throw broken;
      }
      await expect(readAll(source())).rejects.toBe(broken);
    },
  );

  it("keeps throwing the fault of a body that the consumer ignores", async () => {
    const bytes = buildZip({ entries: [{ name: "a", data: large, crc: 1 }, { name: "b" }] });
    const reading = (async () => {
      for await (const entry of unzip(inPieces(bytes, 5000))) {
        try {
          for await (const _ of entry.body);
        } catch {
          // ignored on purpose
        }
      }
    })();
    await expect(reading).rejects.toMatchObject({ code: "proof-format" });
  });
});

function has(command: string): boolean {
  return (process.env.PATH ?? "").split(":").some((folder) => existsSync(join(folder, command)));
}

describe("zips of other programs", () => {
  let folder = "";
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "unzip-test-"));
    await writeFile(join(folder, "text"), text);
    await writeFile(join(folder, "größe"), large);
    await writeFile(join(folder, "none"), "");
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));
  const truth = { text: digest(text), größe: digest(large), none: digest(Buffer.alloc(0)) };

  it.skipIf(!has("zip"))("Info-ZIP, to a file and to a pipe", async () => {
    const env = { ...process.env, LC_ALL: "C.UTF-8" };
    for (const flags of [
      ["-q", "a.zip"],
      ["-q0", "b.zip"],
      ["-q", "-fz", "c.zip"],
    ]) {
      execFileSync("zip", [...flags, ...Object.keys(truth)], { cwd: folder, env });
      const content = await readAll(inPieces(readFileSync(join(folder, flags.at(-1)!)), 1000));
      expect(Object.fromEntries(content.map((one) => [one.name, one.data]))).toEqual(truth);
    }
    const piped = execFileSync("zip", ["-q", "-", ...Object.keys(truth)], {
      cwd: folder,
      env,
      maxBuffer: 1e8,
    });
    const content = await readAll(inPieces(piped, 1000));
    expect(Object.fromEntries(content.map((one) => [one.name, one.data]))).toEqual(truth);
  });

  it.skipIf(!has("python3"))("Python's zipfile, seekable and streamed", async () => {
    const script = `
import sys, zipfile, io
class Pipe(io.RawIOBase):
    def __init__(self): self.out = bytearray()
    def writable(self): return True
    def seekable(self): return False
    def write(self, b): self.out += bytes(b); return len(b)
streamed, method = sys.argv[1] == "1", int(sys.argv[2])
target = Pipe() if streamed else io.BytesIO()
with zipfile.ZipFile(target, "w", method) as z:
    for name in ("text", "größe", "none"):
        with z.open(name, "w", force_zip64=sys.argv[3] == "1") as out: out.write(open(name, "rb").read())
sys.stdout.buffer.write(bytes(target.out) if streamed else target.getvalue())
`;
    for (const streamed of ["0", "1"]) {
      for (const method of ["0", "8"]) {
        for (const wide of ["0", "1"]) {
          const env = { ...process.env, PYTHONUTF8: "1" };
          const zip = execFileSync("python3", ["-c", script, streamed, method, wide], {
            cwd: folder,
            env,
            maxBuffer: 1e8,
          });
          const content = await readAll(inPieces(zip, 1000));
          expect(Object.fromEntries(content.map((one) => [one.name, one.data]))).toEqual(truth);
        }
      }
    }
  });
});
