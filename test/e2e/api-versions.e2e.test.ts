/** One archive by each version of its interface: the same rows, the same data, and lists that people share. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { type Filters, type Gantry, NO_FILTERS } from "../../src/index.ts";
import { smallArchive } from "../support/dataset.ts";
import { freshDir, hashTree, listAll, type Stage, startStage } from "../support/gantry.ts";

/** By version: the archive's name, and columns that it does not have (docs/sources/nbia.md). */
const VERSIONS = [
  ["tcia", []],
  ["tcia-v1", ["Site"]],
  ["tcia-v2", ["Site"]],
  ["tcia-v3", ["Site"]],
] as const;
const LACKING = [...new Set(VERSIONS.flatMap(([, columns]) => columns))];

type Json = Readonly<Record<string, unknown>>;

let stage: Stage;
let gantry: Gantry;
beforeAll(async () => {
  stage = await startStage({ data: smallArchive() });
  gantry = await stage.openGantry();
  return () => gantry.close();
});

/** In this process: a start of the program for each question would take minutes. */
const rows = async (
  command: "find" | "ls" | "values",
  address: string,
  filters: Partial<Filters> = {},
  field = "",
): Promise<Json[]> => {
  const all = { ...NO_FILTERS, ...filters };
  const listing = await (command === "find"
    ? gantry.find([address], { filters: all })
    : command === "ls"
      ? gantry.list([address], { recursive: false, long: false, filters: all })
      : gantry.values([address], field, { filters: all }));
  const found: Json[] = [];
  for await (const row of listing.rows) found.push(row);
  return found;
};

/** Without the columns that a version lacks, and without the archive's name in the address. */
const comparable = (list: readonly Json[]): Json[] =>
  list.map((row) => {
    const kept = Object.entries(row).filter(([column]) => !LACKING.some((each) => each === column));
    return { ...Object.fromEntries(kept), address: String(row.address).replace(/^[^:]+:/u, "") };
  });

const receipts = async (dir: string): Promise<Json[]> => {
  const names = (await listAll(dir)).filter((path) => path.startsWith(".gantry/receipts/"));
  const texts = await Promise.all(names.map((name) => readFile(join(dir, name), "utf8")));
  return texts
    .flatMap((text) => text.split("\n"))
    .filter((line) => line.includes('"item"'))
    .map((line) => JSON.parse(line) as Json);
};

