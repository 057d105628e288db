/**
 * The contract of a place where items end up. Nothing of an item is visible before `commit`, and after it all
 * of it is, durably.
 */
import type { Digest } from "../lib/digest.ts";
import type { Item } from "../model/item.ts";
import type { Place } from "../model/place.ts";
import type { StoredFile } from "../model/receipt.ts";

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
  begin(item: Item, place: Place): Promise<ItemWriter>;
  close(): Promise<void>;
}

/** What any sink is made from. */
export interface SinkOptions {
  /** Absolute path of the target folder. */
  readonly dir: string;
  /** For unfinished data, on the same file system as `dir`; this run's own. */
  readonly partial: string;
  /** For unfinished data elsewhere (`--scratch`); finished items are copied to `partial`, proved and renamed. */
  readonly scratch: string | null;
  /** Where files go that are in the way; this run's own. */
  readonly quarantine: string;
}

/** How the pipeline gets a sink without knowing which. */
export type CreateSink = (options: SinkOptions) => Sink;
