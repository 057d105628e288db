/** Reads and writes `.gantry/selections/`. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, rename, rm } from "node:fs/promises";
import { basename } from "node:path";
import { RunError } from "../errors.ts";
import { onDisk, syncFolder, writeAll } from "../lib/durable-file.ts";
import { compareKeys, groupSorted, mergeSorted } from "../lib/external-sort.ts";
import { readLineBatches } from "../lib/lines.ts";
import type { Item } from "../model/item.ts";
import {
  formatItem,
  lineItemId,
  parseItem,
  parseSelectionHeader,
  type Request,
  requestKey,
  SELECTION_KIND,
  SELECTION_VERSION,
  type SelectionHeader,
} from "../model/selection.ts";
import { readNames, type StateFolder } from "./state-folder.ts";

export interface SelectionFile {
  /** SHA-256 of the whole file; also its name. */
  readonly digest: string;
  readonly path: string;
  readonly header: SelectionHeader;
}

/** Every selection of the folder, whether replaced or not, sorted by digest. Throws `folder-newer`, `disk-…`. */
export async function readSelections(state: StateFolder): Promise<SelectionFile[]> {
  const found: SelectionFile[] = [];
  for (const name of await readNames(state.path("selections"))) {
    if (!name.endsWith(".jsonl")) continue;
    const path = state.path("selections", name);
    found.push({ digest: basename(name, ".jsonl"), path, header: await readSelectionHeader(path) });
  }
  return found;
}

export async function readSelectionHeader(path: string): Promise<SelectionHeader> {
  for await (const batch of readLineBatches(path)) return parseSelectionHeader(batch.texts[0] ?? "", path);
  return parseSelectionHeader("", path);
}

/**
 * Hashes every file, about a second for each gigabyte: before anything is decided from them, not for a glance.
 * Throws `bad-selection` for one whose content does not fit its name, so that it was changed or damaged.
 */
export async function proveSelections(
  selections: readonly SelectionFile[],
  signal?: AbortSignal,
): Promise<void> {
  for (const { digest, path } of selections) {
    const hash = createHash("sha256");
    await onDisk({ operation: "read", path }, async () => {
      const chunks: AsyncIterable<Buffer> = createReadStream(path, { highWaterMark: 1 << 20 });
      for await (const chunk of chunks) {
        signal?.throwIfAborted();
        hash.update(chunk);
      }
    });
    if (hash.digest("hex") === digest) continue;
    throw new RunError(
      "bad-selection",
      `${path}: the content does not fit the digest in its name, so it was changed or damaged`,
      { at: { path }, hint: "move the file away, and ask again for what it named" },
    );
  }
}

/** Those that no other selection replaces: their union is what is expected in the folder. */
export function currentSelections(all: readonly SelectionFile[]): SelectionFile[] {
  const replaced = new Set(all.flatMap((selection) => selection.header.replaces));
  return all.filter((selection) => !replaced.has(selection.digest));
}

/** All selections, each after every one that replaces it: where they differ about an item, the first is right. */
export function newestFirst(all: readonly SelectionFile[]): SelectionFile[] {
  const replacers = new Map<string, number>();
  for (const { header } of all)
    for (const digest of header.replaces) replacers.set(digest, (replacers.get(digest) ?? 0) + 1);
  const byDigest = new Map(all.map((selection) => [selection.digest, selection]));
  const ready = all.filter((selection) => !replacers.has(selection.digest));
  for (const { header } of ready) {
    for (const digest of header.replaces) {
      const left = (replacers.get(digest) ?? 0) - 1;
      replacers.set(digest, left);
      const replaced = byDigest.get(digest);
      if (left === 0 && replaced) ready.push(replaced);
    }
  }
  return ready;
}

/** Item lines of a selection file, in order, header left out. Throws `bad-selection` when one is cut or foreign. */
export async function* readItemLines(path: string): AsyncGenerator<string> {
  for await (const batch of readLineBatches(path)) {
    const first = batch.firstNumber === 1 ? 1 : 0;
    for (let index = first; index < batch.texts.length; index += 1) {
      const text = batch.texts[index] as string;
      if (text === "") continue;
      if (!text.startsWith('{"id":"') || !text.endsWith("}")) {
        throw new RunError("bad-selection", `${path}:${batch.firstNumber + index}: the line is damaged`, {
          hint: "move the file away, and ask again for what it named",
        });
      }
      yield text;
    }
  }
}

export async function* readItems(path: string): AsyncGenerator<Item> {
  for await (const line of readItemLines(path)) yield parseItem(line);
}

/**
 * The union of selections, sorted by id: each item once, with every revision that some selection expects of it.
 * A selection that knows the item wins over one for which it was unknown.
 */
