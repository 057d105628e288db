/** The sink contract on archive files, and what they alone promise. What is visible is judged by GNU tar. */
import { spawnSync } from "node:child_process";
import { cp, mkdir, readdir, readFile, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type Digest, hashBytes } from "../../src/lib/digest.ts";
import type { Item } from "../../src/model/item.ts";
import type { ItemState, StoredFile } from "../../src/model/receipt.ts";
import { safePath } from "../../src/model/safe-path.ts";
import { openStore } from "../../src/sinks/index.ts";
import type { ItemWriter, Sink, SinkOptions, Store } from "../../src/sinks/sink.ts";
import { beginStateFolder, type StateFolder } from "../../src/state/state-folder.ts";
import { has, temporaryDir } from "../support/gantry.ts";
import { put, sinkContract } from "./sink.contract.ts";

const FORMATS = ["tar.zst", "tar.xz", "tar"] as const;
type Format = (typeof FORMATS)[number];

const begin = (dir: string, format: Format): Promise<StateFolder> =>
  beginStateFolder(dir, {}, { layout: "descriptive", sink: format, archive: "all" });

/** What `settle` needs of receipts. */
const stateOf = (item: string, files: readonly StoredFile[]): ItemState =>
  ({ current: { item, files }, heads: [] }) as unknown as ItemState;

interface Stand {
  readonly dir: string;
  readonly store: Store;
  readonly held: Map<string, readonly StoredFile[]>;
  open(shardBytes?: number): Promise<Sink>;
  store1(
    sink: Sink,
    id: string,
    files: Record<string, Uint8Array>,
    replaced?: readonly StoredFile[],
  ): Promise<readonly StoredFile[]>;
  settle(run: string, publish: boolean): Promise<void>;
}

async function makeStand(format: Format, base?: string): Promise<Stand> {
  const dir = join(base ?? (await temporaryDir()), "target");
  const state = await begin(dir, format);
  const store = await openStore(state);
  const held = new Map<string, readonly StoredFile[]>();
  const options: Omit<SinkOptions, "shardBytes"> = {
    run: "run-1",
    partial: join(dir, ".gantry", "partial", "items"),
    scratch: null,
    quarantine: join(dir, ".gantry", "quarantine"),
  };
  return {
    dir,
    store,
    held,
    open: (shardBytes) => store.sink({ ...options, shardBytes: shardBytes ?? null }),
    async store1(sink, id, files, replaced = []) {
      const writer = await sink.begin(item(id), { folder: safePath([id]), file: null, prefix: "" });
      for (const [name, bytes] of Object.entries(files)) await putBytes(writer, name, bytes);
      const { files: stored } = await writer.commit(replaced);
      held.set(id, stored);
      return stored;
    },
    async settle(run, publish) {
      const temporary = await temporaryDir();
      async function* states(): AsyncGenerator<ItemState> {
        for (const [id, files] of held) yield stateOf(id, files);
      }
      await store.settle({ run, states, life: () => "gone", publish, temporary: async () => temporary });
    },
  };
}

const item = (id: string): Item => ({
  id,
  revision: "1",
  archive: "tcia",
  address: `tcia:${id}`,
  bytes: null,
  files: null,
  labels: {},
});

async function putBytes(writer: ItemWriter, name: string, bytes: Uint8Array): Promise<void> {
  async function* body(): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < bytes.length; at += 100_000) yield bytes.subarray(at, at + 100_000);
  }
  await writer.write(name, body(), (): Digest => hashBytes("md5", bytes));
}

/** Names of the members of all archives of a folder, by GNU tar. */
async function listTar(dir: string, format: Format): Promise<string[]> {
  const names: string[] = [];
  for (const name of await readdir(dir)) {
    if (!name.endsWith(`.${format}`)) continue;
    const { stdout, stderr, status } = spawnSync("tar", ["--quoting-style=literal", "-tf", join(dir, name)], {
      encoding: "utf8",
    });
    expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
    names.push(...stdout.split("\n").filter((line) => line !== ""));
  }
  return names.sort();
}

const missing = ["tar", "zstd", "xz"].filter((program) => !has(program));

