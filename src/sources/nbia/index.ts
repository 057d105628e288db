/** The Cancer Imaging Archive and other NBIA v4 servers as a Source. */
import { RunError } from "../../errors.ts";
import { inBatches, mapOrdered } from "../../lib/concurrent.ts";
import type { Context } from "../../lib/context.ts";
import type { Digest } from "../../lib/digest.ts";
import { unzip } from "../../lib/unzip.ts";
import { isUid } from "../../model/address.ts";
import { parseDicomHeader, readSopInstanceUid } from "../../model/dicom.ts";
import type { Item, Row, Value } from "../../model/item.ts";
import { NO_FILTERS, type Query } from "../../model/query.ts";
import { formatAddress } from "../../model/selection.ts";
import type {
  Arrived,
  Capabilities,
  Citation,
  Companion,
  Delivery,
  Entry,
  FetchOptions,
  HeldItem,
  ListOptions,
  Source,
  SourceContext,
  SourceOptions,
  Statement,
} from "../source.ts";
import { NbiaApi, type WireRow } from "./api.ts";
import { companions } from "./companions.ts";
import {
  instanceItem,
  LAYOUTS,
  SERIES_COLUMNS,
  seriesItem,
  seriesLabels,
  unknownItem,
  wireValue,
} from "./map.ts";
import { parseMd5Hashes } from "./md5hashes.ts";
import { resolveQuery } from "./resolve.ts";

const CAPABILITIES: Capabilities = {
  levels: ["collection", "patient", "study", "series", "instance"],
  itemLevel: "series",
  filters: [
    "collection",
    "patient",
    "study",
    "series",
    "modality",
    "body-part",
    "manufacturer",
    "model",
    "since",
    "until",
    "study-since",
    "study-until",
    "include",
    "exclude",
    "limit",
    "limit-patients",
  ],
  fields: {
    collection: "Collection",
    patient: "PatientID",
    study: "StudyInstanceUID",
    series: "SeriesInstanceUID",
    modality: "Modality",
    "body-part": "BodyPartExamined",
    manufacturer: "Manufacturer",
    model: "ManufacturerModelName",
  },
  columns: SERIES_COLUMNS,
  summaryColumns: [
    "Collection",
    "PatientID",
    "StudyDate",
    "Modality",
    "BodyPartExamined",
    "SeriesDescription",
    "ImageCount",
    "FileSize",
  ],
  dates: { changed: ["DateReleased", "MaxSubmissionTimestamp"], acquired: "StudyDate" },
  layouts: LAYOUTS,
  defaultLayout: "descriptive",
  digest: "md5",
  batchItems: 1,
};

/** UIDs in one v4/getSeriesMetadata: clients send 50 (TCIA/data-retriever) to 10,000 (tcia_utils getSeriesList). */
const METADATA_BATCH = 500;
const METADATA_JOBS = 3;
const VOUCH_JOBS = 4;
const TABLE_LIMIT_BYTES = 64 * 1024 * 1024;

export function createNbiaSource(options: SourceOptions): Source {
  return new NbiaSource(options);
}

class NbiaSource implements Source {
  readonly archive: string;
  readonly kind = "nbia";
  readonly capabilities = CAPABILITIES;
  readonly #api: NbiaApi;

  constructor(options: SourceOptions) {
    this.archive = options.archive;
    const { http, archive, url, redactor, secrets } = options;
    this.#api = new NbiaApi({ http, archive, url, redactor, credentials: secrets });
  }

  get origin(): string {
    return this.#api.origin;
  }

