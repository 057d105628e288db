/**
 * The logs of a folder: two files a day. `gantry-DATE.log` says what happened, one line each; `gantry-DATE.debug.log`
 * says everything. Both are appended to, in whole lines, so that several runs and processes can share them.
 */
import { appendFileSync } from "node:fs";
import { appendFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock, Log, LogLevel } from "../lib/context.ts";
import { systemClock } from "../lib/context.ts";
import { makeFolderSync } from "../lib/durable-file.ts";
import { createRedactor } from "../lib/redact.ts";
import type { RunEvent } from "./events.ts";

export interface LogbookOptions {
  /** Where the files go; made when missing. */
  readonly dir: string;
  readonly clock?: Pick<Clock, "now">;
  /** Takes secrets out of a line. Default: what `createRedactor` recognises, and `secrets`. */
  readonly redact?: (text: string) => string;
  readonly secrets?: readonly string[];
  /**
   * False: nothing is written before the event `run-started` (lines until then wait, and are dropped when the run
   * never starts), so that a refused command leaves no trace in a folder. Default true.
   */
  readonly early?: boolean;
  /** Called once when the files can't be written; the run goes on without them. */
  readonly onWarning?: (message: string) => void;
}

export interface Logbook {
  readonly log: Log;
  event(event: RunEvent): void;
  /** The file that says what happened, null while nothing was written. */
  readonly path: string | null;
  /** Resolves when all is written. May be called twice. Never throws. */
  close(): Promise<void>;
}

/** Lines that wait for the run to start; more are written whatever happens. */
const WAITING_LINES = 10_000;
/** Text that waits for the disk; beyond it the writer waits instead. */
const WAITING_CHARACTERS = 1_000_000;

interface Line {
  readonly file: "log" | "debug.log";
  readonly date: string;
  readonly text: string;
}

export async function openLogbook(options: LogbookOptions): Promise<Logbook> {
  const { dir, clock = systemClock } = options;
  const redactor = createRedactor();
  for (const secret of options.secrets ?? []) redactor.add(secret);
  const redact = options.redact ?? ((text: string) => redactor.redact(text));
  let started = options.early ?? true;
  let waiting: Line[] = [];
  let waitingCharacters = 0;
  let path: string | null = null;
  let broken = false;
  let writing: Promise<void> | null = null;

  const fail = (error: unknown): void => {
    if (broken) return;
    broken = true;
    waiting = [];
    options.onWarning?.(
      `the log in ${dir} can't be written: ${error instanceof Error ? error.message : error}`,
    );
  };
  const prepare = (): void => {
    if (path === null && waiting.length > 0) makeFolderSync(dir);
  };
  /** One append for each file: the kernel keeps appends of several processes apart. */
  const take = (): { file: string; text: string }[] => {
    const texts = new Map<string, string>();
    for (const { file, date, text } of waiting) {
      const name = join(dir, `gantry-${date}.${file}`);
      texts.set(name, (texts.get(name) ?? "") + text);
      if (file === "log") path = name;
    }
    path ??= waiting[0] ? join(dir, `gantry-${waiting[0].date}.log`) : null;
    waiting = [];
    waitingCharacters = 0;
    return [...texts].map(([file, text]) => ({ file, text }));
  };
  const drain = async (): Promise<void> => {
    try {
      while (waiting.length > 0 && !broken) {
        prepare();
        for (const { file, text } of take()) await appendFile(file, text);
      }
    } catch (error) {
      fail(error);
    }
  };
  const write = (): void => {
    if (!started || broken) return;
    if (waitingCharacters > WAITING_CHARACTERS) {
      // The disk is slower than we talk. Writing here makes the talker wait.
      try {
        prepare();
        for (const { file, text } of take()) appendFileSync(file, text);
      } catch (error) {
        fail(error);
      }
      return;
    }
    writing ??= Promise.resolve()
      .then(drain)
      .finally(() => {
        writing = null;
      });
  };
  const add = (files: readonly Line["file"][], level: LogLevel, text: string): void => {
    if (broken) return;
    const t = clock.now().toISOString();
    const line = `${t} ${level.toUpperCase().padEnd(5)} ${process.pid} ${redact(text).replace(/\r?\n/g, "\n    ")}\n`;
    for (const file of files) waiting.push({ file, date: t.slice(0, 10), text: line });
    waitingCharacters += line.length * files.length;
    if (waiting.length > WAITING_LINES) started = true;
    write();
  };

  return {
    get path() {
      return path;
    },
    log: (level, message, details) => {
      const text = details === undefined ? message : `${message} ${detailText(details)}`;
      add(level === "debug" || level === "info" ? ["debug.log"] : ["log", "debug.log"], level, text);
    },
    event: (event) => {
      if (event.type === "run-started") started = true;
      const story = storyOf(event);
      if (story !== null) add(["log", "debug.log"], story.level, story.text);
      else if (event.type !== "progress") add(["debug.log"], "debug", JSON.stringify(event));
    },
    async close() {
      while (started && !broken && (writing !== null || waiting.length > 0)) {
        write();
        await writing;
      }
    },
  };
}

