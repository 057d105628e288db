/**
 * Stand-in of the collection manager behind cancerimagingarchive.net (WordPress) and of the files that its pages offer.
 *
 * Facts: kirbyju/tcia_utils src/tcia_utils/wordpress.py (v1: resources, `per_page`, `_fields`, `include`, `search`, `Link`),
 * kirbyju/tcia-query-skill scripts/tcia_snapshot.py (v2: envelope, `v=1`, keys with blanks, empty values), WordPress REST
 * API handbook (at most 100 a page, 400 behind the last page). What each page offers is made up, the forms are not.
 */
import { createHash } from "node:crypto";
import { type ZipInput, zipStream } from "../../../lib/zip-writer.ts";
import type { SandboxSeries } from "../../../sandbox/data/dataset.ts";
import { filesBelow } from "../../../sandbox/data/packages.ts";
import { type PlainFile, plainFileReply } from "../../../sandbox/plain-file.ts";
import type { Reply, Route, SandboxRequest, World } from "../../../sandbox/stand-ins.ts";
import { collect } from "../../../sandbox/wire.ts";

interface Collection {
  readonly name: string;
  readonly series: readonly SandboxSeries[];
  /** Of the record; its downloads' are the next ones. */
  readonly id: number;
}

interface Slides {
  readonly link: string;
  readonly files: number;
  readonly bytes: number;
}

type Json = Readonly<Record<string, unknown>>;

/** Of the annotations' zip: large enough to be cut and gone on with. */
const ANNOTATION_BYTES = 1_500_000;

export class CollectionPages {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  route({ method, path }: SandboxRequest): Route | undefined {
    if (method !== "GET" && method !== "HEAD") return undefined;
    const list = /^\/api\/(v[12])\/(collections|analysis-results|downloads)\/?$/.exec(path);
    if (list) {
      const [, version, resource] = list as unknown as [string, "v1" | "v2", string];
      return { serves: "rows", answer: (request) => this.#list(version, resource, request) };
    }
    const media = /^\/api\/wp\/v2\/media\/(\d+)$/.exec(path)?.[1];
    if (media !== undefined)
      return { serves: "rows", answer: (request) => this.#media(Number(media), request) };
    const file = /^\/wp-content\/uploads\/(\d+)\/([^/]+)$/.exec(path);
    if (file) {
      return {
        serves: "file",
        answer: async (request, fault) => {
          const found = await this.#file(Number(file[1]), decodeURIComponent(file[2] ?? ""), request);
          return found ? plainFileReply(request, found, fault) : { status: 404, body: "not here\n" };
        },
      };
    }
    return undefined;
  }

  #collections(): Collection[] {
    const byName = new Map<string, SandboxSeries[]>();
    for (const series of this.#world.dataset.series()) {
      const known = byName.get(series.collection);
      if (known) known.push(series);
      else byName.set(series.collection, [series]);
    }
    return [...byName]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, series], index) => ({ name, series, id: 41_000 + index * 10 }));
  }

  /** The package that each page offers: the one that examples use. */
  async #slides(origin: string): Promise<Slides | null> {
    const { package: link } = await this.#world.links(origin);
    const [first] = (await this.#world.packages.opened()).packages;
    if (link === undefined || first === undefined) return null;
    const sizes = [...filesBelow(first.root)].map(({ file }) => file.sizeBytes);
    return { link, files: sizes.length, bytes: sizes.reduce((sum, size) => sum + size, 0) };
  }

  async #list(version: "v1" | "v2", resource: string, request: SandboxRequest): Promise<Reply> {
    const { query } = request;
    const origin = originOf(request);
    const slides = await this.#slides(origin);
    const verbose = version === "v2" && query.get("v") === "1";
    const collections = this.#collections();
    const downloads = collections.flatMap((each) => downloadsOf(each, origin, slides));
    let rows: Json[];
    if (resource === "downloads") rows = downloads.map((row) => (verbose ? verboseForm(row) : row));
    else {
      const records =
        resource === "collections"
          ? [...collections.map((each) => collectionRow(each)), HIDDEN]
          : collections.slice(0, 1).map((each) => resultRow(each));
      rows = records.map((row) => (verbose ? withWholeDownloads(row, downloads) : row));
    }
    const wanted = query.get(version === "v1" ? "include" : "id");
    if (wanted) {
      const ids = new Set(wanted.split(","));
      rows = rows.filter((row) => ids.has(String(row.id)));
    }
    const fields = query.get(version === "v1" ? "_fields" : "fields")?.split(",");
    if (fields) rows = rows.map((row) => pick(row, fields));
    return version === "v1" ? pageV1(rows, request) : pageV2(rows, request);
  }

  #media(id: number, request: SandboxRequest): Reply {
    const collection = this.#collections().find((each) => each.id + 5 === id);
    if (!collection) return json({ code: "rest_post_invalid_id", message: "Invalid post ID." }, 404);
    const url = fileUrl(originOf(request), collection, `${slugOf(collection.name)}-clinical.xlsx`);
    return json({ id, slug: "clinical", media_type: "file", mime_type: XLSX, source_url: url });
  }

  async #file(id: number, name: string, request: SandboxRequest): Promise<PlainFile | undefined> {
    const collection = this.#collections().find((each) => each.id === id);
    if (!collection) return undefined;
    const slug = slugOf(collection.name);
    const modified = new Date(`${modifiedAt(collection)}Z`);
    switch (name) {
      case `${slug}.tcia`:
        return {
          bytes: Buffer.from(manifest(collection, originOf(request))),
          type: "application/x-nbia-manifest-file",
          modified,
        };
      case `${slug}-clinical.xlsx`:
        return { bytes: await spreadsheet(collection), type: XLSX, modified };
      case `${slug}-annotations.zip`:
        return { bytes: await annotations(collection), type: "application/zip", modified };
      default:
        return undefined;
    }
  }
}

const XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";

/** What no table of collections shows (`hide_from_browse_table`). */
const HIDDEN: Json = {
  id: 40_999,
  slug: "staged-collection",
  title: { rendered: "STAGED" },
  collection_title: "A collection that is not yet published",
  collection_short_title: "STAGED",
  collection_downloads: [],
  hide_from_browse_table: "1",
};

function collectionRow({ name, id, series }: Collection): Json {
  return {
    id,
    slug: slugOf(name),
    link: `https://www.cancerimagingarchive.net/collection/${slugOf(name)}/`,
    title: { rendered: htmlOf(name) },
    collection_title: `${htmlOf(name)} &#8211; a &lt;made-up&gt; collection`,
    collection_short_title: htmlOf(name),
    collection_doi: "",
    collection_summary: `<p>Images of <b>${htmlOf(name)}</b>.</p>`,
    collection_page_accessibility: isRestricted(series) ? "Limited" : "Public",
    collection_downloads: [id + 1, id + 2, id + 3, id + 4, id + 6],
    subjects: String(subjectsOf(series)),
    versions: false,
    hide_from_browse_table: "",
  };
}

function resultRow({ name, id }: Collection): Json {
  const short = `${name}-Segmentations`;
  return {
    id: id + 9,
    slug: slugOf(short),
    title: { rendered: htmlOf(short) },
    result_title: `Segmentations of ${htmlOf(name)} &amp; more`,
    result_short_title: htmlOf(short),
    result_downloads: [id + 3],
    subjects: "",
    hide_from_browse_table: "0",
  };
}

