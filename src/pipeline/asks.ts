/**
 * From what a user typed, or asked for before, to items: an ask knows its request and how to list it now.
 */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { stat } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { RunError } from "../errors.ts";
import { compareKeys, groupSorted, mergeSorted } from "../lib/external-sort.ts";
import { readLines } from "../lib/lines.ts";
import { parseTarget } from "../model/address.ts";
import type { Item } from "../model/item.ts";
import { isManifestLink, LINK_ARCHIVE, parseFileLink } from "../model/link.ts";
import type { Filters } from "../model/query.ts";
import { formatAddress, parseItem, type Request, SELECTION_KIND } from "../model/selection.ts";
import { parseSelectionLine } from "../model/selection-line.ts";
import type { Source, SourceContext } from "../sources/source.ts";
import { readSelectionHeader, type SelectionFile } from "../state/selections.ts";
import { lookupItems, resolveQueries, type SelectOptions, selectItems } from "./select.ts";

export interface AskContext {
  readonly source: (archive: string) => Promise<Source>;
  /** The configured archive that serves a host name, as manifests name it; null when none does. */
  readonly archiveOfHost: (host: string) => string | null;
  /** For UIDs that name no archive. */
  readonly defaultArchive: string;
  readonly context: SourceContext;
  readonly select: SelectOptions;
  readonly stdin: () => AsyncIterable<Uint8Array>;
  readonly warn: (sentence: string) => void;
}

export interface Ask {
  readonly request: Request;
  /** Sorted by id, each item once. */
  items(): AsyncIterable<Item>;
  /** Of a list: the addresses that it names, in its order. Null: the request says it all. */
  addresses: (() => AsyncIterable<string>) | null;
}

type Ref = { readonly archive: string; readonly path: readonly string[] };

/** What was typed: ADDRESS PATH…, or a file with a ready selection. Throws `usage`, `bad-selection`, `unknown-name` … */
export async function readAsk(
  words: readonly string[],
  filters: Filters,
  options: { readonly skipBad: boolean },
  ask: AskContext,
): Promise<Ask> {
  const target = parseTarget(words);
  if (target.kind === "archive") return readPathsAsk(target.archive, target.paths, filters, ask);
  if (target.kind === "link") return readLinkAsk([target.text, ...target.more], filters, ask);
  if (target.kind === "stdin") {
    return readListAsk(await spool(ask.stdin(), ask), "standard input", filters, options, ask);
  }
  const { path } = target;
  const facts = await stat(path).catch(() => null);
  // A pipe, as from `<(grep …)`, can be read once, and a selection is read several times.
  const once = facts !== null && !facts.isFile() && !facts.isDirectory();
  const file = once ? await spool(createReadStream(path), ask) : path;
  return readListAsk(file, basename(path), filters, options, ask);
}

async function readPathsAsk(
  archive: string,
  wanted: readonly (readonly string[])[],
  filters: Filters,
  ask: AskContext,
): Promise<Ask> {
  const source = await ask.source(archive);
  const queries = await resolveQueries(source, wanted, filters, ask.context);
  const resolved = queries[0]?.filters ?? filters;
  const paths = [...new Map(queries.map((query) => [query.path.join("\u0000"), query.path])).entries()]
    .sort(([a], [b]) => compareKeys(a, b))
    .map(([, path]) => path);
  return {
    request: { kind: "paths", archive, paths, filters: resolved },
    addresses: null,
    items: () =>
      selectItems(
        source,
        paths.map((path) => ({ path, filters: resolved })),
        ask.select,
        ask.context,
      ),
  };
}

/** One or several links to plain files. */
async function readLinkAsk(links: readonly string[], filters: Filters, ask: AskContext): Promise<Ask> {
  if (links.some(isManifestLink)) {
    throw new RunError("usage", "a manifest is not read from its link by this version", {
      hint: "save it with curl -O LINK, then name the file",
    });
  }
  return readPathsAsk(
    LINK_ARCHIVE,
    links.map((link) => [parseFileLink(link)]),
    filters,
    ask,
  );
}

