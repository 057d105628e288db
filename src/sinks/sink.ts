/**
 * The contract of a place where items end up. Nothing of an item is visible before `commit`, and after it all
 * of it is, durably.
 */
import type { Digest } from "../lib/digest.ts";
import type { Item } from "../model/item.ts";
import type { Place } from "../model/place.ts";
import type { ItemState, StoredFile } from "../model/receipt.ts";
import type { Life } from "../state/runs.ts";
import type { StateFolder } from "../state/state-folder.ts";

export interface Written {
  readonly name: string;
  readonly bytes: number;
  readonly digest: Digest;
  /** The first bytes that were written (up to 64 KiB). */
  readonly head: () => Promise<Uint8Array>;
}

export interface ItemWriter {
  /**
   * Writes one file out of sight; several may be written at once. `digest` is read once the body has ended. `finished`:
   * absolute path of a file that holds exactly what `body` gives: it may be linked instead of being copied, and is
   * left where it is. `body` is read to its end all the same. Throws `disk-…` codes.
   */
  write(
    name: string,
    body: AsyncIterable<Uint8Array>,
    digest: () => Digest,
    finished?: string,
  ): Promise<Written>;
  /**
   * Makes everything written durable and visible. `replaced`: files of an earlier revision of the item, which
   * go to quarantine. `aside`: paths (relative to the target) of wrong files that go there before anything appears.
   * `names`: other names for what was written, by the names they were written under. Files in the way that nobody knows go there too. Idempotent after a crash.
   */
  commit(
    replaced: readonly StoredFile[],
    aside?: readonly string[],
    names?: ReadonlyMap<string, string>,
  ): Promise<{ files: readonly StoredFile[]; quarantined: readonly string[] }>;
  /** Leaves nothing behind. Never throws. */
  abort(): Promise<void>;
}

export interface Sink {
  begin(item: Pick<Item, "id">, place: Place): Promise<ItemWriter>;
  close(): Promise<void>;
}

/** What any sink is made from. */
export interface SinkOptions {
  /** Id of this run. */
  readonly run: string;
  /** For unfinished data, on the same file system as the target folder; this run's own. */
  readonly partial: string;
  /** For unfinished data elsewhere (`--scratch`); finished items are copied to `partial`, proved and renamed. */
  readonly scratch: string | null;
  /** Where files go that are in the way; this run's own. */
  readonly quarantine: string;
  /** An archive file that has grown so large takes no further items; null: one takes them all. */
  readonly shardBytes: number | null;
  /** In the numbers of archive files; default 5. */
  readonly shardDigits?: number | undefined;
}

/** What of an item's files is there. */
export interface DiskCheck {
  readonly bad: readonly { readonly file: StoredFile; readonly state: "changed" | "missing" }[];
  /** Bytes are right, and other facts (times) differ. */
  readonly touched: boolean;
  /** The files with the facts of now. */
  readonly files: readonly StoredFile[];
}

export interface SettleOptions {
  readonly run: string;
  /** What receipts say, sorted by item id. */
  readonly states: () => AsyncIterable<ItemState>;
  /** Of a run, by its id. */
  readonly life: (run: string) => Life;
  /** True: what is unfinished gets its final name. */
  readonly publish: boolean;
  readonly temporary: () => Promise<string>;
}

export interface JoinOptions {
  readonly run: string;
  /** What receipts say, sorted by item id. */
  readonly states: () => AsyncIterable<ItemState>;
  /** Whether an item is to be taken over. */
  readonly wants: (found: ItemState) => boolean;
  readonly signal: AbortSignal;
}

/** Items whose files lie in another archive file now, on the disk and proved; and files that are not as they were stored. */
export interface Taken {
  readonly moved: readonly { readonly found: ItemState; readonly files: readonly StoredFile[] }[];
  readonly bad: DiskCheck["bad"];
}

/** What a target folder keeps its items in: one way to write, and the only way to read what is stored. */
export interface Store {
  /** True: files lie in the folder under their own names, so that moved ones can be found, and other tools' adopted. */
  readonly loose: boolean;
  /** Throws `usage` when a program that it needs is missing or does not work. */
  sink(options: SinkOptions): Promise<Sink>;
  /**
   * The files of one item against what is there. Without `hash` bytes are read only where other facts do not suffice.
   * What can't be read is `changed`. Throws `disk-…`.
   */
  check(files: readonly StoredFile[], hash: boolean, signal?: AbortSignal): Promise<DiskCheck>;
  /** The bytes of a stored file, not proved. Throws `disk-…`, `proof-format`. */
  read(file: StoredFile): AsyncIterable<Uint8Array>;
  /**
   * Makes what is there agree with receipts: bytes that none of them names go, what dead runs left unfinished becomes
   * this run's. Nobody may be writing. Can be repeated after any crash. Throws `disk-…`.
   */
  settle(options: SettleOptions): Promise<void>;
  /**
   * One pass of making one archive file of all, without blanks; after `settle`, and before another. The receipts of each
   * batch must be written before the next one is asked for. Yields nothing when nothing is to be done. Throws `disk-…`.
   */
  join(options: JoinOptions): AsyncIterable<Taken>;
  /** Whether `settle` has anything to do that an earlier run left. */
  isUnsettled(): Promise<boolean>;
}

/** How the pipeline gets the store of a folder without knowing which. */
export type OpenStore = (state: StateFolder) => Promise<Store>;
