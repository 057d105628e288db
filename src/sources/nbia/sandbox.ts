/**
 * The NBIA stand-in: what TCIA's servers answer, by the documented protocol and the server's source
 * (CBIIT/NBIA-TCIA software/nbia-api/src/gov/nih/nci/nbia/restAPI/, official v4 OpenAPI nbia-api.yaml, TCIA wiki).
 * It shares no code with the client of this archive.
 */
import { createHash } from "node:crypto";
import type { SandboxInstance, SandboxSeries } from "../../sandbox/data/dataset.ts";
import type { Fault } from "../../sandbox/faults.ts";
import { databaseOrder } from "../../sandbox/hash32.ts";
import type { Reply, Route, SandboxRequest, Serves, StandIn, World } from "../../sandbox/stand-ins.ts";
import { parseDashDate, parseSlashDate, parseUpdatedDate } from "./sandbox/dates.ts";
import {
  badRequest,
  type Cell,
  formatRows,
  jsonString,
  NOTHING,
  politely,
  type Row,
  serverError,
} from "./sandbox/format.ts";
import {
  inDatabaseOrder,
  otherDigest,
  singleImageReply,
  type ZipShape,
  zipOf,
  zipReply,
} from "./sandbox/images.ts";
import { KeptZips } from "./sandbox/kept-zips.ts";
import { TokenService, type User } from "./sandbox/oauth.ts";
import * as tables from "./sandbox/rows.ts";

/** The second host holds only this collection, and the first one lacks it. */
const NLST = "NLST";

type Api = "v1" | "v2" | "v4" | "advanced";

/** One request, understood. */
interface Call {
  readonly request: SandboxRequest;
  readonly api: Api;
  readonly host: "main" | "nlst";
  readonly user: User;
  readonly fault: Fault | undefined;
  /** First value of a query parameter, null when absent. */
  query(name: string): string | null;
}

interface Endpoint {
  readonly apis: readonly Api[];
  readonly verb: "GET" | "POST";
  readonly serves: Serves;
  /** v4 refuses every other parameter; absent: no check. */
  readonly allowed?: readonly string[];
  run(call: Call): Reply | Promise<Reply>;
}

const SEARCHES: readonly Api[] = ["v1", "v2", "v4"];
const SERIES_FILTERS = [
  "Collection",
  "PatientID",
  "StudyInstanceUID",
  "Modality",
  "BodyPartExamined",
  "ManufacturerModelName",
  "Manufacturer",
  "SeriesInstanceUID",
] as const;

export async function openNbiaStandIn(world: World): Promise<StandIn> {
  return new NbiaStandIn(world);
}

class NbiaStandIn implements StandIn {
  readonly kind = "nbia";
  readonly #world: World;
  readonly #tokens: TokenService;
  readonly #zips = new KeptZips();
  readonly #endpoints = new Map<string, Endpoint>();

  constructor(world: World) {
    this.#world = world;
    this.#tokens = new TokenService(world);
    for (const [name, endpoint] of this.#table()) {
      for (const api of endpoint.apis) this.#endpoints.set(`${api}/${name}`, endpoint);
    }
  }

  archives(origin: string) {
    return [
      { name: "tcia", kind: this.kind, url: `${origin}/nbia-api` },
      { name: "nlst", kind: this.kind, url: `${origin}/nlst/nbia-api` },
    ];
  }

  reset(): void {
    this.#tokens.reset();
    this.#zips.clear();
  }

  async precompute(uids: Iterable<string>): Promise<void> {
    const shape = { license: true, newFileNames: true, hashes: true };
    for (const uid of uids) {
      const series = this.#world.dataset.find(uid);
      if (series !== undefined) await this.#keptZip(series, shape);
    }
  }

