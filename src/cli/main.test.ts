import { describe, expect, it } from "vitest";
import { RunError } from "../errors.ts";
import { parseDuration, parseRate } from "../lib/limiter.ts";
import { createRedactor } from "../lib/redact.ts";
import { secretLinkName } from "../model/site.ts";
import type { RunEvent, RunSummary } from "../pipeline/events.ts";
import type { FolderStatus, Library, Row } from "./library.ts";
import { main } from "./main.ts";
import { type FakeIo, type FakeIoOptions, fakeIo } from "./testing.ts";

const SUMMARY: RunSummary = {
  run: "r1",
  dir: "/data",
  exit: 0,
  stored: { items: 2, files: 1_234, bytes: 4_200_000_000 },
  adopted: { items: 0, files: 0, bytes: 0, fetchedFiles: 0, fetchedBytes: 0 },
  here: { items: 1, files: 1, bytes: 500 },
  failed: 0,
  withdrawn: 0,
  dropped: 0,
  disputed: 0,
  receivedBytes: 4_000_000_000,
  tookMs: 80_000,
  failures: [],
  citations: [{ collection: "LCTSC", licence: "CC BY 3.0", licenceUrl: null, doi: "10.7937/x" }],
  error: null,
};
const tally = (items: number) => ({ items, files: items * 10, bytes: items * 1_000_000, unsized: 0 });
const STARTED: RunEvent = { type: "run-started", run: "r1", dir: "/data", requests: ["tcia:LCTSC"] };
const PLANNED: RunEvent = {
  type: "planned",
  wanted: tally(3),
  fetch: tally(2),
  here: tally(1),
  found: tally(0),
  unknown: 0,
  withdrawn: 0,
  dropped: 0,
  freeBytes: 120_000_000_000,
  freeInodes: 1_000_000,
  quotaBytes: null,
  quotaInodes: null,
  inodes: { loose: 20, packed: 2 },
  bytesPerSecond: 500_000,
  rateFrom: "runs",
  seconds: 4,
  licences: SUMMARY.citations,
};
const stored = (uid: string, disputed: string | null = null): RunEvent => ({
  type: "item-stored",
  item: `dicom-series:${uid}`,
  address: `tcia:${uid}`,
  folder: "A",
  files: 1,
  bytes: 1,
  proof: ["md5 of every image", "image count", "size"],
  disputed,
  tookMs: 1,
});
const finished = (summary: RunSummary): RunEvent => ({ type: "run-finished", ...summary });

interface Called {
  readonly name: string;
  readonly args: readonly unknown[];
}

/** A library that remembers how it was called and answers with what it is given. */
function fakeLibrary(answers: {
  events?: readonly RunEvent[] | (() => AsyncIterable<RunEvent>);
  summary?: Partial<RunSummary>;
  rows?: readonly Row[];
  columns?: readonly string[];
  throws?: Error;
  status?: FolderStatus;
}): { library: Partial<Library>; calls: Called[]; told: string[] } {
  const calls: Called[] = [];
  const told: string[] = [];
  const note = (name: string, ...args: readonly unknown[]): void => void calls.push({ name, args });
  const listing = async (name: string, ...args: readonly unknown[]) => {
    note(name, ...args);
    if (answers.throws) throw answers.throws;
    async function* rows(): AsyncIterable<Row> {
      yield* answers.rows ?? [];
    }
    return { columns: answers.columns ?? ["address"], rows: rows() };
  };
  async function* events(): AsyncIterable<RunEvent> {
    if (typeof answers.events === "function") yield* answers.events();
    else yield* answers.events ?? [STARTED, PLANNED, stored("1.1"), stored("1.2")];
    yield finished({ ...SUMMARY, ...answers.summary });
  }
  const run = () => {
    const made = events();
    return Object.assign(made, { result: Promise.resolve({ ...SUMMARY, ...answers.summary }) });
  };
  const library = {
    RunError,
    EVENTS_VERSION: 1,
    parseRate,
    parseDuration,
    createRedactor,
    secretLinkName,
    open: async (options: object) => {
      note("open", options);
      return {
        list: (...args: unknown[]) => listing("list", ...args),
        find: (...args: unknown[]) => listing("find", ...args),
        values: (...args: unknown[]) => listing("values", ...args),
        get: (...args: unknown[]) => {
          note("get", ...args);
          return run();
        },
        archives: () => [
          {
            name: "tcia",
            kind: "nbia",
            url: "https://archive.example",
            settings: { api: "v4" },
            from: "built-in",
          },
        ],
        account: () => ({ what: "user demo", from: "environment" }),
        close: async () => note("close"),
      };
    },
    openLogbook: async (options: object) => {
      note("openLogbook", options);
      return {
        log: () => undefined,
        event: (event: RunEvent) => told.push(`log ${event.type}`),
        path: "/data/.gantry/logs/gantry-2026-01-02.log",
        close: async () => undefined,
      };
    },
    createNotifier: (options: object) => {
      note("createNotifier", options);
      return { event: (event: RunEvent) => told.push(`notify ${event.type}`), close: async () => undefined };
    },
    readStatus: async () => answers.status,
    stopRun: async (dir: string) => ({
      run: dir === "live" ? { run: "r1", host: "node7", pid: 42 } : null,
      array: null,
      asked: dir === "live" ? 1 : 0,
    }),
  } as unknown as Partial<Library>;
  return { library, calls, told };
}

