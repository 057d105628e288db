/** The stand-in ascp as a client meets it, on a plain site: command line, naming, resume, channel, faults. */
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Fault } from "../faults.ts";
import { type Sandbox, startSandbox } from "../server.ts";
import { tinyDataset } from "../tiny-dataset.ts";
import { parseArguments, parseRate, UsageFault } from "./arguments.ts";
import { startAscp } from "./spawn.test-support.ts";

const TITLE = "Phantom_tumor_ROIs_v1";
const SLIDE = `${TITLE}/Phantom_HER2_cohort/SVS/Phantom_Case_03.svs`;

let sandbox: Sandbox;
let port: string;
let work: string;
beforeAll(async () => {
  sandbox = await startSandbox({ data: tinyDataset() });
  port = new URL((await sandbox.links()).site!).port;
  work = await mkdtemp(join(tmpdir(), "gantry-ascp-"));
});
beforeEach(() => sandbox.control.reset());
afterAll(async () => {
  await sandbox.close();
  await rm(work, { recursive: true, force: true });
});

const fresh = (): Promise<string> => mkdtemp(join(work, "to-"));

/** One file of the site, or several, into a folder, as the recipes write it. */
function fetchFrom(
  sources: readonly string[],
  into: string,
  more: readonly string[] = [],
  options: Parameters<typeof startAscp>[2] = {},
) {
  const [first, ...rest] = sources;
  const words = [`demo@127.0.0.1:${first}`, ...rest.map((path) => `demo@127.0.0.1:${path}`)];
  const env = { ASPERA_SCP_PASS: "demo", ...options.env };
  return startAscp(sandbox.ascp, ["-P", port, ...more, ...words, into], { ...options, env });
}

async function tree(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(dir.length + 1))
    .sort();
}

const play = (fault: Fault) => sandbox.control.setFaults([fault]);

describe("the command line", () => {
  it("takes short options glued and apart, long ones with and without =, and the old settings", () => {
    const { options, repeated, words } = parseArguments([
      ...["-QTl", "300m", "-k1", "-P33001", "-i", "a", "-i", "b", "--mode=recv", "--host", "h"],
      ...["-o", "FileCrypt=decrypt", "src", "dst"],
    ]);
    expect(Object.fromEntries(options)).toMatchObject({
      ...{ Q: "", T: "", l: "300m", k: "1", P: "33001", mode: "recv", host: "h" },
      "file-crypt": "decrypt",
    });
    expect(repeated.get("i")).toEqual(["a", "b"]);
    expect(words).toEqual(["src", "dst"]);
    expect(["300m", "1g", "10000", "2.5M", "fast"].map(parseRate)).toEqual([
      300_000,
      1_000_000,
      10_000,
      2500,
      undefined,
    ]);
  });

  it.each([["--fast"], ["-H"], ["--mode"], ["-l"], ["--quiet=yes"], ["-oNothing=1"]])(
    "refuses %s",
    (word) => {
      expect(() => parseArguments([word])).toThrow(UsageFault);
    },
  );

  it("says what it is, and refuses secrets among its words", async () => {
    const who = await startAscp(sandbox.ascp, ["-A"]);
    expect(await who.ended).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/stand-in[\s\S]* version 4\./),
    });
    const told = await fetchFrom([SLIDE], await fresh(), ["-W", "ATM2_secretTA"]);
    expect(await told.ended).toMatchObject({ status: 1, stderr: expect.stringContaining("no secret") });
  });
});

describe("names at the destination", () => {
  it.each([
    ["into a folder that is there", [], ["there"], "there/Phantom_Case_03.svs"],
    ["of another name where nothing is", [], ["new.svs"], "new.svs"],
    ["into a folder that -d makes", ["-d"], ["made"], "made/Phantom_Case_03.svs"],
    [
      "below what --src-base leaves",
      ["-d", `--src-base=${TITLE}/`],
      ["base"],
      `base/${SLIDE.slice(TITLE.length + 1)}`,
    ],
  ])("%s", async (_, more, [into = ""], wanted) => {
    const dir = await fresh();
    await mkdir(join(dir, "there"));
    expect((await (await fetchFrom([SLIDE], join(dir, into), ["-q", ...more])).ended).status).toBe(0);
    expect(await tree(dir)).toEqual([wanted]);
  });

  it("by pairs", async () => {
    const dir = await fresh();
    const list = join(work, "pairs");
    await writeFile(list, `${SLIDE}\na/first.svs\n${TITLE}/README.txt\nb/read me\n`);
    const run = await startAscp(
      sandbox.ascp,
      ["-q", "--mode=recv", "--host=127.0.0.1", "--user=demo", "-P", port, `--file-pair-list=${list}`, dir],
      { env: { ASPERA_SCP_PASS: "demo" } },
    );
    expect((await run.ended).status).toBe(0);
    expect(await tree(dir)).toEqual(["a/first.svs", "b/read me"]);
  });

  it("of sources that do not exist: error 4", async () => {
    const run = await fetchFrom(["nothing"], await fresh());
    expect(await run.ended).toMatchObject({
      status: 1,
      stdout: expect.stringContaining("Session Stop  (Error: "),
    });
    expect(run.frames.at(-1)).toMatchObject({ Type: "ERROR", Code: "4" });
  });
});

