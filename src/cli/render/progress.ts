/**
 * A run as it goes on, on stderr: a bar on a terminal, else a line now and then. What a reader must not miss
 * (retries, failures, warnings) becomes lines of its own. Words carry the meaning; colour only helps.
 */
import { hasColour, type Io, isScreen } from "../io.ts";
import type { Row, RunEvent } from "../library.ts";
import { columnsOf, counted, cutTo, grouped, lasting, nounOf, padTo, shown, sized } from "./wording.ts";
import { say } from "./writer.ts";

export const PROGRESS_MODES = ["auto", "bar", "plain", "none"] as const;
export type ProgressMode = (typeof PROGRESS_MODES)[number];

export interface Progress {
  event(event: RunEvent): void;
  /** Takes the bar off the screen. */
  close(): void;
}

/** `silent` is for a run whose events are its output. `noun` is what is counted until the first item tells its kind. */
export function createProgress(io: Io, mode: ProgressMode | "silent", noun = "item"): Progress {
  if (mode === "silent") return { event: () => undefined, close: () => undefined };
  if (mode === "none") return createWarnings(io);
  const bar = mode === "bar" || (mode === "auto" && isScreen(io, io.stderr));
  return bar ? createBar(io, noun) : createPlain(io, noun);
}

type ProgressEvent = Extract<RunEvent, { type: "progress" }>;

/** Lines of one kind shown in a run; a run with a million failures must not fill the screen. */
const SHOWN_LINES = 20;

const COLOURS = { retry: 33, failed: 31, disputed: 33, damaged: 31, warning: 33 } as const;

/** Makes the lines that stay, from events; null for events that have none. */
function createTeller(io: Io): (event: RunEvent) => string | null {
  const colour = hasColour(io, io.stderr);
  const counts = new Map<string, number>();
  const capped = (kind: string, text: string): string | null => {
    const count = (counts.get(kind) ?? 0) + 1;
    counts.set(kind, count);
    if (count > SHOWN_LINES + 1) return null;
    const word = padTo(kind, 8);
    const code = COLOURS[kind as keyof typeof COLOURS];
    const head = colour && code !== undefined ? `\u001b[${code}m${word}\u001b[0m` : word;
    return count <= SHOWN_LINES ? `${head}  ${shown(text)}` : `${head}  more of these are only in the log`;
  };
  const addresses = new Map<string, string>();
  return (event) => {
    switch (event.type) {
      case "planned":
        return plannedLine(event);
      case "item-started":
        if (addresses.size < 1000) addresses.set(event.item, event.address);
        return null;
      case "item-retry": {
        const what = addresses.get(event.item) ?? event.item;
        const when = event.waitMs < 50 ? "now" : `in ${lasting(event.waitMs)}`;
        return capped("retry", `${what}: ${event.message}; trying again ${when}`);
      }
      case "item-failed":
        addresses.delete(event.item);
        return capped("failed", `${event.address}: ${event.message}`);
      case "item-stored":
        addresses.delete(event.item);
        return event.disputed === null ? null : capped("disputed", `${event.address}: ${event.disputed}`);
      case "item-adopted":
        addresses.delete(event.item);
        return event.disputed === null ? null : capped("disputed", `${event.address}: ${event.disputed}`);
      case "item-damaged":
        return capped("damaged", `${event.path}: ${event.what}`);
      case "item-moved":
        return capped("moved", `${event.from} is now ${event.to}`);
      case "item-withdrawn":
        return capped("gone", `${event.address}: no longer in the archive; what is here stays`);
      case "quarantined":
        return capped("aside", `${event.path}: ${event.why}; kept in .gantry/quarantine`);
      case "warning":
        return capped("warning", event.message);
      default:
        return null;
    }
  };
}

type PlannedEvent = Extract<RunEvent, { type: "planned" }>;

function plannedLine(event: PlannedEvent): string {
  const { wanted, fetch, here, found } = event;
  const parts = [
    `${counted(wanted.items, "item")} wanted: ${counted(wanted.files, "file")}, ${announced(wanted)}.`,
  ];
  if (here.items > 0) parts.push(`Here already: ${grouped(here.items)}.`);
  if (found.items > 0)
    parts.push(
      `Left by another tool, to be proved: ${counted(found.files, "file")} of ${grouped(found.items)}.`,
    );
  if (fetch.items === 0) parts.push("Nothing to fetch.");
  else if (here.items + found.items > 0)
    parts.push(`To fetch: ${counted(fetch.items, "item")}, ${announced(fetch)}.`);
  if (event.unknown > 0) parts.push(`Not shown by the archive: ${grouped(event.unknown)}.`);
  if (event.freeBytes !== null && fetch.bytes > event.freeBytes) {
    parts.push(`Only ${sized(event.freeBytes)} are free on the disk.`);
  }
  if (event.quotaBytes !== null && fetch.bytes > event.quotaBytes)
    parts.push(`Only ${sized(event.quotaBytes)} are left of the quota.`);
  return parts.join(" ");
}

/** Sizes as far as the archive tells them. */
const announced = ({ items, unsized, bytes }: PlannedEvent["wanted"]): string => {
  if (unsized === 0) return sized(bytes);
  return unsized === items
    ? "sizes not announced"
    : `${sized(bytes)} and ${grouped(unsized)} of unknown size`;
};

/** From 0 to 1; 1 only when the last item is done: bytes that came are not proved and synced yet. */
const share = ({ doneBytes, totalBytes, doneItems, failedItems, totalItems }: ProgressEvent): number => {
  const part = totalBytes > 0 ? doneBytes / totalBytes : totalItems > 0 ? doneItems / totalItems : 0;
  return Math.min(doneItems + failedItems < totalItems ? 0.99 : 1, Math.max(0, part));
};