async function run(
  argv: readonly string[],
  answers: Parameters<typeof fakeLibrary>[0] = {},
  options: FakeIoOptions = {},
) {
  const { library, calls, told } = fakeLibrary(answers);
  const io: FakeIo = fakeIo({ library, ...options });
  const status = await main([...argv], io);
  const called = (name: string) => calls.find((call) => call.name === name)?.args;
  return { status, io, out: io.stdout.text, err: io.stderr.text, called, told };
}

describe("main", () => {
  it("answers --version and --help without the library", async () => {
    const io = { ...fakeIo(), library: () => Promise.reject(new Error("not for help")) };
    expect(await main(["--version"], io)).toBe(0);
    expect(io.stdout.text).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(await main(["get", "--help"], io)).toBe(0);
    expect(await main([], io)).toBe(0);
    expect(io.stderr.text).toBe("");
  });

  it("ends a usage error with 2 and two lines", async () => {
    const { status, out, err } = await run(["gte"]);
    expect([status, out]).toEqual([2, ""]);
    expect(err).toBe('gantry: there is no command "gte"\n  did you mean `gantry get`?\n');
  });

  it("ends an expected failure with its exit and hint", async () => {
    const throws = new RunError("unknown-name", "there is no collection 'LCTCS'", {
      hint: "did you mean LCTSC?",
    });
    const { status, err } = await run(["ls", "tcia:LCTCS"], { throws });
    expect(status).toBe(2);
    expect(err).toBe("gantry: there is no collection 'LCTCS'\n  did you mean LCTSC?\n");
    expect((await run(["ls", "x:"], { throws: new RunError("archive-busy", "busy") })).status).toBe(5);
  });

  it("ends a bug with 1 and the stack", async () => {
    const { status, err } = await run(["ls", "tcia:"], { throws: new TypeError("oops") });
    expect(status).toBe(1);
    expect(err).toMatch(/fault of gantry itself[\s\S]*TypeError: oops\n\s+at /);
  });

  it("does not mind a reader that has gone", async () => {
    const { library } = fakeLibrary({ rows: [{ address: "tcia:A" }] });
    const io = fakeIo({ library });
    io.stdout.failure = Object.assign(new Error("gone"), { code: "EPIPE" });
    expect(await main(["ls", "tcia:"], io)).toBe(0);
    expect(io.stderr.text).toBe("");
    io.stdout.failure = Object.assign(new Error("full"), { code: "ENOSPC" });
    expect(await main(["ls", "tcia:"], io)).toBe(7);
    expect(io.stderr.text).toBe("gantry: standard output can't be written: full\n");
  });
});