/** What a selection of the folder asked for, asked again. */
export function repeatAsk(selection: SelectionFile, ask: AskContext): Ask {
  async function* addresses(): AsyncGenerator<string> {
    let first = true;
    for await (const { text } of readLines(selection.path)) {
      if (!first && text !== "") yield parseItem(text).address;
      first = false;
    }
  }
  return askAgain(selection.header.request, addresses, ask);
}

/** A request asked again; `addresses`: what it names, if it is a list. */
export function askAgain(request: Request, addresses: () => AsyncIterable<string>, ask: AskContext): Ask {
  if (request.kind === "list") {
    async function* refs(): AsyncGenerator<Ref> {
      for await (const address of addresses()) yield refOfAddress(address);
    }
    return { request, addresses, items: () => lookUp(refs, request.filters, ask) };
  }
  async function* items(
    archive: string,
    paths: readonly (readonly string[])[],
    filters: Filters,
  ): AsyncGenerator<Item> {
    const source = await ask.source(archive);
    yield* selectItems(
      source,
      paths.map((path) => ({ path, filters })),
      ask.select,
      ask.context,
    );
  }
  return {
    request,
    addresses: null,
    items: () => items(request.archive, request.paths, request.filters),
  };
}

function refOfAddress(address: string): Ref {
  const target = parseTarget([address]);
  if (target.kind === "link") return { archive: LINK_ARCHIVE, path: [parseFileLink(target.text)] };
  if (target.kind !== "archive")
    throw new RunError("bad-selection", `${JSON.stringify(address)} is no address in an archive`);
  return { archive: target.archive, path: target.paths[0] ?? [] };
}

const LATER: Readonly<Record<string, string>> = {
  ".csv": "tables",
  ".tsv": "tables",
  ".xlsx": "spreadsheets",
  ".json": "Croissant files",
  ".s5cmd": "s5cmd manifests",
};
const SHOWN_BAD_LINES = 5;

async function readListAsk(
  path: string,
  name: string,
  filters: Filters,
  options: { readonly skipBad: boolean },
  ask: AskContext,
): Promise<Ask> {
  const facts = await stat(path).catch(() => null);
  if (facts === null) {
    throw new RunError("usage", `there is no file ${JSON.stringify(path)}`, {
      hint: "an archive's name ends in a colon, for example tcia:; a selection is a file",
    });
  }
  if (facts.isDirectory()) throw new RunError("usage", `${path} is a folder, not a selection file`);
  const later = LATER[extname(path).toLowerCase()];
  if (later !== undefined)
    throw new RunError("usage", `${name}: ${later} are not read as selections by this version yet`, {
      hint: "give a .tcia manifest, or a text file with one UID or address a line",
    });
  const own = await isOwn(path);
  if (own) await readSelectionHeader(path);

  const hash = createHash("sha256");
  const bad: string[] = [];
  let badLines = 0;
  let count = 0;
  let repeated = 0;
  const seen = new RepeatCounter();
  for await (const line of readRefs(path, own, ask)) {
    if ("reason" in line) {
      badLines += 1;
      if (bad.length < SHOWN_BAD_LINES) bad.push(`${name}:${line.number}: ${line.reason}`);
      continue;
    }
    count += 1;
    const key = `${line.ref.archive}:${line.ref.path.join("/")}`;
    if (seen.has(key)) repeated += 1;
    hash.update(`${key}\n`);
  }
  const more = badLines > bad.length ? `\n  and ${badLines - bad.length} more` : "";
  if (badLines > 0 && !options.skipBad) {
    throw new RunError(
      "bad-selection",
      `${name} has ${badLines === 1 ? "a line" : `${badLines} lines`} that can't be used:\n  ${bad.join("\n  ")}${more}`,
    );
  }
  for (const sentence of bad) ask.warn(`left out: ${sentence}`);
  if (more) ask.warn(more.trim());
  if (repeated > 0) ask.warn(`${name}: ${repeated} lines repeat an earlier one; each item is fetched once`);
  if (count === 0)
    throw new RunError("bad-selection", `${name} names nothing to fetch`, {
      hint: "a selection has one UID or address a line",
    });
  async function* refs(): AsyncGenerator<Ref> {
    for await (const line of readRefs(path, own, ask)) if ("ref" in line) yield line.ref;
  }
  async function* addresses(): AsyncGenerator<string> {
    for await (const ref of refs()) yield formatAddress(ref.archive, ref.path);
  }
  return {
    request: { kind: "list", name, digest: hash.digest("hex"), filters },
    addresses,
    items: () => lookUp(refs, filters, ask),
  };
}

