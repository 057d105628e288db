/**
 * Which items of a narrowed listing go together, for archives whose items are parts of wholes (`Capabilities.whole`):
 * the limit is of wholes, and what belongs to a place comes when something below the place does.
 */
import { buildGlobs } from "../lib/globs.ts";
import type { Row } from "../model/item.ts";
import { type Filters, filterNames } from "../model/query.ts";
import type { Capabilities } from "../sources/source.ts";
import { treePath, wholeOf } from "./filter.ts";
import { FirstKeys } from "./first-keys.ts";

/** Told of all items first, then asked. In memory are the places above the items, and as many wholes as the limit says. */
export class Wholes {
  readonly #capabilities: Capabilities;
  readonly #column: string;
  readonly #narrowed: boolean;
  readonly #named: ((path: string) => boolean) | null;
  readonly #first: FirstKeys | null;
  /** Places below which a whole is, and below which one passes. */
  readonly #known = new Set<string>();
  readonly #wanted = new Set<string>();

  constructor(filters: Filters, capabilities: Capabilities) {
    this.#capabilities = capabilities;
    this.#column = capabilities.whole ?? "";
    this.#narrowed = filterNames(filters).length > 0;
    this.#named = filters.include.length > 0 ? buildGlobs(filters.include) : null;
    this.#first = filters.limit === null ? null : new FirstKeys(filters.limit);
  }

  add(labels: Row, passed: boolean): void {
    if (labels[this.#column] == null) return;
    const place = this.#placeOf(labels);
    this.#known.add(place);
    if (!passed) return;
    if (this.#first) this.#first.add(wholeOf(labels, this.#capabilities));
    else this.#wanted.add(place);
  }

  has(labels: Row): boolean {
    if (labels[this.#column] != null)
      return this.#first === null || this.#first.has(wholeOf(labels, this.#capabilities));
    const path = treePath(labels, this.#capabilities).join("/");
    if (!this.#narrowed || this.#named?.(path)) return true;
    const place = this.#placeOf(labels);
    const below = (other: string): boolean =>
      other === place || place === "" || other.startsWith(`${place}/`);
    if (![...this.#known].some(below)) return true;
    if (this.#first) return this.#first.some((whole) => below(whole));
    return [...this.#wanted].some(below);
  }

  /** Levels above the item's. */
  #placeOf(labels: Row): string {
    const { fields, itemLevel } = this.#capabilities;
    return treePath({ ...labels, [fields[itemLevel] ?? ""]: null }, this.#capabilities).join("/");
  }
}
