import { describe, expect, it } from "vitest";
import { type Digest, hashBytes } from "../lib/digest.ts";
import { prove } from "./prove.ts";

const file = (name: string, text = name) => ({ name, bytes: text.length, digest: hashBytes("md5", text) });
const sums = (...files: readonly { name: string; digest: Digest }[]) =>
  new Map(files.map(({ name, digest }) => [name, digest]));
const a = file("a");
const b = file("bb");

describe("the proof of an item", () => {
  it.each([
    ["all three", [a, b], { digests: sums(a, b), files: 2, bytes: 3 }, ["md5", "count", "size"]],
    ["without a word of count and size", [a], { digests: sums(a), files: null, bytes: null }, ["md5"]],
    ["without digests", [a, b], { digests: null, files: 2, bytes: 3 }, ["count", "size"]],
    [
      "without digests, ever",
      [a, b],
      { digests: null, files: 2, bytes: 3, withoutDigests: { form: "dicom" } },
      ["count", "size", "dicom"],
    ],
    [
      "without digests, ever, and without a size",
      [a],
      { digests: null, files: 1, bytes: null, withoutDigests: { form: "dicom" } },
      ["count", "dicom"],
    ],
    [
      "without digests, ever, of files that prove nothing of themselves",
      [a],
      { digests: null, files: 1, bytes: 1, withoutDigests: { form: null } },
      ["count", "size"],
    ],
    [
      "of some files by a digest",
      [a, b],
      { digests: sums(a), partial: true, files: 2, bytes: 3 },
      ["listed-md5", "count", "size"],
    ],
    [
      "of some, which are all",
      [a],
      { digests: sums(a), partial: true, files: 1, bytes: null },
      ["md5", "count"],
    ],
    ["of nothing", [], { digests: new Map(), files: 0, bytes: 0 }, ["count", "size"]],
  ] as const)("%s", (_, arrived, claims, proved) => {
    expect(prove(arrived, claims)).toEqual({ proved, contradiction: null });
  });

  it.each([
    ["a wrong digest", [a, file("bb", "xx")], { digests: sums(a, b), files: 2, bytes: 3 }, "proof-digest"],
    ["a stranger", [a, b], { digests: sums(a), files: 2, bytes: 3 }, "proof-digest"],
    ["a file that did not come", [a], { digests: sums(a, b), files: 2, bytes: 3 }, "proof-count"],
    ["no file at all", [], { digests: sums(a), files: null, bytes: null }, "proof-count"],
    [
      "a wrong one of some",
      [a, file("bb", "xx")],
      { digests: sums(b), partial: true, files: 2, bytes: 3 },
      "proof-digest",
    ],
    [
      "one of some that did not come",
      [b],
      { digests: sums(a), partial: true, files: 1, bytes: 2 },
      "proof-count",
    ],
    ["a count without digests", [a], { digests: null, files: 2, bytes: 1 }, "proof-count"],
    ["a size without digests", [a, b], { digests: null, files: 2, bytes: 4 }, "proof-size"],
    [
      "a count, where there are no digests ever",
      [a],
      { digests: null, files: 2, bytes: 1, withoutDigests: { form: "dicom" } },
      "proof-count",
    ],
    [
      "what is announced by nothing at all",
      [a],
      { digests: null, files: null, bytes: 1, withoutDigests: { form: "dicom" } },
      "proof-count",
    ],
  ] as const)("%s is refused", (_, arrived, claims, code) => {
    expect(() => prove(arrived, claims)).toThrow(expect.objectContaining({ code }));
  });

  it("tells a contradiction where every digest is right, and proves the rest", () => {
    expect(prove([a, b], { digests: sums(a, b), files: 3, bytes: 3 })).toMatchObject({
      proved: ["md5", "size"],
      contradiction: { code: "proof-count" },
    });
    expect(prove([a, b], { digests: sums(a, b), files: 2, bytes: 9 })).toMatchObject({
      proved: ["md5", "count"],
      contradiction: { code: "proof-size" },
    });
  });

  it("names exactly the wrong files and the missing ones", () => {
    const wrong = ["d", "c"].map((name) => file(name, "xx"));
    const list = sums(a, b, file("c"), file("d"), file("e"));
    expect(() => prove([a, ...wrong], { digests: list, files: null, bytes: null })).toThrow(
      "2 files are not what the archive vouches for: c, d; 2 files did not come although the checksum list names them: bb, e",
    );
    const many = Array.from({ length: 25 }, (_, n) => file(String(n).padStart(2, "0")));
    expect(() => prove([], { digests: sums(...many), files: null, bytes: null })).toThrow(
      /, 19 and 5 more$/u,
    );
  });
});
