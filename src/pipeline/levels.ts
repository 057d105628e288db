/**
 * Items seen from another level of an archive's tree: the patients, studies or collections that items lie in, the
 * images that are in them, or their totals. Constant memory: sorted and merged, never looked up by key.
 */
import { RunError } from "../errors.ts";
import { compareKeys, ExternalSort } from "../lib/external-sort.ts";
import { nearMatches } from "../model/address.ts";
import type { Item, Row, Value } from "../model/item.ts";
import { formatAddress } from "../model/selection.ts";
import type { Capabilities, Source, SourceContext } from "../sources/source.ts";

/** Two of these stand beside the sort of the selection, which has the usual share of memory. */
const JOIN_MEMORY_BYTES = 8 * 1024 * 1024;

/** What a question is asked of: a level's name, or `total` for one row of sums over everything. */
export type Level = { readonly name: string; readonly depth: number } | "total";

/** A level by its name; null for the items' own. Throws `usage` with the valid words. */
export function readLevel(name: string, { archive, capabilities, parts }: Source): Level | null {
  const { levels, itemLevel, fields } = capabilities;
  const item = levels.indexOf(itemLevel);
  const valid = levels.filter((level, index) =>
    index > item ? index === item + 1 && parts !== undefined : index === item || fields[level] !== undefined,
  );
  const word = name.trim().toLowerCase();
  if (!valid.includes(word)) {
    const near = nearMatches(word, valid);
    throw new RunError("usage", `${archive} has no level ${JSON.stringify(name)} that rows can be of`, {
      hint: `${near.length > 0 ? `did you mean ${near.join(" or ")}? ` : ""}levels are ${valid.join(", ")}`,
    });
  }
  return word === itemLevel ? null : { name: word, depth: levels.indexOf(word) + 1 };
}

/** Columns of a level's rows, in order: where it lies, what the archive says of it, totals, `address`. */
export function columnsOfLevel(capabilities: Capabilities, level: Level): string[] {
  if (level === "total") return countColumns(capabilities, 0);
  const { levels, itemLevel, levelColumns } = capabilities;
  const names = [...placeColumns(capabilities, level.depth), ...(levelColumns?.[level.name] ?? [])];
  const below = level.depth > levels.indexOf(itemLevel) + 1;
  return [...new Set([...names, ...(below ? [] : countColumns(capabilities, level.depth))]), "address"];
}

/** The few of them that fit a terminal. */
export function summaryOfLevel(capabilities: Capabilities, level: Level): string[] {
  if (level === "total") return countColumns(capabilities, 0);
  const said = new Set(capabilities.levelColumns?.[level.name] ?? []);
  const places = placeColumns(capabilities, level.depth);
  return columnsOfLevel(capabilities, level).filter((name) => places.includes(name) || !said.has(name));
}

export interface LevelOptions {
  /** By the archive's name: items of a list may be of several archives. */
  readonly source: (archive: string) => Promise<Source>;
  readonly context: SourceContext;
  /** At most so many rows. */
  readonly limit: number | null;
  readonly warn: (sentence: string) => void;
}

/**
 * Rows of a level among items, sorted by their place in the tree. An item that the archive does not show is a
 * warning; when there is no other, `access-item`.
 */
export async function* levelRows(
  level: Level,
  items: AsyncIterable<Item>,
  options: LevelOptions,
): AsyncGenerator<Row> {
  const rows = chooseRows(level, shownItems(items, options.warn), options);
  if (options.limit === null) {
    yield* rows;
    return;
  }
  let left = options.limit;
  for await (const row of rows) {
    yield row;
    left -= 1;
    if (left <= 0) return;
  }
}

async function* chooseRows(
  level: Level,
  items: AsyncIterable<Item>,
  options: LevelOptions,
): AsyncGenerator<Row> {
  const first = items[Symbol.asyncIterator]();
  const { value, done } = await first.next();
  if (done) return;
  async function* all(): AsyncGenerator<Item> {
    yield value;
    for (;;) {
      const next = await first.next();
      if (next.done) return;
      yield next.value;
    }
  }
  const { levels, itemLevel } = (await options.source((value as Item).archive)).capabilities;
  const below = level !== "total" && level.depth > levels.indexOf(itemLevel) + 1;
  yield* below ? partRows(level.depth, all(), options) : groupRows(level, all(), options);
}

