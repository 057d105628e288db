/**
 * What a target folder holds, addressed as one: members of however many archive files, finished or not, and loose files.
 * By receipts; of a folder without any, by the archive files that lie in it.
 */
import { join, resolve } from "node:path";
import { RunError } from "../../errors.ts";
import { ExternalSort } from "../../lib/external-sort.ts";
import { readFileStream } from "../../lib/read-file.ts";
import type { StoredFile } from "../../model/receipt.ts";
import { shownPath } from "../../model/safe-path.ts";
import { readItemStates } from "../../state/receipts.ts";
import { openStateFolder, readNames, type StateFolder, temporaryFolder } from "../../state/state-folder.ts";
import { openArchiveFile } from "./archive-file.ts";
import { isArchiveName } from "./archive-name.ts";
import { type Codec, openCodec, PACK_FORMATS } from "./codec.ts";
import { folderMending } from "./damage.ts";
import type { ArchiveFile, ArchiveMember, OnLeft } from "./members.ts";
import { type Mending, type PlacedLine, proved, readPieces } from "./read-pieces.ts";
import { Shelf } from "./shelf.ts";

type Member = ArchiveMember & { readonly body: AsyncIterable<Uint8Array> };

/**
 * The members of all that a folder holds. `warn` is told of receipts that do not count. Throws `folder-unknown`,
 * `folder-newer`, `disk-…`.
 */
export async function openStoredFolder(path: string, warn: (sentence: string) => void): Promise<ArchiveFile> {
  const state = await openStateFolder(path);
  if (state) return new StoredFolder(state, warn);
  const names = (await readNames(path)).filter(isArchiveName);
  if (names.length === 0)
    throw new RunError("folder-unknown", `${path} holds neither receipts of gantry nor an archive file`);
  return new ArchiveFiles(await Promise.all(names.map((name) => openArchiveFile(join(path, name)))), names);
}

/** Archive files that lie side by side, in the order of their names. */
class ArchiveFiles implements ArchiveFile {
  readonly #files: readonly ArchiveFile[];
  readonly #names: readonly string[];

  constructor(files: readonly ArchiveFile[], names: readonly string[]) {
    this.#files = files;
    this.#names = names;
  }

  async *members(): AsyncGenerator<ArchiveMember> {
    for (const [index, file] of this.#files.entries())
      for await (const member of file.members()) yield { ...member, archive: this.#names[index] ?? null };
  }

  async *read(wants: (path: string) => boolean, onLeft?: OnLeft): AsyncGenerator<Member> {
    for (const file of this.#files) yield* file.read(wants, onLeft);
  }
}

/** A member of an archive file, or a loose file. */
type Line = PlacedLine & { readonly archive: string | null };

class StoredFolder implements ArchiveFile {
  readonly #state: StateFolder;
  readonly #warn: (sentence: string) => void;
  readonly #mending: Mending = async () => folderMending(this.#state.dir);

  constructor(state: StateFolder, warn: (sentence: string) => void) {
    this.#state = state;
    this.#warn = warn;
  }

  /** In the order of archive files, and of members in them; loose files come first, by their paths. */
  async *members(): AsyncGenerator<ArchiveMember> {
    const temporary = temporaryFolder();
    try {
      for await (const { path, bytes, digest, archive } of this.#sorted(temporary.folder))
        yield { path, bytes, digest, archive };
    } finally {
      await temporary.remove();
    }
  }

  async *read(wants: (path: string) => boolean): AsyncGenerator<Member> {
    const temporary = temporaryFolder();
    const lines = this.#sorted(temporary.folder);
    try {
      const first = yield* this.#readLoose(lines, wants);
      if (first === null) return;
      async function* packed(): AsyncGenerator<PlacedLine> {
        yield first as PlacedLine;
        yield* lines;
      }
      const known = "receipts name";
      yield* readPieces(packed(), this.#codec().unpack, wants, { known, mending: this.#mending });
    } finally {
      await lines.return(undefined);
      await temporary.remove();
    }
  }

  /** The loose files; returns the first line that is of none. */
  async *#readLoose(
    lines: AsyncGenerator<Line>,
    wants: (path: string) => boolean,
  ): AsyncGenerator<Member, Line | null> {
    for (let next = await lines.next(); !next.done; next = await lines.next()) {
      const { path, bytes, digest, archive, file } = next.value;
      if (archive !== null) return next.value;
      if (wants(path))
        yield { path, bytes, digest, body: proved(readFileStream(file), path, digest, this.#mending) };
    }
    return null;
  }

  #codec(): Codec {
    const sink = this.#state.facts?.sink;
    const format = PACK_FORMATS.find((each) => each === sink);
    if (format === undefined)
      throw new RunError("folder-newer", `${this.#state.dir} is kept as ${JSON.stringify(sink)}`);
    return openCodec(format);
  }

  async *#sorted(temporary: () => Promise<string>): AsyncGenerator<Line> {
    const sorter = new ExternalSort({ folder: temporary });
    try {
      const states = readItemStates(this.#state, { folder: temporary, onBad: this.#warn });
      for await (const { current } of states) {
        if (current.type === "removed") continue;
        for (const file of current.files)
          await sorter.push(sortKey(file), JSON.stringify({ ...file, item: current.item }));
      }
      let place: { archive: string; file: string } | null = null;
      for await (const text of sorter.sorted()) {
        const { packed, path, bytes, digest, item } = JSON.parse(text) as StoredFile & { item: string };
        const shown = { path: shownPath(path) ?? path, bytes, digest, item };
        if (packed === undefined) {
          const file = resolve(this.#state.dir, path);
          yield { ...shown, offset: 0, length: bytes, at: 0, archive: null, file };
          continue;
        }
        if (place?.archive !== packed.archive) place = await this.#locate(packed.archive);
        yield { ...shown, ...packed, file: place.file };
      }
    } finally {
      await sorter.close();
    }
  }

  async #locate(archive: string): Promise<{ archive: string; file: string }> {
    const { facts, dir } = this.#state;
    const shelf = new Shelf(this.#state, this.#codec().format, facts?.archive ?? "");
    return { archive, file: (await shelf.locate(archive)) ?? join(dir, archive) };
  }
}

function sortKey({ path, packed }: StoredFile): string {
  if (packed === undefined) return `\u0000${path}`;
  const [offset, at] = [packed.offset, packed.at].map((value) => String(value).padStart(16, "0"));
  return `${packed.archive}\u0000${offset}${at}`;
}
