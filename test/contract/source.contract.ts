/**
 * What every archive kind has to do, and what has to happen when an archive lies. Run on each production source
 * and, as the example for new ones, on a source in memory.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type ErrorCode, RunError } from "../../src/errors.ts";
import { NO_FILTERS, type Row } from "../../src/index.ts";
import { createHasher } from "../../src/lib/digest.ts";
import { parsePath, parseTarget } from "../../src/model/address.ts";
import type { Item } from "../../src/model/item.ts";
import { LINK_ARCHIVE } from "../../src/model/link.ts";
import type { Filters, Query, WordFilter } from "../../src/model/query.ts";
import { formatAddress } from "../../src/model/selection.ts";
import { readSite } from "../../src/model/site.ts";
import {
  columnsOfLevel,
  type Level,
  type LevelOptions,
  levelRows,
  readLevel,
} from "../../src/pipeline/levels.ts";
import { prove } from "../../src/pipeline/prove.ts";
import { levelTotals, valuesOf } from "../../src/pipeline/questions.ts";
import { resolveQueries, selectItems } from "../../src/pipeline/select.ts";
import type { Arrived, Source } from "../../src/sources/source.ts";
import { eventsOf, hashTree, listAll, listFiles, type Tree } from "../support/gantry.ts";
import { hastyContext, runPipeline, sourceContext } from "../support/pipeline.ts";

/** Ways in which an archive or the way to it can fail while data is fetched. */
export const LIES = [
  "short-body",
  "long-body",
  "wrong-bytes",
  "wrong-digest",
  "flipped-bit",
  "missing-file",
  "missing-file-without-digests",
  "no-files",
  "extra-file",
  "duplicate-entry",
  "html-for-data",
  "html-labelled-as-data",
  "json-error",
  "empty-body",
  "busy",
  "busy-until",
  "error-500",
  "error-502",
  "error-504",
  "stall",
  "slow-first-byte",
  "cut",
  "reset",
  "redirect-elsewhere",
  "redirect-loop",
  "expired-token",
  "torn-container",
  "trailing-bytes",
  "bomb",
  "hostile-name",
  // Of a program that transfers: what it says, and how it ends.
  "no-last-word",
  "failure-after-success",
  "silent-end",
  "torn-words",
  "question-asked",
] as const;
export type Lie = (typeof LIES)[number];

/** Lies of a listing. */
export const LIST_LIES = ["list-cut", "list-torn", "list-html", "list-busy", "list-error"] as const;
export type ListLie = (typeof LIST_LIES)[number];

export interface SourceStand {
  readonly source: Source;
  /** From now on every data request meets it, or the first `count`. */
  lie(lie: Lie | ListLie, count?: number): void;
  honest(): void;
  /** What is open on the archive's side; 0 when nobody reads any more. */
  open(): number;
  /** Data requests that were answered or refused. */
  fetches(): number;
  /** Another file content under the same announcement, or an item less. */
  change?(what: "withdraw" | "fewer-files", id: string): void;
  /** What came to another origin, as one text; absent when the source knows no redirects. */
  elsewhere?(): string;
  readonly secrets?: readonly string[];
  close(): Promise<void>;
}

/** Where a lie leads: a code, or `stored` when the data is whole all the same. */
export type Verdict = ErrorCode | "stored";

