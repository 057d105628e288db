/** What is in flight together, and what must not be: seen from a server that holds its answers back. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Context, systemClock } from "../../lib/context.ts";
import { createRateLimiter } from "../../lib/limiter.ts";
import { createRedactor } from "../../lib/redact.ts";
import { SiteSecrets } from "../site-secrets.ts";
import { type Asked, type HoldingServer, startHoldingServer } from "./holding-server.test-support.ts";
import { FIRST_WINDOW_BYTES, MAX_WINDOW_BYTES } from "./read-window.ts";
import { createSftp, type Sftp, type SftpOptions } from "./sftp.ts";

/** Who waits for an answer that is held back is told so after this. */
const STALL_MS = 5000;
/** In one piece, from a server that says nothing of limits (ssh2, lib/protocol/SFTP.js). */
const PIECE = 34_000 - 2048;
const context: Context = {
  signal: new AbortController().signal,
  // How long an answer takes is the test's doing.
  clock: { ...systemClock, monotonicMs: () => 0 },
  random: () => 0.5,
  log: () => undefined,
};

let server: HoldingServer;
let home: string;
const open: Sftp[] = [];
beforeEach(async () => {
  server = await startHoldingServer();
  home = await mkdtemp(join(tmpdir(), "gantry-sftp-"));
});
afterEach(async () => {
  for (const each of open.splice(0)) each.close();
  await server.close();
  await rm(home, { recursive: true, force: true });
});

function connect(more: Partial<SftpOptions> = {}): Sftp {
  const environment = { HOME: home, ASPERA_SCP_PASS: "secret" };
  const redactor = createRedactor();
  const sftp = createSftp(
    { user: "somebody", host: "127.0.0.1", ports: [server.port] },
    {
      ...{ environment, redactor, stallTimeoutMs: STALL_MS, knownHosts: join(home, "known_hosts") },
      ...{ secrets: new SiteSecrets({ environment, redactor }), ...more },
    },
  );
  open.push(sftp);
  return sftp;
}

function put(
  path: string,
  size: number,
): { readonly start: 0; readonly bytes: number; mtimeSeconds: number } {
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; at += 1) bytes[at] = (at * 31) >>> 5;
  server.files.set(path, { bytes, mtimeSeconds: 1_600_000_000 });
  return { start: 0, bytes: size, mtimeSeconds: 1_600_000_000 };
}

const of = (kind: Asked["kind"], path?: string): Asked[] =>
  server.asked.filter((one) => one.kind === kind && (path === undefined || one.path === path));

async function all(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const chunk of chunks) parts.push(Buffer.from(chunk));
  return Buffer.concat(parts);
}

