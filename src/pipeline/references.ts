/** `--with-intended`: what data here name of data that are not, as a selection of its own. */
import { createHash } from "node:crypto";
import { ExternalSort } from "../lib/external-sort.ts";
import type { Item } from "../model/item.ts";
import { NO_FILTERS } from "../model/query.ts";
import { formatItem, parseItem, type Request } from "../model/selection.ts";
import type { HeldItem, References, SourceContext } from "../sources/source.ts";

export interface SelectReferencesOptions<T> {
  readonly context: SourceContext;
  /** Writes a selection of items sorted by id. */
  readonly write: (request: Request, items: AsyncIterable<Item>) => Promise<T>;
}

/** What such a selection is called. */
const NAME = "IntendedFor";

/** Null when nothing is missing that the archive has. */
export async function selectReferences<T>(
  references: References,
  held: () => AsyncIterable<HeldItem>,
  { context, write }: SelectReferencesOptions<T>,
): Promise<T | null> {
  const paths = new Set<string>();
  for await (const { path } of references.dangling(held)) paths.add(path);
  if (paths.size === 0) return null;
  const sorter = new ExternalSort({ folder: context.temporary, unique: true });
  try {
    for await (const item of references.items(paths, context)) await sorter.push(item.id, formatItem(item));
    const lines: string[] = [];
    const hash = createHash("sha256");
    for await (const line of sorter.sorted()) {
      lines.push(line);
      hash.update(`${parseItem(line).address}\n`);
    }
    if (lines.length === 0) return null;
    async function* items(): AsyncGenerator<Item> {
      for (const line of lines) yield parseItem(line);
    }
    const request: Request = { kind: "list", name: NAME, digest: hash.digest("hex"), filters: NO_FILTERS };
    return await write(request, items());
  } finally {
    await sorter.close();
  }
}
