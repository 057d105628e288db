import { describe, expect, it } from "vitest";
import type { Row } from "../library.ts";
import { fakeIo } from "../testing.ts";
import { FORMATS, type Format, writeTable } from "./table.ts";

const columns = ["name", "bytes", "note"];
const rows: readonly Row[] = [
  { name: "a,b", bytes: 27_612_345, note: 'says "hi"' },
  { name: "<x>&\t|", bytes: 5, note: null },
  { name: "Größe\u001b[2J", bytes: null, note: "two\nlines" },
];

async function* each(list: readonly Row[]): AsyncIterable<Row> {
  yield* list;
}

async function write(format: Format | undefined, options = {}, list = rows): Promise<string> {
  const io = fakeIo(options);
  await writeTable(io, { columns, rows: each(list) }, format === undefined ? {} : { format });
  return io.stdout.text;
}

describe("writeTable", () => {
  it("table", async () => {
    expect(await write("table")).toBe(
      [
        "name              bytes  note",
        'a,b             27.6 MB  says "hi"',
        "<x>&\\u{9}|          5 B  (none)",
        "Größe\\u{1b}[2J   (none)  two\\u{a}lines",
        "",
      ].join("\n"),
    );
  });

  it("json is one flat array", async () => {
    const text = await write("json");
    expect(JSON.parse(text)).toEqual(rows);
    expect(text.split("\n")).toHaveLength(6);
    expect(await write("json", {}, [])).toBe("[]\n");
  });

  it("jsonl", async () => {
    const lines = (await write("jsonl")).trimEnd().split("\n");
    expect(lines.map((line) => JSON.parse(line))).toEqual(rows);
  });

  it("csv", async () => {
    expect(await write("csv")).toBe(
      'name,bytes,note\n"a,b",27612345,"says ""hi"""\n<x>&\t|,5,\nGröße\\u{1b}[2J,,"two\nlines"\n',
    );
  });

  it("tsv", async () => {
    expect(await write("tsv")).toBe(
      'name\tbytes\tnote\na,b\t27612345\tsays "hi"\n<x>&\\t|\t5\t\nGröße\\u{1b}[2J\t\ttwo\\nlines\n',
    );
  });

  it("xml", async () => {
    expect(await write("xml")).toBe(
      [
        '<?xml version="1.0" encoding="UTF-8"?>',
        "<rows>",
        '  <row><field name="name">a,b</field><field name="bytes">27612345</field><field name="note">says &quot;hi&quot;</field></row>',
        '  <row><field name="name">&lt;x&gt;&amp;\t|</field><field name="bytes">5</field><field name="note" null="true"/></row>',
        '  <row><field name="name">Größe\ufffd[2J</field><field name="bytes" null="true"/><field name="note">two\nlines</field></row>',
        "</rows>",
        "",
      ].join("\n"),
    );
  });

  it("html", async () => {
    const text = await write("html");
    expect(text).toContain("<thead>\n<tr><th>name</th><th>bytes</th><th>note</th></tr>\n</thead>");
    expect(text).toContain("<tr><td>&lt;x&gt;&amp;\t|</td><td>5</td><td>(none)</td></tr>");
    expect(text.endsWith("</tbody>\n</table>\n</body>\n</html>\n")).toBe(true);
  });

  it.each(FORMATS.filter((format) => format !== "sums"))(
    "%s gives no control or direction character of a name to a screen",
    async (format) => {
      const name = "a\u001b[2Jb\u009b31mc\u202ed\u2066e\u0000f";
      const text = await write(format, {}, [{ name, bytes: 1, note: null }]);
      expect(text).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/u);
      if (format === "json") expect(JSON.parse(text)).toEqual([{ name, bytes: 1, note: null }]);
      if (format === "jsonl") expect(JSON.parse(text)).toEqual({ name, bytes: 1, note: null });
    },
  );

  it("sums: as md5sum -c reads it; a screen gets no control characters", async () => {
    const list = [
      { Path: "a b/c.svs", Digest: "md5:7e1b96dbc9d6b302c45167309aea4693" },
      { Path: "line\nbreak\u001b[2J", Digest: "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709" },
      { Path: "none.txt", Digest: null },
    ];
    for (const terminal of [false, true]) {
      const io = fakeIo({ terminal });
      await writeTable(io, { columns: ["Path", "Digest"], rows: each(list) }, { format: "sums" });
      const [first, second] = io.stdout.text.split("\n");
      expect(first).toBe("7e1b96dbc9d6b302c45167309aea4693  a b/c.svs");
      expect(second?.startsWith("\\da39a3ee5e6b4b0d3255bfef95601890afd80709  line\\nbreak")).toBe(true);
      expect(second?.includes("\u001b")).toBe(!terminal);
      expect(io.stderr.text).toContain("1 file");
    }
    await expect(write("sums")).rejects.toMatchObject({ name: "UsageError" });
  });

  it("md", async () => {
    expect(await write("md")).toBe(
      [
        "| name | bytes | note |",
        "| --- | --- | --- |",
        '| a,b | 27612345 | says "hi" |',
        "| &lt;x&gt;&amp;\\\\u{9}\\| | 5 | (none) |",
        "| Größe\\\\u{1b}\\[2J | (none) | two lines |",
        "",
      ].join("\n"),
    );
  });

  it("chooses a table for a terminal and tsv for a pipe", async () => {
    expect(await write(undefined, { terminal: true, env: { NO_COLOR: "1" } })).toBe(await write("table"));
    expect(await write(undefined)).toBe(await write("tsv"));
  });

  it("takes colour away with NO_COLOR only", async () => {
    expect(await write("table", { terminal: true })).toContain("\u001b[1m");
    expect(await write("table", { terminal: true, env: { NO_COLOR: "1" } })).not.toContain("\u001b");
  });

  it("cuts wide columns to the terminal, never addresses", async () => {
    const io = fakeIo({ terminal: true, columns: 40, env: { NO_COLOR: "1" } });
    const address = "tcia:1.2.3.4.5.6.7";
    const listing = { columns: ["long", "address"], rows: each([{ long: "x".repeat(90), address }]) };
    await writeTable(io, listing, {});
    const lines = io.stdout.text.trimEnd().split("\n");
    expect(lines[1]).toContain("…");
    expect(lines[1]?.endsWith(address)).toBe(true);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(40);
  });

  it("goes on with the same widths after the rows that were measured", async () => {
    const io = fakeIo();
    async function* many(): AsyncIterable<Row> {
      for (let i = 0; i < 2_500; i++) yield { n: i, word: "w" };
    }
    const count = await writeTable(io, { columns: ["n", "word"], rows: many() }, { format: "table" });
    expect(count).toBe(2_500);
    const lines = io.stdout.text.trimEnd().split("\n");
    expect(lines).toHaveLength(2_501);
    expect(new Set(lines.slice(1).map((line) => line.indexOf("w"))).size).toBe(1);
  });

  it("takes fields in any case and refuses unknown ones with the valid names", async () => {
    const io = fakeIo();
    await writeTable(io, { columns, rows: each(rows) }, { format: "csv", fields: ["BYTES", "name"] });
    expect(io.stdout.text.split("\n")[0]).toBe("bytes,name");
    await expect(
      writeTable(fakeIo(), { columns, rows: each(rows) }, { fields: ["size"] }),
    ).rejects.toMatchObject({ name: "UsageError", hint: "valid: name, bytes, note" });
  });

  it("knows every format by name", () => {
    expect(FORMATS).toEqual(["table", "json", "jsonl", "csv", "tsv", "xml", "html", "md", "sums"]);
  });
});
