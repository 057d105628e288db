/**
 * From what a user typed, or asked for before, to items: an ask knows its request and how to list it now.
 */
import { randomUUID } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { RunError } from "../errors.ts";
import { compareKeys, groupSorted, mergeSorted } from "../lib/external-sort.ts";
import { readLines } from "../lib/lines.ts";
import { redactUrl } from "../lib/redact.ts";
import { noPaths, parsePathWord, parseTarget } from "../model/address.ts";
import type { Item } from "../model/item.ts";
import { isManifestLink, LINK_ARCHIVE, parseFileLink } from "../model/link.ts";
import type { Filters } from "../model/query.ts";
import { formatAddress, parseItem, type Request } from "../model/selection.ts";
import { readSite, type Site } from "../model/site.ts";
import type { Archives, Ref } from "../selections/found.ts";
import { checkSelectionFile, readSelection, type SelectionPlace } from "../selections/read.ts";
import type { Source, SourceContext } from "../sources/source.ts";
import type { SelectionFile } from "../state/selections.ts";
import { lookupItems, resolveQueries, type SelectOptions, selectItems } from "./select.ts";

export interface AskContext {
  readonly source: (archive: string) => Promise<Source>;
  /** The links that open archives which no configuration names, by the archive's name: each is a secret. */
  readonly links: Map<string, string>;
  /** What selection files have to know of the configured archives. */
  readonly archives: Archives;
  /** Writes the selection that is at a URL to a file. */
  readonly fetchSelection: (url: URL, path: string, context: SourceContext) => Promise<void>;
  readonly context: SourceContext;
  readonly select: SelectOptions;
  readonly stdin: () => AsyncIterable<Uint8Array>;
  readonly warn: (sentence: string) => void;
}

export interface Ask {
  readonly request: Request;
  /** Sorted by id, each item once. */
  items(): AsyncIterable<Item>;
  /** The links that open archives which it names, by archive: to be kept with it. */
  readonly links?: ReadonlyMap<string, string>;
  /** Of a list: the addresses that it names, in its order. Null: the request says it all. */
  addresses: (() => AsyncIterable<string>) | null;
}

/** What the words of a command line name, as far as it can be said without asking an archive. */
export type Opened =
  /** Places in an archive; at least one. */
  | { readonly kind: "places"; readonly archive: string; readonly paths: readonly (readonly string[])[] }
  /** Links of plain files, or one of a manifest. */
  | { readonly kind: "links"; readonly links: readonly string[] }
  /** A ready selection; `name` is what its request is called. */
  | { readonly kind: "list"; readonly place: SelectionPlace; readonly name: string };

/** What was typed: ADDRESS PATH…, or a file with a ready selection. Throws `usage`, `bad-selection`, `unknown-name` … */
export async function readAsk(
  words: readonly string[],
  filters: Filters,
  options: { readonly skipBad: boolean },
  ask: AskContext,
): Promise<Ask> {
  return askFor(await openWords(words, ask), filters, options, ask);
}

/** Reads words; a link that is a secret is kept in `ask.links`, and only its archive's name goes on. Throws `usage`. */
export async function openWords(words: readonly string[], ask: AskContext): Promise<Opened> {
  const target = parseTarget(words);
  if (target.kind === "archive") return { ...target, kind: "places" };
  if (target.kind === "link") {
    const site = readSite(target.text);
    return site ? openSite(site, target.more, ask) : { kind: "links", links: [target.text, ...target.more] };
  }
  if (target.kind === "stdin") {
    const path = await spool(ask.stdin(), ask);
    return openFile({ path, name: "standard input", url: null, folder: null }, target.more, ask);
  }
  const { path, more } = target;
  await checkSelectionFile(path);
  // A pipe, as from `<(grep …)`, can be read once, and a selection is read several times.
  const once = !(await stat(path)).isFile();
  const name = basename(path);
  const place = once
    ? { path: await spool(createReadStream(path), ask), name, url: null, folder: null }
    : { path, name, url: null, folder: dirname(path) };
  return openFile(place, more, ask);
}

/** A selection, or a file whose only line is the link of a package or a site. */
async function openFile(place: SelectionPlace, more: readonly string[], ask: AskContext): Promise<Opened> {
  const only = await onlyLine(place.path);
  const site = only?.includes("://") ? readSite(only) : null;
  if (site) return openSite(site, more, ask);
  if (more.length > 0) throw noPaths(more[0] as string);
  return { kind: "list", place, name: place.name };
}

/** The line of a file that has one, blank ones aside; else null. */
async function onlyLine(path: string): Promise<string | null> {
  let text = "";
  for await (const chunk of createReadStream(path, { encoding: "utf8", end: 64 * 1024 })) text += chunk;
  const [line = null, ...more] = text.replace(/^\uFEFF/u, "").match(/[^\r\n]*\S[^\r\n]*/gu) ?? [];
  return more.length > 0 ? null : (line?.trim() ?? null);
}

