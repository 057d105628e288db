/**
 * Items straight into an archive file. Members of an item are gathered in memory, packed together as pieces of a few
 * megabytes, and written as they come; a member that is too large for the memory waits on the disk until its size is
 * known, because a tar header tells it first. No receipt names a piece before its item is proved; the pieces of one that
 * fails are taken out again.
 */
import { createReadStream } from "node:fs";
import { type FileHandle, open, rm } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import type { Digest } from "../../lib/digest.ts";
import { makeFolder, onDisk, writeAll } from "../../lib/durable-file.ts";
import { compareKeys } from "../../lib/external-sort.ts";
import { TAR_MTIME_MS, tarHeader, tarHeaderBytes, tarPadding } from "../../lib/tar-header.ts";
import type { Item } from "../../model/item.ts";
import { filePath, type Place } from "../../model/place.ts";
import type { StoredFile } from "../../model/receipt.ts";
import { foldPath, markedPath, type SafePath } from "../../model/safe-path.ts";
import { assignPaths } from "../assign-paths.ts";
import type { ItemWriter, Sink, SinkOptions, Written } from "../sink.ts";
import { Arena, Memory } from "./arena.ts";
import type { Range, Shard } from "./shard.ts";
import type { Shelf } from "./shelf.ts";

const HEAD_BYTES = 64 * 1024;
/** A piece is closed when it holds so much: what one has to unpack to read one member. Below a power of two, as memory is. */
const PIECE_BYTES = 3 * 1024 * 1024;
/** Pieces of one item that are packed at once, while there is plenty of memory: else one at a time. */
const MOST_PIECES = availableParallelism();

export class ArchiveSink implements Sink {
  readonly #shelf: Shelf;
  readonly #options: SinkOptions;
  readonly #memory = new Memory();
  readonly #shards: Shard[] = [];
  #opening: Promise<Shard> | null = null;
  /** Serial of the files that wait on the disk. */
  #waiting = 0;

  constructor(shelf: Shelf, options: SinkOptions) {
    this.#shelf = shelf;
    this.#options = options;
  }

  async begin(_item: Pick<Item, "id">, place: Place): Promise<ItemWriter> {
    return new ArchiveWriter(place, this.#memory, {
      shard: () => this.#shard(),
      waitingFile: async () => {
        const folder = this.#options.scratch ?? this.#options.partial;
        await makeFolder(folder);
        this.#waiting += 1;
        return join(folder, `${this.#waiting}`);
      },
      read: (path, range) => this.#read(path, range),
    });
  }

  /** The archive file that takes the next item. */
  async #shard(): Promise<Shard> {
    const { shardBytes, shardDigits, run } = this.#options;
    const open = this.#shards.find((shard) => shardBytes === null || shard.bytes < shardBytes);
    if (open) return open;
    this.#opening ??= (async () => {
      try {
        const known = new Set(this.#shards.map((shard) => shard.path));
        for (const each of await this.#shelf.unpublished()) {
          if (each.run !== run || known.has(each.path)) continue;
          const shard = await this.#shelf.open(each);
          this.#shards.push(shard);
          if (shardBytes === null || shard.bytes < shardBytes) return shard;
        }
        const shard = await this.#shelf.create(run, { numbered: shardBytes !== null, digits: shardDigits });
        this.#shards.push(shard);
        return shard;
      } finally {
        this.#opening = null;
      }
    })();
    return this.#opening;
  }

  async #read(path: string, { offset, length }: Range): Promise<Buffer> {
    const parts: Uint8Array[] = [];
    const piece = createReadStream(path, { start: offset, end: offset + length - 1 });
    for await (const part of this.#shelf.codec.unpack(piece as AsyncIterable<Uint8Array>)) parts.push(part);
    return Buffer.concat(parts);
  }

  async close(): Promise<void> {
    for (const shard of this.#shards) await shard.close();
    const { partial, scratch } = this.#options;
    for (const path of scratch ? [partial, scratch] : [partial])
      await rm(path, { recursive: true, force: true });
  }
}

