import { describe, expect, it } from "vitest";
import type { Row } from "../model/item.ts";
import { type Filters, NO_FILTERS } from "../model/query.ts";
import type { Capabilities } from "../sources/source.ts";
import { buildFilter, checkFilters, patientKey } from "./filter.ts";
import { layoutOf } from "./layout.ts";

const capabilities: Capabilities = {
  levels: ["collection", "patient", "series"],
  itemLevel: "series",
  filters: ["collection", "modality", "since", "until", "study-since", "study-until", "include", "exclude"],
  fields: { collection: "Collection", patient: "PatientID", series: "UID", modality: "Modality" },
  columns: ["Collection", "PatientID", "UID", "Modality", "Number"],
  summaryColumns: [],
  dates: { changed: ["Released", "Submitted"], acquired: "StudyDate" },
  layouts: { classic: () => ({ folder: ["classic"] }) },
  defaultLayout: "classic",
  digest: "md5",
  batchItems: 1,
};
const item = (labels: Row) => ({
  id: "x",
  revision: "1",
  archive: "a",
  address: "a:x",
  bytes: 1,
  files: 1,
  labels,
});
const passes = (filters: Partial<Filters>, labels: Row): boolean =>
  buildFilter({ ...NO_FILTERS, ...filters }, capabilities)(item(labels));
const labels: Row = {
  Collection: "A b",
  PatientID: "P1",
  UID: "1.2",
  Modality: "CT",
  Released: "2020-01-01",
  Submitted: "2020-02-02 10:00:00",
  StudyDate: "2010-05-05",
};

describe("filters", () => {
  it.each([
    [{}, true],
    [{ words: { modality: ["mr", " ct "] } }, true],
    [{ words: { modality: ["MR"] } }, false],
    [{ words: { modality: ["CT"], collection: ["x"] } }, false],
    [{ dates: { since: "2020-02-02" } }, true],
    [{ dates: { since: "2020-02-03" } }, false],
    [{ dates: { until: "2020-02-02" } }, true],
    [{ dates: { until: "2020-02-01" } }, false],
    [{ dates: { "study-since": "2010-05-05", "study-until": "2010-05-05" } }, true],
    [{ dates: { "study-since": "2010-05-06" } }, false],
    [{ include: ["A b/**"] }, true],
    [{ include: ["A b/P2/**", "**/1.2"] }, true],
    [{ include: ["P1/**"] }, false],
    [{ exclude: ["**/1.*"] }, false],
    [{ include: ["**"], exclude: ["A c/**"] }, true],
  ] as const)("%j -> %s", (filters, expected) => {
    expect(passes(filters, labels)).toBe(expected);
  });

  it("what is no glob is refused", () => {
    expect(() => buildFilter({ ...NO_FILTERS, include: [""] }, capabilities)).toThrow(
      expect.objectContaining({ code: "usage" }),
    );
  });

  it("what an item lacks passes no filter on it", () => {
    expect(passes({ words: { modality: ["CT"] } }, { ...labels, Modality: null })).toBe(false);
    expect(passes({ dates: { until: "2030-01-01" } }, { Collection: "A" })).toBe(false);
    expect(passes({ dates: { "study-until": "2030-01-01" } }, { Collection: "A" })).toBe(false);
  });

  it("an archive that can't answer is refused by the filter's name", () => {
    const wanted = { ...NO_FILTERS, limit: 3 };
    expect(() => checkFilters(wanted, capabilities, "a")).toThrow(
      expect.objectContaining({ code: "unsupported-filter", message: expect.stringContaining("--limit") }),
    );
    expect(() => checkFilters({ ...NO_FILTERS, include: ["x"] }, capabilities, "a")).not.toThrow();
  });

  it("patients are unique within a collection only", () => {
    expect(patientKey(labels, capabilities)).not.toBe(
      patientKey({ ...labels, Collection: "B" }, capabilities),
    );
    expect(patientKey(labels, capabilities)).toBe(patientKey({ ...labels, UID: "9" }, capabilities));
  });
});

describe("layouts", () => {
  it("a template fills fields and columns, and / begins a folder", () => {
    const layout = layoutOf("{collection}/{patient}-{Number}/x{modality}", capabilities);
    expect(layout(item({ ...labels, Number: 7 }))).toEqual({ folder: ["A b", "P1-7", "xCT"] });
    expect(layout(item({}))).toEqual({ folder: ["", "-", "x"] });
    expect(layout(item({ Collection: "a/b" })).folder[0]).toBe("a/b");
  });

  it.each(["no-such", "{nothing}", "{patient"])("%j is refused", (name) => {
    expect(() => layoutOf(name, capabilities)(item(labels)).folder.join()).toThrow(
      expect.objectContaining({ code: "usage" }),
    );
  });
});
