import { parse } from "csv-parse/sync";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readContent, spreadsheet, zipped } from "../../test/support/selections.ts";
import { splitRow } from "./table.ts";

const A = "1.2.840.1.1";
const B = "1.2.840.1.2";
const AB = [`tcia:${A}`, `tcia:${B}`];

describe("a table", () => {
  it.each([
    ["with commas", `SeriesInstanceUID,x\n${A},1\n${B},2\n`],
    ["with semicolons", `x;Series UID\n1;${A}\n2;${B}\n`],
    ["with tabs", `x\tSeries Instance UID\n1\t${A}\n2\t${B}`],
    ["with one column", `series_instance_uid\n${A}\n${B}\n`],
    [
      "with CRLF, byte order mark and quotes",
      `\uFEFF"Series ID","x"\r\n"${A}","1,5"\r\n"${B}","a ""b"""\r\n`,
    ],
    ["that Excel marked", `sep=;\nSERIESINSTANCEUID;x\n${A};1\n${B};2\n`],
    [
      "with comments, empty rows and a value of two lines",
      `# mine\n\nx,Series UID\n"a\nb",${A}\n,\n\n# more\nc,${B}\n`,
    ],
    ["of ours", `Collection,SeriesInstanceUID,address\nC,9.9.9.9,tcia:${A}\nC,,tcia:${B}\n`],
    ["with a street beside the series", `address,Series UID\n1 Main St,${A}\n,${B}\n`],
    ["that is a list without a header", `${A}\n${B}\n`],
    ["with quotes that quote nothing", `Series UID,x,y\n${A},"a" b,c\n${B},5" disk,"c\n`],
  ])("%s", async (_, text) => {
    const { refs, bad } = await readContent("x.csv", text);
    expect(bad).toEqual([]);
    expect(refs).toEqual(AB);
  });

  it("takes the best of several columns, and single images", async () => {
    const text = `Series ID,SeriesInstanceUID,SOPInstanceUID\n7,${A},${A}.5\n8,${B},\n9,${B},x\n`;
    const { refs, bad } = await readContent("x.csv", text);
    expect(refs).toEqual([`tcia:${A}/${A}.5`, `tcia:${B}`]);
    expect(bad).toEqual(['x.csv:4: "x" is no UID of an image']);
  });

  it("says of each other row what is wrong, with its line", async () => {
    const text = `name,Series UID,imageUrl,drs_uri\na,${A},,\nb,,http://pathdb.cancerimagingarchive.net/a.tiff,\nc,null,,dg.4DFC/x\nd,,,\ne,1.2.840.,,\n"f,${B},,\ng,${B},,\n`;
    const { refs, bad, badCount } = await readContent("x.csv", text);
    // The last two begin a quote that nothing ends, and have the columns of a row without it.
    expect(refs).toEqual([...AB, `tcia:${B}`]);
    expect(bad).toEqual([
      'x.csv:3: a slide of PathDB, and no series of an NBIA, but its link alone would do ("http://pathdb.cancerimagingarchive.net/a.tiff")',
      'x.csv:4: a file of a Gen3 data commons (DRS), and no series of an NBIA ("dg.4DFC/x")',
      'x.csv:5: the row has nothing in the column "Series UID" ("d   ")',
      'x.csv:6: not a whole UID ("1.2.840.")',
    ]);
    expect(badCount).toBe(4);
  });

  it("without a column that names series is refused with the columns that it has", async () => {
    await expect(readContent("x.csv", "Patient,Age\na,7\n")).rejects.toMatchObject({
      code: "bad-selection",
      message: 'x.csv has no column that names series; its columns are "Patient", "Age"',
    });
  });

  it("is split as csv-parse splits it", () => {
    const field = fc.string({ unit: fc.constantFrom("a", '"', ",", " ", ";", "\t", "1", "é") });
    fc.assert(
      fc.property(
        fc.array(field, { minLength: 1, maxLength: 6 }),
        fc.constantFrom(",", ";", "\t"),
        (row, delimiter) => {
          const text = row
            .map((each) =>
              each.includes('"') || each.includes(delimiter) ? `"${each.replaceAll('"', '""')}"` : each,
            )
            .join(delimiter);
          const [theirs] = parse(text === "" ? '""' : text, { delimiter }) as string[][];
          expect(splitRow(text, delimiter)).toEqual(theirs);
          expect(splitRow(text, delimiter)).toEqual(row);
        },
      ),
    );
  });

  it("costs no more time when every row has a quote that is open", async () => {
    const rows = Array.from({ length: 20_000 }, (_, index) => `x,"${index},1.2.3.${index}\n`).join("");
    const { refs, badCount } = await readContent("x.csv", `a,b,Series UID\n${rows}`);
    expect(refs.length + badCount).toBe(20_000);
    expect(refs).toHaveLength(20_000);
  }, 20_000);
});