/** Stack traces as they are, the rest as JSON. */
function detailText(details: Readonly<Record<string, unknown>>): string {
  const stacks: string[] = [];
  const seen = new Set<unknown>();
  const json = JSON.stringify(details, (_key, value: unknown) => {
    if (typeof value === "bigint") return String(value);
    if (typeof value === "object" && value !== null) {
      if (seen.has(value)) return "(again)";
      seen.add(value);
    }
    if (!(value instanceof Error)) return value;
    for (let error: unknown = value; error instanceof Error && stacks.length < 8; error = error.cause) {
      stacks.push(error.stack ?? error.message);
    }
    return value.message;
  });
  return [json, ...stacks].join("\n");
}

/** What the short log says of an event, null for what only the long one holds. */
function storyOf(event: RunEvent): { level: LogLevel; text: string } | null {
  const info = (text: string) => ({ level: "info" as const, text });
  switch (event.type) {
    case "run-started":
      return info(`run ${event.run} started in ${event.dir}: ${event.requests.join(" ; ")}`);
    case "planned":
      return info(
        `wanted ${event.wanted.items} items, ${event.wanted.bytes} bytes; here ${event.here.items}; to fetch ${event.fetch.items}, ${event.fetch.bytes} bytes; unknown ${event.unknown}; withdrawn ${event.withdrawn}; dropped ${event.dropped}`,
      );
    case "item-stored":
      return info(
        `stored ${event.item} ${event.address} in ${event.folder}: ${event.files} files, ${event.bytes} bytes, ${event.tookMs} ms, proved by ${event.proof.join(", ")}${event.disputed === null ? "" : `; disputed: ${event.disputed}`}`,
      );
    case "item-retry":
      return {
        level: "warn",
        text: `retry ${event.attempt} of ${event.item} in ${event.waitMs} ms: ${event.code}: ${event.message}`,
      };
    case "item-failed":
      return {
        level: "error",
        text: `failed ${event.item} ${event.address}: ${event.code}: ${event.message} (${event.hint})`,
      };
    case "item-moved":
      return info(`moved ${event.item}: ${event.from} is now ${event.to}`);
    case "item-damaged":
      return { level: "warn", text: `damaged ${event.item}: ${event.path} ${event.what}` };
    case "item-withdrawn":
      return info(`withdrawn ${event.item} ${event.address}`);
    case "quarantined":
      return info(`quarantined ${event.path}: ${event.why}`);
    case "warning":
      return { level: "warn", text: event.message };
    case "run-finished": {
      const { run, exit, stored, here, failed, tookMs, error } = event;
      const why = error === null ? "" : `; ${error.code}: ${error.message}`;
      const text = `run ${run} finished with exit ${exit}: stored ${stored.items} items, ${stored.bytes} bytes; here ${here.items}; failed ${failed}; ${Math.round(tookMs)} ms${why}`;
      return { level: exit === 0 ? "info" : "error", text };
    }
    default:
      return null;
  }
}
