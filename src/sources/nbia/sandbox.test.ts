import { createHash } from "node:crypto";
import { request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import yauzl from "yauzl";
import { type Sandbox, startSandbox } from "../../sandbox/server.ts";
import { datasetOf, tinyDataset, tinyImage, tinySeries } from "../../sandbox/tiny-dataset.ts";
import { newFileNames } from "./sandbox/images.ts";

let sandbox: Sandbox;
beforeAll(async () => {
  sandbox = await startSandbox({ data: tinyDataset() });
});
beforeEach(() => sandbox.control.reset());
afterAll(() => sandbox.close());

function deferred<T>() {
  let resolve: (value: T) => void = () => {};
  let reject: (error: Error) => void = () => {};
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

interface Got {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
  text: string;
}

function ask(
  path: string,
  options: { form?: string; method?: string; headers?: Record<string, string> } = {},
) {
  const { promise, resolve, reject } = deferred<Got>();
  const method = options.method ?? (options.form === undefined ? "GET" : "POST");
  const form = options.form === undefined ? {} : { "content-type": "application/x-www-form-urlencoded" };
  const headers = { ...form, ...options.headers };
  const url = path.startsWith("/") ? `${sandbox.url}${path}` : `${sandbox.url}/nbia-api/services/${path}`;
  const request = httpRequest(url, { method, headers, agent: false }, (response) => {
    const chunks: Buffer[] = [];
    response.on("data", (chunk: Buffer) => chunks.push(chunk));
    response.on("error", reject);
    response.on("end", () => {
      const body = Buffer.concat(chunks);
      resolve({
        status: response.statusCode ?? 0,
        headers: response.headers,
        body,
        text: body.toString("utf8"),
      });
    });
  });
  request.on("error", reject);
  request.end(options.form);
  return promise;
}

const rows = async (path: string): Promise<Record<string, unknown>[]> => JSON.parse((await ask(path)).text);

async function login(
  form = "grant_type=password&username=demo&password=demo",
): Promise<Record<string, string>> {
  const { access_token } = JSON.parse((await ask("/nbia-api/oauth/token", { form })).text);
  return { authorization: `Bearer ${access_token}` };
}

async function unzip(zip: Buffer): Promise<{ name: string; data: Buffer; flags: number; method: number }[]> {
  const { promise, resolve, reject } = deferred<Awaited<ReturnType<typeof unzip>>>();
  yauzl.fromBuffer(zip, { lazyEntries: true }, (error, file) => {
    if (error) return reject(error);
    const found: Awaited<ReturnType<typeof unzip>> = [];
    file.on("error", reject);
    file.on("end", () => resolve(found));
    file.on("entry", (entry) => {
      file.openReadStream(entry, (failure, stream) => {
        if (failure) return reject(failure);
        const chunks: Buffer[] = [];
        stream.on("data", (chunk: Buffer) => chunks.push(chunk));
        stream.on("error", reject);
        stream.on("end", () => {
          const flags = entry.generalPurposeBitFlag;
          found.push({
            name: entry.fileName,
            data: Buffer.concat(chunks),
            flags,
            method: entry.compressionMethod,
          });
          file.readEntry();
        });
      });
    });
    file.readEntry();
  });
  return promise;
}

describe("rows", () => {
  it("v4 getSeries: documented columns in order, nulls left out, US dates, escaped slashes", async () => {
    const { status, headers, text } = await ask("v4/getSeries?SeriesInstanceUID=1.2.3.1");
    expect(status).toBe(200);
    expect(headers["content-type"]).toBe("application/json");
    expect(text).toBe(
      '[{"SeriesInstanceUID":"1.2.3.1","StudyInstanceUID":"1.2.3.100","Modality":"CT","SeriesDate":"12-12-2003",' +
        '"SeriesDescription":"ax é, thin\\/5","BodyPartExamined":"Chest","SeriesNumber":2,"Collection":"LUNG CT",' +
        '"PatientID":"P1","PatientSex":"F","PatientAge":"061Y","Manufacturer":"\\"GE Healthcare\\", Inc",' +
        '"ManufacturerModelName":"Lightspeed","ImageCount":3,"MaxSubmissionTimestamp":"05-27-2015",' +
        '"LicenseName":"Creative Commons Attribution 3.0 Unported License",' +
        '"LicenseURI":"http:\\/\\/creativecommons.org\\/licenses\\/by\\/3.0\\/",' +
        '"DataDescriptionURI":"https:\\/\\/doi.org\\/10.7937\\/tiny","FileSize":9000,"ReleasedStatus":"Yes",' +
        '"DateReleased":"05-27-2015","StudyDesc":"CHEST\\/ABD, contrast","StudyDate":"12-12-2003","Authorized":1}]',
    );
  });

  it("v1 getSeries: older names and timestamps", async () => {
    const [series] = await rows("v1/getSeries?SeriesInstanceUID=1.2.3.1");
    expect(series).toMatchObject({
      SeriesDate: "2003-12-12 00:00:00.0",
      TimeStamp: "2015-05-27 17:12:21.0",
      CollectionURI: "https://doi.org/10.7937/tiny",
    });
    expect(series).not.toHaveProperty("Authorized");
  });

  it("an empty result is 200 with zero bytes and no Content-Type, in every format", async () => {
    for (const format of ["", "&format=csv", "&format=html", "&format=nonsense"]) {
      const { status, headers, text } = await ask(`v4/getSeries?Collection=NONE${format}`);
      expect([status, headers["content-type"], text]).toEqual([200, undefined, ""]);
    }
  });

  it("an unknown format is 500, but only when there are rows", async () => {
    const { status, text } = await ask("v4/getSeries?format=nonsense");
    expect([status, text]).toEqual([500, "Server was not able to process your request"]);
  });

  it("CSV: everything quoted, decimals with six digits", async () => {
    const { headers, text } = await ask("v4/getSeries?SeriesInstanceUID=1.2.3.1&format=CSV");
    expect(headers["content-type"]).toBe("text/csv");
    const [head, row, ...rest] = text.split("\n");
    expect(head).toMatch(/^"SeriesInstanceUID","StudyInstanceUID",.*"Authorized"$/);
    expect(row).toContain('"2.000000"');
    expect(row).toContain('"""GE Healthcare"", Inc"');
    expect(rest).toEqual([""]);
  });

  it("CSV: a null in the first column gives one field too many", async () => {
    const { text } = await ask("v1/getSeriesSize?SeriesInstanceUID=9.9&format=csv");
    expect(text).toBe('"TotalSizeInBytes","ObjectCount"\n"","",""\n');
  });

  it("HTML and XML: entities, typed columns, nulls", async () => {
    const html = await ask("v4/getSeries?SeriesInstanceUID=1.2.3.6&format=html");
    expect(html.text).toMatch(/^<P ALIGN='center'><TABLE BORDER=1><TR><TH>SeriesInstanceUID<\/TH>/);
    expect(html.text).toContain("<TD>1.2.3.100</TD><TD>&nbsp;</TD>");
    expect(html.text).toContain("https&#x3a;&#x2f;&#x2f;doi.org");
    const xml = await ask("v4/getSeries?SeriesInstanceUID=1.2.3.6&format=xml");
    expect(xml.headers["content-type"]).toBe("application/xml");
    expect(xml.text).toContain('standalone="yes"?><Results><Row><SeriesInstanceUID type=');
    expect(xml.text).toContain("<ImageCount type='java.lang.Integer'>3</ImageCount>");
    expect(xml.text).not.toContain("<Modality");
  });

  it("value lists: an empty object for null, unquoted CSV; v4 in capitals", async () => {
    expect((await ask("v1/getBodyPartValues")).text).toBe('[{},{"BodyPartExamined":"Chest"}]');
    expect((await ask("v4/getBodyPartValues?format=csv")).text).toBe("BodyPartExamined\n\nCHEST\n");
    expect((await ask("v4/getBodyPartValues?format=csvquoted")).status).toBe(500);
  });

  it("counts: patients, a number in v4 and text in the advanced API; format is not allowed", async () => {
    expect((await ask("v4/getCollectionValuesAndCounts")).text).toBe(
      '[{"Collection":"LUNG CT","Count":2,"Authorized":1}]',
    );
    const { text } = await ask("getModalityValuesAndCounts", { headers: await login() });
    expect(text).toBe(
      '[{"criteria":null,"count":"1"},{"criteria":"CT","count":"2"},{"criteria":"MR","count":"1"}]',
    );
    expect((await ask("v4/getModalityValuesAndCounts?format=json")).status).toBe(400);
    expect((await ask("v4/getModalityValuesAndCounts?Collection=NONE")).text).toBe("[]");
  });

  it("filters: case is free except for PatientId of v4 getPatient; unknown names are ignored in v1 only", async () => {
    expect(await rows("v4/getSeries?Collection=lung%20ct&Modality=mr")).toHaveLength(1);
    expect((await ask("v4/getPatient?PatientId=p1")).text).toBe("");
    expect(await rows("v1/getPatient?PatientId=p1")).toHaveLength(1);
    expect(await rows("v1/getSeries?patientid=P2")).toHaveLength(4);
    const { status, headers, text } = await ask("v4/getSeries?patientid=P2");
    expect([status, headers["content-type"]]).toEqual([400, "application/json"]);
    expect(text).toMatch(
      /^Invalid query parameter: 'patientid'\. Allowed parameters are: \[.*PatientID.*\]$/,
    );
  });

  it("patients and studies", async () => {
    const [patient] = await rows("v4/getPatient?PatientId=P1");
    expect(patient).toEqual({
      PatientId: "P1",
      PatientSex: "F",
      Collection: "LUNG CT",
      Phantom: "NO",
      SpeciesCode: "337915000",
      SpeciesDescription: "Homo sapiens",
      Authorized: 1,
    });
    const studies = await rows("v1/getPatientStudy?PatientID=P1");
    expect(studies).toMatchObject([{ StudyInstanceUID: "1.2.3.100", StudyID: "SID7", SeriesCount: 3 }]);
    expect((await ask("v1/getPatientByCollectionAndModality?Collection=LUNG+CT&Modality=MR")).text).toBe(
      '[{"PatientId":"P2"}]',
    );
  });

  it("three date inputs, each in its own order", async () => {
    const uids = async (path: string) => (await rows(path)).map((row) => row.SeriesInstanceUID);
    expect(await uids("v4/getUpdatedSeries?fromDate=01-02-2020")).toEqual(["1.2.3.2"]);
    expect(await uids("v1/getUpdatedSeries?fromDate=02/01/2020")).toEqual(["1.2.3.2"]);
    // The lenient parser takes this for a day of the year 7.
    expect(await uids("v1/getUpdatedSeries?fromDate=2020/01/02")).toHaveLength(4);
    expect(await rows("v1/NewPatientsInCollection?Collection=LUNG+CT&Date=2016/01/01")).toMatchObject([
      { PatientId: "P2" },
    ]);
    expect(await rows("v4/NewPatientsInCollection?Collection=LUNG+CT&fromDate=01-02-2016")).toHaveLength(1);
    const { text } = await ask("v4/NewStudiesInPatientCollection?Collection=LUNG+CT");
    expect(text).toBe("A parameter, Collection and Date are required for this API call.");
  });

  it("v1 getSeriesMetaData: text, stripped descriptions, Java dates, 204 when unknown", async () => {
    const [row] = await rows("v1/getSeriesMetaData?SeriesInstanceUID=1.2.3.1");
    expect(row).toMatchObject({
      "Study Description": "CHESTABD contrast",
      "Study Date": "12-12-2003",
      "File Location": "SID7",
      "Series Number": "2.000000",
      "Number of Images": "3",
      "Date Released": "Wed May 27 17:12:21 UTC 2015",
      Manufacturer: '"GE Healthcare"  Inc',
    });
    const unknown = await ask("v1/getSeriesMetaData?SeriesInstanceUID=9.9");
    expect([unknown.status, unknown.text]).toEqual([204, ""]);
  });

  it("v4 getSeriesMetadata: CSV download by default, only text, series without images and unknown ones left out", async () => {
    const form = "list=1.2.3.1%2C1.2.3.3%2C9.9&list=1.2.3.2";
    const csv = await ask("v4/getSeriesMetadata", { form });
    expect(csv.headers["content-disposition"]).toBe('attachment; filename="SeriesMetaData.csv"');
    expect(csv.text.trimEnd().split("\n")).toHaveLength(3);
    const json = JSON.parse((await ask("v4/getSeriesMetadata", { form: `${form}&format=json` })).text);
    expect(json).toHaveLength(2);
    for (const row of json) for (const value of Object.values(row)) expect(value).toBeTypeOf("string");
    expect(json[0]["PixelSpacing(mm)-Row"]).toBe("0.7, 0.8");
    expect((await ask("v4/getSeriesMetadata", { form: "list=9.9" })).text).toBe("");
    const missing = await ask("v4/getSeriesMetadata", { form: "" });
    expect([missing.status, missing.text]).toEqual([
      400,
      "A form parameter, list, containing at least one SeriesInstanceUID is required.",
    ]);
  });

  it("getSeriesSize: one row always in v1, nothing for the unknown in v4", async () => {
    expect((await ask("v1/getSeriesSize?SeriesInstanceUID=9.9")).text).toBe("[{}]");
    expect((await ask("v4/getSeriesSize?SeriesInstanceUID=9.9")).text).toBe("");
    expect((await ask("v4/getSeriesSize?SeriesInstanceUID=1.2.3.1")).text).toBe(
      '[{"TotalSizeInBytes":9000,"ObjectCount":3}]',
    );
  });

  it("getDeniedSeries, descriptions, tags, shared list, agreement", async () => {
    expect((await ask("v1/getDeniedSeries?seriesList=1.2.3.1,1.2.3.4&format=csv")).text).toContain(
      "1.2.3.4\n",
    );
    expect((await ask("v1/getDeniedSeries?seriesList=1.2.3.1")).status).toBe(204);
    expect(await rows("v4/getCollectionDescriptions?collectionName=LUNG%20CT")).toEqual([
      {
        description: "<p>Lungs</p>",
        id: 1,
        collectionName: "LUNG CT",
        descriptionURI: "https://doi.org/10.7937/tiny",
      },
    ]);
    expect((await rows("v1/getContentsByName?name=sandbox"))[0]).toHaveProperty("Date Released");
    expect((await ask("v1/getUserAgreementTxt")).status).toBe(200);
    expect((await ask("v1/getAllSOPClassDefinition")).text).toContain("1.2.840.10008.5.1.4.1.1.2=CT");
    expect((await ask("up")).text).toBe("up");
  });

  it("streams long lists without a length", async () => {
    function* many() {
      for (let i = 0; i < 5000; i++) yield tinySeries(`1.9.${i}`, { images: [] });
    }
    const long = await startSandbox({ data: { ...datasetOf([]), series: many, seriesCount: 5000 } });
    try {
      const reply = await fetch(`${long.url}/nbia-api/services/v4/getSeries`);
      expect(reply.headers.get("content-length")).toBeNull();
      expect(await reply.json()).toHaveLength(5000);
    } finally {
      await long.close();
    }
  });

  it("makes rows only as fast as they are read, and none for a client that left", async () => {
    const stopped = deferred<number>();
    function* endless() {
      const series = tinySeries("1.9", { images: [] });
      let made = 0;
      try {
        for (; made < 1e9; made++) yield series;
      } finally {
        stopped.resolve(made);
      }
    }
    const long = await startSandbox({ data: { ...datasetOf([]), series: endless } });
    try {
      const leave = new AbortController();
      const reply = await fetch(`${long.url}/nbia-api/services/v4/getSeries`, { signal: leave.signal });
      expect(reply.status).toBe(200);
      leave.abort();
      expect(await stopped.promise).toBeLessThan(1e6);
    } finally {
      await long.close();
    }
  });
});

describe("images", () => {
  const hashOf = (data: Buffer) => createHash("md5").update(data).digest("hex");

  it("v4 getImage with new names and sums: LICENSE first, md5hashes.csv last, descriptors, chunked", async () => {
    const reply = await ask("v4/getImage?SeriesInstanceUID=1.2.3.2&NewFileNames=Yes&IncludeMD5=Yes", {
      headers: { range: "bytes=0-9" },
    });
    expect(reply.status).toBe(200);
    expect(reply.headers).toMatchObject({
      "content-type": "application/octet-stream",
      "content-disposition": 'attachment; filename="1.2.3.2.zip"',
      "transfer-encoding": "chunked",
    });
    for (const absent of ["content-length", "etag", "accept-ranges"])
      expect(reply.headers).not.toHaveProperty(absent);
    const entries = await unzip(reply.body);
    expect(entries.map(({ name }) => name)).toEqual([
      "LICENSE",
      "1-1.dcm",
      "1-2.dcm",
      "2-1.dcm",
      "2-2.dcm",
      "3-1.dcm",
      "md5hashes.csv",
    ]);
    expect(entries.every(({ flags, method }) => (flags & 8) === 8 && method === 8)).toBe(true);
    expect(entries[0]!.data.toString()).toMatch(/^License Information\./);
    const lines = entries.at(-1)!.data.toString().trimEnd().split("\n");
    expect(lines.shift()).toBe("Filename,MD5Hash");
    const truth = entries.slice(1, -1).map(({ name, data }) => `${name},${hashOf(data)}`);
    expect(lines.toSorted()).toEqual(truth.toSorted());
    expect(lines).not.toEqual(truth);
  });

  it("v1 getImage: counter names in database order, no sums; the v4 switch is ignored", async () => {
    const { body } = await ask("v1/getImage?SeriesInstanceUID=1.2.3.2&IncludeMD5=Yes");
    const entries = await unzip(body);
    expect(entries.map(({ name }) => name)).toEqual([
      "LICENSE",
      ...[1, 2, 3, 4, 5].map((number) => `0000000${number}.dcm`),
    ]);
    // Sizes tell the instance number: the order is another one.
    expect(entries.slice(1).map(({ data }) => data.length)).not.toEqual([1000, 1001, 1002, 1003, 1004]);
  });

  it("getImageWithMD5Hash has no LICENSE, getDCMImage has sums only when asked", async () => {
    const names = async (path: string) => (await unzip((await ask(path)).body)).map(({ name }) => name);
    const withHash = await names("v4/getImageWithMD5Hash?SeriesInstanceUID=1.2.3.1");
    expect(withHash).toEqual(["00000001.dcm", "00000002.dcm", "00000003.dcm", "md5hashes.csv"]);
    const plain = "v1/getDCMImage?SeriesInstanceUID=1.2.3.1&IncludeAnnotation=true&MD5Verification=";
    expect(await names(`${plain}false`)).toEqual(["1-1.dcm", "1-2.dcm", "1-3.dcm"]);
    expect(await names(`${plain}true`)).toContain("md5hashes.csv");
    expect(await names("v4/getImage?SeriesInstanceUID=1.2.3.3&NewFileNames=yes")).toEqual(["LICENSE"]);
    expect(await names("v4/getImageOther?SeriesInstanceUID=1.2.3.1")).toEqual([]);
  });

  it("names follow the changes of acquisition and instance numbers", () => {
    const names = (numbers: [number | null, number | null][]) =>
      newFileNames(
        numbers.map(([instance, acquisition], i) => tinyImage(`1.${i}`, instance, acquisition)),
      ).map(({ name, image }) => `${name} ${image.instanceNumber}`);
    expect(names([[2, 1], [null, 1], [1, 1]])).toEqual(["1-1.dcm null", "1-2.dcm 1", "1-3.dcm 2"]); // biome-ignore format: a table
    expect(names([[1, null], [2, 0], [3, 5]])).toEqual(["1-1.dcm 1", "1-2.dcm 2", "2-1.dcm 3"]); // biome-ignore format: a table
    const twelve = Array.from({ length: 12 }, (_, i): [number, number] => [i + 1, i]);
    expect(names(twelve)[0]).toBe("01-01.dcm 1");
    expect(names([[1, 1], [1, 1], [1, 1]])).toHaveLength(3); // biome-ignore format: a table
  });

  it("single image, its sum, and the sum over a series", async () => {
    const path = "v4/getSingleImage?SeriesInstanceUID=1.2.3.1&SOPInstanceUID=1.2.3.1.2";
    const image = await ask(path);
    expect(image.headers["content-type"]).toBe("application/dicom");
    expect(image.headers["content-disposition"]).toBe("attachment; filename=1.2.3.1.2.dcm");
    const md5 = hashOf(image.body);
    expect((await ask("v4/getMD5HashForImage?SOPInstanceUID=1.2.3.1.2")).text).toBe(md5);
    expect((await ask("v1/getM5HashForImage?SOPInstanceUid=1.2.3.1.2")).text).toBe(md5);
    expect((await ask(`${path}9`)).status).toBe(500);
    const listed = await rows("v4/getSOPInstanceUIDs?SeriesInstanceUID=1.2.3.1");
    const sums = await Promise.all(
      listed.map(
        async ({ SOPInstanceUID }) =>
          (await ask(`v4/getMD5HashForImage?SOPInstanceUID=${SOPInstanceUID}`)).text,
      ),
    );
    const whole = await ask("v4/getMD5Hierarchy", { form: "SeriesInstanceUID=1.2.3.1" });
    expect(whole.text).toBe(createHash("md5").update(sums.toSorted().join("")).digest("hex"));
  });

  it("refusals are sentences with 400, labelled as JSON", async () => {
    const v1 = await ask("v1/getImage?SeriesInstanceUID=1.2.3.4");
    expect([v1.status, v1.headers["content-type"], v1.text]).toEqual([
      400,
      "application/json",
      "Image with given SeriesInstanceUID,1.2.3.4, is not in public domain.",
    ]);
    expect((await ask("v4/getImage?SeriesInstanceUID=9.9")).text).toBe(
      "The user has not been granted the access to image with given SeriesInstanceUID,9.9. Please contact System Admin to resolve this issue.",
    );
    expect((await ask("v4/getImage")).text).toBe(
      "A parameter, SeriesInstanceUID, is required for this API call.",
    );
  });
});

describe("the portal's endpoints", () => {
  it("getManifestText: six lines of head, then the series", async () => {
    const { headers, text } = await ask("v4/getManifestText", { form: "list=1.2.3.1&list=1.2.3.2" });
    expect(headers["content-type"]).toBe("application/x-nbia-manifest-file");
    expect(text.replace(/manifest-\d+/, "manifest-N")).toBe(
      `downloadServerUrl=${sandbox.url}/nbia-download/servlet/DownloadServlet\nincludeAnnotation=false\n` +
        "noOfrRetry=4\ndatabasketId=manifest-N.tcia\nmanifestVersion=3.0\nListOfSeriesToDownload=\n1.2.3.1\n1.2.3.2\n",
    );
    const all = await ask("v4/getManifestForCollection", { form: "collection=LUNG+CT" });
    expect(all.text.trimEnd().split("\n")).toHaveLength(6 + 4);
  });

  it("getSimpleSearch: unions within a type, numbering without gaps, pages", async () => {
    const search = async (form: string) => JSON.parse((await ask("v4/getSimpleSearch", { form })).text);
    const both =
      "criteriaType0=ImageModalityCriteria&value0=ct&criteriaType1=ImageModalityCriteria&value1=MR";
    const found = await search(`${both}&sortField=subject&sortDirection=descending&start=0&size=1`);
    expect(found).toMatchObject({
      totalPatients: 2,
      resultSet: [{ subjectId: "P2", project: "LUNG CT", totalNumberOfSeries: 1, modalities: ["MR"] }],
      collections: [{ value: "LUNG CT", count: 2 }],
    });
    const gap = "criteriaType0=CollectionCriteria&value0=LUNG+CT&criteriaType2=PatientCriteria&value2=P1";
    expect(await search(gap)).toMatchObject({ totalPatients: 2 });
    const dated = "criteriaType0=DateRangeCriteria&fromDate0=01-02-2020&toDate0=01-02-2020";
    expect(await search(dated)).toMatchObject({ totalPatients: 1 });
  });

  it.each([
    ["PatientSexCriteria F", "PatientSexCriteria=F", 2],
    ["either sex", "PatientSexCriteria=F PatientSexCriteria=M", 2],
    ["no such sex", "PatientSexCriteria=M", 0],
    ["a species or another", "SpeciesCriteria=337915000 SpeciesCriteria=448771007", 2],
    [
      "two modalities of one patient",
      "ImageModalityCriteria=CT ImageModalityCriteria=MR ModalityAndedSearchCriteria=all",
      0,
    ],
    ["one modality, all of it", "ModalityAndedSearchCriteria=all ImageModalityCriteria=MR", 1],
    ["any modality", "ImageModalityCriteria=CT ImageModalityCriteria=MR ModalityAndedSearchCriteria=any", 2],
    ["two studies", "MinNumberOfStudiesCriteria=2", 0],
    ["one study date", "MinNumberOfStudyDatesCriteria=1", 2],
    ["two study dates", "MinNumberOfStudyDatesCriteria=2", 0],
    ["a version that nothing has", "SoftwareVersionCriteria=1", 0],
    ["nothing is not an empty value", "SoftwareVersionCriteria=", 0],
    ["a model", "ModelCriteria=LIGHTSPEED BodyPartExaminedCriteria=chest", 2],
  ])("getSimpleSearch: %s", async (_, criteria, totalPatients) => {
    const form = criteria
      .split(" ")
      .map((one, n) => `criteriaType${n}=${one.replace("=", `&value${n}=`)}`)
      .join("&");
    expect(JSON.parse((await ask("v4/getSimpleSearch", { form })).text)).toMatchObject({ totalPatients });
  });

  it.each([
    ["DescriptionCriteria", "value0=%22chest%2Fabd%22", 2],
    ["DescriptionCriteria", "value0=nothing+c*st", 2],
    ["DescriptionCriteria", "value0=c.est", 0],
    ["ThirdPartyAnalysis", "value0=Yes", 0],
    ["PatientAgeRangeCriteria", "from0=0&to0=61", 2],
    ["PhantomCriteria", "value0=1", 2],
    ["PhantomCriteria", "value0=2", 0],
    ["PatientAgeRangeCriteria", "from0=121&to0=130", 0],
    ["SliceThicknessRangeCriteria", "from0=900&to0=1000", 0],
  ])("getSimpleSearch: %s %s", async (type, values, totalPatients) => {
    const form = `criteriaType0=${type}&${values}`;
    expect(JSON.parse((await ask("v4/getSimpleSearch", { form })).text)).toMatchObject({ totalPatients });
  });

  it.each([
    [
      "criteriaType0=ExcludeCommercialCriteria&value0=YES",
      "the sandbox does not know the criterion ExcludeCommercialCriteria",
    ],
    [
      "criteriaType0=CollectionCriteria&value0=LUNG+CT&criteriaType1=TimePointCriteria&fromDay1=1&toDay1=2",
      "the sandbox does not know the criterion TimePointCriteria",
    ],
    ["criteriaType0=PatientAgeRangeCriteria&from0=1", "null"],
    ["criteriaType0=PixelSpacingRangeCriteria&from0=a&to0=1", 'For input string: "a"'],
    ["criteriaType0=CollectionCriteria", "null"],
    ["criteriaType0=MinNumberOfStudiesCriteria&value0=two", 'For input string: "two"'],
    [
      "criteriaType0=DateRangeCriteria&fromDate0=2020/01/02&toDate0=01-02-2020",
      'Unparseable date: "2020/01/02"',
    ],
    ["criteriaType0=DateRangeCriteria&fromDate0=01-02-2020", 'Unparseable date: ""'],
    ["start=x", 'For input string: "x"'],
    ["size=", 'For input string: ""'],
  ])("getSimpleSearch refuses %s rather than find too much", async (form, message) => {
    expect(await ask("v4/getSimpleSearch", { form })).toMatchObject({
      status: 500,
      headers: { "content-type": "text/plain" },
      text: `Server was not able to process your request\n${message}`,
    });
  });

  it("getDicomTags: the elements of the first image; nothing for what is unknown or no DICOM", async () => {
    expect((await ask("v4/getDicomTags?SeriesUID=9.9")).text).toBe("");
    expect((await ask("v4/getDicomTags?SeriesUID=1.2.3.1")).text).toBe("");
    const phantoms = await startSandbox();
    try {
      const base = `${phantoms.url}/nbia-api/services/v4`;
      const listed: unknown = await (await fetch(`${base}/getSeries?Modality=CT`)).json();
      const [series] = listed as [{ SeriesInstanceUID: string }];
      const tags = await (await fetch(`${base}/getDicomTags?SeriesUID=${series.SeriesInstanceUID}`)).json();
      expect(tags).toContainEqual({ element: "(0008,0060)", name: "Modality", data: "CT" });
      expect(tags).toContainEqual({
        element: "(0020,000E)",
        name: "Series Instance UID",
        data: series.SeriesInstanceUID,
      });
    } finally {
      await phantoms.close();
    }
  });

  it("the historic service: the same names, a key for its generations 2 and 3", async () => {
    const v3 = "/services/v3/TCIA/query";
    expect((await ask(`${v3}/getCollectionValues?format=json`)).status).toBe(401);
    expect((await ask(`${v3}/getCollectionValues?format=json&api_key=k`)).status).toBe(401);
    expect((await ask(`${v3}/getCollectionValues?format=json&api_key=demo`)).text).toBe(
      '[{"Collection":"LUNG CT"}]',
    );
    const header = { headers: { api_key: "demo" } };
    expect((await ask(`${v3}/PatientsByModality?Collection=LUNG+CT&Modality=MR`, header)).text).toContain(
      "P2",
    );
    expect((await ask("/services/v4/TCIA/query/getSeries")).status).toBe(200);
    expect((await ask("/services/v3/SharedList/query/ContentsByName?name=sandbox", header)).text).toContain(
      "1.2.3.1",
    );
  });

  it("the historic service: every format, also of a shared list, and the columns of an endpoint", async () => {
    const header = { headers: { api_key: "demo" } };
    for (const query of ["TCIA/query/getPatient?", "SharedList/query/ContentsByName?name=sandbox&"]) {
      const types: (string | undefined)[] = [];
      for (const format of ["json", "csv", "html", "xml"]) {
        const reply = await ask(`/services/v3/${query}format=${format}`, header);
        expect(reply.status).toBe(200);
        types.push(reply.headers["content-type"]);
      }
      expect(types).toEqual(["application/json", "text/csv", "text/html", "application/xml"]);
    }
    const metadata = await ask("/services/v3/TCIA/query/getSeries/metadata?format=csv", header);
    expect(metadata.text.split("\n").slice(0, 3)).toEqual([
      '"name","position"',
      '"SeriesInstanceUID","1"',
      '"StudyInstanceUID","2"',
    ]);
    expect((await ask("/services/v3/TCIA/query/getImage/metadata", header)).status).toBe(404);
    expect((await ask("/services/v3/TCIA/query/getSeries/metadata")).status).toBe(401);
  });
});

describe("access", () => {
  it("v2 and the advanced API fail without a header; v4 is open; a bad token is 401 without body", async () => {
    const v2 = await ask("v2/getSeries");
    expect([v2.status, v2.headers["content-type"], v2.text]).toEqual([
      500,
      "text/plain",
      "Server was not able to process your request\nnull",
    ]);
    expect((await ask("getCollectionValuesAndCounts")).status).toBe(500);
    const headers = { authorization: "Bearer nonsense" };
    for (const path of ["v2/getSeries", "v4/getSeries", "v4/getImage?SeriesInstanceUID=1.2.3.1"]) {
      const { status, text } = await ask(path, { headers });
      expect([status, text]).toEqual([401, ""]);
    }
    expect((await ask("v1/getSeries", { headers })).status).toBe(200);
    expect((await ask("v2/getSeries", { headers: { authorization: "Bearer undefined" } })).status).toBe(200);
  });

  it("only the demo user sees restricted series", async () => {
    const path = "v4/getImage?SeriesInstanceUID=1.2.3.4";
    expect((await ask(path)).status).toBe(400);
    const guest = await login("grant_type=password&username=nbia_guest&password=");
    expect((await ask(path, { headers: guest })).status).toBe(400);
    const demo = await login();
    expect((await ask(path, { headers: demo })).status).toBe(200);
    expect((await ask("v4/getCollectionValues", { headers: demo })).text).toContain("SECRET");
    expect((await ask("v1/getImage?SeriesInstanceUID=1.2.3.4", { headers: demo })).status).toBe(400);
  });

  it("tokens: at both addresses, by query, refreshed, refused, expired, logged out", async () => {
    const fields = "grant_type=password&username=demo&password=demo&client_id=NBIA";
    const byQuery = await ask(`/nbia-api/services/oauth/token?${fields}`, { method: "POST" });
    const { access_token, refresh_token, expires_in } = JSON.parse(byQuery.text);
    expect(access_token.split(".")).toHaveLength(3);
    expect(expires_in).toBe(7200);
    const refresh = `grant_type=refresh_token&refresh_token=${refresh_token}&client_id=NBIA`;
    expect((await ask("/nbia-api/oauth/token", { form: refresh })).status).toBe(200);
    expect(
      (await ask("/nbia-api/oauth/token", { form: "grant_type=refresh_token&refresh_token=x" })).status,
    ).toBe(400);
    const wrong = await ask("/nbia-api/oauth/token", {
      form: "grant_type=password&username=demo&password=no",
    });
    expect([wrong.status, JSON.parse(wrong.text).error]).toEqual([401, "invalid_grant"]);
    expect((await ask("/nbia-api/oauth/token", { form: "username=demo" })).status).toBe(500);
    await expect(ask("/nbia-api/oauth/token", { form: "grant_type=magic" })).rejects.toThrow();

    const headers = { authorization: `Bearer ${access_token}` };
    expect((await ask("v2/getSeries", { headers })).status).toBe(200);
    sandbox.control.tokens({ expireNow: true });
    expect((await ask("v2/getSeries", { headers })).status).toBe(401);
    expect((await ask("/nbia-api/oauth/token", { form: refresh })).status).toBe(400);
    sandbox.control.tokens({ ttlSeconds: 0 });
    expect((await ask("v2/getSeries", { headers: await login() })).status).toBe(401);
    sandbox.control.tokens({ ttlSeconds: 60 });
    const fresh = await login();
    expect((await ask("/nbia-api/logout", { method: "POST", headers: fresh })).status).toBe(200);
    expect((await ask("v2/getSeries", { headers: fresh })).status).toBe(401);
  });

  it("NLST lives on its own host, with its own failings", async () => {
    expect((await ask("v4/getImage?SeriesInstanceUID=1.2.3.5")).status).toBe(400);
    const nlst = "/nlst/nbia-api/services/v4";
    expect((await ask(`${nlst}/getCollectionValues`)).text).toBe('[{"Collection":"NLST"}]');
    expect((await ask(`${nlst}/getImage?SeriesInstanceUID=1.2.3.5`)).status).toBe(200);
    expect((await ask(`${nlst}/getSOPInstanceUIDs?SeriesInstanceUID=1.2.3.5`)).text).toBe("");
    expect(
      (await ask(`${nlst}/getSingleImage?SeriesInstanceUID=1.2.3.5&SOPInstanceUID=1.2.3.5.1`)).status,
    ).toBe(500);
  });

  it("both mappings, unknown paths, wrong verbs, HEAD, CORS", async () => {
    expect((await ask("/nbia-api/v4/getCollectionValues")).status).toBe(200);
    const unknown = await ask("v4/getNothing");
    expect([unknown.status, unknown.text]).toEqual([
      500,
      "Server was not able to process your request\nHTTP 404 Not Found",
    ]);
    expect((await ask("v4/getSeriesMetadata")).text).toContain("HTTP 405 Method Not Allowed");
    const head = await ask("v4/getSeries", { method: "HEAD" });
    expect([head.status, head.text]).toEqual([200, ""]);
    const cors = await ask("v4/getSeries", { headers: { origin: "http://example.org" } });
    expect(cors.headers["access-control-allow-origin"]).toBe("*");
  });
});

it("keeps finished zips when asked to, and forgets them when the archive changes", async () => {
  const reads = { count: 0 };
  const image = tinyImage("1.5.1", 1);
  const counted = {
    ...image,
    read: () => {
      reads.count++;
      return image.read();
    },
  };
  const kept = await startSandbox({
    data: datasetOf([tinySeries("1.5", { images: [counted] })]),
    precompute: true,
  });
  try {
    await kept.control.precompute();
    const url = `${kept.url}/nbia-api/services/v4/getImage?SeriesInstanceUID=1.5&NewFileNames=Yes&IncludeMD5=Yes`;
    const first = await fetch(url);
    expect(first.headers.get("content-length")).toBeNull();
    const bytes = Buffer.from(await first.arrayBuffer());
    expect(Buffer.from(await (await fetch(url)).arrayBuffer())).toEqual(bytes);
    expect(reads.count).toBe(1);
    kept.control.change({ uid: "1.5", change: "replace-bytes" });
    expect(Buffer.from(await (await fetch(url)).arrayBuffer())).not.toEqual(bytes);
  } finally {
    await kept.close();
  }
});
