/** Whatever a file holds: a reader ends, with what it names or with a sentence of ours. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readContent, spreadsheet, zipped } from "../../test/support/selections.ts";
import { RunError } from "../errors.ts";

const A = "1.2.840.1.1";

async function reads(name: string, content: string | Uint8Array): Promise<void> {
  try {
    const { refs, count, badCount } = await readContent(name, content);
    expect(refs).toHaveLength(count);
    expect(badCount).toBeGreaterThanOrEqual(0);
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    expect(error.message).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/u);
  }
}

const NAMES = ["x.tcia", "x.csv", "x.tsv", "x.xlsx", "x.json", "x.jsonl", "x"];
const PIECES = [
  "\n",
  "\r\n",
  ",",
  ";",
  "\t",
  '"',
  '""',
  "'",
  "|",
  "#",
  "=",
  ":",
  "/",
  "\\",
  "\u0000",
  "\u001b",
  "\uFEFF",
  "\ud800",
  A,
  `tcia:${A}`,
  "idc:x",
  "tcia:",
  "x:%zz",
  "SeriesInstanceUID",
  "Series UID",
  "address",
  "SOPInstanceUID",
  "imageUrl",
  "downloadServerUrl=https://a.example.org/x",
  "dataType=other",
  "ListOfSeriesToDownload=",
  "sep=;",
  "https://w.org/a",
  "https://w.org/a.tcia",
  "http://[",
  "s3://",
  "drs:x",
  "cp ",
  '{"kind":"gantry-selection","version":1}',
  '{"address":',
  "{",
  "}",
  "[",
  "]",
  "null",
  '"@type":"Dataset",',
  '"distribution":',
  '"recordSet":',
  '"contentUrl":"https://w.org/a.tcia"',
  "<TCIACollection>",
  "<Downloads>",
  "<URL>",
  "</URL>",
  "</Downloads>",
  "</TCIACollection>",
  "<",
  ">",
  "&amp;",
  "&a;",
  "<!DOCTYPE x>",
  "<![CDATA[",
  "]]>",
];
const text = fc
  .array(fc.oneof(fc.constantFrom(...PIECES), fc.string({ unit: "binary", maxLength: 5 })), { maxLength: 30 })
  .map((parts) => parts.join(""));
const begins = fc.constantFrom(
  "",
  "SeriesInstanceUID,x\n",
  "<TCIACollection>",
  '{"@type":"Dataset",',
  "[",
  '{"kind":"gantry-selection","version":1}\n',
);

describe("a reader of selections", () => {
  it("takes any text", async () => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...NAMES), begins, text, (name, begin, rest) =>
        reads(name, begin + rest),
      ),
      { numRuns: 400 },
    );
  }, 60_000);

  it("takes any bytes", async () => {
    const magic = fc
      .constantFrom("", "PK\u0003\u0004", "\u00ff\u00fe", "\u00fe\u00ff", "\u00ef\u00bb\u00bf")
      .map((head) => Buffer.from(head, "latin1"));
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...NAMES),
        magic,
        fc.uint8Array({ maxLength: 200 }),
        (name, head, bytes) => reads(name, Buffer.concat([head, bytes])),
      ),
      { numRuns: 300 },
    );
  }, 60_000);

  it("takes any JSON", async () => {
    const data = fc.jsonValue({ maxDepth: 4 });
    const croissant = fc.record({
      "@type": fc.constantFrom("sc:Dataset", ["Dataset"]),
      distribution: fc.oneof(
        data,
        fc.array(fc.record({ "@id": data, name: data, contentUrl: data, additionalProperty: data })),
      ),
      recordSet: fc.oneof(data, fc.array(fc.record({ name: data, data, field: data }))),
    });
    await fc.assert(
      fc.asyncProperty(fc.oneof(data, croissant), (value) => reads("x.json", JSON.stringify(value))),
      { numRuns: 300 },
    );
    for (const deep of [
      "[".repeat(200_000),
      `${"[".repeat(100_000)}${"]".repeat(100_000)}`,
      `${'{"@type":"Dataset","distribution":'.repeat(5_000)}1${"}".repeat(5_000)}`,
    ])
      await reads("x.json", deep);
  }, 60_000);

  it("takes any change of a spreadsheet, of the zip and of what is in it", async () => {
    const whole = await spreadsheet({
      S: [
        ["Series UID", "x"],
        [A, "y"],
      ],
    });
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(255), fc.nat(whole.length), (at, byte, cut) => {
        const changed = Uint8Array.from(whole);
        changed[at] = byte;
        return reads("x.xlsx", changed.subarray(0, at % 2 ? cut : whole.length));
      }),
      { numRuns: 200 },
    );
    const sheet = fc.constantFrom(
      "<row>",
      "</row>",
      '<c r="A1" t="s">',
      '<c r="ZZZ9">',
      "</c>",
      "<v>",
      "</v>",
      "0",
      "99",
      "-1",
      A,
      "<is><t>",
      "</t></is>",
      "<rPh>",
      '<row r="x">',
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(sheet, { maxLength: 20 }),
        fc.array(sheet, { maxLength: 20 }),
        async (one, two) =>
          reads(
            "x.xlsx",
            await zipped(
              Object.entries({
                "xl/workbook.xml": '<workbook><sheets><sheet name="S" id="r"/></sheets></workbook>',
                "xl/_rels/workbook.xml.rels": '<a><Relationship Id="r" Target="s.xml"/></a>',
                "xl/sharedStrings.xml": `<sst><si><t>Series UID</t></si>${one.join("")}</sst>`,
                "xl/s.xml": `<w><row><c t="s"><v>0</v></c></row>${two.join("")}</w>`,
              }).map(([name, body]) => ({ name, body: Buffer.from(body) })),
            ),
          ),
      ),
      { numRuns: 200 },
    );
  }, 60_000);

  it.each([
    ["a cell of blanks", `Series UID,x\n${A},${" ".repeat(900_000)}x\n`],
    ["a line of blanks", `${A}\n${" ".repeat(900_000)}x\n`],
    ["a line of NUL", `${A}\n${"\u0001".repeat(900_000)}\n`],
    ["a line of options", `cp ${"-a ".repeat(300_000)}\n`],
    ["a line of quotes", `Series UID,x\n${'"'.repeat(900_001)}\n`],
    ["a line of delimiters", `Series UID,x\n${",".repeat(900_000)}\n`],
    ["a header of delimiters", `${",".repeat(900_000)}\n`],
    ["rows with open quotes", `Series UID,x\n${`${A},"${"y".repeat(10_000)}\n`.repeat(300)}`],
    ["a text of XML without end", `<TCIACollection><Downloads><URL>${"x".repeat(9_000_000)}`],
    ["a deep XML", "<TCIACollection>".repeat(100_000)],
    [
      "a tag of attributes",
      `<TCIACollection ${Array.from({ length: 100_000 }, (_, i) => `a${i}="b"`).join(" ")}>`,
    ],
  ])(
    "is done soon with %s",
    async (_, content) => {
      const started = performance.now();
      await reads("x.csv", content);
      expect(performance.now() - started).toBeLessThan(8_000);
    },
    20_000,
  );
});
