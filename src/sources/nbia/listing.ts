/** From places of the tree, and from ready paths, to NBIA items. */
import { RunError } from "../../errors.ts";
import { inBatches, mapOrdered } from "../../lib/concurrent.ts";
import { ExternalSort } from "../../lib/external-sort.ts";
import { isUid } from "../../model/address.ts";
import type { Item } from "../../model/item.ts";
import { NO_FILTERS, type Query } from "../../model/query.ts";
import type { ListOptions, SourceContext } from "../source.ts";
import type { NbiaApi, Parameters, WireRow } from "./api.ts";
import { instanceItem, seriesItem, seriesUidOf, unknownItem } from "./map.ts";
import { resolveQuery } from "./resolve.ts";
import { narrowedBy, noSharedList } from "./shared-list.ts";
import { studyPart, withStudy } from "./wire/rows.ts";

/** UIDs in one v4/getSeriesMetadata: clients send 50 (TCIA/data-retriever) to 10,000 (tcia_utils getSeriesList). */
const METADATA_BATCH = 500;
const METADATA_JOBS = 3;
/** The join stands beside the sort of the selection, which has the usual share of memory. */
const JOIN_MEMORY_BYTES = 8 * 1024 * 1024;

export class NbiaListing {
  readonly #api: NbiaApi;
  readonly #archive: string;

  constructor(api: NbiaApi, archive: string) {
    this.#api = api;
    this.#archive = archive;
  }

  async *list(query: Query, options: ListOptions, context: SourceContext): AsyncIterable<Item> {
    const [first] = query.path;
    const lists = query.filters.words["shared-list"];
    if (lists !== undefined) {
      yield* this.lookup(this.#sharedLists(lists, query, context), context);
      return;
    }
    if (first !== undefined && isUid(first)) {
      yield* this.#byUid(query.path, context);
      return;
    }
    if (query.path.length === 5) {
      yield* this.lookup(one([query.path[3] as string, query.path[4] as string]), context);
      return;
    }
    const rows = this.#seriesRows(query, context);
    const joined = options.complete || this.#api.studiesApart;
    const items = joined ? this.#withStudies(rows, studyScopes(query), context) : this.#items(rows);
    const { since, until } = query.filters.dates;
    if (since === undefined && until === undefined) yield* items;
    else for await (const item of items) yield this.#dated(item);
  }

  /** Paths of what the lists hold below the query's path. Throws `unknown-name` for a list that is not there. */
  async *#sharedLists(
    names: readonly string[],
    query: Query,
    context: SourceContext,
  ): AsyncGenerator<readonly string[]> {
    const below = narrowedBy(query);
    for (const name of names) {
      let known = false;
      for await (const row of this.#api.sharedList(name, context)) {
        known = true;
        const path = below(row);
        if (path) yield path;
      }
      if (!known) throw noSharedList(this.#archive, name);
    }
  }

  /** The historic service told no dates of publication: a question for them must not end as an empty answer. */
  #dated(item: Item): Item {
    const { MaxSubmissionTimestamp, DateReleased } = item.labels;
    if (item.unknown || !this.#api.studiesApart || MaxSubmissionTimestamp != null || DateReleased != null)
      return item;
    throw new RunError(
      "unsupported-filter",
      `${this.#archive} does not say when series were published, so that --since and --until can't be answered`,
    );
  }

  async *lookup(paths: AsyncIterable<readonly string[]>, context: SourceContext): AsyncIterable<Item> {
    const batches = mapOrdered(inBatches(paths, METADATA_BATCH), METADATA_JOBS, (batch) =>
      this.#lookupBatch(batch, context),
    );
    for await (const items of batches) yield* items;
  }

  /** Rows of getSeries for a place of the tree, narrowed by what the endpoint takes. */
  async *#seriesRows(query: Query, context: SourceContext): AsyncGenerator<WireRow> {
    const { words } = query.filters;
    const [collection, patient, study, series] = query.path;
    const single = (name: keyof typeof words): string | undefined =>
      words[name]?.length === 1 ? words[name][0] : undefined;
    const parameters: Record<string, string> = {};
    const set = (name: string, value: string | undefined): void => {
      if (value !== undefined) parameters[name] = value;
    };
    set("PatientID", patient ?? single("patient"));
    set("StudyInstanceUID", study ?? single("study"));
    set("SeriesInstanceUID", series ?? single("series"));
    set("Modality", single("modality"));
    set("BodyPartExamined", single("body-part"));
    const collections = collection === undefined ? words.collection : [collection];
    if (collections === undefined) {
      yield* this.#api.rows("getSeries", parameters, context);
      return;
    }
    const whole = Object.keys(parameters).length === 0;
    for (const name of collections) {
      let empty = true;
      for await (const row of this.#api.rows("getSeries", { ...parameters, Collection: name }, context)) {
        empty = false;
        yield row;
      }
      if (empty && whole) {
        throw new RunError("archive-reply", `the archive lists the collection ${name}, but nothing in it`);
      }
    }
  }

