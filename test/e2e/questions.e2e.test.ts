/** Questions: every field with every filter, rows of every level, and errors for what can't be asked. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { type Gantry, type Listing, NO_FILTERS, type Row } from "../../src/index.ts";
import type { SandboxSeries } from "../../src/sandbox/data/dataset.ts";
import { buildPhantomDataset } from "../../src/sandbox/data/phantom.ts";
import { atEnd, ensureBuilt, startStage, temporaryDir } from "../support/gantry.ts";

const MANY = { timeout: 60_000 };

ensureBuilt();
const stage = await startStage();
const shown = [...buildPhantomDataset({ seed: 1 }).series()].filter(({ access }) => access === "public");
let gantry: Gantry;
beforeAll(async () => {
  gantry = await stage.openGantry();
  atEnd(() => gantry.close());
});

async function rowsOf(listing: Promise<Listing>): Promise<Row[]> {
  const rows: Row[] = [];
  for await (const row of (await listing).rows) rows.push(row);
  return rows;
}

type Column = (series: SandboxSeries) => string | null;
const upper = (text: string | null): string | null => text?.toUpperCase() ?? null;
const FIELDS: Readonly<Record<string, Column>> = {
  collection: (s) => s.collection,
  patient: (s) => s.patientId,
  study: (s) => s.studyInstanceUid,
  series: (s) => s.seriesInstanceUid,
  modality: (s) => upper(s.modality),
  "body-part": (s) => upper(s.bodyPartExamined),
  manufacturer: (s) => upper(s.manufacturer),
  model: (s) => s.manufacturerModelName,
  licence: (s) => s.licenseName,
  doi: (s) => s.dataDescriptionUri,
  sex: (s) => s.patientSex,
  species: (s) => s.species?.description ?? "Homo sapiens",
  "ethnic-group": (s) => s.ethnicGroup,
};

const some = shown.find((s) => s.patientId === "PHANTOM-0001" && s.modality === "CT") as SandboxSeries;
const FILTERS: readonly (readonly [string, Partial<typeof NO_FILTERS>, (s: SandboxSeries) => boolean])[] = [
  ["none", {}, () => true],
  ["collection", { words: { collection: ["phantom-ct"] } }, (s) => s.collection === "Phantom-CT"],
  [
    "two collections",
    { words: { collection: ["Phantom-CT", "QIN PHANTOM & CO"] } },
    (s) => s.collection === "Phantom-CT" || s.collection === "QIN PHANTOM & CO",
  ],
  ["patient", { words: { patient: ["PHANTOM-0001"] } }, (s) => s.patientId === "PHANTOM-0001"],
  [
    "study",
    { words: { study: [some.studyInstanceUid] } },
    (s) => s.studyInstanceUid === some.studyInstanceUid,
  ],
  ["series", { words: { series: [some.seriesInstanceUid] } }, (s) => s === some],
  ["modality", { words: { modality: ["mr", "SEG"] } }, (s) => ["MR", "SEG"].includes(s.modality ?? "")],
  ["body-part", { words: { "body-part": ["chest"] } }, (s) => upper(s.bodyPartExamined) === "CHEST"],
  [
    "manufacturer",
    { words: { manufacturer: [some.manufacturer ?? ""] } },
    (s) => s.manufacturer === some.manufacturer,
  ],
  [
    "model",
    { words: { model: [(some.manufacturerModelName ?? "").toLowerCase()] } },
    (s) => s.manufacturerModelName === some.manufacturerModelName,
  ],
  [
    "since",
    { dates: { since: "2019-01-01" } },
    (s) => s.releasedAt >= "2019-01-01" || s.submittedAt >= "2019-01-01",
  ],
  ["study-until", { dates: { "study-until": "2016-12-31" } }, (s) => (s.studyDate ?? "9") <= "2016-12-31"],
  ["exclude", { exclude: ["Phantom-CT/**"] }, (s) => s.collection !== "Phantom-CT"],
];

describe.each(Object.entries(FIELDS))("values … %s", (field, column) => {
  it.each(FILTERS)("with the filter %s: as counted in the data", MANY, async (_, filters, passes) => {
    const patients = new Map<string, Set<string>>();
    for (const series of shown.filter(passes)) {
      const value = column(series);
      if (value === null) continue;
      patients.set(value, (patients.get(value) ?? new Set()).add(`${series.collection}/${series.patientId}`));
    }
    const rows = await rowsOf(gantry.values(["tcia:"], field, { filters: { ...NO_FILTERS, ...filters } }));
    const named = rows.filter(({ value }) => value !== null).map(({ value, count }) => [value, count]);
    expect(shown.some(passes)).toBe(true);
    expect(named).toEqual(
      [...patients].map(([value, who]) => [value, who.size]).sort(([a = ""], [b = ""]) => (a < b ? -1 : 1)),
    );
  });
});

describe("gantry find --level", () => {
  it("counts rows with --limit, and not the series in them", async () => {
    const filters = { ...NO_FILTERS, limit: 2 };
    const rows = await rowsOf(gantry.find(["tcia:Phantom-CT"], { filters, level: "patient" }));
    const all = await rowsOf(gantry.find(["tcia:Phantom-CT"], { filters: NO_FILTERS, level: "patient" }));
    expect(rows).toEqual(all.slice(0, 2));
    expect(all.length).toBeGreaterThan(2);
    expect(Number(rows[0]?.Series)).toBeGreaterThan(1);
  });

  it("takes a selection file: rows of what it names", async () => {
    const file = join(await temporaryDir(), "cart.txt");
    const [first, second] = [some, shown.find((s) => s.collection !== some.collection) as SandboxSeries];
    writeFileSync(file, `${first.seriesInstanceUid}\n${second.seriesInstanceUid}\n`);
    const filters = NO_FILTERS;
    const patients = await rowsOf(gantry.find([file], { filters, level: "patient" }));
    expect(patients.map((row) => [row.Collection, row.PatientID, row.Series]).sort()).toEqual(
      [
        [first.collection, first.patientId, 1],
        [second.collection, second.patientId, 1],
      ].sort(),
    );
    expect(await rowsOf(gantry.find([file], { filters, count: true }))).toMatchObject([
      { Collections: 2, Patients: 2, Studies: 2, Series: 2 },
    ]);
    const modalities = await rowsOf(gantry.values([file], "modality", { filters }));
    expect(modalities.reduce((sum, { count }) => sum + Number(count), 0)).toBe(2);
  });

  it("pastes back: each row's address is what its totals are of", MANY, async () => {
    for (const level of ["collection", "patient", "study"]) {
      for (const row of await rowsOf(gantry.find(["tcia:"], { filters: NO_FILTERS, level }))) {
        const again = await rowsOf(gantry.find([String(row.address)], { filters: NO_FILTERS, level }));
        expect(again).toEqual([row]);
      }
    }
  });

  it.each([
    [["find", "tcia:", "--level", "patients"], 2, "collection, patient, study, series, instance"],
    [["find", "tcia:", "--level", "patient", "--count"], 2, "--count"],
    [["find", "tcia:", "--level", "patient", "--save", "x.jsonl"], 2, "--level"],
    [["find", "tcia:", "--modality", "CTT"], 2, "CT"],
    [["find", "tcia:Phantom-CT", "--model", "Elipsoid CT"], 2, "Ellipsoid CT"],
    [["find", "tcia:", "--model", "Elipsoid CT"], 2, "gantry values tcia: model"],
    [["find", "tcia:", "--visit", "V1"], 2, "--modality"],
    [["values", "tcia:", "modalitty"], 2, "modality"],
    [["tags", "tcia:Phantom-CT"], 2, "one series"],
    [["tags", "tcia:1.2.3.4.5.6"], 4, "unknown, withdrawn or not permitted"],
    [["find", "tcia:1.2.3.4.5.6", "--level", "patient"], 4, "unknown, withdrawn or not permitted"],
  ] as const)("%j ends with %d and says what would do", async (args, exit, words) => {
    const { code, stdout, stderr } = await stage.run(args);
    expect({ code, stderr }).toMatchObject({ code: exit, stderr: expect.stringContaining(words) });
    expect(stdout.split("\n").length).toBeLessThan(3);
  });
});