  resolve(query: Query, context: SourceContext): Promise<Query> {
    return resolveQuery(this.#api, this.archive, query, context);
  }

  async *browse(query: Query, context: SourceContext): AsyncIterable<Row> {
    const [first, second, third, fourth] = query.path;
    const at = (...path: string[]): string => formatAddress(this.archive, path);
    if (first === undefined) {
      for await (const row of this.#api.counts("getCollectionValuesAndCounts", {}, context)) {
        const name = String(row.Collection ?? "");
        if (name !== "") yield { Collection: name, Patients: Number(row.Count), address: at(name) };
      }
    } else if (isUid(first)) {
      yield* second === undefined ? this.#browseUid(first, query, context) : [];
    } else if (second === undefined) {
      for await (const row of this.#api.rows("getPatient", { Collection: first }, context)) {
        const id = String(row.PatientId ?? "");
        yield {
          PatientID: id,
          ...pick(row, ["PatientName", "PatientSex", "EthnicGroup", "Phantom", "SpeciesDescription"]),
          address: at(first, id),
        };
      }
    } else if (third === undefined) {
      for await (const row of this.#api.rows(
        "getPatientStudy",
        { Collection: first, PatientID: second },
        context,
      )) {
        const uid = String(row.StudyInstanceUID ?? "");
        yield {
          StudyInstanceUID: uid,
          ...pick(row, ["StudyDate", "StudyDescription", "StudyID", "PatientAge", "SeriesCount"]),
          address: at(first, second, uid),
        };
      }
    } else if (fourth === undefined) {
      yield* seriesRows(this.list(query, { complete: false }, context));
    } else {
      yield* this.#instanceRows(fourth, context);
    }
  }

  values(
    field: string,
    query: Query,
    context: SourceContext,
  ): AsyncIterable<{ value: Value; count: number }> | null {
    const { words, dates, include, exclude, limit, limitPatients } = query.filters;
    const others = Object.keys(words).filter((name) => name !== "collection");
    const narrowed =
      others.length > 0 ||
      Object.keys(dates).length > 0 ||
      include.length + exclude.length > 0 ||
      limit !== null ||
      limitPatients !== null;
    const collections = query.path.length === 0 ? (words.collection ?? []) : query.path.slice(0, 1);
    if (narrowed || query.path.length > 1 || collections.length > 1) return null;
    if (collections[0] !== undefined && isUid(collections[0])) return null;
    const endpoint = COUNTING[field];
    if (!endpoint || (field === "collection" && collections.length > 0)) return null;
    const api = this.#api;
    const parameters = collections[0] === undefined ? {} : { Collection: collections[0] };
    return (async function* () {
      for await (const row of api.counts(endpoint.path, parameters, context)) {
        yield { value: wireValue(endpoint.column, row[endpoint.column]), count: Number(row.Count) };
      }
    })();
  }

  async *list(query: Query, options: ListOptions, context: SourceContext): AsyncIterable<Item> {
    const [first] = query.path;
    if (first !== undefined && isUid(first)) {
      yield* this.#byUid(query.path, context);
      return;
    }
    if (query.path.length === 5) {
      yield* this.lookup(one([query.path[3] as string, query.path[4] as string]), context);
      return;
    }
    const rows = this.#seriesRows(query, context);
    yield* options.complete ? this.#withStudyIds(rows, context) : this.#items(rows);
  }

  async *lookup(paths: AsyncIterable<readonly string[]>, context: SourceContext): AsyncIterable<Item> {
    const batches = mapOrdered(inBatches(paths, METADATA_BATCH), METADATA_JOBS, (batch) =>
      this.#lookupBatch(batch, context),
    );
    for await (const items of batches) yield* items;
  }

  async *fetch(items: readonly Item[], options: FetchOptions, context: Context): AsyncIterable<Delivery> {
    for (const item of items) yield this.#deliver(item, options, context);
  }

  async vouch(
    item: Item,
    arrived: readonly Arrived[],
    context: SourceContext,
  ): Promise<ReadonlyMap<string, Digest>> {
    const digests = new Map<string, Digest>();
    const each = async (file: Arrived): Promise<readonly [string, Digest]> => {
      const sop = sopOf(item) ?? readSopInstanceUid(await file.head());
      if (sop === undefined) {
        throw new RunError(
          "proof-digest",
          `the archive gave no MD5 for ${file.name}, and it holds no SOP Instance UID to ask by`,
        );
      }
      return [file.name, `md5:${await this.#api.md5OfImage(sop, context)}`];
    };
    for await (const [name, digest] of mapOrdered(many(arrived), VOUCH_JOBS, each)) digests.set(name, digest);
    return digests;
  }