function openSite({ archive, path, bearer }: Site, more: readonly string[], ask: AskContext): Opened {
  if (bearer !== null) ask.links.set(archive, bearer);
  // In a package paths are shown, and often written, with a slash before them.
  const paths = more.map((word) => [...path, ...parsePathWord(word.replace(/^\/(?=.)/u, ""))]);
  return { kind: "places", archive, paths: paths.length === 0 ? [path] : paths };
}

/** What was opened, as it can be listed and asked again. */
export function askFor(
  opened: Opened,
  filters: Filters,
  options: { readonly skipBad: boolean },
  ask: AskContext,
): Promise<Ask> {
  switch (opened.kind) {
    case "places":
      return readPathsAsk(opened.archive, opened.paths, filters, ask);
    case "links":
      return readLinkAsk(opened.links, filters, options, ask);
    case "list":
      return readListAsk(opened.place, opened.name, filters, options, ask);
  }
}

/** A manifest at a link. */
async function fetchListAsk(
  link: string,
  filters: Filters,
  options: { readonly skipBad: boolean },
  ask: AskContext,
): Promise<Ask> {
  const url = new URL(link);
  url.hash = "";
  const path = join(await ask.select.folder(), `selection-${randomUUID()}`);
  await ask.fetchSelection(url, path, ask.context);
  const place = { path, name: redactUrl(url), url, folder: null };
  return readListAsk(place, basename(url.pathname), filters, options, ask);
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
  const link = ask.links.get(archive);
  return {
    request: { kind: "paths", archive, paths, filters: resolved },
    ...(link === undefined ? {} : { links: new Map([[archive, link]]) }),
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

/** One link to a manifest, one or several to plain files. */
async function readLinkAsk(
  links: readonly string[],
  filters: Filters,
  options: { readonly skipBad: boolean },
  ask: AskContext,
): Promise<Ask> {
  const [manifest] = links.filter(isManifestLink);
  if (manifest !== undefined && links.length === 1) return fetchListAsk(manifest, filters, options, ask);
  if (manifest !== undefined) {
    throw new RunError("usage", "a link to a manifest is asked for alone", {
      hint: "several of them stand in a text file, a link each line",
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
  if (target.kind === "link") {
    const site = readSite(target.text);
    return site ?? { archive: LINK_ARCHIVE, path: [parseFileLink(target.text)] };
  }
  if (target.kind !== "archive")
    throw new RunError("bad-selection", `${JSON.stringify(address)} is no address in an archive`);
  return { archive: target.archive, path: target.paths[0] ?? [] };
}

/** `name` is what the request is called from now on. Throws `bad-selection`, and what reading throws. */
async function readListAsk(
  place: SelectionPlace,
  name: string,
  filters: Filters,
  options: { readonly skipBad: boolean },
  ask: AskContext,
): Promise<Ask> {
  const { archives, context, select } = ask;
  const links = new Map<string, string>();
  const opens = (archive: string, link: string): void => {
    links.set(archive, link);
    ask.links.set(archive, link);
  };
  const read = await readSelection(place, {
    archives: { ...archives, opens },
    temporary: select.folder,
    fetch: (url, path) => ask.fetchSelection(url, path, context),
    signal: context.signal,
  });
  const { bad, badCount, count, repeated } = read;
  const more = badCount > bad.length ? `and ${badCount - bad.length} more` : null;
  if (badCount > 0 && !options.skipBad) {
    const lines = badCount === 1 ? "a line" : `${badCount} lines`;
    throw new RunError(
      "bad-selection",
      [`${place.name} has ${lines} that can't be used:`, ...bad, ...(more ? [more] : [])].join("\n  "),
    );
  }
  for (const sentence of bad) ask.warn(`left out: ${sentence}`);
  if (more) ask.warn(`left out: ${more}`);
  if (repeated > 0)
    ask.warn(`${place.name}: ${repeated} lines repeat an earlier one; each item is fetched once`);
  if (count === 0)
    throw new RunError("bad-selection", `${place.name} names nothing to fetch`, {
      hint: "a selection has one UID or address a line, or a column of them",
    });
  async function* addresses(): AsyncGenerator<string> {
    for await (const ref of read.refs()) yield formatAddress(ref.archive, ref.path);
  }
  return {
    request: { kind: "list", name, digest: read.digest, filters },
    links,
    addresses,
    items: () => lookUp(read.refs, filters, ask),
  };
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
  const path = join(await ask.select.folder(), `spooled-${randomUUID()}`);
  await pipeline(from, createWriteStream(path), { signal: ask.context.signal });
  return path;
}
