/** What third-party clients asked for and the stand-in answered wrongly or not at all; each test names the client. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Sandbox, startSandbox } from "../../../sandbox/server.ts";
import { datasetOf, tinySeries } from "../../../sandbox/tiny-dataset.ts";

interface Tag {
  readonly element: string;
  readonly name: string;
  readonly data: string | null;
}

let tiny: Sandbox;
let phantoms: Sandbox;
beforeAll(async () => {
  tiny = await startSandbox({
    data: datasetOf([
      tinySeries("1.2.3.1", { thirdPartyAnalysis: "YES" }),
      tinySeries("1.2.3.2", { modality: null }),
      tinySeries("1.2.3.3", { collection: "OTHER", dataDescriptionUri: "https://doi.org/10.7937/other" }),
      tinySeries("1.2.3.4", { collection: "SECRET", access: "restricted" }),
    ]),
  });
  phantoms = await startSandbox();
});
afterAll(async () => {
  await tiny.close();
  await phantoms.close();
});

const services = (sandbox: Sandbox): string => `${sandbox.url}/nbia-api/services`;
const post = (path: string, form: Record<string, string>): Promise<Response> =>
  fetch(`${services(tiny)}/${path}`, { method: "POST", body: new URLSearchParams(form) });

/** `undefined` is what the portal sends before its user logs in: the guest. */
const GUEST = { headers: { authorization: "Bearer undefined" } };

async function tagsOf(modality: string): Promise<Tag[]> {
  const found = await fetch(`${services(phantoms)}/v4/getSeries?Modality=${modality}`);
  const [series] = (await found.json()) as { SeriesInstanceUID: string }[];
  const reply = await fetch(`${services(phantoms)}/v4/getDicomTags?SeriesUID=${series?.SeriesInstanceUID}`);
  return (await reply.json()) as Tag[];
}

describe("getDicomTags", () => {
  it("closes each sequence with a row of the same element (nbiatoolkit getRefSeriesUIDs)", async () => {
    const tags = await tagsOf("RTSTRUCT");
    const ends = tags.filter(({ element }) => element === "(3006,0010)");
    expect(ends.map(({ name }) => name)).toEqual([
      "Referenced Frame of Reference Sequence",
      "End Referenced Frame of Reference Sequence",
    ]);
    const between = tags.slice(tags.indexOf(ends[0]!) + 1, tags.indexOf(ends[1]!));
    expect(between.length).toBeGreaterThan(3);
    expect(between.every(({ element }) => element.startsWith(">"))).toBe(true);
  });

  it("so that the series behind a segmentation is found (tcia_utils getSegRefSeries)", async () => {
    const tags = await tagsOf("SEG");
    const at = tags.findIndex(
      ({ element }, index) => element === ">(0008,114A)" && tags[index + 1]?.element === ">(0020,000E)",
    );
    expect(tags[at]?.name).toBe("End Referenced Instance Sequence");
    expect(tags[at + 1]?.data).toMatch(/^2\.25\.\d+$/);
  });

  it("writes what has no text as null (nbiatoolkit generateFilePathFromDICOMTags)", async () => {
    const tags = await tagsOf("CT");
    expect(tags.every((tag) => "data" in tag)).toBe(true);
    expect(tags.filter(({ data }) => data === null).length).toBeGreaterThan(0);
  });
});

describe("getCollectionOrSeriesForDOI (tcia_utils getDoiMetadata)", () => {
  const ask = async (form: Record<string, string>): Promise<unknown> => {
    const reply = await post("v4/getCollectionOrSeriesForDOI", form);
    expect(reply.headers.get("content-type")).toBe("application/json");
    return reply.json();
  };

  it("lists collections, by whether they are third-party analyses", async () => {
    expect(await ask({ DOI: "https://doi.org/10.7937/tiny", CollectionOrSeries: "" })).toEqual(
      expect.arrayContaining([
        { collection: "LUNG CT", thirdPartyAnanlysis: "YES", authorized: 1 },
        { collection: "LUNG CT", authorized: 1 },
      ]),
    );
  });

  it("lists series, and hides what is not public", async () => {
    expect(await ask({ DOI: "https://doi.org/10.7937/other", CollectionOrSeries: "series" })).toEqual([
      { collection: "OTHER", seriesInstanceUID: "1.2.3.3", authorized: 1 },
    ]);
    expect(await ask({ CollectionOrSeries: "series" })).toHaveLength(3);
  });

  it("has an empty list where nothing matches, and refuses other fields", async () => {
    expect(await ask({ DOI: "https://doi.org/10.7937/none" })).toEqual([]);
    expect((await post("v4/getCollectionOrSeriesForDOI", { Doi: "x" })).status).toBe(400);
  });
});

