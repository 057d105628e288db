import { describe, expect, it } from "vitest";
import type { Item } from "../model/item.ts";
import { formatReceipt, type ReceiptType, resolveReceipts } from "../model/receipt.ts";
import { type Decision, decide, needsDisk } from "./plan.ts";

const item = (unknown: boolean): Item => ({
  id: "dicom-series:1.2.3.4",
  revision: unknown ? "" : "r1",
  archive: "tcia",
  address: "tcia:1.2.3.4",
  bytes: null,
  files: null,
  labels: {},
  ...(unknown ? { unknown: true as const } : {}),
});

const state = (type: ReceiptType, revision: string) =>
  resolveReceipts([
    formatReceipt({
      item: "dicom-series:1.2.3.4",
      type,
      supersedes: [],
      archive: "tcia",
      revision,
      at: "2026-01-01T00:00:00.000Z",
      from: null,
      tookMs: 0,
      proof: [],
      disputed: null,
      place: { folder: null, file: null, prefix: "p" },
      files: [],
      damaged: [],
      facts: {},
    }).receipt,
  ]);

type Row = readonly [
  shown: boolean,
  receipt: ReceiptType | null,
  revision: string,
  disk: "whole" | "missing",
];
const fetch = (reason: string) => ({ do: "fetch", reason });
const skip = (reason: string) => ({ do: "skip", reason });

describe("the truth table of the plan", () => {
  const rows: readonly (readonly [Row, { do: string; reason: string }])[] = [
    [[false, null, "", "whole"], { do: "fail", reason: "unknown" }],
    [[false, "stored", "r1", "whole"], skip("withdrawn")],
    [[false, "moved", "r1", "whole"], skip("withdrawn")],
    [[false, "damaged", "r1", "missing"], skip("withdrawn")],
    [[false, "removed", "r1", "whole"], skip("dropped")],
    [[true, "removed", "r1", "whole"], skip("dropped")],
    [[true, "removed", "r0", "missing"], skip("dropped")],
    [[true, null, "", "whole"], fetch("new")],
    [[true, null, "", "missing"], fetch("new")],
    [[true, "damaged", "r1", "whole"], fetch("damaged")],
    [[true, "damaged", "r0", "missing"], fetch("damaged")],
    [[true, "stored", "r0", "whole"], fetch("changed")],
    [[true, "moved", "r0", "missing"], fetch("changed")],
    [[true, "stored", "r1", "whole"], skip("here")],
    [[true, "moved", "r1", "whole"], skip("here")],
    [[true, "stored", "r1", "missing"], fetch("missing")],
    [[true, "moved", "r1", "missing"], fetch("missing")],
  ];

  it.each(rows)("%j -> %j", ([shown, receipt, revision, disk], expected) => {
    const found = receipt === null ? null : state(receipt, revision);
    const decision: Decision = decide(item(!shown), found, disk);
    expect(decision).toEqual(expected);
  });

  it.each(rows)("the disk is asked only where the answer depends on it: %j", ([shown, receipt, revision]) => {
    const found = receipt === null ? null : state(receipt, revision);
    const differs =
      decide(item(!shown), found, "whole").reason !== decide(item(!shown), found, "missing").reason;
    expect(needsDisk(item(!shown), found)).toBe(differs);
  });
});