interface Surroundings {
  shard(): Promise<Shard>;
  /** A path for a file that waits. */
  waitingFile(): Promise<string>;
  read(path: string, range: Range): Promise<Buffer>;
}

interface Member {
  readonly name: string;
  readonly path: SafePath;
  readonly bytes: number;
  readonly digest: Digest;
  /** Where its header begins in its piece. */
  readonly at: number;
}

interface Piece {
  readonly members: Member[];
  /** Null until it is written. */
  range: Range | null;
}

class ArchiveWriter implements ItemWriter {
  readonly #place: Place;
  readonly #memory: Memory;
  readonly #around: Surroundings;
  readonly #pieces: Piece[] = [];
  readonly #taken = new Set<string>();
  #shard: Promise<Shard> | null = null;
  #arena: Arena | null = null;
  /** The piece that is being gathered. */
  #open: Piece = { members: [], range: null };
  /** The pieces before it that are on their way to the disk; none of these rejects. */
  readonly #underWay = new Set<Promise<void>>();
  /** The last of them: members stand in the archive in the order of their coming. */
  #last: Promise<void> = Promise.resolve();
  /** Of a piece that did not get there; it comes out where pieces are waited for. */
  #failure: { readonly error: unknown } | null = null;
  #turn: Promise<unknown> = Promise.resolve();
  #lastRead: { readonly piece: Piece; readonly bytes: Buffer } | null = null;
  #aborted = false;

  constructor(place: Place, memory: Memory, around: Surroundings) {
    this.#place = place;
    this.#memory = memory;
    this.#around = around;
  }

  write(
    name: string,
    body: AsyncIterable<Uint8Array>,
    digest: () => Digest,
    finished?: string,
  ): Promise<Written> {
    // A member is one run of bytes, so files that come at once take turns.
    const work = this.#turn.then(() => this.#write(name, body, digest, finished));
    this.#turn = work.catch(() => undefined);
    return work;
  }

