import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { formatSumsLine, parseSumsLine, type SumsAlgorithm } from "../model/sums-line.ts";
import {
  type CheckSumsOptions,
  checkSums,
  readSums,
  type SumsProgress,
  type SumsResult,
  writeSums,
} from "./sums.ts";

const md5 = (text: string | Uint8Array): string => createHash("md5").update(text).digest("hex");
const M = md5("one");

async function gather<T>(values: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const value of values) all.push(value);
  return all;
}

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "gantry-sums-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function put(name: string, content: string | Uint8Array): string {
  mkdirSync(dirname(join(folder, name)), { recursive: true });
  writeFileSync(join(folder, name), content);
  return name;
}

async function check(text: string | Uint8Array, more: Partial<CheckSumsOptions> = {}): Promise<SumsResult[]> {
  const list = join(folder, put("list.sums", text));
  return gather(checkSums({ list, ...more }));
}

const outcomes = async (text: string | Uint8Array): Promise<[string, string | null][]> =>
  (await check(text)).map(({ outcome, path }) => [outcome, path]);

describe("parseSumsLine", () => {
  it.each<[string, string]>([
    [`${M}  a.dcm`, "a.dcm"],
    [`${M} *a.dcm`, "a.dcm"],
    [`${M} a.dcm`, "a.dcm"],
    [`${M}\ta.dcm`, "a.dcm"],
    [`${M}  a b  c.dcm`, "a b  c.dcm"],
    [`${M}  a.dcm\r`, "a.dcm"],
    [`\uFEFF${M}  a.dcm`, "a.dcm"],
    [`${M.toUpperCase()}  a.dcm`, "a.dcm"],
    [`${M}  ./x//y/./a.dcm`, "x/y/a.dcm"],
    [`\\${M}  a\\nb\\\\c\\r`, "a\nb\\c\r"],
    [`${M}   a`, " a"],
    [`${M}  *a`, "*a"],
    [`${M}  #a`, "#a"],
    [`MD5 (a (1).dcm) = ${M}`, "a (1).dcm"],
    [`MD5 (a) = b) = ${M}`, "a) = b"],
    [`MD5(a.dcm)= ${M}`, "a.dcm"],
    [`\\MD5 (a\\nb) = ${M}`, "a\nb"],
  ])("reads %j", (line, name) => {
    const entry = parseSumsLine(line);
    expect(entry).toMatchObject({ algorithm: "md5", hex: M });
    expect(entry?.names[0]).toBe(name);
  });

  it.each<[SumsAlgorithm, string]>([
    ["sha1", "SHA1"],
    ["sha256", "SHA256"],
    ["sha256", "SHA2-256"],
    ["sha512", "SHA512"],
  ])("tells %s by its length and as %s", (algorithm, tag) => {
    const hex = createHash(algorithm).update("x").digest("hex");
    expect(parseSumsLine(`${hex}  a`)).toEqual({ algorithm, hex, names: ["a"] });
    expect(parseSumsLine(`${tag} (a) = ${hex}`)).toEqual({ algorithm, hex, names: ["a"] });
  });

  it.each(["", "   ", "\r", "# a comment", "  # another", "\uFEFF"])("leaves out %j", (line) => {
    expect(parseSumsLine(line)).toBeNull();
  });

  it.each([
    "hello",
    M,
    `${M}  `,
    `${M.slice(1)}  a`,
    `${M}  /etc/passwd`,
    `${M}  ../a`,
    `${M}  a/../../b`,
    `${M}  a/..`,
    `${M} *C:\\a`,
    `${M}  ./`,
    `${M}  a\0b`,
    `\\${M}  a\\tb`,
    `\\${M}  a\\`,
    `SHA1 (a) = ${M}`,
    `MD5 (../a) = ${M}`,
  ])("refuses %j", (line) => {
    expect(() => parseSumsLine(line)).toThrow(expect.objectContaining({ code: "bad-selection" }));
  });

  it("never guesses a name that leaves the folder", () => {
    expect(parseSumsLine(`${M}  a\\..\\..\\b`)?.names).toEqual(["a\\..\\..\\b"]);
    expect(parseSumsLine(`${M}   /etc/passwd`)?.names).toEqual([" /etc/passwd"]);
  });

  it("reads back whatever is written", () => {
    const segment = fc
      .string({ minLength: 1, unit: "grapheme" })
      .filter((text) => !/[/\0]/.test(text) && ![".", ".."].includes(text) && text.isWellFormed());
    const name = fc.array(segment, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("/"));
    fc.assert(
      fc.property(name, (path) => {
        fc.pre(!/^[a-z]:\\/i.test(path) && !path.startsWith("\\\\"));
        expect(parseSumsLine(formatSumsLine(M, path).slice(0, -1))?.names[0]).toBe(path);
      }),
    );
  });
});

