import { describe, expect, it } from "vitest";
import { readContent } from "../../test/support/selections.ts";

const A = "1.2.840.1.1";
const B = "1.2.840.1.2";
const AB = [`tcia:${A}`, `tcia:${B}`];
const lines = (...all: string[]): string => `${all.join("\n")}\n`;

describe("a text selection", () => {
  it("belongs to the archive of its server, and addresses to their own", async () => {
    const text = lines("downloadServerUrl=https://n.example.org/x", A, `tcia:${B}`, `"${B}"`);
    expect((await readContent("x.tcia", text)).refs).toEqual([`nlst:${A}`, `tcia:${B}`, `nlst:${B}`]);
  });

  it.each([
    [
      "downloadServerUrl=https://x.example.org/y",
      /no configured archive is at "https:\/\/x\.example\.org\/y"/u,
    ],
    ["dataType=other", /is not DICOM/u],
  ])("whose series can't be asked for names none of them, and says it once: %s", async (header, why) => {
    const { refs, bad, badCount } = await readContent("x.tcia", lines(header, A, B, `nlst:${B}`));
    expect(refs).toEqual([`nlst:${B}`]);
    expect(badCount).toBe(1);
    expect(bad[0]).toMatch(why);
  });

  it.each([
    ["cp s3://idc-open-data/0a1b/* .", "an object of the Imaging Data Commons"],
    ["cp --show-progress 's3://idc-open-data-two/0a1b/*' .", "an object of the Imaging Data Commons"],
    ["gs://public-datasets-idc/0a1b", "an object of the Imaging Data Commons"],
    ["s3://somebody/else", "an object of an S3 store"],
    ["drs://nci-crdc.datacommons.io/dg.4DFC/0ca9", "a file of a Gen3 data commons (DRS)"],
    [
      "https://faspex.cancerimagingarchive.net/aspera/faspex/public/package?context=x",
      "its context is cut or damaged",
    ],
    ["https://x:y@example.org/a", "holds a login"],
    ["https://example.org/a?token=abc", "holds a signature or token"],
    [
      `LUNG|P1|1.2.3.4|${A}|Yes|3|900|0|url|x`,
      `a record of a manifest of version 1 or 2, which is not read; the series is ${A}`,
    ],
    ["idc:nlst", 'there is no archive named "idc"'],
    ["1.36E+25", "a UID that a spreadsheet took for a number"],
    ["\u001b[2J\u009b\u202e", '("\\u001b[2J\\u{9b}\\u{202e}")'],
  ])("%j is told for what it is", async (line, noun) => {
    const { bad, refs } = await readContent("x.txt", lines(A, line));
    expect(refs).toEqual([`tcia:${A}`]);
    expect(bad).toEqual([expect.stringContaining(noun)]);
    expect(bad[0]).toMatch(/^x\.txt:2: /u);
    expect(bad[0]).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e]/u);
  });

  it("takes links: to plain files as they are, to manifests by what they name", async () => {
    const text = lines("https://w.org/a.csv#x", "https://w.org/b.tcia", A);
    const { refs, bad } = await readContent("x.txt", text, { "https://w.org/b.tcia": lines(B) });
    expect(bad).toEqual([]);
    expect(refs).toEqual(["web:https://w.org/a.csv", `tcia:${B}`, `tcia:${A}`]);
  });

  it("keeps the secrets of links out of messages", async () => {
    const { bad } = await readContent(
      "x.txt",
      "https://me:geheim@w.org/a\nhttps://w.org/a?token=geheim\ns3://a/b?c=geheim\n",
    );
    expect(bad).toHaveLength(3);
    expect(bad.join("\n")).not.toContain("geheim");
  });

  it("shows the first bad lines and counts all", async () => {
    const { bad, badCount } = await readContent("x.txt", lines(A, ...Array.from({ length: 9 }, () => "bad")));
    expect([bad.length, badCount]).toEqual([5, 9]);
  });

  it("may be UTF-16, as shells of Windows write it", async () => {
    const text = `\uFEFF${lines(A, B).replaceAll("\n", "\r\n")}`;
    expect((await readContent("x.txt", Buffer.from(text, "utf16le"))).refs).toEqual(AB);
    expect((await readContent("x.txt", Buffer.from(text, "utf16le").swap16())).refs).toEqual(AB);
  });

  it.each([
    ["gzip", Buffer.from([0x1f, 0x8b, 8, 0]), /compressed/u],
    ["old Excel", Buffer.from([0xd0, 0xcf, 0x11, 0xe0, 0xa1]), /old or an encrypted Excel file/u],
    ["DICOM", Buffer.concat([Buffer.alloc(128), Buffer.from("DICM")]), /no text/u],
    ["a line without end", Buffer.alloc(2 ** 21, "1"), /line of more than 1 MiB/u],
    ["a web page", "<!DOCTYPE html>\n<html><body>Sign in</body></html>", /web page/u],
    ["a web page without a doctype", "<html><body>Sign in</body></html>", /web page/u],
    ["a launch file", '<?xml version="1.0"?><jnlp spec="1.0+"></jnlp>', /version 1 or 2/u],
    ["other XML", "<svg></svg>", /begins with "svg"/u],
    ["cut XML", "<TCIACollection><Downloads>", /not well-formed XML/u],
    ["other JSON", '{"a": 1}', /neither a listing nor a Croissant/u],
    ["cut JSON", '{"@type": "sc:Dataset", "dis', /no whole JSON/u],
  ])("%s is refused with a sentence", async (_, content, sentence) => {
    await expect(readContent("x.tcia", content)).rejects.toMatchObject({
      code: "bad-selection",
      message: expect.stringMatching(sentence),
    });
  });
});