describe.skipIf(missing.length > 0)("archive files (needs tar, zstd, xz)", { timeout: 120_000 }, () => {
  for (const format of FORMATS) {
    sinkContract(format, { loose: false }, async (base) => {
      const { dir, store, held, open } = await makeStand(format, base);
      const sink = await open();
      const recording: Sink = {
        begin: async (each, place) => {
          const writer = await sink.begin(each, place);
          return {
            write: (...args) => writer.write(...args),
            abort: () => writer.abort(),
            commit: async (...args) => {
              const done = await writer.commit(...args);
              held.set(`${held.size}`, done.files);
              return done;
            },
          };
        },
        close: () => sink.close(),
      };
      return {
        sink: recording,
        dir,
        unfinished: [join(dir, ".gantry", "partial", "items")],
        quarantine: join(dir, ".gantry", "quarantine"),
        // As after a crash at this moment.
        visible: async () => {
          const copy = await makeStand(format);
          await cp(dir, copy.dir, { recursive: true });
          for (const [id, files] of held) copy.held.set(id, files);
          await copy.settle("run-2", true);
          return listTar(copy.dir, format);
        },
        read: async (file) => {
          const parts: Uint8Array[] = [];
          for await (const part of store.read(file)) parts.push(part);
          return Buffer.concat(parts).toString();
        },
      };
    });
  }

  /** Bytes that differ by seed, and that compressors are quick with. */
  const noise = (bytes: number, seed: number): Buffer => {
    const unit = Buffer.alloc(Math.min(bytes, 32_000));
    let state = seed;
    for (let at = 0; at < unit.length; at += 1) {
      state = (Math.imul(state, 1103515245) + 12345) | 0;
      unit[at] = state >>> 16;
    }
    return Buffer.alloc(bytes, unit);
  };

  it.each(FORMATS)("%s: items between each other, large and small, failed ones taken out", async (format) => {
    const stand = await makeStand(format);
    const sink = await stand.open();
    // More than an item may hold in memory.
    const large = Buffer.concat(Array.from({ length: 18 }, () => noise(1_000_000, 1)));
    const small = noise(30_000, 2);
    const failing = await sink.begin(item("failing"), {
      folder: safePath(["failing"]),
      file: null,
      prefix: "",
    });
    await putBytes(failing, "1", noise(4_300_000, 3));
    await Promise.all([
      stand.store1(sink, "a", { "1": small, large: large, "2": small }),
      stand.store1(
        sink,
        "b",
        Object.fromEntries(Array.from({ length: 8 }, (_, n) => [`${n}`, noise(700_000, n)])),
      ),
    ]);
    await putBytes(failing, "2", noise(4_300_000, 4));
    await stand.store1(sink, "c", { "1": small });
    await failing.abort();
    await sink.close();
    await stand.settle("run-1", true);
    expect(await listTar(stand.dir, format)).toEqual(
      [...stand.held.values()].flatMap((files) => files.map(({ path }) => path)).sort(),
    );
    for (const files of stand.held.values()) {
      expect((await stand.store.check(files, true)).bad).toEqual([]);
    }
    const out = await temporaryDir();
    spawnSync("tar", ["-xf", join(stand.dir, `all.${format}`), "-C", out]);
    expect((await readFile(join(out, "a/large"))).equals(large)).toBe(true);
    expect((await readFile(join(out, "b/7"))).equals(noise(700_000, 7))).toBe(true);
  });

  it.each(FORMATS)("%s: cut anywhere, it goes on where receipts end", async (format) => {
    const stand = await makeStand(format);
    const sink = await stand.open();
    await stand.store1(sink, "a", { "1": noise(300_000, 1) });
    const first = [...stand.held.values()].flat().at(-1) as StoredFile;
    await stand.store1(sink, "b", { "1": noise(300_000, 2) });
    await sink.close();
    const [folder = ""] = await readdir(join(stand.dir, ".gantry", "packing"));
    const path = join(stand.dir, ".gantry", "packing", folder, "run-1");
    const whole = (first.packed?.offset ?? 0) + (first.packed?.length ?? 0);
    const { size } = await stat(path);
    stand.held.delete("b");
    for (const cut of [size, size - 1, whole + 1, whole]) {
      await truncate(path, cut);
      await stand.settle("run-1", false);
      expect((await stat(path)).size).toBe(whole);
      expect((await stand.store.check([first], true)).bad).toEqual([]);
    }
    const again = await stand.open();
    await stand.store1(again, "b", { "1": noise(300_000, 2) });
    await again.close();
    await stand.settle("run-2", true);
    expect(await listTar(stand.dir, format)).toEqual(["a/1", "b/1"]);
    expect(await readdir(stand.dir)).toEqual([".gantry", `all.${format}`, `all.${format}.index.jsonl`]);
  });

  it.each(FORMATS)("%s: a replaced and a dropped item leave nothing of their bytes", async (format) => {
    const stand = await makeStand(format);
    const sink = await stand.open();
    await stand.store1(sink, "a", { "1": Buffer.from("the first of all".repeat(3)) });
    const before = await stand.store1(sink, "b", { "1": Buffer.from("an old secret".repeat(3)) });
    await stand.store1(sink, "c", { "1": Buffer.from("the last of all".repeat(3)) });
    await stand.store1(sink, "b", { "1": Buffer.from("news".repeat(3)) }, before);
    await sink.close();
    await stand.settle("run-1", true);
    expect(await listTar(stand.dir, format)).toEqual(["a/1", "b/1", "c/1"]);
    const path = join(stand.dir, `all.${format}`);
    const hole = (await readFile(path)).subarray(
      before[0]?.packed?.offset,
      (before[0]?.packed?.offset ?? 0) + (before[0]?.packed?.length ?? 0),
    );
    expect(hole.includes("an old secret")).toBe(false);
    if (format === "tar.zst") expect(hole.subarray(8).every((byte) => byte === 0)).toBe(true);
    stand.held.delete("c");
    await stand.settle("run-2", true);
    expect(await listTar(stand.dir, format)).toEqual(["a/1", "b/1"]);
    stand.held.clear();
    await stand.settle("run-3", true);
    expect(await readdir(stand.dir)).toEqual([".gantry"]);
  });

  it.each(FORMATS)("%s: a changed byte is found, and only its piece is bad", async (format) => {
    const stand = await makeStand(format);
    const sink = await stand.open();
    const files = await stand.store1(sink, "a", {
      "1": noise(4_300_000, 1),
      "2": noise(4_300_000, 2),
      "3": noise(4_300_000, 3),
    });
    await sink.close();
    await stand.settle("run-1", true);
    const path = join(stand.dir, `all.${format}`);
    const bytes = await readFile(path);
    const { offset = 0, length = 0 } = files[1]?.packed ?? {};
    bytes[offset + Math.floor(length / 2)] = (bytes[offset + Math.floor(length / 2)] ?? 0) ^ 0xff;
    await writeFile(path, bytes);
    expect((await stand.store.check(files, false)).bad).toEqual([]);
    const { bad } = await stand.store.check(files, true);
    expect(bad.map(({ file, state }) => `${file.path} ${state}`)).toEqual(["a/2 changed"]);
    await truncate(path, offset);
    const cut = await stand.store.check(files, false);
    // Members stand in the order of their coming, although pieces are compressed at once.
    expect(cut.bad.map(({ file, state }) => `${file.path} ${state}`)).toEqual(["a/2 missing", "a/3 missing"]);
  });

  it("begins another file when one is large enough, and never splits an item", async () => {
    const stand = await makeStand("tar");
    const sink = await stand.open(1_000_000);
    for (const id of ["a", "b", "c", "d"])
      await stand.store1(sink, id, { "1": noise(700_000, 1), "2": noise(10, 1) });
    await sink.close();
    await stand.settle("run-1", true);
    expect((await readdir(stand.dir)).filter((name) => name.endsWith(".tar"))).toEqual([
      "all-00000.tar",
      "all-00001.tar",
    ]);
    for (const files of stand.held.values())
      expect(new Set(files.map(({ packed }) => packed?.archive)).size).toBe(1);
    expect(await listTar(stand.dir, "tar")).toHaveLength(8);
  });

  it("leaves alone what a run that lives is writing", async () => {
    const stand = await makeStand("tar");
    const folder = join(stand.dir, ".gantry", "packing", "all.tar");
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, "run-9"), "half of something");
    const temporary = await temporaryDir();
    async function* none(): AsyncGenerator<ItemState> {}
    const options = { states: none, publish: true, temporary: async () => temporary };
    await stand.store.settle({
      ...options,
      run: "run-1",
      life: (run) => (run === "run-9" ? "lives" : "gone"),
    });
    expect(await readFile(join(folder, "run-9"), "utf8")).toBe("half of something");
    const sink = await stand.open();
    await stand.store1(sink, "a", { "1": noise(10, 1) });
    await sink.close();
    expect(stand.held.get("a")?.[0]?.packed?.archive).toBe("all-00000.tar");
  });

  it("goes on in a copy of what a run that is only believed dead has open", async () => {
    const stand = await makeStand("tar");
    const zombie = await stand.open();
    await stand.store1(zombie, "a", { "1": noise(2000, 1) });
    async function* states(): AsyncGenerator<ItemState> {
      for (const [id, files] of stand.held) yield stateOf(id, files);
    }
    const temporary = await temporaryDir();
    const life = (run: string) => (run === "run-1" ? ("silent" as const) : ("gone" as const));
    await stand.store.settle({
      ...{ run: "run-2", states, life, publish: true },
      temporary: async () => temporary,
    });
    const before = await readFile(join(stand.dir, "all.tar"));
    // It wakes, and writes where it believes the end to be.
    const writer = await zombie.begin(item("b"), { folder: safePath(["b"]), file: null, prefix: "" });
    await putBytes(writer, "1", noise(2_000_000, 2));
    await writer.commit([]);
    await zombie.close();
    expect((await readFile(join(stand.dir, "all.tar"))).equals(before)).toBe(true);
    expect(await listTar(stand.dir, "tar")).toEqual(["a/1"]);
  });

  it("names long, odd and unlike any other are read by tar as they are", async () => {
    const stand = await makeStand("tar.zst");
    const sink = await stand.open();
    const writer = await sink.begin(item("a"), {
      folder: safePath(["é", "x".repeat(200)]),
      file: null,
      prefix: "",
    });
    for (const name of ["日本語.dcm", "y".repeat(240), "a b'c.dcm"]) await put(writer, name, name);
    const { files } = await writer.commit([]);
    stand.held.set("a", files);
    await sink.close();
    await stand.settle("run-1", true);
    expect(await listTar(stand.dir, "tar.zst")).toEqual(files.map(({ path }) => path).sort());
  });
});