describe("getManifestForSimpleSearch (tcia_utils getSimpleSearch, format uids and manifest)", () => {
  it("is the manifest of what the search finds", async () => {
    const reply = await post("v4/getManifestForSimpleSearch", {
      criteriaType0: "CollectionCriteria",
      value0: "LUNG CT",
      start: "0",
      size: "1000000",
    });
    expect(reply.headers.get("content-type")).toBe("application/x-nbia-manifest-file");
    const lines = (await reply.text()).split("\n");
    expect(lines.slice(0, 2)).toEqual([
      `downloadServerUrl=${tiny.url}/nbia-download/servlet/DownloadServlet`,
      "includeAnnotation=false",
    ]);
    expect(lines.slice(6).sort()).toEqual(["", "1.2.3.1", "1.2.3.2"]);
  });

  it("has a header and no more where nothing is found, and 500 for a criterion it does not know", async () => {
    const form = { criteriaType0: "CollectionCriteria", value0: "none" };
    expect((await (await post("v4/getManifestForSimpleSearch", form)).text()).split("\n")).toHaveLength(7);
    const unknown = { criteriaType0: "Criteria.DateRange", value0: "x" };
    expect((await post("v4/getManifestForSimpleSearch", unknown)).status).toBe(500);
  });
});

describe("the advanced interface writes nulls, as Jackson does", () => {
  it("in counts (nbiatoolkit getModalityValues reads `criteria` of every row)", async () => {
    const reply = await fetch(`${services(tiny)}/getModalityValuesAndCounts`, GUEST);
    expect(await reply.json()).toEqual([
      { criteria: null, count: "1" },
      { criteria: "CT", count: "2" },
    ]);
  });

  it("in descriptions, whose time is in milliseconds (nbiatoolkit getCollectionDescriptions)", async () => {
    const reply = await fetch(`${services(tiny)}/getCollectionDescriptions?collectionName=LUNG%20CT`, GUEST);
    expect(await reply.json()).toEqual([
      {
        description: "<p>Lungs</p>",
        id: 1,
        collectionDescTimestamp: Date.UTC(2015, 4, 27, 17, 12, 21),
        collectionName: "LUNG CT",
        userName: null,
        licenseId: null,
        descriptionURI: "https://doi.org/10.7937/tiny",
      },
    ]);
  });
});

describe("getSeriesMetaData of v2 (the official retriever with -u and -p)", () => {
  const status = async (path: string, headers: Record<string, string> = {}): Promise<number> =>
    (await fetch(`${services(tiny)}/${path}?SeriesInstanceUID=1.2.3.4`, { headers })).status;

  it("describes a restricted series to the user who may have it, and to nobody else", async () => {
    const login = await fetch(`${tiny.url}/nbia-api/oauth/token`, {
      method: "POST",
      body: new URLSearchParams({ grant_type: "password", username: "demo", password: "demo" }),
    });
    const { access_token } = (await login.json()) as { access_token: string };
    expect(await status("v2/getSeriesMetaData", { authorization: `Bearer ${access_token}` })).toBe(200);
    expect(await status("v2/getSeriesMetaData", GUEST.headers)).toBe(204);
    expect(await status("v1/getSeriesMetaData")).toBe(204);
  });
});

describe("getAllSOPClassDefinition (the official retriever's column SOP Class Name)", () => {
  it("is a file of Java properties with the classes of the standard", async () => {
    const reply = await fetch(`${services(tiny)}/v1/getAllSOPClassDefinition`);
    expect(reply.headers.get("content-type")).toBe("application/octet-stream");
    const lines = (await reply.text()).trimEnd().split("\n");
    expect(lines).toContain("1.2.840.10008.5.1.4.1.1.481.5=RT Plan Storage");
    expect(lines).toContain("1.2.840.10008.5.1.4.1.1.88.11=Basic Text SR Storage");
    // Newer than the server's list: the retriever writes null.
    expect(lines.some((line) => line.startsWith("1.2.840.10008.5.1.4.1.1.91.1="))).toBe(false);
    expect(lines.every((line) => /^1\.2\.840\.10008\.5\.1\.4\.1\.1\.[\d.]+=\S/.test(line))).toBe(true);
  });
});
