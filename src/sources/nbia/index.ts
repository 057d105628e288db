/** The Cancer Imaging Archive and other NBIA v4 servers as a Source. */
import { RunError } from "../../errors.ts";
import { mapOrdered } from "../../lib/concurrent.ts";
import type { Context } from "../../lib/context.ts";
import type { Digest } from "../../lib/digest.ts";
import { isUid } from "../../model/address.ts";
import { parseDicomHeader, readSopInstanceUid } from "../../model/dicom.ts";
import type { Finding } from "../../model/finding.ts";
import type { Item, Row, Value } from "../../model/item.ts";
import type { Query } from "../../model/query.ts";
import { formatAddress } from "../../model/selection.ts";
import type {
  Arrived,
  Capabilities,
  Citation,
  Companion,
  Delivery,
  FetchOptions,
  ForeignFiles,
  HeldItem,
  ListOptions,
  Offers,
  Source,
  SourceContext,
  SourceOptions,
} from "../source.ts";
import { NbiaApi, type WireRow } from "./api.ts";
import { companions } from "./companions.ts";
import { deliver } from "./delivery.ts";
import { diagnose } from "./diagnose.ts";
import { nbiaForeign } from "./foreign.ts";
import { NbiaListing } from "./listing.ts";
import { LAYOUTS, SERIES_COLUMNS, seriesLabels, seriesUidOf, sopOf, wireValue } from "./map.ts";
import { listDownloads } from "./pages.ts";
import { PagesApi } from "./pages-api.ts";
import { DOWNLOAD_COLUMNS, DOWNLOAD_SUMMARY } from "./pages-map.ts";
import { LEVEL_COLUMNS, parts, places, tags } from "./questions.ts";
import { resolveQuery } from "./resolve.ts";
import { API_VERSIONS, type ApiVersion } from "./wire/dialect.ts";

const CAPABILITIES: Capabilities = {
  levels: ["collection", "patient", "study", "series", "instance"],
  itemLevel: "series",
  foldedFields: ["modality", "body-part", "manufacturer"],
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
    "shared-list",
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
    licence: "LicenseName",
    doi: "DataDescriptionURI",
  },
  levelColumns: LEVEL_COLUMNS,
  patientFields: { sex: "PatientSex", species: "SpeciesDescription", "ethnic-group": "EthnicGroup" },
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

const VOUCH_JOBS = 4;

export function createNbiaSource(options: SourceOptions): Source {
  return new NbiaSource(options);
}

class NbiaSource implements Source {
  readonly archive: string;
  readonly kind = "nbia";
  readonly capabilities: Capabilities;
  readonly foreign: ForeignFiles;
  readonly manifestServer?: string;
  readonly #api: NbiaApi;
  /** Without kept replies: what proves data is asked anew. */
  readonly #fresh: NbiaApi;
  readonly #listing: NbiaListing;
  readonly #settings: SourceOptions["settings"];
  readonly #pages: PagesApi | null;