export interface SourceTraits {
  /** The place that everything is below, for an archive whose root alone does not mean all of it; else its root. */
  readonly root?: readonly string[];
  /** True: it lists nothing, and what is asked for is one item, whatever it holds. */
  readonly opaque?: true;
  /** Of an archive without digests: what is proved of every item. */
  readonly proof?: readonly string[];
  /** The lies that this archive can be made to tell, and what each has to end as. */
  readonly lies: Partial<Readonly<Record<Lie, Verdict>>>;
  readonly listLies: Partial<Readonly<Record<ListLie, ErrorCode>>>;
  /** Ids of all items. */
  readonly items: readonly string[];
  /** Of a file's content by item id and name order: what `fetch` must deliver, sorted digests. */
  readonly digests: (item: string) => Promise<readonly string[]>;
  /** A field word of each level above items, and one more name that does not exist but is near. */
  readonly misspelt: readonly { readonly path: readonly string[]; readonly near: string }[];
  /** Paths that are spelt otherwise than in the archive, and the right spelling. */
  readonly recased: readonly { readonly path: readonly string[]; readonly as: readonly string[] }[];
  /** Filters and the items they leave. */
  readonly filtered: readonly { readonly filters: Partial<Filters>; readonly items: readonly string[] }[];
  /** A well-formed address of nothing. */
  readonly unknown: readonly string[];
  /** An item whose data the lies are told about, with at least two files. */
  readonly victim: string;
  /** How many items one bad reply of data spoils, where the first vouches for others; default: its own. */
  readonly spoiltByOne?: number;
}

async function gather<T>(values: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const value of values) all.push(value);
  return all;
}

function levelOptions(source: Source): LevelOptions {
  return {
    source: async () => source,
    context: sourceContext(),
    limit: null,
    warn: (sentence) => {
      throw new Error(sentence);
    },
  };
}

async function* each<T>(values: readonly T[]): AsyncGenerator<T> {
  yield* values;
}

const ids = (items: readonly Item[]): string[] => [...new Set(items.map((item) => item.id))].sort();