  async *#items(rows: AsyncIterable<WireRow>): AsyncGenerator<Item> {
    for await (const row of rows) {
      const item = seriesItem(this.#archive, row);
      if (item) yield item;
    }
  }

  /**
   * v4/getSeries has no StudyID, which descriptive folder names need, and older versions lack more: series are
   * joined with their studies, both sorted by Study Instance UID. `scope` narrows getPatientStudy as far as it goes; more studies do no harm.
   */
  async *#withStudies(
    rows: AsyncIterable<WireRow>,
    scopes: readonly Parameters[],
    context: SourceContext,
  ): AsyncGenerator<Item> {
    const byStudy = new ExternalSort({ folder: context.temporary, memoryBytes: JOIN_MEMORY_BYTES });
    try {
      for await (const row of rows) {
        await byStudy.push(`${row.StudyInstanceUID}\u00001`, JSON.stringify(row));
      }
      for (const scope of scopes) {
        for await (const row of this.#api.rows("getPatientStudy", scope, context)) {
          const study = row.StudyInstanceUID;
          const told = this.#api.studiesApart ? studyPart(row) : { StudyID: row.StudyID };
          await byStudy.push(`${study}\u00000`, JSON.stringify({ study, ...told }));
        }
      }
      let study: WireRow = {};
      for await (const line of byStudy.sorted()) {
        const row = JSON.parse(line) as WireRow;
        if (row.study !== undefined) {
          study = row;
          continue;
        }
        if (study.study !== row.StudyInstanceUID) {
          throw new RunError(
            "archive-reply",
            `the archive lists a series of the study ${row.StudyInstanceUID}, but not the study`,
          );
        }
        const item = seriesItem(this.#archive, withStudy(row, study));
        if (item) yield item;
      }
    } finally {
      await byStudy.close();
    }
  }

  async #lookupBatch(batch: readonly (readonly string[])[], context: SourceContext): Promise<Item[]> {
    const found = new Map<string, Item>();
    const uids = [...new Set(batch.map((path) => path[0] ?? ""))].filter(isUid);
    const rows = uids.length === 0 ? many<WireRow>([]) : this.#api.seriesMetadata(uids, context);
    for await (const row of rows) {
      const item = seriesItem(this.#archive, row);
      if (item) found.set(seriesUidOf(item), item);
    }
    const items: Item[] = [];
    for (const path of batch) {
      const uid = path[0] ?? "";
      const series = found.get(uid);
      if (!isUid(uid)) {
        // A place of the tree, by names as a user or a listing wrote them.
        const query = await resolveQuery(this.#api, this.#archive, { path, filters: NO_FILTERS }, context);
        for await (const item of this.list(query, { complete: true }, context)) items.push(item);
      } else if (path.length === 1 && series) items.push(series);
      else if (path.length === 1) {
        for await (const item of this.#byUid(path, context)) items.push(item);
      } else items.push(await this.#instance(path, series, context));
    }
    return items;
  }

  /** A series, else a study, else unknown; with a second segment one image. */
  async *#byUid(path: readonly string[], context: SourceContext): AsyncGenerator<Item> {
    const [uid, sop] = path as [string, string?];
    if (sop !== undefined) {
      yield* this.lookup(one(path), context);
      return;
    }
    let found = false;
    for (const column of ["SeriesInstanceUID", "StudyInstanceUID"]) {
      for await (const item of this.#ofUid(column, uid, context)) {
        found = true;
        yield item;
      }
      if (found) return;
    }
    yield unknownItem(this.#archive, path);
  }

  /** All series of one UID are of one study. */
  async *#ofUid(column: string, uid: string, context: SourceContext): AsyncGenerator<Item> {
    const rows: WireRow[] = [];
    for await (const row of this.#api.rows("getSeries", { [column]: uid }, context)) rows.push(row);
    const study = rows[0]?.StudyInstanceUID;
    if (study === undefined) return;
    yield* this.#withStudies(many(rows), [{ StudyInstanceUID: String(study) }], context);
  }

  async #instance(path: readonly string[], series: Item | undefined, context: SourceContext): Promise<Item> {
    const [seriesUid, sop] = path as [string, string];
    if (series) {
      for await (const row of this.#api.rows(
        "getSOPInstanceUIDs",
        { SeriesInstanceUID: seriesUid },
        context,
      )) {
        if (row.SOPInstanceUID === sop) return instanceItem(series, sop);
      }
    }
    return unknownItem(this.#archive, path);
  }
}

/** What getPatientStudy takes of a query: one question for each collection. */
function studyScopes({ path, filters }: Query): readonly Parameters[] {
  const [collection, patient, study] = path;
  const scope: Record<string, string> = {};
  if (patient !== undefined) scope.PatientID = patient;
  if (study !== undefined) scope.StudyInstanceUID = study;
  const collections = collection === undefined ? filters.words.collection : [collection];
  return collections === undefined ? [scope] : collections.map((name) => ({ ...scope, Collection: name }));
}

async function* one<T>(value: T): AsyncGenerator<T> {
  yield value;
}

async function* many<T>(values: readonly T[]): AsyncGenerator<T> {
  yield* values;
}
