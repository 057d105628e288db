import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { checkSums } from "../../checksums/sums.ts";
import { RunError } from "../../errors.ts";
import type { Library, RunEvent, VerifySummary } from "../library.ts";
import { main } from "../main.ts";
import { fakeIo } from "../testing.ts";

const GOOD: VerifySummary = {
  dir: "/d",
  exit: 0,
  items: 2,
  files: 1_234,
  bytes: 5_000_000,
  ok: 1_234,
  changed: 0,
  missing: 0,
  moved: 0,
  extra: 0,
  tookMs: 2_000,
  error: null,
};

async function verify(
  argv: readonly string[],
  events: readonly RunEvent[],
  summary: Partial<VerifySummary> = {},
) {
  const calls: unknown[] = [];
  const library = {
    RunError,
    EVENTS_VERSION: 1,
    checkSums,
    verify: (...args: unknown[]) => {
      calls.push(args);
      async function* each() {
        yield* events;
      }
      return Object.assign(each(), { result: Promise.resolve({ ...GOOD, ...summary }) });
    },
    writeFolderSums: async (...args: unknown[]) => {
      calls.push(args);
      return { files: 7, standsAlone: !JSON.stringify(args).includes("elsewhere"), packed: false };
    },
  } as unknown as Partial<Library>;
  const io = fakeIo({ library });
  const status = await main(["verify", ...argv], io);
  return { status, out: io.stdout.text, err: io.stderr.text, calls };
}

const bad: readonly RunEvent[] = [
  { type: "file-checked", path: "A/1.dcm", outcome: "ok" },
  { type: "file-checked", path: "A/2.dcm", outcome: "changed" },
  { type: "file-checked", path: "A/3.dcm", outcome: "moved", to: "B/3.dcm" },
];

describe("verify DIR", () => {
  it("shows no table when all is well", async () => {
    const { status, out, err, calls } = await verify(["/d", "--strict", "--jobs", "2"], []);
    expect([status, out]).toEqual([0, ""]);
    expect(err).toBe(
      "Proved 1,234 files of 2 items (5.00 MB) in 2 s.\nEvery file is byte for byte what was stored.\n",
    );
    expect(calls).toMatchObject([["/d", { strict: true, jobs: 2 }]]);
  });

  it("lists what is not as it was and says how to mend it", async () => {
    const { status, out, err } = await verify(["/d"], bad, { exit: 6, ok: 1_232, changed: 1, moved: 1 });
    expect(status).toBe(6);
    expect(out).toBe("outcome\tpath\tto\nchanged\tA/2.dcm\t\nmoved\tA/3.dcm\tB/3.dcm\n");
    expect(err).toContain("1,232 as stored, 1 changed.");
    expect(err).toContain("To mend it: gantry get -o /d");
  });

  it("gives an empty array to a program", async () => {
    expect((await verify(["/d", "--format", "json"], [])).out).toBe("[]\n");
  });

  it("prints events with --json", async () => {
    const { out } = await verify(["/d", "--json"], bad);
    expect(
      out
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line).outcome),
    ).toEqual(["ok", "changed", "moved"]);
  });

  it("ends as the library says", async () => {
    const error = { code: "folder-unknown" as const, message: "no folder of gantry", hint: "name one" };
    const { status, err } = await verify(["/d"], [], { exit: 2, error });
    expect([status, err]).toEqual([2, "gantry: no folder of gantry\n  name one\n"]);
  });

  it("--write-sums", async () => {
    const first = await verify(["d d", "--write-sums"], []);
    expect(first.calls).toMatchObject([["d d", { to: "d d/MD5SUMS" }]]);
    expect(first.err).toBe(
      "7 files listed in d d/MD5SUMS. To check it: gantry verify --sums 'd d/MD5SUMS'\n",
    );
    expect((await verify(["d", "--write-sums", "elsewhere/x.md5"], [])).err).toContain(
      "verify --sums elsewhere/x.md5 d\n",
    );
    expect((await verify(["d", "--write-sums", "x.md5"], [])).calls).toMatchObject([["d", { to: "x.md5" }]]);
  });

  it("needs a folder or a list, and not both kinds of sums", async () => {
    expect((await verify([], [])).status).toBe(2);
    expect((await verify(["d", "--sums", "a", "--write-sums"], [])).status).toBe(2);
  });
});

describe("verify --sums", () => {
  let dir: string;
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), "gantry-verify-"));
    writeFileSync(join(dir, "a"), "a");
    writeFileSync(join(dir, "b"), "b");
    const a = "0cc175b9c0f1b6a831c399e269772661";
    writeFileSync(join(dir, "good"), `${a}  a\n`);
    writeFileSync(join(dir, "bad"), `${a}  a\n${a}  b\n${a}  c\nnonsense\n`);
    writeFileSync(join(dir, "lines"), `${a}  a\nnonsense\n`);
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  it("says that all is right", async () => {
    const { status, out, err } = await verify(["--sums", join(dir, "good"), dir], []);
    expect([status, out]).toEqual([0, ""]);
    expect(err).toContain("Checked 1 file (1 B) in 0 ms: 1 right.\n");
  });

  it("lists what is wrong", async () => {
    const { status, out, err } = await verify(
      ["--sums", join(dir, "bad"), "--fields", "outcome,path,line"],
      [],
    );
    expect(status).toBe(6);
    expect(out).toBe("outcome\tpath\tline\nchanged\tb\t2\nmissing\tc\t3\nbad line\t\t4\n");
    expect(err).toContain("1 right, 1 changed, 1 missing, 1 bad line.");
  });

  it("does not call a list with bad lines proved", async () => {
    expect((await verify(["--sums", join(dir, "lines")], [])).status).toBe(2);
    expect((await verify(["--sums", join(dir, "none")], [])).status).toBe(2);
  });
});
