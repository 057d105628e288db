/** A made-up archive of plain JSON and files over HTTP as a Source: the smallest whole one, to be copied. */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { nearMatches } from "../../model/address.ts";
import type { Item, Row } from "../../model/item.ts";
import type { Query, WordFilter } from "../../model/query.ts";
import { formatAddress } from "../../model/selection.ts";
import type {
  Capabilities,
  Citation,
  Delivery,
  Entry,
  FetchOptions,
  ListOptions,
  Source,
  SourceContext,
  SourceOptions,
} from "../source.ts";
import { TemplateApi, type WireCollection } from "./api.ts";
import { COLUMNS, digestOf, fileId, fileItem, LAYOUTS, unknownItem } from "./map.ts";

const CAPABILITIES: Capabilities = {
  levels: ["collection", "patient", "file"],
  itemLevel: "file",
  filters: ["collection", "patient", "since", "until", "include", "exclude", "limit", "limit-patients"],
  fields: { collection: "Collection", patient: "Patient", file: "File" },
  columns: COLUMNS,
  summaryColumns: ["Collection", "Patient", "Name", "Bytes"],
  // The archive says nothing of acquisition: the same column, and no --study-since in `filters`.
  dates: { changed: ["Changed"], acquired: "Changed" },
  layouts: LAYOUTS,
  defaultLayout: "descriptive",
  digest: "md5",
  batchItems: 1,
};

export function createTemplateSource(options: SourceOptions): Source {
  return new TemplateSource(options);
}

class TemplateSource implements Source {
  readonly archive: string;
  readonly kind = "template";
  readonly capabilities = CAPABILITIES;
  readonly #api: TemplateApi;

  constructor({ http, archive, url }: SourceOptions) {
    this.archive = archive;
    this.#api = new TemplateApi(http, archive, url);
  }

  async resolve(query: Query, context: SourceContext): Promise<Query> {
    const [collection, patient, file, ...more] = query.path;
    if (more.length > 0)
      throw new RunError("usage", `${this.archive} has three levels: collection/patient/file`);
    const path: string[] = [];
    if (collection !== undefined) path.push(await this.#collection(collection, context));
    if (patient !== undefined) path.push(await this.#patient(path[0], patient, context));
    // An id that is not shown is no misspelt name: it becomes a failed item (see `list`).
    if (file !== undefined) path.push(file);
    const words: Partial<Record<WordFilter, readonly string[]>> = { ...query.filters.words };
    if (words.collection)
      words.collection = await all(words.collection, (word) => this.#collection(word, context));
    if (words.patient)
      words.patient = await all(words.patient, (word) => this.#patient(path[0], word, context));
    return { path, filters: { ...query.filters, words } };
  }

  async *browse(query: Query, context: SourceContext): AsyncIterable<Row> {
    const [collection, patient] = query.path;
    if (collection === undefined) {
      for await (const { name } of this.#api.collections(context))
        yield { Collection: name, address: formatAddress(this.archive, [name]) };
    } else if (patient === undefined) {
      for (const name of await this.#patients(collection, context))
        yield { Patient: name, address: formatAddress(this.archive, [collection, name]) };
    } else {
      for await (const item of this.list(query, { complete: false }, context))
        if (!item.unknown) yield { ...item.labels, address: item.address };
    }
  }

  /** The archive can't count; the pipeline does it. */
  values(): null {
    return null;
  }

  async *list(query: Query, _options: ListOptions, context: SourceContext): AsyncIterable<Item> {
    const [collection, patient, id] = query.path;
    const collections = await this.#collectionsByName(context);
    let shown = false;
    for await (const row of this.#api.files({ collection, patient, id }, context)) {
      shown = true;
      yield fileItem(this.archive, row, collections.get(row.collection));
    }
    if (id !== undefined && !shown) yield unknownItem(this.archive, query.path);
  }

  async *lookup(paths: AsyncIterable<readonly string[]>, context: SourceContext): AsyncIterable<Item> {
    const filters = { words: {}, dates: {}, include: [], exclude: [], limit: null, limitPatients: null };
    for await (const path of paths) yield* this.list({ path, filters }, { complete: true }, context);
  }

  async *fetch(items: readonly Item[], _options: FetchOptions, context: Context): AsyncIterable<Delivery> {
    for (const item of items) {
      const name = String(item.labels.Name ?? fileId(item));
      const digest = digestOf(item);
      const body = this.#api.content(fileId(item), context);
      async function* entries(): AsyncGenerator<Entry> {
        yield { name, body };
      }
      yield {
        item,
        entries: entries(),
        statement: () => ({
          digests: digest === null ? null : new Map([[name, digest]]),
          files: 1,
          bytes: item.bytes,
          from: this.#api.origin,
          facts: {},
        }),
      };
    }
  }

  cite(labels: Row): Citation | null {
    const text = (column: string): string | null => (labels[column] == null ? null : String(labels[column]));
    const collection = text("Collection");
    return collection === null
      ? null
      : { collection, licence: text("Licence"), licenceUrl: text("LicenceUrl"), doi: null };
  }

  async close(): Promise<void> {}

  async #collectionsByName(context: SourceContext): Promise<Map<string, WireCollection>> {
    const found = new Map<string, WireCollection>();
    for await (const row of this.#api.collections(context)) found.set(row.name, row);
    return found;
  }

  async #collection(word: string, context: SourceContext): Promise<string> {
    return this.#canonical("collection", word, [...(await this.#collectionsByName(context)).keys()]);
  }

  async #patients(collection: string | undefined, context: SourceContext): Promise<string[]> {
    const found = new Set<string>();
    for await (const { patient } of this.#api.files({ collection }, context)) found.add(patient);
    return [...found].sort();
  }

  async #patient(collection: string | undefined, word: string, context: SourceContext): Promise<string> {
    return this.#canonical("patient", word, await this.#patients(collection, context));
  }

  #canonical(what: string, word: string, known: readonly string[]): string {
    if (known.includes(word)) return word;
    const same = known.filter((name) => name.toLowerCase() === word.toLowerCase());
    if (same.length === 1) return same[0] as string;
    const near = nearMatches(word, known);
    throw new RunError(
      "unknown-name",
      `${this.archive} has no ${what} ${JSON.stringify(word)}`,
      near.length > 0 ? { hint: `did you mean ${near.join(", ")}?` } : {},
    );
  }
}

async function all(words: readonly string[], resolve: (word: string) => Promise<string>): Promise<string[]> {
  const found = new Set<string>();
  for (const word of words) found.add(await resolve(word));
  return [...found].sort();
}