describe("a manifest in XML", () => {
  const xml = (...urls: string[]): string =>
    `<?xml version="1.0" encoding="UTF-8"?>\n<TCIACollection apiVersion="v2">\n  <Downloads>\n${urls.map((url) => `    <URL>${url}</URL>\n`).join("")}  </Downloads>\n</TCIACollection>\n`;

  it("is the series of the manifests that it names, each read by its own content", async () => {
    const { refs, fetched, bad } = await readContent(
      "x.tcia",
      xml("https://w.org/a.tcia?x=1&amp;y=2", " https://w.org/b ", "https://w.org/c"),
      {
        "https://w.org/a.tcia?x=1&y=2": lines("downloadServerUrl=https://n.example.org/x", A),
        "https://w.org/b": lines("Series UID,x", `${B},y`),
        "https://w.org/c": xml("c/d.tcia"),
        "https://w.org/c/d.tcia": lines(`tcia:${A}`),
      },
    );
    expect(bad).toEqual([]);
    expect(refs).toEqual([`nlst:${A}`, `tcia:${B}`, `tcia:${A}`]);
    expect(fetched).toHaveLength(4);
  });

  it("fetches each once, goes round in no circle, and not deeper than four", async () => {
    const { refs, bad, fetched } = await readContent(
      "x.tcia",
      xml("https://w.org/1", "https://w.org/1", "https://w.org/loop"),
      {
        "https://w.org/1": xml("https://w.org/2"),
        "https://w.org/2": xml("https://w.org/3"),
        "https://w.org/3": xml("https://w.org/4"),
        "https://w.org/4": xml("https://w.org/5"),
        "https://w.org/5": lines(A),
        "https://w.org/loop": xml("https://w.org/back"),
        "https://w.org/back": xml("https://w.org/loop#x"),
      },
    );
    expect(refs).toEqual([]);
    expect(fetched).toHaveLength(6);
    expect(bad).toEqual([
      expect.stringMatching(/^https:\/\/w\.org\/4:4: more than 4 manifests/u),
      expect.stringMatching(/^https:\/\/w\.org\/back:4: it leads back to https:\/\/w\.org\/loop$/u),
    ]);
  });

  it.each([
    ["http://w.org/a", "http: is not safe to follow"],
    ["file:///etc/passwd", "file: is not followed"],
    ["ftp://w.org/a", "ftp: is not followed"],
    ["../secret", "neither an address on the web nor a file beside this one"],
    ["/etc/passwd", "neither an address on the web nor a file beside this one"],
    ["", "neither an address on the web nor a file beside this one"],
    ["gone.tcia", "there is no file"],
    ["https://w.org/gone", "is not there (HTTP 404)"],
    ["https://w.org/binary", "is no text"],
    ["https://w.org/inward", "a file from the web may not lead to this machine"],
    ["https://w.org/clear", "http: is not safe to follow"],
  ])("a URL %j is a bad line, and the rest is used", async (url, why) => {
    const { refs, bad } = await readContent(
      "x.tcia",
      xml(url, "beside.txt"),
      {
        "https://w.org/binary": Buffer.alloc(9),
        "https://w.org/inward": xml("http://127.0.0.1:8080/x"),
        "https://w.org/clear": xml("http://other.org/x"),
      },
      { "beside.txt": lines(B) },
    );
    expect(refs).toEqual([`tcia:${B}`]);
    expect(bad).toEqual([expect.stringContaining(why)]);
  });

  it("on this machine may be plain http", async () => {
    const web = { "http://127.0.0.1:8080/x": lines(A), "http://localhost/y": lines(B) };
    expect((await readContent("x.tcia", xml(...Object.keys(web)), web)).refs).toEqual(AB);
  });

  it("expands no entities", async () => {
    const bomb = `<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><TCIACollection><Downloads><URL>&b;</URL></Downloads></TCIACollection>`;
    await expect(readContent("x.tcia", bomb)).rejects.toMatchObject({
      message: expect.stringContaining("a document with a DOCTYPE is not read"),
    });
  });
});