/** Items that the archive shows; told by `warn` of every other, and `access-item` when there is nothing else. */
export async function* shownItems(
  items: AsyncIterable<Item>,
  warn: (sentence: string) => void,
): AsyncGenerator<Item> {
  let shown = 0;
  let last: Item | undefined;
  for await (const item of items) {
    if (item.unknown) {
      last = item;
      warn(`${item.address}: unknown, withdrawn or not permitted`);
      continue;
    }
    shown += 1;
    yield item;
  }
  if (shown === 0 && last) {
    throw new RunError("access-item", `${last.address}: unknown, withdrawn or not permitted`, {
      at: { archive: last.archive },
    });
  }
}

async function* partRows(
  depth: number,
  items: AsyncIterable<Item>,
  { source, context }: LevelOptions,
): AsyncGenerator<Row> {
  for await (const item of items) {
    const from = await source(item.archive);
    if (!from.parts) continue;
    const places = placeColumns(from.capabilities, depth);
    const named = Object.fromEntries(places.map((column) => [column, item.labels[column] ?? null]));
    const sorter = new ExternalSort({
      folder: context.temporary,
      memoryBytes: JOIN_MEMORY_BYTES,
      unique: true,
    });
    try {
      for await (const row of from.parts(item, context))
        await sorter.push(String(row.address), JSON.stringify(row));
      for await (const line of sorter.sorted()) yield { ...named, ...(JSON.parse(line) as Row) };
    } finally {
      await sorter.close();
    }
  }
}

type Line = readonly [archive: string, path: readonly string[], bytes: number | null, files: number | null];

async function* groupRows(
  level: Level,
  items: AsyncIterable<Item>,
  options: LevelOptions,
): AsyncGenerator<Row> {
  const { context } = options;
  const depth = level === "total" ? 0 : level.depth;
  const sorter = new ExternalSort({ folder: context.temporary, memoryBytes: JOIN_MEMORY_BYTES });
  const scopes = new Scopes();
  try {
    for await (const item of items) {
      const { capabilities } = await options.source(item.archive);
      const above = capabilities.levels.indexOf(capabilities.itemLevel);
      const path = placeColumns(capabilities, above).map((column) => String(item.labels[column] ?? ""));
      scopes.add(item.archive, path.slice(0, depth));
      const line: Line = [item.archive, path, item.bytes, item.files];
      await sorter.push([depth === 0 ? "" : item.archive, ...path].join("\0"), JSON.stringify(line));
    }
    const said = level === "total" ? null : await saidOf(level.name, depth, scopes, options);
    try {
      yield* joined(depth, groups(depth, sorter.sorted()), said?.sorted() ?? null, options);
    } finally {
      await said?.close();
    }
  } finally {
    await sorter.close();
  }
}

interface Group {
  readonly archive: string;
  readonly path: readonly string[];
  /** Distinct places at each level between this one and the items'. */
  readonly counts: number[];
  items: number;
  /** Null: of some of them not known. */
  bytes: number | null;
  files: number;
}

/** A sum that is known only when all of it is. */
export const plus = (sum: number | null, value: number | null): number | null =>
  sum === null || value === null ? null : sum + value;

async function* groups(depth: number, lines: AsyncIterable<string>): AsyncGenerator<Group> {
  let group: Group | undefined;
  let last: readonly string[] = [];
  for await (const text of lines) {
    const [archive, path, bytes, files] = JSON.parse(text) as Line;
    const same =
      group !== undefined &&
      (depth === 0 || archive === group.archive) &&
      group.path.every((part, index) => part === path[index]);
    if (!same) {
      if (group) yield group;
      last = [];
      group = {
        archive,
        path: path.slice(0, depth),
        counts: path.slice(depth).map(() => 0),
        items: 0,
        bytes: 0,
        files: 0,
      };
    }
    const open = group as Group;
    // Sorted by the whole path: a place is new when anything of its path differs from the line before.
    let differs = last.length === 0;
    for (let index = 0; index < path.length; index += 1) {
      differs ||= path[index] !== last[index];
      if (differs && index >= depth) open.counts[index - depth] = (open.counts[index - depth] ?? 0) + 1;
    }
    last = path;
    open.items += 1;
    open.bytes = plus(open.bytes, bytes);
    open.files += files ?? 0;
  }
  if (group) yield group;
}

