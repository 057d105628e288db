import { describe, expect, it } from "vitest";
import { parseSelectionLine } from "../selections/line.ts";
import { isUid, parsePathWord, parseTarget } from "./address.ts";

describe("isUid", () => {
  it.each([
    "1.2.3.4",
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.141365756818074696859567662357",
    // Made from a UUID: DICOM PS3.5 B.2.
    "2.25.138303784952428328782717026220340911690",
  ])("takes %s", (text) => expect(isUid(text)).toBe(true));

  it.each([
    "1.2.3",
    "2.25",
    "2.25.",
    "2.26.1",
    "1.2.3.4.",
    "LIDC-IDRI",
    "1.2.3.x",
    `1.2.3.${"4".repeat(60)}`,
  ])("refuses %s", (text) => expect(isUid(text)).toBe(false));
});

it("a PATH that is empty is refused: it does not mean all", () => {
  expect(() => parseTarget(["tcia:", "LCTSC", ""])).toThrow(/a PATH is empty/u);
  expect(() => parsePathWord(" ")).toThrow(/a PATH is empty/u);
});

it("an address made of a UUID can be pasted back and listed in a manifest", () => {
  const uid = "2.25.138303784952428328782717026220340911690";
  expect(parseTarget([`tcia:${uid}`])).toEqual({ kind: "archive", archive: "tcia", paths: [[uid]] });
  expect(parseSelectionLine(uid)).toEqual({ kind: "ref", archive: null, path: [uid] });
});
