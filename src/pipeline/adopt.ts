/**
 * Adoption: an item made from what another tool left of it. Every file is proved by the strongest statement that
 * there is, stays where it lies, and only what is missing or wrong is fetched, image by image.
 *
 * | of the files found                                       | proof in the receipt            |
 * |----------------------------------------------------------|---------------------------------|
 * | all agree with the list of sums beside them, and count   | its name, `count`, `size`       |
 * | and size with the archive's announcement                 |                                 |
 * | else: each is compared with the archive's digest of it   | the digest, `count`, `size`     |
 * | the archive has no digests: count and size agree         | `count`, `size`                 |
 */
import { lstat, open, readFile } from "node:fs/promises";
import { join, posix } from "node:path";
import { RunError } from "../errors.ts";
import { mapOrdered } from "../lib/concurrent.ts";
import { createHasher, type Digest, hashFile } from "../lib/digest.ts";
import { syncFolder } from "../lib/durable-file.ts";
import { compareKeys } from "../lib/external-sort.ts";
import { readFileHead, readFileStream } from "../lib/read-file.ts";
import type { Row } from "../model/item.ts";
import { filePath, type Place } from "../model/place.ts";
import type { StoredFile } from "../model/receipt.ts";
import { foldPath, readSafePath, safeSegment } from "../model/safe-path.ts";
import type { ItemWriter, Sink, Written } from "../sinks/sink.ts";
import type { Arrived, Delivery, ForeignFiles, Source, SourceContext } from "../sources/source.ts";
import type { Found } from "./foreign.ts";
import type { Task } from "./plan.ts";
import { type Proof, prove } from "./prove.ts";

/** What one file on the disk was found to hold. */
interface Local {
  readonly found: Found;
  readonly part: string;
  readonly digest: Digest;
  readonly mtimeMs: number;
}

interface Judged {
  /** By part. */
  readonly good: ReadonlyMap<string, Local>;
  /** Paths of the wrong files of parts that have no good one. */
  readonly bad: readonly string[];
  /** False where the archive has no digests: then every first file is taken for good. */
  readonly byDigest: boolean;
}

/** What is known of the files from an earlier try at the same item, so that nothing is hashed or asked twice. */
export interface AdoptMemory {
  readonly hashed: Map<string, Local>;
  readonly vouched: Map<string, Digest>;
}

export interface AdoptOptions {
  readonly dir: string;
  readonly task: Task;
  readonly source: Source;
  readonly foreign: ForeignFiles;
  readonly sink: Sink;
  readonly context: SourceContext;
  readonly attempt: number;
  readonly scratch: string;
  readonly memory: AdoptMemory;
  readonly onWritten: (bytes: number) => void;
  readonly warn: (sentence: string) => void;
}

export interface Adopted {
  readonly place: Place;
  readonly files: readonly StoredFile[];
  readonly fetched: { readonly files: number; readonly bytes: number };
  readonly proof: readonly string[];
  readonly disputed: string | null;
  /** Scheme and host that missing files came from; null when none did. */
  readonly from: string | null;
  readonly facts: Row;
  /** The archive file that the item came out of, else null. */
  readonly archiveFile: string | null;
  readonly quarantined: readonly string[];
}

/** Nothing could be used; `aside`: files that say they are of the item, but hold other bytes. */
export interface Useless {
  readonly aside: readonly string[];
}

const HASH_JOBS = 2;
const ASK_JOBS = 4;
const FETCH_JOBS = 4;
const SYNC_JOBS = 16;
const HEAD_BYTES = 64 * 1024;
/** Of each file of a half item, for its name: all of them are held at once. */
const NAMING_BYTES = 8 * 1024;
const MAX_NAMED = 5000;
const SUMS_LIMIT_BYTES = 16 * 1024 * 1024;

export function adopt(options: AdoptOptions): Promise<Adopted | Useless> {
  return new Adoption(options).run();
}

class Adoption {
  readonly #options: AdoptOptions;
  #written = 0;

  constructor(options: AdoptOptions) {
    this.#options = options;
  }

