/** The collection pages against their stand-in, in both generations, and against records as they are found. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { sourceContext } from "../../../test/support/pipeline.ts";
import { RunError } from "../../errors.ts";
import type { Row } from "../../model/item.ts";
import { NO_FILTERS } from "../../model/query.ts";
import type { Reply, SandboxRequest } from "../../sandbox/stand-ins.ts";
import { datasetOf, tinySeries } from "../../sandbox/tiny-dataset.ts";
import { tinyWorld } from "../../sandbox/tiny-world.ts";
import { send } from "../../sandbox/wire.ts";
import { createHttp } from "../../transports/http.ts";
import { listDownloads } from "./pages.ts";
import { PagesApi } from "./pages-api.ts";
import { downloadRow, offererOf } from "./pages-map.ts";
import { CollectionPages } from "./sandbox/pages.ts";

const many = Array.from({ length: 230 }, (_, index) =>
  tinySeries(`1.2.4.${index}`, { collection: `MANY-${String(index).padStart(3, "0")}` }),
);
const dataset = datasetOf([
  tinySeries("1.2.3.1", { collection: "LUNG CT & PET" }),
  tinySeries("1.2.3.2", { collection: "SECRET", access: "restricted" }),
  ...many,
]);
const world = tinyWorld(dataset);

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

async function serve(options: { v1?: boolean; instead?: (path: string) => Reply | undefined } = {}) {
  const pages = new CollectionPages(world);
  const asked: string[] = [];
  const server = createServer((incoming, response) => {
    const url = new URL(incoming.url ?? "/", "http://sandbox");
    asked.push(`${url.pathname}${url.search}`);
    const request: SandboxRequest = {
      method: "GET",
      path: url.pathname,
      query: url.searchParams,
      headers: incoming.headers,
      form: new URLSearchParams(),
      incoming,
    };
    const hidden = options.v1 === false && url.pathname.startsWith("/api/v1/");
    const route = hidden ? undefined : pages.route(request);
    const reply = options.instead?.(url.pathname) ?? route?.answer(request, undefined) ?? { status: 404 };
    void Promise.resolve(reply).then((ready) => send(response, ready));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const http = createHttp({ userAgent: "test", connections: 4, stallTimeoutMs: 2000, environment: {} });
  closing.push(async () => {
    await http.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const api = new PagesApi(http, "tcia", `${origin}/api/`);
  const list = async (path: readonly string[], filters = NO_FILTERS): Promise<Row[]> => {
    const rows: Row[] = [];
    for await (const row of listDownloads(api, "tcia", { path, filters }, sourceContext())) rows.push(row);
    return rows;
  };
  return { origin, list, asked };
}

/** Where a server runs is no matter of its rows. */
const atHome = (rows: readonly Row[], origin: string): unknown =>
  JSON.parse(JSON.stringify(rows).replaceAll(origin, "ORIGIN"));

describe.each([
  ["v1", true],
  ["v2", false],
] as const)("%s", (_, v1) => {
  it("lists what a page offers, in one form whatever the generation", async () => {
    const { list, origin } = await serve({ v1 });
    expect(atHome(await list(["LUNG CT & PET"]), origin)).toMatchObject([
      {
        Collection: "LUNG CT & PET",
        Title: "Images & Radiation Therapy – DICOM",
        DataType: "CT",
        FileType: "DICOM",
        FileSize: 9000,
        License: "CC BY 4.0",
        Requirements: null,
        Access: "Public",
        DateUpdated: "2015-05-27",
        Subjects: 1,
        Studies: 1,
        Series: 1,
        Images: 3,
        ServedBy: "gantry get",
        address: expect.stringMatching(/^ORIGIN\/wp-content\/uploads\/\d+\/lung-ct-pet\.tcia$/u),
      },
      {
        Title: "Clinical data",
        FileSize: 1500,
        Images: null,
        ServedBy: "gantry get",
        address: expect.stringMatching(/\/lung-ct-pet-clinical\.xlsx$/u),
      },
      { Title: "Segmentations", FileType: "ZIP; NIFTI", FileSize: 1_500_000, ServedBy: "gantry get" },
      {
        Title: "Tissue slide images",
        FileSize: 5,
        Images: 1,
        ServedBy: "gantry get",
        address: expect.stringContaining("/aspera/faspex/public/package?context="),
      },
      {
        Title: "Genomics",
        FileSize: null,
        FileType: null,
        ServedBy: "not served: access has to be asked for",
        address: null,
        URL: "https://portal.gdc.cancer.gov/projects",
      },
    ]);
  });

  it("takes names as people spell them, of analysis results too, and offers near ones", async () => {
    const { list } = await serve({ v1 });
    for (const word of ["lung ct & pet", "LUNG-CT-PET", "lung-ct-pet"])
      expect(await list([word])).toHaveLength(5);
    expect(await list(["lung ct & pet-segmentations"])).toMatchObject([{ Title: "Segmentations" }]);
    await expect(list(["LUNG CT & PAT"])).rejects.toMatchObject({
      code: "unknown-name",
      hint: expect.stringContaining("LUNG CT & PET"),
    });
    await expect(list(["STAGED"])).rejects.toMatchObject({ code: "unknown-name" });
    await expect(list(["LUNG CT & PET", "P1"])).rejects.toMatchObject({ code: "usage" });
  });

  it("lists all pages of a long list", async () => {
    const { list } = await serve({ v1 });
    const rows = await list([]);
    expect(new Set(rows.map((row) => row.Collection)).size).toBe(233);
    expect(rows).toHaveLength(232 * 5 + 1);
    const names = rows.map((row) => String(row.Collection));
    expect(names).toEqual([...names].sort());
    const two = { ...NO_FILTERS, words: { collection: ["many-001", "MANY-000"] } };
    expect(new Set((await list([], two)).map((row) => row.Collection))).toEqual(
      new Set(["MANY-000", "MANY-001"]),
    );
  });

  it("says of what is restricted that it has to be asked for", async () => {
    const { list } = await serve({ v1 });
    const [images] = await list(["SECRET"]);
    expect(images).toMatchObject({
      License: "TCIA Restricted",
      ServedBy: "not served: access has to be asked for",
      address: null,
    });
  });
});

