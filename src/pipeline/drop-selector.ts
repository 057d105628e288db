/** What `drop` is told to drop: places in an archive's tree and filters, matched against labels, offline. */
import { RunError } from "../errors.ts";
import { isUid, nearMatches, parseTarget } from "../model/address.ts";
import type { Item, Row } from "../model/item.ts";
import { type Filters, filterNames, WORD_FILTERS } from "../model/query.ts";
import type { Capabilities, Source } from "../sources/source.ts";
import type { Branch, DropRules } from "../state/dropped.ts";
import { buildFilter, checkFilters } from "./filter.ts";

type Sources = (archive: string) => Promise<Source>;

interface Place {
  readonly archive: string;
  readonly path: readonly string[];
}

/** A match; `branch` is the whole part of the tree that was named with it, null when only the item was. */
export interface Match {
  readonly branch: Branch | null;
}

/** Words that name nothing known are told with known ones that are near; so many are remembered. */
const KNOWN_NAMES = 5_000;
const SHOWN_NAMES = 8;

export class DropSelector {
  readonly #places: readonly Place[];
  readonly #filters: Filters;
  readonly #sources: Sources;
  readonly #passes = new Map<string, (item: Item) => boolean>();
  readonly #names = new Set<string>();

  private constructor(places: readonly Place[], filters: Filters, sources: Sources) {
    this.#places = places;
    this.#filters = filters;
    this.#sources = sources;
  }

  /** `words`: addresses, each with the PATHs that follow it. Throws `usage`. */
  static parse(words: readonly string[], filters: Filters, sources: Sources): DropSelector {
    const groups: string[][] = [];
    for (const word of words) {
      if (groups.length === 0 || /^[a-z][a-z0-9-]+:/u.test(word)) groups.push([word]);
      else groups.at(-1)?.push(word);
    }
    const places = groups.flatMap((group) => {
      const target = parseTarget(group);
      if (target.kind === "archive") return target.paths.map((path) => ({ archive: target.archive, path }));
      throw new RunError("usage", `${JSON.stringify(group[0])} is no address in an archive`, {
        hint: "name what to drop by its address, for example tcia:COLLECTION/PATIENT, or by filters",
      });
    });
    const named = filterNames(filters);
    if (named.some((name) => name === "limit" || name === "limit-patients")) {
      throw new RunError("usage", "--limit and --limit-patients do not say what to drop", {
        hint: "name it by its address or by what it is",
      });
    }
    if (named.length === 0 && (places.length === 0 || places.some(({ path }) => path.length === 0))) {
      throw new RunError("usage", "nothing was named to drop", {
        hint: "name it, for example: gantry drop DIR tcia:COLLECTION/PATIENT",
      });
    }
    return new DropSelector(places, filters, sources);
  }

