import { describe, expect, it } from "vitest";
import type { HeldItem } from "../source.ts";
import { companions, humanSize } from "./companions.ts";
import { instanceItem, isoDate, LAYOUTS, seriesItem, unknownItem } from "./map.ts";
import { parseMd5Hashes } from "./md5hashes.ts";

/** V4_getSeries.java and V4_getSeriesMetadata.java print the same series with other types and dates. */
const ROW = {
  SeriesInstanceUID: "1.3.6.1.4.1.14519.5.2.1.12345",
  StudyInstanceUID: "1.3.6.1.4.1.14519.5.2.1.67890",
  Collection: "LUNG CT",
  PatientID: "P1",
  Modality: "CT",
  StudyDate: "2003-12-12",
  StudyDesc: "CHEST/ABD, contrast",
  SeriesDescription: "ax é, thin/5",
  SeriesNumber: 2,
  ImageCount: 3,
  FileSize: 900,
  MaxSubmissionTimestamp: "2015-05-27 17:12:21.0",
};

describe("NBIA rows", () => {
  it("become the same item whichever endpoint gave them", () => {
    const one = seriesItem("tcia", ROW);
    const two = seriesItem("tcia", {
      ...ROW,
      SeriesNumber: "2",
      ImageCount: "3",
      FileSize: "900",
      StudyDate: "12-12-2003",
      MaxSubmissionTimestamp: "05-27-2015",
    });
    expect(two).toEqual(one);
    expect(one).toMatchObject({
      id: `dicom-series:${ROW.SeriesInstanceUID}`,
      files: 3,
      bytes: 900,
      address: `tcia:${ROW.SeriesInstanceUID}`,
    });
  });

  it("have another revision when count, size or day of submission differ", () => {
    const revision = (more: object): string | undefined => seriesItem("tcia", { ...ROW, ...more })?.revision;
    const all = [
      {},
      { ImageCount: 4 },
      { FileSize: 901 },
      { MaxSubmissionTimestamp: "2015-05-28 00:00:00.0" },
      { ImageCount: undefined },
    ].map(revision);
    expect(new Set(all).size).toBe(all.length);
    expect(revision({ SeriesDescription: "other words" })).toBe(revision({}));
  });

  it("without a UID are no items", () => {
    expect(seriesItem("tcia", {})).toBeNull();
    expect(seriesItem("tcia", { SeriesInstanceUID: "" })).toBeNull();
  });

  it.each([
    ["05-27-2015", "2015-05-27"],
    ["2015-05-27 17:12:21.0", "2015-05-27"],
    ["2015/05/27", "2015-05-27"],
    ["Mon Nov 04 11:45:52 UTC 2013", "2013-11-04"],
    ["Mon Xyz 04 11:45:52 UTC 2013", "Mon Xyz 04 11:45:52 UTC 2013"],
    ["some day", "some day"],
  ])("a date %j is %j", (text, iso) => {
    expect(isoDate(text)).toBe(iso);
  });

  it("images and unknown ids are items of their own", () => {
    const series = seriesItem("tcia", ROW);
    if (!series) throw new Error("no item");
    expect(instanceItem(series, "1.2.3.4.5")).toMatchObject({
      id: "dicom-instance:1.2.3.4.5",
      address: `tcia:${ROW.SeriesInstanceUID}/1.2.3.4.5`,
      files: 1,
    });
    expect(unknownItem("tcia", ["1.2.3.4"])).toMatchObject({
      id: "dicom-series:1.2.3.4",
      unknown: true,
      revision: "",
    });
    expect(unknownItem("tcia", ["1.2.3.4", "1.2.3.5"])).toMatchObject({
      id: "dicom-instance:1.2.3.5",
      address: "tcia:1.2.3.4/1.2.3.5",
    });
  });
});

describe("layouts", () => {
  const folder = (more: object, layout = "descriptive"): readonly string[] => {
    const item = seriesItem("tcia", { ...ROW, ...more });
    const place = item && LAYOUTS[layout]?.(item);
    return place?.folder ?? [];
  };

  it("are those of the Java retriever", () => {
    expect(folder({ StudyID: "7" })).toEqual([
      "LUNG CT",
      "P1",
      "12-12-2003-7-CHESTABD contrast-67890",
      "2.000000-ax  thin5-12345",
    ]);
    expect(folder({ StudyDate: null, StudyDesc: null, SeriesDescription: null, SeriesNumber: null })).toEqual(
      ["LUNG CT", "P1", "67890", "12345"],
    );
    expect(folder({ StudyDesc: "null", SeriesDescription: "-", StudyID: null })).toEqual([
      "LUNG CT",
      "P1",
      "12-12-2003-67890",
      "2.000000-12345",
    ]);
    expect(folder({ SeriesDescription: "x".repeat(80) })[3]).toBe(`2.000000-${"x".repeat(53)}-12345`);
    expect(folder({}, "classic")).toEqual(["LUNG CT", "P1", ROW.StudyInstanceUID, ROW.SeriesInstanceUID]);
    expect(folder({}, "uid")).toEqual([ROW.SeriesInstanceUID]);
    expect(folder({}, "flat")).toEqual([]);
  });
});