export async function* readExpected(
  selections: readonly SelectionFile[],
): AsyncGenerator<{ readonly item: Item; readonly revisions: readonly string[] }> {
  const merged = mergeSorted(
    selections.map((selection) => readItemLines(selection.path)),
    (a, b) => compareKeys(lineItemId(a), lineItemId(b)),
  );
  for await (const group of groupSorted(merged, lineItemId)) {
    const items = group.items.map(parseItem);
    const known = items.filter((item) => !item.unknown);
    const item = (known[0] ?? items[0]) as Item;
    yield { item, revisions: [...new Set(known.map((each) => each.revision))] };
  }
}

/**
 * Writes a selection from items sorted by id. When a current selection holds the same request and the same items,
 * nothing is written and that one is returned; otherwise the new file replaces every current one of the same
 * request (with `replaceAll`: every current one). Throws `no-match` for no items at all.
 */
export async function writeSelection(
  state: StateFolder,
  request: Request,
  items: AsyncIterable<Item>,
  options: { readonly replaceAll: boolean },
): Promise<SelectionFile> {
  const linesPath = state.path("partial", `selection-${process.pid}-${Date.now()}.lines`);
  const tempPath = `${linesPath}.jsonl`;
  try {
    const totals = await writeItemLines(linesPath, items);
    const current = currentSelections(await readSelections(state));
    const key = requestKey(request);
    const same = current.filter((each) => requestKey(each.header.request) === key);
    const others = options.replaceAll ? current : same;
    if (totals.items === 0) refuseEmpty(same);
    const twin = same.find((each) => each.header.itemsDigest === totals.itemsDigest);
    if (twin && others.length === 1) return twin;
    const header: SelectionHeader = {
      kind: SELECTION_KIND,
      version: SELECTION_VERSION,
      request,
      replaces: others.map((each) => each.digest).sort(),
      ...totals,
    };
    const digest = await writeWhole(tempPath, header, linesPath);
    const path = state.path("selections", `${digest}.jsonl`);
    await onDisk({ operation: "rename", path }, () => rename(tempPath, path));
    await syncFolder(state.path("selections"));
    return { digest, path, header };
  } finally {
    await rm(linesPath, { force: true });
    await rm(tempPath, { force: true });
  }
}

/**
 * No answer at all is never taken for the withdrawal of everything: an archive in trouble answers so, too (NBIA sends
 * 200 with an empty body).
 */
function refuseEmpty(before: readonly SelectionFile[]): never {
  if (before.some((each) => each.header.items > 0)) {
    throw new RunError("archive-reply", "the archive shows nothing of what it showed before", {
      retry: "never",
      hint: "nothing here was changed; run the same command again later",
    });
  }
  throw new RunError("no-match", "nothing in the archive matches");
}

/** Saves a selection to a file of the user's choice, in the same form. */
export async function saveSelection(
  path: string,
  request: Request,
  items: AsyncIterable<Item>,
): Promise<SelectionHeader> {
  const linesPath = `${path}.${process.pid}.lines`;
  const tempPath = `${path}.${process.pid}.part`;
  try {
    const totals = await writeItemLines(linesPath, items);
    const header: SelectionHeader = {
      kind: SELECTION_KIND,
      version: SELECTION_VERSION,
      request,
      replaces: [],
      ...totals,
    };
    await writeWhole(tempPath, header, linesPath);
    await onDisk({ operation: "rename", path }, () => rename(tempPath, path));
    return header;
  } finally {
    await rm(linesPath, { force: true });
    await rm(tempPath, { force: true });
  }
}

type Totals = Pick<SelectionHeader, "items" | "files" | "bytes" | "itemsDigest">;

async function writeItemLines(path: string, items: AsyncIterable<Item>): Promise<Totals> {
  return onDisk({ operation: "write", path }, async () => {
    const hash = createHash("sha256");
    const totals = { items: 0, files: 0, bytes: 0 };
    const file = await open(path, "w");
    try {
      let batch = "";
      const flush = async (): Promise<void> => {
        const bytes = Buffer.from(batch);
        batch = "";
        hash.update(bytes);
        await writeAll(file, bytes);
      };
      for await (const item of items) {
        batch += `${formatItem(item)}\n`;
        totals.items += 1;
        totals.files += item.files ?? 0;
        totals.bytes += item.bytes ?? 0;
        if (batch.length > 1 << 19) await flush();
      }
      await flush();
    } finally {
      await file.close();
    }
    return { ...totals, itemsDigest: hash.digest("hex") };
  });
}

async function writeWhole(path: string, header: SelectionHeader, linesPath: string): Promise<string> {
  return onDisk({ operation: "write", path }, async () => {
    const hash = createHash("sha256");
    const file = await open(path, "w");
    try {
      const first = Buffer.from(`${JSON.stringify(header)}\n`);
      hash.update(first);
      await writeAll(file, first);
      for await (const chunk of createReadStream(linesPath, {
        highWaterMark: 1 << 20,
      }) as AsyncIterable<Buffer>) {
        hash.update(chunk);
        await writeAll(file, chunk);
      }
      await file.sync();
    } finally {
      await file.close();
    }
    return hash.digest("hex");
  });
}
