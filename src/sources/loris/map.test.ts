import { describe, expect, it } from "vitest";
import { parseRows } from "./api.ts";
import { exportItems, jsonText } from "./map.ts";
import { isOfFamily } from "./words.ts";

const place = { archive: "preventad", host: "host" };
const PATHS = ["$.README", "$.Images.*"];
const TYPES = [
  "bold",
  "task-encoding-bold",
  "task-encoding-events",
  "T2star-defaced",
  "echo1-magnitude-qT2star-defaced",
  "asl",
  "echo1-pcasl",
  "t1w-defaced",
  "T1map-MP2RAGE-defaced",
  "fieldmap-phasediff",
];

describe("modality words", () => {
  it.each([
    ["bold", ["bold"]],
    ["T2star", ["T2star-defaced"]],
    ["qT2star", ["echo1-magnitude-qT2star-defaced"]],
    ["asl", ["asl"]],
    ["t1w", ["t1w-defaced"]],
    ["MP2RAGE", ["T1map-MP2RAGE-defaced"]],
    ["fieldmap", ["fieldmap-phasediff"]],
    ["task-encoding-bold", ["task-encoding-bold"]],
  ])("%s", (word, types) => {
    expect(TYPES.filter((type) => isOfFamily(word, type))).toEqual(types);
  });
});

describe("the manifest", () => {
  const image = {
    Candidate: 1234567,
    Visit: "PREBL00",
    LorisScanType: "dwi65",
    Subfolder: "dwi",
    NiftiLink: "/candidates/1234567/PREBL00/images/a.mnc/bids/sub-1234567_ses-PREBL00_run-001_dwi.nii.gz",
    BvalLink: "/candidates/1234567/PREBL00/images/a.mnc/bids/sub-1234567_ses-PREBL00_run-001_dwi.bval",
  };
  const read = async (text: string): Promise<unknown[]> => {
    // In pieces of seven bytes, which cut names and escapes.
    async function* body(): AsyncGenerator<Uint8Array> {
      const bytes = Buffer.from(text);
      for (let at = 0; at < bytes.length; at += 7) yield bytes.subarray(at, at + 7);
    }
    const rows: unknown[] = [];
    for await (const row of parseRows(body(), PATHS, "the list")) rows.push(row);
    return rows;
  };

  it("is read as it streams, whatever is missing", async () => {
    const text = JSON.stringify({ README: { Link: "/a/README" }, Other: [1], Images: [image] });
    expect(await read(text.replaceAll("/", "\\/"))).toEqual([{ Link: "/a/README" }, image]);
  });

  it.each(["", "<html>", '{"error": "no"}', '{"Images": [', "[]"])("that is %j is refused", async (text) => {
    await expect(read(text)).rejects.toMatchObject({ code: "archive-reply" });
  });

  it("gives an item for each link, by the tree's names; ids may be numbers", () => {
    expect([...exportItems(place, "loris", image)].map(({ labels }) => labels.Path)).toEqual([
      "sub-1234567/ses-PREBL00/dwi/sub-1234567_ses-PREBL00_run-001_dwi.nii.gz",
      "sub-1234567/ses-PREBL00/dwi/sub-1234567_ses-PREBL00_run-001_dwi.bval",
    ]);
  });

  it("may not name a file out of the tree", () => {
    expect(() => [...exportItems(place, "loris", { ...image, Subfolder: ".." })]).toThrow("can't serve");
  });
});

it("an object has the same bytes whatever the order of its keys", () => {
  expect(jsonText({ b: "Montréal", a: null })).toBe('{\n  "a": null,\n  "b": "Montréal"\n}\n');
  expect(jsonText({ a: null, b: "Montréal" })).toBe(jsonText({ b: "Montréal", a: null }));
});
