/** Endpoints that list series and what is known of them. */
import type { SandboxSeries } from "../../../sandbox/data/dataset.ts";
import { databaseOrder } from "../../../sandbox/hash32.ts";
import type { Reply } from "../../../sandbox/stand-ins.ts";
import { parseDashDate, parseUpdatedDate } from "./dates.ts";
import { badRequest, formatRows, NOTHING, politely, portalRows, type Row, serverError } from "./format.ts";
import { inDatabaseOrder } from "./images.ts";
import * as tables from "./rows.ts";
import { SOP_CLASSES } from "./sop-classes.ts";
import { type ArchiveView, type Call, mapped, type NamedEndpoint, REQUIRED, SEARCHES, text } from "./view.ts";

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

export function* seriesEndpoints(view: ArchiveView): Iterable<NamedEndpoint> {
  yield [
    "getSeries",
    {
      apis: SEARCHES,
      verb: "GET",
      serves: "rows",
      allowed: [...SERIES_FILTERS, "format"],
      run: (call) => {
        const { columns, row } = call.api === "v4" ? tables.SERIES_V4 : tables.SERIES_V1;
        const found = view.series(call, view.filter(call, SERIES_FILTERS));
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
        const found = view.series(call, (series) => series.submittedAt > from);
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
        const series = view.find(call, uid);
        // Whoever may see a series may see what is known of it (V2_getSeriesMetaData.java, authorizedCollections).
        if (series === undefined) return { status: 204 };
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
          const found = listed(view, call, lists);
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
        const series = call.api === "v4" ? view.find(call, uid) : view.world.dataset.find(uid);
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
        const series = call.api === "v4" ? view.world.dataset.find(uid) : view.find(call, uid);
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
        const demo = call.user === "demo" || call.query("userName") === view.world.user;
        const denied = list.split(",").filter((uid) => {
          const series = view.world.dataset.find(uid.trim());
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
          view.series(call, (series) => series.access === "public"),
          5,
        );
        // The historic service gave it in every format, NBIA's own in one.
        return formatRows(columns, mapped(found, row), call.historic ? call.query("format") : "JSON");
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
      run: (call) => descriptions(view, call),
    },
  ];
  yield [
    "getCollectionOrSeriesForDOI",
    {
      apis: ["v4", "advanced"],
      verb: "POST",
      serves: "rows",
      allowed: ["DOI", "CollectionOrSeries"],
      run: (call) => ofDoi(view, call),
    },
  ];
  yield ["getUserAgreementTxt", { apis: ["v1"], verb: "GET", serves: "page", run: () => text("") }];
  yield [
    "getAllSOPClassDefinition",
    {
      apis: ["v1"],
      verb: "GET",
      serves: "page",
      // V1_getAllSOPClassDefinition.java: a file of Java properties.
      run: () => ({
        status: 200,
        headers: {
          "Content-Type": "application/octet-stream",
          "Content-Disposition": 'attachment; filename="UIDNames.properties"',
        },
        body: SOP_CLASSES.map(([uid, name]) => `${uid}=${name}\n`).join(""),
      }),
    },
  ];
}

async function descriptions(view: ArchiveView, call: Call): Promise<Reply> {
  const wanted = call.query("collectionName")?.toUpperCase();
  /** The newest submission of each. */
  const names = new Map<string, string>();
  for await (const { collection, submittedAt } of view.series(call, () => true)) {
    if (submittedAt > (names.get(collection) ?? "")) names.set(collection, submittedAt);
  }
  const rows: Row[] = [];
  const v4 = call.api === "v4";
  for (const [index, collection] of [...names.keys()].sort().entries()) {
    if (wanted !== undefined && collection.toUpperCase() !== wanted) continue;
    const found = view.world.dataset.collectionDescription(collection);
    if (found === undefined) continue;
    const uri = found.doi === null ? null : `https://doi.org/${found.doi}`;
    rows.push(
      v4
        ? [found.html, index + 1, collection, uri]
        : [found.html, index + 1, millis(names.get(collection)!), collection, null, null, uri],
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
  return portalRows(columns, rows);
}

/**
 * Collections, or series, of a data set's address; of all without one (restAPI/v4/GetCollectionOrSeriesFromDOI.java,
 * GeneralSeriesDAOImpl.java getCollectionOrSeriesForDOI_v4; the column's name is misspelt in dto/DOIDTO.java).
 */
async function ofDoi(view: ArchiveView, call: Call): Promise<Reply> {
  const doi = call.request.form.get("DOI") ?? "";
  const bySeries = call.request.form.get("CollectionOrSeries")?.toLowerCase() === "series";
  const rows = new Map<string, Record<string, string | number>>();
  const found = view.series(call, (series) => doi === "" || series.dataDescriptionUri === doi);
  for await (const { collection, seriesInstanceUid, thirdPartyAnalysis } of found) {
    const row = {
      collection,
      ...(bySeries ? { seriesInstanceUID: seriesInstanceUid } : {}),
      ...(thirdPartyAnalysis === null ? {} : { thirdPartyAnanlysis: thirdPartyAnalysis }),
      ...(call.api === "v4" ? { authorized: 1 } : {}),
    };
    rows.set(JSON.stringify(row), row);
  }
  return {
    status: 200,
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify([...rows.values()]),
  };
}

/** A date as Jackson writes it: milliseconds since 1970. */
const millis = (timestamp: string): number => Date.parse(`${timestamp.replace(" ", "T")}Z`);

/** The visible series of a form list, each once, in the order of the database and not of the request. */
async function* listed(
  view: ArchiveView,
  call: Call,
  lists: readonly string[],
): AsyncIterable<SandboxSeries> {
  const uids = new Set(lists.flatMap((list) => list.split(",")));
  for await (const uid of politely(databaseOrder(uids, (uid) => uid))) {
    const series = view.find(call, uid);
    // The query joins the images: a series without any gives no row.
    if (series !== undefined && series.instances().length > 0) yield series;
  }
}

/** The one shared list of the stand-in: its first five public series. */
const SHARED_LIST = "sandbox";

/** Wordings as in the server's source, odd commas and blanks included. */

async function* limited<T>(things: AsyncIterable<T>, count: number): AsyncIterable<T> {
  let left = count;
  for await (const thing of things) {
    if (left-- <= 0) return;
    yield thing;
  }
}
