import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { buildFrame, countOf, createFrameReader, type Frame } from "./management.ts";

const readAll = (pieces: readonly Uint8Array[]): Frame[] => {
  const read = createFrameReader();
  return pieces.flatMap((piece) => read(piece));
};
const plain = (frames: readonly Frame[]): unknown => JSON.parse(JSON.stringify(frames));

const SAMPLE = `FASPMGR 2
Type: STATS
File: /déjà vu/a: b  \u001bn\u001b\u001b
Size: 12
Empty:

noise between frames
FASPMGR 2
Type: LOST
FASPMGR 2
Type: DONE
FileBytes: 34

`;
const FRAMES = [
  { Type: "STATS", File: "/déjà vu/a: b  \n\u001b", Size: "12", Empty: "" },
  { Type: "DONE", FileBytes: "34" },
];

describe("frames", () => {
  it("are read wherever the text is cut", () => {
    const bytes = Buffer.from(SAMPLE);
    for (let cut = 0; cut <= bytes.length; cut += 1)
      expect(plain(readAll([bytes.subarray(0, cut), bytes.subarray(cut)]))).toEqual(FRAMES);
    expect(plain(readAll([...bytes].map((byte) => Uint8Array.of(byte))))).toEqual(FRAMES);
    expect(plain(readAll([Buffer.from(SAMPLE.replaceAll("\n", "\r\n"))]))).toEqual(FRAMES);
  });

  it("come back as they were built, whatever the values hold and however they are cut", () => {
    const key = fc.stringMatching(/^[A-Z][A-Za-z0-9]{0,12}$/u);
    const frame = fc.dictionary(key, fc.string({ unit: "binary" }), { minKeys: 1, maxKeys: 6 });
    const cuts = fc.array(fc.nat(5000), { maxLength: 20 });
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 5 }), cuts, (frames, at) => {
        const bytes = Buffer.from(frames.map(buildFrame).join(""));
        const edges = [
          0,
          ...at.map((each) => Math.min(each, bytes.length)).sort((a, b) => a - b),
          bytes.length,
        ];
        const pieces = edges.slice(1).map((end, index) => bytes.subarray(edges[index], end));
        const wanted = frames.map((each) =>
          Object.fromEntries(Object.entries(each).map(([name, value]) => [name, value.toWellFormed()])),
        );
        expect(plain(readAll(pieces))).toEqual(plain(wanted));
      }),
    );
  });

  it("that never end are not kept", () => {
    const read = createFrameReader();
    read(Buffer.from("FASPMGR 2\nType: X\n"));
    for (let n = 0; n < 40; n += 1) read(Buffer.alloc(64 * 1024, 0x61));
    expect(read(Buffer.from("\n\nFASPMGR 2\nType: DONE\n\n"))).toMatchObject([{ Type: "DONE" }]);
  });

  it("count only in whole numbers", () => {
    expect(countOf({ Size: "12" }, "Size")).toBe(12);
    for (const text of ["", "-1", "1.5", "1e3", "99999999999999999999"])
      expect(countOf({ Size: text }, "Size")).toBeNull();
    expect(countOf({}, "Size")).toBeNull();
  });
});