  route(request: SandboxRequest): Route | undefined {
    // The servlet is mapped twice, with and without `services` (software/nbia-api/resources/keycloak/web.xml).
    const match = /^(\/nlst)?\/nbia-api(?:\/services)?\/(.*?)\/?$/.exec(request.path);
    if (match === null) return undefined;
    const host = match[1] === undefined ? "main" : "nlst";
    const rest = match[2]!;
    if (request.method === "OPTIONS") return page(() => PREFLIGHT);
    const verb = request.method === "HEAD" ? "GET" : request.method;
    const wrongVerb = page(() => serverError("HTTP 405 Method Not Allowed"));
    switch (rest) {
      case "oauth/token":
        return verb === "POST" ? { serves: "token", answer: (r) => this.#tokens.token(r) } : wrongVerb;
      case "logout":
        return page((r) => this.#tokens.logout(r));
      case "up":
        return page(() => text("up"));
      case "hostName":
        return page(() => text("sandbox"));
      case "v1/status":
        return page(() => ({
          status: 200,
          headers: { "Content-Type": "text/html" },
          body: "<p>sandbox</p>",
        }));
    }
    const [, version, name = ""] = /^(?:(v[124])\/)?(.*)$/.exec(rest) ?? [];
    const api = (version ?? "advanced") as Api;
    const endpoint = this.#endpoints.get(`${api}/${name}`);
    // No mapper knows Jersey's own exceptions: the catch-all turns them into 500.
    if (endpoint === undefined) return page(() => serverError("HTTP 404 Not Found"));
    if (verb !== endpoint.verb) return wrongVerb;
    return {
      serves: endpoint.serves,
      answer: (r, fault) => this.#answer(endpoint, { request: r, api, host, fault }),
    };
  }

  async #answer(
    endpoint: Endpoint,
    { request, api, host, fault }: Omit<Call, "user" | "query">,
  ): Promise<Reply> {
    const authorization = request.headers.authorization;
    let user: User = "guest";
    if (api !== "v1") {
      if (authorization === undefined && api !== "v4") return serverError(null);
      const known = authorization === undefined ? "guest" : this.#tokens.userOf(authorization);
      if (known === undefined) return { status: 401 };
      user = known;
    }
    if (api === "v4" && endpoint.allowed !== undefined) {
      const refusal = unknownParameter(request, endpoint.verb, endpoint.allowed);
      if (refusal !== undefined) return refusal;
    }
    return endpoint.run({ request, api, host, user, fault, query: (name) => request.query.get(name) });
  }

  // ---- the data as a caller sees them

  #sees(call: Call, series: SandboxSeries): boolean {
    return (
      (series.access === "public" || call.user === "demo") &&
      (series.collection === NLST) === (call.host === "nlst")
    );
  }

