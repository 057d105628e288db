import { mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { beginFolder, receipt, storeFile } from "../../test/support/state.ts";
import { RunError } from "../errors.ts";
import { systemClock } from "../lib/context.ts";
import { openStore } from "../sinks/index.ts";
import { readItemStates } from "../state/receipts.ts";
import { readNames, type StateFolder } from "../state/state-folder.ts";
import type { RunEvent } from "./events.ts";
import { verify } from "./verify.ts";

describe("verify", () => {
  let dir: string;
  let state: StateFolder;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), "gantry-verify-"));
    state = await beginFolder(dir);
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));

  const prove = async (options: { strict?: boolean; signal?: AbortSignal; dir?: string } = {}) => {
    const { signal = new AbortController().signal, strict = false } = options;
    const context = { signal, clock: systemClock, random: Math.random, log: () => undefined };
    const run = verify(options.dir ?? dir, { strict, context, store: openStore });
    const events: RunEvent[] = [];
    for await (const event of run) events.push(event);
    return { summary: await run.result, events };
  };
  const current = async (): Promise<string[]> => {
    const found: string[] = [];
    const options = { folder: async () => tmpdir(), onBad: () => undefined };
    for await (const each of readItemStates(state, options)) found.push(each.current.type);
    return found;
  };

  it("ends with its sums as an event, whatever happened", async () => {
    await receipt(state, "1", [await storeFile(state, "1/a", "aaaa")]);
    const { summary, events } = await prove();
    expect(events.at(-1)).toEqual({ type: "verify-finished", ...summary });
    expect(summary).toMatchObject({ exit: 0, items: 1, files: 1, bytes: 4, ok: 1 });

    const unknown = await prove({ dir: join(dir, "nowhere") });
    expect(unknown.events).toMatchObject([
      { type: "verify-finished", exit: 2, error: { code: "folder-unknown" } },
    ]);

    const stop = new AbortController();
    stop.abort(new RunError("interrupted", "stopped"));
    const stopped = await prove({ signal: stop.signal });
    expect(stopped.events.at(-1)).toMatchObject({ type: "verify-finished", exit: 130 });
  });

  it("damage is receipted once, and taken back when the right bytes are back", async () => {
    await receipt(state, "1", [await storeFile(state, "1/a", "aaaa"), await storeFile(state, "1/b", "bb")]);
    await writeFile(join(dir, "1/a"), "aaaX");
    expect((await prove()).summary).toMatchObject({ exit: 6, ok: 1, changed: 1 });
    expect(await current()).toEqual(["damaged"]);
    const receipts = await readNames(state.path("receipts"));
    expect((await prove()).summary).toMatchObject({ exit: 6, changed: 1 });
    expect(await readNames(state.path("receipts"))).toEqual(receipts);
    await writeFile(join(dir, "1/a"), "aaaa");
    expect((await prove()).summary).toMatchObject({ exit: 0, ok: 2 });
    expect(await current()).toEqual(["stored"]);
  });

  it("of two lost files with the same bytes one find explains one, and the other is missing", async () => {
    await receipt(state, "1", [await storeFile(state, "1/a", "same")]);
    await receipt(state, "2", [await storeFile(state, "2/a", "same")]);
    await mkdir(join(dir, "new"));
    await rename(join(dir, "1/a"), join(dir, "new/a"));
    await rm(join(dir, "2/a"));
    expect((await prove()).summary).toMatchObject({ exit: 6, moved: 1, missing: 1, extra: 0 });
    expect((await current()).sort()).toEqual(["damaged", "moved"]);
  });

  it("an extra file counts only with strict; one of a dropped item is extra, too", async () => {
    const file = await storeFile(state, "1/a", "aaaa");
    const before = await receipt(state, "1", [file]);
    await receipt(state, "1", [], { type: "removed", supersedes: [before.sum] });
    expect((await prove()).summary).toMatchObject({ exit: 0, items: 0, extra: 1 });
    expect((await prove({ strict: true })).summary).toMatchObject({ exit: 6, extra: 1 });
  });

  it("an item that a receipt no longer in force names elsewhere is judged by the one in force", async () => {
    const old = await receipt(state, "1", [await storeFile(state, "1/old", "aaaa")]);
    await rename(join(dir, "1/old"), join(dir, "1/new"));
    const file = await storeFile(state, "1/new", "aaaa");
    await receipt(state, "1", [file], { type: "moved", supersedes: [old.sum] });
    expect((await prove({ strict: true })).summary).toMatchObject({ exit: 0, ok: 1, extra: 0 });
  });
});
