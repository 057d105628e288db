/** The filters, the same for every command that asks an archive. */
import { type Flag, UsageError, wholeNumber } from "./command.ts";
import type { Filters } from "./library.ts";

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type Words = Mutable<Filters["words"]>;
type Dates = Mutable<Filters["dates"]>;

const GROUP = "Filters (several words with commas):";

/** Words divided by commas; a comma inside a word is written `\,`. The flag may be repeated. */
function parseWords(flag: string): (text: string, before: unknown) => string[] {
  return (text, before) => {
    const words = text
      .split(/(?<!\\),/)
      .map((word) => word.replaceAll("\\,", ",").trim())
      .filter((word) => word !== "");
    if (words.length === 0) throw new UsageError(`${flag} needs at least one word`);
    return [...((before as string[] | undefined) ?? []), ...words];
  };
}

const collect = (text: string, before: unknown): string[] => [
  ...((before as string[] | undefined) ?? []),
  text,
];

function parseDate(flag: string): (text: string) => string {
  return (text) => {
    const date = new Date(`${text}T00:00:00Z`);
    const real = !Number.isNaN(date.getTime()) && date.toISOString().slice(0, 10) === text;
    if (!/^\d{4}-\d\d-\d\d$/.test(text) || !real) {
      throw new UsageError(
        `${flag} takes a date as yyyy-MM-dd, e.g. 2024-03-31, not ${JSON.stringify(text)}`,
      );
    }
    return text;
  };
}

const WORDS: readonly (readonly [keyof Words, string, string])[] = [
  ["collection", "names", "collections"],
  ["patient", "ids", "patients (subjects, candidates)"],
  ["study", "uids", "studies (sessions)"],
  ["series", "uids", "series"],
  ["modality", "words", "modalities, e.g. CT,MR"],
  ["body-part", "words", "body parts examined, e.g. CHEST"],
  ["manufacturer", "words", "manufacturers of the scanner"],
  ["model", "words", "models of the scanner"],
  ["visit", "words", "visits"],
  ["project", "names", "projects of the archive"],
  ["shared-list", "names", "series that somebody shared under these names"],
];

const DATES: readonly (readonly [keyof Dates, string])[] = [
  ["since", "published or changed on this day or later"],
  ["until", "published or changed on this day or earlier"],
  ["study-since", "acquired on this day or later"],
  ["study-until", "acquired on this day or earlier"],
];

export const FILTER_FLAGS: readonly Flag[] = [
  ...WORDS.map(([name, value, help]) => ({
    flags: `--${name} <${value}>`,
    help: `only these ${help}`,
    parse: parseWords(`--${name}`),
    group: GROUP,
  })),
  ...DATES.map(([name, help]) => ({
    flags: `--${name} <date>`,
    help: `${help} (yyyy-MM-dd)`,
    parse: parseDate(`--${name}`),
    group: GROUP,
  })),
  {
    flags: "--include <glob>",
    help: "only items whose path in the archive matches; may be repeated",
    parse: collect,
    group: GROUP,
  },
  {
    flags: "--exclude <glob>",
    help: "no items whose path in the archive matches; may be repeated",
    parse: collect,
    group: GROUP,
  },
  {
    flags: "--limit <n>",
    help: "at most so many items, in sorted order",
    parse: wholeNumber("--limit", 1),
    group: GROUP,
  },
  {
    flags: "--limit-patients <n>",
    help: "items of at most so many patients, in sorted order",
    parse: wholeNumber("--limit-patients", 1),
    group: GROUP,
  },
];

const camel = (name: string): string =>
  name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());

/** The filters among the parsed flags of a command. */
export function readFilters(flags: object): Filters {
  const given = flags as Readonly<Record<string, unknown>>;
  const words: Words = {};
  const dates: Dates = {};
  for (const [name] of WORDS) {
    const list = given[camel(name)] as string[] | undefined;
    if (list !== undefined) words[name] = [...new Set(list)];
  }
  for (const [name] of DATES) {
    const date = given[camel(name)] as string | undefined;
    if (date !== undefined) dates[name] = date;
  }
  for (const [from, to] of [
    ["since", "until"],
    ["study-since", "study-until"],
  ] as const) {
    const [first, last] = [dates[from], dates[to]];
    if (first !== undefined && last !== undefined && first > last) {
      throw new UsageError(`--${from} ${first} is after --${to} ${last}, so nothing could match`);
    }
  }
  return {
    words,
    dates,
    include: (given.include as string[] | undefined) ?? [],
    exclude: (given.exclude as string[] | undefined) ?? [],
    limit: (given.limit as number | undefined) ?? null,
    limitPatients: (given.limitPatients as number | undefined) ?? null,
  };
}
