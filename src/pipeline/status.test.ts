import { appendFile, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { beginFolder, item, receipt, select, storeFile } from "../../test/support/state.ts";
import { NO_FILTERS } from "../model/query.ts";
import { writeAsking } from "../state/asking.ts";
import { readNames, type StateFolder } from "../state/state-folder.ts";
import { readStatus } from "./status.ts";

describe("the status of a folder", () => {
  let dir: string;
  let state: StateFolder;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), "gantry-status-"));
    state = await beginFolder(dir);
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));

  it("throws for a folder without state", async () => {
    await expect(readStatus(join(dir, "nowhere"))).rejects.toMatchObject({ code: "folder-unknown" });
  });

  it("an older revision is missing, a damaged item is damaged, neither is done", async () => {
    await select(state, "a", [item("1"), item("2", { revision: "2" }), item("3"), item("4")]);
    const file = await storeFile(state, "1/a", "0123456789");
    await receipt(state, "1", [file]);
    await receipt(state, "2", [file]);
    const before = await receipt(state, "3", [file]);
    await receipt(state, "3", [file], { type: "damaged", damaged: ["1/a"], supersedes: [before.sum] });
    expect(await readStatus(dir)).toMatchObject({
      expected: { items: 4, files: 4, bytes: 40 },
      done: { items: 1, files: 1, bytes: 10 },
      missing: 2,
      damaged: 1,
      withdrawn: 0,
    });
  });

  it("either revision is right where two selections expect one each", async () => {
    await select(state, "a", [item("1", { revision: "1" })]);
    await select(state, "b", [item("1", { revision: "2" })]);
    await receipt(state, "1", [], { revision: "2" });
    expect(await readStatus(dir)).toMatchObject({ expected: { items: 1 }, done: { items: 1 }, missing: 0 });
  });

  it("what is here and not expected is withdrawn, at any end of the order; unknown and never here is missing", async () => {
    await select(state, "a", [item("3"), item("4", { unknown: true }), item("5", { unknown: true })]);
    for (const id of ["1", "2", "4", "9"]) await receipt(state, id, []);
    expect(await readStatus(dir)).toMatchObject({ expected: { items: 1 }, missing: 2, withdrawn: 4 });
  });

  it("dropped items are counted apart, expected or not", async () => {
    await select(state, "a", [item("2"), item("3")]);
    for (const id of ["1", "2", "9"]) await receipt(state, id, [], { type: "removed" });
    expect(await readStatus(dir)).toMatchObject({
      expected: { items: 1 },
      missing: 1,
      dropped: 3,
      withdrawn: 0,
    });
  });

  it("a receipt that was altered or torn does not count", async () => {
    await select(state, "a", [item("1")]);
    await receipt(state, "1", []);
    const [name = ""] = await readNames(state.path("receipts"));
    expect((await readStatus(dir)).missing).toBe(0);
    const path = state.path("receipts", name);
    await appendFile(path, '{"item":"dicom-series:1","type":"removed"');
    expect(await readStatus(dir)).toMatchObject({ missing: 0, dropped: 0, done: { items: 1 } });
    await writeFile(
      path,
      '{"kind":"gantry-receipts","version":1,"writer":"x"}\n{"item":"dicom-series:1","type":"stored","sum":"00"}\n',
    );
    expect((await readStatus(dir)).missing).toBe(1);
  });

  it("says what has no selection yet", async () => {
    await writeAsking(state, "r1", {
      request: { kind: "paths", archive: "tcia", paths: [["A B"]], filters: NO_FILTERS },
      replaceAll: false,
      addresses: null,
    });
    expect(await readStatus(dir)).toMatchObject({
      asking: ["tcia:A B"],
      requests: [],
      expected: { items: 0 },
    });
  });

  it("a run of this host whose process is gone has stalled, one of another host is not judged", async () => {
    const record = { kind: "gantry-run", version: 1, host: hostname(), pid: 2 ** 22 + 1, exit: null };
    const more = {
      processStart: null,
      boot: null,
      startedAt: "",
      beat: 1,
      state: "listing",
      detached: false,
      requests: [],
      progress: null,
    };
    const write = (run: string, host: string): Promise<void> =>
      writeFile(state.path("runs", `${run}.json`), JSON.stringify({ ...record, ...more, run, host }));
    await write("a", hostname());
    expect((await readStatus(dir)).run).toMatchObject({ run: "a", alive: false, stalled: true });
    await write("b", "elsewhere");
    expect((await readStatus(dir)).run).toMatchObject({ run: "b", alive: null, stalled: false });
  });

  it("an array is waiting, at work, stalled, and over when its last job has ended", async () => {
    await select(state, "a", [item("1")]);
    const array = "20260101T000000Z-000000";
    await mkdir(state.path("arrays"));
    await mkdir(state.path("leases", array), { recursive: true });
    await writeFile(
      state.path("arrays", `${array}.json`),
      JSON.stringify({ kind: "gantry-array", version: 1, array, tasks: 2, slices: [{}, {}] }),
    );
    const write = (run: string, more: object): Promise<void> =>
      writeFile(
        state.path("runs", `${run}.json`),
        JSON.stringify({
          ...{ kind: "gantry-run", version: 1, run, array, task: 0, host: "n1", pid: 1, startedAt: run },
          ...{ processStart: null, boot: null, beat: 1, state: "transferring", progress: null, exit: null },
          ...more,
        }),
      );
    const seen = async () => (await readStatus(dir)).array;
    expect(await seen()).toMatchObject({ state: "waiting", working: 0, stalled: false });
    await write("a", { exit: 143 });
    expect(await seen()).toMatchObject({ state: "waiting", working: 0, stalled: false });
    const idle = { idleSeconds: 300, bytesPerSecond: 0 };
    await write("b", { progress: idle });
    await write("c", { task: 1, progress: { ...idle, idleSeconds: 2 } });
    expect(await seen()).toMatchObject({ state: "transferring", working: 2, stalled: false });
    await write("c", { task: 1, progress: idle });
    expect(await seen()).toMatchObject({ working: 2, stalled: true });
    for (const run of ["b", "c"]) await write(run, { exit: 5 });
    await write("d", { task: -1, exit: 143 });
    expect(await seen()).toMatchObject({ state: "waiting" });
    await write("d", { task: -1, exit: 7 });
    expect(await seen()).toBeNull();
    await write("e", { task: 0, exit: null });
    expect(await seen()).toMatchObject({ working: 1 });
  });
});