describe("every version of the interface", () => {
  const cases: readonly (readonly ["find" | "ls", string, Partial<Filters>])[] = [
    ["find", "", {}],
    ["find", "LUNG CT/P1", {}],
    ["find", "", { words: { modality: ["mr", "PT"] } }],
    ["find", "", { dates: { "study-since": "2000-01-01", since: "2020-01-02" } }],
    ["find", "1.2.840.1.70", {}],
    ["ls", "", {}],
    ["ls", "LUNG CT", {}],
    ["ls", "LUNG CT/P1", {}],
    ["ls", "1.2.840.1.1", {}],
  ];
  it.each(cases)("%s ARCHIVE:%s %j is the same", async (command, place, filters) => {
    const [newest, ...older] = await Promise.all(
      VERSIONS.map(async ([name]) => comparable(await rows(command, `${name}:${place}`, filters))),
    );
    expect(newest?.length).toBeGreaterThan(0);
    for (const list of older) {
      const order = (all: readonly Json[]): Json[] =>
        [...all].sort((a, b) => (String(a.address) < String(b.address) ? -1 : 1));
      expect(order(list)).toEqual(order(newest ?? []));
    }
  });

  it("values are the same, counted by the archive or here", async () => {
    for (const field of ["collection", "modality", "body-part", "manufacturer"]) {
      const [newest, ...older] = await Promise.all(
        VERSIONS.map(async ([name]) =>
          (await rows("values", `${name}:`, {}, field)).filter(({ value }) => value !== null),
        ),
      );
      for (const list of older) expect({ field, list }).toEqual({ field, list: newest });
    }
  });

  it("lacks no other column than the documents say", async () => {
    const filled = new Set((await rows("find", "tcia:")).flatMap((row) => columnsWithValues(row)));
    for (const [name, lacking] of VERSIONS) {
      const here = new Set((await rows("find", `${name}:`)).flatMap((row) => columnsWithValues(row)));
      expect([...filled].filter((column) => !here.has(column))).toEqual(
        [...filled].filter((column) => lacking.some((each) => each === column)),
      );
    }
  });

  it("get gives equal trees, proved as far as the version goes", async () => {
    const clean = await freshDir();
    expect((await stage.run(["get", "tcia:LUNG CT", "-o", clean])).code).toBe(0);
    const revisions = new Map((await receipts(clean)).map(({ item, revision }) => [item, revision]));
    for (const name of ["tcia-v1", "tcia-v2"]) {
      const dir = await freshDir();
      expect((await stage.run(["get", `${name}:LUNG CT`, "-o", dir])).code).toBe(0);
      expect(await hashTree(dir)).toEqual(await hashTree(clean));
      for (const { item, proof, revision, files } of await receipts(dir)) {
        const sums = (files as unknown[]).length > 0 ? ["md5"] : [];
        expect(proof).toEqual([...sums, "count", "size"]);
        expect(revision).toBe(revisions.get(item));
      }
    }
    const dir = await freshDir();
    expect((await stage.run(["get", "tcia-v3:LUNG CT", "-o", dir])).code).toBe(0);
    // v3 counts its images otherwise: the same bytes in the same folders.
    const contents = async (place: string): Promise<string[]> =>
      Object.entries(await hashTree(place))
        .map(([path, file]) => `${path.replace(/[^/]+\.dcm$/u, "*.dcm")} ${JSON.stringify(file)}`)
        .sort();
    expect(await contents(dir)).toEqual(await contents(clean));
    for (const { item, proof, revision } of await receipts(dir)) {
      expect(proof).toEqual(["count", "size", "dicom"]);
      expect(revision).toBe(revisions.get(item));
    }
  });

  it("a folder that one version filled is up to date for another", async () => {
    const dir = await freshDir();
    expect((await stage.run(["get", "tcia-v1:LUNG CT/P1", "-o", dir])).code).toBe(0);
    stage.control.clearRequests();
    expect((await stage.run(["get", "tcia:LUNG CT/P1", "-o", dir])).code).toBe(0);
    expect(stage.requests("getImage")).toEqual([]);
  });

  it.each([["tcia-v1"], ["tcia-v3"]])("%s: a single image", async (name) => {
    const dir = await freshDir();
    const result = await stage.run(["get", `${name}:1.2.840.1.1/1.2.840.1.1.2`, "-o", dir]);
    expect(result).toMatchObject({ code: 0 });
    const [receipt] = await receipts(dir);
    expect(receipt?.proof).toEqual(name === "tcia-v3" ? ["count", "dicom"] : ["md5", "count"]);
  });
});

const columnsWithValues = (row: Json): string[] => Object.keys(row).filter((column) => row[column] !== null);

describe("the key of the historic service", () => {
  it.each([
    ["missing", "", "asks for an API key"],
    ["wrong", "not-the-k3y", "does not accept the API key"],
  ])("%s: exit 4, and it is not shown", async (_, key, said) => {
    const result = await stage.run(["find", "tcia-v3:"], { env: { GANTRY_TCIA_V3_API_KEY: key } });
    expect(result.code).toBe(4);
    expect(result.stderr).toContain(said);
    expect(result.stderr).toContain("GANTRY_TCIA_V3_API_KEY");
    expect(result.stdout + result.stderr).not.toContain("not-the-k3y");
  });

  it("is sent as a header only, and to no other origin", async () => {
    stage.control.clearRequests();
    await rows("find", "tcia-v3:");
    const seen = stage.sandbox.control.requests();
    expect(seen.length).toBeGreaterThan(0);
    expect(seen.every(({ headers, query }) => headers.api_key === "demo" && !("api_key" in query))).toBe(
      true,
    );
    stage.control.setFaults([{ kind: "redirect", route: "**/getSeries" }]);
    try {
      const once = await stage.openGantry({ retries: 0 });
      const listing = await once.find(["tcia-v3:"], { filters: NO_FILTERS });
      await expect(listing.rows[Symbol.asyncIterator]().next()).rejects.toThrow();
      await once.close();
      expect(stage.sandbox.elsewhere.requests.length).toBeGreaterThan(0);
      expect(JSON.stringify(stage.sandbox.elsewhere.requests)).not.toContain("api_key");
    } finally {
      stage.control.setFaults([]);
    }
  });
});