  constructor(options: SourceOptions) {
    this.archive = options.archive;
    const { http, archive, url, redactor, replies, secrets, settings } = options;
    const version = (settings.api ?? "v4") as ApiVersion;
    if (!API_VERSIONS.includes(version))
      throw new RunError("usage", `the archive ${archive}: api is one of ${API_VERSIONS.join(", ")}`);
    if (settings.resource !== undefined && version !== "v3")
      throw new RunError("usage", `the archive ${archive}: only api = "v3" has resources`);
    const resource = settings.resource ?? "TCIA";
    if (!/^\w+$/u.test(resource))
      throw new RunError("usage", `the archive ${archive}: a resource is one word, e.g. TCIA`);
    this.#settings = settings;
    const api = { http, archive, url, version, resource, redactor, credentials: secrets };
    this.#fresh = new NbiaApi(api);
    this.#api = replies ? new NbiaApi({ ...api, replies }) : this.#fresh;
    this.capabilities = this.#api.digests ? CAPABILITIES : { ...CAPABILITIES, digestless: true };
    this.#listing = new NbiaListing(this.#api, archive);
    this.foreign = nbiaForeign(this.#fresh);
    const { pages } = options.settings;
    this.#pages = pages === undefined ? null : new PagesApi(http, archive, pages);
    // DataRetrieverCLI.java goes the other way: it replaces the end of the servlet's address by that of the API.
    const prefix = /^(.*\/)nbia-api(\/|$)/u.exec(url)?.[1];
    if (prefix !== undefined) this.manifestServer = `${prefix}nbia-download/servlet/DownloadServlet`;
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
      for await (const { name, patients } of this.#collections(context))
        yield { Collection: name, Patients: patients, address: at(name) };
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

  places(level: string, path: readonly string[], context: SourceContext): AsyncIterable<Row> {
    return places(this.#api, level, path, context);
  }

  parts(item: Item, context: SourceContext): AsyncIterable<Row> {
    return parts(this.#api, item, context);
  }

  tags(item: Item, context: SourceContext): AsyncIterable<Row> {
    return tags(this.#api, item, context);
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
    if (
      !endpoint ||
      !this.#api.serves(endpoint.path, "counts") ||
      (field === "collection" && collections.length > 0)
    )
      return null;
    const api = this.#api;
    const parameters = collections[0] === undefined ? {} : { Collection: collections[0] };
    return (async function* () {
      for await (const row of api.counts(endpoint.path, parameters, context)) {
        yield { value: wireValue(endpoint.column, row[endpoint.column]), count: Number(row.Count) };
      }
    })();
  }

  downloads(query: Query, context: SourceContext): Offers {
    if (this.#pages === null) {
      throw new RunError("usage", `it is not configured where the collection pages of ${this.archive} are`, {
        hint: `put pages = "https://HOST/api" below [archives.${this.archive}] in the configuration`,
      });
    }
    const rows = listDownloads(this.#pages, this.archive, query, context);
    return { columns: DOWNLOAD_COLUMNS, summaryColumns: DOWNLOAD_SUMMARY, rows };
  }

  list(query: Query, options: ListOptions, context: SourceContext): AsyncIterable<Item> {
    return this.#listing.list(query, options, context);
  }

  lookup(paths: AsyncIterable<readonly string[]>, context: SourceContext): AsyncIterable<Item> {
    return this.#listing.lookup(paths, context);
  }

  async *fetch(items: readonly Item[], options: FetchOptions, context: Context): AsyncIterable<Delivery> {
    for (const item of items) yield deliver(this.#fresh, item, options, context);
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
      return [file.name, `md5:${await this.#fresh.md5OfImage(sop, context)}`];
    };
    for await (const [name, digest] of mapOrdered(many(arrived), VOUCH_JOBS, each)) digests.set(name, digest);
    return digests;
  }

  /** See `Source.inspect`: each file is DICOM, of this series (or this image), and comes once. */
  async inspect(item: Item, arrived: readonly Arrived[]): Promise<string> {
    const series = seriesUidOf(item);
    const seen = new Set<string>();
    for (const file of arrived) {
      const header = parseDicomHeader(await file.head());
      const sop = header?.sopInstanceUid ?? null;
      if (!header || sop === null) throw new RunError("proof-format", `${file.name} is no DICOM file`);
      // A head that ends before the series is named has said nothing against it.
      const other = header.seriesInstanceUid === null ? header.complete : header.seriesInstanceUid !== series;
      if (other || (sopOf(item) ?? sop) !== sop)
        throw new RunError("proof-format", `${file.name} is of another series or image than was asked for`);
      if (seen.has(sop)) throw new RunError("proof-format", `the image ${sop} came twice`);
      seen.add(sop);
    }
    return "dicom";
  }

  async witness(item: Item, arrived: readonly Arrived[], context: SourceContext): Promise<boolean> {
    const listed = new Set<string>();
    for await (const row of this.#fresh.rows(
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

  diagnose(context: SourceContext): AsyncIterable<Finding> {
    return diagnose(this, this.#api.tokens, this.#settings, context);
  }

  logOut(context: Context): Promise<boolean> {
    return this.#api.tokens.logOut(context);
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

  /** Collections with their patients. Versions without counts are asked for all patients. */
  async *#collections(context: SourceContext): AsyncGenerator<{ name: string; patients: number }> {
    if (this.#api.serves(COLLECTION_COUNTS, "counts")) {
      for await (const row of this.#api.counts(COLLECTION_COUNTS, {}, context)) {
        const name = String(row.Collection ?? "");
        if (name !== "") yield { name, patients: Number(row.Count) };
      }
      return;
    }
    const patients = new Map<string, Set<string>>();
    for await (const row of this.#api.rows("getPatient", {}, context)) {
      const name = String(row.Collection ?? "");
      if (name !== "") patients.set(name, (patients.get(name) ?? new Set()).add(String(row.PatientId)));
    }
    const names = [...patients.keys()].sort();
    for (const name of names) yield { name, patients: patients.get(name)?.size ?? 0 };
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
}

const COLLECTION_COUNTS = "getCollectionValuesAndCounts";

const COUNTING: Readonly<Record<string, { path: string; column: string }>> = {
  collection: { path: COLLECTION_COUNTS, column: "Collection" },
  modality: { path: "getModalityValuesAndCounts", column: "Modality" },
  "body-part": { path: "getBodyPartValuesAndCounts", column: "BodyPartExamined" },
  manufacturer: { path: "getManufacturerValuesAndCounts", column: "Manufacturer" },
};

async function* seriesRows(items: AsyncIterable<Item>): AsyncGenerator<Row> {
  for await (const item of items) {
    if (!item.unknown) yield { ...seriesLabels(item.labels), address: item.address };
  }
}

function pick(row: WireRow, columns: readonly string[]): Row {
  return Object.fromEntries(columns.map((column) => [column, wireValue(column, row[column])]));
}

async function* many<T>(values: readonly T[]): AsyncGenerator<T> {
  yield* values;
}