  async run(): Promise<Adopted | Useless> {
    const { task, foreign, context } = this.#options;
    const parts = await foreign.parts(task.item, context);
    const candidates = new Map<string, Found[]>();
    for (const found of [...task.found].sort(inPlaceFirst)) {
      if (found.part === null || (parts !== null && !parts.has(found.part))) continue;
      const known = candidates.get(found.part);
      if (known) known.push(found);
      else candidates.set(found.part, [found]);
    }
    const listed = await this.#proveByLists(candidates, parts);
    if (listed) return this.#finish(listed, [], parts, [], foreign.sums.name);
    const judged = await this.#judgeKnown(candidates, parts);
    const missing = [...(parts ?? [])].filter((part) => !judged.good.has(part));
    const good = [...judged.good.values()];
    const complete =
      parts === null || !judged.byDigest
        ? this.#agrees(good) && missing.length === 0
        : missing.length === 0 && good.length > 0;
    if (!complete) {
      const unpacked = await this.#unpack();
      if (unpacked) return unpacked;
    }
    // Without the archive's list nobody knows what is missing; without its digests nobody knows what is right.
    const usable = complete || (parts !== null && judged.byDigest && good.length > 0);
    if (!usable) return { aside: judged.bad };
    return this.#finish(good, missing, parts, judged.bad, judged.byDigest ? null : "");
  }