type ReadRef = { readonly ref: Ref } | { readonly number: number; readonly reason: string };

async function* readRefs(path: string, own: boolean, ask: AskContext): AsyncGenerator<ReadRef> {
  let archive = ask.defaultArchive;
  for await (const { text, number } of readLines(path)) {
    if (own) {
      if (number > 1 && text !== "") yield readItemRef(text, number);
      continue;
    }
    const line = parseSelectionLine(text);
    if (line.kind === "ref") yield { ref: { archive: line.archive ?? archive, path: line.path } };
    else if (line.kind === "bad")
      yield { number, reason: `${line.reason} (${JSON.stringify(text.slice(0, 60))})` };
    else if (line.kind === "header" && line.key === "downloadserverurl") {
      const host = URL.canParse(line.value) ? new URL(line.value).host : "";
      const found = ask.archiveOfHost(host);
      if (found === null)
        yield { number, reason: `no configured archive is at ${JSON.stringify(line.value)}` };
      else archive = found;
    } else if (line.kind === "header" && line.key === "datatype" && !/^dicom$/iu.test(line.value)) {
      yield {
        number,
        reason: `data of type ${JSON.stringify(line.value)} is not DICOM, which this version can't fetch`,
      };
    }
  }
}

function readItemRef(text: string, number: number): ReadRef {
  try {
    return { ref: refOfAddress(parseItem(text).address) };
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    return { number, reason: error.message };
  }
}

async function isOwn(path: string): Promise<boolean> {
  for await (const { text } of readLines(path)) return text.startsWith(`{"kind":"${SELECTION_KIND}"`);
  return false;
}

async function* lookUp(
  refs: () => AsyncIterable<Ref>,
  filters: Filters,
  ask: AskContext,
): AsyncGenerator<Item> {
  const archives = new Set<string>();
  for await (const { archive } of refs()) archives.add(archive);
  const streams: AsyncIterable<Item>[] = [];
  for (const archive of [...archives].sort()) {
    const source = await ask.source(archive);
    async function* paths(): AsyncGenerator<readonly string[]> {
      for await (const ref of refs()) if (ref.archive === archive) yield ref.path;
    }
    streams.push(lookupItems(source, paths(), filters, ask.select, ask.context));
  }
  const merged = mergeSorted(streams, (a, b) => compareKeys(a.id, b.id));
  for await (const group of groupSorted(merged, (item) => item.id)) {
    yield group.items.find((item) => !item.unknown) ?? group.items[0];
  }
}

async function spool(from: AsyncIterable<Uint8Array>, ask: AskContext): Promise<string> {
  const path = join(await ask.select.folder(), "standard-input");
  await pipeline(from, createWriteStream(path), { signal: ask.context.signal });
  return path;
}

/** Counts repetitions among the first 200,000 distinct keys; enough to tell the user, in bounded memory. */
class RepeatCounter {
  readonly #hashes = new Set<number>();

  has(key: string): boolean {
    // 48 bits of a hash: a false alarm changes a warning's number, nothing else.
    const hash = createHash("md5").update(key).digest().readUIntBE(0, 6);
    if (this.#hashes.has(hash)) return true;
    if (this.#hashes.size < 200_000) this.#hashes.add(hash);
    return false;
  }
}