describe("checkSums", () => {
  it("tells right, wrong and absent files in the order of the list", async () => {
    put("b", "one");
    put("a", "two");
    put("d e/f", "one");
    const all = await check(`${M}  b\n${M}  a\n\n# note\n${M}  c\n${M} *d e/f`);
    expect(all).toEqual([
      { line: 1, path: "b", outcome: "OK", algorithm: "md5", expected: M, actual: M, sizeBytes: 3 },
      {
        line: 2,
        path: "a",
        outcome: "MISMATCH",
        algorithm: "md5",
        expected: M,
        actual: md5("two"),
        sizeBytes: 3,
      },
      {
        line: 5,
        path: "c",
        outcome: "NOT FOUND",
        algorithm: "md5",
        expected: M,
        actual: null,
        sizeBytes: null,
      },
      { line: 6, path: "d e/f", outcome: "OK", algorithm: "md5", expected: M, actual: M, sizeBytes: 3 },
    ]);
  });

  it("tells a bad line with its number and goes on", async () => {
    put("a", "one");
    const all = await check(`garbage\r\n${M}  ../a\r\n${M}  a\r\n`);
    expect(all.map(({ line, outcome }) => [line, outcome])).toEqual([
      [1, "BAD LINE"],
      [2, "BAD LINE"],
      [3, "OK"],
    ]);
    expect(all[1]).toMatchObject({ why: expect.stringContaining("leaves the folder") });
  });

  it.each([
    ["missing", null, /does not exist/],
    ["empty", "", /not one good line/],
    ["without a good line", "a\nb\n", /not one good line, line 1/],
  ])("refuses a list that is %s", async (_, text, message) => {
    const list = join(folder, "l");
    if (text !== null) put("l", text);
    const reading = gather(checkSums({ list }));
    await expect(reading).rejects.toMatchObject({ code: "usage", message: expect.stringMatching(message) });
  });

  it("refuses a folder as list", async () => {
    const reading = gather(checkSums({ list: folder }));
    await expect(reading).rejects.toMatchObject({ code: "usage" });
  });

  it("finds composed names that are decomposed on disk, and the other way round", async () => {
    const composed = "caf\u00e9/\u00fcbung x";
    const decomposed = composed.normalize("NFD");
    put(decomposed, "one");
    put("plain/\u00e9", "one");
    expect(await outcomes(`${M}  ${composed}\n${M}  plain/e\u0301\n${M}  plain/e\u0300\n`)).toEqual([
      ["OK", decomposed],
      ["OK", "plain/\u00e9"],
      ["NOT FOUND", "plain/e\u0300"],
    ]);
  });

  it("takes the exact bytes first", async () => {
    put("\u00e9", "one");
    put("e\u0301", "two");
    expect(await outcomes(`${M}  \u00e9\n${md5("two")}  e\u0301\n`)).toEqual([
      ["OK", "\u00e9"],
      ["OK", "e\u0301"],
    ]);
  });

  it("finds names that are no UTF-8", async () => {
    const name = Buffer.from("caf\u00e9", "latin1");
    writeFileSync(Buffer.concat([Buffer.from(`${folder}/`), name]), "one");
    const list = Buffer.concat([Buffer.from(`${M}  x\r\n${M}  `), name, Buffer.from(`\r\n${M}  y\n`)]);
    expect((await check(list)).map(({ outcome }) => outcome)).toEqual(["NOT FOUND", "OK", "NOT FOUND"]);
  });

  it("tries the looser readings of a name after the strict one", async () => {
    put("a", "one");
    put("x/b", "one");
    put("*c", "two");
    put("c", "one");
    expect(await outcomes(`${M}     a  \n${M}  x\\b\n${md5("two")}  *c\n${M} *c\n`)).toEqual([
      ["OK", "a"],
      ["OK", "x/b"],
      ["OK", "*c"],
      ["OK", "c"],
    ]);
  });

  it("does not hang on a pipe, nor take a folder for a file", async () => {
    execFileSync("mkfifo", [join(folder, "pipe")]);
    mkdirSync(join(folder, "sub"));
    const all = await check(`${M}  pipe\n${M}  sub\n`);
    expect(all.map(({ outcome }) => outcome)).toEqual(["UNREADABLE", "UNREADABLE"]);
    expect(all[0]).toMatchObject({ error: { code: "disk-error" } });
  });

  it("follows links, as md5sum does", async () => {
    put("a", "one");
    symlinkSync("a", join(folder, "link"));
    expect(await outcomes(`${M}  link\n`)).toEqual([["OK", "link"]]);
  });

  it("looks below another folder when told", async () => {
    put("sub/a", "one");
    const all = await check(`${M}  a\n`, { folder: join(folder, "sub") });
    expect(all).toMatchObject([{ outcome: "OK" }]);
  });

  it("keeps the order whatever finishes first, with any number of jobs", async () => {
    const names = Array.from({ length: 300 }, (_, n) =>
      put(`f${n}`, Buffer.alloc(n % 7 === 0 ? 200_000 : 10, n)),
    );
    const list = names.map((name) => `${md5(readFileSync(join(folder, name)))}  ${name}\n`).join("");
    for (const jobs of [1, 3]) {
      const all = await check(list, { jobs });
      expect(all.map(({ path }) => path)).toEqual(names);
      expect(new Set(all.map(({ outcome }) => outcome))).toEqual(new Set(["OK"]));
    }
  });

  it("hashes files of every length around its buffer", async () => {
    const sizes = [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (3 << 20) + 17];
    const list = sizes.map((size) => {
      const content = Buffer.alloc(size, `${size}`);
      return `${md5(content)}  ${put(`s${size}`, content)}\n`;
    });
    const all = await check(list.join(""));
    expect(all.map((result) => "sizeBytes" in result && result.outcome === "OK" && result.sizeBytes)).toEqual(
      sizes,
    );
  });

  it("tells bytes, rate and time to go, totals first", async () => {
    put("a", Buffer.alloc(3 << 20));
    const b = join(folder, put("b", "one"));
    const told: SumsProgress[] = [];
    let nowMs = 0;
    const monotonicMs = (): number => {
      nowMs += 1000;
      return nowMs;
    };
    const onProgress = (progress: SumsProgress): void => {
      told.push(progress);
      rmSync(b, { force: true });
    };
    const a = md5(Buffer.alloc(3 << 20));
    const all = await check(`${a}  a\n${M}  b\n${M}  c\nbad\n`, { jobs: 1, onProgress, monotonicMs });
    expect(all.map(({ outcome }) => outcome)).toEqual(["OK", "NOT FOUND", "NOT FOUND", "BAD LINE"]);
    const totals = { totalFiles: 3, totalBytes: (3 << 20) + 3 };
    expect(told[0]).toEqual({ ...totals, doneFiles: 0, doneBytes: 0, bytesPerSecond: 0, etaSeconds: null });
    const first = told.find(({ doneFiles }) => doneFiles === 1);
    expect(first).toMatchObject({ ...totals, doneBytes: 3 << 20 });
    // One second a look at the clock: so many bytes a second for the three that are missing.
    expect(first?.etaSeconds).toBeCloseTo(3 / first!.bytesPerSecond);
    expect(told.at(-1)).toMatchObject({ ...totals, doneFiles: 3, etaSeconds: 0 });
  });

  it("stops at the signal, and when the reader stops", async () => {
    put("a", Buffer.alloc(1 << 20));
    const list = `${md5(Buffer.alloc(1 << 20))}  a\n`.repeat(500);
    const stop = new AbortController();
    const seen: SumsResult[] = [];
    const reading = (async () => {
      for await (const result of checkSums({ list: join(folder, put("l", list)), signal: stop.signal })) {
        seen.push(result);
        stop.abort(new Error("enough"));
      }
    })();
    await expect(reading).rejects.toThrow("enough");
    expect(seen.length).toBeLessThan(500);
    for await (const result of checkSums({ list: join(folder, "l") })) {
      expect(result.outcome).toBe("OK");
      break;
    }
  });

  it("reads what the real programs write", async () => {
    const names = ["a b", "x/\\y", "new\nline", " lead", "*star", "\u00fc", "trail ", "(p) = q"].map((name) =>
      put(name, `content of ${name}`),
    );
    for (const [program, ...flags] of [
      ["md5sum"],
      ["md5sum", "-b"],
      ["md5sum", "--tag"],
      ["sha1sum"],
      ["sha256sum", "--tag"],
      ["sha512sum"],
    ] as const) {
      const text = execFileSync(program, [...flags, "--", ...names], { cwd: folder });
      expect(await outcomes(text), `${program} ${flags}`).toEqual(names.map((name) => ["OK", name]));
    }
  });
});

