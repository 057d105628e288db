import { link, mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import { systemClock } from "../lib/context.ts";
import { PartFile } from "../lib/part-file.ts";
import { scratchName } from "../model/item.ts";
import { Leftovers } from "./leftovers.ts";
import { beginRun, newRunId } from "./runs.ts";
import { beginStateFolder } from "./state-folder.ts";

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

it("what a run of this machine left is gone on with, although that had not taken its second name away", async () => {
  const dir = await mkdtemp(join(tmpdir(), "gantry-leftovers-"));
  cleanups.push(() => rm(dir, { recursive: true, force: true }));
  const state = await beginStateFolder(dir, {}, { layout: "uid", sink: "folder" });
  const item = { id: "file:a", revision: "1", archive: "a", address: "a", bytes: 9, files: 1, labels: {} };
  const pool = state.path("partial", "resumable");
  const before = newRunId(systemClock);
  const { signal } = new AbortController();
  const handle = await beginRun(state, {
    ...{ run: before, clock: systemClock, detached: false, warn: () => undefined, signal },
  });
  // This one began while that was at work.
  const leftovers = await Leftovers.open(state, { pool, run: "self", temporary: dir });
  const part = await PartFile.open(join(pool, before), scratchName(item));
  await part.begin({ bytes: 9, condition: "1", md5: null, sha256: null });
  await part.append(Buffer.from("begun"));
  await part.keep();
  const items = state.path("partial", before, "items");
  await mkdir(items, { recursive: true });
  await link(part.path, join(items, "1"));
  await handle.finish(1);
  await leftovers.takeOver(item, [before], { signal, onBytes: () => undefined });
  const taken = await PartFile.open(join(pool, "self"), scratchName(item));
  expect(taken.facts).toMatchObject({ syncedBytes: 5 });
  expect(await readdir(pool)).toEqual(["self"]);
});