/** In the form of v1. */
function downloadsOf(collection: Collection, origin: string, slides: Slides | null): Json[] {
  const { name, id, series } = collection;
  const slug = slugOf(name);
  const bytes = series.reduce((sum, each) => sum + each.fileSizeBytes, 0);
  const restricted = isRestricted(series);
  const license = restricted ? "TCIA Restricted" : "CC BY 4.0";
  const common = {
    title: { rendered: `${htmlOf(name)}-DA` },
    download_requirements: restricted ? ["TCIA Restricted License Agreement"] : false,
    download_access: restricted ? "Limited" : "Public",
    data_license: license,
    date_updated: modifiedAt(collection).slice(0, 10),
    download_file: false,
    search_url: "",
    study_count: "",
    series_count: "",
    image_count: "",
    subjects: "",
  };
  return [
    {
      ...common,
      id: id + 1,
      download_title: "Images &amp; Radiation Therapy &#8211; DICOM",
      download_type: "Radiology Images",
      data_type: [...new Set(series.map((each) => each.modality ?? "OT"))].sort(),
      file_type: ["DICOM"],
      download_size: String(bytes / 1000),
      download_size_unit: "kb",
      download_url: fileUrl(origin, collection, `${slug}.tcia`),
      search_url: `https://nbia.cancerimagingarchive.net/nbia-search/?CollectionCriteria=${encodeURIComponent(name)}`,
      subjects: String(subjectsOf(series)),
      study_count: String(new Set(series.map((each) => each.studyInstanceUid)).size),
      series_count: String(series.length),
      image_count: series.reduce((sum, each) => sum + each.imageCount, 0),
    },
    {
      ...common,
      id: id + 2,
      download_title: "Clinical data",
      download_type: "Clinical Data",
      data_type: ["Demographic"],
      file_type: ["XLSX"],
      download_size: "1.5",
      download_size_unit: "kb",
      download_url: "",
      download_file: {
        ID: id + 5,
        post_type: "attachment",
        guid: fileUrl(origin, collection, `${slug}-clinical.xlsx`),
      },
      subjects: String(subjectsOf(series)),
    },
    {
      ...common,
      id: id + 3,
      download_title: "Segmentations",
      download_type: "Image Annotations",
      data_type: ["Segmentation"],
      file_type: ["ZIP", "NIFTI"],
      download_size: "1.5",
      download_size_unit: "mb",
      download_url: fileUrl(origin, collection, `${slug}-annotations.zip`),
    },
    ...(slides === null
      ? []
      : [
          {
            ...common,
            id: id + 4,
            download_title: "Tissue slide images",
            download_type: "Pathology Images",
            data_type: ["Pathology"],
            file_type: ["SVS"],
            download_size: String(slides.bytes / 1000),
            download_size_unit: "kb",
            download_url: slides.link,
            image_count: slides.files.toLocaleString("en-US"),
          },
        ]),
    {
      ...common,
      id: id + 6,
      download_title: "Genomics",
      download_type: "Other",
      data_type: [],
      file_type: "",
      download_size: "",
      download_size_unit: "",
      download_url: "https://portal.gdc.cancer.gov/projects",
      data_license: "NIH Controlled Data Access Policy",
      download_access: "Limited",
      download_requirements: [],
    },
  ];
}

/** Verbose v2: keys with blanks, licences and types as objects. */
function verboseForm({ id, title, ...row }: Json): Json {
  const renamed = Object.fromEntries(
    Object.entries(row).map(([key, value]) => [
      { data_license: "license", study_count: "studies", series_count: "series", image_count: "images" }[
        key
      ] ?? key.replaceAll("_", " "),
      value,
    ]),
  );
  const types = Array.isArray(row.data_type) ? row.data_type : [];
  return {
    id,
    title,
    ...renamed,
    "download file": undefined,
    "download url": row.download_url || (row.download_file as { guid?: string }).guid,
    license: { label: row.data_license, url: "https://creativecommons.org/licenses/by/4.0/" },
    "data type": types.map((label) => ({ id: 1, label })),
  };
}

function withWholeDownloads(record: Json, downloads: readonly Json[]): Json {
  const key = "collection_downloads" in record ? "collection_downloads" : "result_downloads";
  const ids = record[key] as readonly number[];
  const whole = ids.flatMap((id) => downloads.filter((row) => row.id === id).map(verboseForm));
  return { ...record, [key]: whole.map(({ title: _, ...row }) => row) };
}

function pageV1(rows: readonly Json[], request: SandboxRequest): Reply {
  const { path, query } = request;
  const { page, perPage, pages } = paging(rows, query);
  if (page > Math.max(pages, 1)) {
    const code = "rest_post_invalid_page_number";
    return json(
      { code, message: "The page number requested is larger than the number of pages available." },
      400,
    );
  }
  const next = new URLSearchParams(query);
  next.set("page", String(page + 1));
  const link = page < pages ? { Link: `<${originOf(request)}${path}?${next}>; rel="next"` } : {};
  const reply = json(rows.slice((page - 1) * perPage, page * perPage));
  return { ...reply, headers: { ...reply.headers, ...link, "X-WP-TotalPages": String(pages) } };
}

function pageV2(rows: readonly Json[], { query }: SandboxRequest): Reply {
  const { page, perPage, pages } = paging(rows, query);
  const results = rows.slice((page - 1) * perPage, page * perPage);
  return json({ results, total: rows.length, total_pages: pages, page });
}

function paging(rows: readonly Json[], query: URLSearchParams) {
  const perPage = Math.min(Math.max(Number(query.get("per_page")) || 10, 1), 100);
  return {
    perPage,
    page: Math.max(Number(query.get("page")) || 1, 1),
    pages: Math.ceil(rows.length / perPage),
  };
}

function json(value: unknown, status = 200): Reply {
  return {
    status,
    headers: { "Content-Type": "application/json; charset=UTF-8" },
    body: JSON.stringify(value),
  };
}

const pick = (row: Json, fields: readonly string[]): Json =>
  Object.fromEntries(Object.entries(row).filter(([key]) => fields.includes(key)));