describe("the commands that list", () => {
  it("ls", async () => {
    const { status, out, called } = await run(["ls", "-Rl", "tcia:", "LCTSC", "--modality", "CT"], {
      columns: ["collection", "address"],
      rows: [{ collection: "LCTSC", address: "tcia:LCTSC" }],
    });
    expect(status).toBe(0);
    expect(out).toBe("collection\taddress\nLCTSC\ttcia:LCTSC\n");
    const filters = {
      words: { modality: ["CT"] },
      dates: {},
      include: [],
      exclude: [],
      limit: null,
      limitPatients: null,
    };
    expect(called("list")).toEqual([["tcia:", "LCTSC"], { recursive: true, long: true, filters }]);
    expect(called("close")).toEqual([]);
  });

  it("find --save says how to go on", async () => {
    const { called, err } = await run(["find", "tcia:", "--save", "a.jsonl"], {
      rows: [{ address: "tcia:1" }],
    });
    expect(called("find")?.[1]).toMatchObject({ save: "a.jsonl" });
    expect(err).toBe("1 item saved in a.jsonl. To download: gantry get a.jsonl -o DIR\n");
  });

  it("values", async () => {
    const { called } = await run(["values", "tcia:A", "modality"]);
    expect(called("values")?.slice(0, 2)).toEqual([["tcia:A"], "modality"]);
  });

  it("archives", async () => {
    const { out } = await run(["archives", "--format", "jsonl"]);
    expect(JSON.parse(out)).toEqual({
      name: "tcia",
      kind: "nbia",
      url: "https://archive.example",
      settings: "api=v4",
      account: "user demo (environment)",
      from: "built-in",
      address: "tcia:",
    });
  });

  it("refuses an unknown field", async () => {
    const { status, err } = await run(["ls", "tcia:", "--fields", "nope"]);
    expect([status, err]).toEqual([2, 'gantry: there is no field "nope" here\n  valid: address\n']);
  });
});