describe("shared lists", () => {
  /** What the sandbox's own list holds, by its door of v1. */
  const listed = async (): Promise<string[]> => {
    const reply = await fetch(`${stage.sandbox.url}/nbia-api/services/v1/getContentsByName?name=sandbox`);
    return ((await reply.json()) as Json[]).map((row) => String(row.SeriesInstanceUID)).sort();
  };
  const uids = (list: readonly Json[]): unknown[] => list.map((row) => row.SeriesInstanceUID).sort();

  it.each(VERSIONS)("%s: the list, with a place, with filters", async (name) => {
    const all = await rows("find", `${name}:`);
    const wanted = await listed();
    expect(wanted.length).toBeLessThan(all.length);
    const sandbox = { "shared-list": ["sandbox"] };
    const whole = await rows("find", `${name}:`, { words: sandbox });
    expect(uids(whole)).toEqual(wanted);
    const inList = all.filter((row) => wanted.includes(String(row.SeriesInstanceUID)));
    expect(uids(await rows("find", `${name}:lung ct/P1`, { words: sandbox }))).toEqual(
      uids(inList.filter((row) => row.PatientID === "P1")),
    );
    expect(uids(await rows("find", `${name}:`, { words: { ...sandbox, modality: ["ct"] } }))).toEqual(
      uids(inList.filter((row) => row.Modality === "CT")),
    );
    const one = wanted[0] ?? "";
    expect(uids(await rows("find", `${name}:${one}`, { words: sandbox }))).toEqual([one]);
    const other = all.map((row) => String(row.SeriesInstanceUID)).find((uid) => !wanted.includes(uid));
    expect(await rows("find", `${name}:${other}`, { words: sandbox })).toEqual([]);
    const counted = await rows("values", `${name}:`, { words: sandbox }, "modality");
    expect(counted.map(({ value }) => value)).toEqual([...new Set(inList.map((row) => row.Modality))].sort());
  });

  it.each(VERSIONS)("%s: an unknown list is refused", async (name) => {
    const asked = rows("find", `${name}:`, { words: { "shared-list": ["sandbox", "no-such"] } });
    await expect(asked).rejects.toMatchObject({ code: "unknown-name", exit: 2 });
    await expect(asked).rejects.toThrow('no shared list "no-such"');
  });

  it("an unknown list is exit 2", async () => {
    expect((await stage.run(["find", "tcia:", "--shared-list", "no-such"])).code).toBe(2);
  });

  it("get takes it, and asks for it again at a refresh", async () => {
    const dir = await freshDir();
    const wanted = await listed();
    const first = await stage.run(["get", "tcia:", "--shared-list", "sandbox", "-o", dir]);
    expect(first.code).toBe(0);
    const stored = (await receipts(dir)).map(({ item }) => item);
    expect(stored.sort()).toEqual(wanted.map((uid) => `dicom-series:${uid}`));
    stage.control.clearRequests();
    expect((await stage.run(["get", "-o", dir])).code).toBe(0);
    expect(stage.requests("getContentsByName").length).toBeGreaterThan(0);
    expect(stage.requests("getImage")).toEqual([]);
  });

  it("does not silently pass a ready selection", async () => {
    const result = await stage.run(["find", "-", "--shared-list", "sandbox"], { input: "1.2.840.1.1\n" });
    expect(result.code).toBe(2);
    expect(result.stderr).toContain("--shared-list");
  });
});
