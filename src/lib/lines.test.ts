import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Line, readLineBatches, readLines } from "./lines.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "lines-"));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

async function linesOf(content: string | Buffer, options = {}): Promise<Line[]> {
  const path = join(folder, "file");
  await writeFile(path, content);
  return collect(readLines(path, options));
}

describe("readLines", () => {
  it("numbers lines, keeps empty ones and tells a torn last one", async () => {
    expect(await linesOf("ä\n\nb\r\nc")).toEqual([
      { text: "ä", number: 1, offsetBytes: 0, complete: true },
      { text: "", number: 2, offsetBytes: 3, complete: true },
      { text: "b\r", number: 3, offsetBytes: 4, complete: true },
      { text: "c", number: 4, offsetBytes: 7, complete: false },
    ]);
    expect(await linesOf("")).toEqual([]);
    expect(await linesOf("\n")).toEqual([{ text: "", number: 1, offsetBytes: 0, complete: true }]);
  });

  it("begins at an offset", async () => {
    expect(await linesOf("one\ntwo\n", { startBytes: 4 })).toEqual([
      { text: "two", number: 1, offsetBytes: 4, complete: true },
    ]);
    expect(await linesOf("one\n", { startBytes: 4 })).toEqual([]);
  });

  it("reads lines longer than its buffer, also across characters of several bytes", async () => {
    const texts = ["ä".repeat(400_000), "", "x".repeat(262_143), "€".repeat(300_000)];
    expect((await linesOf(texts.join("\n"))).map((line) => line.text)).toEqual(texts);
  });

  it("gives back any lines at the offsets it tells", async () => {
    const line = fc.string({ unit: "grapheme" }).map((text) => text.replaceAll("\n", "") + "-".repeat(9));
    await fc.assert(
      fc.asyncProperty(fc.array(line), fc.nat(100), async (texts, factor) => {
        const wide = texts.map((text) => text.repeat(factor * 20));
        const bytes = Buffer.from(wide.map((text) => `${text}\n`).join(""));
        const lines = await linesOf(bytes);
        expect(lines.map((each) => each.text)).toEqual(wide);
        for (const each of lines) {
          const size = Buffer.byteLength(each.text);
          expect(bytes.toString("utf8", each.offsetBytes, each.offsetBytes + size)).toBe(each.text);
        }
      }),
      { numRuns: 30 },
    );
  });

  it("refuses a line that is too long, and a file that is absent", async () => {
    await expect(linesOf(`ok\n${"x".repeat(101)}\n`, { maxLineBytes: 100 })).rejects.toMatchObject({
      code: "disk-error",
      message: expect.stringContaining("line 2"),
    });
    await expect(linesOf("x".repeat(101), { maxLineBytes: 100 })).rejects.toMatchObject({
      code: "disk-error",
    });
    expect(await linesOf(`${"x".repeat(100)}\n`, { maxLineBytes: 100 })).toHaveLength(1);
    const path = join(folder, "absent");
    await expect(collect(readLines(path))).rejects.toMatchObject({
      code: "disk-error",
      at: { path },
    });
  });

  it("yields batches that join without gaps", async () => {
    const path = join(folder, "many");
    const texts = Array.from({ length: 50_000 }, (_, index) => `line ${index}`);
    await writeFile(path, texts.join("\n"));
    let next = { number: 1, offset: 0 };
    const seen: string[] = [];
    for await (const batch of readLineBatches(path)) {
      expect([batch.firstNumber, batch.offsetBytes]).toEqual([next.number, next.offset]);
      next = { number: next.number + batch.texts.length, offset: batch.endBytes };
      seen.push(...batch.texts);
    }
    expect(seen).toEqual(texts);
  });
});
