import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { safePlace } from "../../pipeline/planning.ts";
import type { WireCollection, WireFile } from "./api.ts";
import { digestOf, fileItem, LAYOUTS, unknownItem } from "./map.ts";

const fixture = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`fixtures/${name}.json`, import.meta.url), "utf8"));
const [lung] = fixture("collections") as WireCollection[];
const [plain, odd] = fixture("files") as [WireFile, WireFile];

describe("fileItem", () => {
  it("names the data, its place in the tree and what the archive promises", () => {
    const item = fileItem("shelf", plain, lung);
    expect(item).toMatchObject({
      id: "template-file:1.2.3.1.1",
      address: "shelf:LUNG CT/P1/1.2.3.1.1",
      bytes: 3000,
      files: 1,
      labels: { Collection: "LUNG CT", Patient: "P1", Bytes: 3000, Licence: "CC BY 4.0" },
    });
    expect(digestOf(item)).toBe("md5:0123456789abcdef0123456789abcdef");
  });

  it("says nothing where the archive says nothing", () => {
    const item = fileItem("shelf", odd, undefined);
    expect(item.bytes).toBeNull();
    expect(digestOf(item)).toBeNull();
    expect(item.labels).not.toHaveProperty("Licence");
    expect(item.labels).not.toHaveProperty("Bytes");
  });

  it("has another revision when any promise changes", () => {
    const revisions = [plain, { ...plain, bytes: 1 }, { ...plain, changed: "2016-01-01" }].map(
      (row) => fileItem("shelf", row, lung).revision,
    );
    expect(new Set(revisions).size).toBe(3);
  });
});

describe("layouts", () => {
  it.each(Object.entries(LAYOUTS))("%s keeps a hostile name inside the folder", (_name, layout) => {
    const { folder, file } = safePlace(layout(fileItem("shelf", odd, lung)));
    expect(`${folder ?? "."}/${file}`).not.toMatch(/(^|\/)\.\.\//u);
    expect(file).not.toContain("/");
  });
});

it("an item that is not shown keeps the address it was asked by", () => {
  expect(unknownItem("shelf", ["LUNG CT", "P1", "9.9"])).toMatchObject({
    id: "template-file:9.9",
    address: "shelf:LUNG CT/P1/9.9",
    unknown: true,
  });
});