  get #byDigest(): boolean {
    const { vouch, capabilities } = this.#options.source;
    return vouch !== undefined && !capabilities.digestless;
  }

  /** Whether count and size are what the archive announces. */
  #agrees(files: readonly Local[]): boolean {
    const { item } = this.#options.task;
    return files.length === item.files && sumOf(files) === item.bytes;
  }

  /** The files when a list beside them vouches for every part, and count and size agree as well; else null. */
  async #proveByLists(
    candidates: ReadonlyMap<string, readonly Found[]>,
    parts: ReadonlySet<string> | null,
  ): Promise<readonly Local[] | null> {
    const { item } = this.#options.task;
    if (candidates.size !== (parts?.size ?? item.files) || candidates.size !== item.files) return null;
    const lists = new Map<string, ReadonlyMap<string, Digest>>();
    const chosen: Found[] = [];
    for (const [first] of candidates.values()) {
      const folder = posix.dirname((first as Found).path);
      if (!lists.has(folder)) lists.set(folder, await this.#readList(folder));
      if (!lists.get(folder)?.has(posix.basename((first as Found).path))) return null;
      chosen.push(first as Found);
    }
    if (chosen.reduce((sum, file) => sum + file.bytes, 0) !== item.bytes) return null;
    const files: Local[] = [];
    for await (const local of mapOrdered(many(chosen), HASH_JOBS, (found) => this.#hash(found))) {
      const { path } = local?.found ?? { path: "" };
      if (local?.digest !== lists.get(posix.dirname(path))?.get(posix.basename(path)) || !local) return null;
      files.push(local);
    }
    return files;
  }

  /** What the list of sums in a folder says; nothing when there is none, or it is none. */
  async #readList(folder: string): Promise<ReadonlyMap<string, Digest>> {
    const { dir, foreign } = this.#options;
    const path = join(dir, folder, foreign.sums.name);
    try {
      const facts = await lstat(path);
      if (!facts.isFile() || facts.size > SUMS_LIMIT_BYTES) return new Map();
      return foreign.sums.parse(await readFile(path, "utf8"));
    } catch {
      return new Map();
    }
  }

  /** Without the archive's list of parts only a whole item counts, so fewer or larger files are not even hashed. */
  async #judgeKnown(
    candidates: ReadonlyMap<string, readonly Found[]>,
    parts: ReadonlySet<string> | null,
  ): Promise<Judged> {
    if (parts !== null) return this.#judge(candidates);
    const nothing = { good: new Map<string, Local>(), bad: [], byDigest: true };
    const { item } = this.#options.task;
    const sum = [...candidates.values()].reduce((all, [first]) => all + (first?.bytes ?? 0), 0);
    if (candidates.size !== item.files || sum !== item.bytes) return nothing;
    return this.#judge(candidates).catch((error: unknown) => {
      // An archive that lists no parts may have no digests of them either; then the item is fetched whole.
      if (error instanceof RunError && (error.exit === 5 || error.exit === 6)) return nothing;
      throw error;
    });
  }

  /** Of each part the first file that holds what the archive vouches for. */
  async #judge(candidates: ReadonlyMap<string, readonly Found[]>): Promise<Judged> {
    const good = new Map<string, Local>();
    const bad: string[] = [];
    const byDigest = this.#byDigest;
    const judged = mapOrdered(many([...candidates]), ASK_JOBS, async ([part, files]) => {
      const wrong: string[] = [];
      for (const found of files) {
        const local = await this.#hash(found);
        if (!local) continue;
        if (!byDigest || (await this.#vouched(local)) === local.digest) return { part, local, wrong: [] };
        wrong.push(found.path);
      }
      return { part, local: null, wrong };
    });
    for await (const { part, local, wrong } of judged) {
      if (local) good.set(part, local);
      bad.push(...wrong);
    }
    return { good, bad, byDigest };
  }

  /** Null for what can't be read, is no regular file any more, or changes while it is read. */
  async #hash(found: Found): Promise<Local | null> {
    const { dir, source, context, memory } = this.#options;
    const path = join(dir, found.path);
    const before = await lstat(path).catch(() => null);
    if (!before?.isFile()) return null;
    const mtimeMs = Math.trunc(before.mtimeMs);
    const known = memory.hashed.get(found.path);
    if (known?.mtimeMs === mtimeMs && known.found.bytes === before.size) return known;
    const digest = await hashFile(path, source.capabilities.digest, context.signal).catch(
      (error: unknown) => {
        if (error instanceof RunError && error.code.startsWith("disk-")) return null;
        throw error;
      },
    );
    const after = await lstat(path).catch(() => null);
    if (digest === null || after?.size !== before.size || after.mtimeMs !== before.mtimeMs) return null;
    const part = found.part as string;
    const local: Local = { found: { ...found, bytes: before.size }, part, digest, mtimeMs };
    memory.hashed.set(found.path, local);
    return local;
  }

  async #vouched(local: Local): Promise<Digest | undefined> {
    const { dir, task, source, foreign, context, memory } = this.#options;
    const known = memory.vouched.get(local.part);
    if (known) return known;
    const { found, digest, part } = local;
    const head = () => readFileHead(join(dir, found.path), HEAD_BYTES);
    const arrived: Arrived = { name: part, bytes: found.bytes, digest, head };
    const said = (await source.vouch?.(foreign.part(task.item, part), [arrived], context))?.get(part);
    if (said) memory.vouched.set(part, said);
    return said;
  }

  /** `authority`: the list that vouched instead of the archive; empty when nothing did by digest. */
  async #finish(
    good: readonly Local[],
    missing: readonly string[],
    parts: ReadonlySet<string> | null,
    bad: readonly string[],
    authority: string | null,
  ): Promise<Adopted> {
    const { dir, task, sink, foreign, context } = this.#options;
    const kept = good.filter(({ found }) => !found.unfinished);
    const copied = good.filter(({ found }) => found.unfinished);
    const place = placeOf(task, kept) ?? task.place;
    const names = new Set(kept.map(({ found }) => foldPath(found.path)));
    const digests = new Map<string, Digest>();
    const heads = kept.map(({ found, part }) => ({
      part,
      head: () => readFileHead(join(dir, found.path), HEAD_BYTES),
    }));
    const arrived = kept.map(({ found, part, digest }) => {
      digests.set(part, digest);
      return { name: part, bytes: found.bytes, digest };
    });
    let quarantined: readonly string[] = [];
    let stored: readonly StoredFile[] = [];
    let from: string | null = null;
    const proveAll = (): Proof => {
      const { files, bytes } = task.item;
      const proof = prove(arrived, { digests: authority === "" ? null : digests, files, bytes });
      // The archive's own list of parts is the witness; without one a contradiction stays what it is.
      if (proof.contradiction && parts === null)
        throw new RunError(proof.contradiction.code, proof.contradiction.sentence);
      return proof;
    };
    let proof: Proof;
    if (missing.length + copied.length === 0) {
      proof = proveAll();
      context.signal.throwIfAborted();
    } else {
      const writer = await sink.begin(task.item, place);
      try {
        for (const local of copied) {
          const file = await this.#copy(writer, local, fileName(place, local.part, names));
          digests.set(local.part, local.digest);
          arrived.push({ name: local.part, bytes: file.bytes, digest: file.digest });
          heads.push({ part: local.part, head: file.head });
        }
        const fetched = mapOrdered(many(missing), FETCH_JOBS, (part) =>
          this.#fetch(writer, part, fileName(place, part, names)),
        );
        for await (const { part, file, digest, origin } of fetched) {
          digests.set(part, digest);
          arrived.push({ name: part, bytes: file.bytes, digest: file.digest });
          heads.push({ part, head: file.head });
          from = origin;
        }
        proof = proveAll();
        context.signal.throwIfAborted();
        await this.#sync(kept);
        const archive = await this.#archiveNames(place, kept, heads);
        const others = new Map([...archive].map(([part, name]) => [fileName(place, part, names), name]));
        ({ files: stored, quarantined } = await writer.commit(task.replaced, bad, others));
      } catch (error) {
        this.#options.onWritten(-this.#written);
        this.#written = 0;
        await writer.abort();
        throw error;
      }
    }
    if (missing.length + copied.length === 0) await this.#sync(kept);
    const files = [
      ...stored,
      ...kept.map(({ found, digest, mtimeMs }) => ({
        path: found.path,
        bytes: found.bytes,
        digest,
        mtimeMs,
      })),
    ].sort((a, b) => compareKeys(a.path, b.path));
    const [first] = files;
    const facts = first ? foreign.facts(await readFileHead(join(dir, first.path), HEAD_BYTES)) : {};
    const isFetched = new Set(missing);
    return {
      place,
      files,
      fetched: {
        files: missing.length,
        bytes: arrived.reduce((sum, { name, bytes }) => sum + (isFetched.has(name) ? bytes : 0), 0),
      },
      proof: authority ? proof.proved.map((word) => (isDigestWord(word) ? authority : word)) : proof.proved,
      disputed: proof.contradiction?.sentence ?? null,
      from,
      facts,
      archiveFile: null,
      quarantined,
    };
  }

  /**
   * Names as the archive's own, where all kept files have theirs: then a folder that was left half becomes the same as
   * one that was fetched whole. Else none: a name of another tool's kind can't be guessed.
   */
  async #archiveNames(
    place: Place,
    kept: readonly Local[],
    files: readonly { readonly part: string; readonly head: () => Promise<Uint8Array> }[],
  ): Promise<ReadonlyMap<string, string>> {
    const none = new Map<string, string>();
    if (place.file !== null || place.prefix !== "" || files.length > MAX_NAMED) return none;
    const read: { part: string; head: Uint8Array }[] = [];
    for (const { part, head } of files) read.push({ part, head: (await head()).slice(0, NAMING_BYTES) });
    const names = this.#options.foreign.names(read);
    const as = ({ found, part }: Local): boolean => {
      const name = names?.get(part);
      return name !== undefined && filePath(place, name) === found.path;
    };
    return names && kept.every(as) ? names : none;
  }

  async #copy(writer: ItemWriter, local: Local, name: string): Promise<Written> {
    const body = readFileStream(join(this.#options.dir, local.found.path));
    const file = await this.#write(writer, name, body);
    if (file.digest !== local.digest)
      throw new RunError("proof-digest", `${local.found.path} changed while it was read`);
    return file;
  }

  async #fetch(
    writer: ItemWriter,
    part: string,
    name: string,
  ): Promise<{ part: string; file: Written; digest: Digest; origin: string }> {
    const { task, source, foreign, context, attempt, scratch } = this.#options;
    const item = foreign.part(task.item, part);
    for await (const delivery of source.fetch([item], { attempt, scratch }, context)) {
      if ("error" in delivery) throw delivery.error;
      let file: Written | null = null;
      for await (const entry of delivery.entries) {
        if (file) throw new RunError("proof-count", `more than one file came for ${item.address}`);
        file = await this.#write(writer, name, entry.body);
      }
      if (!file) throw new RunError("proof-count", `nothing came for ${item.address}`);
      const { from, digests } = delivery.statement();
      const arrived: Arrived = { ...file, name: part };
      const said = digests ?? (await source.vouch?.(item, [arrived], context)) ?? new Map<string, Digest>();
      const [digest] = said.values();
      if (digest !== file.digest) {
        throw new RunError(
          "proof-digest",
          `${item.address} is not what the archive vouches for (${digest ?? "nothing"}, but ${file.digest} came)`,
        );
      }
      return { part, file, digest, origin: from };
    }
    throw new Error(`${source.kind} delivered nothing for ${item.id}`);
  }

  async #write(writer: ItemWriter, name: string, body: AsyncIterable<Uint8Array>): Promise<Written> {
    const hasher = createHasher(this.#options.source.capabilities.digest);
    const counted = async function* (onBytes: (bytes: number) => void): AsyncGenerator<Uint8Array> {
      for await (const chunk of body) {
        hasher.update(chunk);
        onBytes(chunk.length);
        yield chunk;
      }
    };
    return writer.write(
      name,
      counted((bytes) => {
        this.#written += bytes;
        this.#options.onWritten(bytes);
      }),
      () => hasher.digest(),
    );
  }

  /** The item from an archive file that holds it, stored at the layout's place; null when none is whole. */
  async #unpack(): Promise<Adopted | null> {
    const { dir, task, foreign, sink, warn, onWritten, context } = this.#options;
    for (const { path } of task.found.filter(({ part }) => part === null)) {
      const writer = await sink.begin(task.item, task.place);
      try {
        const delivery = foreign.unpack(task.item, () => readFileStream(join(dir, path)));
        if ("error" in delivery) throw delivery.error;
        const arrived: Written[] = [];
        for await (const entry of delivery.entries) {
          arrived.push(await this.#write(writer, entry.name, entry.body));
        }
        const { proved, disputed } = await this.#proveUnpacked(delivery, arrived);
        context.signal.throwIfAborted();
        const { files, quarantined } = await writer.commit(task.replaced);
        return {
          place: task.place,
          files,
          fetched: { files: 0, bytes: 0 },
          proof: proved,
          disputed,
          from: null,
          facts: delivery.statement().facts,
          archiveFile: path,
          quarantined,
        };
      } catch (error) {
        onWritten(-this.#written);
        this.#written = 0;
        await writer.abort();
        if (!(error instanceof RunError) || error.exit !== 6) throw error;
        warn(`${path} does not hold ${task.item.address} as the archive has it: ${error.message}`);
      }
    }
    return null;
  }

  /** By the list in the archive file when count and size agree too, else by the archive's own digests. */
  async #proveUnpacked(
    delivery: Exclude<Delivery, { error: RunError }>,
    arrived: readonly Written[],
  ): Promise<{ proved: readonly string[]; disputed: string | null }> {
    const { task, source, foreign, context } = this.#options;
    const { item } = task;
    const statement = delivery.statement();
    if (statement.digests && item.files !== null && item.bytes !== null) {
      const { proved, contradiction } = prove(arrived, statement);
      if (!contradiction) {
        const words = proved.map((word) => (isDigestWord(word) ? foreign.sums.name : word));
        return { proved: words, disputed: null };
      }
    }
    if (!this.#byDigest && (item.files === null || item.bytes === null)) {
      throw new RunError("proof-size", "the archive announces nothing that could prove it");
    }
    const digests = this.#byDigest ? await source.vouch?.(item, arrived, context) : null;
    const { proved, contradiction } = prove(arrived, { ...statement, digests: digests ?? null });
    if (contradiction && !(await source.witness?.(item, arrived, context)))
      throw new RunError(contradiction.code, contradiction.sentence);
    return { proved, disputed: contradiction?.sentence ?? null };
  }

  /** Another tool does not sync what it writes. */
  async #sync(files: readonly Local[]): Promise<void> {
    const { dir } = this.#options;
    for await (const _ of mapOrdered(many(files), SYNC_JOBS, ({ found }) =>
      syncQuietly(join(dir, found.path)),
    ));
    for (const folder of new Set(files.map(({ found }) => posix.dirname(found.path))))
      await syncFolder(join(dir, folder));
  }
}