/** Both sorted by archive and path; of what the archive says, all places that hold no item are left out. */
async function* joined(
  depth: number,
  found: AsyncIterable<Group>,
  said: AsyncGenerator<string> | null,
  options: LevelOptions,
): AsyncGenerator<Row> {
  let line: readonly [key: string, row: Row] | null = null;
  const advance = async (): Promise<void> => {
    const next = await said?.next();
    line = next && !next.done ? (JSON.parse(next.value) as [string, Row]) : null;
  };
  await advance();
  try {
    for await (const group of found) {
      const { capabilities } = await options.source(group.archive);
      const key = [group.archive, ...group.path].join("\0");
      while (line !== null && compareKeys(line[0], key) < 0) await advance();
      const places = placeColumns(capabilities, depth);
      const row: Record<string, Value> = Object.fromEntries(
        places.map((column, index) => [column, group.path[index] ?? null]),
      );
      if (line !== null && (line as readonly [string, Row])[0] === key) {
        Object.assign(row, (line as readonly [string, Row])[1]);
      }
      const counted = [...group.counts, group.items];
      for (const [index, column] of countedLevels(capabilities, depth).entries())
        row[plural(column)] = counted[index] ?? 0;
      if (capabilities.itemLevel !== FILE) row.Images = group.files;
      row.Bytes = group.bytes;
      // Items of a place as a whole have no name on this level: what they are of is the place above.
      const named = group.path.indexOf("");
      if (depth > 0)
        row.address = formatAddress(group.archive, named < 0 ? group.path : group.path.slice(0, named));
      yield row;
    }
  } finally {
    await said?.return(undefined);
  }
}

/** What archives say of the places in scope, sorted by archive and path; null when they say nothing. */
async function saidOf(
  level: string,
  depth: number,
  scopes: Scopes,
  { source, context }: LevelOptions,
): Promise<ExternalSort | null> {
  let sorter: ExternalSort | null = null;
  try {
    for (const [archive, path] of scopes.paths(depth)) {
      const from = await source(archive);
      if (!from.places) continue;
      sorter ??= new ExternalSort({
        folder: context.temporary,
        memoryBytes: JOIN_MEMORY_BYTES,
        unique: true,
      });
      const columns = placeColumns(from.capabilities, depth);
      for await (const row of from.places(level, path, context)) {
        const key = [archive, ...columns.map((column) => String(row[column] ?? ""))].join("\0");
        await sorter.push(key, JSON.stringify([key, row]));
      }
    }
    return sorter;
  } catch (error) {
    await sorter?.close();
    throw error;
  }
}

/** Where items lie: for each archive and first level the longest path that all of them share. */
class Scopes {
  readonly #paths = new Map<string, Map<string, readonly string[]>>();

  add(archive: string, path: readonly string[]): void {
    const [top] = path;
    if (top === undefined) return;
    const tops = this.#paths.get(archive) ?? new Map<string, readonly string[]>();
    this.#paths.set(archive, tops);
    const before = tops.get(top);
    if (!before) {
      tops.set(top, path);
      return;
    }
    const end = before.findIndex((part, index) => part !== path[index]);
    if (end !== -1) tops.set(top, before.slice(0, end));
  }

  *paths(depth: number): Iterable<readonly [archive: string, path: readonly string[]]> {
    for (const [archive, tops] of this.#paths) {
      // All of the first level come with one question.
      if (depth === 1 && tops.size > 1) yield [archive, []];
      else for (const path of tops.values()) yield [archive, path];
    }
  }
}

/** The columns that tell a place of the first `depth` levels. */
function placeColumns({ levels, fields }: Capabilities, depth: number): string[] {
  return levels.slice(0, depth).flatMap((level) => fields[level] ?? []);
}

/** Of an archive whose items are files, how many they are says how many images there are. */
const FILE = "file";

const countedLevels = ({ levels, itemLevel }: Capabilities, depth: number): readonly string[] =>
  levels.slice(depth, levels.indexOf(itemLevel) + 1);

/** Patients, Studies …, the items; images, where an item has several; bytes. */
function countColumns(capabilities: Capabilities, depth: number): string[] {
  const images = capabilities.itemLevel === FILE ? [] : ["Images"];
  return [...countedLevels(capabilities, depth).map(plural), ...images, "Bytes"];
}

export function plural(level: string): string {
  const name = level.slice(0, 1).toUpperCase() + level.slice(1);
  if (name.endsWith("s")) return name;
  return name.endsWith("y") ? `${name.slice(0, -1)}ies` : `${name}s`;
}
