/** The plan of a run: its selections beside what receipts and the disk say, told, and refused if it can't fit. */
import { stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { RunError } from "../errors.ts";
import { readQuota } from "../lib/quota.ts";
import type { Item } from "../model/item.ts";
import type { ForeignFiles, Layout, Source } from "../sources/source.ts";
import { readDropRules } from "../state/dropped.ts";
import { readRuns } from "../state/runs.ts";
import { readExpected, type SelectionFile } from "../state/selections.ts";
import { readFreeSpace, type StateFolder } from "../state/state-folder.ts";
import { isOnDroppedBranch } from "./drop-selector.ts";
import type { FolderRun, Ground } from "./folder-run.ts";
import { countInodes, measuredRate, refuseSpace } from "./forecast.ts";
import { askFreshness } from "./freshness.ts";
import { readCompanions } from "./held.ts";
import { folderLayoutOf } from "./layout.ts";
import { buildPlan, type Plan } from "./planning.ts";
import type { GetOptions } from "./run-options.ts";

export interface RunPlan {
  readonly plan: Plan;
  /** Of the archives that it is for. */
  readonly sources: readonly Source[];
  readonly foreign: readonly ForeignFiles[];
}

/** Tells `planned`. Throws `usage` for wishes that no archive of it can fulfil, `disk-…` for what cannot fit. */
export async function planRun(
  run: FolderRun,
  { state, layout, store, receipts }: Ground,
  selections: readonly SelectionFile[],
): Promise<RunPlan> {
  const { dir, options, environment, report } = run;
  async function* expected(): AsyncGenerator<Item> {
    for await (const { item } of readExpected(selections)) yield item;
  }
  async function* known(): AsyncGenerator<string> {
    if (state) yield* await readCompanions(state);
  }
  const sources = new Map<string, { source: Source; layout: Layout }>();
  for (const archive of await archivesOf(selections, expected)) {
    const source = await environment.source(archive);
    sources.set(archive, { source, layout: folderLayoutOf(layout, source.capabilities) });
  }
  const all = [...sources.values()].map(({ source }) => source);
  checkWishes(run, all);
  const loose = store === null ? options.pack === undefined : store.loose;
  // What other tools left are loose files.
  const foreign = loose ? foreignOf(all) : [];
  const of = (item: Item) => sources.get(item.archive) as { source: Source; layout: Layout };
  const rules = state ? await readDropRules(state) : null;
  const plan = await buildPlan({
    dir,
    store,
    expected,
    states: run.states(state),
    known,
    // What is made from an original is shown in its place; an archive file holds the data as they came.
    layout: loose
      ? (item) => of(item).layout(item)
      : (item) => ({ ...of(item).layout(item), original: false }),
    foreign,
    published: run.published,
    isPlaced: (item) => loose && of(item).source.placed !== undefined,
    recheck: options.recheck ?? false,
    isDropped:
      rules && !rules.isEmpty ? (item) => isOnDroppedBranch(item, of(item).source.capabilities, rules) : null,
    // What an array made is judged by what was planned.
    isCurrent:
      options.array?.part === "finish"
        ? async () => true
        : askFreshness((item) => of(item).source, run.sourceContext()),
    temporary: run.temporary.folder,
    signal: run.context.signal,
    append: receipts ? (body) => receipts.append(body) : null,
    now: () => run.context.clock.now(),
    on: {
      item: (item) => {
        if (!item.unknown) report.cite(of(item).source.cite(item.labels));
      },
      unknown: (item) =>
        report.fail(item, new RunError("access-item", `${item.archive} does not show this item`)),
      withdrawn: (item) => report.withdrawn(item),
      dropped: (_item, here) => {
        if (here)
          report.warn(
            "the archive says now that data here are of a subject that was dropped; drop it again to delete them",
          );
      },
      damaged: (item, path, what) => report.emit({ type: "item-damaged", item: item.id, path, what }),
      moved: (item, from, to) => report.emit({ type: "item-moved", item: item.id, from, to }),
      warn: (sentence) => report.warn(sentence),
    },
  });
  report.dropped = plan.dropped;
  const place = await nearestFolder(dir);
  const [free, quota] = [await readFreeSpace(place), await readQuota(place)];
  const rate = await foreseenRate(run, state);
  await report.emit({
    type: "planned",
    wanted: { ...plan.wanted },
    fetch: { ...plan.fetch },
    here: { ...plan.here },
    found: { ...plan.found },
    unknown: plan.unknown,
    withdrawn: report.withdrawnItems,
    dropped: plan.dropped,
    freeBytes: free.bytes,
    freeInodes: free.inodes,
    quotaBytes: quota.bytes,
    quotaInodes: quota.inodes,
    inodes: countInodes(plan.fetch, options.shardBytes ?? null),
    ...rate,
    seconds:
      rate.bytesPerSecond === null || plan.fetch.unsized > 0
        ? null
        : Math.ceil(plan.fetch.bytes / rate.bytesPerSecond),
    licences: report.citations,
  });
  const { fetch, largestBytes } = plan;
  const refusal = refuseSpace({
    ...{ fetch, largestBytes, free, quota },
    scratch: await scratchSpace(options),
    sink: state?.facts?.sink ?? options.pack ?? "folder",
    shardBytes: options.shardBytes ?? null,
    dir: store === null || plan.here.items === 0 ? null : dir,
  });
  if (refusal && receipts === null) report.warn(`${refusal.message}; ${refusal.hint}`);
  else if (refusal) {
    await plan.close();
    throw refusal;
  }
  return { plan, sources: all, foreign };
}

/** How fast data will come, and how that is known. */
async function foreseenRate(
  { environment }: FolderRun,
  state: StateFolder | null,
): Promise<{ bytesPerSecond: number | null; rateFrom: "runs" | "bandwidth" | null }> {
  const runs = state === null ? [] : await readRuns(state);
  const measured = measuredRate(runs.flatMap(({ transferred }) => transferred ?? []));
  const most = environment.bandwidthBytesPerSecond ?? null;
  if (measured !== null && (most === null || measured <= most))
    return { bytesPerSecond: measured, rateFrom: "runs" };
  return { bytesPerSecond: most, rateFrom: most === null ? null : "bandwidth" };
}

/** Bytes free where `--scratch` is; null without it. */
export async function scratchSpace({ scratch }: Pick<GetOptions, "scratch">): Promise<number | null> {
  if (scratch === undefined) return null;
  return (await readFreeSpace(await nearestFolder(resolve(scratch)))).bytes;
}

/** Throws `usage` for what none of these archives can do. */
export function checkWishes({ options, published: list }: FolderRun, sources: readonly Source[]): void {
  const { extras = [], withReferences } = options;
  for (const { archive, capabilities } of sources) {
    if (list === null || list.algorithm === capabilities.digest) continue;
    throw new RunError(
      "usage",
      `${list.name} is a list of ${list.algorithm}, and files of ${archive} are known by ${capabilities.digest}`,
      {
        hint: "leave out --checksums, and check afterwards: gantry verify DIR --sums FILE",
      },
    );
  }
  const names = sources.map(({ archive }) => archive).join(", ");
  const refuse = (what: string): never => {
    throw new RunError("usage", `${names} has no ${what}`, {
      hint: "leave the option out: it is for archives that serve BIDS trees",
    });
  };
  for (const extra of extras)
    if (!sources.some(({ capabilities }) => capabilities.extras?.includes(extra))) refuse(`${extra} file`);
  if (withReferences && !sources.some(({ references }) => references)) refuse("data that name other data");
}

/** How the files of these archives are recognised: the same way for all archives of a kind. */
function foreignOf(sources: readonly Source[]): readonly ForeignFiles[] {
  const kinds = new Map<string, ForeignFiles>();
  for (const { kind, foreign } of sources) if (foreign) kinds.set(kind, foreign);
  return [...kinds.values()];
}

async function archivesOf(
  selections: readonly SelectionFile[],
  expected: () => AsyncIterable<Item>,
): Promise<Set<string>> {
  const archives = new Set<string>();
  let listed = false;
  for (const { header } of selections) {
    if (header.request.kind === "paths") archives.add(header.request.archive);
    else listed = true;
  }
  if (listed) for await (const item of expected()) archives.add(item.archive);
  return archives;
}

/** The folder itself, or its nearest parent that exists. */
async function nearestFolder(path: string): Promise<string> {
  for (let at = path; at !== dirname(at); at = dirname(at)) {
    if (await stat(at).catch(() => null)) return at;
  }
  return path;
}