/**
 * Where an adopted item lies: the folder of most of its files. Its own when nothing else is in it; else with a
 * prefix, so that a later refresh keeps out of the way of the others. Null when no file stays where it is.
 */
function placeOf({ item, place }: Task, kept: readonly Local[]): Place | null {
  const counts = new Map<string, number>();
  for (const { found } of kept) {
    const folder = posix.dirname(found.path);
    counts.set(folder, (counts.get(folder) ?? 0) + 1);
  }
  const [most] = [...counts].sort(([a, m], [b, n]) => n - m || compareKeys(a, b));
  const [first] = kept;
  if (!most || !first) return null;
  const folder = most[0] === "." ? null : readSafePath(most[0]);
  if (place.file !== null) return { folder, file: posix.basename(first.found.path), prefix: "" };
  const shared = folder === null || kept.some(({ found }) => found.shared);
  const own = item.id.slice(item.id.indexOf(":") + 1);
  return { folder, file: null, prefix: shared ? `${safeSegment(own)}_` : "" };
}

/** A name for a part that no kept file has; the entry's name before the place's prefix is put to it. */
function fileName(place: Place, part: string, taken: ReadonlySet<string>): string {
  let name = `${part}.dcm`;
  while (place.file === null && taken.has(foldPath(filePath(place, name)))) name = `_${name}`;
  return name;
}

const inPlaceFirst = (a: Found, b: Found): number =>
  Number(a.unfinished) - Number(b.unfinished) || compareKeys(a.path, b.path);

const sumOf = (files: readonly Local[]): number => files.reduce((sum, { found }) => sum + found.bytes, 0);

/** `md5` and its like, as `prove` says them. */
const isDigestWord = (word: string): boolean => word !== "count" && word !== "size";

async function* many<T>(values: readonly T[]): AsyncGenerator<T> {
  yield* values;
}

/** Where a file may not be synced by whom may only read it, its bytes are as safe as its owner left them. */
export async function syncQuietly(path: string): Promise<void> {
  const file = await open(path, "r").catch(() => null);
  await file?.sync().catch(() => undefined);
  await file?.close();
}
