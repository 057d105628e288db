/** From questions to items: listed, filtered, sorted by id, each once. */
import { ExternalSort } from "../lib/external-sort.ts";
import type { Item } from "../model/item.ts";
import type { Filters, Query } from "../model/query.ts";
import { formatItem, parseItem } from "../model/selection.ts";
import type { ListOptions, Source, SourceContext } from "../sources/source.ts";
import { buildFilter, checkFilters, checkNarrowing, patientKey } from "./filter.ts";
import { FirstKeys } from "./first-keys.ts";
import { Wholes } from "./wholes.ts";

export interface SelectOptions extends ListOptions {
  /** For temporary files when the items do not fit in memory. */
  readonly folder: () => Promise<string>;
  /** Told now and then how many items were found. */
  readonly onFound?: (items: number) => void;
}

/** Resolves the names of queries. Throws `unknown-name`, `unsupported-filter`. */
export async function resolveQueries(
  source: Source,
  paths: readonly (readonly string[])[],
  filters: Filters,
  context: SourceContext,
): Promise<Query[]> {
  checkFilters(filters, source.capabilities, source.archive);
  const queries: Query[] = [];
  for (const path of paths) queries.push(await source.resolve({ path, filters }, context));
  return queries;
}

/** The items of resolved queries that share their filters. */
export async function* selectItems(
  source: Source,
  queries: readonly Query[],
  options: SelectOptions,
  context: SourceContext,
): AsyncGenerator<Item> {
  const filters = queries[0]?.filters;
  if (!filters) return;
  async function* listed(): AsyncGenerator<Item> {
    for (const query of queries) yield* source.list(query, options, context);
  }
  yield* sortItems(listed(), filters, source, options);
}

/** The items of ready paths, e.g. of a `.tcia` file. */
export async function* lookupItems(
  source: Source,
  paths: AsyncIterable<readonly string[]>,
  filters: Filters,
  options: SelectOptions,
  context: SourceContext,
): AsyncGenerator<Item> {
  checkFilters(filters, source.capabilities, source.archive);
  checkNarrowing(filters, source.capabilities);
  yield* sortItems(source.lookup(paths, context), filters, source, options);
}

/** Filters and sorts; of items with one id the first is kept. An unknown item passes every filter: it must be told. */
async function* sortItems(
  items: AsyncIterable<Item>,
  filters: Filters,
  source: Source,
  options: SelectOptions,
): AsyncGenerator<Item> {
  const passes = buildFilter(filters, source.capabilities);
  const wholes = source.capabilities.whole === undefined ? null : new Wholes(filters, source.capabilities);
  const patients = filters.limitPatients === null ? null : new FirstKeys(filters.limitPatients);
  const sorter = new ExternalSort({ folder: options.folder, unique: true });
  try {
    let found = 0;
    for await (const item of items) {
      const passed = item.unknown || passes(item);
      if (!item.unknown) wholes?.add(item.labels, passed);
      if (!passed) continue;
      if (!item.unknown) patients?.add(patientKey(item.labels, source.capabilities));
      await sorter.push(item.id, formatItem(item));
      found += 1;
      if (found % 1000 === 0) options.onFound?.(found);
    }
    let left = wholes ? Number.POSITIVE_INFINITY : (filters.limit ?? Number.POSITIVE_INFINITY);
    for await (const line of sorter.sorted()) {
      if (left <= 0) return;
      const item = parseItem(line);
      if (patients && !item.unknown && !patients.has(patientKey(item.labels, source.capabilities))) continue;
      if (wholes && !item.unknown && !wholes.has(item.labels)) continue;
      left -= 1;
      yield item;
    }
  } finally {
    await sorter.close();
  }
}