describe("readSums", () => {
  it("numbers the lines and leaves out nothing that is not blank", async () => {
    const all = await gather(readSums(join(folder, put("l", `\uFEFF# x\n\n${M}  a\nbad\n${M}  b`))));
    expect(all.map((line) => [line.line, "bad" in line ? line.text : line.entry.names[0]])).toEqual([
      [3, "a"],
      [4, "bad"],
      [5, "b"],
    ]);
  });
});

describe("writeSums", () => {
  async function* each<T>(values: Iterable<T>): AsyncGenerator<T> {
    yield* values;
  }

  it.each<[SumsAlgorithm, string]>([
    ["md5", "md5sum"],
    ["sha1", "sha1sum"],
    ["sha256", "sha256sum"],
    ["sha512", "sha512sum"],
  ])("writes %s lists that %s -c accepts, sorted", async (algorithm, program) => {
    const names = ["z", "a b", "new\nline", "back\\slash", "cr\r", " lead", "trail ", "*s", "\u00fc/x", "#n"];
    for (const name of names) put(name, `content of ${name}`);
    const to = join(folder, "the.list");
    const written = await writeSums({ folder, files: each(names.map((path) => ({ path }))), algorithm, to });
    expect(written).toEqual({ files: names.length });
    const judge = spawnSync(program, ["-c", "--strict", to], { cwd: folder, encoding: "utf8" });
    expect([judge.status, judge.stderr]).toEqual([0, ""]);
    expect(judge.stdout.match(/: OK$/gm)).toHaveLength(names.length);
    const all = await gather(checkSums({ list: to }));
    expect(all.map(({ path, outcome }) => [path, outcome])).toEqual(
      names.toSorted().map((name) => [name, "OK"]),
    );
  });

  it("takes a known digest of the algorithm, and hashes in spite of another", async () => {
    put("b", "two");
    const to = join(folder, "l");
    const files = each([
      { path: "not-there", digest: `md5:${M}` as const },
      { path: "b", digest: `sha256:${"0".repeat(64)}` as const },
    ]);
    await writeSums({ folder, files, algorithm: "md5", to });
    expect(readFileSync(to, "utf8")).toBe(`${md5("two")}  b\n${M}  not-there\n`);
  });

  it("leaves nothing behind when a file is missing", async () => {
    const to = join(folder, "l");
    const writing = writeSums({ folder, files: each([{ path: "gone" }]), algorithm: "md5", to });
    await expect(writing).rejects.toMatchObject({ code: "disk-error" });
    expect(readdirSync(folder)).toEqual([]);
  });
});
