import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { zipStream } from "../../lib/zip-writer.ts";
import { checkFormat } from "./format-check.ts";

const check = (name: string, bytes: Uint8Array) =>
  checkFormat(name, bytes.subarray(0, 66_000), bytes.subarray(-66_000), bytes.length);

async function zip(comment = ""): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  const entries = [{ name: "xl/workbook.xml", body: Buffer.alloc(100_000, 7) }];
  for await (const part of zipStream(entries, { comment, store: true })) parts.push(part);
  return Buffer.concat(parts);
}
const page = Buffer.from("\n <!DOCTYPE html><html><body>Sign in</body></html>");

describe("checkFormat", () => {
  it("knows zips by both ends", async () => {
    for (const whole of [await zip(), await zip("a comment")]) {
      expect(check("a.xlsx", whole)).toBe("format");
      expect(() => check("a.xlsx", whole.subarray(0, -1))).toThrow(/no whole zip/u);
      expect(() => check("a.zip", whole.subarray(0, 50_000))).toThrow(/no whole zip/u);
      expect(() => check("a.zip", Buffer.concat([whole, Buffer.from("x")]))).toThrow(/no whole zip/u);
      expect(() => check("a.zip", Buffer.concat([Buffer.from("junk"), whole]))).toThrow(/begin/u);
    }
  });

  it.each([
    ["a.nii.gz", gzipSync("x")],
    ["a.pdf", Buffer.from("%PDF-1.7\n")],
    ["a.xls", Buffer.from("d0cf11e0a1b11ae1", "hex")],
  ])("knows %s, and nothing else under its name", (name, bytes) => {
    expect(check(name, bytes)).toBe("format");
    expect(() => check(name, Buffer.from("something else, long enough"))).toThrow(/proof-format|is no/u);
  });

  it.each(["a.csv", "a.bin", "a.pdf", "download"])("takes no web page for %s", (name) => {
    expect(() => check(name, page)).toThrow(/a web page came/u);
  });

  it("takes a page where a page was asked for, and says nothing of what it does not know", () => {
    expect(check("index.html", page)).toBeNull();
    expect(check("a.csv", Buffer.from("a,b\n"))).toBeNull();
    expect(check("empty.txt", Buffer.alloc(0))).toBeNull();
  });
});