  async #write(
    name: string,
    body: AsyncIterable<Uint8Array>,
    digest: () => Digest,
    finished: string | undefined,
  ): Promise<Written> {
    const path = this.#freePath(name);
    const headerBytes = tarHeaderBytes(path);
    this.#arena ??= new Arena(this.#memory);
    if (!this.#arena.reserve(headerBytes)) this.#flush();
    let arena = this.#arena as Arena;
    arena.reserve(headerBytes);
    let start = arena.used;
    arena.skip(headerBytes);
    let bytes = 0;
    let waiting: WaitingFile | null = null;
    try {
      for await (const chunk of body) {
        bytes += chunk.length;
        if (waiting) {
          await waiting.write(chunk);
          continue;
        }
        // Room for the padding, too.
        const room = chunk.length + tarPadding(1);
        if (!arena.reserve(room)) {
          const moved = start > 0 ? await this.#moveTail(start, room) : null;
          if (moved) {
            arena = moved;
            start = 0;
          } else {
            waiting = await WaitingFile.begin(finished, this.#around);
            await waiting.write(arena.view(start + headerBytes, arena.used));
            arena.cut(start);
            await waiting.write(chunk);
            continue;
          }
        }
        arena.push(chunk);
      }
      const member = { name, path, bytes, digest: digest(), at: waiting ? 0 : start };
      if (waiting) {
        const head = await this.#writeWaiting(member, waiting);
        return { name, bytes, digest: member.digest, head: async () => head };
      }
      arena.write(tarHeader(path, bytes), start);
      arena.skip(tarPadding(bytes));
      const piece = this.#open;
      piece.members.push(member);
      if (arena.used >= PIECE_BYTES) {
        await this.#turnToFlush();
        this.#flush();
      }
      return { name, bytes, digest: member.digest, head: () => this.#head(piece, member) };
    } catch (error) {
      this.#arena?.cut(waiting ? this.#arena.used : start);
      throw error;
    } finally {
      await waiting?.remove();
    }
  }

  /** The path of a file, or one like it when the item has such a one already: the last word is spoken at the commit. */
  #freePath(name: string): SafePath {
    let path = filePath(this.#place, name);
    for (let again = 0; this.#taken.has(foldPath(path)); again += 1)
      path = markedPath(filePath(this.#place, name), `${name}/${again}`, true);
    this.#taken.add(foldPath(path));
    return path;
  }

  /** Packs and writes what is gathered, behind the writer's back. */
  #flush(): void {
    const arena = this.#arena;
    if (arena === null || this.#open.members.length === 0) return;
    // What is after a piece is most often another one.
    this.#arena = new Arena(this.#memory, arena.used);
    this.#send(arena, arena.used);
  }

  /**
   * The same for members that end before `start`; what comes after is moved to the front of another arena, with room
   * for more. Null when there is no memory for that.
   */
  async #moveTail(start: number, room: number): Promise<Arena | null> {
    await this.#flushed();
    const full = this.#arena as Arena;
    const rest = new Arena(this.#memory);
    const tail = full.view(start, full.used);
    if (!rest.reserve(tail.length + room)) {
      rest.close();
      return null;
    }
    rest.push(tail);
    this.#arena = rest;
    this.#send(full, start);
    return rest;
  }

  #send(arena: Arena, used: number): void {
    const piece = this.#open;
    this.#pieces.push(piece);
    this.#open = { members: [], range: null };
    const work: Promise<void> = this.#pack(piece, arena, used, this.#last).finally(() =>
      this.#underWay.delete(work),
    );
    this.#underWay.add(work);
    this.#last = work;
  }

  async #pack(piece: Piece, arena: Arena, used: number, before: Promise<void>): Promise<void> {
    try {
      if (this.#failure || this.#aborted) return;
      const shard = await this.#theShard();
      piece.range = await shard.pack(arena.view(0, used), before);
    } catch (error) {
      this.#failure ??= { error };
    } finally {
      arena.close();
    }
  }

  /** Resolves when a further piece may be on its way. Throws why one before did not get there. */
  async #turnToFlush(): Promise<void> {
    const isFull = (): boolean =>
      this.#underWay.size >= MOST_PIECES || !this.#memory.hasPlenty(2 * PIECE_BYTES);
    while (this.#underWay.size > 0 && isFull()) await Promise.race(this.#underWay);
    if (this.#failure) throw this.#failure.error;
  }

  /** Resolves when all pieces are on the disk. Throws why one is not. */
  async #flushed(): Promise<void> {
    await Promise.all(this.#underWay);
    if (this.#failure) throw this.#failure.error;
  }

  #theShard(): Promise<Shard> {
    this.#shard ??= this.#around.shard();
    return this.#shard;
  }

  /** A member that is alone in its piece. Resolves to its first bytes. */
  async #writeWaiting(member: Member, waiting: WaitingFile): Promise<Uint8Array> {
    this.#flush();
    await this.#flushed();
    const piece: Piece = { members: [member], range: null };
    this.#pieces.push(piece);
    const { path, bytes } = member;
    let head: Uint8Array = new Uint8Array();
    async function* tar(): AsyncGenerator<Uint8Array> {
      yield tarHeader(path, bytes);
      for await (const chunk of waiting.read()) {
        if (head.length === 0) head = Uint8Array.from(chunk.subarray(0, HEAD_BYTES));
        yield chunk;
      }
      yield Buffer.alloc(tarPadding(bytes));
    }
    piece.range = await (await this.#theShard()).packStream(tar());
    return head;
  }

  async #head(piece: Piece, member: Member): Promise<Uint8Array> {
    const from = member.at + tarHeaderBytes(member.path);
    const to = from + Math.min(member.bytes, HEAD_BYTES);
    if (piece === this.#open && this.#arena) return Uint8Array.from(this.#arena.view(from, to));
    return (await this.#readBack(piece)).subarray(from, to);
  }

  async #readBack(piece: Piece): Promise<Buffer> {
    if (this.#lastRead?.piece === piece) return this.#lastRead.bytes;
    await this.#flushed();
    const bytes = await this.#around.read((await this.#theShard()).path, piece.range as Range);
    this.#lastRead = { piece, bytes };
    return bytes;
  }

  async commit(
    _replaced: readonly StoredFile[],
    _aside: readonly string[] = [],
    names: ReadonlyMap<string, string> = new Map(),
  ): Promise<{ files: readonly StoredFile[]; quarantined: readonly string[] }> {
    this.#flush();
    await this.#flushed();
    await this.#rename(names);
    const files: StoredFile[] = [];
    if (this.#pieces.length > 0) {
      const shard = await this.#theShard();
      await shard.sync();
      for (const { members, range } of this.#pieces) {
        for (const { path, bytes, digest, at } of members) {
          const packed = { archive: shard.archive, ...(range as Range), at };
          files.push({ path, bytes, digest, mtimeMs: TAR_MTIME_MS, packed });
        }
      }
    }
    this.#release();
    return { files: files.sort((a, b) => compareKeys(a.path, b.path)), quarantined: [] };
  }

  /** Packs pieces anew whose members got other paths at the end than they were written under. */
  async #rename(names: ReadonlyMap<string, string>): Promise<void> {
    const all = this.#pieces.flatMap((piece) => piece.members.map((member) => ({ piece, member })));
    const paths = await assignPaths(
      this.#place,
      all.map(({ piece, member }) => ({
        name: names.get(member.name) ?? member.name,
        head: () => this.#head(piece, member),
      })),
    );
    const wanted = new Map(all.map(({ member }, index) => [member, paths[index] as SafePath]));
    for (const [index, piece] of this.#pieces.entries()) {
      if (piece.members.every((member) => wanted.get(member) === member.path)) continue;
      const bytes = await this.#readBack(piece);
      const parts: Uint8Array[] = [];
      const members: Member[] = [];
      let at = 0;
      for (const member of piece.members) {
        const path = wanted.get(member) as SafePath;
        const from = member.at + tarHeaderBytes(member.path);
        const part = [
          tarHeader(path, member.bytes),
          bytes.subarray(from, from + member.bytes + tarPadding(member.bytes)),
        ];
        parts.push(...part);
        members.push({ ...member, path, at });
        at += part.reduce((sum, each) => sum + each.length, 0);
      }
      const shard = await this.#theShard();
      const range = await shard.pack(Buffer.concat(parts));
      await shard.discard([piece.range as Range]);
      this.#pieces[index] = { members, range };
    }
  }

  async abort(): Promise<void> {
    this.#aborted = true;
    await this.#turn;
    await Promise.all(this.#underWay);
    this.#release();
    const ranges = this.#pieces.flatMap(({ range }) => (range ? [range] : []));
    this.#pieces.length = 0;
    // What can't be taken out now has no receipt, and goes when the folder is settled.
    if (ranges.length > 0)
      await this.#theShard()
        .then((shard) => shard.discard(ranges))
        .catch(() => undefined);
  }

  #release(): void {
    this.#arena?.close();
    this.#arena = null;
    this.#open = { members: [], range: null };
    this.#lastRead = null;
  }
}

/** A file on the disk whose bytes are to be packed once all of them are there. */
class WaitingFile {
  readonly #path: string;
  /** Null: somebody else wrote it. */
  readonly #file: FileHandle | null;

  private constructor(path: string, file: FileHandle | null) {
    this.#path = path;
    this.#file = file;
  }

  static async begin(finished: string | undefined, around: Surroundings): Promise<WaitingFile> {
    if (finished !== undefined) return new WaitingFile(finished, null);
    const path = await around.waitingFile();
    return new WaitingFile(path, await onDisk({ operation: "create", path }, () => open(path, "wx")));
  }

  async write(bytes: Uint8Array): Promise<void> {
    const file = this.#file;
    if (file) await onDisk({ operation: "write", path: this.#path }, () => writeAll(file, bytes));
  }

  read(): AsyncIterable<Buffer> {
    return createReadStream(this.#path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>;
  }

  async remove(): Promise<void> {
    if (this.#file === null) return;
    await this.#file.close();
    await rm(this.#path, { force: true });
  }
}
