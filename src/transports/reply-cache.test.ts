import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Context, systemClock } from "../lib/context.ts";
import { type Asked, openReplyCache, REPLY_LIFE_MS, throughCache } from "./reply-cache.ts";

let dir: string;
let said: string[];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "gantry-test-replies-"));
  said = [];
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function contextAt(laterMs = 0): Context {
  return {
    signal: new AbortController().signal,
    clock: { ...systemClock, now: () => new Date(Date.now() + laterMs) },
    random: Math.random,
    log: (level, message) => {
      if (level === "warn") said.push(message);
    },
  };
}

const asked = (path: string, more: Partial<Asked> = {}): Asked => ({
  method: "GET",
  url: new URL(`http://archive.example/${path}`),
  body: "",
  user: "",
  ...more,
});

async function* pieces(...texts: readonly string[]): AsyncGenerator<Uint8Array> {
  for (const text of texts) yield Buffer.from(text);
}

interface Question {
  readonly refresh?: boolean;
  readonly laterMs?: number;
  readonly reply?: () => AsyncIterable<Uint8Array>;
  /** Bytes after which the reader leaves. */
  readonly leaveAfter?: number;
}

let asks = 0;

/** What a reader gets, and whether the archive was asked for it. */
async function ask(question: Asked, options: Question = {}): Promise<{ text: string; wasAsked: boolean }> {
  const { refresh = false, laterMs = 0, reply = () => pieces("[1,", "2]"), leaveAfter } = options;
  const before = asks;
  let text = "";
  const rows = throughCache(
    openReplyCache(dir, { refresh }),
    question,
    async () => {
      asks += 1;
      return reply();
    },
    async function* (body) {
      for await (const chunk of body) yield Buffer.from(chunk).toString();
    },
    contextAt(laterMs),
  );
  for await (const part of rows) {
    text += part;
    if (leaveAfter !== undefined && text.length >= leaveAfter) break;
  }
  return { text, wasAsked: asks > before };
}

const files = (): string[] => readdirSync(dir);

describe("a kept reply", () => {
  it("answers the same question, byte for byte, and no other", async () => {
    const question = asked("a?x=1");
    expect(await ask(question)).toEqual({ text: "[1,2]", wasAsked: true });
    expect(await ask(question)).toEqual({ text: "[1,2]", wasAsked: false });
    for (const other of [
      asked("a?x=2"),
      asked("a?x=1", { method: "POST" }),
      asked("a?x=1", { body: "list=1" }),
      asked("a?x=1", { user: "demo" }),
    ]) {
      expect((await ask(other)).wasAsked).toBe(true);
    }
    expect(said).toEqual([]);
  });

  it("is used for a day, and then asked for and removed", async () => {
    await ask(asked("a"));
    await ask(asked("b"));
    expect((await ask(asked("a"), { laterMs: REPLY_LIFE_MS - 60_000 })).wasAsked).toBe(false);
    for (const name of files()) utimesSync(join(dir, name), new Date(0), new Date(0));
    expect((await ask(asked("a"), { laterMs: REPLY_LIFE_MS + 1 })).wasAsked).toBe(true);
    expect(files()).toHaveLength(1);
  });

  it("of the future is not used: a clock was wrong", async () => {
    await ask(asked("a"), { laterMs: 60_000 });
    expect((await ask(asked("a"))).wasAsked).toBe(true);
  });

  it("is replaced when a refresh is asked for", async () => {
    await ask(asked("a"));
    const again = await ask(asked("a"), { refresh: true, reply: () => pieces("[3]") });
    expect(again).toEqual({ text: "[3]", wasAsked: true });
    expect(await ask(asked("a"))).toEqual({ text: "[3]", wasAsked: false });
  });

  it("is for nobody else to read, and names no user and no secret", async () => {
    await ask(asked("a?token=hush-hush-hush", { user: "erika" }));
    const [name = ""] = files();
    expect(statSync(join(dir, name)).mode & 0o777).toBe(0o600);
    expect(`${name}${readFileSync(join(dir, name), "latin1")}`).not.toMatch(/hush|erika/u);
  });

  it("leaves files alone that are not its own", async () => {
    writeFileSync(join(dir, "thesis.txt"), "mine");
    utimesSync(join(dir, "thesis.txt"), new Date(0), new Date(0));
    await ask(asked("a"));
    expect(files()).toContain("thesis.txt");
  });
});

describe("nothing is kept of a reply", () => {
  it("that was cut", async () => {
    const cut = async function* (): AsyncGenerator<Uint8Array> {
      yield Buffer.from("[1,");
      throw new Error("cut");
    };
    await expect(ask(asked("a"), { reply: cut })).rejects.toThrow("cut");
    expect(files()).toEqual([]);
  });

  it("that was not understood", async () => {
    const parse = throughCache(
      openReplyCache(dir, { refresh: false }),
      asked("a"),
      async () => pieces("<html>"),
      async function* (body): AsyncGenerator<string> {
        for await (const chunk of body) {
          yield String(chunk.length);
        }
        throw new Error("no JSON");
      },
      contextAt(),
    );
    const reading = async (): Promise<void> => {
      for await (const _ of parse);
    };
    await expect(reading()).rejects.toThrow("no JSON");
    expect(files()).toEqual([]);
  });

  it("that the reader left, or that is empty", async () => {
    await ask(asked("a"), { leaveAfter: 1 });
    await ask(asked("b"), { reply: () => pieces() });
    expect(files()).toEqual([]);
  });
});

describe("a damaged file", () => {
  const damages: readonly (readonly [string, (bytes: Buffer) => Buffer])[] = [
    ["cut", (bytes) => bytes.subarray(0, -1)],
    ["longer", (bytes) => Buffer.concat([bytes, Buffer.from(" ")])],
    [
      "changed in its reply",
      (bytes) => Buffer.from(bytes.toString("latin1").replace("[1,2]", "[1,9]"), "latin1"),
    ],
    ["without a head", (bytes) => bytes.subarray(5000)],
    ["with another head", (bytes) => Buffer.from(bytes.toString("latin1").replace("/a", "/b"), "latin1")],
    [
      "of another version",
      (bytes) => Buffer.from(bytes.toString("latin1").replace(/"version":1/u, '"version":2'), "latin1"),
    ],
    ["empty", () => Buffer.alloc(0)],
  ];
  it.each(damages)("%s: is told, asked for again, and replaced", async (_, damage) => {
    await ask(asked("a"));
    const [name = ""] = files();
    const path = join(dir, name);
    const before = readFileSync(path);
    const after = damage(before);
    expect(after.equals(before)).toBe(false);
    writeFileSync(path, after);
    expect(await ask(asked("a"))).toEqual({ text: "[1,2]", wasAsked: true });
    expect(said.join()).toMatch(/damaged/u);
    expect((await ask(asked("a"))).wasAsked).toBe(false);
  });
});

describe("a folder that can't be used", () => {
  it("is an error before anything is asked twice", async () => {
    writeFileSync(join(dir, "file"), "");
    const cache = openReplyCache(join(dir, "file"), { refresh: false });
    await expect(cache.write(asked("a"), pieces("[]"), contextAt())).rejects.toMatchObject({
      name: "RunError",
    });
  });
});