const htmlOf = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

const slugOf = (name: string): string =>
  name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "") || "collection";

const isRestricted = (series: readonly SandboxSeries[]): boolean =>
  series.every((each) => each.access === "restricted");

const subjectsOf = (series: readonly SandboxSeries[]): number =>
  new Set(series.map((each) => each.patientId)).size;

/** `yyyy-MM-ddTHH:mm:ss` */
const modifiedAt = ({ series }: Collection): string =>
  (
    series
      .map((each) => each.submittedAt)
      .sort()
      .at(-1) ?? ""
  ).replace(" ", "T");

const fileUrl = (origin: string, { id }: Collection, name: string): string =>
  `${origin}/wp-content/uploads/${id}/${name}`;

const hash = (text: string): Buffer => createHash("sha512").update(text).digest();

function originOf({ headers, incoming }: SandboxRequest): string {
  const scheme = incoming.socket !== undefined && "encrypted" in incoming.socket ? "https" : "http";
  return `${scheme}://${headers.host ?? "127.0.0.1"}`;
}

function manifest({ series, id }: Collection, origin: string): string {
  const host = series.some((each) => each.collection === "NLST") ? `${origin}/nlst` : origin;
  return [
    `downloadServerUrl=${host}/nbia-download/servlet/DownloadServlet`,
    "includeAnnotation=true",
    "noOfrRetry=4",
    `databasketId=manifest-${id}.tcia`,
    "manifestVersion=3.0",
    "ListOfSeriesToDownload=",
    ...series.map((each) => each.seriesInstanceUid),
    "",
  ].join("\n");
}

/** A small workbook of one sheet (ECMA-376 part 1, sections 12.3 and 18.3). */
function spreadsheet({ series }: Collection): Promise<Uint8Array> {
  const patients = [...new Map(series.map((each) => [each.patientId, each])).values()];
  const cells = (values: readonly string[]): string =>
    values.map((value) => `<c t="inlineStr"><is><t>${xmlOf(value)}</t></is></c>`).join("");
  const lines = [
    ["PatientID", "Sex", "Age"],
    ...patients.map((each) => [each.patientId, each.patientSex ?? "", each.patientAge ?? ""]),
  ];
  const rows = lines.map((line, index) => `<row r="${index + 1}">${cells(line)}</row>`).join("");
  const main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
  const office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
  const packaged = "http://schemas.openxmlformats.org/package/2006";
  const type = "application/vnd.openxmlformats-officedocument.spreadsheetml";
  const relation = (kind: string, target: string): string =>
    `<Relationships xmlns="${packaged}/relationships"><Relationship Id="rId1" Type="${office}/${kind}" Target="${target}"/></Relationships>`;
  const parts: readonly (readonly [string, string])[] = [
    [
      "[Content_Types].xml",
      `<Types xmlns="${packaged}/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/><Override PartName="/xl/workbook.xml" ContentType="${type}.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="${type}.worksheet+xml"/></Types>`,
    ],
    ["_rels/.rels", relation("officeDocument", "xl/workbook.xml")],
    [
      "xl/workbook.xml",
      `<workbook xmlns="${main}" xmlns:r="${office}"><sheets><sheet name="clinical" sheetId="1" r:id="rId1"/></sheets></workbook>`,
    ],
    ["xl/_rels/workbook.xml.rels", relation("worksheet", "worksheets/sheet1.xml")],
    ["xl/worksheets/sheet1.xml", `<worksheet xmlns="${main}"><sheetData>${rows}</sheetData></worksheet>`],
  ];
  return zipped(
    parts.map(([name, xml]) => ({
      name,
      body: Buffer.from(`<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n${xml}`),
    })),
  );
}

function annotations({ name, series }: Collection): Promise<Uint8Array> {
  const list = ["SeriesInstanceUID,label", ...series.map((each) => `${each.seriesInstanceUid},lesion`), ""];
  const seed = hash(name);
  const volume = Uint8Array.from(
    { length: ANNOTATION_BYTES },
    (_, index) => (seed[index % 61] ?? 0) ^ (index >> 7),
  );
  return zipped([
    { name: "labels.csv", body: Buffer.from(list.join("\n")) },
    { name: "segmentation.raw", body: volume, method: "store" },
  ]);
}

const zipped = (entries: readonly ZipInput[]): Promise<Uint8Array> => collect(zipStream(entries));

const xmlOf = (text: string): string =>
  htmlOf(text).replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/gu, "");