export function sourceContract(name: string, make: () => Promise<SourceStand>, traits: SourceTraits): void {
  describe(`source contract: ${name}`, () => {
    let stand: SourceStand;
    let base: string;
    const temporary: string[] = [];

    beforeEach(async () => {
      stand = await make();
      base = await mkdtemp(join(tmpdir(), "gantry-contract-"));
      temporary.push(base);
    });
    afterEach(async () => {
      await stand.close();
      for (const path of temporary.splice(0)) await rm(path, { recursive: true, force: true });
    });

    const root = traits.root ?? [];
    const opaque = traits.opaque === true;
    const rootWord = (): string => formatAddress(stand.source.archive, root);
    const rootQuery = (filters: Partial<Filters> = {}): Query => ({
      path: root,
      filters: { ...NO_FILTERS, ...filters },
    });
    const select = async (filters: Partial<Filters> = {}, path = root): Promise<Item[]> => {
      const context = sourceContext();
      const queries = await resolveQueries(stand.source, [path], { ...NO_FILTERS, ...filters }, context);
      const options = { complete: true, folder: async () => base };
      return gather(selectItems(stand.source, queries, options, context));
    };
    const addressPath = (address: Row[string] | undefined): readonly string[] => {
      // Of a package rows give the path alone; its items have whole addresses all the same.
      const { archive, capabilities } = stand.source;
      if (capabilities.openedByLink && !String(address).startsWith(`${archive}:`))
        return parsePath(String(address), String(address));
      const target = parseTarget([String(address)]);
      if (target.kind === "link" && stand.source.archive === LINK_ARCHIVE) return [target.text];
      const site = target.kind === "link" ? readSite(target.text) : null;
      if (site) {
        expect(site.archive).toBe(stand.source.archive);
        return site.path;
      }
      if (target.kind !== "archive") throw new Error(`${String(address)} names no archive`);
      expect(target.archive).toBe(stand.source.archive);
      return target.paths[0] ?? [];
    };

    describe("answers agree with each other", () => {
      it("lists everything, complete or not, with the same ids and revisions", async () => {
        const context = sourceContext();
        const short = await gather(stand.source.list(rootQuery(), { complete: false }, context));
        const whole = await gather(stand.source.list(rootQuery(), { complete: true }, context));
        expect(ids(short)).toEqual([...traits.items].sort());
        expect(ids(whole)).toEqual([...traits.items].sort());
        const revisions = (items: readonly Item[]): Map<string, string> =>
          new Map([...items].sort((a, b) => (a.id < b.id ? -1 : 1)).map((item) => [item.id, item.revision]));
        expect(revisions(short)).toEqual(revisions(whole));
        for (const item of whole) {
          expect(item.archive).toBe(stand.source.archive);
          expect(item.revision).not.toBe("");
        }
      });

      it.skipIf(opaque)("walks from the root to every item by the addresses that browse gives", async () => {
        const { capabilities } = stand.source;
        const depth = capabilities.levels.indexOf(capabilities.itemLevel);
        let paths: (readonly string[])[] = [root];
        for (let level = root.length; level <= depth; level += 1) {
          const below: (readonly string[])[] = [];
          for (const path of paths) {
            const rows = stand.source.browse({ path, filters: NO_FILTERS }, sourceContext());
            for await (const row of rows) below.push(addressPath(row.address));
          }
          paths = below;
        }
        const found = await gather(stand.source.lookup(each(paths), sourceContext()));
        expect(ids(found)).toEqual([...traits.items].sort());
      });

      it.skipIf(opaque)(
        "lists below each row of the first level what belongs there, and all of it together",
        async () => {
          const rows = await gather(stand.source.browse(rootQuery(), sourceContext()));
          const all: Item[] = [];
          for (const row of rows) all.push(...(await select({}, addressPath(row.address))));
          // Items that belong to a place as a whole come with each row.
          if (!stand.source.capabilities.sharedItems) expect(all.length).toBe(ids(all).length);
          expect(ids(all)).toEqual([...traits.items].sort());
        },
      );

      it("looks up each item by its own address as it was listed", async () => {
        for (const item of await select()) {
          const path = addressPath(item.address);
          const [found, ...more] = await gather(stand.source.lookup(each([path]), sourceContext()));
          expect(more).toEqual([]);
          // What it was selected by is a fact of the question.
          const { Selected: _, ...labels } = item.labels;
          expect(found).toEqual({ ...item, labels });
        }
      });

      it("counts the values of each field as its items have them", async () => {
        const { source } = stand;
        const { fields, patientFields } = source.capabilities;
        const ask = (of: Source, field: string): Promise<Row[]> =>
          gather(valuesOf(of, field, rootQuery(), () => each(items), levelOptions(of)));
        const items = await select();
        for (const field of [...Object.keys(fields), ...Object.keys(patientFields ?? {})]) {
          const rows = await ask(source, field);
          const silent = new Proxy(source, {
            get: (target, key) => {
              if (key === "values") return () => null;
              const value: unknown = Reflect.get(target, key, target);
              return typeof value === "function" ? value.bind(target) : value;
            },
          });
          const counted = await ask(silent, field);
          // An archive may say nothing of items without a value; the values themselves must agree.
          const named = (list: readonly Row[]): readonly Row[] => list.filter((row) => row.value !== null);
          expect({ field, rows: named(rows) }).toEqual({ field, rows: named(counted) });
        }
      });

      it.skipIf(opaque)("adds up the totals of a level to those of all items", async () => {
        const totals = await levelTotals(stand.source, rootQuery(), sourceContext());
        const rows = (await gather(stand.source.browse(rootQuery(), sourceContext()))).map(totals);
        const sum = (column: string): number =>
          rows.reduce((total, row) => total + Number(row[column] ?? 0), 0);
        const items = await select();
        const { itemLevel } = stand.source.capabilities;
        if (itemLevel === "series") expect(sum("Series")).toBe(traits.items.length);
        if (itemLevel === "file") expect(sum("Files")).toBe(items.length);
        else expect(sum("Images")).toBe(items.reduce((total, item) => total + (item.files ?? 0), 0));
        const known = items.every(({ bytes }) => bytes !== null);
        if (known) expect(sum("Bytes")).toBe(items.reduce((total, item) => total + (item.bytes ?? 0), 0));
        else expect(rows.map(({ Bytes }) => Bytes)).toContain(null);
      });

      it.skipIf(opaque)("gives rows of every level, whose totals are those of the items", async () => {
        const { source } = stand;
        const { levels, itemLevel } = source.capabilities;
        const items = await select();
        const rowsOf = (level: Level, of: readonly Item[] = items): Promise<Row[]> =>
          gather(levelRows(level, each(of), levelOptions(source)));
        const [total] = await rowsOf("total");
        const known = items.every(({ bytes }) => bytes !== null);
        const counts = itemLevel === "file" ? "Files" : "Images";
        expect(total).toMatchObject({
          [counts]:
            itemLevel === "file" ? items.length : items.reduce((sum, item) => sum + (item.files ?? 0), 0),
          Bytes: known ? items.reduce((sum, item) => sum + (item.bytes ?? 0), 0) : null,
        });
        for (const name of levels) {
          const below = levels.indexOf(name) > levels.indexOf(itemLevel);
          if (below && !source.parts) continue;
          const level = readLevel(name, source);
          if (level === null) continue;
          const rows = await rowsOf(level);
          const addresses = rows.map((row) => String(row.address));
          expect(new Set(addresses).size).toBe(addresses.length);
          for (const row of rows) {
            expect(columnsOfLevel(source.capabilities, level)).toEqual(
              expect.arrayContaining(Object.keys(row)),
            );
          }
          if (below) continue;
          // Of a file's own row there is nothing to count.
          const summed = rows.every((row) => counts in row) ? [counts] : [];
          for (const column of known ? [...summed, "Bytes"] : summed) {
            expect(rows.reduce((sum, row) => sum + Number(row[column]), 0)).toBe(total?.[column]);
          }
          // A row's address names what its totals are of.
          const path = addressPath(addresses.at(-1));
          const query = await source.resolve({ path, filters: NO_FILTERS }, sourceContext());
          const inside = await gather(
            selectItems(source, [query], { complete: false, folder: async () => base }, sourceContext()),
          );
          const same = await rowsOf(level, inside);
          expect(same.at(-1)).toEqual(rows.at(-1));
          if (!source.capabilities.sharedItems) expect(same).toHaveLength(1);
        }
        expect(() => readLevel("planet", source)).toThrow(expect.objectContaining({ code: "usage" }));
      });

      it.each(traits.filtered)("leaves what passes: $filters", async ({ filters, items }) => {
        expect(ids(await select(filters))).toEqual([...items].sort());
      });

      it.skipIf(opaque)(
        "takes every filter that it claims, and refuses by name what it does not know",
        async () => {
          const { filters } = stand.source.capabilities;
          expect(filters).toContain("limit");
          const { whole } = stand.source.capabilities;
          const few = await select({ limit: 2 });
          const counted = few.map(({ id, labels }) => (whole === undefined ? id : (labels[whole] ?? null)));
          expect(new Set(counted.filter((each) => each !== null)).size).toBe(2);
          const foreign = (["visit", "project"] as const).filter((each) => !filters.includes(each));
          for (const filter of foreign as readonly WordFilter[]) {
            await expect(select({ words: { [filter]: ["x"] } })).rejects.toMatchObject({
              code: "unsupported-filter",
              message: expect.stringContaining(`--${filter}`),
            });
          }
        },
      );
    });

    describe("names", () => {
      it.each(traits.recased)("finds $path", async ({ path, as }) => {
        const query = await stand.source.resolve({ path, filters: NO_FILTERS }, sourceContext());
        expect(query.path).toEqual(as);
      });

      it.each(traits.misspelt)("refuses $path and offers $near", async ({ path, near }) => {
        const refused = stand.source.resolve({ path, filters: NO_FILTERS }, sourceContext());
        await expect(refused).rejects.toMatchObject({ code: "unknown-name" });
        await expect(refused).rejects.toMatchObject({ hint: expect.stringContaining(near) });
      });

      it.skipIf(opaque)(
        "gives an unknown id back as unknown, among known ones, with the address that was asked for",
        async () => {
          const [first] = await select();
          const known = addressPath(first?.address);
          const found = await gather(
            stand.source.lookup(each([known, traits.unknown, known]), sourceContext()),
          );
          const strange = found.filter((item) => item.unknown);
          expect(strange).toHaveLength(1);
          expect(addressPath(strange[0]?.address)).toEqual(traits.unknown);
          expect(ids(found.filter((item) => !item.unknown))).toEqual([first?.id]);
        },
      );
    });

    describe("data", () => {
      it("delivers every item whole, with a statement that proves it", async () => {
        for (const item of await select()) {
          const { arrived, statement, digests } = await fetchItem(stand.source, item, join(base, "scratch"));
          const form = (await stand.source.inspect?.(item, arrived, sourceContext())) ?? null;
          const { digestless, digest } = stand.source.capabilities;
          const { proved, contradiction } = prove(arrived, {
            ...statement,
            digests,
            ...(digestless ? { withoutDigests: { form } } : {}),
          });
          expect({ item: item.id, contradiction }).toEqual({ item: item.id, contradiction: null });
          if (digestless)
            expect(proved).toEqual(expect.arrayContaining([...(traits.proof ?? ["count", "size", "dicom"])]));
          else if (arrived.length > 0) expect(proved).toContain(digest);
          expect(arrived.map((file) => file.digest.split(":")[1]).sort()).toEqual(
            [...(await traits.digests(item.id))].sort(),
          );
          expect(statement.from).not.toBe("");
        }
      });

      it("ends a transfer when its reader leaves in the middle", async () => {
        const victim = await itemOf(traits.victim);
        for await (const delivery of stand.source.fetch(
          [victim],
          { attempt: 0, scratch: base },
          hastyContext(),
        )) {
          if ("error" in delivery) throw delivery.error;
          for await (const entry of delivery.entries) {
            for await (const _ of entry.body) break;
            break;
          }
        }
        await settled();
      });
    });

    const itemOf = async (id: string): Promise<Item> => {
      const found = (await select()).find((item) => item.id === id);
      if (!found) throw new Error(`the archive does not show ${id}`);
      return found;
    };

    const settled = async (): Promise<void> => {
      for (let tries = 0; stand.open() > 0; tries += 1) {
        if (tries > 300) throw new Error(`${stand.open()} transfers are still open`);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    };

    /** Nothing but state: no data, no unfinished file, but for what a source can go on with. */
    const expectNothingLeft = async (dir: string): Promise<void> => {
      expect((await listFiles(dir)).filter((path) => !isCompanion(path))).toEqual([]);
      const left = (await listAll(dir)).filter((path) => /^\.gantry\/(partial|quarantine)\//u.test(path));
      expect(left.filter((path) => !isResumable(path))).toEqual([]);
      expect((await listAll(join(base, "scratch"))).filter((path) => !isResumable(path))).toEqual([]);
      await settled();
    };

    const cleanTree = async (word: string): Promise<Tree> => {
      const dir = join(base, "clean");
      const { summary } = await runPipeline(stand.source, [word], { dir });
      expect(summary).toMatchObject({ exit: 0, failed: 0 });
      return hashTree(dir);
    };

    describe("lies", () => {
      const lies = Object.entries(traits.lies) as [Lie, Verdict][];

      it.each(lies)("%s ends as %s, leaves nothing, and is forgotten by a rerun", async (lie, verdict) => {
        const victim = await itemOf(traits.victim);
        const clean = await cleanTree(victim.address);
        const dir = join(base, "data");
        stand.lie(lie);
        const { summary, events } = await runPipeline(stand.source, [victim.address], {
          dir,
          retries: 1,
          scratch: join(base, "scratch"),
        });
        if (verdict === "stored") {
          expect(summary).toMatchObject({ exit: 0, failed: 0 });
          expect(eventsOf(events, "item-stored").map((event) => event.item)).toEqual([victim.id]);
        } else {
          expect(summary.failures).toMatchObject([{ item: victim.id, code: verdict }]);
          expect(summary).toMatchObject({ exit: new RunError(verdict, "").exit, failed: 1, error: null });
          expect(summary.stored.items).toBe(0);
          await expectNothingLeft(dir);
        }
        // Nothing may lie outside the target folder either.
        expect((await listAll(base)).filter((path) => !/^(data|clean|scratch)\//u.test(path))).toEqual([]);
        stand.honest();
        const rerun = await runPipeline(stand.source, [victim.address], { dir });
        expect(rerun.summary).toMatchObject({ exit: 0, failed: 0 });
        if (lie !== "hostile-name") expect(await hashTree(dir)).toEqual(clean);
        for (const secret of stand.secrets ?? []) {
          expect(stand.elsewhere?.() ?? "").not.toContain(secret);
          expect(JSON.stringify([events, summary])).not.toContain(secret);
        }
      });

      const passing = lies.filter(
        ([, verdict]) => verdict !== "stored" && new RunError(verdict, "").retry === "later",
      );
      it.each(passing)("one %s is mended by another try", async (lie) => {
        const victim = await itemOf(traits.victim);
        const clean = await cleanTree(victim.address);
        const dir = join(base, "data");
        stand.lie(lie, 1);
        const { summary, events } = await runPipeline(stand.source, [victim.address], { dir, retries: 2 });
        expect(summary).toMatchObject({ exit: 0, failed: 0, disputed: 0 });
        expect(eventsOf(events, "item-retry").length).toBeGreaterThan(0);
        expect(await hashTree(dir)).toEqual(clean);
        await settled();
      });

      it.skipIf(opaque)("one bad item does not keep the others from being stored", async () => {
        const [lie, verdict] = lies.find(([, code]) => code !== "stored") as [Lie, Verdict];
        const dir = join(base, "data");
        stand.lie(lie, 1);
        const { summary } = await runPipeline(stand.source, [rootWord()], { dir, jobs: 1 });
        const failed = traits.spoiltByOne ?? 1;
        const failures = Array.from({ length: failed }, () => ({ code: verdict }));
        expect(summary).toMatchObject({ exit: 3, failed, failures });
        expect(summary.stored.items).toBe(traits.items.length - failed);
      });
    });

    const listLies = Object.entries(traits.listLies) as [ListLie, ErrorCode][];
    describe.runIf(listLies.length > 0)("lies of a listing", () => {
      const lies = listLies;

      it.each(lies)("%s is %s, never a shorter list", async (lie, code) => {
        stand.lie(lie);
        const context = sourceContext(hastyContext(), 1);
        await expect(
          gather(stand.source.list(rootQuery(), { complete: true }, context)),
        ).rejects.toMatchObject({ code, retry: "spent" });
        await settled();
      });

      it.each(lies)("after one %s the list is whole", async (lie) => {
        stand.lie(lie, 1);
        const context = sourceContext(hastyContext(), 2);
        const found = await gather(stand.source.list(rootQuery(), { complete: true }, context));
        expect(ids(found)).toEqual([...traits.items].sort());
      });

      it.each(lies)("%s at a refresh keeps what is expected as it was", async (lie) => {
        const dir = join(base, "data");
        const word = rootWord();
        await runPipeline(stand.source, [word], { dir });
        const before = await hashTree(dir);
        const selections = (await listAll(dir)).filter((path) => path.startsWith(".gantry/selections/"));
        stand.lie(lie);
        const { summary } = await runPipeline(stand.source, [], { dir });
        expect(summary).toMatchObject({ exit: 5, withdrawn: 0 });
        expect(await hashTree(dir)).toEqual(before);
        expect((await listAll(dir)).filter((path) => path.startsWith(".gantry/selections/"))).toEqual(
          selections,
        );
      });
    });

    describe("cancelling", () => {
      const reason = new RunError("interrupted", "interrupted by the user");

      it("stops a listing at once, with the signal's own reason", async () => {
        const controller = new AbortController();
        controller.abort(reason);
        const context = sourceContext(hastyContext(controller.signal));
        await expect(
          gather(stand.source.list(rootQuery(), { complete: true }, context)),
        ).rejects.toMatchObject({ code: "interrupted" });
        await settled();
      });

      it.each(["run-started", "planned", "item-started", "item-stored"] as const)(
        "at %s: exit 130, nothing unfinished stays, a rerun completes the tree",
        async (moment) => {
          const word = rootWord();
          const clean = await cleanTree(word);
          const dir = join(base, "data");
          const controller = new AbortController();
          const { summary } = await runPipeline(stand.source, [word], {
            dir,
            signal: controller.signal,
            onEvent: (event) => {
              if (event.type === moment) controller.abort(reason);
            },
          });
          expect(summary).toMatchObject({ exit: 130, error: { code: "interrupted" } });
          const unfinished = async (): Promise<string[]> =>
            (await listAll(dir)).filter((path) => path.startsWith(".gantry/partial/"));
          expect((await unfinished()).filter((path) => !isResumable(path))).toEqual([]);
          await settled();
          const rerun = await runPipeline(stand.source, [word], { dir });
          expect(rerun.summary).toMatchObject({ exit: 0 });
          expect(rerun.summary.here.items).toBeGreaterThanOrEqual(summary.stored.items);
          expect(await unfinished()).toEqual([]);
          expect(await hashTree(dir)).toEqual(clean);
        },
      );

      it.runIf(traits.lies.stall !== undefined)("ends a transfer that hangs", async () => {
        const victim = await itemOf(traits.victim);
        const dir = join(base, "data");
        const controller = new AbortController();
        stand.lie("stall");
        const { summary } = await runPipeline(stand.source, [victim.address], {
          dir,
          signal: controller.signal,
          onEvent: (event) => {
            if (event.type === "item-started") setTimeout(() => controller.abort(reason), 30);
          },
        });
        expect(summary).toMatchObject({ exit: 130 });
        await expectNothingLeft(dir);
      });
    });

    describe("an archive that changes between the list and the data", () => {
      it("does not store an item that was withdrawn", async () => {
        if (!stand.change) return;
        const victim = await itemOf(traits.victim);
        const dir = join(base, "data");
        const { summary } = await runPipeline(stand.source, [victim.address], {
          dir,
          onEvent: (event) => {
            if (event.type === "planned") stand.change?.("withdraw", victim.id);
          },
          jobs: 1,
        });
        expect(summary).toMatchObject({ exit: 4, failures: [{ code: "access-item" }] });
        await expectNothingLeft(dir);
      });

      it("stores an item that lost a file as the archive has it now, and settles it at the next get", async () => {
        if (!stand.change) return;
        const victim = await itemOf(traits.victim);
        const dir = join(base, "data");
        await runPipeline(stand.source, [victim.address], {
          dir,
          onEvent: (event) => {
            if (event.type === "planned") stand.change?.("fewer-files", victim.id);
          },
        });
        const second = await runPipeline(stand.source, [victim.address], { dir });
        expect(second.summary).toMatchObject({ exit: 0, failed: 0, disputed: 0 });
        const third = await runPipeline(stand.source, [victim.address], { dir });
        expect(third.summary).toMatchObject({ exit: 0, stored: { items: 0 } });
        expect(await hashTree(dir)).toEqual(await cleanTree(victim.address));
      });
    });
  });

  const isResumable = (path: string): boolean => /(?:^|\/)resumable\//u.test(path);

  const isCompanion = (path: string): boolean => path === "metadata.csv" || path.endsWith("/LICENSE");
}

/** Reads one item to its end, as the transfer does, without a sink. */
async function fetchItem(source: Source, item: Item, scratch: string) {
  for await (const delivery of source.fetch([item], { attempt: 0, scratch }, hastyContext())) {
    if ("error" in delivery) throw delivery.error;
    const arrived: Arrived[] = [];
    for await (const entry of delivery.entries) {
      const hasher = createHasher(entry.digest ?? source.capabilities.digest);
      const chunks: Uint8Array[] = [];
      for await (const chunk of entry.body) {
        hasher.update(chunk);
        chunks.push(Buffer.from(chunk));
      }
      const bytes = Buffer.concat(chunks);
      arrived.push({
        name: entry.name,
        bytes: bytes.length,
        digest: hasher.digest(),
        head: async () => bytes.subarray(0, 65_536),
      });
    }
    const statement = delivery.statement();
    const digests = source.capabilities.digestless
      ? statement.digests
      : (statement.digests ?? (await source.vouch?.(item, arrived, sourceContext())) ?? null);
    return { arrived, statement, digests };
  }
  throw new Error("nothing was delivered");
}