describe("resume", () => {
  it("goes on where a killed one stopped, with -k and a checkpoint, and skips what is whole", async () => {
    const dir = await fresh();
    play({ kind: "ascp-killed", afterBytes: 70_000, count: 1 });
    const first = await fetchFrom([SLIDE], dir, ["-k", "2"]);
    expect(await first.ended).toMatchObject({ signal: "SIGKILL" });
    expect(await tree(dir)).toEqual(["Phantom_Case_03.svs.aspera-ckpt", "Phantom_Case_03.svs.partial"]);
    const had = (await stat(join(dir, "Phantom_Case_03.svs.partial"))).size;
    expect(had).toBeGreaterThan(0);
    const second = await fetchFrom([SLIDE], dir, ["-k", "2"]);
    expect((await second.ended).status).toBe(0);
    const stats = second.frames.filter(({ Type }) => Type === "STATS");
    expect(stats.at(-1)).toMatchObject({ StartByte: String(had), Written: stats.at(-1)?.Size });
    expect(await tree(dir)).toEqual(["Phantom_Case_03.svs"]);
    const whole = await fresh();
    await (await fetchFrom([SLIDE], whole)).ended;
    const same = async (at: string) => readFile(join(at, "Phantom_Case_03.svs"));
    expect((await same(dir)).equals(await same(whole))).toBe(true);
    const third = await fetchFrom([SLIDE], dir, ["-k", "2"]);
    await third.ended;
    expect(third.frames.at(-1)).toMatchObject({ Type: "DONE", TransfersSkipped: "1", TransferBytes: "0" });
  });

  it("begins anew without -k", async () => {
    const dir = await fresh();
    play({ kind: "ascp-killed", afterBytes: 70_000, count: 1 });
    await (await fetchFrom([SLIDE], dir)).ended;
    const again = await fetchFrom([SLIDE], dir);
    await again.ended;
    expect(again.frames.at(-1)).toMatchObject({ Type: "DONE", TransferBytes: String(90_000 + 2 * 31_000) });
  });
});

describe("the channel", () => {
  it("takes CANCEL: error 28, exit 1", async () => {
    const run = await fetchFrom([SLIDE], await fresh(), ["-l", "100"]);
    await run.channel;
    await run.command("CANCEL");
    expect((await run.ended).status).toBe(1);
    expect(run.frames.at(-1)).toMatchObject({ Type: "ERROR", Code: "28" });
  });

  it("takes RATE while it runs", async () => {
    // At 100 kbps it would last 12 seconds.
    const run = await fetchFrom([SLIDE], await fresh(), ["-l", "100"]);
    await run.channel;
    await run.command("RATE", { Rate: 1_000_000 });
    expect((await run.ended).status).toBe(0);
    expect(run.frames.some(({ Type, Rate }) => Type === "NOTIFICATION" && Rate === "1000000")).toBe(true);
    expect(Number(run.frames.at(-1)?.Elapsedusec)).toBeLessThan(10_000_000);
  });

  it("tells the same in frames cut anywhere", async () => {
    play({ kind: "ascp-odd-frames" });
    const pieces: number[] = [];
    const run = await fetchFrom([SLIDE], await fresh(), ["-q"], { onPiece: (bytes) => pieces.push(bytes) });
    expect((await run.ended).status).toBe(0);
    expect(run.frames.at(-1)?.Type).toBe("DONE");
    // How many depends on how busy the machine is: the reader gets neighbours together.
    expect(pieces.length).toBeGreaterThan(1);
  });

  it("survives SIGINT after it has closed, dies of SIGTERM before", async () => {
    const done = await fetchFrom([SLIDE], await fresh(), ["-q"]);
    (await done.channel).on("close", () => done.child.kill("SIGINT"));
    expect((await done.ended).status).toBe(0);
    const slow = await fetchFrom([SLIDE], await fresh(), ["-l", "100"]);
    await slow.channel;
    slow.child.kill("SIGTERM");
    expect((await slow.ended).status).toBe(1);
  });
});

