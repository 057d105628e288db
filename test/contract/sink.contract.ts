/** What every sink has to do: nothing of an item is visible before its commit, and after it all of it is, for good. */
import { appendFile, lstat, mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Digest, hashBytes } from "../../src/lib/digest.ts";
import type { Item } from "../../src/model/item.ts";
import type { Place } from "../../src/model/place.ts";
import type { StoredFile } from "../../src/model/receipt.ts";
import { type SafePath, safePath } from "../../src/model/safe-path.ts";
import type { ItemWriter, Sink } from "../../src/sinks/sink.ts";
import { listAll, temporaryDir } from "../support/gantry.ts";

export interface SinkStand {
  readonly sink: Sink;
  /** The target folder. */
  readonly dir: string;
  /** Folders of unfinished data and of what was in the way. */
  readonly unfinished: readonly string[];
  readonly quarantine: string;
  /** Names of all stored files that can be seen, sorted. */
  visible(): Promise<string[]>;
  read(file: StoredFile): Promise<string>;
}

const item: Item = {
  id: "dicom-series:1.2.3.4",
  revision: "1",
  archive: "tcia",
  address: "tcia:1.2.3.4",
  bytes: null,
  files: null,
  labels: {},
};

const at = (...folder: string[]): Place => ({ folder: safePath(folder), file: null, prefix: "" });

export async function put(writer: ItemWriter, name: string, text: string): Promise<void> {
  const bytes = Buffer.from(text);
  const digest = (): Digest => hashBytes("md5", bytes);
  async function* body(): AsyncGenerator<Uint8Array> {
    for (let start = 0; start < bytes.length; start += 4) yield bytes.subarray(start, start + 4);
  }
  const written = await writer.write(name, body(), digest);
  expect(written).toMatchObject({ name, bytes: bytes.length, digest: digest() });
  expect(Buffer.from(await written.head()).toString()).toBe(text.slice(0, 65_536));
}

