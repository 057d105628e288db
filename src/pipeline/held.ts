/** What a folder holds, and the files that are made from that: companions, the citation file, the listing. */
import { lstat, readFile } from "node:fs/promises";
import { join } from "node:path";
import { ensureFolder, type FileContent, writeFileDurably } from "../lib/durable-file.ts";
import { ExternalSort } from "../lib/external-sort.ts";
import { checkHeader, type ItemState } from "../model/receipt.ts";
import { displayName, safePath, shownPath } from "../model/safe-path.ts";
import type { Store } from "../sinks/sink.ts";
import type { Citation, Extra, HeldItem, Source } from "../sources/source.ts";
import { readItemStates } from "../state/receipts.ts";
import { newestFirst, readExpected, readSelections } from "../state/selections.ts";
import { readNames, type StateFolder } from "../state/state-folder.ts";
import { Deleter } from "./deleter.ts";
import { isStored } from "./plan.ts";
import { joinStates } from "./planning.ts";

export interface HeldOptions {
  readonly state: StateFolder;
  readonly store: Store;
  readonly temporary: () => Promise<string>;
  readonly source: (archive: string) => Promise<Source>;
}

export function readStates(state: StateFolder, temporary: () => Promise<string>): AsyncIterable<ItemState> {
  return readItemStates(state, { folder: temporary, onBad: () => undefined });
}

/** Items that are stored, with the labels that the newest selection gave them, sorted by id. */
export async function* readHeld({ state, store, temporary }: HeldOptions): AsyncGenerator<HeldItem> {
  const all = newestFirst(await readSelections(state));
  async function* items() {
    for await (const { item } of readExpected(all)) yield item;
  }
  for await (const { item, state: found } of joinStates(items(), readStates(state, temporary))) {
    if (!found || !isStored(found) || item.unknown) continue;
    const { files, place, facts, at } = found.current;
    const shown = files.map(({ path }) => shownPath(path));
    yield {
      item,
      place: place.folder ?? ".",
      files: files.length,
      bytes: files.reduce((sum, file) => sum + file.bytes, 0),
      facts,
      storedAt: at,
      paths: files.map(({ path }, index) => shown[index] ?? path),
      original: shown.some((path) => path !== null),
      read: async function* () {
        if (files[0]) yield* store.read(files[0]);
      },
    };
  }
}

const COMPANIONS_KIND = "gantry-companions";
const COMPANIONS_VERSION = 1;

interface Companions {
  /** All companions, so that nobody takes them for strays. */
  readonly paths: readonly string[];
  /** Those of them that were there before us and are kept as they are. */
  readonly kept: readonly string[];
  /** Asked for at any time. */
  readonly extras: readonly Extra[];
}

const NO_COMPANIONS: Companions = { paths: [], kept: [], extras: [] };

export async function readCompanions(state: StateFolder): Promise<readonly string[]> {
  return (await readCompanionRecord(state)).paths;
}

async function readCompanionRecord(state: StateFolder): Promise<Companions> {
  const path = state.path("companions.json");
  if (!(await readNames(state.path())).includes("companions.json")) return NO_COMPANIONS;
  const header = checkHeader(await readFile(path, "utf8"), COMPANIONS_KIND, COMPANIONS_VERSION, path);
  const list = (value: unknown): string[] => (Array.isArray(value) ? value.map(String) : []);
  const extras = list(header.extras).filter((word): word is Extra => word === "bidsignore");
  return { paths: list(header.paths), kept: list(header.kept), extras };
}

/** Remembers that companions of these kinds are wanted in the folder. */
export async function noteExtras(state: StateFolder, extras: readonly Extra[]): Promise<boolean> {
  const before = await readCompanionRecord(state);
  const wanted = new Set([...before.extras, ...extras]);
  if (wanted.size === before.extras.length) return false;
  await writeCompanionRecord(state, { ...before, extras: [...wanted] });
  return true;
}

/** Remembers files of ours beside the data, paths relative to the target folder. */
export async function noteCompanions(state: StateFolder, paths: Iterable<string>): Promise<void> {
  const before = await readCompanionRecord(state);
  await writeCompanionRecord(state, { ...before, paths: [...new Set([...before.paths, ...paths])] });
}

async function writeCompanionRecord(state: StateFolder, { paths, kept, extras }: Companions): Promise<void> {
  const record = { paths: [...paths].sort(), kept: [...kept].sort(), extras: [...extras].sort() };
  const header = { kind: COMPANIONS_KIND, version: COMPANIONS_VERSION, ...record };
  await writeState(state, "companions.json", `${JSON.stringify(header)}\n`);
}

/** What a killed process leaves of it lies in `partial`, where the next run removes it. */
function writeState(state: StateFolder, name: string, content: FileContent): Promise<void> {
  return writeFileDurably(state.path(name), content, { temporaryIn: state.path("partial") });
}