describe("get", () => {
  it("hands everything on, and ends with a summary", async () => {
    const { status, out, err, called, told } = await run([
      ...[
        "get",
        "tcia:LCTSC",
        "-o",
        "my data/",
        "--jobs",
        "3",
        "--layout",
        "uid",
        "--bandwidth",
        "8Mbps",
        "--retries",
        "2",
      ],
      ...["--stall-timeout", "90", "--scratch", "/s", "--recheck", "--replace", "--skip-bad", "--prune"],
      ...["--notify", "true", "--notify-every", "1h", "--log-dir", "/logs"],
    ]);
    expect([status, out]).toEqual([0, ""]);
    expect(called("open")?.[0]).toMatchObject({
      jobs: 3,
      retries: 2,
      stallTimeoutMs: 90_000,
      bandwidthBytesPerSecond: 1_000_000,
    });
    expect(called("get")).toMatchObject([
      ["tcia:LCTSC"],
      {
        dir: "my data",
        jobs: 3,
        layout: "uid",
        scratch: "/s",
        recheck: true,
        replace: true,
        skipBad: true,
        prune: true,
        dryRun: false,
        detached: false,
      },
    ]);
    expect(called("openLogbook")?.[0]).toMatchObject({ dir: "/logs", early: true });
    expect(called("createNotifier")?.[0]).toMatchObject({ target: "true", everyMs: 3_600_000 });
    expect(told).toContain("log item-stored");
    expect(told).toContain("notify run-finished");
    expect(err).toBe(
      [
        "3 items wanted: 30 files, 3.00 MB. Here already: 1. To fetch: 2 items, 2.00 MB.",
        "Stored 2 series (1,234 files, 4.20 GB) in 1 min 20 s, 50.0 MB/s.",
        "  Each was proved before it got its name: md5 of every image, image count, size.",
        "Here already: 1 series (1 file, 500 B).",
        "Using these data owes:",
        "  LCTSC: CC BY 3.0, cite 10.7937/x",
        "  (all of it in my data/.gantry/CITATION.txt)",
        "Log:               /data/.gantry/logs/gantry-2026-01-02.log",
        "To prove it again: gantry verify 'my data'",
        "",
      ].join("\n"),
    );
  });

  it("groups failures by code and says what to do", async () => {
    const failures = [0, 1, 2].map((n) => ({
      item: `dicom-series:1.${n}`,
      address: `tcia:1.${n}`,
      code: n < 2 ? ("archive-cut" as const) : ("access-item" as const),
      message: n < 2 ? "the connection was cut" : "not shown",
      hint: n < 2 ? "run the same command again" : "ask for access",
    }));
    const { status, err } = await run(["get", "tcia:A", "-o", "d"], {
      events: [
        STARTED,
        PLANNED,
        stored("1.9", "2 images announced too many"),
        ...failures.map((f) => ({ type: "item-failed", ...f }) as RunEvent),
      ],
      summary: { exit: 3, failed: 3, failures, disputed: 1, citations: [], here: tally(0) },
    });
    expect(status).toBe(3);
    expect(err).toContain(
      [
        "Disputed: 1 series. Every digest is right, but the archive contradicts itself:",
        "  tcia:1.9: 2 images announced too many",
        "Failed: 3 series.",
        "  archive-cut (2): run the same command again",
        "    tcia:1.0: the connection was cut",
        "    tcia:1.1: the connection was cut",
        "  access-item (1): ask for access",
        "    tcia:1.2: not shown",
      ].join("\n"),
    );
    expect(err).toContain("To try again:      gantry get -o d\n");
  });

  it("prints events with --json, and nothing else", async () => {
    const { out, err } = await run(["get", "tcia:A", "-o", "d", "--json"]);
    const lines = out
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines.map(({ type }) => type)).toEqual([
      "run-started",
      "planned",
      "item-stored",
      "item-stored",
      "run-finished",
    ]);
    expect(lines[0]).toEqual({ v: 1, t: "2026-01-02T03:04:05.000Z", ...STARTED });
    expect(err).toBe("");
  });

  it("goes on when the reader of --json has gone", async () => {
    const { library, told } = fakeLibrary({ summary: { exit: 3 } });
    const io = fakeIo({ library });
    io.stdout.failure = Object.assign(new Error("gone"), { code: "EPIPE" });
    expect(await main(["get", "tcia:A", "-o", "d", "--json"], io)).toBe(3);
    expect(told).toContain("log run-finished");
  });

  it("shows a plan with --dry-run and writes no log", async () => {
    const { out, err, called } = await run(["get", "tcia:A", "-o", "d", "--dry-run", "--format", "csv"], {
      events: [STARTED, PLANNED],
    });
    expect(called("get")?.[1]).toMatchObject({ dryRun: true });
    expect(called("openLogbook")).toBeUndefined();
    expect(out).toBe(
      "what,items,files,bytes\nwanted,3,30,3000000\nto fetch,2,20,2000000\nhere already,1,10,1000000\nnot shown by the archive,0,,\nwithdrawn,0,,\ndropped,0,,\nfree on the disk,,1000000,120000000000\n",
    );
    expect(err).toBe(
      "Loose files take 20 inodes and one for each folder, one archive file (--pack) takes 2; the records beside them take some twenty.\nIt takes about 4 s at 500 kB/s, as measured in the last runs of this folder.\nUsing these data would owe:\n  LCTSC: CC BY 3.0, cite 10.7937/x\nNothing was downloaded (--dry-run).\n",
    );
  });

  it("lists what would fail, and tells warnings, in a dry run", async () => {
    const failure = (uid: string) => ({
      item: `dicom-series:${uid}`,
      address: `tcia:${uid}`,
      code: "access-item" as const,
      message: "tcia does not show this item",
      hint: "unknown, withdrawn or not permitted",
    });
    const failed = Array.from(
      { length: 12 },
      (_, n): RunEvent => ({ type: "item-failed", ...failure(`1.${n}`) }),
    );
    const { status, err } = await run(["get", "cart.tcia", "-o", "d", "--dry-run"], {
      events: [STARTED, { type: "warning", message: "left out: cart.tcia:7" }, ...failed, PLANNED],
      summary: { exit: 3, failed: 12 },
    });
    expect(status).toBe(3);
    expect(err.split("\n")).toEqual([
      "warning   left out: cart.tcia:7",
      "Loose files take 20 inodes and one for each folder, one archive file (--pack) takes 2; the records beside them take some twenty.",
      "It takes about 4 s at 500 kB/s, as measured in the last runs of this folder.",
      "Using these data would owe:",
      "  LCTSC: CC BY 3.0, cite 10.7937/x",
      "Would fail: 12 series.",
      "  access-item (12): unknown, withdrawn or not permitted",
      ...Array.from({ length: 10 }, (_, n) => `    tcia:1.${n}: tcia does not show this item`),
      "  2 more would",
      "Nothing was downloaded (--dry-run).",
      "",
    ]);
  });

  it("says a warning with --progress none, and nothing beside the events of --json", async () => {
    const events: RunEvent[] = [STARTED, { type: "warning", message: "left out: cart.tcia:7" }, PLANNED];
    const none = await run(["get", "cart.tcia", "-o", "d", "--progress", "none"], { events });
    expect(none.err).toContain("warning   left out: cart.tcia:7\n");
    const json = await run(["get", "cart.tcia", "-o", "d", "--json"], { events });
    expect(json.err).toBe("");
    expect(json.out).toContain("left out: cart.tcia:7");
  });

  it("says several bad lines one below the other", async () => {
    const throws = new RunError("bad-selection", "a.txt has 2 lines:\n  a.txt:1: \u001b\n  a.txt:2: x");
    const { err } = await run(["find", "a.txt"], { throws });
    expect(err).toMatch(/^gantry: a\.txt has 2 lines:\n {2}a\.txt:1: \\u\{1b\}\n {2}a\.txt:2: x\n/);
  });

  it("says only what was wrong when the run never began", async () => {
    const error = {
      code: "folder-busy" as const,
      message: "d is in use by process 7 on node1",
      hint: "wait",
    };
    const { status, err } = await run(["get", "tcia:A", "-o", "d"], {
      events: [],
      summary: { exit: 2, error },
    });
    expect([status, err]).toEqual([2, "gantry: d is in use by process 7 on node1\n  wait\n"]);
  });

  it.each([
    [["get", "tcia:A"], "there is no folder to download to"],
    [["get", "tcia:A", "-o", "x.tar.zst"], "looks like an archive file"],
    [["get", "tcia:A", "-o", "x.TAR"], "looks like an archive file"],
    [["get", "tcia:A", "-o", "d", "--bandwidth", "100"], "is no rate"],
    [["get", "tcia:A", "-o", "d", "--notify-every", "1h"], "--notify-every needs --notify"],
    [["get", "tcia:A", "-o", "d", "--notify", "x", "--notify-every", "5"], "is no time span"],
    [["get", "-", "-o", "d", "--detach"], "standard input"],
    [["get", "tcia:A", "-o", "d", "--jobs", "0"], "--jobs takes a whole number from 1 to 1000"],
    [["get", "tcia:A", "-o", "d", "--jobs", "100000"], "--jobs takes a whole number from 1 to 1000"],
  ])("refuses %j", async (argv, sentence) => {
    const { status, err, called } = await run(argv);
    expect(status).toBe(2);
    expect(err).toContain(sentence);
    expect(called("get")).toBeUndefined();
  });

  it("asks a terminal for the folder, and never a notebook", async () => {
    const system = { ask: async () => "" };
    const { called } = await run(["get", "tcia:A"], {}, { terminal: true, system });
    expect(called("get")?.[1]).toMatchObject({ dir: "." });
    const notebook = await run(
      ["get", "tcia:A"],
      {},
      { terminal: true, system, env: { JPY_PARENT_PID: "7" } },
    );
    expect(notebook.status).toBe(2);
  });

  it("gives the secrets of the environment to the log, to be taken out", async () => {
    const env = { GANTRY_TCIA_PASSWORD: "hunter22", GANTRY_TCIA_USER: "me" };
    const { called } = await run(["get", "tcia:A", "-o", "d"], {}, { env });
    const [{ redact }] = called("openLogbook") as [{ redact: (text: string) => string }];
    expect(redact("me hunter22")).toBe("me ***");
  });
});

