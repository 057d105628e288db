import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { deflateRawSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodeDicomHead } from "../sandbox/data/dicom-writer.ts";
import { readDicomTags } from "./dicom-tags.ts";

const root = new URL("../..", import.meta.url).pathname;
const data = [process.env.GANTRY_TEST_DATA, join(root, "../shared/data")].find(
  (folder) => folder !== undefined && existsSync(folder),
);
const judged = spawnSync("dcmdump", ["--version"]).status === 0;

const head = encodeDicomHead(
  {
    sopClassUid: "1.2.840.10008.5.1.4.1.1.2",
    sopInstanceUid: "1.2.3.4",
    elements: [
      [0x00080060, "CS", "CT"],
      [0x0020000e, "UI", "1.2.3"],
    ],
  },
  { vr: "OW", sizeBytes: 2000 },
);

describe("readDicomTags", () => {
  it("needs no pixels, and gives what stands before them", () => {
    const tags = readDicomTags(head) ?? [];
    expect(tags).toContainEqual({ element: "(0008,0060)", name: "Modality", data: "CT" });
    expect(tags).toContainEqual({ element: "(0020,000E)", name: "Series Instance UID", data: "1.2.3" });
    expect(tags.map(({ element }) => element)).not.toContain("(7FE0,0010)");
  });

  it("is null for a head that is cut, and for what is no DICOM", () => {
    const cut = head.indexOf("CT", 132) - 5;
    expect(readDicomTags(head.subarray(0, cut))).toBeNull();
    expect(readDicomTags(Buffer.from("<html>busy</html>"))).toBeNull();
    expect(readDicomTags(new Uint8Array())).toBeNull();
  });

  it("survives any change of a byte", () => {
    fc.assert(
      fc.property(fc.nat(head.length - 1), fc.nat(255), (place, value) => {
        const bytes = Buffer.from(head);
        bytes[place] = value;
        readDicomTags(bytes);
      }),
      { numRuns: 500 },
    );
  });

  it("inflates a deflated file", () => {
    const syntax = Buffer.from("1.2.840.10008.1.2.1.99");
    const meta = Buffer.concat([
      Buffer.alloc(128),
      Buffer.from("DICM"),
      Buffer.from([2, 0, 0x10, 0, 0x55, 0x49, syntax.length, 0]),
      syntax,
    ]);
    const body = Buffer.from([8, 0, 0x60, 0, 0x43, 0x53, 2, 0, 0x4d, 0x52]);
    expect(readDicomTags(Buffer.concat([meta, deflateRawSync(body)]))).toEqual([
      { element: "(0002,0010)", name: "Transfer Syntax UID", data: "1.2.840.10008.1.2.1.99" },
      { element: "(0008,0060)", name: "Modality", data: "MR" },
    ]);
  });
});

/** Lines of dcmdump as far as the pixels: tag with its depth, and the text of values that have no character set. */
function dumped(path: string): string[] {
  const { stdout } = spawnSync("dcmdump", ["-q", "+L", path], { encoding: "latin1", maxBuffer: 1 << 28 });
  const lines: string[] = [];
  for (const line of stdout.split("\n")) {
    // A value with line ends goes on in lines that begin otherwise.
    const match = /^( *)\(([0-9a-f]{4},[0-9a-f]{4})\) (\S\S) (?:\[(.*)\] +#)?/u.exec(line);
    if (!match) continue;
    const [, indent = "", tag = "", vr = "", text] = match;
    if (tag === "7fe0,0010" && indent === "") break;
    if (tag.startsWith("fffe")) continue;
    const ascii = ["CS", "UI", "DA", "TM", "IS", "DS", "AS"].includes(vr) ? (text ?? "").trim() : "";
    lines.push(`${">".repeat(indent.length / 4)}(${tag.toUpperCase()}) ${ascii}`.trim());
  }
  return lines;
}

describe.skipIf(data === undefined || !judged)("tags of real files (needs test data and dcmdump)", () => {
  const folder = join(data ?? "", "dicom");
  const firsts = (data === undefined ? [] : readdirSync(folder, { withFileTypes: true })).flatMap((entry) => {
    if (!entry.isDirectory()) return [];
    const files = readdirSync(join(folder, entry.name), { withFileTypes: true }).filter((each) =>
      each.isFile(),
    );
    const [name] = files.map((each) => each.name).sort();
    return name === undefined ? [] : [[entry.name, join(folder, entry.name, name)] as const];
  });

  it.each(firsts)("%s: the same elements as dcmdump shows", (_, path) => {
    const tags = readDicomTags(readFileSync(path)) ?? [];
    const there = new Map<string, string>();
    const mine = tags.map(({ element, data: text }) => {
      there.set(element, text ?? "");
      return element;
    });
    const judge = dumped(path);
    expect(mine).toEqual(judge.map((line) => line.split(" ")[0]));
    for (const [index, line] of judge.entries()) {
      const [element = "", ...words] = line.split(" ");
      const text = words.join(" ");
      if (text !== "" && !element.startsWith("(0002")) {
        const data = tags[index]?.data ?? "";
        // Long text is cut.
        expect(`${element} ${data.trim()}`).toBe(`${element} ${text.slice(0, data.length).trim()}`);
        expect(data.length).toBeGreaterThanOrEqual(Math.min(text.length, 4096));
      }
    }
    expect(there.size).toBeGreaterThan(10);
  });
});