/**
 * Makes the companions, CITATION.txt and listing.tsv anew. `removeOld`: files of ours beside the data that are not made
 * anew (the metadata.csv of nothing, a list of sums) are deleted, so that none names what is here no more.
 */
export async function writeDerived(
  options: HeldOptions & {
    readonly removeOld?: boolean;
    /** Takes a file of another tool out of the way of a companion that must be our own. */
    readonly setAside?: (path: string) => Promise<void>;
  },
): Promise<readonly Citation[]> {
  const { state, temporary } = options;
  const citations = new Map<string, Citation>();
  const archives = new Map<string, string>();
  for await (const { item } of readHeld(options)) {
    const source = await options.source(item.archive);
    if (!archives.has(source.kind)) archives.set(source.kind, item.archive);
    noteCitation(citations, source.cite(item.labels));
  }
  const before = await readCompanionRecord(state);
  const written = new Set(before.paths);
  const kept = new Set(before.kept);
  const made = new Set<string>();
  for (const [kind, archive] of archives) {
    const source = await options.source(archive);
    async function* ofKind(): AsyncGenerator<HeldItem> {
      for await (const held of readHeld(options)) {
        if ((await options.source(held.item.archive)).kind === kind) yield held;
      }
    }
    for await (const companion of source.companions?.(ofKind, new Set(before.extras)) ?? []) {
      const path = safePath(companion.path);
      const target = join(state.dir, path);
      const foreign = kept.has(path) || !written.has(path);
      written.add(path);
      made.add(path);
      const inTheWay = foreign && (await lstat(target).catch(() => null)) !== null;
      if (inTheWay && companion.keep) {
        kept.add(path);
        continue;
      }
      kept.delete(path);
      await ensureFolder(join(target, ".."));
      await writeFileDurably(target, companion.content, {
        temporaryIn: state.path("partial"),
        unlessSame: true,
        beforeReplace: async () => {
          if (inTheWay) await options.setAside?.(path);
          // Known as ours before it is there: else, after a cut, it is taken for another tool's.
          if (foreign) await noteCompanions(state, [path]);
        },
      });
    }
  }
  if (options.removeOld) {
    const deleter = new Deleter(state.dir);
    for (const path of [...written].sort()) {
      if (made.has(path) || kept.has(path)) continue;
      await deleter.delete(path);
      written.delete(path);
    }
    await deleter.close();
  }
  await writeCompanionRecord(state, { paths: [...written], kept: [...kept], extras: before.extras });
  const owed = sortCitations(citations);
  await writeState(state, "CITATION.txt", formatCitations(owed));
  await writeListing(state, temporary);
  return owed;
}

/** Whether every derived file of the last time is still there. */
export async function derivedAreThere(state: StateFolder): Promise<boolean> {
  const names = await readNames(state.path());
  if (!["CITATION.txt", "listing.tsv", "companions.json"].every((name) => names.includes(name))) return false;
  for (const path of await readCompanions(state)) {
    if (!(await lstat(join(state.dir, path)).catch(() => null))) return false;
  }
  return true;
}

export function noteCitation(citations: Map<string, Citation>, citation: Citation | null): void {
  if (citation)
    citations.set(`${citation.collection}\u0000${citation.licence}\u0000${citation.doi}`, citation);
}

export function sortCitations(citations: ReadonlyMap<string, Citation>): Citation[] {
  return [...citations.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, citation]) => citation);
}

function formatCitations(citations: readonly Citation[]): string {
  const lines = ["What using the data in this folder owes:", ""];
  for (const { collection, licence, licenceUrl, doi } of citations) {
    lines.push(collection);
    lines.push(`  licence: ${licence ?? "(not stated)"}${licenceUrl ? ` <${licenceUrl}>` : ""}`);
    lines.push(`  cite:    ${doi ?? "(no DOI stated; see the collection's page)"}`, "");
  }
  return `${lines.map(displayName).join("\n")}\n`;
}

/** path, bytes, mtime (UTC), digest of every file that receipts name, sorted by path. */
async function writeListing(state: StateFolder, temporary: () => Promise<string>): Promise<void> {
  const sorter = new ExternalSort({ folder: temporary });
  try {
    for await (const found of readStates(state, temporary)) {
      if (!isStored(found)) continue;
      for (const { path, bytes, mtimeMs, digest } of found.current.files) {
        await sorter.push(path, `${path}\t${bytes}\t${new Date(mtimeMs).toISOString()}\t${digest}`);
      }
    }
    async function* lines(): AsyncGenerator<string> {
      yield "path\tbytes\tmtime\tdigest\n";
      let batch = "";
      for await (const line of sorter.sorted()) {
        batch += `${line}\n`;
        if (batch.length > 1 << 18) {
          yield batch;
          batch = "";
        }
      }
      yield batch;
    }
    await writeState(state, "listing.tsv", lines());
  } finally {
    await sorter.close();
  }
}
