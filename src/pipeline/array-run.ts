/** The runs of a get that many processes share: the one that divides its plan, its tasks, and its end. */
import { RunError } from "../errors.ts";
import { describeRequest } from "../model/selection.ts";
import {
  type ArrayRecord,
  closeArray,
  FINISHING,
  openArray,
  writeArray,
  writeArrayReport,
} from "../state/arrays.ts";
import { readSlices } from "../state/lease-folder.ts";
import { loadLinks } from "../state/private-links.ts";
import { awaitSign, livesHere, readRuns, type SeenRun } from "../state/runs.ts";
import { proveSelections, readSelections, type SelectionFile } from "../state/selections.ts";
import { openStateFolder, type StateFolder } from "../state/state-folder.ts";
import { Share, stopPredecessors } from "./array.ts";
import type { FolderRun, Opened, Work } from "./folder-run.ts";
import { refuseScratch } from "./forecast.ts";
import type { ArrayPart } from "./run-options.ts";
import { scratchSpace } from "./run-plan.ts";

/** The plan as slices for the tasks of an array. */
export async function divide(
  run: FolderRun,
  opened: Opened,
  selections: readonly SelectionFile[],
  { tasks, job }: Extract<ArrayPart, { part: "plan" }>,
): Promise<void> {
  const { report } = run;
  const plan = await run.plan(opened, selections);
  report.here = { ...plan.here };
  async function* lines(): AsyncGenerator<string> {
    for await (const task of plan.tasks()) yield JSON.stringify(task);
  }
  const { array, items, bytes, slices } = await writeArray(
    opened.state,
    {
      array: report.run,
      plannedAt: run.context.clock.now().toISOString(),
      tasks,
      requests: selections.map(({ header }) => describeRequest(header.request)),
      selections: selections.map(({ digest }) => digest),
      files: plan.fetch.files,
      bytes: plan.fetch.bytes,
      largestBytes: plan.largestBytes,
      here: plan.here.items,
      unknown: plan.unknown,
      job,
    },
    { items: plan.todo, lines: lines() },
  );
  await plan.close();
  await report.emit({ type: "divided", array, slices: slices.length, items, bytes });
  report.promisedItems = items;
}

/** One task of an array, or its end. */
export async function work(run: FolderRun, part: Exclude<ArrayPart, { part: "plan" }>): Promise<void> {
  const { dir, report } = run;
  const state = await openStateFolder(dir);
  if (!state) throw new RunError("folder-unknown", `${dir} holds no state of gantry`);
  const { array } = part;
  const record = await openArray(state, array);
  const task = part.part === "task" ? part.task : FINISHING;
  await loadLinks(state, run.environment.links);
  const opened = await run.begin(state, state.facts?.layout ?? "", { array, task });
  const { handle, receipts, unfinished } = opened;
  let whole = false;
  try {
    handle.update({ requests: record.requests });
    await stopPredecessors(state, { array, run: report.run, task });
    await report.emit({ type: "run-started", run: report.run, dir, requests: record.requests });
    // Each node has a scratch disk of its own.
    const refusal = refuseScratch(record.largestBytes, await scratchSpace(run.options));
    if (refusal) throw refusal;
    const { partial } = unfinished;
    const share = new Share({
      state,
      record,
      run: report.run,
      task,
      temporary: partial,
      context: run.context,
    });
    const work: Work = {
      tasks: share.tasks(),
      total: share.taken,
      holds: (item) => share.holds(item),
      before: (item) => share.before(item),
      onEvent: (event) => share.event(event),
    };
    await run.transfer(work, opened);
    run.context.signal.throwIfAborted();
    report.here = { ...share.here };
    if (part.part === "finish") {
      await finish(run, opened, record, share);
      whole = report.failedItems === 0;
    }
  } finally {
    await receipts.close();
    await unfinished.remove({ whole });
  }
}

/** Whether none of these runs may be at work any more. Of those on other hosts that did not end a sign of life is waited for. */
async function isAlone(
  { context }: FolderRun,
  state: StateFolder,
  runs: readonly SeenRun[],
): Promise<boolean> {
  const open = runs.filter((each) => each.exit === null && livesHere(each) !== false);
  if (open.some((each) => livesHere(each) === true)) return false;
  const signs = await Promise.all(open.map((each) => awaitSign(state, each, context)));
  return !signs.includes("lives");
}

/**
 * The end of an array: what its selections expect is compared with the receipts of all tasks and the disk, what could
 * not be had or is not here is told as failed, the derived files are made, and the array is closed.
 */
async function finish(run: FolderRun, opened: Opened, record: ArrayRecord, share: Share): Promise<void> {
  const { report } = run;
  const { state, store, handle } = opened;
  const { array } = record;
  handle.update({ state: "finishing" });
  const selections = (await readSelections(state)).filter(({ digest }) => record.selections.includes(digest));
  await proveSelections(selections, run.context.signal);
  const runs = (await readRuns(state)).filter((each) => each.array === array && each.run !== report.run);
  const alone = await isAlone(run, state, runs);
  if (alone && (await store.isUnsettled())) await run.settle(opened, { publish: true });
  const plan = await run.plan(opened, selections);
  // What this run itself stored is told as stored, and not once more as here.
  const { items, files, bytes } = share.stored;
  report.here = {
    items: plan.here.items - items,
    files: plan.here.files - files,
    bytes: plan.here.bytes - bytes,
  };
  const { done, taken } = await readSlices(state, array);
  const causes = new Map(
    [...done.values()].flatMap(({ failures }) => failures.map((each) => [each.item, each])),
  );
  try {
    for await (const { item } of plan.tasks()) {
      const { code, message, hint } = causes.get(item.id) ?? {
        code: "array-incomplete",
        message: "no task of the array stored it",
      };
      await report.fail(item, new RunError(code, message, hint === undefined ? {} : { hint }));
    }
  } finally {
    await plan.close();
  }
  await run.complete(opened, selections, { news: true });
  if (alone) await closeArray(state, array);
  const generations = [...done.values()].map(({ generation }) => generation);
  await writeArrayReport(state, array, {
    plannedAt: record.plannedAt,
    finishedAt: run.context.clock.now().toISOString(),
    requests: record.requests,
    planned: { items: record.items, files: record.files, bytes: record.bytes },
    here: plan.here,
    failed: report.failedItems,
    slices: record.slices.length,
    // Each generation after the first is a lease that expired or was given back.
    takenOver: [...generations, ...taken.values()].reduce((sum, generation) => sum + generation - 1, 0),
    runs: runs.map(({ run, host, task, startedAt, exit, progress }) => ({
      ...{ run, host, task, startedAt, exit },
      items: progress?.doneItems ?? 0,
      bytes: progress?.doneBytes ?? 0,
    })),
  });
}