  /** The match of an item that several selections may describe with different labels. Null: not meant. */
  async match(versions: readonly Item[]): Promise<Match[]> {
    const matches: Match[] = [];
    for (const item of versions) {
      const { capabilities } = await this.#sources(item.archive);
      this.#learn(item, capabilities);
      if (!this.#passesFilters(item, capabilities)) continue;
      if (this.#places.length === 0) {
        matches.push({ branch: this.#branch(item, capabilities, null) });
        continue;
      }
      for (const place of this.#places) {
        if (place.archive !== item.archive) continue;
        const level = matchPlace(place, item, capabilities);
        if (level !== undefined) matches.push({ branch: this.#branch(item, capabilities, level) });
      }
    }
    return matches;
  }

  /** When nothing matched: what was meant, perhaps. */
  noMatch(dir: string): RunError {
    const { words } = this.#filters;
    const wanted = [
      ...this.#places.flatMap(({ path }) => path),
      ...WORD_FILTERS.flatMap((name) => words[name] ?? []),
    ];
    const known = [...this.#names].sort();
    const folded = new Set(known.map(fold));
    const near = wanted.flatMap((word) => (folded.has(fold(word)) ? [] : nearMatches(word, known)));
    const shown = known.filter((name) => !isUid(name)).slice(0, SHOWN_NAMES);
    return new RunError("no-match", `nothing that was ever asked for in ${dir} matches`, {
      hint:
        near.length > 0
          ? `did you mean ${[...new Set(near)].slice(0, 5).join(" or ")}?`
          : `known here are ${shown.join(", ")}${known.length > shown.length ? " …" : ""}`,
    });
  }

  #passesFilters(item: Item, capabilities: Capabilities): boolean {
    if (filterNames(this.#filters).length === 0) return true;
    let passes = this.#passes.get(item.archive);
    if (!passes) {
      checkFilters(this.#filters, capabilities, item.archive);
      // What belongs to many is not of the one that goes.
      passes = buildFilter(this.#filters, { ...capabilities, sharedItems: false }, capabilities.means);
      this.#passes.set(item.archive, passes);
    }
    return passes(item);
  }

  /** The deepest branch that address and filters name; null when something narrower than the tree was asked for. */
  #branch(item: Item, capabilities: Capabilities, level: string | null): Branch | null {
    const named = filterNames(this.#filters);
    if (named.some((name) => !capabilities.levels.includes(name))) return null;
    const deepest = capabilities.levels.findLast((each) => each === level || named.some((n) => n === each));
    return deepest === undefined ? null : branchOf(item, capabilities, deepest);
  }

  #learn(item: Item, { levels, fields }: Capabilities): void {
    for (const level of levels) {
      const name = fields[level] === undefined ? null : item.labels[fields[level]];
      if (name != null && this.#names.size < KNOWN_NAMES) this.#names.add(String(name));
    }
  }
}

/** The branch of a level that an item is on; null when its labels do not say. */
export function branchOf(
  { archive, labels }: Pick<Item, "archive" | "labels">,
  { levels, fields }: Capabilities,
  level: string,
): Branch | null {
  const nameAt = (each: string): string | null => labelAt(labels, fields[each]);
  const own = nameAt(level);
  if (own === null) return null;
  // A UID has the same meaning in every archive and under every patient.
  if (isUid(own)) return { level, archive: null, path: [own] };
  const path = levels.slice(0, levels.indexOf(level) + 1).map((each) => nameAt(each) ?? "");
  return { level, archive, path };
}

/** Whether an item is on a branch that was dropped. */
export function isOnDroppedBranch(item: Item, capabilities: Capabilities, rules: DropRules): boolean {
  for (const level of rules.levels) {
    if (!capabilities.levels.includes(level)) continue;
    const branch = branchOf(item, capabilities, level);
    if (branch && rules.has(branch)) return true;
  }
  return false;
}

/** The level of the place when the item is at or below it, null when it is the item alone; undefined: neither. */
function matchPlace({ path }: Place, item: Item, capabilities: Capabilities): string | null | undefined {
  const { levels, fields, itemLevel } = capabilities;
  const nameAt = (level: string): string | null => labelAt(item.labels, fields[level]);
  const uid = item.id.slice(item.id.indexOf(":") + 1);
  const [first, second] = path;
  if (first !== undefined && isUid(first)) {
    const level = levels.find((each) => nameAt(each) === first);
    if (level === undefined && uid !== first) return undefined;
    if (second === undefined) return level ?? null;
    return wantImage(second, uid, level === itemLevel && nameAt(itemLevel) === uid);
  }
  let level: string | null = null;
  for (const [index, name] of path.entries()) {
    level = levels[index] ?? null;
    if (level === null) return undefined;
    const own = nameAt(level);
    // The last level, an image, has no column: it is the item itself.
    if (own === null && index === levels.length - 1 && index > levels.indexOf(itemLevel))
      return wantImage(name, uid, nameAt(itemLevel) === uid);
    if (own === null || fold(own) !== fold(name)) return undefined;
  }
  return level;
}

function wantImage(image: string, uid: string, isWhole: boolean): null | undefined {
  if (uid === image) return null;
  if (!isWhole) return undefined;
  throw new RunError(
    "usage",
    `${image} is one image of a series that is held whole, and can't be dropped alone`,
    {
      hint: "drop the whole series: leave the last part of the address out",
    },
  );
}

const labelAt = (labels: Row, column: string | undefined): string | null => {
  const value = column === undefined ? null : labels[column];
  return value == null || String(value).trim() === "" ? null : String(value);
};

const fold = (text: string): string => text.normalize("NFC").trim().toLowerCase();
