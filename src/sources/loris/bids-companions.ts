/**
 * What keeps a part of a BIDS tree valid: tables of a session that name only what is here, and on request a
 * `.bidsignore` for what the archive itself has against BIDS.
 */
import type { Companion, Extra, HeldItem } from "../source.ts";
import { bytesOf, type Deviation, findDeviations, NAMES } from "./bids-deviations.ts";

export async function* bidsCompanions(
  held: () => AsyncIterable<HeldItem>,
  extras: ReadonlySet<Extra>,
): AsyncGenerator<Companion> {
  const ignoring = extras.has("bidsignore");
  const stimuli = ignoring ? await studyPaths(held) : new Set<string>();
  const patterns = NAMES.map(({ pattern }) => pattern);
  for await (const session of sessionsOf(held())) {
    const paths = new Set(session.flatMap((each) => each.paths));
    const isHere = (path: string): boolean => paths.has(path) || stimuli.has(path);
    const deviations = ignoring ? await findDeviations(session, isHere) : [];
    patterns.push(...deviations.map(({ pattern }) => pattern));
    const ignored = ignoring ? [...NAMES, ...deviations] : [];
    for (const table of session) {
      if (!table.original) continue;
      yield {
        path: String(table.item.labels.Path).split("/"),
        content: prunedTable(table, paths, ignored),
        keep: false,
      };
    }
  }
  if (ignoring) yield { path: [".bidsignore"], content: lines(patterns), keep: true };
}

/** Items of one session follow one another, because their ids begin with its path. */
async function* sessionsOf(held: AsyncIterable<HeldItem>): AsyncGenerator<readonly HeldItem[]> {
  let key = "";
  let session: HeldItem[] = [];
  for await (const each of held) {
    const { Type, Project, Candidate, Visit } = each.item.labels;
    if (Type !== "bids" || Candidate == null || Visit == null) continue;
    const own = JSON.stringify([each.item.archive, Project, Candidate, Visit]);
    if (own !== key && session.length > 0) {
      yield session;
      session = [];
    }
    key = own;
    session.push(each);
  }
  if (session.length > 0) yield session;
}

/** Paths of files that belong to no candidate, e.g. stimuli. */
async function studyPaths(held: () => AsyncIterable<HeldItem>): Promise<Set<string>> {
  const found = new Set<string>();
  for await (const { item, paths } of held())
    if (item.labels.Candidate == null) for (const path of paths) found.add(path);
  return found;
}

/**
 * The rows whose `filename`, relative to the table's folder, is here and not ignored; all others byte for byte as the
 * archive has them. A table without such a column stays as it is.
 */
async function* prunedTable(
  table: HeldItem,
  paths: ReadonlySet<string>,
  ignored: readonly Deviation[],
): AsyncGenerator<Uint8Array> {
  const bytes = await bytesOf(table);
  const shown = table.paths[0] ?? "";
  const folder = shown.slice(0, shown.lastIndexOf("/") + 1);
  // As Latin-1 every byte is one character, so that what is kept comes out unchanged.
  const rows = bytes.toString("latin1").split(/(?<=\n)/u);
  const column = (rows[0] ?? "")
    .replace(/^\xef\xbb\xbf/u, "")
    .trimEnd()
    .split("\t")
    .indexOf("filename");
  for (const [index, row] of rows.entries()) {
    const cell = row.replace(/\r?\n$/u, "").split("\t")[column] ?? "";
    const path = folder + Buffer.from(cell, "latin1").toString("utf8");
    const kept =
      index === 0 ||
      column < 0 ||
      row.trim() === "" ||
      (paths.has(path) && !ignored.some(({ covers }) => covers(path)));
    if (kept) yield Buffer.from(row, "latin1");
  }
}

async function* lines(patterns: readonly string[]): AsyncGenerator<string> {
  yield "# What this archive's BIDS export has against BIDS (gantry get --bidsignore).\n";
  for (const pattern of patterns) yield `${pattern}\n`;
}