function measures(event: ProgressEvent, noun: string): string[] {
  const { doneItems, totalItems, failedItems, doneBytes, totalBytes, bytesPerSecond, etaSeconds } = event;
  const parts = [`${grouped(doneItems)} of ${counted(totalItems, noun)}`];
  if (failedItems > 0) parts.push(`${grouped(failedItems)} failed`);
  if (totalBytes > 0) parts.push(`${sized(doneBytes)} of ${sized(totalBytes)}`);
  if (bytesPerSecond > 0) parts.push(`${sized(bytesPerSecond)}/s`);
  if (etaSeconds !== null && doneItems < totalItems)
    parts.push(`${lasting(Math.max(1, Math.round(etaSeconds)) * 1000)} left`);
  return parts;
}

const percent = (part: number): string => `${Math.floor(part * 100)}%`;

/** Pauses between plain lines grow, so that the log of a run of days stays readable. */
const pauseMs = (elapsedMs: number): number =>
  elapsedMs < 60_000 ? 5_000 : elapsedMs < 600_000 ? 30_000 : 60_000;

/** No progress: only what changes the meaning of what was asked. */
function createWarnings(io: Io): Progress {
  const tell = createTeller(io);
  return {
    event(event) {
      const line = event.type === "warning" ? tell(event) : null;
      if (line !== null) say(io, line);
    },
    close: () => undefined,
  };
}

function createPlain(io: Io, firstNoun: string): Progress {
  const tell = createTeller(io);
  const startedMs = io.monotonicMs();
  let saidMs = startedMs;
  let quarter = 0;
  let noun = firstNoun;
  return {
    event(event) {
      if (event.type === "item-started") noun = nounOf(event.item);
      const line = tell(event);
      if (line !== null) say(io, line);
      const nowMs = io.monotonicMs();
      const due = nowMs - saidMs >= pauseMs(nowMs - startedMs);
      if (event.type === "listing" && due) {
        saidMs = nowMs;
        say(io, `listing: ${counted(event.items, "item")} found until now`);
      } else if (event.type === "progress") {
        const part = share(event);
        const passed = Math.floor(part * 4);
        if (!due && passed <= quarter) return;
        quarter = Math.max(quarter, passed);
        saidMs = nowMs;
        say(io, `${percent(part).padStart(4)}  ${measures(event, noun).join(", ")}`);
      }
    },
    close: () => undefined,
  };
}

function createBar(io: Io, firstNoun: string): Progress {
  const tell = createTeller(io);
  const names = new Map<string, string>();
  const green = hasColour(io, io.stderr)
    ? (text: string) => `\u001b[32m${text}\u001b[0m`
    : (text: string) => text;
  let drawn = 0;
  let noun = firstNoun;
  let last: readonly string[] = [];
  const erase = (): void => {
    if (drawn > 0) io.stderr.write(`\r${drawn > 1 ? `\u001b[${drawn - 1}A` : ""}\u001b[J`);
    drawn = 0;
  };
  const draw = (lines: readonly string[]): void => {
    erase();
    last = lines;
    if (lines.length === 0) return;
    io.stderr.write(lines.join("\n"));
    drawn = lines.length;
  };
  const room = (): number => Math.max(20, (io.stderr.columns ?? 80) - 1);
  const barLines = (event: ProgressEvent): string[] => {
    const part = share(event);
    const text = `${percent(part).padStart(4)}  ${measures(event, noun).join("  ")}`;
    const width = Math.min(30, room() - columnsOf(text) - 1);
    const filled = Math.round(part * width);
    const head =
      width < 8 ? cutTo(text, room()) : `${green("█".repeat(filled))}${"░".repeat(width - filled)} ${text}`;
    const current = event.active.map((item) => names.get(item) ?? item)[0];
    if (current === undefined) return [head];
    const others = event.active.length > 1 ? `  (and ${grouped(event.active.length - 1)} more)` : "";
    return [head, cutTo(shown(current), room() - others.length) + others];
  };
  return {
    event(event) {
      const line = tell(event);
      if (line !== null) {
        const again = last;
        erase();
        say(io, line);
        draw(again);
      }
      if (event.type === "item-started") {
        noun = nounOf(event.item);
        const name = nameOf(event.labels, event.address);
        names.set(event.item, name);
        names.set(event.address, name);
      }
      if (event.type === "item-stored" || event.type === "item-adopted" || event.type === "item-failed") {
        names.delete(event.item);
        names.delete(event.address);
      }
      if (event.type === "run-started") draw(["Asking the archive what there is …"]);
      if (event.type === "listing") {
        draw([cutTo(`Listing: ${counted(event.items, "item")} found until now`, room())]);
      }
      if (event.type === "planned") draw([]);
      if (event.type === "progress") draw(barLines(event));
      if (event.type === "run-finished") draw([]);
    },
    close: () => draw([]),
  };
}

/** Columns that tell a person which item it is, whatever archive it is from. */
const TELLING: readonly RegExp[] = [
  /^(collection|project)(_?name|_?id)?$/i,
  /^(patient|subject|cand)_?(id)?$/i,
  /^(visit|session)(_?label|_?id)?$/i,
  /^modality$/i,
  /^series_?description$/i,
];

function nameOf(labels: Row, address: string): string {
  const words = TELLING.flatMap((pattern) => {
    const column = Object.keys(labels).find((name) => pattern.test(name));
    const value = column === undefined ? null : labels[column];
    return value === null || value === undefined || value === "" ? [] : [String(value)];
  });
  return words.length === 0 ? address : words.join(" / ");
}