describe("Ctrl-C", () => {
  it("aborts with the reason, and the end says how to go on; twice leaves at once", async () => {
    let io: FakeIo | undefined;
    let reason: unknown;
    const { library, calls } = fakeLibrary({
      events: async function* () {
        yield STARTED;
        yield PLANNED;
        io?.signal("SIGINT");
        const [options] = calls.find(({ name }) => name === "open")!.args;
        const { signal } = options as { signal: AbortSignal };
        await new Promise((resolve) => setImmediate(resolve));
        reason = signal.reason;
        io?.signal("SIGINT");
      },
      summary: {
        exit: 130,
        stored: tally(0),
        here: tally(0),
        error: { code: "interrupted", message: "stopped by Ctrl-C", hint: "again" },
      },
    });
    io = fakeIo({ library });
    expect(await main(["get", "tcia:A", "-o", "d"], io)).toBe(130);
    expect(reason).toMatchObject({ code: "interrupted" });
    expect(io.exits).toEqual([130]);
    expect(io.stderr.text).toContain("Ctrl-C again leaves at once.");
    expect(io.stderr.text).toContain("Stopped: stopped by Ctrl-C.");
    expect(io.stderr.text).toContain("To go on: gantry get -o d\n");
  });

  it("names the whole command when nothing was planned yet, but no link", async () => {
    const error = { code: "terminated" as const, message: "stopped", hint: "" };
    const answers = { events: [STARTED], summary: { exit: 143, error, stored: tally(0), here: tally(0) } };
    const { status, err } = await run(["get", "tcia:A B", "-o", "d"], answers);
    expect(status).toBe(143);
    expect(err).toContain("gantry get 'tcia:A B' -o d\n");
    const link = await run(["get", "https://x.example/?passcode=s", "-o", "d"], answers);
    expect(link.err).toContain("To go on: the same command again");
    expect(link.err).not.toContain("passcode");
  });
});

