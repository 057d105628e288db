import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { deflateRawSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseDicomHeader, readSopInstanceUid } from "./dicom.ts";
import { decodeDicomText } from "./dicom-text.ts";

const root = new URL("../..", import.meta.url).pathname;
const data = [process.env.GANTRY_TEST_DATA, join(root, "../shared/data")].find(
  (folder) => folder !== undefined && existsSync(folder),
);

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(" ", ""), "hex"));

/** One element with a two-byte length, explicit VR. */
function element(tag: string, vr: string, value: string | Uint8Array, bigEndian = false): Buffer {
  let bytes = Buffer.from(value);
  if (bytes.length % 2) bytes = Buffer.concat([bytes, Buffer.from(vr === "UI" ? "\0" : " ")]);
  const head = Buffer.alloc(8);
  const group = Number.parseInt(tag.slice(0, 4), 16);
  const number = Number.parseInt(tag.slice(4), 16);
  if (bigEndian) {
    head.writeUInt16BE(group, 0);
    head.writeUInt16BE(number, 2);
    head.writeUInt16BE(bytes.length, 6);
  } else {
    head.writeUInt16LE(group, 0);
    head.writeUInt16LE(number, 2);
    head.writeUInt16LE(bytes.length, 6);
  }
  head.write(vr, 4, "latin1");
  return Buffer.concat([head, bytes]);
}

function part10(syntax: string, body: Buffer): Buffer {
  return Buffer.concat([
    Buffer.alloc(128),
    Buffer.from("DICM"),
    element("00020003", "UI", "1.2.3.9"),
    element("00020010", "UI", syntax),
    body,
  ]);
}

const body = (bigEndian = false): Buffer =>
  Buffer.concat([
    element("00080016", "UI", "1.2.840.10008.5.1.4.1.1.2", bigEndian),
    element("00080018", "UI", "1.2.3.4", bigEndian),
    element("00080020", "DA", "20240229", bigEndian),
    element("00080021", "DA", "20230229", bigEndian),
    element("00100020", "LO", "P 1 ", bigEndian),
    element("00130010", "LO", "other", bigEndian),
    element("00130011", "LO", "CTP", bigEndian),
    element("00131010", "LO", "not this", bigEndian),
    element("00131110", "LO", "My Collection", bigEndian),
    element("00200011", "IS", "12", bigEndian),
    element("00280030", "DS", "0.5\\0.7", bigEndian),
    element("00290010", "LO", "behind all that matters", bigEndian),
  ]);

describe("parseDicomHeader", () => {
  const expected = {
    sopInstanceUid: "1.2.3.4",
    studyDate: "2024-02-29",
    seriesDate: null,
    patientId: "P 1",
    ctpProject: "My Collection",
    seriesNumber: 12,
    pixelSpacingMm: "0.5",
    complete: true,
  };
  const cases: Readonly<Record<string, Buffer>> = {
    "explicit little endian": part10("1.2.840.10008.1.2.1", body()),
    "explicit where implicit was declared": part10("1.2.840.10008.1.2", body()),
    "big endian": part10("1.2.840.10008.1.2.2", body(true)),
    deflated: part10("1.2.840.10008.1.2.1.99", deflateRawSync(body())),
    "no preamble": body(),
    "no preamble, big endian": body(true),
    "meta group without preamble": part10("1.2.840.10008.1.2.1", body()).subarray(132),
  };
  for (const [name, bytes] of Object.entries(cases)) {
    it(`reads ${name}`, () => {
      expect(parseDicomHeader(bytes)).toMatchObject(expected);
      expect(readSopInstanceUid(bytes)).toBe("1.2.3.4");
    });
  }

  it("says that a prefix was too short, and keeps what it held", () => {
    const whole = part10("1.2.840.10008.1.2.1", body());
    const cut = whole.subarray(0, whole.indexOf("My Collection") + 3);
    expect(parseDicomHeader(cut)).toMatchObject({
      patientId: "P 1",
      ctpProject: null,
      seriesNumber: null,
      complete: false,
    });
  });

  it("refuses what is not DICOM", () => {
    for (const text of ["", "x", "folder,collection\na,b\n", "\x1f\x8b\x08\x00 gzip", "<html></html>"]) {
      expect(parseDicomHeader(Buffer.from(text))).toBeUndefined();
      expect(readSopInstanceUid(Buffer.from(text))).toBeUndefined();
    }
    expect(parseDicomHeader(element("00080005", "CS", "only this"))).toBeUndefined();
  });

  it("bounds what a deflated bomb may unfold to", () => {
    const bomb = part10(
      "1.2.840.10008.1.2.1.99",
      deflateRawSync(Buffer.concat([body(), Buffer.alloc(100_000_000)])),
    );
    expect(parseDicomHeader(bomb)).toMatchObject(expected);
  });

  it("falls back to the meta group only where the data set is out of reach", () => {
    const bytes = part10("1.2.840.10008.1.2.1", body());
    expect(readSopInstanceUid(bytes.subarray(0, bytes.indexOf("1.2.3.4") - 4))).toBe("1.2.3.9");
  });

  it("never throws", () => {
    const whole = part10("1.2.840.10008.1.2.1", body());
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 30 }),
        fc.nat(whole.length),
        fc.uint8Array({ maxLength: 60 }),
        (changes, length, tail) => {
          const bytes = Buffer.concat([whole.subarray(0, length), tail]);
          for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
          parseDicomHeader(bytes);
          parseDicomHeader(bytes.subarray(132));
          readSopInstanceUid(bytes);
        },
      ),
      { numRuns: 500 },
    );
  });

  it("survives sequences nested without end", () => {
    const open = hex("08000f11 5351 0000 ffffffff feff00e0 ffffffff");
    const bytes = Buffer.concat([element("00080018", "UI", "1.2.3.4"), ...Array(60_000).fill(open)]);
    expect(parseDicomHeader(bytes)).toMatchObject({ sopInstanceUid: "1.2.3.4", complete: false });
  });
});

