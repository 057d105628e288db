/**
 * `pack`: what a folder holds as loose files goes into archive files, by the sink that `get --pack` writes with.
 *
 * The folder is an archive folder from the start, in which some items still lie loose: so it can be killed anywhere, and
 * `get`, `verify` and `pack` go on from there. A loose file is deleted only after the archive that holds its bytes is
 * on the disk, and then its receipt.
 */
import { lstat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { RunError } from "../errors.ts";
import { mapOrdered } from "../lib/concurrent.ts";
import { createHasher, type Digest, digestAlgorithm, hashFile } from "../lib/digest.ts";
import type { Place } from "../model/place.ts";
import type { ItemState, StoredFile } from "../model/receipt.ts";
import { safeSegment, shownPath } from "../model/safe-path.ts";
import type { Sink, Store } from "../sinks/sink.ts";
import { ReceiptWriter } from "../state/receipts.ts";
import { beginRun, newRunId, readLives } from "../state/runs.ts";
import {
  changeFacts,
  changeSink,
  openStateFolder,
  type StateFolder,
  temporaryFolder,
} from "../state/state-folder.ts";
import { openUnfinished } from "../state/unfinished.ts";
import { Deleter } from "./deleter.ts";
import type { DropEnvironment } from "./drop.ts";
import type { Tally } from "./events.ts";
import { readStates, writeDerived } from "./held.ts";
import { isStored } from "./plan.ts";

/** Items at once: as many as keep the compressors busy while others are read. */
const JOBS = 4;

export interface PackOptions {
  readonly dir: string;
  /** Form of the archive files; default that of a folder that packs. */
  readonly format?: string;
  /** An archive file that has grown so large takes no further items. */
  readonly shardBytes?: number;
  /** In the numbers of archive files; default 5. */
  readonly shardDigits?: number;
  /** What is in several archive files goes into one, too, and what is in one that holds blanks into one without. */
  readonly join?: boolean;
  readonly warn?: (sentence: string) => void;
}

export interface PackSummary {
  readonly dir: string;
  /** Packed now. */
  readonly packed: Tally;
  /** Items that were packed before. */
  readonly before: number;
  /** Taken over from other archive files, or from one that held blanks. */
  readonly joined: Tally;
  /** Loose files deleted. */
  readonly deletedFiles: number;
  /** Items that stay loose, since what a folder shows of them is made from them. */
  readonly kept: number;
  /** Files that are not as they were stored; their items stay as they are. */
  readonly bad: readonly { readonly path: string; readonly state: "changed" | "missing" }[];
}

/** Throws `folder-unknown`, `folder-busy`, `folder-layout`, `usage`, `disk-…`. */
export async function pack(options: PackOptions, environment: DropEnvironment): Promise<PackSummary> {
  const state = await openStateFolder(options.dir);
  const dir = resolve(options.dir);
  if (!state) {
    throw new RunError("folder-unknown", `${dir} holds no receipts of gantry`, {
      hint: `let get adopt what is there first: gantry get ADDRESS -o ${options.dir}`,
    });
  }
  const { context } = environment;
  const format = options.format ?? state.facts?.sink;
  if (format === undefined || format === "folder") {
    throw new RunError("usage", "there is no form to pack into", {
      hint: "say which, for example --pack tar.zst",
    });
  }
  const run = newRunId(context.clock);
  const handle = await beginRun(state, {
    run,
    clock: context.clock,
    detached: false,
    warn: options.warn ?? ((sentence) => context.log("warn", sentence)),
    signal: context.signal,
  });
  handle.update({ state: "transferring" });
  const temporary = temporaryFolder();
  let exit = 0;
  try {
    const folder = await changeSink(state, format, safeSegment(basename(dir)));
    const store = await environment.store(folder);
    const signal = AbortSignal.any([context.signal, handle.stopSignal]);
    const packing = new Packing(folder, store, { run, signal, temporary: temporary.folder, environment });
    const summary = await packing.run(options);
    exit = summary.bad.length > 0 ? 6 : 0;
    return summary;
  } catch (error) {
    exit = error instanceof RunError ? error.exit : 1;
    // Refused before anything was packed: another form may still be chosen.
    if (error instanceof RunError && error.code === "usage") await changeFacts(state, {});
    throw error;
  } finally {
    await temporary.remove();
    await handle.finish(exit);
  }
}

type Shape = Pick<PackOptions, "shardBytes" | "shardDigits" | "join">;

interface Surroundings {
  readonly run: string;
  readonly signal: AbortSignal;
  readonly temporary: () => Promise<string>;
  readonly environment: DropEnvironment;
}

/** What became of one item. */
interface Outcome {
  readonly packed: readonly StoredFile[];
  readonly before: boolean;
  readonly kept: boolean;
  /** Loose files whose bytes an archive file holds, by its receipt. */
  readonly loose: readonly string[];
  readonly bad: PackSummary["bad"];
}

/** Passes of a join: into another archive file, from that into the one without a number, and a look whether all is well. */
const MOST_PASSES = 3;

const NOTHING: Outcome = { packed: [], before: false, kept: false, loose: [], bad: [] };

class Packing {
  readonly #state: StateFolder;
  readonly #store: Store;
  readonly #around: Surroundings;

  constructor(state: StateFolder, store: Store, around: Surroundings) {
    this.#state = state;
    this.#store = store;
    this.#around = around;
  }

  async run({ shardBytes, shardDigits, join: joins = false }: Shape): Promise<PackSummary> {
    const { run, temporary, environment } = this.#around;
    const unfinished = await openUnfinished(this.#state, run);
    const receipts = new ReceiptWriter(this.#state, run);
    try {
      // What an earlier run left goes on under this run's name.
      if (await this.#store.isUnsettled()) await this.#settle({ publish: false });
      const sink = await this.#store.sink({
        run,
        partial: join(unfinished.partial, "items"),
        scratch: null,
        quarantine: this.#state.path("quarantine", run),
        shardBytes: shardBytes ?? null,
        shardDigits,
      });
      let summary: PackSummary;
      try {
        summary = await this.#packAll(sink, receipts);
      } finally {
        await sink.close();
      }
      if (joins) {
        if (summary.packed.items > 0) await this.#settle({ publish: false });
        const { joined, bad } = await this.#join(receipts);
        summary = { ...summary, joined, bad: [...summary.bad, ...bad] };
      }
      if (await this.#store.isUnsettled()) await this.#settle({ publish: true });
      if (summary.packed.items + summary.joined.items > 0) {
        const { source } = environment;
        await writeDerived({ state: this.#state, store: this.#store, temporary, source });
      }
      return summary;
    } finally {
      await receipts.close();
      await unfinished.remove({ whole: false });
    }
  }

  async #join(receipts: ReceiptWriter): Promise<Pick<PackSummary, "joined" | "bad">> {
    const { run, signal, temporary } = this.#around;
    let joined: Tally = { items: 0, files: 0, bytes: 0 };
    for (let pass = 1; ; pass += 1) {
      const bad: PackSummary["bad"][number][] = [];
      let [items, files, bytes] = [0, 0, 0];
      const taken = this.#store.join({
        run,
        states: () => readStates(this.#state, temporary),
        wants: isStored,
        signal,
      });
      for await (const batch of taken) {
        await Promise.all(batch.moved.map((each) => this.#receipt(receipts, each.found, each.files)));
        items += batch.moved.length;
        for (const each of batch.moved) {
          files += each.files.length;
          bytes += each.files.reduce((sum, file) => sum + file.bytes, 0);
        }
        bad.push(...batch.bad.map(({ file, state }) => ({ path: file.path, state })));
      }
      // A further pass takes over all that one before it did.
      if (items > 0) joined = { items, files, bytes };
      if (items === 0 || pass === MOST_PASSES) return { joined, bad };
      await this.#settle({ publish: false });
    }
  }

  /** Says where the files of an item are now. */
  async #receipt(
    receipts: ReceiptWriter,
    { current, heads }: ItemState,
    files: readonly StoredFile[],
  ): Promise<void> {
    const { sum: _, ...body } = current;
    const at = this.#around.environment.context.clock.now().toISOString();
    await receipts.append({ ...body, type: "moved", supersedes: heads, at, files });
  }

  async #settle({ publish }: { readonly publish: boolean }): Promise<void> {
    const { run, temporary } = this.#around;
    await this.#store.settle({
      run,
      states: () => readStates(this.#state, temporary),
      life: await readLives(this.#state),
      publish,
      temporary,
    });
  }

  async #packAll(sink: Sink, receipts: ReceiptWriter): Promise<PackSummary> {
    const packed = { items: 0, files: 0, bytes: 0 };
    let [before, kept, deletedFiles] = [0, 0, 0];
    const bad: PackSummary["bad"][number][] = [];
    const deleter = new Deleter(this.#state.dir);
    const outcomes = mapOrdered(readStates(this.#state, this.#around.temporary), JOBS, (each) =>
      this.#packItem(each, sink, receipts),
    );
    try {
      for await (const outcome of outcomes) {
        if (outcome.packed.length > 0) packed.items += 1;
        packed.files += outcome.packed.length;
        packed.bytes += outcome.packed.reduce((sum, file) => sum + file.bytes, 0);
        before += outcome.before ? 1 : 0;
        kept += outcome.kept ? 1 : 0;
        bad.push(...outcome.bad);
        for (const path of outcome.loose) deletedFiles += (await deleter.delete(path)) ? 1 : 0;
      }
    } finally {
      await deleter.close();
    }
    const joined = { items: 0, files: 0, bytes: 0 };
    return { dir: this.#state.dir, packed, before, joined, deletedFiles, kept, bad };
  }

  async #packItem(found: ItemState, sink: Sink, receipts: ReceiptWriter): Promise<Outcome> {
    this.#around.signal.throwIfAborted();
    const { current } = found;
    if (!isStored(found) || current.files.length === 0) return NOTHING;
    // One that was cut after its receipt: the loose files are still there.
    if (current.files.every(({ packed }) => packed !== undefined))
      return { ...NOTHING, before: true, loose: await this.#leftovers(current.files) };
    if (current.files.some(({ path }) => shownPath(path) !== null)) return { ...NOTHING, kept: true };
    const check = await this.#store.check(current.files, false, this.#around.signal);
    if (check.bad.length > 0)
      return { ...NOTHING, bad: check.bad.map(({ file, state }) => ({ path: file.path, state })) };
    const written = await this.#write(sink, current.item, current.files);
    if ("bad" in written) return { ...NOTHING, bad: [{ path: written.bad, state: "changed" }] };
    await this.#readBack(written.files);
    await this.#receipt(receipts, found, written.files);
    const loose = current.files.filter(({ packed }) => packed === undefined);
    return { ...NOTHING, packed: written.files, loose: loose.map(({ path }) => path) };
  }

  /** Puts the files of an item into an archive file under their own paths, each proved by its digest. */
  async #write(
    sink: Sink,
    id: string,
    files: readonly StoredFile[],
  ): Promise<{ readonly files: readonly StoredFile[] } | { readonly bad: string }> {
    const top: Place = { folder: null, file: null, prefix: "", asStored: true };
    const writer = await sink.begin({ id }, top);
    try {
      for (const file of files) {
        const hasher = createHasher(digestAlgorithm(file.digest));
        let digest: Digest | null = null;
        const bytes = this.#store.read(file);
        async function* body(): AsyncGenerator<Uint8Array> {
          for await (const chunk of bytes) {
            hasher.update(chunk);
            yield chunk;
          }
          digest = hasher.digest();
        }
        const written = await writer.write(file.path, body(), () => digest ?? hasher.digest());
        if (written.digest !== file.digest) {
          await writer.abort();
          return { bad: file.path };
        }
        this.#around.signal.throwIfAborted();
      }
      return { files: (await writer.commit([])).files };
    } catch (error) {
      await writer.abort();
      throw error;
    }
  }

  /** The loose files go next, so what took their place is proved as it lies there. Throws `disk-error`. */
  async #readBack(files: readonly StoredFile[]): Promise<void> {
    const { bad } = await this.#store.check(files, true, this.#around.signal);
    const [first] = bad;
    if (first === undefined) return;
    throw new RunError(
      "disk-error",
      `${first.file.packed?.archive}: ${first.file.path} is not there as it was just packed`,
      { hint: "the disk or the compressor is at fault: the loose file stays; check them, then pack again" },
    );
  }

  /** Loose files with the path and the bytes of members. */
  async #leftovers(files: readonly StoredFile[]): Promise<readonly string[]> {
    const left: string[] = [];
    for (const { path, bytes, digest } of files) {
      const full = join(this.#state.dir, path);
      const facts = await lstat(full).catch(() => null);
      if (!facts?.isFile() || facts.size !== bytes) continue;
      if ((await hashFile(full, digestAlgorithm(digest), this.#around.signal)) === digest) left.push(path);
    }
    return left;
  }
}
