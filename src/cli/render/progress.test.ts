import { describe, expect, it } from "vitest";
import type { RunEvent } from "../library.ts";
import { fakeIo } from "../testing.ts";
import { createProgress } from "./progress.ts";
import { columnsOf, counted, cutTo, lasting, nounOfAll, shown, sized } from "./wording.ts";

const progress = (
  doneItems: number,
  more: Partial<Extract<RunEvent, { type: "progress" }>> = {},
): RunEvent => ({
  type: "progress",
  doneItems,
  failedItems: 0,
  totalItems: 1_000,
  doneBytes: doneItems * 1_000_000,
  totalBytes: 1_000_000_000,
  receivedBytes: 0,
  bytesPerSecond: 2_500_000,
  etaSeconds: 100,
  idleSeconds: 0,
  active: ["dicom-series:1.2.3"],
  ...more,
});
const started: RunEvent = {
  type: "item-started",
  item: "dicom-series:1.2.3",
  address: "tcia:1.2.3",
  labels: { Collection: "LCTSC", PatientID: "P-1\u001b[2J", Modality: "CT", SeriesDescription: "Recon 2" },
  bytes: 5,
};
const retry: RunEvent = {
  type: "item-retry",
  item: "dicom-series:1.2.3",
  attempt: 1,
  code: "archive-cut",
  message: "the connection was cut",
  waitMs: 2_000,
};

describe("plain progress", () => {
  it("says a line every few seconds and at each quarter", () => {
    const io = fakeIo();
    const plain = createProgress(io, "auto");
    plain.event(started);
    for (let second = 0; second <= 12; second++) {
      plain.event(progress(10 + second));
      io.pass(1_000);
    }
    plain.event(progress(251));
    plain.event(progress(252));
    plain.event(progress(760, { failedItems: 3, etaSeconds: null, idleSeconds: 0 }));
    plain.close();
    expect(io.stderr.text).toBe(
      [
        "  1%  15 of 1,000 series, 15.0 MB of 1.00 GB, 2.50 MB/s, 1 min 40 s left",
        "  2%  20 of 1,000 series, 20.0 MB of 1.00 GB, 2.50 MB/s, 1 min 40 s left",
        " 25%  251 of 1,000 series, 251 MB of 1.00 GB, 2.50 MB/s, 1 min 40 s left",
        " 76%  760 of 1,000 series, 3 failed, 760 MB of 1.00 GB, 2.50 MB/s",
        "",
      ].join("\n"),
    );
  });

  it("talks less the longer it lasts", () => {
    const io = fakeIo();
    const plain = createProgress(io, "plain");
    for (let second = 0; second < 7_200; second++) {
      plain.event(progress(1));
      io.pass(1_000);
    }
    const lines = io.stderr.text.trimEnd().split("\n").length;
    expect(lines).toBeGreaterThan(100);
    expect(lines).toBeLessThan(160);
  });

  it("says retries, failures and warnings at once, and stops at twenty of a kind", () => {
    const io = fakeIo();
    const plain = createProgress(io, "plain");
    plain.event(started);
    plain.event(retry);
    for (let n = 0; n < 30; n++) plain.event({ type: "warning", message: `careful ${n}\u001b[2J` });
    const lines = io.stderr.text.trimEnd().split("\n");
    expect(lines[0]).toBe("retry     tcia:1.2.3: the connection was cut; trying again in 2 s");
    expect(lines[1]).toBe("warning   careful 0\\u{1b}[2J");
    expect(lines).toHaveLength(22);
    expect(lines[21]).toBe("warning   more of these are only in the log");
  });

  it("is what a notebook gets, though it looks like a terminal", () => {
    const io = fakeIo({ terminal: true, env: { JPY_PARENT_PID: "7" } });
    const plain = createProgress(io, "auto");
    plain.event(progress(500));
    expect(io.stderr.text).toMatch(/^ 50% .*\n$/);
    expect(io.stderr.text).not.toContain("\u001b");
  });

  it("says only warnings with none, and nothing when silent", () => {
    const io = fakeIo();
    for (const mode of ["silent", "none"] as const) {
      const none = createProgress(io, mode);
      none.event(progress(500));
      none.event(retry);
      none.event({ type: "warning", message: "a line was left out" });
    }
    expect(io.stderr.text).toBe("warning   a line was left out\n");
  });
});

describe("the bar", () => {
  it("stays within the terminal and names what is under way, harmlessly", () => {
    const io = fakeIo({ terminal: true, columns: 90, env: { NO_COLOR: "1" } });
    const bar = createProgress(io, "auto");
    bar.event(started);
    bar.event(progress(500));
    const [head = "", current = ""] = io.stderr.text.split("\n");
    expect(head).toMatch(/^█+░+ +50% {2}500 of 1,000 series/);
    expect(columnsOf(head)).toBeLessThan(90);
    expect(current).toBe("LCTSC / P-1\\u{1b}[2J / CT / Recon 2");
  });

  it("puts lines above itself and goes at the end", () => {
    const io = fakeIo({ terminal: true, columns: 90, env: { NO_COLOR: "1" } });
    const bar = createProgress(io, "auto");
    bar.event(started);
    bar.event(progress(1));
    bar.event(retry);
    bar.close();
    // What a terminal of endless height shows: up, erase below, carriage return, line feed.
    let rows = [""];
    let row = 0;
    for (const part of io.stderr.text.match(/\u001b\[\d*[AJ]|\r|\n|[^\u001b\r\n]+/g) ?? []) {
      if (part === "\n") rows[++row] ??= "";
      else if (part === "\r") continue;
      else if (part.endsWith("A") && part.startsWith("\u001b")) row -= Number(part.slice(2, -1));
      else if (part === "\u001b[J") rows = [...rows.slice(0, row), ""];
      else rows[row] += part;
    }
    expect(rows.filter((text) => text !== "")).toEqual([
      "retry     tcia:1.2.3: the connection was cut; trying again in 2 s",
    ]);
  });
});

describe("wording", () => {
  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1_000, "1.00 kB"],
    [27_612_345, "27.6 MB"],
    [999_499, "999 kB"],
    [999_500, "1.00 MB"],
    [1_200_000_000_000, "1.20 TB"],
  ])("%d bytes are %s", (bytes, text) => expect(sized(bytes)).toBe(text));

  it.each([
    [400, "400 ms"],
    [3_000, "3 s"],
    [2_500, "2.5 s"],
    [59_400, "59 s"],
    [200_000, "3 min 20 s"],
    [7_500_000, "2 h 05 min"],
    [273_600_000, "3 d 4 h"],
  ])("%d ms last %s", (ms, text) => expect(lasting(ms)).toBe(text));

  it("counts", () => {
    expect([counted(1, "file"), counted(12_345, "file"), counted(2, "series"), counted(0, "study")]).toEqual([
      "1 file",
      "12,345 files",
      "2 series",
      "0 studies",
    ]);
    expect(nounOfAll(["dicom-series:1", "dicom-series:2"])).toBe("series");
    expect(nounOfAll(["dicom-series:1", "x:2"])).toBe("item");
    expect(nounOfAll([])).toBe("item");
  });

  it("measures and cuts wide and combined characters", () => {
    expect(columnsOf("日本")).toBe(4);
    expect(columnsOf("e\u0301")).toBe(1);
    expect(cutTo("日本語", 4)).toBe("日…");
    expect(shown("a\u202eb\u0007")).toBe("a\\u{202e}b\\u{7}");
  });
});