describe("what the sandbox makes it do", () => {
  it.each([
    ["ascp-error", { code: 14, description: "UDP blocked" }, 1, "ERROR"],
    ["ascp-late-exit", {}, 1, "DONE"],
    ["ascp-no-final-frame", {}, 0, "STOP"],
    ["ascp-short", {}, 0, "DONE"],
    ["ascp-file-error", { code: 25 }, 1, "ERROR"],
    ["ascp-exit", {}, 1, undefined],
    ["expired-token", {}, 1, "ERROR"],
  ] as const)("%s", async (kind, more, status, last) => {
    play({ kind, ...more });
    const dir = await fresh();
    const run = await fetchFrom([SLIDE, `${TITLE}/README.txt`], dir);
    expect((await run.ended).status).toBe(status);
    expect(run.frames.at(-1)?.Type).toBe(last);
    if (kind === "ascp-error")
      expect(run.frames.at(-1)).toMatchObject({ Code: "14", Description: "UDP blocked" });
    if (kind === "ascp-short") expect(await tree(dir)).toEqual(["Phantom_Case_03.svs"]);
    if (kind === "ascp-file-error")
      expect(run.frames.find(({ Type }) => Type === "FILEERROR")).toMatchObject({ Code: "25" });
  });

  it("hangs until it is killed", async () => {
    play({ kind: "ascp-hang", afterBytes: 1 });
    const run = await fetchFrom([SLIDE], await fresh());
    const socket = await run.channel;
    await new Promise<void>((resolve) => {
      if (run.frames.some(({ Type }) => Type === "STATS")) resolve();
      socket.on("data", () => run.frames.some(({ Type }) => Type === "STATS") && resolve());
    });
    expect(run.child.exitCode).toBeNull();
    run.child.kill("SIGKILL");
    expect((await run.ended).signal).toBe("SIGKILL");
  });

  it("asks at a terminal, and not where standard input is closed", async () => {
    play({ kind: "ascp-prompt" });
    const closed = await fetchFrom([SLIDE], await fresh());
    expect((await closed.ended).status).toBe(1);
    expect(closed.frames.at(-1)).toMatchObject({ Type: "ERROR", Code: "19" });
    const open = await fetchFrom([SLIDE], await fresh(), [], { stdin: "open" });
    await new Promise<void>((resolve) => open.child.stderr?.once("data", () => resolve()));
    expect(open.child.exitCode).toBeNull();
    open.child.kill("SIGKILL");
    await open.ended;
  });
});

describe("who may come in", () => {
  const enter = async (user: string, args: readonly string[], env: Record<string, string>) => {
    const words = ["-P", port, ...args, `${user}@127.0.0.1:${TITLE}/README.txt`, await fresh()];
    const run = await startAscp(sandbox.ascp, words, { env });
    const { status } = await run.ended;
    return { status, code: run.frames.at(-1)?.Code };
  };

  it("a password or a key, each where it counts", async () => {
    const key = join(dirname(dirname(sandbox.ascp)), "etc/aspera_tokenauth_id_rsa");
    const dsa = join(work, "dsa");
    await writeFile(dsa, "-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n", {
      mode: 0o600,
    });
    const denied = { status: 1, code: "19" };
    expect(await enter("demo", [], { ASPERA_SCP_PASS: "wrong" })).toEqual(denied);
    expect(await enter("demo", [], {})).toEqual(denied);
    expect(await enter("demo-key", ["-i", key], {})).toMatchObject({ status: 0 });
    expect(await enter("demo-key", ["-i", dsa], {})).toEqual(denied);
    expect(await enter("demo-key", ["-i", join(work, "none")], {})).toEqual(denied);
  });
});

it("sends, encrypted at rest, and gets the same back", async () => {
  const dir = await fresh();
  await mkdir(join(dir, "mine"));
  await writeFile(join(dir, "mine/words.txt"), "my own words\n");
  const env = { ASPERA_SCP_PASS: "demo", ASPERA_SCP_FILEPASS: "between us" };
  const sent = await startAscp(
    sandbox.ascp,
    ["-q", "-P", port, "-d", "--file-crypt=encrypt", join(dir, "mine"), "demo@127.0.0.1:inbox"],
    { env },
  );
  expect((await sent.ended).status).toBe(0);
  const locked = await fetchFrom(["inbox/mine"], join(dir, "locked"), ["-q", "-d"]);
  expect((await locked.ended).status).toBe(0);
  expect(await readFile(join(dir, "locked/mine/words.txt.aspera-env"), "latin1")).not.toContain("words");
  const back = await fetchFrom(["inbox/mine"], join(dir, "back"), ["-q", "-d", "-o", "FileCrypt=decrypt"], {
    env,
  });
  expect((await back.ended).status).toBe(0);
  expect(await readFile(join(dir, "back/mine/words.txt"), "utf8")).toBe("my own words\n");
});
