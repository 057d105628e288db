/** Plain files at links as a Source: one link is one item with one file. */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import type { Item, Row } from "../../model/item.ts";
import { parseFileLink } from "../../model/link.ts";
import type { Query } from "../../model/query.ts";
import type {
  Capabilities,
  Delivery,
  Entry,
  FetchOptions,
  ListOptions,
  Source,
  SourceContext,
  SourceOptions,
} from "../source.ts";
import { WebApi } from "./api.ts";
import { COLUMNS, fileItem, LAYOUTS, linkOf, unknownItem } from "./map.ts";
import { Transfer } from "./transfer.ts";

const CAPABILITIES: Capabilities = {
  levels: ["file"],
  itemLevel: "file",
  filters: ["since", "until", "limit"],
  fields: { file: "URL" },
  columns: COLUMNS,
  summaryColumns: COLUMNS,
  dates: { changed: ["Changed"], acquired: "Changed" },
  layouts: LAYOUTS,
  defaultLayout: "files",
  // The sum that servers of files give most often, if any.
  digest: "md5",
  batchItems: 1,
};

export function createWebSource(options: SourceOptions): Source {
  return new WebSource(options);
}

class WebSource implements Source {
  readonly archive: string;
  readonly kind = "web";
  readonly capabilities = CAPABILITIES;
  readonly #api: WebApi;

  constructor({ archive, http }: SourceOptions) {
    this.archive = archive;
    this.#api = new WebApi(http);
  }

  async resolve(query: Query): Promise<Query> {
    const [link, ...more] = query.path;
    if (link === undefined || more.length > 0) {
      throw new RunError("usage", "a plain file is named by its whole link, and links can't be listed", {
        hint: "for example: gantry get https://HOST/FILE.xlsx -o DIR",
      });
    }
    return { path: [parseFileLink(link)], filters: query.filters };
  }

  async *browse(query: Query, context: SourceContext): AsyncIterable<Row> {
    for await (const item of this.list(query, { complete: false }, context))
      if (!item.unknown) yield { ...item.labels, address: item.address };
  }

  values(): null {
    return null;
  }

  async *list(query: Query, _options: ListOptions, context: SourceContext): AsyncIterable<Item> {
    const link = parseFileLink(query.path[0] ?? "");
    const head = await this.#api.head(link, context);
    yield head === null ? unknownItem(this.archive, link) : fileItem(this.archive, link, head);
  }

  async *lookup(paths: AsyncIterable<readonly string[]>, context: SourceContext): AsyncIterable<Item> {
    const filters = { words: {}, dates: {}, include: [], exclude: [], limit: null, limitPatients: null };
    for await (const path of paths) yield* this.list({ path, filters }, { complete: true }, context);
  }

  async *fetch(items: readonly Item[], options: FetchOptions, context: Context): AsyncIterable<Delivery> {
    for (const item of items) {
      const name = String(item.labels.Name ?? "file");
      const { scratch } = options;
      const transfer = new Transfer({ item, link: linkOf(item), name, api: this.#api, scratch, context });
      async function* entries(): AsyncGenerator<Entry> {
        yield { name, body: transfer.body() };
      }
      yield { item, entries: entries(), statement: () => transfer.statement() };
    }
  }

  /** A link says nothing of its licence. */
  cite(): null {
    return null;
  }

  async close(): Promise<void> {}
}