describe("get --detach", () => {
  const detached = (ended: Promise<number>) => {
    const started: unknown[] = [];
    const system = {
      detach: async (...args: unknown[]) => {
        started.push(...args);
        return { pid: 4711, ended, forget: () => undefined };
      },
      readTail: async () => "gantry: no such thing",
    };
    return { system, started };
  };

  it("starts the same command without --detach and says how to look on", async () => {
    const { system, started } = detached(new Promise(() => undefined));
    const { status, err, called } = await run(
      ["get", "--detach", "tcia:A", "-o", "d d", "--jobs", "2"],
      {},
      { system },
    );
    expect(status).toBe(0);
    expect(called("get")).toBeUndefined();
    expect(started[0]).toEqual([
      ...[
        "node",
        "gantry.js",
        "get",
        "tcia:A",
        "-o",
        "d d",
        "--jobs",
        "2",
        "--detached",
        "--progress",
        "plain",
      ],
    ]);
    expect(started[1]).toMatchObject({ log: "d d/.gantry/logs/detached-2026-01-02T030405Z.log" });
    expect(err).toContain("process 4711");
    expect(err).toContain("gantry status 'd d' --watch");
    expect(err).toContain("gantry stop 'd d'");
  });

  it("hands a link that is a secret over on standard input, and not as an argument", async () => {
    const { system, started } = detached(new Promise(() => undefined));
    const context = Buffer.from(JSON.stringify({ package_id: "7", passcode: "5ecre7" })).toString("base64");
    const link = `https://faspex.example.org/aspera/faspex/public/package?context=${context}`;
    const { status } = await run(["get", link, "a/b", "--detach", "-o", "d"], {}, { system });
    expect(status).toBe(0);
    expect(started[0]).toEqual(
      expect.arrayContaining(["node", "gantry.js", "get", "-", "a/b", "-o", "d", "--detached"]),
    );
    expect(started[1]).toMatchObject({ stdin: `${link}\n` });
    expect(JSON.stringify(started[0])).not.toContain(context);
  });

  it("returns the exit of a run that ends at once", async () => {
    const { system } = detached(Promise.resolve(2));
    const { status, err } = await run(["get", "--detach", "tcia:A", "-o", "d"], {}, { system });
    expect(status).toBe(2);
    expect(err).toContain("gantry: no such thing");
  });
});