  async witness(item: Item, arrived: readonly Arrived[], context: SourceContext): Promise<boolean> {
    const listed = new Set<string>();
    for await (const row of this.#api.rows(
      "getSOPInstanceUIDs",
      { SeriesInstanceUID: seriesUidOf(item) },
      context,
    )) {
      if (typeof row.SOPInstanceUID === "string") listed.add(row.SOPInstanceUID);
    }
    if (listed.size !== arrived.length) return false;
    for (const file of arrived) {
      const sop = readSopInstanceUid(await file.head());
      if (sop === undefined || !listed.delete(sop)) return false;
    }
    return true;
  }

  companions(held: () => AsyncIterable<HeldItem>): AsyncIterable<Companion> {
    return companions(held);
  }

  cite(labels: Row): Citation | null {
    const text = (column: string): string | null => (labels[column] == null ? null : String(labels[column]));
    const collection = text("Collection");
    if (collection === null) return null;
    return {
      collection,
      licence: text("LicenseName"),
      licenceUrl: text("LicenseURI"),
      doi: text("DataDescriptionURI"),
    };
  }

  async close(): Promise<void> {}

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
      const item = seriesItem(this.archive, row);
      if (item) yield item;
    }
  }

  /** v4/getSeries has no StudyID, which descriptive folder names need: it is asked for in batches. */
  async *#withStudyIds(rows: AsyncIterable<WireRow>, context: SourceContext): AsyncGenerator<Item> {
    const complete = async (batch: WireRow[]): Promise<Item[]> => {
      const studyIds = new Map<unknown, unknown>();
      const uids = batch.map((row) => String(row.SeriesInstanceUID));
      for await (const row of this.#api.seriesMetadata(uids, context))
        studyIds.set(row.SeriesInstanceUID, row.StudyID);
      const items: Item[] = [];
      for (const row of batch) {
        const known = studyIds.has(row.SeriesInstanceUID);
        const StudyID = known ? studyIds.get(row.SeriesInstanceUID) : await this.#studyId(row, context);
        const item = seriesItem(this.archive, { ...row, StudyID });
        if (item) items.push(item);
      }
      return items;
    };
    for await (const items of mapOrdered(inBatches(rows, METADATA_BATCH), METADATA_JOBS, complete))
      yield* items;
  }

  /** getSeriesMetadata leaves out series without images (PatientDAOImpl.java); their study is asked for by itself. */
  async #studyId(series: WireRow, context: SourceContext): Promise<unknown> {
    const uid = String(series.StudyInstanceUID);
    for await (const row of this.#api.rows("getPatientStudy", { StudyInstanceUID: uid }, context))
      return row.StudyID;
    throw new RunError("archive-reply", `the archive lists a series of the study ${uid}, but not the study`);
  }

  async #lookupBatch(batch: readonly (readonly string[])[], context: SourceContext): Promise<Item[]> {
    const found = new Map<string, Item>();
    const uids = [...new Set(batch.map((path) => path[0] ?? ""))].filter(isUid);
    const rows = uids.length === 0 ? many<WireRow>([]) : this.#api.seriesMetadata(uids, context);
    for await (const row of rows) {
      const item = seriesItem(this.archive, row);
      if (item) found.set(seriesUidOf(item), item);
    }
    const items: Item[] = [];
    for (const path of batch) {
      const uid = path[0] ?? "";
      const series = found.get(uid);
      if (!isUid(uid)) {
        // A place of the tree, by names as a user or a listing wrote them.
        const query = await this.resolve({ path, filters: NO_FILTERS }, context);
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
      for await (const item of this.#withStudyIds(
        this.#api.rows("getSeries", { [column]: uid }, context),
        context,
      )) {
        found = true;
        yield item;
      }
      if (found) return;
    }
    yield unknownItem(this.archive, path);
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
    return unknownItem(this.archive, path);
  }

  async *#browseUid(uid: string, query: Query, context: SourceContext): AsyncGenerator<Row> {
    let series: Item | undefined;
    const items: Item[] = [];
    for await (const item of this.list(query, { complete: false }, context)) {
      if (item.id === `dicom-series:${uid}` && !item.unknown) series = item;
      if (!item.unknown) items.push(item);
    }
    if (series) yield* this.#instanceRows(uid, context);
    else if (items.length > 0) yield* seriesRows(many(items));
    else {
      throw new RunError(
        "access-item",
        `${this.archive} does not show ${uid}: unknown, withdrawn or not permitted`,
        {
          at: { archive: this.archive },
        },
      );
    }
  }

  async *#instanceRows(seriesUid: string, context: SourceContext): AsyncGenerator<Row> {
    for await (const row of this.#api.rows("getSOPInstanceUIDs", { SeriesInstanceUID: seriesUid }, context)) {
      const sop = row.SOPInstanceUID;
      if (typeof sop !== "string") continue;
      yield {
        SOPInstanceUID: sop,
        SeriesInstanceUID: seriesUid,
        address: formatAddress(this.archive, [seriesUid, sop]),
      };
    }
  }

  #deliver(item: Item, options: FetchOptions, context: Context): Delivery {
    const sop = sopOf(item);
    return sop === undefined
      ? this.#deliverSeries(item, options, context)
      : this.#deliverImage(item, sop, options, context);
  }

  #deliverSeries(item: Item, options: FetchOptions, context: Context): Delivery {
    const api = this.#api;
    let digests: ReadonlyMap<string, Digest> | null = null;
    const facts: Record<string, Value> = {};
    async function* entries(): AsyncGenerator<Entry> {
      // An archive may be wrong about a size, but not by any amount: a bomb stops here.
      const limits = {
        maxEntries: (item.files ?? 100_000) * 2 + 1_000,
        maxTotalBytes: (item.bytes ?? 1 << 30) * 2 + TABLE_LIMIT_BYTES,
      };
      let first = true;
      for await (const entry of unzip(
        await api.images(seriesUidOf(item), options.attempt, context),
        limits,
      )) {
        if (entry.isDirectory || entry.name === "LICENSE") continue;
        if (entry.name === "md5hashes.csv") {
          digests = parseMd5Hashes(await readText(entry.body));
          continue;
        }
        yield { name: entry.name, body: first ? noteFacts(entry.body, facts) : entry.body };
        first = false;
      }
    }
    const statement = (): Statement => ({
      digests,
      files: item.files,
      bytes: item.bytes,
      from: api.origin,
      facts,
    });
    return { item, entries: entries(), statement };
  }

  #deliverImage(item: Item, sop: string, options: FetchOptions, context: Context): Delivery {
    const api = this.#api;
    const facts: Record<string, Value> = {};
    async function* entries(): AsyncGenerator<Entry> {
      const body = await api.image(seriesUidOf(item), sop, options.attempt, context);
      yield { name: `${sop}.dcm`, body: noteFacts(body, facts) };
    }
    return {
      item,
      entries: entries(),
      statement: () => ({ digests: null, files: 1, bytes: null, from: api.origin, facts }),
    };
  }
}

