/** A LORIS with a BIDS export (PREVENT-AD) as a Source: one item is one file of the tree. */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { nearMatches } from "../../model/address.ts";
import type { Item, Row } from "../../model/item.ts";
import { NO_FILTERS, type Query, type WordFilter } from "../../model/query.ts";
import { formatAddress } from "../../model/selection.ts";
import type {
  Capabilities,
  Companion,
  Delivery,
  Entry,
  Extra,
  FetchOptions,
  HeldItem,
  ListOptions,
  References,
  Source,
  SourceContext,
  SourceOptions,
} from "../source.ts";
import { baseOf, LorisApi } from "./api.ts";
import { bidsCompanions } from "./bids-companions.ts";
import { checkedBody } from "./format-check.ts";
import { danglingIntended, withSideFiles } from "./intended-for.ts";
import { COLUMNS, FAMILIES, isOfFamily, LAYOUTS, linkOf, type Place, rowItems, unknownItem } from "./map.ts";
import { LorisTokens } from "./token.ts";

const CAPABILITIES: Capabilities = {
  levels: ["type", "patient", "visit", "file"],
  itemLevel: "file",
  filters: ["patient", "visit", "modality", "include", "exclude", "limit"],
  fields: {
    type: "Type",
    patient: "Candidate",
    visit: "Visit",
    file: "File",
    modality: "LorisScanType",
  },
  sharedItems: true,
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

/** The only project of a LORIS without the project feature. */
const PROJECT = "loris";

/** What names may be resolved to. Some hundred words; the visits are by candidate. */
interface Names {
  readonly visits: ReadonlyMap<string, ReadonlySet<string>>;
  readonly types: ReadonlySet<string>;
  /** Files of the study itself. */
  readonly files: ReadonlySet<string>;
}

export function createLorisSource(options: SourceOptions): Source {
  return new LorisSource(options);
}

class LorisSource implements Source {
  readonly archive: string;
  readonly kind = "loris";
  readonly capabilities = CAPABILITIES;
  readonly #api: LorisApi;
  readonly #project: string;
  readonly #place: Place;

  constructor({ archive, url, http, redactor, secrets, settings }: SourceOptions) {
    this.archive = archive;
    const base = baseOf(url);
    const tokens = new LorisTokens({ http, archive, base, credentials: secrets, redactor });
    this.#api = new LorisApi(http, archive, base, tokens);
    this.#project = settings.project ?? PROJECT;
    this.#place = { archive, data: `${new URL(base).host}/${encodeURIComponent(this.#project)}` };
  }

  async resolve(query: Query, context: SourceContext): Promise<Query> {
    const [type, second, visit, file, ...more] = query.path;
    if (more.length > 0)
      throw new RunError("usage", `${this.archive} has four levels: bids/candidate/visit/file`);
    const path: string[] = [];
    if (type !== undefined) path.push(this.#canonical("data type", type, ["bids"]));
    const { words } = query.filters;
    if (second === undefined && !words.patient && !words.visit && !words.modality)
      return { path, filters: query.filters };
    const names = await this.#names(context);
    const candidates = [...names.visits.keys()];
    const visits = [...new Set([...names.visits.values()].flatMap((of) => [...of]))];
    const patient = (word: string): string =>
      this.#canonical("candidate", word.replace(/^sub-/iu, ""), candidates);
    const ofFamily = (word: string): readonly string[] => {
      const types = [...names.types];
      const family = FAMILIES.find((each) => each.toLowerCase() === word.toLowerCase()) ?? word;
      const found = types.filter((each) => isOfFamily(family, each));
      return found.length > 0
        ? found
        : [this.#canonical("modality", word, types, `its modalities are ${types.sort().join(", ")}`)];
    };
    if (second !== undefined) {
      if (visit === undefined && names.files.has(second)) path.push(second);
      else path.push(patient(second));
    }
    if (visit !== undefined)
      path.push(
        this.#canonical("visit", visit.replace(/^ses-/iu, ""), [...(names.visits.get(path[1] ?? "") ?? [])]),
      );
    // A file that is not listed is no misspelt name: it becomes a failed item (see `list`).
    if (file !== undefined) path.push(file);
    const resolved: Partial<Record<WordFilter, readonly string[]>> = { ...words };
    if (words.patient) resolved.patient = sorted(words.patient.map(patient));
    if (words.visit)
      resolved.visit = sorted(
        words.visit.map((word) => this.#canonical("visit", word.replace(/^ses-/iu, ""), visits)),
      );
    if (words.modality) resolved.modality = sorted(words.modality.flatMap(ofFamily));
    return { path, filters: { ...query.filters, words: resolved } };
  }

  async *browse(query: Query, context: SourceContext): AsyncIterable<Row> {
    const [type, candidate, visit] = query.path;
    if (type === undefined) {
      yield { Type: "bids", address: formatAddress(this.archive, ["bids"]) };
      return;
    }
    if (visit !== undefined) {
      yield* this.#rows(query, context);
      return;
    }
    const names = await this.#names(context);
    if (candidate === undefined) {
      for (const name of [...names.visits.keys()].sort())
        yield { Candidate: name, address: formatAddress(this.archive, ["bids", name]) };
    } else if (names.files.has(candidate)) yield* this.#rows(query, context);
    else
      for (const name of [...(names.visits.get(candidate) ?? [])].sort())
        yield { Visit: name, address: formatAddress(this.archive, ["bids", candidate, name]) };
  }

  /** The archive can't count; the pipeline does it. */
  values(): null {
    return null;
  }

  async *list({ path }: Query, _options: ListOptions, context: SourceContext): AsyncIterable<Item> {
    const [, second, visit, file] = path;
    let shown = false;
    for await (const row of this.#api.manifest(this.#project, context)) {
      for (const item of rowItems(this.#place, row)) {
        const { Candidate, Visit, File } = item.labels;
        // Of the study as a whole: wanted wherever something of it is, unless one file was asked for.
        const above = file === undefined && (Candidate === undefined || (Candidate === second && !Visit));
        const named = Candidate === undefined && File === second;
        const below =
          (second === undefined || Candidate === second) &&
          (visit === undefined || Visit === visit) &&
          (file === undefined || File === file);
        const single = second !== undefined && !/^\d+$/u.test(second);
        if (single ? !named : !(above || below)) continue;
        shown = true;
        yield item;
      }
    }
    if (!shown && file !== undefined) yield unknownItem(this.#place, path);
  }

  async *lookup(paths: AsyncIterable<readonly string[]>, context: SourceContext): AsyncIterable<Item> {
    for await (const path of paths)
      yield* this.list({ path, filters: NO_FILTERS }, { complete: true }, context);
  }

  async *fetch(items: readonly Item[], _options: FetchOptions, context: Context): AsyncIterable<Delivery> {
    for (const item of items) {
      const api = this.#api;
      const name = String(item.labels.File);
      let bytes: number | null = null;
      async function* body(): AsyncGenerator<Uint8Array> {
        const reply = await api.file(linkOf(item), context);
        bytes = reply.bytes;
        yield* checkedBody(name, reply.body);
      }
      async function* entries(): AsyncGenerator<Entry> {
        yield { name, body: body() };
      }
      yield {
        item,
        entries: entries(),
        statement: () => ({
          digests: null,
          files: 1,
          bytes,
          // Tables and texts have no form that could be checked.
          checked: /\.(gz|json)$/u.test(name) ? ["format"] : [],
          from: api.origin,
          facts: {},
        }),
      };
    }
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

  async *#rows(query: Query, context: SourceContext): AsyncGenerator<Row> {
    for await (const { labels, address, unknown } of this.list(query, { complete: false }, context)) {
      const above = labels.Candidate === undefined && query.path.length > 2;
      if (!unknown && !above) yield { ...labels, address };
    }
  }

  async #names(context: SourceContext): Promise<Names> {
    const visits = new Map<string, Set<string>>();
    const types = new Set<string>();
    const files = new Set<string>();
    for await (const row of this.#api.manifest(this.#project, context)) {
      for (const { labels } of rowItems(this.#place, row)) {
        const { Candidate, Visit, LorisScanType, File } = labels;
        if (LorisScanType != null) types.add(String(LorisScanType));
        if (Candidate == null) files.add(String(File));
        else {
          const known = visits.get(String(Candidate)) ?? new Set<string>();
          visits.set(String(Candidate), known);
          if (Visit != null) known.add(String(Visit));
        }
      }
    }
    return { visits, types, files };
  }

  #canonical(what: string, word: string, known: readonly string[], otherwise?: string): string {
    if (known.includes(word)) return word;
    const same = known.filter((name) => name.toLowerCase() === word.toLowerCase());
    if (same.length === 1) return same[0] as string;
    const near = nearMatches(word, known);
    const hint = near.length > 0 ? `did you mean ${near.join(", ")}?` : otherwise;
    throw new RunError(
      "unknown-name",
      `${this.archive} has no ${what} ${JSON.stringify(word)}`,
      hint === undefined ? {} : { hint },
    );
  }
}

const sorted = (words: readonly string[]): string[] => [...new Set(words)].sort();
