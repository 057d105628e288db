import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { RunEvent } from "./events.ts";
import { openLogbook } from "./logbook.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "gantry-logbook-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const clock = { now: () => new Date("2026-01-02T23:59:59.500Z") };
const read = (dir: string, name: string): string => readFileSync(join(dir, name), "utf8");
const started: RunEvent = { type: "run-started", run: "r1", dir: "/d", requests: ["tcia:A"] };
const stored = (n: number): RunEvent => ({
  type: "item-stored",
  item: `dicom-series:1.${n}`,
  address: `tcia:1.${n}`,
  folder: "A/P",
  files: 3,
  bytes: 1234,
  proof: ["md5hashes.csv", "image count"],
  disputed: null,
  tookMs: 7,
});

describe("the logbook", () => {
  it("writes what happened in one file and everything in the other", async () => {
    const dir = join(folder, "logs");
    const book = await openLogbook({ dir, clock });
    book.event(started);
    book.log("debug", "GET /getSeries", { waitMs: 3 });
    book.log("warn", "slow");
    book.event(stored(1));
    book.event({
      type: "item-failed",
      item: "dicom-series:1.2",
      address: "tcia:1.2",
      code: "archive-cut",
      message: "cut",
      hint: "again",
    });
    book.log("error", "broken", { error: new Error("outer", { cause: new Error("inner") }) });
    await book.close();
    expect(readdirSync(dir).sort()).toEqual(["gantry-2026-01-02.debug.log", "gantry-2026-01-02.log"]);
    expect(book.path).toBe(join(dir, "gantry-2026-01-02.log"));
    const log = read(dir, "gantry-2026-01-02.log");
    const stamp = `2026-01-02T23:59:59.500Z`;
    expect(log).toContain(
      `${stamp} INFO  ${process.pid} stored dicom-series:1.1 tcia:1.1 in A/P: 3 files, 1234 bytes, 7 ms, proved by md5hashes.csv, image count\n`,
    );
    expect(log).toContain("failed dicom-series:1.2 tcia:1.2: archive-cut: cut (again)");
    expect(log).not.toContain("getSeries");
    const debug = read(dir, "gantry-2026-01-02.debug.log");
    expect(debug).toContain('GET /getSeries {"waitMs":3}');
    expect(debug).toMatch(/Error: outer\n {8}at .*logbook\.test/);
    expect(debug).toContain("Error: inner");
    for (const line of log.trimEnd().split("\n")) expect(debug).toContain(line);
  });

  it("appends to what other runs of the day wrote", async () => {
    for (const n of [1, 2]) {
      const book = await openLogbook({ dir: folder, clock });
      book.event(stored(n));
      await book.close();
    }
    const lines = read(folder, "gantry-2026-01-02.log").trimEnd().split("\n");
    expect(lines).toHaveLength(2);
  });

  it("keeps lines whole and in order when two write at once", async () => {
    const books = [await openLogbook({ dir: folder, clock }), await openLogbook({ dir: folder, clock })];
    for (let n = 0; n < 5_000; n++)
      for (const [who, book] of books.entries()) book.log("warn", `${who} ${n} ${"x".repeat(300)}`);
    await Promise.all(books.map((book) => book.close()));
    const lines = read(folder, "gantry-2026-01-02.log").trimEnd().split("\n");
    expect(lines).toHaveLength(10_000);
    for (const who of ["0", "1"]) {
      const numbers = lines
        .map((line) => line.split(/ +/).slice(3))
        .filter(([name]) => name === who)
        .map(([, n]) => Number(n));
      expect(numbers).toEqual(Array.from({ length: 5_000 }, (_, n) => n));
    }
  });

  it("takes secrets out of every line", async () => {
    const book = await openLogbook({ dir: folder, clock, secrets: ["hunter22"] });
    book.log("warn", "login with hunter22 failed", { url: "https://u:pw@host/?api_key=abc123" });
    book.event({ type: "warning", message: "Authorization: Bearer abcdef0123456789" });
    book.event({ ...stored(1), address: "tcia:hunter22" } as RunEvent);
    await book.close();
    const all = read(folder, "gantry-2026-01-02.log") + read(folder, "gantry-2026-01-02.debug.log");
    for (const secret of ["hunter22", "pw@", "abc123", "abcdef0123456789"]) expect(all).not.toContain(secret);
    expect(all).toContain("login with *** failed");
  });

  it("uses the redaction that it is given", async () => {
    const book = await openLogbook({ dir: folder, clock, redact: (text) => text.replaceAll("a", "#") });
    book.log("warn", "banana");
    await book.close();
    expect(read(folder, "gantry-2026-01-02.log")).toContain("b#n#n#");
  });

  it("leaves no trace of a run that never started", async () => {
    const dir = join(folder, "logs");
    const book = await openLogbook({ dir, clock, early: false });
    book.log("debug", "before");
    await book.close();
    expect(readdirSync(folder)).toEqual([]);
    expect(book.path).toBeNull();

    const other = await openLogbook({ dir, clock, early: false });
    other.log("debug", "before");
    other.event(started);
    await other.close();
    expect(read(dir, "gantry-2026-01-02.debug.log").split("\n")[0]).toContain("before");
  });

  it("warns once when it can't write, and harms nobody", async () => {
    const file = join(folder, "file");
    writeFileSync(file, "");
    const warnings: string[] = [];
    const book = await openLogbook({
      dir: join(file, "logs"),
      clock,
      onWarning: (message) => warnings.push(message),
    });
    book.event(started);
    book.event(stored(1));
    await book.close();
    book.event(stored(2));
    await book.close();
    expect(warnings).toHaveLength(1);
  });
});