describe("decodeDicomText", () => {
  const cases: readonly (readonly [characterSet: string | undefined, bytes: string, text: string])[] = [
    // The examples of PS3.5 annexes H, I and J.
    ["\\ISO 2022 IR 87", "59 61 6d 61 64 61 3d 1b2442 3b33 4544 1b2842", "Yamada=山田"],
    ["ISO 2022 IR 13\\ISO 2022 IR 87", "d4cfc0de 5e c0dbb3 3d 1b2442 3b33 1b284a 5e", "ﾔﾏﾀﾞ^ﾀﾛｳ=山^"],
    ["\\ISO 2022 IR 149", "1b242943 fbf3 5e 1b242943 d1ce", "洪^吉"],
    ["ISO_IR 192", "e78e8b", "王"],
    ["GB18030", "cdf5", "王"],
    ["ISO_IR 144", "bbee", "Лю"],
    ["ISO_IR 127", "e2c8", "قب"],
    ["ISO_IR 100", "42 7563", "Buc"],
    [undefined, "c4e9", "Äé"],
    ["nonsense", "c4e9", "Äé"],
  ];
  for (const [characterSet, bytes, text] of cases) {
    it(`reads ${text} as ${characterSet ?? "no set at all"}`, () => {
      expect(decodeDicomText(hex(bytes), characterSet)).toBe(text);
    });
  }

  it("never throws", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 80 }),
        fc.constantFrom("\\ISO 2022 IR 87", "ISO 2022 IR 159", "ISO_IR 192", "GBK", "\\ISO 2022 IR 58"),
        (bytes, characterSet) => {
          decodeDicomText(bytes, characterSet);
        },
      ),
    );
  });
});

describe.skipIf(!data)("parseDicomHeader on real files (GANTRY_TEST_DATA)", () => {
  interface IndexedSeries {
    readonly series_uid: string;
    readonly patient_id: string;
    readonly files: readonly { readonly path: string; readonly sop_uid: string }[];
  }

  it("agrees with pydicom on the identity of every image, from its first 64 KiB", () => {
    const index = JSON.parse(readFileSync(join(data!, "index.json"), "utf8")) as { series: IndexedSeries[] };
    const differing: string[] = [];
    for (const series of index.series) {
      for (const file of series.files) {
        const head = readFileSync(join(data!, file.path)).subarray(0, 65_536);
        const header = parseDicomHeader(head);
        const same =
          header?.complete &&
          header.sopInstanceUid === file.sop_uid &&
          header.seriesInstanceUid === series.series_uid &&
          (header.patientId ?? "") === series.patient_id &&
          readSopInstanceUid(head.subarray(0, 4096)) === file.sop_uid;
        if (!same) differing.push(file.path);
      }
    }
    expect(differing).toEqual([]);
  });

  const names: Readonly<Record<string, string>> = {
    "charset-arabic.dcm": "قباني^لنزار",
    "charset-japanese-h31.dcm": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "charset-japanese-h32.dcm": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    "charset-korean.dcm": "Hong^Gildong=洪^吉洞=홍^길동",
    "charset-utf8-chinese.dcm": "Wang^XiaoDong=王^小東=",
    "everything-is-UN-pancreas-ct.dcm": "PANCREAS_0001",
    "big-endian.dcm": "CompressedSamples^MR1",
    "deflated-no-names.dcm": "^^^^",
    "no-preamble-implicit-rtstruct.dcm": "Test^Phantom30sep",
  };
  for (const [file, name] of Object.entries(names)) {
    it(`reads the name in ${file}`, () => {
      expect(parseDicomHeader(readFileSync(join(data!, "dicom-odd", file)))?.patientName).toBe(name);
    });
  }
});