describe("md5hashes.csv", () => {
  const sum = "00112233445566778899AABBCCDDEEFF";
  it("is read in any order, with any line ends", () => {
    const digests = parseMd5Hashes(`Filename,MD5Hash\r\n1-2.dcm,${sum}\r\na,b.dcm,${sum}\r\n`);
    expect([...digests]).toEqual([
      ["1-2.dcm", `md5:${sum.toLowerCase()}`],
      ["a,b.dcm", `md5:${sum.toLowerCase()}`],
    ]);
    expect(parseMd5Hashes("Filename,MD5Hash\n").size).toBe(0);
  });
  it.each([
    "",
    "<html>",
    `x,${sum}`,
    "Filename,MD5Hash\nx",
    `Filename,MD5Hash\nx,${sum.slice(1)}`,
    `Filename,MD5Hash\n,${sum}`,
  ])("%j is none", (text) => {
    expect(() => parseMd5Hashes(text)).toThrow(expect.objectContaining({ code: "proof-format" }));
  });
});

describe("companions", () => {
  const held = (uid: string, labels: Record<string, string | number>): HeldItem => ({
    item: {
      id: `dicom-series:${uid}`,
      revision: "1",
      archive: "tcia",
      address: `tcia:${uid}`,
      bytes: 1,
      files: 1,
      labels: { SeriesInstanceUID: uid, Collection: "C", ...labels },
    },
    place: `C/${uid}`,
    files: 2,
    bytes: 3000,
    facts: { SOPClassUID: "1.2.840.10008.5.1.4.1.1.2" },
    storedAt: "2026-01-01T00:00:00.000Z",
    paths: [],
    original: false,
    read: async function* () {},
  });
  const files = async (...items: readonly HeldItem[]): Promise<Record<string, string>> => {
    async function* all(): AsyncGenerator<HeldItem> {
      yield* items;
    }
    const made: Record<string, string> = {};
    for await (const { path, content } of companions(all)) {
      let text = "";
      for await (const piece of content) text += piece;
      made[path.join("/")] = text;
    }
    return made;
  };

  it("no control character of a name stands in a file", async () => {
    const made = await files(
      held("1.2", { Collection: "C\u001b[2J", LicenseName: "L\u009b", Manufacturer: "M\u001b" }),
    );
    expect(Object.values(made)).toHaveLength(2);
    for (const text of Object.values(made)) {
      expect(text).toContain("\\u{1b}");
      expect(text).not.toMatch(/[\u0000-\u0009\u000b\u000c\u000e-\u001f\u007f-\u009f]/u);
    }
  });

  it("a row a series, unquoted, with a blank for each comma and line end", async () => {
    const { "metadata.csv": csv = "" } = await files(
      held("1.2", { Manufacturer: "GE, Inc\r\nX", StudyDate: "2003-12-12" }),
    );
    const [header, row] = csv.split("\r\n") as [string, string];
    expect(header.split(",")).toHaveLength(17);
    expect(row.split(",")).toHaveLength(17);
    expect(row).toBe(
      "1.2,C,,,,,,12-12-2003,,GE  Inc  X,,CT Image Storage,1.2.840.10008.5.1.4.1.1.2,2,3.00 KB,./C/1.2,2026-01-01T00:00:00.000Z",
    );
  });

  it("a LICENSE names every licence of the collection, whatever came first", async () => {
    const by = held("1.1", { LicenseName: "CC BY 3.0", LicenseURI: "http://by" });
    const none = held("1.2", {});
    const nc = held("1.3", { LicenseName: "CC BY-NC 3.0", LicenseURI: "http://nc" });
    const one = (await files(by, none, nc))["C/LICENSE"];
    expect(one).toContain("CC BY 3.0 (http://by) and CC BY-NC 3.0 (http://nc)");
    expect((await files(nc, by))["C/LICENSE"]).toBe(one);
    expect((await files(none))["C/LICENSE"]).toContain("Not Specified");
  });

  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1000, "1.00 KB"],
    [999_994, "999.99 KB"],
    [999_996, "1.00 MB"],
    [5e15, "5.00 PB"],
  ])("%d bytes are %s", (bytes, text) => {
    expect(humanSize(bytes)).toBe(text);
  });
});
