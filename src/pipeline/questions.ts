/** Answers that are computed from items where an archive can't answer itself. */
import { RunError } from "../errors.ts";
import { nearMatches } from "../model/address.ts";
import type { Row, Value } from "../model/item.ts";
import type { Query } from "../model/query.ts";
import type { Source, SourceContext } from "../sources/source.ts";
import { patientKey } from "./filter.ts";
import { type SelectOptions, selectItems } from "./select.ts";

/** Fields whose values archives fold to capitals when they list them (v4 does). */
const FOLDED = new Set(["modality", "body-part", "manufacturer"]);

/** Rows `{value, count}` sorted by value, count = patients. Throws `usage` for a field that the archive does not have. */
export async function* valuesOf(
  source: Source,
  field: string,
  queries: readonly Query[],
  options: SelectOptions,
  context: SourceContext,
): AsyncGenerator<Row> {
  const column = source.capabilities.fields[field];
  if (column === undefined) {
    const fields = Object.keys(source.capabilities.fields);
    const near = nearMatches(field, fields);
    throw new RunError("usage", `${source.archive} has no field ${JSON.stringify(field)}`, {
      hint: near.length > 0 ? `did you mean ${near.join(" or ")}?` : `fields are ${fields.join(", ")}`,
    });
  }
  const [query] = queries;
  const ready = queries.length === 1 && query ? source.values(field, query, context) : null;
  const counts = new Map<Value, number>();
  if (ready) {
    for await (const { value, count } of ready) counts.set(value, Math.max(count, counts.get(value) ?? 0));
  } else {
    const patients = new Map<Value, Set<string>>();
    for await (const item of selectItems(source, queries, options, context)) {
      if (item.unknown) continue;
      const raw = item.labels[column] ?? null;
      const value = typeof raw === "string" && FOLDED.has(field) ? raw.toUpperCase() : raw;
      const seen = patients.get(value) ?? new Set();
      patients.set(value, seen.add(patientKey(item.labels, source.capabilities)));
    }
    for (const [value, seen] of patients) counts.set(value, seen.size);
  }
  const order = (value: Value): string => (value === null ? "" : String(value));
  for (const [value, count] of [...counts].sort(([a], [b]) => (order(a) < order(b) ? -1 : 1)))
    yield { value, count };
}

/** For `ls -l`: adds Series, Images and Bytes to the rows of one level. */
export async function levelTotals(
  source: Source,
  query: Query,
  context: SourceContext,
): Promise<(row: Row) => Row> {
  const { levels, fields } = source.capabilities;
  const column = fields[levels[query.path.length] ?? ""];
  const totals = new Map<Value, { series: number; images: number; bytes: number }>();
  if (column === undefined) return (row) => row;
  const seen = new Set<string>();
  for await (const item of source.list(query, { complete: false }, context)) {
    if (item.unknown || seen.has(item.id)) continue;
    seen.add(item.id);
    const key = item.labels[column] ?? null;
    const total = totals.get(key) ?? { series: 0, images: 0, bytes: 0 };
    total.series += 1;
    total.images += item.files ?? 0;
    total.bytes += item.bytes ?? 0;
    totals.set(key, total);
  }
  return (row) => {
    const total = totals.get(row[column] ?? null) ?? { series: 0, images: 0, bytes: 0 };
    const { address, ...rest } = row;
    return {
      ...rest,
      Series: total.series,
      Images: total.images,
      Bytes: total.bytes,
      address: address ?? null,
    };
  };
}