describe("a saved selection", () => {
  const header = '{"kind":"gantry-selection","version":1,"request":{},"replaces":[],"items":1}';
  it("is its addresses; what is no item is bad", async () => {
    const { refs, bad } = await readContent(
      "x.jsonl",
      lines(
        header,
        `{"id":"dicom-series:${A}","address":"nlst:${A}"}`,
        "null",
        '{"id":"x"}',
        '{"address":"x"}',
        '{"addr',
      ),
    );
    expect(refs).toEqual([`nlst:${A}`]);
    expect(bad.map((text) => text.slice(0, 10))).toEqual([
      "x.jsonl:3:",
      "x.jsonl:4:",
      "x.jsonl:5:",
      "x.jsonl:6:",
    ]);
  });

  it("of a newer version is refused", async () => {
    await expect(readContent("x.jsonl", header.replace('"version":1', '"version":2'))).rejects.toMatchObject({
      code: "folder-newer",
    });
  });

  it.each([
    [
      "rows of a listing, a line each",
      lines(`{"Modality":"CT","address":"tcia:${A}"}`, `{"SeriesInstanceUID":"${B}"}`),
    ],
    ["a listing as one array", `[{"Modality":"CT","address":"tcia:${A}"},\n{"Series UID":"${B}"}]`],
    ["an array of UIDs", `["${A}","${B}"]`],
  ])("may be %s", async (_, text) => {
    expect((await readContent("x.json", text)).refs).toEqual(AB);
  });
});

describe("a Croissant data set", () => {
  /** In the form of TCIA's own (kirbyju/tcia-croissant-odrl examples, 2026). */
  const dataset = (more: Record<string, unknown>): string =>
    JSON.stringify({
      "@context": { "@vocab": "https://schema.org/" },
      "@type": "sc:Dataset",
      name: "X",
      ...more,
    });
  const property = (name: string, value: unknown) => ({ "@type": "PropertyValue", name, value });

  it("leads to its manifests, met in the distribution and in the records as one", async () => {
    const url = "https://w.org/uploads/doiJNLP-Y71kLpdQ.tcia";
    const text = dataset({
      distribution: [
        {
          "@type": "cr:FileObject",
          "@id": "file-42107",
          name: "doiJNLP-Y71kLpdQ.tcia",
          contentUrl: url,
          additionalProperty: [
            property("TCIA download id", "42107"),
            property("TCIA download artifact role", "manifest"),
            property("TCIA access mechanism", "TCIA Data Retriever"),
          ],
        },
      ],
      recordSet: [
        {
          "@id": "download-42107",
          name: "Radiology Images",
          data: [
            {
              "download-42107/download_id": 42107,
              "download-42107/download_url": url,
              "download-42107/file_object_id": "file-42107",
              "download-42107/download_types": ["Radiology Images"],
            },
          ],
        },
      ],
    });
    const { refs, fetched, bad } = await readContent("x.jsonld", text, { [url]: lines(A, B) });
    expect(bad).toEqual([]);
    expect(refs).toEqual(AB);
    expect(fetched).toEqual([url]);
  });

  it("leads to the tables of its records of series, beside it too", async () => {
    const field = (table: string, column: string) => ({
      "@type": "cr:Field",
      name: column,
      source: { fileObject: { "@id": table }, extract: { column } },
    });
    const text = dataset({
      distribution: [
        { "@id": "series.csv", name: "series.csv", contentUrl: "series.csv" },
        { "@id": "slides.csv", name: "slides.csv", contentUrl: "https://w.org/slides.csv" },
      ],
      recordSet: [
        {
          name: "Series",
          field: [field("series.csv", "PatientID"), field("series.csv", "SeriesInstanceUID")],
        },
        { name: "Slides", field: [field("slides.csv", "imageUrl")] },
      ],
    });
    const { refs, bad } = await readContent(
      "x.json",
      text,
      {},
      { "series.csv": lines("SeriesInstanceUID", A, B) },
    );
    expect(refs).toEqual(AB);
    expect(bad).toEqual([expect.stringMatching(/^x\.json "slides\.csv": a plain file of a web site/u)]);
  });

  it("says of every other download what it is", async () => {
    const text = dataset({
      distribution: [
        {
          name: "faspex",
          contentUrl: "https://f.org/p",
          additionalProperty: property("TCIA access mechanism", "Aspera"),
        },
        {
          name: "labels",
          contentUrl: "https://w.org/labels.csv",
          additionalProperty: [property("TCIA download artifact role", "data file")],
        },
        { name: "drs", contentUrl: "drs://x/y" },
        { name: "none" },
      ],
      recordSet: { name: "rows", data: { "rows/SeriesInstanceUID": A } },
    });
    const { refs, bad } = await readContent("x.json", text);
    expect(refs).toEqual([`tcia:${A}`]);
    expect(bad).toEqual([
      expect.stringContaining("an Aspera package"),
      expect.stringContaining("a plain file of a web site"),
      expect.stringContaining("a file of a Gen3 data commons"),
      expect.stringContaining("it has no URL"),
    ]);
  });

  it("without any download is refused", async () => {
    await expect(readContent("x.json", dataset({ distribution: [] }))).rejects.toMatchObject({
      code: "bad-selection",
    });
  });
});
