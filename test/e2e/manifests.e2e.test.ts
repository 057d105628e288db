import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { mergeDatasets } from "../../src/sandbox/data/merge.ts";
import { datasetOf } from "../../src/sandbox/tiny-dataset.ts";
import { dicomSeries, smallArchive } from "../support/dataset.ts";
import { freshDir, type Stage, startStage, temporaryDir, testData } from "../support/gantry.ts";
import { spreadsheet } from "../support/selections.ts";

const A = "1.2.840.1.1";
const B = "1.2.840.1.2";
const HEADER = [
  "downloadServerUrl=https://public.cancerimagingarchive.net/nbia-download/servlet/DownloadServlet",
  "includeAnnotation=true",
  "noOfrRetry=4",
  "databasketId=manifest-1598890146597.tcia",
  "manifestVersion=3.0",
  "ListOfSeriesToDownload=",
];

/** Names of real manifests, as they are found; every UID in them is served. */
const uidsOf = (text: string): string[] => text.split(/\r?\n/u).filter((line) => /^[\d.]+$/u.test(line));

describe("selections in files", () => {
  let stage: Stage;
  let folder: string;

  beforeAll(async () => {
    stage = await startStage({ data: smallArchive() });
    folder = await temporaryDir();
  });

  const get = async (name: string, text: string | Uint8Array, ...more: string[]) => {
    const path = join(folder, name);
    await writeFile(path, text);
    const dir = await freshDir();
    stage.control.clearRequests();
    const result = await stage.run(["get", path, "-o", dir, ...more]);
    const fetched = stage.requests("getImage").map((request) => String(request.query.SeriesInstanceUID));
    return { ...result, fetched: fetched.sort(), said: result.stdout + result.stderr };
  };
  const lines = (...all: string[]): string => `${all.join("\n")}\n`;

  it.each([
    ["as the archive writes it", lines(...HEADER, A, B)],
    ["with the line `Series ID` after the header", lines(...HEADER, "Series ID", A, B)],
    ["without a newline at the end", [...HEADER, A, B].join("\n")],
    ["with CRLF", [...HEADER, A, B, ""].join("\r\n")],
    ["with blank lines", lines("", ...HEADER, "", A, "", "  ", B, "", "")],
    ["with comments", lines("# my cart", ...HEADER, "# the first", A, B)],
    ["with trailing commas", lines(...HEADER, `${A},`, `${B},`)],
    ["with its header in another order", lines(...[...HEADER].reverse(), A, B)],
    ["with a byte order mark", `\uFEFF${lines(...HEADER, A, B)}`],
    ["of UIDs alone", lines(A, B)],
    ["with blanks around the UIDs", lines(...HEADER, `  ${A} `, `\t${B}`)],
    [
      "with other capitals in its keys",
      lines(...HEADER.map((line) => line.toUpperCase().replace(/=.*/u, (v) => v.toLowerCase())), A, B),
    ],
    ["with dataType", lines(...HEADER.slice(0, -1), "dataType=DICOM", "ListOfSeriesToDownload=", A, B)],
    ["of another server of the archive", lines(...HEADER, A, B).replace("public.", "nbia.")],
    ["with escaped colons, as Java writes properties", lines(...HEADER, A, B).replace("https:", "https\\:")],
  ])("a manifest %s", async (_, text) => {
    const { code, fetched, said } = await get("cart.tcia", text);
    expect(code, said).toBe(0);
    expect(fetched).toEqual([A, B]);
  });

  it("fetches what stands twice once, and says so", async () => {
    const { code, fetched, said } = await get("twice.tcia", lines(...HEADER, A, B, A, A));
    expect(code, said).toBe(0);
    expect(fetched).toEqual([A, B]);
    expect(said).toMatch(/repeat/u);
  });

  it.each([
    ["a torn UID", "1.2.840.", /:7: not a whole UID/u],
    ["a UID that is too long", `1.2.840.${"9".repeat(60)}`, /:7: a UID has at most 64 characters/u],
    ["a word", "hello", /:7: neither a UID nor an address/u],
    ["a line of an s5cmd manifest", "cp s3://idc-open-data/abc/* .", /:7: .*Imaging Data Commons/u],
  ])(
    "%s is exit 2 with its line before any transfer; --skip-bad goes on and tells it",
    async (_, bad, sentence) => {
      const text = lines(...HEADER, bad, A);
      const refused = await get("bad.tcia", text);
      expect(refused.code).toBe(2);
      expect(refused.said).toMatch(sentence);
      expect(refused.fetched).toEqual([]);
      const skipped = await get("bad.tcia", text, "--skip-bad");
      expect(skipped.code, skipped.said).toBe(0);
      expect(skipped.said).toMatch(sentence);
      expect(skipped.fetched).toEqual([A]);
    },
  );

  it.each([
    [
      "of a server that nobody configured",
      lines(...HEADER, A).replace("public.cancerimagingarchive.net", "nbia.example.org"),
      /example\.org/u,
    ],
    ["of files that are not DICOM", lines("dataType=other", ...HEADER, A), /not DICOM/u],
    [
      "in XML that names no other",
      '<?xml version="1.0"?>\n<TCIACollection apiVersion="v2"><Downloads/></TCIACollection>\n',
      /names no further one/u,
    ],
    ["without any series", lines(...HEADER), /names nothing/u],
    ["of zero bytes", "", /names nothing/u],
  ])("a manifest %s is refused with a sentence", async (_, text, sentence) => {
    const { code, said, fetched } = await get("cart.tcia", text);
    expect(code).toBe(2);
    expect(said).toMatch(sentence);
    expect(fetched).toEqual([]);
  });

  it.each([
    ["cart.csv", `SeriesInstanceUID,Modality\r\n${A},CT\r\n${B},"C,T"\r\n`],
    ["cart.tsv", `Modality\tSeries UID\nCT\t${A}\nCT\t${B}\n`],
    ["cart.jsonl", `{"address":"tcia:${A}"}\n{"SeriesInstanceUID":"${B}"}\n`],
    ["cart.json", `[{"address":"tcia:${A}"},{"SeriesInstanceUID":"${B}"}]`],
    ["cart.s5cmd", lines("# nothing of the Imaging Data Commons", A, B)],
  ])("a selection as %s is read", async (name, text) => {
    const { code, fetched, said } = await get(name, text);
    expect(code, said).toBe(0);
    expect(fetched).toEqual([A, B]);
  });

  it("a spreadsheet is read, with the sheet and row of what is bad", async () => {
    const bytes = await spreadsheet({
      Cart: [
        ["Patient", "Series UID"],
        ["p", A],
        ["q", "7"],
        ["r", B],
      ],
    });
    const refused = await get("cart.xlsx", bytes);
    expect([refused.code, refused.said]).toEqual([
      2,
      expect.stringContaining("cart.xlsx Cart!3: not a whole UID"),
    ]);
    const { code, fetched, said } = await get("cart.xlsx", bytes, "--skip-bad");
    expect(code, said).toBe(0);
    expect(fetched).toEqual([A, B]);
  });

  it("a manifest on the web, or one in XML that leads to it, is fetched without credentials", async () => {
    const seen: IncomingHttpHeaders[] = [];
    const server = createServer((request, response) => {
      seen.push(request.headers);
      const found = request.url?.startsWith("/cart.tcia");
      response.writeHead(found ? 200 : 404).end(found ? lines(...HEADER, A, B) : "gone");
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    try {
      const link = `http://127.0.0.1:${(server.address() as AddressInfo).port}/cart.tcia`;
      const dir = await freshDir();
      stage.control.clearRequests();
      const direct = await stage.run(["get", link, "-o", dir]);
      expect(direct.code, direct.stderr).toBe(0);
      expect(stage.requests("getImage")).toHaveLength(2);
      // Asked again by what it named.
      expect((await stage.run(["get", "-o", dir])).code).toBe(0);
      expect(seen).toHaveLength(1);

      const xml = (url: string): string =>
        `<?xml version="1.0"?>\n<TCIACollection apiVersion="v2">\n<Downloads>\n<URL>${url}</URL>\n</Downloads>\n</TCIACollection>\n`;
      const led = await get("all.tcia", xml(`${link}?a=1&amp;b=2`));
      expect(led.code, led.said).toBe(0);
      expect(led.fetched).toEqual([A, B]);
      const gone = await get("all.tcia", xml(link.replace("cart", "gone")));
      expect([gone.code, gone.said]).toEqual([
        2,
        expect.stringMatching(/all\.tcia:4: .*gone\.tcia.*HTTP 404/u),
      ]);
      for (const { authorization, cookie } of seen)
        expect([authorization, cookie]).toEqual([undefined, undefined]);
    } finally {
      server.close();
      server.closeAllConnections();
    }
  });

  it("lists in any order are one selection; addresses, studies and single images are lines, too", async () => {
    const { code, fetched, said } = await get(
      "mixed.txt",
      lines(`tcia:${B}`, "1.2.840.1.90", `${A}/${A}.2`, "tcia:LUNG CT/P2"),
    );
    expect(code, said).toBe(0);
    expect(fetched).toEqual([B, "1.2.840.1.3", "1.2.840.1.4", "1.2.840.1.6"].sort());
  });

  it("takes a list from standard input", async () => {
    const dir = await freshDir();
    stage.control.clearRequests();
    const result = await stage.run(["get", "-", "-o", dir], { input: lines(A, B) });
    expect(result.code, result.stderr).toBe(0);
    expect(stage.requests("getImage")).toHaveLength(2);
    // Asked again without the list being there any more.
    expect((await stage.run(["get", "-o", dir])).code).toBe(0);
  });

  it.skipIf(process.platform === "win32")("takes a list from a pipe", async () => {
    const pipe = join(folder, "pipe");
    execFileSync("mkfifo", [pipe]);
    const running = stage.run(["get", pipe, "-o", await freshDir()]);
    await writeFile(pipe, lines(A, B));
    const { code, stderr } = await running;
    expect(code, stderr).toBe(0);
  });

  it("names the damaged line of a saved selection, and goes on with --skip-bad", async () => {
    const saved = join(folder, "saved.jsonl");
    await stage.run(["find", "tcia:LUNG CT", "--save", saved]);
    const text = await readFile(saved, "utf8");
    const { code, said } = await get("cut.jsonl", text.slice(0, -30));
    expect([code, said]).toEqual([
      2,
      expect.stringMatching(/\n {2}cut\.jsonl:6: not an item of a selection/u),
    ]);
    expect((await get("cut.jsonl", text.slice(0, -30), "--skip-bad")).fetched).toHaveLength(4);
  });

  it.each(["jsonl", "csv", "tsv", "tcia"])(
    "what find saves as .%s names the same items to get, and to find",
    async (form) => {
      const saved = join(folder, `saved again.${form}`);
      await writeFile(saved, "something old");
      const found = await stage.run([
        "find",
        "tcia:",
        "--modality",
        "CT",
        "--save",
        saved,
        "--format",
        form === "tsv" ? "tsv" : "csv",
      ]);
      expect(found.code, found.stderr).toBe(0);
      expect(found.stderr).toContain("saved again");
      const text = await readFile(saved, "utf8");
      // The tables are those of the screen.
      if (form === "csv" || form === "tsv") expect(text).toBe(found.stdout);
      const again = await stage.run(["find", saved, "--format", form === "tsv" ? "tsv" : "csv"]);
      expect([again.code, again.stdout]).toEqual([0, found.stdout]);
      const direct = await get(`direct.${form}`, text);
      expect(direct.code, direct.said).toBe(0);
      expect(direct.fetched).toHaveLength(found.stdout.trimEnd().split("\n").length - 1);
      expect(readdirSync(folder).filter((name) => /\.(tmp|part|lines)$/u.test(name))).toEqual([]);
    },
  );

  it("a saved manifest has the six lines of the archive's own, of the archive that it is of", async () => {
    const saved = join(folder, "own.tcia");
    await stage.run(["find", "tcia:LUNG CT/P1", "--save", saved]);
    expect((await readFile(saved, "utf8")).split("\n")).toEqual([
      `downloadServerUrl=${stage.sandbox.url}/nbia-download/servlet/DownloadServlet`,
      "includeAnnotation=true",
      "noOfrRetry=4",
      "databasketId=own.tcia",
      "manifestVersion=3.0",
      "ListOfSeriesToDownload=",
      A,
      B,
      "1.2.840.1.5",
      "",
    ]);
  });

  it("a manifest of the second host leads back to it", async () => {
    const saved = join(folder, "nlst.tcia");
    const found = await stage.run(["find", "-", "--save", saved, "--format", "csv"], {
      input: `nlst:${A}\n`,
    });
    // The second host does not show the series, and its address is saved all the same.
    expect(found.code, found.stderr).toBe(4);
    expect(await readFile(saved, "utf8")).toContain(`${stage.sandbox.url}/nlst/nbia-download/servlet/`);
    const again = await stage.run(["find", saved, "--format", "csv"]);
    expect(again.stdout).toContain(`nlst:${A}`);
    expect(again.stdout).toBe(found.stdout);
  });

  it.each([
    [
      "single.tcia",
      `${A}/${A}.1`,
      /lists whole series, and tcia:1\.2\.840\.1\.1\/1\.2\.840\.1\.1\.1 is none/u,
    ],
    ["two.tcia", `tcia:${A}\nnlst:${B}`, /is of one archive, and this is of/u],
    ["x.xlsx", A, /can't be saved as x\.xlsx/u],
  ])("what can't stand in %s is exit 2, and an old file stays", async (name, text, sentence) => {
    const saved = join(folder, name);
    await writeFile(saved, "old");
    const { code, stderr } = await stage.run(["find", "-", "--save", saved], { input: text });
    expect([code, stderr]).toEqual([2, expect.stringMatching(sentence)]);
    expect(await readFile(saved, "utf8")).toBe("old");
  });

  it("a file that is not there is exit 2 and says how archives are named", async () => {
    const result = await stage.run(["get", "LUNG CT", "-o", await freshDir()]);
    expect(result.code).toBe(2);
    expect(result.stderr).toContain("tcia:");
  });
});

describe.skipIf(testData === null)("real manifests", () => {
  const folder = join(testData ?? "", "manifests");
  const names = testData === null ? [] : readdirSync(folder).filter((name) => name.endsWith(".tcia"));

  it.each(names)("%s: every series is fetched once", async (name) => {
    const text = readFileSync(join(folder, name), "utf8");
    const wanted = [...new Set(uidsOf(text))].sort();
    expect(wanted.length).toBeGreaterThan(3);
    const served = datasetOf(wanted.map((uid) => dicomSeries(uid, { count: 1, pixelBytes: 64 })));
    const stage = await startStage({ data: mergeDatasets(smallArchive(), served) });
    const dir = await freshDir();
    const result = await stage.run(["get", join(folder, name), "-o", dir, "--progress", "none"]);
    expect(result.code, result.stderr).toBe(0);
    expect(
      stage
        .requests("getImage")
        .map((request) => String(request.query.SeriesInstanceUID))
        .sort(),
    ).toEqual(wanted);
  });

  it("of series that the archive does not show: each is told, none is dropped", async () => {
    const stage = await startStage({ data: smallArchive() });
    const path = join(folder, "small_manifest.tcia");
    const result = await stage.run(["get", path, "-o", await freshDir(), "--json"]);
    expect(result.code).toBe(4);
    for (const uid of uidsOf(readFileSync(path, "utf8"))) expect(result.stdout).toContain(uid);
  });

  it("a table of the official retriever's: the series is fetched, empty rows do no harm", async () => {
    const uid = "1.3.6.1.4.1.14519.5.2.1.6450.2626.543752157596610030891930347431";
    const served = datasetOf([dicomSeries(uid, { count: 1, pixelBytes: 64 })]);
    const stage = await startStage({ data: mergeDatasets(smallArchive(), served) });
    const path = join(folder, "cptac-sar-nbia-metadata.csv");
    const result = await stage.run(["get", path, "-o", await freshDir(), "--progress", "none"]);
    expect(result.code, result.stderr).toBe(0);
    expect(stage.requests("getImage").map((request) => request.query.SeriesInstanceUID)).toEqual([uid]);
  });

  it.each(["pathdb-test.csv", "pathdb-test.xlsx"])(
    "%s: every row is told as a slide of PathDB",
    async (name) => {
      const stage = await startStage({ data: smallArchive() });
      const result = await stage.run(["get", join(folder, name), "-o", await freshDir()]);
      expect(result.code).toBe(2);
      const where = name.endsWith(".xlsx") ? " [^!]+!" : ":";
      expect(result.stderr).toMatch(new RegExp(`\\n {2}${name}${where}2: a slide of PathDB`, "u"));
      expect(result.stderr).toMatch(/has (\d+) lines/u);
      expect(stage.requests("getImage")).toEqual([]);
    },
  );
});