describe("status and stop", () => {
  const status: FolderStatus = {
    dir: "/data",
    expected: tally(4),
    done: tally(3),
    missing: 1,
    damaged: 0,
    withdrawn: 0,
    dropped: 0,
    requests: ["tcia:LCTSC"],
    asking: [],
    run: null,
    array: null,
  };
  const live = {
    run: "r1",
    host: "node7",
    pid: 42,
    state: "transferring",
    alive: true,
    stalled: false,
    detached: true,
    startedAt: "2026-01-02T03:04:05Z",
    exit: null,
    progress: {
      doneItems: 3,
      failedItems: 0,
      totalItems: 4,
      doneBytes: 3,
      totalBytes: 4,
      receivedBytes: 3,
      bytesPerSecond: 1_000_000,
      etaSeconds: 61,
      idleSeconds: 0,
    },
  };

  const waiting = {
    array: "a1",
    tasks: 8,
    working: 0,
    state: "waiting",
    stalled: false,
    slices: 12,
    doneSlices: 3,
    failedItems: 0,
    bytesPerSecond: 0,
  };
  const working = { ...waiting, working: 2, state: "transferring" };

  it("of an array that waits says so, and how to end it", async () => {
    const run143 = { ...live, alive: false, exit: 143 };
    const people = await run(["status", "/data", "--format", "table"], {
      status: { ...status, array: waiting, run: run143 },
    });
    expect(people.out).toBe(
      [
        "/data: waiting",
        "  asked for  tcia:LCTSC",
        "  stored     3 items of 4 items, 30 files, 3.00 MB of 4.00 MB",
        "  to come    1 item",
        "  array      0 of 8 tasks at work, 3 of 12 slices done",
        "  waiting    its tasks are in the queue, or were cancelled: squeue --me tells",
        "  to end it  gantry stop /data",
        "",
      ].join("\n"),
    );
  });

  it("is a block for people and one flat row for programs", async () => {
    const people = await run(["status", "/data", "--format", "table"], { status: { ...status, run: live } });
    expect(people.out).toBe(
      [
        "/data: transferring",
        "  asked for  tcia:LCTSC",
        "  stored     3 items of 4 items, 30 files, 3.00 MB of 4.00 MB",
        "  to come    1 item",
        "  run        process 42 on node7, detached, started 2026-01-02T03:04:05Z",
        "  progress   3 items of 4 done, 1.00 MB/s, 1 min 01 s left",
        "  to end it  gantry stop /data",
        "",
      ].join("\n"),
    );
    const json = await run(["status", "/data", "--format", "json"], { status: { ...status, run: live } });
    expect(JSON.parse(json.out)).toMatchObject([
      { state: "transferring", doneItems: 3, expectedItems: 4, pid: 42, exit: null },
    ]);
  });

  it.each<[string, Partial<FolderStatus>, number]>([
    ["complete", { missing: 0 }, 0],
    ["incomplete", {}, 3],
    ["transferring", { run: live }, 0],
    ["stalled", { run: { ...live, stalled: true } }, 3],
    ["died", { run: { ...live, alive: false } }, 3],
    ["failed", { run: { ...live, alive: false, exit: 5 } }, 3],
    ["interrupted", { run: { ...live, alive: false, exit: 130 } }, 3],
    ["incomplete", { missing: 0, damaged: 1 }, 3],
    ["waiting", { array: waiting }, 0],
    ["waiting", { array: waiting, run: { ...live, alive: false, exit: 143 } }, 0],
    ["transferring", { array: working, run: { ...live, alive: false, exit: 143 } }, 0],
    ["transferring", { array: working, run: { ...live, alive: false, stalled: true } }, 0],
    ["stalled", { array: { ...working, stalled: true } }, 3],
  ])("--check of %s %j", async (state, change, exit) => {
    const { status: got, out } = await run(["status", "/data", "--check", "--format", "jsonl"], {
      status: { ...status, ...change },
    });
    expect([JSON.parse(out).state, got]).toEqual([state, exit]);
  });

  it("stop", async () => {
    expect((await run(["stop", "live"])).err).toContain("process 42 on node7");
    const none = await run(["stop", "dead"]);
    expect([none.status, none.err]).toEqual([0, "No run is at work in dead.\n"]);
  });
});