describe("a spreadsheet", () => {
  it("calls a formula that nobody calculated a bad line, and one that gave an empty text an empty cell", async () => {
    const bytes = await spreadsheet({
      S: [
        ["Series UID"],
        ["1.2.3.4"],
        ["<c><f>B3</f><v></v></c>"],
        ['<c t="str"><f>IF(1,"",2)</f><v></v></c>'],
        ['<c t="str"><f>B4</f><v>1.2.3.5</v></c>'],
      ],
    });
    const { refs, bad } = await readContent("x.xlsx", bytes);
    expect(refs).toEqual(["tcia:1.2.3.4", "tcia:1.2.3.5"]);
    expect(bad).toEqual(['x.xlsx S!3: neither a UID nor an address ("=B3")']);
  });

  it("gives the rows of every visible sheet that names series", async () => {
    const bytes = await spreadsheet(
      {
        "Über & uns": [["Patient", "Series UID"], ["p", A], [], ["", "x"], ["q", `=${B}`]],
        Notes: [["what"], ["ever"]],
        More: [
          ["SeriesInstanceUID", "SOPInstanceUID"],
          [A, `${A}.1`],
        ],
        Hidden: [["Series UID"], ["1.2.840.1.9"]],
      },
      { hidden: ["Hidden"] },
    );
    const { refs, bad } = await readContent("x.xlsx", bytes);
    expect(refs).toEqual([...AB, `tcia:${A}/${A}.1`]);
    expect(bad).toEqual(['x.xlsx Über & uns!4: neither a UID nor an address ("x")']);
  });

  it.each([
    ["without such a sheet", () => spreadsheet({ S: [["Patient"], ["p"]] }), /its columns are "Patient"/u],
    [
      "that is another zip",
      () => zipped([{ name: "a.dcm", body: Buffer.from("x") }]),
      /a zip, but no spreadsheet/u,
    ],
    [
      "that is cut",
      async () => (await spreadsheet({ S: [["Series UID"], [A]] })).subarray(0, -40),
      /can't be read as a spreadsheet/u,
    ],
    [
      "with entities",
      () =>
        zipped([
          {
            name: "xl/workbook.xml",
            body: Buffer.from('<!DOCTYPE x [<!ENTITY a "b">]><workbook>&a;</workbook>'),
          },
        ]),
      /DOCTYPE/u,
    ],
  ])("%s is refused with a sentence", async (_, make, sentence) => {
    await expect(readContent("x.xlsx", await make())).rejects.toMatchObject({
      code: "bad-selection",
      message: expect.stringMatching(sentence),
    });
  });

  it("that inflates beyond measure is given up", async () => {
    async function* zeros(): AsyncGenerator<Uint8Array> {
      for (let index = 0; index < 1_100; index += 1) yield Buffer.alloc(1 << 20);
    }
    const bomb = await spreadsheet(
      { S: [["Series UID"], [A]] },
      { more: [{ name: "xl/media/big", body: zeros() }] },
    );
    expect(bomb.length).toBeLessThan(5e6);
    await expect(readContent("x.xlsx", bomb)).rejects.toMatchObject({ code: "bad-selection" });
  }, 60_000);
});
