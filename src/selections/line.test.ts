import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parsePath, parseTarget } from "../model/address.ts";
import { formatAddress } from "../model/selection.ts";
import { parseSelectionLine } from "./line.ts";

const UID = "1.3.6.1.4.1.14519.5.2.1";

describe("a line of a selection", () => {
  it.each([
    ["", { kind: "blank" }],
    ["   ", { kind: "blank" }],
    ["# comment", { kind: "blank" }],
    ["Series ID", { kind: "blank" }],
    ["SeriesInstanceUID", { kind: "blank" }],
    [`\uFEFF${UID}`, { kind: "ref", archive: null, path: [UID] }],
    [` ${UID}, `, { kind: "ref", archive: null, path: [UID] }],
    [`${UID}/${UID}.1`, { kind: "ref", archive: null, path: [UID, `${UID}.1`] }],
    [`tcia:${UID}`, { kind: "ref", archive: "tcia", path: [UID] }],
    ["nlst:NLST/1%2F2", { kind: "ref", archive: "nlst", path: ["NLST", "1/2"] }],
    ["ListOfSeriesToDownload=", { kind: "header", key: "listofseriestodownload", value: "" }],
    [
      "downloadServerUrl=https\\://a.b/c",
      { kind: "header", key: "downloadserverurl", value: "https://a.b/c" },
    ],
    ["noOfrRetry: 4", { kind: "header", key: "noofrretry", value: "4" }],
    [`${UID}.`, { kind: "bad" }],
    ["1.2.3", { kind: "bad" }],
    [`1.2.3.${"4".repeat(60)}`, { kind: "bad" }],
    ["s3://idc-open-data/x/*", { kind: "bad" }],
    ["<TCIACollection>", { kind: "bad" }],
    ["tcia:a//b", { kind: "bad" }],
    ["tcia:%zz", { kind: "bad" }],
  ])("%j", (text, expected) => {
    expect(parseSelectionLine(text)).toMatchObject(expected);
  });

  it("is never an exception, and what is bad says why", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: "binary" }),
          fc.string({ unit: fc.constantFrom("1", ".", "/", ":", "a", "%", " ", ",", "=") }),
        ),
        (text) => {
          const line = parseSelectionLine(text);
          if (line.kind === "bad") expect(line.reason.length).toBeGreaterThan(5);
        },
      ),
    );
  });
});

it("an address that we print is read back as what it names", () => {
  const segment = fc.string({ unit: "grapheme", minLength: 1 });
  fc.assert(
    fc.property(fc.array(segment, { maxLength: 5 }), (path) => {
      expect(parseTarget([formatAddress("tcia", path)])).toEqual({
        kind: "archive",
        archive: "tcia",
        paths: [path],
      });
    }),
  );
  expect(parsePath("a/", "a/")).toEqual(["a"]);
  expect(() => parsePath("a//b", "a//b")).toThrow(expect.objectContaining({ code: "usage" }));
});
