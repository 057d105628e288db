/** What archives offer beside their items, filtered. */
import { RunError } from "../errors.ts";
import type { Row } from "../model/item.ts";
import type { Filters } from "../model/query.ts";
import { DOWNLOAD_FILTERS, type Source, type SourceContext } from "../sources/source.ts";
import { checkFilters } from "./filter.ts";

export interface OfferListing {
  readonly columns: readonly string[];
  readonly summary: readonly string[];
  readonly rows: AsyncIterable<Row>;
}

/** Rows at each place, as the source orders them. Throws `usage`, `unsupported-filter`; the rows `unknown-name`. */
export function listOffers(
  source: Source,
  paths: readonly (readonly string[])[],
  filters: Filters,
  context: SourceContext,
): OfferListing {
  if (!source.downloads) {
    throw new RunError("usage", `${source.archive} offers nothing beside its items`, {
      hint: "leave --downloads out",
    });
  }
  checkFilters(
    filters,
    { ...source.capabilities, filters: DOWNLOAD_FILTERS },
    `${source.archive} --downloads`,
  );
  const offers = paths.map((path) => source.downloads?.({ path, filters }, context));
  const [first] = offers;
  async function* rows(): AsyncGenerator<Row> {
    let left = filters.limit ?? Number.POSITIVE_INFINITY;
    for (const each of offers) {
      if (!each || left <= 0) return;
      for await (const row of each.rows) {
        if (!isWithin(row.DateUpdated, filters)) continue;
        yield row;
        left -= 1;
        if (left <= 0) return;
      }
    }
  }
  return {
    columns: [...(first?.columns ?? []), "address"],
    summary: [...(first?.summaryColumns ?? []), "address"],
    rows: rows(),
  };
}

/** A download without a date is neither before nor after one. */
function isWithin(date: Row[string] | undefined, { dates: { since, until } }: Filters): boolean {
  if (since === undefined && until === undefined) return true;
  if (typeof date !== "string") return false;
  return (since === undefined || date >= since) && (until === undefined || date <= until);
}