describe("a file by SFTP", () => {
  it("costs three round trips: open; what it is and all its bytes; what it is then", async () => {
    const what = put("./a", 3 * PIECE);
    server.mayAnswer = ({ kind }) =>
      kind === "OPEN" || (of("FSTAT").length > 0 && of("READ").length === 3) || kind === "CLOSE";
    const reading = connect().begin("./a", what, context);
    expect((await all(reading.chunks())).equals(server.files.get("./a")?.bytes as Buffer)).toBe(true);
    reading.close();
    expect(server.asked.map(({ kind }) => kind).slice(0, 6)).toEqual([
      ...["OPEN", "FSTAT", "READ", "READ", "READ"],
      "FSTAT",
    ]);
  });

  it("is looked at again only when its last byte has come, and a change is told", async () => {
    const what = put("./a", 4 * PIECE);
    let early = 0;
    server.mayAnswer = (one) => {
      if (one.kind === "FSTAT" && of("FSTAT").indexOf(one) === 1)
        early += of("READ").filter(({ answered }) => !answered).length;
      if (one.kind === "READ" && one.offset === 3 * PIECE)
        server.files.set("./a", { bytes: Buffer.alloc(4 * PIECE), mtimeSeconds: 1_600_000_001 });
      return true;
    };
    const reading = connect().begin("./a", what, context);
    await expect(all(reading.chunks())).rejects.toMatchObject({
      code: "proof-size",
      message: expect.stringContaining("while it was read"),
    });
    reading.close();
    expect({ early, looks: of("FSTAT").length }).toEqual({ early: 0, looks: 2 });
  });

  it("ends where the server says so: bytes of later places never get behind those before", async () => {
    const what = put("./a", 4 * PIECE);
    server.contentAt = (path, offset, length) =>
      offset >= PIECE && offset < 2 * PIECE
        ? Buffer.alloc(0)
        : (server.files.get(path)?.bytes ?? Buffer.alloc(0)).subarray(offset, offset + length);
    const reading = connect().begin("./a", what, context);
    const came: Uint8Array[] = [];
    const read = async (): Promise<void> => {
      for await (const chunk of reading.chunks()) came.push(Buffer.from(chunk));
    };
    await expect(read()).rejects.toMatchObject({ code: "proof-size" });
    reading.close();
    expect(Buffer.concat(came).length).toBe(PIECE);
  });

  it("is asked for in as many pieces as the window permits and no more, while it grows and when it is full", async () => {
    const what = put("./big", 3 * MAX_WINDOW_BYTES);
    let answered = 0;
    let asked = 0;
    let seen = 0;
    let over = 0;
    server.mayAnswer = (one) => {
      for (const { kind, length } of server.asked.slice(seen)) asked += kind === "READ" ? length : 0;
      seen = server.asked.length;
      if (one.kind !== "READ") return true;
      const window = Math.min(MAX_WINDOW_BYTES, FIRST_WINDOW_BYTES + answered);
      over = Math.max(over, asked - answered - window);
      // Each answer waits until no further piece has room: who asks for one less waits in vain, and is told so.
      if (asked < what.bytes && asked - answered + PIECE <= window) return false;
      answered += one.length;
      return true;
    };
    const reading = connect().begin("./big", what, context);
    expect((await all(reading.chunks())).equals(server.files.get("./big")?.bytes as Buffer)).toBe(true);
    reading.close();
    expect(over).toBeLessThanOrEqual(0);
  });

  it("is asked for no sooner than the bandwidth permits", async () => {
    const what = put("./a", 2 * PIECE);
    let nowMs = 0;
    const sleepers: (() => void)[] = [];
    const clock = { nowMs: () => nowMs, sleep: () => new Promise<void>((wake) => sleepers.push(wake)) };
    const sftp = connect({ limiter: createRateLimiter(PIECE, clock) });
    const reading = sftp.begin("./a", what, context);
    const chunks = reading.chunks();
    expect((await chunks.next()).value?.length).toBe(PIECE);
    expect(of("READ")).toHaveLength(1);
    nowMs += 10_000;
    for (const wake of sleepers) wake();
    expect((await chunks.next()).value?.length).toBe(PIECE);
    expect((await chunks.next()).done).toBe(true);
    reading.close();
  });
});

describe("several files by SFTP", () => {
  it("are in flight together over one connection", async () => {
    const names = Array.from({ length: 12 }, (_, at) => `./f${at}`);
    const what = names.map((name) => put(name, 20_000));
    const opened = (): boolean => of("OPEN").length === names.length;
    server.mayAnswer = ({ kind }) => kind !== "OPEN" || opened();
    const sftp = connect();
    const readings = names.map((name, at) => sftp.begin(name, what[at] as (typeof what)[0], context));
    for (const reading of readings) {
      expect((await all(reading.chunks())).length).toBe(20_000);
      reading.close();
    }
  });

  it("come in whatever order they are read, also when those that wait hold more than the window", async () => {
    const names = Array.from({ length: 40 }, (_, at) => `./f${at}`);
    const what = names.map((name) => put(name, 10 * PIECE));
    const sftp = connect();
    const readings = names.map((name, at) => sftp.begin(name, what[at] as (typeof what)[0], context));
    // Every other one is waited for and then left while the last ones are read.
    for (const [at, reading] of readings.entries()) if (at % 2 === 0) await reading.expectListed();
    for (const [at, reading] of [...readings.entries()].reverse()) {
      const right = server.files.get(names[at] as string)?.bytes as Buffer;
      expect((await all(reading.chunks())).equals(right)).toBe(true);
      reading.close();
    }
  });

  it("that nobody wants yet are read to their end, and keep nothing open", async () => {
    const what = put("./a", 20_000);
    let close = (): void => undefined;
    const closed = new Promise<void>((resolve) => {
      close = resolve;
    });
    server.mayAnswer = ({ kind }) => {
      if (kind === "CLOSE") close();
      return true;
    };
    const reading = connect().begin("./a", what, context);
    await closed;
    expect((await all(reading.chunks())).length).toBe(20_000);
    reading.close();
    expect(of("CLOSE")).toHaveLength(1);
  });
});
