/** A folder whose items are members of archive files; some may lie loose still, while it is being packed. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { RunError } from "../../errors.ts";
import { readFileStream } from "../../lib/read-file.ts";
import type { Packed, StoredFile } from "../../model/receipt.ts";
import type { StateFolder } from "../../state/state-folder.ts";
import { checkFiles } from "../folder-check.ts";
import type { DiskCheck, JoinOptions, SettleOptions, Sink, SinkOptions, Store, Taken } from "../sink.ts";
import { ArchiveSink } from "./archive-sink.ts";
import type { PackFormat } from "./codec.ts";
import { joinArchives } from "./join.ts";
import { proveMembers, readMember } from "./member-stream.ts";
import { settleArchives } from "./settle.ts";
import { Shelf } from "./shelf.ts";

type PackedFile = StoredFile & { readonly packed: Packed };

export class ArchiveStore implements Store {
  readonly loose = false;
  readonly #shelf: Shelf;
  readonly #state: StateFolder;

  constructor(state: StateFolder, format: PackFormat, base: string) {
    this.#state = state;
    this.#shelf = new Shelf(state, format, base);
  }

  join(options: JoinOptions): AsyncIterable<Taken> {
    return joinArchives(this.#shelf, (...args) => this.check(...args), options);
  }

  async sink(options: SinkOptions): Promise<Sink> {
    await this.#shelf.codec.tryPrograms();
    return new ArchiveSink(this.#shelf, options);
  }

  async check(files: readonly StoredFile[], hash: boolean, signal?: AbortSignal): Promise<DiskCheck> {
    const members = files.filter(isPacked);
    if (members.length < files.length) {
      const loose = files.filter((file) => !isPacked(file));
      const [first, second] = [
        await this.#checkMembers(members, hash, signal),
        await checkFiles(this.#state.dir, loose, hash, signal),
      ];
      return {
        bad: [...first, ...second.bad],
        touched: second.touched,
        files: [...members, ...second.files],
      };
    }
    return { bad: await this.#checkMembers(members, hash, signal), touched: false, files };
  }

  async #checkMembers(
    files: readonly PackedFile[],
    hash: boolean,
    signal?: AbortSignal,
  ): Promise<DiskCheck["bad"]> {
    const bad: { file: StoredFile; state: "changed" | "missing" }[] = [];
    for (const [archive, members] of groupBy(files, (file) => file.packed.archive)) {
      const path = await this.#shelf.locate(archive);
      const size = path === null ? 0 : (await stat(path)).size;
      const there: PackedFile[] = [];
      for (const file of members) {
        if (file.packed.offset + file.packed.length <= size) there.push(file);
        else bad.push({ file, state: "missing" });
      }
      if (!hash || path === null) continue;
      for (const file of await this.#unproved(path, there, signal)) bad.push({ file, state: "changed" });
    }
    return bad;
  }

  /** Of members of one archive file, given piece by piece, those that are not as they were stored. */
  async #unproved(
    path: string,
    files: readonly PackedFile[],
    signal?: AbortSignal,
  ): Promise<readonly PackedFile[]> {
    const sorted = [...files].sort((a, b) => a.packed.offset - b.packed.offset || a.packed.at - b.packed.at);
    const pieces = [...groupBy(sorted, (file) => file.packed.offset).values()];
    const ranges = pieces.map(([first]) => (first as PackedFile).packed);
    try {
      const right = await proveMembers(this.#shelf.codec, path, ranges, sorted, signal);
      return sorted.filter((_, index) => !right[index]);
    } catch (error) {
      if (!(error instanceof RunError) || error.code !== "proof-format") throw error;
      // One damaged piece says nothing of the others.
      if (pieces.length <= 1) return sorted;
      const wrong: PackedFile[] = [];
      for (const piece of pieces) wrong.push(...(await this.#unproved(path, piece, signal)));
      return wrong;
    }
  }

  async *read(file: StoredFile): AsyncGenerator<Uint8Array> {
    if (!isPacked(file)) {
      yield* readFileStream(join(this.#state.dir, file.path));
      return;
    }
    const path = await this.#shelf.locate(file.packed.archive);
    if (path === null) throw new RunError("disk-error", `${file.packed.archive} is not there`);
    yield* readMember(this.#shelf.codec, path, file.packed, file.packed.at, file);
  }

  settle(options: SettleOptions): Promise<void> {
    return settleArchives(this.#shelf, this.#state, options);
  }

  async isUnsettled(): Promise<boolean> {
    return (await this.#shelf.isPacking()) || (await this.#shelf.lacksIndex());
  }
}

const isPacked = (file: StoredFile): file is PackedFile => file.packed !== undefined;

function groupBy<K, T>(values: readonly T[], key: (value: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const value of values) {
    const group = groups.get(key(value));
    if (group) group.push(value);
    else groups.set(key(value), [value]);
  }
  return groups;
}