  #find(call: Call, uid: string): SandboxSeries | undefined {
    const series = this.#world.dataset.find(uid);
    return series !== undefined && this.#sees(call, series) ? series : undefined;
  }

  async *#series(call: Call, wanted: (series: SandboxSeries) => boolean): AsyncIterable<SandboxSeries> {
    const uid = call.query("SeriesInstanceUID");
    if (uid !== null) {
      const series = this.#find(call, uid);
      if (series !== undefined && wanted(series)) yield series;
      return;
    }
    for await (const series of politely(this.#world.dataset.series())) {
      if (this.#sees(call, series) && wanted(series)) yield series;
    }
  }

  /** All filters of this call that are query parameters by their v1 and v4 names. Compared without case. */
  #filter(call: Call, names: readonly string[]): (series: SandboxSeries) => boolean {
    const tests: ((series: SandboxSeries) => boolean)[] = [];
    for (const name of names) {
      const wanted = call.query(name);
      const cell = FILTERS[name];
      if (wanted === null || cell === undefined) continue;
      const exact = name.endsWith("UID") || (name === "PatientId" && call.api === "v4");
      const upper = wanted.toUpperCase();
      tests.push((series) => {
        const value = cell(series);
        return value !== null && (exact ? value === wanted : value.toUpperCase() === upper);
      });
    }
    return (series) => tests.every((test) => test(series));
  }

  // ---- endpoints

  *#table(): Iterable<[string, Endpoint]> {
    yield* this.#valueEndpoints();
    yield* this.#patientEndpoints();
    yield* this.#seriesEndpoints();
    yield* this.#imageEndpoints();
  }

  *#valueEndpoints(): Iterable<[string, Endpoint]> {
    const values = [
      ["Collection", []],
      ["Modality", ["Collection", "BodyPartExamined"]],
      ["BodyPart", ["Collection", "Modality"]],
      ["Manufacturer", ["Collection", "Modality", "BodyPartExamined"]],
    ] as const;
    for (const [what, filters] of values) {
      const column = what === "BodyPart" ? "BodyPartExamined" : what;
      yield [
        `get${what}Values`,
        {
          apis: SEARCHES,
          verb: "GET",
          serves: "rows",
          allowed: [...filters, "format"],
          run: async (call) => {
            const patients = await this.#patientsByValue(call, column, filters);
            // A null of the database comes first and has no name; v4 sorts what v1 leaves as it is.
            const listed = [...patients.keys()].filter((value) => value !== null);
            const sorted = call.api === "v4" ? listed.sort() : databaseOrder(listed, (value) => value);
            const rows: Row[] = sorted.map((value) => [value]);
            if (patients.has(null)) rows.unshift([null]);
            return formatRows([column], rows, call.query("format"));
          },
        },
      ];
      yield [
        `get${what}ValuesAndCounts`,
        {
          apis: ["v4", "advanced"],
          verb: "GET",
          serves: "rows",
          ...(what === "Collection" ? {} : { allowed: filters }),
          run: async (call) => this.#counts(call, column, await this.#patientsByValue(call, column, filters)),
        },
      ];
    }
    yield [
      "getSpeciesValuesAndCounts",
      {
        apis: ["v4", "advanced"],
        verb: "GET",
        serves: "rows",
        run: async (call) =>
          this.#counts(call, "SpeciesDescription", await this.#patientsByValue(call, "Species", [])),
      },
    ];
  }

  /** Patients having each value of a column, restricted by the filters of the call. */
  async #patientsByValue(
    call: Call,
    column: string,
    filters: readonly string[],
  ): Promise<Map<string | null, Set<string>>> {
    const cell = FILTERS[column]!;
    const upper = call.api === "v4" && column !== "Collection" && column !== "Species";
    const patients = new Map<string | null, Set<string>>();
    for await (const series of this.#series(call, this.#filter(call, filters))) {
      const raw = cell(series);
      const value = upper ? (raw?.toUpperCase() ?? null) : raw;
      let known = patients.get(value);
      if (known === undefined) {
        known = new Set();
        patients.set(value, known);
      }
      known.add(patientKey(series));
    }
    return patients;
  }

  #counts(call: Call, column: string, patients: Map<string | null, Set<string>>): Reply {
    const rows = [...patients].map(([value, { size }]) => ({ value, size }));
    rows.sort((a, b) => ((a.value ?? "") < (b.value ?? "") ? -1 : 1));
    const objects = rows.map(({ value, size }) => {
      if (call.api === "advanced") {
        const criteria = value === null ? "" : `"criteria":${jsonString(value)},`;
        return `{${criteria}"count":"${size}"}`;
      }
      const name = value === null ? "" : `${jsonString(column)}:${jsonString(value)},`;
      return `{${name}"Count":${size},"Authorized":1}`;
    });
    return { status: 200, headers: JSON_TYPE, body: `[${objects.join(",")}]` };
  }

  *#patientEndpoints(): Iterable<[string, Endpoint]> {
    const patients = (call: Call) => (call.api === "v4" ? tables.PATIENT_V4 : tables.PATIENT_V1);
    const studies = (call: Call) => (call.api === "v4" ? tables.STUDY_V4 : tables.STUDY_V1);
    const listPatients = (call: Call, wanted: (series: SandboxSeries) => boolean) => {
      const { columns, row } = patients(call);
      return formatRows(
        columns,
        mapped(firstOfPatients(this.#series(call, wanted)), row),
        call.query("format"),
      );
    };
    const listStudies = async (call: Call, wanted: (series: SandboxSeries) => boolean) => {
      const found = new Map<string, tables.Study>();
      for await (const series of this.#series(call, wanted)) {
        const study = found.get(series.studyInstanceUid);
        if (study === undefined) found.set(series.studyInstanceUid, { first: series, seriesCount: 1 });
        else study.seriesCount++;
      }
      const { columns, row } = studies(call);
      return formatRows(columns, [...found.values()].map(row), call.query("format"));
    };
    /** The lower bound of the New… endpoints, or the refusal. */
    const since = (call: Call): string | Reply => {
      const given = call.query(call.api === "v4" ? "fromDate" : "Date");
      if (call.query("Collection") === null || given === null) return badRequest(REQUIRED.newItems);
      return (
        (call.api === "v4" ? parseDashDate : parseSlashDate)(given) ??
        serverError(`Unparseable date: "${given}"`)
      );
    };

    const patientFilters = ["Collection", "PatientId"];
    yield [
      "getPatient",
      {
        apis: SEARCHES,
        verb: "GET",
        serves: "rows",
        allowed: [...patientFilters, "format"],
        run: (call) => listPatients(call, this.#filter(call, patientFilters)),
      },
    ];
    const studyFilters = ["Collection", "PatientID", "StudyInstanceUID"];
    yield [
      "getPatientStudy",
      {
        apis: SEARCHES,
        verb: "GET",
        serves: "rows",
        allowed: [...studyFilters, "format"],
        run: (call) => listStudies(call, this.#filter(call, studyFilters)),
      },
    ];
    yield [
      "getPatientByCollectionAndModality",
      {
        apis: SEARCHES,
        verb: "GET",
        serves: "rows",
        allowed: ["Collection", "Modality", "format"],
        run: (call) => {
          if (call.query("Collection") === null || call.query("Modality") === null) {
            return badRequest(REQUIRED.collectionAndModality);
          }
          const found = firstOfPatients(this.#series(call, this.#filter(call, ["Collection", "Modality"])));
          const v4 = call.api === "v4";
          const columns = v4 ? ["PatientId", "Authorized"] : ["PatientId"];
          const row = ({ patientId }: SandboxSeries): Row => (v4 ? [patientId, 1] : [patientId]);
          return formatRows(columns, mapped(found, row), call.query("format"));
        },
      },
    ];
    yield [
      "NewPatientsInCollection",
      {
        apis: SEARCHES,
        verb: "GET",
        serves: "rows",
        allowed: ["Collection", "fromDate", "format"],
        run: (call) => {
          const from = since(call);
          if (typeof from !== "string") return from;
          const inCollection = this.#filter(call, ["Collection"]);
          return listPatients(call, (series) => inCollection(series) && series.submittedAt >= from);
        },
      },
    ];
    yield [
      "NewStudiesInPatientCollection",
      {
        apis: SEARCHES,
        verb: "GET",
        serves: "rows",
        allowed: ["Collection", "fromDate", "PatientID", "format"],
        run: (call) => {
          const from = since(call);
          if (typeof from !== "string") return from;
          const inPatient = this.#filter(call, ["Collection", "PatientID"]);
          return listStudies(call, (series) => inPatient(series) && series.submittedAt >= from);
        },
      },
    ];
  }

  *#seriesEndpoints(): Iterable<[string, Endpoint]> {
    yield [
      "getSeries",
      {
        apis: SEARCHES,
        verb: "GET",
        serves: "rows",
        allowed: [...SERIES_FILTERS, "format"],
        run: (call) => {
          const { columns, row } = call.api === "v4" ? tables.SERIES_V4 : tables.SERIES_V1;
          const found = this.#series(call, this.#filter(call, SERIES_FILTERS));
          return formatRows(columns, mapped(found, row), call.query("format"));
        },
      },
    ];
    yield [
      "getUpdatedSeries",
      {
        apis: SEARCHES,
        verb: "GET",
        serves: "rows",
        allowed: ["fromDate", "format"],
        run: (call) => {
          const v4 = call.api === "v4";
          const given = call.query("fromDate") ?? (v4 ? "01-01-1900" : "01/01/1900");
          const from = (v4 ? parseDashDate : parseUpdatedDate)(given);
          if (from === undefined) return v4 ? serverError(`Unparseable date: "${given}"`) : NOTHING;
          const { columns, row } = v4 ? tables.SERIES_V4 : tables.UPDATED_SERIES_V1;
          const found = this.#series(call, (series) => series.submittedAt > from);
          return formatRows(columns, mapped(found, row), call.query("format"));
        },
      },
    ];
    yield [
      "getSeriesMetaData",
      {
        apis: ["v1", "v2"],
        verb: "GET",
        serves: "rows",
        run: (call) => {
          const uid = call.query("SeriesInstanceUID");
          if (uid === null) return badRequest(REQUIRED.series);
          const series = this.#find(call, uid);
          if (series === undefined || series.access !== "public") return { status: 204 };
          const { columns, row } = tables.METADATA_V1;
          return formatRows(columns, [row(series)], call.query("format"));
        },
      },
    ];
    for (const [name, api, table] of [
      ["getSeriesMetadata", "v4", tables.METADATA_V4],
      ["getSeriesMetadataCombined", "v4", tables.METADATA_V1],
      ["getSeriesMetadata2", "advanced", tables.METADATA_2],
      ["getSeriesMetadata3", "advanced", tables.METADATA_V4],
    ] as const) {
      yield [
        name,
        {
          apis: [api],
          verb: "POST",
          serves: "rows",
          run: (call) => {
            const lists = call.request.form.getAll("list");
            if (lists.every((list) => list === "")) return badRequest(REQUIRED.list);
            const found = this.#listed(call, lists);
            return formatRows(
              table.columns,
              mapped(found, table.row),
              call.request.form.get("format") ?? "CSV-DOWNLOAD",
            );
          },
        },
      ];
    }
    yield [
      "getSeriesSize",
      {
        apis: SEARCHES,
        verb: "GET",
        serves: "rows",
        allowed: ["SeriesInstanceUID", "format"],
        run: (call) => {
          const uid = call.query("SeriesInstanceUID");
          if (uid === null) return badRequest(REQUIRED.seriesNoComma);
          // v1 and v2 aggregate without grouping and without asking who may see it: always one row.
          const series = call.api === "v4" ? this.#find(call, uid) : this.#world.dataset.find(uid);
          const images = series?.instances() ?? [];
          if (images.length === 0 && call.api === "v4") return NOTHING;
          const bytes = images.reduce((sum, image) => sum + image.sizeBytes, 0);
          const row: Row = images.length === 0 ? [null, null] : [bytes, images.length];
          return formatRows(["TotalSizeInBytes", "ObjectCount"], [row], call.query("format"));
        },
      },
    ];
    yield [
      "getSOPInstanceUIDs",
      {
        apis: SEARCHES,
        verb: "GET",
        serves: "rows",
        allowed: ["SeriesInstanceUID", "format"],
        run: (call) => {
          const uid = call.query("SeriesInstanceUID");
          if (uid === null) return badRequest(REQUIRED.seriesNoComma);
          // v4 forgets to ask who may see it; the NLST host answers nothing (kirbyju/TCIA_Notebooks#33).
          const series = call.api === "v4" ? this.#world.dataset.find(uid) : this.#find(call, uid);
          if (series === undefined || call.host === "nlst") return NOTHING;
          const rows = inDatabaseOrder(series).map((image): Row => [image.sopInstanceUid]);
          return formatRows(["SOPInstanceUID"], rows, call.query("format"));
        },
      },
    ];
    yield [
      "getDeniedSeries",
      {
        apis: ["v1", "v4"],
        verb: "GET",
        serves: "rows",
        allowed: ["seriesList", "userName", "format"],
        run: (call) => {
          const list = call.query("seriesList");
          if (list === null) return badRequest(REQUIRED.seriesList);
          const demo = call.user === "demo" || call.query("userName") === this.#world.user;
          const denied = list.split(",").filter((uid) => {
            const series = this.#world.dataset.find(uid.trim());
            return series !== undefined && series.access === "restricted" && !demo;
          });
          if (denied.length === 0) return { status: 204 };
          return formatRows(
            ["SeriesInstanceUID"],
            denied.map((uid): Row => [uid]),
            call.query("format"),
          );
        },
      },
    ];
    yield [
      "getContentsByName",
      {
        apis: ["v1", "v2"],
        verb: "GET",
        serves: "rows",
        run: (call) => {
          const name = call.query("name");
          if (name === null) return badRequest("A parameter, name, is required for this API call.");
          if (name !== SHARED_LIST) return NOTHING;
          const { columns, row } = tables.CONTENTS_V1;
          const found = limited(
            this.#series(call, (series) => series.access === "public"),
            5,
          );
          return formatRows(columns, mapped(found, row), "JSON");
        },
      },
    ];
    yield [
      "getCollectionDescriptions",
      {
        apis: ["v4", "advanced"],
        verb: "GET",
        serves: "rows",
        allowed: ["collectionName"],
        run: (call) => this.#descriptions(call),
      },
    ];
    yield ["getUserAgreementTxt", { apis: ["v1"], verb: "GET", serves: "page", run: () => text("") }];
    yield [
      "getAllSOPClassDefinition",
      { apis: ["v1"], verb: "GET", serves: "page", run: () => text(SOP_CLASSES) },
    ];
  }

  async #descriptions(call: Call): Promise<Reply> {
    const wanted = call.query("collectionName")?.toUpperCase();
    const names = new Set<string>();
    for await (const { collection } of this.#series(call, () => true)) names.add(collection);
    const rows: Row[] = [];
    const v4 = call.api === "v4";
    for (const [index, collection] of [...names].sort().entries()) {
      if (wanted !== undefined && collection.toUpperCase() !== wanted) continue;
      const found = this.#world.dataset.collectionDescription(collection);
      if (found === undefined) continue;
      const uri = found.doi === null ? null : `https://doi.org/${found.doi}`;
      rows.push(
        v4
          ? [found.html, index + 1, collection, uri]
          : [found.html, index + 1, null, collection, null, null, uri],
      );
    }
    const columns = v4
      ? ["description", "id", "collectionName", "descriptionURI"]
      : [
          "description",
          "id",
          "collectionDescTimestamp",
          "collectionName",
          "userName",
          "licenseId",
          "descriptionURI",
        ];
    return formatRows(columns, rows, "JSON");
  }

  /** The visible series of a form list, each once, in the order of the database and not of the request. */
  async *#listed(call: Call, lists: readonly string[]): AsyncIterable<SandboxSeries> {
    const uids = new Set(lists.flatMap((list) => list.split(",")));
    for await (const uid of politely(databaseOrder(uids, (uid) => uid))) {
      const series = this.#find(call, uid);
      // The query joins the images: a series without any gives no row.
      if (series !== undefined && series.instances().length > 0) yield series;
    }
  }

  *#imageEndpoints(): Iterable<[string, Endpoint]> {
    const yes = (text: string | null, word: string) => text?.toLowerCase() === word;
    const zips: readonly [name: string, allowed: readonly string[], shape: (call: Call) => ZipShape][] = [
      [
        "getImage",
        ["SeriesInstanceUID", "NewFileNames", "IncludeMD5"],
        (call) => ({
          license: true,
          newFileNames: yes(call.query("NewFileNames"), "yes"),
          hashes: call.api === "v4" && yes(call.query("IncludeMD5"), "yes"),
        }),
      ],
      [
        "getImageWithMD5Hash",
        ["SeriesInstanceUID"],
        () => ({ license: false, newFileNames: false, hashes: true }),
      ],
      [
        "getDCMImage",
        ["SeriesInstanceUID", "IncludeAnnotation", "MD5Verification"],
        (call) => ({
          license: false,
          newFileNames: true,
          hashes: yes(call.query("MD5Verification"), "true"),
        }),
      ],
    ];
    for (const [name, allowed, shape] of zips) {
      yield [
        name,
        {
          apis: SEARCHES,
          verb: "GET",
          serves: "zip",
          allowed,
          run: async (call) => {
            const series = this.#requested(call);
            return "status" in series ? series : this.#zip(series, shape(call), call.fault);
          },
        },
      ];
    }
    yield [
      "getImageOther",
      {
        apis: ["v1", "v4"],
        verb: "GET",
        serves: "zip",
        allowed: ["SeriesInstanceUID"],
        run: (call) => {
          const series = this.#requested(call);
          if ("status" in series) return series;
          return zipReply(series.seriesInstanceUid, emptyZip());
        },
      },
    ];
    yield [
      "getSingleImage",
      {
        apis: SEARCHES,
        verb: "GET",
        serves: "file",
        allowed: ["SeriesInstanceUID", "SOPInstanceUID"],
        run: (call) => {
          const sop = call.query("SOPInstanceUID");
          if (sop === null || call.query("SeriesInstanceUID") === null)
            return badRequest(REQUIRED.singleImage);
          const series = this.#requested(call);
          if ("status" in series) return series;
          const image = series.instances().find(({ sopInstanceUid }) => sopInstanceUid === sop);
          if (image === undefined || call.host === "nlst") return serverError(null);
          return singleImageReply(image, call.fault);
        },
      },
    ];
    const digest = (parameter: string) => async (call: Call) => {
      const sop = call.query(parameter);
      if (sop === null) return badRequest(`A parameter, ${parameter}, is required for this API call.`);
      const image = await this.#findImage(call, sop);
      if (image === undefined) return serverError(null);
      const md5 = await image.md5();
      return text(call.fault?.kind === "wrong-md5" ? otherDigest(md5) : md5);
    };
    // The letter D is missing in the older name, and its parameter ends in a small d.
    yield [
      "getM5HashForImage",
      { apis: ["v1", "v2"], verb: "GET", serves: "digest", run: digest("SOPInstanceUid") },
    ];
    yield [
      "getMD5HashForImage",
      {
        apis: ["v4"],
        verb: "GET",
        serves: "digest",
        allowed: ["SOPInstanceUID"],
        run: digest("SOPInstanceUID"),
      },
    ];
    yield [
      "getMD5Hierarchy",
      {
        apis: ["v4", "advanced"],
        verb: "POST",
        serves: "digest",
        allowed: ["SeriesInstanceUID", "StudyInstanceUID", "PatientID", "Collection"],
        run: (call) => this.#hierarchyDigest(call),
      },
    ];
  }

  /** The series of an image endpoint, or the refusal: always 400, never 403 or 404. */
  #requested(call: Call): SandboxSeries | Reply {
    const uid = call.query("SeriesInstanceUID");
    if (uid === null) return badRequest(REQUIRED.series);
    const series = this.#find(call, uid);
    if (series !== undefined) return series;
    return badRequest(
      call.api === "v1"
        ? `Image with given SeriesInstanceUID,${uid}, is not in public domain.`
        : `The user has not been granted the access to image with given SeriesInstanceUID,${uid}. Please contact System Admin to resolve this issue.`,
    );
  }

  async #zip(series: SandboxSeries, shape: ZipShape, fault: Fault | undefined): Promise<Reply> {
    const keep = this.#world.precompute && fault === undefined;
    const body = keep ? await this.#keptZip(series, shape) : zipOf(series, shape, fault);
    return zipReply(series.seriesInstanceUid, body);
  }

  #keptZip(series: SandboxSeries, shape: ZipShape): Promise<AsyncIterable<Uint8Array>> {
    const key = [this.#world.dataset.version, series.seriesInstanceUid, ...Object.values(shape)].join(" ");
    return this.#zips.get(key, () => zipOf(series, shape));
  }

  async #findImage(call: Call, sop: string): Promise<SandboxInstance | undefined> {
    for await (const series of politely(this.#world.dataset.series(), 64)) {
      if (!this.#sees(call, series)) continue;
      const image = series.instances().find(({ sopInstanceUid }) => sopInstanceUid === sop);
      if (image !== undefined) return image;
    }
    return undefined;
  }

  /** MD5 over the sorted, concatenated MD5s of the level below, up to the collection (restUtil/MD5Util.java). */
  async #hierarchyDigest(call: Call): Promise<Reply> {
    const form = call.request.form;
    const level = ["SeriesInstanceUID", "StudyInstanceUID", "PatientID", "Collection"].find((name) =>
      form.has(name),
    );
    if (level === undefined) return badRequest("A parameter is required for this API call.");
    const wanted = form.get(level)!;
    const cell = FILTERS[level]!;
    const levels = [
      (s: SandboxSeries) => s.studyInstanceUid,
      (s: SandboxSeries) => s.patientId,
      (s: SandboxSeries) => s.collection,
    ];
    let digests: { series: SandboxSeries; md5: string }[] = [];
    for await (const series of politely(this.#world.dataset.series(), 64)) {
      if (!this.#sees(call, series) || cell(series) !== wanted) continue;
      const images = await Promise.all(series.instances().map((image) => image.md5()));
      digests.push({ series, md5: combined(images) });
    }
    if (digests.length === 0) return NOTHING;
    const depth = ["SeriesInstanceUID", "StudyInstanceUID", "PatientID", "Collection"].indexOf(level);
    for (const parent of levels.slice(0, depth)) {
      const groups = new Map<string, typeof digests>();
      for (const digest of digests) {
        const key = parent(digest.series);
        groups.set(key, [...(groups.get(key) ?? []), digest]);
      }
      digests = [...groups.values()].map((group) => ({
        series: group[0]!.series,
        md5: combined(group.map(({ md5 }) => md5)),
      }));
    }
    return text(digests[0]!.md5);
  }
}

const combined = (digests: readonly string[]) =>
  createHash("md5").update(digests.toSorted().join("")).digest("hex");

const JSON_TYPE = { "Content-Type": "application/json" };

const PREFLIGHT: Reply = {
  status: 200,
  headers: {
    "Access-Control-Allow-Methods": "GET,POST,HEAD,OPTIONS,PUT",
    "Access-Control-Allow-Headers": "Content-Type,X-Requested-With,accept,Origin",
  },
};

/** The one shared list of the stand-in: its first five public series. */
const SHARED_LIST = "sandbox";

/** Wordings as in the server's source, odd commas and blanks included. */
const REQUIRED = {
  series: "A parameter, SeriesInstanceUID, is required for this API call.",
  seriesNoComma: "A parameter, SeriesInstanceUID is required for this API call.",
  newItems: "A parameter, Collection and Date are required for this API call.",
  collectionAndModality: "A parameter, Collection and Modality, are required for this API call.",
  singleImage: "A parameter, SeriesInstanceUID and SOPInstanceUID, are required for this API call.",
  seriesList: "A parameter, seriesList,  a list of SeriesInstanceUID is required for this API call.",
  list: "A form parameter, list, containing at least one SeriesInstanceUID is required.",
} as const;

const FILTERS: Readonly<Record<string, (series: SandboxSeries) => string | null>> = {
  Collection: (s) => s.collection,
  PatientID: (s) => s.patientId,
  PatientId: (s) => s.patientId,
  StudyInstanceUID: (s) => s.studyInstanceUid,
  SeriesInstanceUID: (s) => s.seriesInstanceUid,
  Modality: (s) => s.modality,
  BodyPartExamined: (s) => s.bodyPartExamined,
  Manufacturer: (s) => s.manufacturer,
  ManufacturerModelName: (s) => s.manufacturerModelName,
  Species: (s) => s.species?.description ?? "Homo sapiens",
};

const SOP_CLASSES = [
  "1.2.840.10008.5.1.4.1.1.1=Computed Radiography Image Storage",
  "1.2.840.10008.5.1.4.1.1.1.2=Digital Mammography X-Ray Image Storage - For Presentation",
  "1.2.840.10008.5.1.4.1.1.2=CT Image Storage",
  "1.2.840.10008.5.1.4.1.1.4=MR Image Storage",
  "1.2.840.10008.5.1.4.1.1.7=Secondary Capture Image Storage",
  "1.2.840.10008.5.1.4.1.1.66.4=Segmentation Storage",
  "1.2.840.10008.5.1.4.1.1.88.22=Enhanced SR Storage",
  "1.2.840.10008.5.1.4.1.1.128=Positron Emission Tomography Image Storage",
  "1.2.840.10008.5.1.4.1.1.481.3=RT Structure Set Storage",
  "",
].join("\n");

function unknownParameter(
  request: SandboxRequest,
  verb: Endpoint["verb"],
  allowed: readonly string[],
): Reply | undefined {
  const given = verb === "GET" ? request.query.keys() : request.form.keys();
  for (const name of given) {
    if (allowed.includes(name)) continue;
    const kind = verb === "GET" ? "query" : "form";
    // The order of a Java set is that of no list.
    const listed = databaseOrder(allowed, (word) => word).join(", ");
    return badRequest(`Invalid ${kind} parameter: '${name}'. Allowed parameters are: [${listed}]`);
  }
  return undefined;
}

function page(answer: (request: SandboxRequest) => Reply): Route {
  return { serves: "page", answer };
}

function text(body: string): Reply {
  return { status: 200, headers: { "Content-Type": "text/plain" }, body };
}

const patientKey = (series: SandboxSeries) => `${series.collection}\n${series.patientId}`;

async function* firstOfPatients(found: AsyncIterable<SandboxSeries>): AsyncIterable<SandboxSeries> {
  const known = new Set<string>();
  for await (const series of found) {
    const key = patientKey(series);
    if (known.has(key)) continue;
    known.add(key);
    yield series;
  }
}

async function* mapped<T>(things: AsyncIterable<T>, row: (thing: T) => readonly Cell[]): AsyncIterable<Row> {
  for await (const thing of things) yield row(thing);
}

async function* limited<T>(things: AsyncIterable<T>, count: number): AsyncIterable<T> {
  let left = count;
  for await (const thing of things) {
    if (left-- <= 0) return;
    yield thing;
  }
}

/** End record of a zip without entries (PKWARE APPNOTE.TXT 4.3.16). */
async function* emptyZip(): AsyncIterable<Uint8Array> {
  yield Buffer.from("504b0506".padEnd(44, "0"), "hex");
}
