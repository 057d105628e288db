/** Filters over items, the same for every archive. What an archive could not narrow itself is narrowed here. */
import { RunError } from "../errors.ts";
import { buildGlobs } from "../lib/globs.ts";
import type { Item, Row } from "../model/item.ts";
import { type DateFilter, type Filters, filterNames, WORD_FILTERS } from "../model/query.ts";
import type { Capabilities } from "../sources/source.ts";

/** Throws `unsupported-filter` for a filter that the archive can't answer. */
export function checkFilters(filters: Filters, capabilities: Capabilities, archive: string): void {
  for (const name of filterNames(filters)) {
    if (!capabilities.filters.includes(name)) {
      throw new RunError("unsupported-filter", `${archive} can't be filtered by --${name}`, {
        hint: `its filters are ${capabilities.filters.map((each) => `--${each}`).join(" ")}`,
      });
    }
  }
}

/**
 * Throws `unsupported-filter` for a filter that only the archive can answer, and not for a ready selection: no
 * column of an item tells it.
 */
export function checkNarrowing({ words }: Filters, { fields }: Capabilities): void {
  for (const name of WORD_FILTERS) {
    if (words[name] !== undefined && fields[name] === undefined)
      throw new RunError("unsupported-filter", `a ready selection can't be narrowed by --${name}`, {
        hint: `give --${name} with an address, e.g. tcia:`,
      });
  }
}

/**
 * Whether an item passes every filter but the limits. Words are compared without case; dates inclusively. `means`: of
 * words that no archive resolved.
 */
export function buildFilter(
  filters: Filters,
  capabilities: Capabilities,
  means: Capabilities["means"] = undefined,
): (item: Item) => boolean {
  const tests: ((labels: Row) => boolean)[] = [];
  for (const name of WORD_FILTERS) {
    const words = filters.words[name];
    const column = capabilities.fields[name];
    if (words === undefined || column === undefined) continue;
    const wanted = new Set(words.map(fold));
    const isWanted = (value: string): boolean =>
      wanted.has(fold(value)) || (means !== undefined && words.some((word) => means(name, word, value)));
    tests.push((labels) =>
      labels[column] == null ? capabilities.sharedItems === true : isWanted(String(labels[column])),
    );
  }
  const { dates } = capabilities;
  const bound = (
    name: DateFilter,
    columns: readonly string[],
    passes: (value: string, limit: string) => boolean,
  ): void => {
    const limit = filters.dates[name];
    if (limit === undefined) return;
    tests.push((labels) => {
      const values = columns.flatMap((column) =>
        labels[column] == null ? [] : [String(labels[column]).slice(0, 10)],
      );
      const latest = values.sort().at(-1);
      return latest !== undefined && passes(latest, limit);
    });
  };
  if (dates) {
    bound("since", dates.changed, (value, limit) => value >= limit);
    bound("until", dates.changed, (value, limit) => value <= limit);
    bound("study-since", [dates.acquired], (value, limit) => value >= limit);
    bound("study-until", [dates.acquired], (value, limit) => value <= limit);
  }
  const { whole } = capabilities;
  const path = (labels: Row): string => treePath(labels, capabilities).join("/");
  const isOf = (globs: (text: string) => boolean, labels: Row): boolean =>
    globs(path(labels)) ||
    (whole !== undefined && labels[whole] != null && globs(wholeOf(labels, capabilities)));
  if (filters.include.length > 0) {
    const included = buildGlobs(filters.include);
    tests.push((labels) => (whole !== undefined && labels[whole] == null) || isOf(included, labels));
  }
  if (filters.exclude.length > 0) {
    const excluded = buildGlobs(filters.exclude);
    tests.push((labels) => !isOf(excluded, labels));
  }
  return (item) => tests.every((test) => test(item.labels));
}

/** The place in the archive's tree of the main item of an item's whole. */
export function wholeOf(labels: Row, capabilities: Capabilities): string {
  const { fields, itemLevel, whole = "" } = capabilities;
  return treePath({ ...labels, [fields[itemLevel] ?? ""]: labels[whole] ?? null }, capabilities).join("/");
}

/** An item's place in the archive's tree, as far as its labels tell. */
export function treePath(labels: Row, capabilities: Capabilities): string[] {
  return capabilities.levels.flatMap((level) => {
    const column = capabilities.fields[level];
    return column === undefined || labels[column] == null ? [] : [String(labels[column])];
  });
}

/** Items of one patient share this key: patients are unique only within a collection. */
export function patientKey(labels: Row, capabilities: Capabilities): string {
  const value = (level: string): string => String(labels[capabilities.fields[level] ?? ""] ?? "");
  return `${value("collection")}\u0000${value("patient")}`;
}

const fold = (text: string): string => text.trim().toLowerCase();
