/**
 * What is asked of an archive: a place in its tree and filters. Filters mean the same for every archive.
 */

/** Filters that hold a list of words; several words are a union. */
export const WORD_FILTERS = [
  "collection",
  "patient",
  "study",
  "series",
  "modality",
  "body-part",
  "manufacturer",
  "model",
  "visit",
  "project",
  "shared-list",
] as const;
export type WordFilter = (typeof WORD_FILTERS)[number];

/** Dates are `yyyy-MM-dd`, inclusive. `since`/`until`: published or changed; `study-…`: acquired. */
export const DATE_FILTERS = ["since", "until", "study-since", "study-until"] as const;
export type DateFilter = (typeof DATE_FILTERS)[number];

export type FilterName = WordFilter | DateFilter | "include" | "exclude" | "limit" | "limit-patients";

export interface Filters {
  readonly words: Readonly<Partial<Record<WordFilter, readonly string[]>>>;
  readonly dates: Readonly<Partial<Record<DateFilter, string>>>;
  /** Globs over an item's path in the archive's tree, e.g. `COLLECTION/PATIENT/STUDY/SERIES`. */
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  /** At most so many items, in sorted order. */
  readonly limit: number | null;
  /** Items of at most so many patients, in sorted order of patients. */
  readonly limitPatients: number | null;
}

export const NO_FILTERS: Filters = {
  words: {},
  dates: {},
  include: [],
  exclude: [],
  limit: null,
  limitPatients: null,
};

export interface Query {
  /** Decoded segments below the archive's root, e.g. `["LCTSC", "LCTSC-Test-S1-101"]`. */
  readonly path: readonly string[];
  readonly filters: Filters;
}

/** The names of the filters that are set. */
export function filterNames(filters: Filters): FilterName[] {
  const names: FilterName[] = [];
  for (const name of WORD_FILTERS) if (filters.words[name] !== undefined) names.push(name);
  for (const name of DATE_FILTERS) if (filters.dates[name] !== undefined) names.push(name);
  if (filters.include.length > 0) names.push("include");
  if (filters.exclude.length > 0) names.push("exclude");
  if (filters.limit !== null) names.push("limit");
  if (filters.limitPatients !== null) names.push("limit-patients");
  return names;
}
