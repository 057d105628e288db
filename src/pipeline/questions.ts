/** Answers that are computed from items where an archive can't answer itself. */
import { RunError } from "../errors.ts";
import { ExternalSort } from "../lib/external-sort.ts";
import { nearMatches } from "../model/address.ts";
import type { Item, Row, Value } from "../model/item.ts";
import type { Query } from "../model/query.ts";
import { formatAddress, formatPath } from "../model/selection.ts";
import type { Source, SourceContext } from "../sources/source.ts";
import { patientKey } from "./filter.ts";
import { type LevelOptions, levelRows, plural, plus, readLevel, shownItems } from "./levels.ts";

/** Beside the sort of the selection, which has the usual share of memory. */
const COUNT_MEMORY_BYTES = 8 * 1024 * 1024;

/** Throws `usage` for a field that the archive does not have. */
export function checkField(field: string, source: Source): void {
  const { fields, patientFields } = source.capabilities;
  const known = [...Object.keys(fields), ...Object.keys(patientFields ?? {})];
  if (known.includes(field)) return;
  const near = nearMatches(field, known);
  throw new RunError("usage", `${source.archive} has no field ${JSON.stringify(field)}`, {
    hint: near.length > 0 ? `did you mean ${near.join(" or ")}?` : `fields are ${known.join(", ")}`,
  });
}

/**
 * Rows `{value, count}` sorted by value, count = distinct patients. The archive answers itself where it can (one
 * query, no filter that it does not take); else the items are counted.
 */
export async function* valuesOf(
  source: Source,
  field: string,
  query: Query | null,
  items: () => AsyncIterable<Item>,
  options: LevelOptions,
): AsyncGenerator<Row> {
  const { capabilities } = source;
  const ready = query === null ? null : source.values(field, query, options.context);
  const sorter = new ExternalSort({
    folder: options.context.temporary,
    memoryBytes: COUNT_MEMORY_BYTES,
    unique: true,
  });
  const push = (value: Value, patient: string): Promise<void> =>
    sorter.push(`${value ?? ""}\0${patient}`, JSON.stringify(value));
  try {
    if (ready) {
      const counts = new Map<Value, number>();
      for await (const { value, count } of ready) counts.set(value, Math.max(count, counts.get(value) ?? 0));
      const order = (value: Value): string => (value === null ? "" : String(value));
      for (const [value, count] of [...counts].sort(([a], [b]) => (order(a) < order(b) ? -1 : 1)))
        yield { value, count };
      return;
    }
    const column = capabilities.fields[field];
    const patientColumn = capabilities.patientFields?.[field];
    const folded = capabilities.foldedFields?.includes(field) ?? false;
    if (column !== undefined) {
      for await (const item of shownItems(items(), options.warn)) {
        const raw = item.labels[column] ?? null;
        const value = typeof raw === "string" && folded ? raw.toUpperCase() : raw;
        await push(value, patientKey(item.labels, capabilities));
      }
    } else if (patientColumn !== undefined) {
      const patients = readLevel("patient", source);
      if (!patients) return;
      for await (const row of levelRows(patients, items(), options))
        await push(row[patientColumn] ?? null, String(row.address));
    }
    let value: Value = null;
    let count = 0;
    for await (const line of sorter.sorted()) {
      const next = JSON.parse(line) as Value;
      if (next !== value && count > 0) {
        yield { value, count };
        count = 0;
      }
      value = next;
      count += 1;
    }
    if (count > 0) yield { value, count };
  } finally {
    await sorter.close();
  }
}

/** The elements of the first image of what matches. Throws `usage` when there is more than one item. */
export async function* tagRows(
  source: Source,
  items: AsyncIterable<Item>,
  { context, warn }: LevelOptions,
): AsyncGenerator<Row> {
  if (!source.tags) {
    throw new RunError("usage", `${source.archive} holds no DICOM images that tags could be read of`);
  }
  const few: Item[] = [];
  for await (const item of shownItems(items, warn)) {
    few.push(item);
    if (few.length > 1) break;
  }
  const [item, more] = few;
  if (item === undefined) throw new RunError("usage", "nothing matches that tags could be read of");
  if (more !== undefined) {
    throw new RunError("usage", "tags are of one series or of one image, and this names several", {
      hint: `for example ${item.address}`,
    });
  }
  yield* source.tags(item, context);
}

/** For `ls -l`: adds Series, Images and Bytes to the rows of one level; of an archive of files Files and Bytes. */
export async function levelTotals(
  source: Source,
  query: Query,
  context: SourceContext,
): Promise<(row: Row) => Row> {
  if (source.capabilities.nested) return folderTotals(source, query, context);
  const { levels, fields, itemLevel } = source.capabilities;
  const column = fields[levels[query.path.length] ?? ""];
  const none = (): { items: number; images: number; bytes: number | null } => ({
    items: 0,
    images: 0,
    bytes: 0,
  });
  const totals = new Map<Value, ReturnType<typeof none>>();
  if (column === undefined) return (row) => row;
  const seen = new Set<string>();
  for await (const item of source.list(query, { complete: false }, context)) {
    if (item.unknown || seen.has(item.id)) continue;
    seen.add(item.id);
    // Of the place as a whole, such as a description: an item is a row of its own.
    const key = item.labels[column] ?? item.address;
    const total = totals.get(key) ?? none();
    total.items += 1;
    total.images += item.files ?? 0;
    total.bytes = plus(total.bytes, item.bytes);
    totals.set(key, total);
  }
  return (row) => {
    const { items, images, bytes } = totals.get(row[column] ?? row.address ?? null) ?? none();
    const { address, ...rest } = row;
    return {
      ...rest,
      [plural(itemLevel)]: items,
      ...(itemLevel === "file" ? {} : { Images: images }),
      Bytes: bytes,
      address: address ?? null,
    };
  };
}

/** What lies at or below each row of a folder, links followed; null where nobody lists what there is. */
async function folderTotals(
  source: Source,
  { path, filters }: Query,
  context: SourceContext,
): Promise<(row: Row) => Row> {
  const { fields, itemLevel, openedByLink } = source.capabilities;
  const column = fields[itemLevel] ?? "";
  const totals = new Map<string, { files: number; bytes: number | null }>();
  let untold = false;
  for await (const item of source.list({ path, filters }, { complete: false }, context)) {
    untold ||= item.files === null;
    const segments = String(item.labels[column] ?? "").split("/");
    const place = segments.slice(0, Math.min(path.length + 1, segments.length));
    const key = openedByLink ? formatPath(place) : formatAddress(source.archive, place);
    const total = totals.get(key) ?? { files: 0, bytes: 0 };
    total.files += item.files ?? 0;
    total.bytes = plus(total.bytes, item.bytes);
    totals.set(key, total);
  }
  return (row) => {
    const { address, ...rest } = row;
    if (untold) return { ...rest, Files: null, Bytes: null, address: address ?? null };
    const { files, bytes } = totals.get(String(address)) ?? { files: 0, bytes: 0 };
    return { ...rest, Files: files, Bytes: bytes, address: address ?? null };
  };
}
