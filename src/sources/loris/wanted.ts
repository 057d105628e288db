/** Which items places in the archive's tree mean: what lies below them, and what belongs to them from above. */
import type { Item } from "../../model/item.ts";

/** Paths that were asked for, each with the items that it means. In memory: one of a LORIS has some ten thousand items. */
export class Wanted {
  readonly #paths = new Map<string, readonly string[]>();
  readonly #met = new Set<string>();
  /** Paths that are a place, and not a file, by each place above them. */
  readonly #above = new Set<string>();

  constructor(paths: Iterable<readonly string[]>) {
    for (const path of paths) {
      this.#paths.set(key(path), path);
      if (isFile(path)) continue;
      for (let end = 1; end < path.length; end += 1) this.#above.add(key(path.slice(0, end)));
    }
  }

  /** The first segments of the paths, each once. */
  get types(): readonly string[] {
    return [...new Set([...this.#paths.values()].map(([type = ""]) => type))];
  }

  /** Whether an item lies below a path, or is of a place as a whole that a path lies in. */
  has(item: Item): boolean {
    const own = pathOf(item);
    let below = false;
    for (let end = 1; end <= own.length; end += 1) {
      const place = key(own.slice(0, end));
      if (!this.#paths.has(place)) continue;
      this.#met.add(place);
      below = true;
    }
    return below || (own.length < 4 && this.#above.has(key(own.slice(0, -1))));
  }

  /** Paths that no item was below. */
  *unmet(): Generator<readonly string[]> {
    for (const [place, path] of this.#paths) if (!this.#met.has(place)) yield path;
  }
}

/** An item's own place. */
export function pathOf({ labels }: Item): readonly string[] {
  const { Type, Candidate, Visit, File } = labels;
  return [Type, Candidate, Visit, File].filter((part) => part != null).map(String);
}

/** Candidates are numbers; above a session only names of files have a dot before letters. */
function isFile([, candidate, visit, file]: readonly string[]): boolean {
  if (file !== undefined) return true;
  if (visit !== undefined) return visit === "candidate.json";
  return candidate !== undefined && !/^\d+$/u.test(candidate);
}

const key = (path: readonly string[]): string => path.join("\u0000");