describe("trouble", () => {
  const json = (value: unknown): Reply => ({ status: 200, body: JSON.stringify(value) });
  it.each([
    ["a web page", () => ({ status: 200, headers: { "Content-Type": "text/html" }, body: "<html>" })],
    ["torn JSON", () => ({ status: 200, body: "[{" })],
    ["another form", () => json({ code: "x" })],
    ["a refusal", () => ({ status: 403 })],
  ])("%s is archive-reply", async (_, reply) => {
    const { list } = await serve({
      instead: (path) => (path.startsWith("/api/v1/analysis-results") ? (reply() as Reply) : undefined),
    });
    await expect(list(["LUNG CT & PET"])).rejects.toMatchObject({ code: "archive-reply" });
  });

  it("busy is archive-busy, never a shorter list", async () => {
    const { list } = await serve({
      instead: (path) => (path.includes("downloads") ? { status: 429 } : undefined),
    });
    await expect(list(["LUNG CT & PET"])).rejects.toMatchObject({ code: "archive-busy" });
  });

  it("a list that goes on elsewhere or for ever is refused", async () => {
    for (const link of ["https://evil.example/x", "/api/v1/collections/?page=2"]) {
      const { list, asked } = await serve({
        instead: (path) =>
          path.startsWith("/api/v1/collections")
            ? { status: 200, headers: { Link: `<${link}>; rel="next"` }, body: "[]" }
            : undefined,
      });
      await expect(list([])).rejects.toBeInstanceOf(RunError);
      expect(asked.length).toBeLessThan(300);
    }
  });

  it("an uploaded file that is gone leaves a row without a link", async () => {
    const { list } = await serve({
      instead: (path) => (path.includes("/media/") ? { status: 404 } : undefined),
    });
    const rows = await list(["LUNG CT & PET"]);
    expect(rows[1]).toMatchObject({ address: null, ServedBy: "not served: it has no link" });
  });
});

describe("records as WordPress writes them", () => {
  it("empty is null, whatever stands for it", () => {
    for (const empty of ["", false, [], null, undefined, "false", " "]) {
      const row = downloadRow("C", { id: 1, download_size: empty, subjects: empty, data_type: empty }, null);
      expect(row).toMatchObject({
        FileSize: null,
        Subjects: null,
        DataType: null,
        Title: null,
        address: null,
      });
    }
  });

  it.each([
    ["1.5", "GB", 1_500_000_000],
    [2, "tb", 2e12],
    ["1,234", "kb", 1_234_000],
    ["12", "furlongs", null],
    ["many", "mb", null],
    ["-1", "mb", null],
  ])("a size of %j %s", (download_size, download_size_unit, bytes) => {
    expect(downloadRow("C", { download_size, download_size_unit }, null).FileSize).toBe(bytes);
  });

  it.each([
    ["2024-03-31", "2024-03-31"],
    ["20240331", "2024-03-31"],
    ["03/31/2024", "2024-03-31"],
    ["2024-03-31T10:00:00", "2024-03-31"],
  ])("a date %s", (date_updated, day) => {
    expect(downloadRow("C", { date_updated }, null).DateUpdated).toBe(day);
  });

  it.each([
    ["https://www.cancerimagingarchive.net/wp-content/uploads/A.tcia", "gantry get"],
    ["https://www.cancerimagingarchive.net/wp-content/uploads/A%20b.xlsx", "gantry get"],
    ["https://pathdb.cancerimagingarchive.net/eaglescope/dist/?configurl=x.json", "not served: a web page"],
    ["https://example.org/x.zip?X-Amz-Signature=1", "not served: no link of a plain file"],
    ["https://example.org/index.html", "not served: a web page"],
  ])("%s: %s", (download_url, servedBy) => {
    expect(downloadRow("C", { download_url, data_license: "CC BY 4.0" }, null).ServedBy).toBe(servedBy);
  });

  it("what is hidden or nameless is no page", () => {
    const record = { collection_short_title: "X", collection_downloads: ["5", { ID: 6 }, 5, "no", false] };
    expect(offererOf(record, "collection")).toMatchObject({ name: "X", downloads: ["5", "6"] });
    for (const hide of ["1", 1, "yes", "true"])
      expect(offererOf({ ...record, hide_from_browse_table: hide }, "collection")).toBeNull();
    for (const show of ["", "0", 0, false, "no", "false", []])
      expect(offererOf({ ...record, hide_from_browse_table: show }, "collection")).not.toBeNull();
    expect(offererOf({ collection_downloads: [1] }, "collection")).toBeNull();
    expect(offererOf({ slug: "x", collection_downloads: false }, "collection")).toMatchObject({
      downloads: [],
    });
  });
});
