import { mkdir, mkdtemp, readdir, readFile, rm, rmdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { systemClock } from "../lib/context.ts";
import { beginRun, DEAD_AFTER_MS, newRunId, type RunHandle, readLiveRuns, readLives } from "./runs.ts";
import { beginStateFolder, type StateFolder } from "./state-folder.ts";

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function folder(): Promise<StateFolder> {
  const dir = await mkdtemp(join(tmpdir(), "gantry-runs-"));
  cleanups.push(() => rm(dir, { recursive: true, force: true }));
  return beginStateFolder(dir, {}, { layout: "uid", sink: "folder" });
}

/** Time that passes only where somebody sleeps. */
function fakeClock(onSleep: () => Promise<void> = async () => undefined) {
  let nowMs = 0;
  return {
    ...systemClock,
    monotonicMs: () => nowMs,
    sleep: async (ms: number) => {
      nowMs += ms;
      await onSleep();
    },
  };
}

async function begin(
  state: StateFolder,
  clock = fakeClock(),
): Promise<{ handle: RunHandle; warned: string[]; waitedMs: number }> {
  const warned: string[] = [];
  const before = clock.monotonicMs();
  const handle = await beginRun(state, {
    ...{ run: newRunId(systemClock), clock, detached: false },
    warn: (sentence) => warned.push(sentence),
    signal: new AbortController().signal,
  });
  cleanups.push(() => handle.finish(0));
  return { handle, warned, waitedMs: clock.monotonicMs() - before };
}

/** As a process on another machine writes it. */
async function writeElsewhere(state: StateFolder, handle: RunHandle, beat: number): Promise<void> {
  const path = state.path("runs", `${handle.run}.json`);
  const record = JSON.parse(await readFile(path, "utf8")) as object;
  await writeFile(path, JSON.stringify({ ...record, host: "elsewhere", beat, exit: null }));
}

describe("a run on another machine that has not said that it ended", () => {
  it("is waited for once, and given up for dead for all who look", async () => {
    const state = await folder();
    const { handle: old } = await begin(state);
    await writeElsewhere(state, old, 7);
    expect((await readLives(state))(old.run)).toBe("lives");
    const first = await begin(state);
    expect(first.warned).toHaveLength(1);
    expect(first.waitedMs).toBeGreaterThanOrEqual(DEAD_AFTER_MS);
    expect((await readLives(state))(old.run)).toBe("silent");
    expect(await readLiveRuns(state)).toEqual(new Set([first.handle.run]));
    await first.handle.finish(0);
    const second = await begin(state);
    expect([second.warned, second.waitedMs]).toEqual([[], 0]);
    // Should it live, it stores nothing more, and it is asked to stop.
    await expect(old.refuseGivenUp()).rejects.toMatchObject({ code: "terminated" });
    expect(old.stopSignal.aborted).toBe(true);
    expect(String(old.stopSignal.reason)).toContain("gave this one up for dead");
    expect(await readdir(state.path("runs"))).toContain(`${old.run}.stop`);
    await expect(second.handle.refuseGivenUp()).resolves.toBeUndefined();
  });

  it("is waited for together with others of its kind, as an array that died leaves them", async () => {
    const state = await folder();
    const olds = [];
    for (let each = 0; each < 3; each += 1) {
      olds.push((await begin(state)).handle);
      await writeElsewhere(state, olds[each] as RunHandle, 7);
      await writeFile(state.path("runs", `${olds[each]?.run}.silent`), "7");
    }
    for (const old of olds) await rm(state.path("runs", `${old.run}.silent`));
    // Together they wait for a minute, not for three.
    const clock = fakeClock();
    const { warned } = await begin(state, clock);
    expect(warned).toHaveLength(3);
    expect(clock.monotonicMs()).toBeLessThan(2 * DEAD_AFTER_MS);
    const lives = await readLives(state);
    expect(olds.map(({ run }) => lives(run))).toEqual(["silent", "silent", "silent"]);
  });

  it("counts as alive as soon as its heartbeat goes on, before and after", async () => {
    const state = await folder();
    const { handle: old } = await begin(state);
    await writeElsewhere(state, old, 7);
    const beats = fakeClock(() => writeElsewhere(state, old, 8));
    await expect(begin(state, beats)).rejects.toMatchObject({ code: "folder-busy" });
    const { handle } = await begin(state);
    await handle.finish(0);
    await writeElsewhere(state, old, 9);
    expect((await readLives(state))(old.run)).toBe("lives");
  });
});

describe("a record that can't be written", () => {
  /** Nothing is written where a folder stands. */
  const block = (state: StateFolder, run: string): Promise<unknown> =>
    mkdir(state.path("partial", `${run}.json.tmp`));
  const unblock = (state: StateFolder, run: string): Promise<unknown> =>
    rmdir(state.path("partial", `${run}.json.tmp`));

  it("is told by its path when a run begins", async () => {
    const state = await folder();
    const run = newRunId(systemClock);
    await block(state, run);
    const begun = beginRun(state, {
      ...{ run, clock: fakeClock(), detached: false, warn: () => undefined },
      signal: new AbortController().signal,
    });
    await expect(begun).rejects.toMatchObject({
      code: "disk-error",
      message: expect.stringContaining(`${run}.json: could not write: `),
    });
  });

  it("is written again once it can be, so that the run does not look dead for ever", async () => {
    const state = await folder();
    const { handle } = await begin(state);
    await block(state, handle.run);
    await handle.finish(7);
    await unblock(state, handle.run);
    await handle.finish(0);
    const record = JSON.parse(await readFile(state.path("runs", `${handle.run}.json`), "utf8"));
    expect(record).toMatchObject({ state: "finished", exit: 0 });
  });
});