/** `loose`: files lie in the folder under their own names, so that what else lies there, links too, can be in their way. */
export function sinkContract(
  name: string,
  { loose }: { readonly loose: boolean },
  make: (base: string) => Promise<SinkStand>,
): void {
  describe(`sink contract: ${name}`, () => {
    let stand: SinkStand;

    beforeEach(async () => {
      stand = await make(await temporaryDir());
    });

    afterEach(() => stand.sink.close());

    const store = async (
      place: Place,
      files: Record<string, string>,
      replaced: readonly StoredFile[] = [],
    ) => {
      const writer = await stand.sink.begin(item, place);
      for (const [file, text] of Object.entries(files)) await put(writer, file, text);
      return writer.commit(replaced);
    };
    const read = (path: string): Promise<string> => readFile(join(stand.dir, path), "utf8");
    const visible = async (): Promise<string[]> => stand.visible();
    const leftovers = async (): Promise<string[]> =>
      (await Promise.all(stand.unfinished.map(listAll))).flat();

    it("shows nothing before the commit and all of it after, with what is on the disk", async () => {
      const writer = await stand.sink.begin(item, at("a", "b"));
      await put(writer, "2.dcm", "second");
      await put(writer, "1.dcm", "first");
      expect(await visible()).toEqual([]);
      const { files, quarantined } = await writer.commit([]);
      expect(quarantined).toEqual([]);
      expect(files.map((file) => file.path)).toEqual(["a/b/1.dcm", "a/b/2.dcm"]);
      expect(await visible()).toEqual(["a/b/1.dcm", "a/b/2.dcm"]);
      for (const file of files) {
        expect(file.digest).toBe(hashBytes("md5", await stand.read(file)));
        if (!loose) continue;
        const facts = await lstat(join(stand.dir, file.path));
        expect({ bytes: facts.size, mtimeMs: Math.trunc(facts.mtimeMs) }).toEqual({
          bytes: file.bytes,
          mtimeMs: file.mtimeMs,
        });
      }
      expect(await leftovers()).toEqual([]);
    });

    it("takes a finished file and leaves it where it is, also after an abort", async () => {
      const file = join(await temporaryDir(), "finished");
      await writeFile(file, "whole");
      const stored: StoredFile[] = [];
      for (const end of ["abort", "commit"] as const) {
        const writer = await stand.sink.begin(item, at("a"));
        async function* body(): AsyncGenerator<Uint8Array> {
          yield* [Buffer.from("wh"), Buffer.from("ole")];
        }
        await put(writer, "2.dcm", "other");
        await writer.write("1.dcm", body(), () => hashBytes("md5", "whole"), file);
        if (end === "abort") await writer.abort();
        else stored.push(...(await writer.commit([])).files);
        expect(await readFile(file, "utf8")).toBe("whole");
        expect(await visible()).toEqual(end === "abort" ? [] : ["a/1.dcm", "a/2.dcm"]);
      }
      expect(await stand.read(stored[0] as StoredFile)).toBe("whole");
      expect(await leftovers()).toEqual([]);
    });

    it("keeps no chunk past the asking for the next, and takes a file that grows with its body", async () => {
      const folder = await temporaryDir();
      const writer = await stand.sink.begin(item, at("a"));
      // The last is larger than what an item of an archive file may hold in memory.
      const sizes = [200_000, 5_000_000, 18_000_000];
      const texts = sizes.map((size, seed) => `${seed} is the seed of this line\n`.repeat(size / 25));
      for (const [seed, text] of [...texts, ...texts].entries()) {
        const bytes = Buffer.from(text);
        const grows = seed >= texts.length ? join(folder, `${seed}`) : null;
        async function* body(): AsyncGenerator<Uint8Array> {
          const chunk = Buffer.alloc(100_000);
          for (let start = 0; start < bytes.length; start += chunk.length) {
            const length = bytes.copy(chunk, 0, start);
            if (grows) await appendFile(grows, chunk.subarray(0, length));
            yield chunk.subarray(0, length);
            chunk.fill("x");
          }
        }
        if (grows) await writeFile(grows, "");
        await writer.write(`${seed}`, body(), () => hashBytes("md5", bytes), grows ?? undefined);
      }
      const { files } = await writer.commit([]);
      expect(files).toHaveLength(2 * texts.length);
      for (const file of files) {
        const text = texts[Number(file.path.slice(2)) % texts.length] as string;
        expect((await stand.read(file)) === text, file.path).toBe(true);
      }
    });

    it("leaves nothing behind after an abort, at whatever point", async () => {
      const empty = await stand.sink.begin(item, at("a"));
      await empty.abort();
      const half = await stand.sink.begin(item, at("a"));
      await put(half, "1.dcm", "one");
      async function* broken(): AsyncGenerator<Uint8Array> {
        yield Buffer.from("half of it");
        throw new Error("the connection broke");
      }
      await expect(half.write("2.dcm", broken(), () => hashBytes("md5", ""))).rejects.toThrow("connection");
      await half.abort();
      await half.abort();
      expect(await visible()).toEqual([]);
      expect(await leftovers()).toEqual([]);
    });

    it("stores an item without files, and one with an empty file", async () => {
      expect(await store(at("a"), {})).toEqual({ files: [], quarantined: [] });
      const { files } = await store(at("b"), { "0.dcm": "" });
      expect(files).toMatchObject([{ path: "b/0.dcm", bytes: 0 }]);
      expect(await stand.read(files[0] as StoredFile)).toBe("");
    });

    it("keeps apart names that some file system takes for one", async () => {
      const { files } = await store(at("a"), {
        "x.dcm": "lower",
        "X.dcm": "upper",
        "caf\u00e9.dcm": "composed",
        "cafe\u0301.dcm": "decomposed",
      });
      expect(files).toHaveLength(4);
      const folded = files.map((file) => file.path.normalize("NFC").toLowerCase());
      expect(new Set(folded).size).toBe(4);
      const texts = await Promise.all(files.map((file) => stand.read(file)));
      expect(texts.sort()).toEqual(["composed", "decomposed", "lower", "upper"]);
      // The first by name goes without a mark, whatever came first.
      expect(files.map((file) => file.path)).toContain("a/X.dcm");
    });

    it("gives the same paths whatever the order of arrival", async () => {
      const first = await store(at("a"), { "x.dcm": "1", "X.dcm": "2", "y.dcm": "3" });
      const second = await store(at("b"), { "y.dcm": "3", "X.dcm": "2", "x.dcm": "1" });
      const names = (files: readonly StoredFile[]): string[] =>
        files.map((file) => `${file.path.slice(2)} ${file.digest}`).sort();
      expect(names(first.files)).toEqual(names(second.files));
    });

    it("keeps every name inside the target", async () => {
      const { files } = await store(at("..", ".gantry", "C:"), {
        "../../../evil": "1",
        "/etc/passwd": "2",
        "..\\..\\evil": "3",
        "con.dcm": "4",
      });
      expect(files).toHaveLength(4);
      for (const { path } of files) {
        expect(path.split("/")).not.toContain("..");
        expect(await visible()).toContain(path);
      }
      if (!loose) return;
      expect(
        await listAll(dirname(stand.dir)).then((all) => all.filter((path) => /(evil|passwd)$/u.test(path))),
      ).toEqual(
        files
          .map((file) => `${stand.dir.split("/").at(-1)}/${file.path}`)
          .filter((path) => /(evil|passwd)$/u.test(path)),
      );
    });

    it("puts many items into one folder when a prefix or a file name keeps them apart", async () => {
      await store({ folder: null, file: null, prefix: "s1_" }, { "1.dcm": "s1" });
      await store({ folder: null, file: null, prefix: "s2_" }, { "1.dcm": "s2" });
      await store({ folder: "one" as SafePath, file: "image.dcm", prefix: "" }, { "whatever.dcm": "image" });
      expect(await visible()).toEqual(["one/image.dcm", "s1_1.dcm", "s2_1.dcm"]);
    });

    it("closing leaves no unfinished data, whatever was under way", async () => {
      const writer = await stand.sink.begin(item, at("a"));
      await put(writer, "1.dcm", "one");
      await stand.sink.close();
      expect(await leftovers()).toEqual([]);
      expect(await visible()).toEqual([]);
    });

    if (!loose) return;

    it("moves a foreign file out of the way and says so; the same bytes are no stranger", async () => {
      await mkdir(join(stand.dir, "a"), { recursive: true });
      await writeFile(join(stand.dir, "a/1.dcm"), "somebody's own");
      await writeFile(join(stand.dir, "a/2.dcm"), "the same");
      const { quarantined } = await store(at("a"), { "1.dcm": "ours", "2.dcm": "the same" });
      expect(quarantined).toEqual(["a/1.dcm"]);
      expect(await read("a/1.dcm")).toBe("ours");
      const kept = await listAll(stand.quarantine);
      expect(kept).toEqual(["a/1.dcm"]);
      expect(await readFile(join(stand.quarantine, "a/1.dcm"), "utf8")).toBe("somebody's own");
    });

    it("swaps an earlier revision whole: old files go to quarantine, also those without a successor", async () => {
      const { files: old } = await store(at("a"), { "1.dcm": "old 1", "2.dcm": "old 2", "3.dcm": "old 3" });
      const { files } = await store(at("a"), { "1.dcm": "new 1", "2.dcm": "new 2" }, old);
      expect(await visible()).toEqual(files.map((file) => file.path));
      expect(await read("a/1.dcm")).toBe("new 1");
      const kept = await listAll(stand.quarantine);
      expect(kept.map((path) => path.replace(/~[0-9a-f]{8}$/u, ""))).toEqual([
        "a/1.dcm",
        "a/2.dcm",
        "a/3.dcm",
      ]);
    });

    it("never loses a file in quarantine to another of its name", async () => {
      let before: readonly StoredFile[] = [];
      for (const text of ["one", "two", "three"])
        ({ files: before } = await store(at("a"), { "1.dcm": text }, before));
      const kept = await listAll(stand.quarantine);
      const texts = await Promise.all(kept.map((path) => readFile(join(stand.quarantine, path), "utf8")));
      expect(texts.sort()).toEqual(["one", "two"]);
    });

    it("storing the same item twice ends in the same tree", async () => {
      const first = await store(at("a"), { "1.dcm": "1", "2.dcm": "2" });
      const before = await visible();
      const { files, quarantined } = await store(at("a"), { "1.dcm": "1", "2.dcm": "2" });
      expect(files.map(({ path, digest }) => ({ path, digest }))).toEqual(
        first.files.map(({ path, digest }) => ({ path, digest })),
      );
      expect(quarantined).toEqual([]);
      expect(await visible()).toEqual(before);
    });

    it("finishes a commit that was cut between its renames", async () => {
      // Some files have their final names already, as after a crash; no receipt knows them.
      await mkdir(join(stand.dir, "a"), { recursive: true });
      await writeFile(join(stand.dir, "a/1.dcm"), "1");
      const { files, quarantined } = await store(at("a"), { "1.dcm": "1", "2.dcm": "2" });
      expect(quarantined).toEqual([]);
      expect(await visible()).toEqual(files.map((file) => file.path));
    });

    it.each(["a", "a/b"])("writes through no link at %s", async (link) => {
      const outside = await temporaryDir();
      await mkdir(dirname(join(stand.dir, link)), { recursive: true });
      await symlink(outside, join(stand.dir, link));
      const writer = await stand.sink.begin(item, at("a", "b"));
      await put(writer, "1.dcm", "secret");
      await expect(writer.commit([])).rejects.toMatchObject({ code: "disk-permission" });
      await writer.abort();
      expect(await listAll(outside)).toEqual([]);
      expect(await leftovers()).toEqual([]);
    });

    it("a link under a file's own name is moved away, and what it points at stays", async () => {
      const outside = join(await temporaryDir(), "precious");
      await writeFile(outside, "precious");
      await mkdir(join(stand.dir, "a"), { recursive: true });
      await symlink(outside, join(stand.dir, "a/1.dcm"));
      await store(at("a"), { "1.dcm": "ours" });
      expect(await readFile(outside, "utf8")).toBe("precious");
      expect((await lstat(join(stand.dir, "a/1.dcm"))).isFile()).toBe(true);
    });

    it("a file where a folder is needed is said as it is", async () => {
      await mkdir(stand.dir, { recursive: true });
      await writeFile(join(stand.dir, "a"), "a file");
      const writer = await stand.sink.begin(item, at("a", "b"));
      await put(writer, "1.dcm", "one");
      await expect(writer.commit([])).rejects.toMatchObject({ exit: 7 });
      expect(await read("a")).toBe("a file");
    });
  });
}
