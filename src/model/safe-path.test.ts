import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  displayName,
  foldPath,
  markedPath,
  readSafePath,
  type SafePath,
  safePath,
  safeSegment,
} from "./safe-path.ts";

const hostile = fc.oneof(
  fc.string({ unit: "binary", maxLength: 300 }),
  fc.constantFrom(
    "..",
    ".",
    "",
    "/",
    "\\",
    "../x",
    "C:",
    "con",
    "NUL.txt",
    "a.",
    "b ",
    " c",
    ".gantry",
    ".GANTRY",
    "\u0000",
    "%2e%2e",
    "a/b",
    "\ud800",
    "é".repeat(200),
    "😀".repeat(80),
    "x".repeat(400),
  ),
);

describe("safe paths", () => {
  it("never leave the folder, never name ours, and fit every file system", () => {
    fc.assert(
      fc.property(fc.array(hostile, { minLength: 1, maxLength: 5 }), (raw) => {
        const path = safePath(raw);
        const segments = path.split("/");
        expect(segments).toHaveLength(raw.length);
        for (const segment of segments) {
          expect(segment).not.toBe("");
          expect([".", ".."]).not.toContain(segment);
          expect(Buffer.byteLength(segment)).toBeLessThanOrEqual(255);
          expect(segment).not.toMatch(
            /[\u0000-\u001f\u007f-\u009f<>:"\\|?*\u202a-\u202e\u2066-\u2069]|[. ]$|^ /u,
          );
          expect(segment).not.toMatch(/^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/iu);
          expect(segment.isWellFormed()).toBe(true);
        }
        expect(segments[0]?.toLowerCase()).not.toBe(".gantry");
      }),
      { numRuns: 500 },
    );
  });

  it("are read back as they were written", () => {
    fc.assert(
      fc.property(fc.array(hostile, { minLength: 1, maxLength: 4 }), (raw) => {
        const path = safePath(raw);
        expect(readSafePath(path)).toBe(path);
      }),
    );
  });

  it("keep different short names different, and plain ones as they are", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "grapheme", maxLength: 20 }),
        fc.string({ unit: "grapheme", maxLength: 20 }),
        (a, b) => {
          fc.pre(a !== b && a !== "" && b !== "" && a !== "_" && b !== "_");
          expect(safeSegment(a)).not.toBe(safeSegment(b));
        },
      ),
    );
    for (const plain of ["LUNG CT", "1.2.840.113", "1-001.dcm", "é", "~x", "a+b=c", "CONFIG"])
      expect(safeSegment(plain)).toBe(plain);
  });

  it("cut names keep their extension and differ by what was cut", () => {
    const [one, two] = [`${"x".repeat(300)}1.dcm`, `${"x".repeat(300)}2.dcm`].map(safeSegment) as [
      string,
      string,
    ];
    expect(one).toMatch(/~[0-9a-f]{8}\.dcm$/u);
    expect(one).not.toBe(two);
    expect(Buffer.byteLength(one)).toBeLessThanOrEqual(255);
  });

  it.each(["", "/x", "a//b", "../x", "a/../b", "./a", "a/.", ".gantry/x", ".Gantry", "a\\b", "a\u0000b"])(
    "a receipt's path %j is refused",
    (text) => {
      expect(() => readSafePath(text)).toThrow(expect.objectContaining({ code: "folder-newer" }));
    },
  );

  it("fold to one key what is one file somewhere", () => {
    expect(foldPath("A/CAF\u00c9")).toBe(foldPath("a/cafe\u0301"));
    expect(foldPath("stra\u00dfe")).toBe(foldPath("STRASSE"));
    expect(foldPath("a")).not.toBe(foldPath("b"));
  });

  it("marks stand before the extension of a file, at the end of a folder, and fit", () => {
    expect(markedPath("a/x.dcm" as SafePath, "id", true)).toMatch(/^a\/x~[0-9a-f]{8}\.dcm$/u);
    expect(markedPath("a/x.y" as SafePath, "id", false)).toMatch(/^a\/x\.y~[0-9a-f]{8}$/u);
    expect(markedPath("x" as SafePath, "one", true)).not.toBe(markedPath("x" as SafePath, "two", true));
    const long = markedPath(`${"é".repeat(127)}.d` as SafePath, "id", true);
    expect(Buffer.byteLength(long)).toBeLessThanOrEqual(255);
  });

  it("show no character that moves a cursor", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        expect(displayName(text)).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e]/u);
      }),
    );
    expect(displayName("a\u001b[2Jb")).toBe("a\\u{1b}[2Jb");
  });
});
