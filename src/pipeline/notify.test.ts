import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Clock } from "../lib/context.ts";
import type { RunEvent, RunSummary } from "./events.ts";
import { createNotifier, type Notice } from "./notify.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "gantry-notify-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const started: RunEvent = { type: "run-started", run: "r1", dir: "/data/x", requests: ["tcia:A"] };
const finished = (exit: number): RunEvent => {
  const summary: RunSummary = {
    run: "r1",
    dir: "/data/x",
    exit,
    stored: { items: 2, files: 5, bytes: 100 },
    adopted: { items: 0, files: 0, bytes: 0, fetchedFiles: 0, fetchedBytes: 0 },
    here: { items: 1, files: 1, bytes: 10 },
    failed: exit === 0 ? 0 : 1,
    withdrawn: 0,
    dropped: 0,
    disputed: 0,
    receivedBytes: 100,
    tookMs: 5,
    failures: [],
    citations: [],
    error: null,
  };
  return { type: "run-finished", ...summary };
};
const progress = (receivedBytes: number): RunEvent => ({
  type: "progress",
  doneItems: 1,
  failedItems: 0,
  totalItems: 3,
  doneBytes: 10,
  totalBytes: 100,
  receivedBytes,
  bytesPerSecond: 5,
  etaSeconds: 18,
  idleSeconds: 0,
  active: ["secret-name"],
});

/** A clock that is moved by hand; sleepers wake when their time has come. */
function handClock(): Clock & { pass(ms: number): Promise<void> } {
  let nowMs = 0;
  let sleepers: { at: number; wake: () => void }[] = [];
  return {
    now: () => new Date(nowMs),
    monotonicMs: () => nowMs,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal?.aborted) return reject(signal.reason);
        const onAbort = (): void => reject(signal?.reason);
        signal?.addEventListener("abort", onAbort, { once: true });
        const wake = (): void => {
          signal?.removeEventListener("abort", onAbort);
          resolve();
        };
        sleepers.push({ at: nowMs + ms, wake });
      }),
    async pass(ms) {
      const end = nowMs + ms;
      for (;;) {
        const next = sleepers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
        if (next === undefined) break;
        nowMs = next.at;
        sleepers = sleepers.filter((sleeper) => sleeper !== next);
        next.wake();
        await new Promise((resolve) => setImmediate(resolve));
      }
      nowMs = end;
    },
  };
}

const notices = (file: string): Notice[] =>
  existsSync(file)
    ? readFileSync(file, "utf8")
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line) as Notice)
    : [];

describe("notices to a command", () => {
  it("hands it JSON on stdin and puts nothing into the command line", async () => {
    const file = join(folder, "out");
    const notifier = createNotifier({ target: `cat >> '${file}'; echo "$# $0" >> '${file}.args'` });
    notifier.event(started);
    notifier.event(progress(7));
    notifier.event(finished(0));
    await notifier.close();
    expect(readFileSync(`${file}.args`, "utf8")).toBe("0 sh\n");
    const [notice, ...more] = notices(file);
    expect(more).toEqual([]);
    expect(notice).toMatchObject({
      v: 1,
      what: "finished",
      run: "r1",
      dir: "/data/x",
      exit: 0,
      stored: { items: 2, files: 5, bytes: 100 },
      failed: 0,
      progress: { doneItems: 1, receivedBytes: 7 },
      text: "the download to /data/x has finished: 2 stored, 1 here before, 0 failed",
    });
  });

  it("tells a failed run, with secrets taken out", async () => {
    const file = join(folder, "out");
    const notifier = createNotifier({ target: `cat >> '${file}'` });
    notifier.event(started);
    const error = { code: "access-login", message: "refused https://u:hunter22@host/", hint: "" } as const;
    notifier.event({ ...finished(4), error } as RunEvent);
    await notifier.close();
    expect(notices(file)).toMatchObject([{ what: "failed", exit: 4, error: { code: "access-login" } }]);
    expect(readFileSync(file, "utf8")).not.toContain("hunter22");
  });

  it("warns when the command fails or hangs, and goes on", async () => {
    const warnings: string[] = [];
    const onWarning = (message: string) => void warnings.push(message);
    for (const [target, timeoutMs] of [
      ["exit 3", 10_000],
      ["sleep 60", 100],
    ] as const) {
      const notifier = createNotifier({ target, timeoutMs, onWarning });
      notifier.event(finished(0));
      await notifier.close();
      await notifier.close();
    }
    expect(warnings).toHaveLength(2);
    expect(warnings[0]).toContain("exit 3");
    expect(warnings[1]).toContain("0.1 s");
  });

  it("tells a stall once, again after new life, and how far it is every so often", async () => {
    const file = join(folder, "out");
    const clock = handClock();
    const notifier = createNotifier({ target: `cat >> '${file}'`, clock, everyMs: 600_000 });
    notifier.event(started);
    notifier.event(progress(1));
    await clock.pass(290_000);
    notifier.event(progress(1));
    await clock.pass(100_000);
    await clock.pass(100_000);
    notifier.event(progress(2));
    await clock.pass(350_000);
    notifier.event(finished(0));
    await notifier.close();
    expect(notices(file).map(({ what }) => what)).toEqual(["stalled", "progress", "stalled", "finished"]);
    expect(notices(file)[1]?.text).toBe("the download to /data/x has 1 of 3 items");
  });
});

describe("notices to a URL", () => {
  it("POSTs JSON; an answer of 500 and a dead port are warnings", async () => {
    const bodies: string[] = [];
    let status = 200;
    const server = createServer((request, response) => {
      let body = `${request.method} ${request.headers["content-type"]} `;
      request.on("data", (part) => {
        body += part;
      });
      request.on("end", () => {
        bodies.push(body);
        response.writeHead(status).end("thanks");
      });
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const target = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook?token=abc12345`;
    const warnings: string[] = [];
    const tell = async (): Promise<void> => {
      const notifier = createNotifier({ target, onWarning: (message) => warnings.push(message) });
      notifier.event(started);
      notifier.event(finished(0));
      await notifier.close();
    };
    await tell();
    expect(warnings).toEqual([]);
    status = 500;
    await tell();
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain("500");
    server.close();
    server.closeAllConnections();
    await once(server, "close");
    await tell();
    expect(warnings).toHaveLength(2);
    expect(warnings.join()).not.toContain("abc12345");
    expect(bodies).toHaveLength(2);
    expect(bodies[0]).toMatch(/^POST application\/json \{"v":1,/);
  });
});
