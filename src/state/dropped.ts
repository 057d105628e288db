/**
 * `.gantry/dropped/`: what was dropped from the folder and never comes back (docs/formats/folder.md). One file a drop,
 * written whole and immutable: a header, rules, then items sorted by id. It says what is dropped without naming anybody:
 * items by their opaque ids, subjects by salted hashes. While its deletion is not finished its name ends in
 * `.pending.jsonl`.
 */
import { createHash, randomBytes } from "node:crypto";
import { rename } from "node:fs/promises";
import { ensureFolder, onDisk, syncFolder, writeFileDurably } from "../lib/durable-file.ts";
import { compareKeys, groupSorted, mergeSorted } from "../lib/external-sort.ts";
import { readLines } from "../lib/lines.ts";
import { checkHeader } from "../model/receipt.ts";
import { readNames, type StateFolder } from "./state-folder.ts";

const DROPPED_KIND = "gantry-dropped";
const DROPPED_VERSION = 1;
const PENDING = ".pending.jsonl";

/** A branch of an archive's tree, e.g. level `patient`, path `["LCTSC", "LCTSC-Test-S1-101"]`. */
export interface Branch {
  readonly level: string;
  /** Null for a branch that has one name everywhere (a UID). */
  readonly archive: string | null;
  readonly path: readonly string[];
}

export interface DroppedItem {
  readonly item: string;
  /** Name of the configured archive that served it. */
  readonly archive: string;
}

/** The branches that were dropped, known by their hashes alone. */
export class DropRules {
  /** Levels of the rules: others need no look. */
  readonly levels: ReadonlySet<string>;
  readonly #hashes: ReadonlyMap<string, ReadonlySet<string>>;

  /** `hashes`: salt to hashes. */
  constructor(levels: ReadonlySet<string>, hashes: ReadonlyMap<string, ReadonlySet<string>>) {
    this.levels = levels;
    this.#hashes = hashes;
  }

  get isEmpty(): boolean {
    return this.levels.size === 0;
  }

  has(branch: Branch): boolean {
    for (const [salt, known] of this.#hashes) if (known.has(hashBranch(salt, branch))) return true;
    return false;
  }
}

/** Whether anything was ever dropped. Throws `disk-…`. */
export async function hasDrops(state: StateFolder): Promise<boolean> {
  return (await readDropNames(state)).length > 0;
}

/** Whether a drop was cut before its deletion was finished. Throws `disk-…`. */
export async function hasPendingDrops(state: StateFolder): Promise<boolean> {
  return (await readDropNames(state)).some((name) => name.endsWith(PENDING));
}

/** Throws `folder-newer`, `disk-…`. */
export async function readDropRules(state: StateFolder): Promise<DropRules> {
  const levels = new Set<string>();
  const hashes = new Map<string, Set<string>>();
  for (const name of await readDropNames(state)) {
    let salt = "";
    for await (const line of readRecord(state, name)) {
      if ("salt" in line) salt = line.salt;
      else if ("rule" in line) {
        levels.add(line.level);
        hashes.set(salt, (hashes.get(salt) ?? new Set()).add(line.rule));
      } else break;
    }
  }
  return new DropRules(levels, hashes);
}

/**
 * Remembers a drop, durably, before anything is deleted. `items` sorted by id. The folder's salt is kept from its first
 * drop on. Throws `disk-…`.
 */
export async function writeDrop(
  state: StateFolder,
  run: string,
  drop: { readonly branches: Iterable<Branch>; readonly items: AsyncIterable<DroppedItem> },
): Promise<void> {
  const salt = (await readSalt(state)) ?? randomBytes(16).toString("hex");
  async function* lines(): AsyncGenerator<string> {
    yield `${JSON.stringify({ kind: DROPPED_KIND, version: DROPPED_VERSION, salt })}\n`;
    for (const branch of drop.branches)
      yield `${JSON.stringify({ rule: hashBranch(salt, branch), level: branch.level })}\n`;
    for await (const { item, archive } of drop.items) yield `${JSON.stringify({ item, archive })}\n`;
  }
  await ensureFolder(state.path("dropped"));
  await writeFileDurably(state.path("dropped", `${run}${PENDING}`), lines(), {
    temporaryIn: state.path("partial"),
  });
}

/** The items of drops whose deletion is not finished, sorted by id, each once. Throws `folder-newer`, `disk-…`. */
export async function* readPendingItems(state: StateFolder): AsyncGenerator<DroppedItem> {
  const pending = (await readDropNames(state)).filter((name) => name.endsWith(PENDING));
  async function* items(name: string): AsyncGenerator<DroppedItem> {
    for await (const line of readRecord(state, name)) if ("item" in line) yield line;
  }
  const merged = mergeSorted(pending.map(items), (a, b) => compareKeys(a.item, b.item));
  for await (const group of groupSorted(merged, ({ item }) => item)) yield group.items[0];
}

/** Says of every drop that its deletion is finished. Throws `disk-…`. */
export async function settleDrops(state: StateFolder): Promise<void> {
  for (const name of await readDropNames(state)) {
    if (!name.endsWith(PENDING)) continue;
    const path = state.path("dropped", name);
    await onDisk({ operation: "rename", path }, () =>
      rename(path, state.path("dropped", `${name.slice(0, -PENDING.length)}.jsonl`)),
    );
  }
  await syncFolder(state.path("dropped"));
}

async function readDropNames(state: StateFolder): Promise<string[]> {
  return (await readNames(state.path("dropped"))).filter((name) => name.endsWith(".jsonl"));
}

async function readSalt(state: StateFolder): Promise<string | null> {
  for (const name of await readDropNames(state))
    for await (const line of readRecord(state, name)) if ("salt" in line) return line.salt;
  return null;
}

type RecordLine = { readonly salt: string } | { readonly rule: string; readonly level: string } | DroppedItem;

async function* readRecord(state: StateFolder, name: string): AsyncGenerator<RecordLine> {
  const path = state.path("dropped", name);
  for await (const { text, number } of readLines(path)) {
    if (number === 1) yield { salt: String(checkHeader(text, DROPPED_KIND, DROPPED_VERSION, path).salt) };
    // Written whole by one rename, so that no schema is needed to trust it.
    else if (text !== "") yield JSON.parse(text) as RecordLine;
  }
}

/** Names are compared without case and in one Unicode form, as filters compare them. */
function hashBranch(salt: string, { level, archive, path }: Branch): string {
  const text = JSON.stringify([
    level,
    archive,
    path.map((name) => name.normalize("NFC").trim().toLowerCase()),
  ]);
  return createHash("sha256").update(`${salt}\n${text}`).digest("hex");
}
