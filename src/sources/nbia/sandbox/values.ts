/** Endpoints that list the values of a column, with and without counts. */

import { databaseOrder } from "../../../sandbox/hash32.ts";
import type { Reply } from "../../../sandbox/stand-ins.ts";
import { formatRows, jsonString, type Row } from "./format.ts";
import { type ArchiveView, type Call, FILTERS, type NamedEndpoint, patientKey, SEARCHES } from "./view.ts";

export function* valueEndpoints(view: ArchiveView): Iterable<NamedEndpoint> {
  const values = [
    ["Collection", []],
    ["Modality", ["Collection", "BodyPartExamined"]],
    ["BodyPart", ["Collection", "Modality"]],
    ["Manufacturer", ["Collection", "Modality", "BodyPartExamined"]],
  ] as const;
  for (const [what, filters] of values) {
    const column = what === "BodyPart" ? "BodyPartExamined" : what;
    yield [
      `get${what}Values`,
      {
        apis: SEARCHES,
        verb: "GET",
        serves: "rows",
        allowed: [...filters, "format"],
        run: async (call) => {
          const patients = await patientsByValue(view, call, column, filters);
          // A null of the database comes first and has no name; v4 sorts what v1 leaves as it is.
          const listed = [...patients.keys()].filter((value) => value !== null);
          const sorted = call.api === "v4" ? listed.sort() : databaseOrder(listed, (value) => value);
          const rows: Row[] = sorted.map((value) => [value]);
          if (patients.has(null)) rows.unshift([null]);
          return formatRows([column], rows, call.query("format"));
        },
      },
    ];
    yield [
      `get${what}ValuesAndCounts`,
      {
        apis: ["v4", "advanced"],
        verb: "GET",
        serves: "rows",
        ...(what === "Collection" ? {} : { allowed: filters }),
        run: async (call) => counts(call, column, await patientsByValue(view, call, column, filters)),
      },
    ];
  }
  yield [
    "getSpeciesValuesAndCounts",
    {
      apis: ["v4", "advanced"],
      verb: "GET",
      serves: "rows",
      run: async (call) =>
        counts(call, "SpeciesDescription", await patientsByValue(view, call, "Species", [])),
    },
  ];
}

/** Patients having each value of a column, restricted by the filters of the call. */
async function patientsByValue(
  view: ArchiveView,
  call: Call,
  column: string,
  filters: readonly string[],
): Promise<Map<string | null, Set<string>>> {
  const cell = FILTERS[column]!;
  const upper = call.api === "v4" && column !== "Collection" && column !== "Species";
  const patients = new Map<string | null, Set<string>>();
  for await (const series of view.series(call, view.filter(call, filters))) {
    const raw = cell(series);
    const value = upper ? (raw?.toUpperCase() ?? null) : raw;
    let known = patients.get(value);
    if (known === undefined) {
      known = new Set();
      patients.set(value, known);
    }
    known.add(patientKey(series));
  }
  return patients;
}

function counts(call: Call, column: string, patients: Map<string | null, Set<string>>): Reply {
  const rows = [...patients].map(([value, { size }]) => ({ value, size }));
  rows.sort((a, b) => ((a.value ?? "") < (b.value ?? "") ? -1 : 1));
  const objects = rows.map(({ value, size }) => {
    if (call.api === "advanced") {
      // Jackson writes what is null; the searches leave its key out (restUtil/JSONUtil.java).
      return JSON.stringify({ criteria: value, count: String(size) });
    }
    const name = value === null ? "" : `${jsonString(column)}:${jsonString(value)},`;
    return `{${name}"Count":${size},"Authorized":1}`;
  });
  return { status: 200, headers: JSON_TYPE, body: `[${objects.join(",")}]` };
}

const JSON_TYPE = { "Content-Type": "application/json" };
