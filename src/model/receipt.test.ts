import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  checkHeader,
  formatReceipt,
  formatReceiptsHeader,
  parseReceipt,
  RECEIPTS_KIND,
  type Receipt,
  type ReceiptBody,
  type ReceiptType,
  receiptItem,
  resolveReceipts,
} from "./receipt.ts";
import type { SafePath } from "./safe-path.ts";

const body = (more: Partial<ReceiptBody> = {}): ReceiptBody => ({
  item: "dicom-series:1.2.3.4",
  type: "stored",
  supersedes: [],
  archive: "tcia",
  revision: "3-900-2020-01-01",
  at: "2026-01-01T00:00:00.000Z",
  from: "https://nbia.example.org",
  tookMs: 12,
  proof: ["md5", "count"],
  disputed: null,
  place: { folder: "LUNG CT/P1" as SafePath, file: null, prefix: "" },
  files: [
    { path: "LUNG CT/P1/1.dcm", bytes: 900, digest: "md5:00112233445566778899aabbccddeeff", mtimeMs: 1 },
  ],
  damaged: [],
  facts: { SOPClassUID: "1.2" },
  ...more,
});

describe("a receipt's line", () => {
  it("is read back as it was written", () => {
    const anyBody = fc
      .record({
        item: fc.string({ minLength: 1, unit: "binary" }),
        type: fc.constantFrom<ReceiptType>("stored", "moved", "damaged", "removed"),
        revision: fc.string({ unit: "binary" }),
        disputed: fc.option(fc.string()),
        tookMs: fc.nat(),
        facts: fc.dictionary(
          fc.string(),
          fc.oneof(fc.string({ unit: "binary" }), fc.integer(), fc.constant(null)),
        ),
      })
      .map(body);
    fc.assert(
      fc.property(anyBody, (each) => {
        const { line, receipt } = formatReceipt(each);
        expect(line.endsWith("\n")).toBe(true);
        expect(line.slice(0, -1)).not.toContain("\n");
        expect(JSON.stringify(parseReceipt(line.slice(0, -1)))).toBe(JSON.stringify(receipt));
      }),
    );
  });

  it("does not count when any byte of it was altered, dropped or added", () => {
    const line = Buffer.from(formatReceipt(body()).line.trimEnd());
    for (let at = 0; at < line.length; at += 1) {
      const altered = Buffer.from(line);
      altered[at] = (altered[at] as number) ^ 1;
      expect(parseReceipt(altered.toString("latin1")), `byte ${at} altered`).toBeNull();
      const shorter = Buffer.concat([line.subarray(0, at), line.subarray(at + 1)]);
      expect(parseReceipt(shorter.toString("latin1")), `byte ${at} dropped`).toBeNull();
      const longer = Buffer.concat([line.subarray(0, at), Buffer.from("0"), line.subarray(at)]);
      expect(parseReceipt(longer.toString("latin1")), `byte added at ${at}`).toBeNull();
      expect(parseReceipt(line.subarray(0, at).toString()), `cut at ${at}`).toBeNull();
    }
    expect(parseReceipt(line.toString())).not.toBeNull();
  });

  it("tells its item without being parsed", () => {
    expect(receiptItem(formatReceipt(body()).line)).toBe("dicom-series:1.2.3.4");
    expect(receiptItem('{"type":"stored"}')).toBeNull();
    expect(receiptItem("")).toBeNull();
    expect(receiptItem('{"item":"torn')).toBeNull();
  });
});

describe("the state of an item", () => {
  /** A history as processes write it: each line replaces some heads that its writer saw, which may be old ones. */
  const histories = fc
    .array(
      fc.record({
        type: fc.constantFrom<ReceiptType>("stored", "stored", "moved", "damaged", "removed"),
        sees: fc.nat(),
        tookMs: fc.nat(),
      }),
      { minLength: 1, maxLength: 12 },
    )
    .map((steps) => {
      const lines: Receipt[] = [];
      for (const { type, sees, tookMs } of steps) {
        const seen = lines.slice(0, lines.length === 0 ? 0 : (sees % lines.length) + 1);
        const heads = resolveReceipts(seen)?.heads ?? [];
        lines.push(formatReceipt(body({ type, tookMs, supersedes: heads })).receipt);
      }
      return lines;
    });

  it("never depends on the order of lines, nor on lines that are there twice", () => {
    fc.assert(
      fc.property(
        histories.chain((lines) =>
          fc.tuple(
            fc.constant(lines),
            fc.shuffledSubarray([...lines, ...lines], { minLength: lines.length * 2 }),
          ),
        ),
        ([lines, shuffled]) => {
          expect(resolveReceipts(shuffled)).toEqual(resolveReceipts(lines));
        },
      ),
      { numRuns: 300 },
    );
  });

  it("a line that replaces all heads is the state, whatever it is", () => {
    fc.assert(
      fc.property(histories, fc.constantFrom<ReceiptType>("stored", "damaged", "removed"), (lines, type) => {
        const heads = resolveReceipts(lines)?.heads ?? [];
        const last = formatReceipt(body({ type, supersedes: heads, tookMs: -1 })).receipt;
        expect(resolveReceipts([last, ...lines])).toEqual({ current: last, heads: [last.sum] });
      }),
    );
  });

  it("of two lines that replace one, removed wins, then damaged, else the greater sum", () => {
    const first = formatReceipt(body()).receipt;
    const next = (type: ReceiptType, tookMs: number): Receipt =>
      formatReceipt(body({ type, tookMs, supersedes: [first.sum] })).receipt;
    const winner = (...lines: Receipt[]): Receipt | undefined => resolveReceipts([first, ...lines])?.current;
    const [stored, moved, damaged, removed] = [
      next("stored", 1),
      next("moved", 2),
      next("damaged", 3),
      next("removed", 4),
    ];
    expect(winner(stored, damaged)).toBe(damaged);
    expect(winner(damaged, removed, moved)).toBe(removed);
    expect(winner(stored, moved)).toBe(stored.sum > moved.sum ? stored : moved);
    expect(resolveReceipts([])).toBeNull();
  });
});

describe("headers", () => {
  it("of this version are read, all others are refused", () => {
    expect(checkHeader(formatReceiptsHeader("w").trim(), RECEIPTS_KIND, 1, "f")).toMatchObject({
      writer: "w",
    });
    for (const line of [
      "",
      "{}",
      "null",
      "[]",
      '{"kind":"other","version":1}',
      `{"kind":"${RECEIPTS_KIND}","version":2}`,
      `{"kind":"${RECEIPTS_KIND}","version":"1"}`,
    ]) {
      expect(() => checkHeader(line, RECEIPTS_KIND, 1, "f")).toThrow(
        expect.objectContaining({ code: "folder-newer" }),
      );
    }
  });
});