const COUNTING: Readonly<Record<string, { path: string; column: string }>> = {
  collection: { path: "getCollectionValuesAndCounts", column: "Collection" },
  modality: { path: "getModalityValuesAndCounts", column: "Modality" },
  "body-part": { path: "getBodyPartValuesAndCounts", column: "BodyPartExamined" },
  manufacturer: { path: "getManufacturerValuesAndCounts", column: "Manufacturer" },
};

function sopOf(item: Item): string | undefined {
  return item.id.startsWith("dicom-instance:") ? item.id.slice("dicom-instance:".length) : undefined;
}

function seriesUidOf(item: Item): string {
  const { locator } = item;
  if (typeof locator === "object" && locator !== null && "series" in locator) return String(locator.series);
  return item.id.slice(item.id.indexOf(":") + 1);
}

async function* seriesRows(items: AsyncIterable<Item>): AsyncGenerator<Row> {
  for await (const item of items) {
    if (!item.unknown) yield { ...seriesLabels(item.labels), address: item.address };
  }
}

/** Passes the bytes on and notes the SOP class, which metadata.csv wants and no v4 listing tells. */
async function* noteFacts(
  body: AsyncIterable<Uint8Array>,
  facts: Record<string, Value>,
): AsyncGenerator<Uint8Array> {
  let first = true;
  for await (const chunk of body) {
    if (first) {
      const header = parseDicomHeader(chunk.subarray(0, 65_536));
      if (header?.sopClassUid) facts.SOPClassUID = header.sopClassUid;
      first = false;
    }
    yield chunk;
  }
}

async function readText(body: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > TABLE_LIMIT_BYTES) throw new RunError("proof-format", "md5hashes.csv is too large");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function pick(row: WireRow, columns: readonly string[]): Row {
  return Object.fromEntries(columns.map((column) => [column, wireValue(column, row[column])]));
}

async function* one<T>(value: T): AsyncGenerator<T> {
  yield value;
}

async function* many<T>(values: readonly T[]): AsyncGenerator<T> {
  yield* values;
}
