/**
 * Tells somebody about a run: when it has finished, failed or stalled, and, if wished, every so often. JSON (the
 * type `Notice`) goes to a command's stdin or is POSTed to a URL. Nothing is put into the command line, and a
 * notice that can't be delivered never harms the run.
 */
import { spawn } from "node:child_process";
import { hostname } from "node:os";
import { type Clock, systemClock } from "../lib/context.ts";
import { createRedactor, redactUrl } from "../lib/redact.ts";
import type { RunEvent, RunSummary } from "./events.ts";

export const NOTICE_VERSION = 1;

export interface Notice {
  readonly v: typeof NOTICE_VERSION;
  /** UTC. */
  readonly t: string;
  readonly what: "finished" | "failed" | "stalled" | "progress";
  /** One sentence. */
  readonly text: string;
  readonly run: string | null;
  readonly dir: string | null;
  readonly host: string;
  readonly pid: number;
  readonly exit: number | null;
  readonly progress: Omit<Extract<RunEvent, { type: "progress" }>, "type" | "active"> | null;
  readonly stored: RunSummary["stored"] | null;
  readonly here: RunSummary["here"] | null;
  readonly failed: number | null;
  readonly error: RunSummary["error"];
}

export interface NotifierOptions {
  /** A command line for `sh -c`, or an http(s) URL. */
  readonly target: string;
  /** Also tell how far it is, this often. */
  readonly everyMs?: number;
  /** Without a byte or item for so long a run has stalled. Default five minutes. */
  readonly stalledAfterMs?: number;
  /** Of the command. Default: that of this process. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  readonly clock?: Clock;
  readonly redact?: (text: string) => string;
  /** A notice could not be delivered. */
  readonly onWarning?: (message: string) => void;
  /** How long a delivery may take. Default ten seconds. */
  readonly timeoutMs?: number;
}

export interface Notifier {
  event(event: RunEvent): void;
  /** Resolves when the last notice was delivered or given up. May be called twice. Never throws. */
  close(): Promise<void>;
}

const STALLED_AFTER_MS = 300_000;
const TIMEOUT_MS = 10_000;

export function createNotifier(options: NotifierOptions): Notifier {
  const { target, clock = systemClock, stalledAfterMs = STALLED_AFTER_MS, timeoutMs = TIMEOUT_MS } = options;
  const redact = options.redact ?? createRedactor().redact;
  const end = new AbortController();
  let run: string | null = null;
  let dir: string | null = null;
  let progress: Notice["progress"] = null;
  let movedMs = clock.monotonicMs();
  let mark = "";
  let stalled = false;
  let queue: Promise<void> = Promise.resolve();

  const tell = (what: Notice["what"], text: string, summary: RunSummary | null = null): void => {
    const notice: Notice = {
      v: NOTICE_VERSION,
      t: clock.now().toISOString(),
      what,
      text: redact(text),
      run,
      dir,
      host: hostname(),
      pid: process.pid,
      exit: summary?.exit ?? null,
      progress,
      stored: summary?.stored ?? null,
      here: summary?.here ?? null,
      failed: summary?.failed ?? null,
      error: summary?.error ? { ...summary.error, message: redact(summary.error.message) } : null,
    };
    const body = `${JSON.stringify(notice)}\n`;
    queue = queue
      .then(() =>
        /^https?:\/\//i.test(target)
          ? post(target, body, timeoutMs)
          : pipe(target, body, options.environment ?? process.env, timeoutMs),
      )
      .catch((error: unknown) => {
        const why = error instanceof Error ? error.message : String(error);
        options.onWarning?.(redact(`nobody could be told (${what}): ${why}`));
      });
  };

  const every = async (ms: number, then: () => void): Promise<void> => {
    try {
      for (;;) {
        await clock.sleep(ms, end.signal);
        then();
      }
    } catch {
      // The end of the run.
    }
  };
  void every(Math.min(stalledAfterMs / 5, 30_000), () => {
    if (stalled || run === null || clock.monotonicMs() - movedMs < stalledAfterMs) return;
    stalled = true;
    tell("stalled", `nothing has arrived for ${Math.round(stalledAfterMs / 60_000)} minutes in ${dir}`);
  });
  if (options.everyMs !== undefined) {
    void every(options.everyMs, () => {
      const far =
        progress === null ? "is listing" : `has ${progress.doneItems} of ${progress.totalItems} items`;
      tell("progress", `the download to ${dir} ${far}`);
    });
  }

  return {
    event(event) {
      switch (event.type) {
        case "run-started":
          run = event.run;
          dir = event.dir;
          movedMs = clock.monotonicMs();
          break;
        case "progress": {
          const { type: _type, active: _active, ...rest } = event;
          progress = rest;
          const now = `${rest.receivedBytes} ${rest.doneBytes} ${rest.doneItems} ${rest.failedItems}`;
          if (now === mark) break;
          mark = now;
          movedMs = clock.monotonicMs();
          stalled = false;
          break;
        }
        case "listing":
        case "planned":
        case "item-stored":
        case "item-failed":
          movedMs = clock.monotonicMs();
          stalled = false;
          break;
        case "run-finished": {
          const { type: _type, ...summary } = event;
          end.abort();
          const ok = summary.exit === 0;
          const how = ok ? "has finished" : `ended with exit ${summary.exit}`;
          const { stored, here, failed } = summary;
          tell(
            ok ? "finished" : "failed",
            `the download to ${dir ?? summary.dir} ${how}: ${stored.items} stored, ${here.items} here before, ${failed} failed`,
            summary,
          );
          break;
        }
        default:
      }
    },
    async close() {
      end.abort();
      await queue;
    },
  };
}

/** The command gets the notice on stdin; its output goes nowhere. Rejects unless it ends with 0 in time. */
function pipe(
  command: string,
  body: string,
  env: Readonly<Record<string, string | undefined>>,
  timeoutMs: number,
): Promise<void> {
  return new Promise((resolve, reject) => {
    // A group of its own, so that a time-out ends what the shell started, too.
    const child = spawn("sh", ["-c", command], { stdio: ["pipe", "ignore", "ignore"], env, detached: true });
    const timer = setTimeout(() => {
      try {
        process.kill(-(child.pid ?? 0), "SIGKILL");
      } catch {
        child.kill("SIGKILL");
      }
      reject(new Error(`the command took longer than ${timeoutMs / 1000} s`));
    }, timeoutMs);
    child.on("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.on("exit", (code, signal) => {
      clearTimeout(timer);
      if (code === 0) resolve();
      else reject(new Error(`the command ended with ${signal ?? `exit ${code}`}`));
    });
    // A command that does not read its input is no fault.
    child.stdin.on("error", () => undefined);
    child.stdin.end(body);
  });
}

async function post(url: string, body: string, timeoutMs: number): Promise<void> {
  const { EnvHttpProxyAgent, request } = await import("undici");
  const dispatcher = new EnvHttpProxyAgent();
  try {
    const { statusCode, body: reply } = await request(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
      dispatcher,
      signal: AbortSignal.timeout(timeoutMs),
    });
    await reply.dump();
    if (statusCode >= 300) throw new Error(`${redactUrl(url)} answered ${statusCode}`);
  } finally {
    await dispatcher.close();
  }
}
