/** A LORIS as a Source: trees of BIDS or of MINC, of which one item is one file, or one image with its companions. */
import type { Context } from "../../lib/context.ts";
import type { Item, Row } from "../../model/item.ts";
import { NO_FILTERS, type Query } from "../../model/query.ts";
import type { Receipt } from "../../model/receipt.ts";
import { formatAddress } from "../../model/selection.ts";
import type {
  Capabilities,
  Companion,
  Delivery,
  Extra,
  FetchOptions,
  HeldItem,
  ListOptions,
  References,
  Source,
  SourceContext,
  SourceOptions,
} from "../source.ts";
import { LorisApi } from "./api.ts";
import { BaseUrl } from "./base-url.ts";
import { bidsCompanions } from "./bids-companions.ts";
import { Contents } from "./contents.ts";
import { EtagLedger } from "./etags.ts";
import { danglingIntended, withSideFiles } from "./intended-for.ts";
import { Listing } from "./listing.ts";
import { COLUMNS, type DataType, LAYOUTS, type Place, TYPES, unknownItem } from "./map.ts";
import { placed } from "./placed.ts";
import { resolveQuery } from "./resolve.ts";
import { LorisTokens } from "./token.ts";
import { pathOf, Wanted } from "./wanted.ts";
import { isMeant } from "./words.ts";

const CAPABILITIES: Capabilities = {
  levels: ["type", "patient", "visit", "file"],
  itemLevel: "file",
  filters: ["patient", "visit", "modality", "project", "include", "exclude", "limit"],
  fields: {
    type: "Type",
    project: "Project",
    patient: "Candidate",
    visit: "Visit",
    file: "File",
    modality: "LorisScanType",
  },
  sharedItems: true,
  means: isMeant,
  whole: "Image",
  columns: COLUMNS,
  summaryColumns: COLUMNS,
  dates: null,
  layouts: LAYOUTS,
  defaultLayout: "descriptive",
  // Only kept with the file: the archive gives none to compare with.
  digest: "md5",
  digestless: true,
  extras: ["bidsignore"],
  batchItems: 1,
};

export function createLorisSource(options: SourceOptions): Source {
  return new LorisSource(options);
}

class LorisSource implements Source {
  readonly archive: string;
  readonly kind = "loris";
  readonly capabilities = CAPABILITIES;
  readonly #listing: Listing;
  readonly #contents: Contents;
  readonly #place: Place;

  constructor({ archive, url, http, redactor, secrets, settings }: SourceOptions) {
    this.archive = archive;
    const base = new BaseUrl(http, archive, url);
    const tokens = new LorisTokens({ http, archive, base, credentials: secrets, redactor });
    const api = new LorisApi({ http, archive, url, base, tokens });
    this.#place = { archive, host: new URL(url).host };
    this.#listing = new Listing(api, this.#place, settings.project ?? null);
    this.#contents = new Contents(api, new EtagLedger());
  }

  resolve(query: Query, context: SourceContext): Promise<Query> {
    return resolveQuery(this.archive, query, this.#listing, context);
  }

  async *browse(query: Query, context: SourceContext): AsyncIterable<Row> {
    const { archive } = this;
    const [type, candidate, visit] = query.path;
    if (type === undefined) {
      for (const each of TYPES) yield { Type: each, Project: null, address: formatAddress(archive, [each]) };
      const projects = await this.#listing.projects(context);
      if (projects.length < 2) return;
      for (const each of TYPES)
        for (const project of [...projects].sort())
          yield { Type: each, Project: project, address: formatAddress(archive, [each, `${project}:`]) };
      return;
    }
    const names = await this.#listing.names(type as DataType, context);
    const known = candidate === undefined ? undefined : names.candidates.get(candidate);
    if (visit !== undefined || (candidate !== undefined && known === undefined)) {
      yield* this.#rows(query, context);
      return;
    }
    if (known === undefined) {
      const wanted = query.filters.words.project;
      for (const file of [...names.files].sort())
        yield { Candidate: null, PSCID: null, File: file, address: formatAddress(archive, [type, file]) };
      for (const [name, { pscid, projects }] of [...names.candidates].sort(([a], [b]) => (a < b ? -1 : 1)))
        if (!wanted || wanted.some((each) => projects.has(each)))
          yield { Candidate: name, PSCID: pscid, File: null, address: formatAddress(archive, [type, name]) };
      return;
    }
    const at = [type, candidate as string];
    for (const file of [...known.files].sort())
      yield { Visit: null, File: file, address: formatAddress(archive, [...at, file]) };
    for (const name of [...known.visits.keys()].sort())
      yield { Visit: name, File: null, address: formatAddress(archive, [...at, name]) };
  }

  /** The archive can't count; the pipeline does it. */
  values(): null {
    return null;
  }

  async *list({ path }: Query, _options: ListOptions, context: SourceContext): AsyncIterable<Item> {
    yield* this.#below(new Wanted([path.length === 0 ? ["bids"] : path]), context);
  }

  async *lookup(paths: AsyncIterable<readonly string[]>, context: SourceContext): AsyncIterable<Item> {
    const all: (readonly string[])[] = [];
    for await (const path of paths) all.push(path);
    yield* this.#below(new Wanted(all), context);
  }

  async *fetch(items: readonly Item[], _options: FetchOptions, context: Context): AsyncIterable<Delivery> {
    for (const item of items) yield this.#contents.deliver(item, context);
  }

  readonly placed = placed;

  isCurrent(item: Item, receipt: Pick<Receipt, "files" | "facts">, context: SourceContext): Promise<boolean> {
    return this.#contents.isCurrent(item, receipt, context);
  }

  companions(held: () => AsyncIterable<HeldItem>, extras: ReadonlySet<Extra>): AsyncIterable<Companion> {
    return bidsCompanions(held, extras);
  }

  readonly references: References = {
    dangling: (held) => danglingIntended(held()),
    items: (paths, context) =>
      withSideFiles(paths, this.list({ path: ["bids"], filters: NO_FILTERS }, { complete: true }, context)),
  };

  /** The terms are in the study's own README and description. */
  cite(): null {
    return null;
  }

  async close(): Promise<void> {}

  async *#below(wanted: Wanted, context: SourceContext): AsyncGenerator<Item> {
    for (const type of TYPES) {
      if (!wanted.types.includes(type)) continue;
      for await (const item of this.#listing.items(type, context)) if (wanted.has(item)) yield item;
    }
    for (const path of wanted.unmet()) if (path.length > 1) yield unknownItem(this.#place, path);
  }

  async *#rows(query: Query, context: SourceContext): AsyncGenerator<Row> {
    const { length } = query.path;
    for await (const item of this.list(query, { complete: false }, context)) {
      const above =
        pathOf(item).length < Math.min(length + 1, 4) && pathOf(item).join("/") !== query.path.join("/");
      if (!item.unknown && !above) yield { ...item.labels, address: item.address };
    }
  }
}
