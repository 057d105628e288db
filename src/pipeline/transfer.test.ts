import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { MemorySource } from "../../test/contract/memory-source.ts";
import { hashTree, listAll, temporaryDir } from "../../test/support/gantry.ts";
import { runPipeline } from "../../test/support/pipeline.ts";
import { RunError } from "../errors.ts";
import type { Item } from "../model/item.ts";
import type { Delivery } from "../sources/source.ts";

const COUNT = 25;
const ITEMS = Array.from({ length: COUNT }, (_, at) => ({
  project: "P",
  name: `i${String(at).padStart(2, "0")}`,
  files: { "a.txt": `first of ${at}`, "b.txt": `second of ${at}` },
}));
const id = (at: number): string => `memory:P/i${String(at).padStart(2, "0")}`;

/** Items that go wrong so many times, by id; the others are as they should be. */
class Troubled extends MemorySource {
  readonly trouble = new Map<string, { left: number; readonly error: RunError }>();
  /** Ends the fetch, so often, after so many deliveries. */
  breaks: { after: number; left: number; readonly error: RunError } | null = null;

  override async *fetch(...args: Parameters<MemorySource["fetch"]>): AsyncIterable<Delivery> {
    let count = 0;
    for await (const delivery of super.fetch(...args)) {
      if (this.breaks && this.breaks.left > 0 && count === this.breaks.after) {
        this.breaks.left -= 1;
        throw this.breaks.error;
      }
      count += 1;
      const trouble = this.trouble.get(delivery.item.id);
      if (trouble && trouble.left > 0) {
        trouble.left -= 1;
        yield { item: delivery.item as Item, error: trouble.error };
      } else yield delivery;
    }
  }
}

describe("batches", () => {
  let dir: string;
  let source: Troubled;
  const run = (retries = 3, words = ["memory:"]) => runPipeline(source, words, { dir, retries, jobs: 1 });

  beforeEach(async () => {
    dir = join(await temporaryDir(), "target");
    source = new Troubled(ITEMS);
  });

  it("hand consecutive items to one fetch, up to what it takes, each receipted alone", async () => {
    const { summary, events } = await run();
    expect(summary).toMatchObject({ exit: 0, stored: { items: COUNT, files: 2 * COUNT } });
    expect(source.batches.map((batch) => batch.length)).toEqual([10, 10, 5]);
    expect(source.batches.flat()).toEqual(ITEMS.map((_, at) => id(at)));
    expect(events.filter((event) => event.type === "item-stored")).toHaveLength(COUNT);
    await run();
    expect(source.batches).toHaveLength(3);
  });

  it("fetch again together what may come right, and nothing else", async () => {
    const busy = new RunError("archive-busy", "come back later");
    source.trouble.set(id(2), { left: 1, error: busy });
    source.trouble.set(id(5), { left: 2, error: busy });
    source.trouble.set(id(7), { left: 9, error: new RunError("access-item", "it is not shown") });
    const { summary } = await run();
    expect(source.batches.slice(0, 3)).toEqual([
      ITEMS.slice(0, 10).map((_, at) => id(at)),
      [id(2), id(5)],
      [id(5)],
    ]);
    expect(summary).toMatchObject({ exit: 3, stored: { items: COUNT - 1 }, failed: 1 });
    expect(summary.failures[0]).toMatchObject({ item: id(7), code: "access-item" });
  });

  it("count tries anew after one that stored something, so that a long batch outlives many cuts", async () => {
    source.breaks = { after: 2, left: 9, error: new RunError("archive-cut", "the connection broke") };
    const { summary, events } = await run(1);
    expect(summary).toMatchObject({ exit: 0, stored: { items: COUNT } });
    expect(events.filter((event) => event.type === "item-retry").length).toBeGreaterThan(9);
  });

  it("end when nothing gets on, with each item's own failure", async () => {
    source.breaks = { after: 0, left: 99, error: new RunError("archive-stalled", "nothing came any more") };
    const { summary } = await run(2);
    expect(summary).toMatchObject({ exit: 5, stored: { items: 0 }, failed: COUNT });
    expect(source.batches).toHaveLength(9);
  });

  it("leave what was not begun when the disk fails", async () => {
    source.trouble.set(id(3), { left: 1, error: new RunError("disk-full", "the disk is full") });
    const { summary } = await run();
    expect(summary).toMatchObject({ exit: 3, stored: { items: 3 }, failed: COUNT - 3 });
    expect(source.batches).toHaveLength(1);
    expect(summary.failures.at(-1)?.message).toContain("not begun, because: the disk is full");
  });

  it("take finished files from the scratch folder, and remove them there", async () => {
    const resumable = join(dir, ".gantry", "partial", "resumable");
    const plain = join(await temporaryDir(), "plain");
    await runPipeline(new MemorySource(ITEMS), ["memory:"], { dir: plain });
    source.finished = true;
    // A failure at the end keeps the folder.
    source.trouble.set(id(24), { left: 9, error: new RunError("access-item", "it is not shown") });
    await run();
    expect(await listAll(resumable)).toEqual([]);
    source.trouble.clear();
    expect((await run()).summary.exit).toBe(0);
    expect(await hashTree(dir)).toEqual(await hashTree(plain));
    expect(await readFile(join(dir, "P", "i03", "a.txt"), "utf8")).toBe("first of 3");
  });

  it("do not go on with a finished file that was proved wrong, and keep it after a failure of another kind", async () => {
    const resumable = join(dir, ".gantry", "partial", "resumable");
    source.finished = true;
    source.lie("wrong-digest");
    expect((await run(0)).summary.exit).toBe(6);
    expect(await listAll(resumable)).toEqual([]);
    source.lie("cut");
    expect((await run(0)).summary.exit).toBe(5);
    expect((await listAll(resumable)).length).toBe(COUNT);
  });
});
