/**
 * The contract of an archive kind. Everything above it (plan, transfer, screens) knows archives only through
 * this; differences between archives are capabilities, never names.
 *
 * Every method may throw `RunError`; `list` and `lookup` may repeat an item after a retry (readers sort and
 * drop repetitions). All of them stop at `context.signal`.
 */
import type { RunError } from "../errors.ts";
import type { Context } from "../lib/context.ts";
import type { Digest, DigestAlgorithm } from "../lib/digest.ts";
import type { Redactor } from "../lib/redact.ts";
import type { RetryLoop } from "../lib/retry.ts";
import type { Finding } from "../model/finding.ts";
import type { Item, Row, Value } from "../model/item.ts";
import type { FilterName, Query, WordFilter } from "../model/query.ts";
import type { Receipt } from "../model/receipt.ts";
import type { Ascp } from "../transports/ascp/ascp.ts";
import type { Http } from "../transports/http.ts";
import type { ReplyCache } from "../transports/reply-cache.ts";
import type { Sftp, SftpSite } from "../transports/sftp/sftp.ts";

/** What a source gets besides the general context. */
export interface SourceContext extends Context {
  /** The one retry loop, for single requests of a listing (a transfer is retried item by item, by the pipeline). */
  readonly retry: RetryLoop;
  /** A folder for temporary files, for sorting what does not fit in memory; removed with the run. */
  readonly temporary: () => Promise<string>;
}

/** Raw names of where an item lies; the pipeline makes them safe and free of clashes. */
export interface LayoutPlace {
  /** Segments of the folder; empty for the target folder itself. */
  readonly folder: readonly string[];
  /** Name of the item's only file; absent when the item is a folder of files. */
  readonly file?: string;
  /** Put before each file name, where many items share a folder. */
  readonly prefix?: string;
  /**
   * True: the data are kept out of sight, and what is shown at the place is a companion made from them, e.g. a table
   * of files that shall name only those that are here.
   */
  readonly original?: boolean;
}

export type Layout = (item: Item) => LayoutPlace;

export interface Capabilities {
  /** The archive's tree from its root, e.g. `["collection", "patient", "study", "series", "instance"]`. */
  readonly levels: readonly string[];
  /** The level that is an item, e.g. `series`. */
  readonly itemLevel: string;
  readonly filters: readonly FilterName[];
  /** Field word (as in `--modality` or `values … modality`) to the column of an item's labels that holds it. */
  readonly fields: Readonly<Record<string, string>>;
  /** Fields whose values the archive spells now so, now so: counted without case, and shown in capitals. */
  readonly foldedFields?: readonly string[];
  /**
   * Whether users mean a value by a word that is spelt otherwise, e.g. a scan type by its family: for those who can't
   * have the word resolved, as they ask no archive.
   */
  readonly means?: (filter: WordFilter, word: string, value: string) => boolean;
  /** Columns of a listing of items, in order, without `address`, which comes last. */
  readonly columns: readonly string[];
  /** The few of them that fit a terminal. */
  readonly summaryColumns: readonly string[];
  /**
   * By level, the columns that `places` and `parts` fill, in order, without those of `fields` that tell where a place
   * lies, totals and `address`. Absent: a level's rows are only what items tell.
   */
  readonly levelColumns?: Readonly<Record<string, readonly string[]>>;
  /** Field words whose values are told of patients and not of items: the column in `levelColumns.patient`. */
  readonly patientFields?: Readonly<Record<string, string>>;
  /** Columns that hold dates (`yyyy-MM-dd` in labels) for `--since` (the latest of them counts) and `--study-since`. */
  readonly dates: { readonly changed: readonly string[]; readonly acquired: string } | null;
  readonly layouts: Readonly<Record<string, Layout>>;
  readonly defaultLayout: string;
  /** What to hash while bytes pass: the kind of digest that this archive vouches with. */
  readonly digest: DigestAlgorithm;
  /**
   * True: this archive need not give a digest of a file. Where it gives none, the count, the size and what `inspect` says
   * are the proof; of every other archive a missing digest is its failure.
   */
  readonly digestless?: boolean;
  /**
   * True: an item without a value for a field belongs to all that has one, e.g. the description of a study to each of
   * its patients, and passes filters of that field.
   */
  readonly sharedItems?: boolean;
  /**
   * Column of the name of the main item of a whole, such as an image of its side files: the level `itemLevel` of the
   * main one. `--include` and `--exclude` take with an item all that is of its whole, `--limit` counts wholes. An item
   * without it is of the place above: `--include` leaves it, and it comes when something below that place does.
   */
  readonly whole?: string;
  /** Companions that are made only in folders for which somebody asked for them. */
  readonly extras?: readonly Extra[];
  /**
   * True: the one level is of paths, and the folders in them are levels of their own: `browse` gives what is in one, of
   * rows `address` is the path. `fields` names their column.
   */
  readonly nested?: boolean;
  /**
   * True: such an archive is known by a link that is a secret. Rows of its listings have as `address` the PATH to append
   * to the link.
   */
  readonly openedByLink?: boolean;
  /** True: what is sent reaches people, with a title, a note and recipients. */
  readonly messages?: boolean;
  /** How many items one `fetch` takes at most; consecutive ones of a plan come together, and are settled one by one. */
  readonly batchItems: number;
  /** A batch with so many bytes gets no further item. Absent: only their number counts. */
  readonly batchBytes?: number | undefined;
}

/** `bidsignore`: names for BIDS validators what they shall not look at. */
export type Extra = "bidsignore";

/**
 * One file of an item as it arrives. `body` is read once, before the next entry is asked for; a chunk of it holds until the
 * next is asked for.
 */
export interface Entry {
  /** As the archive sent it. */
  readonly name: string;
  readonly body: AsyncIterable<Uint8Array>;
  /** What to hash this file with, where what vouches for it is of another kind than the archive's `digest`. */
  readonly digest?: DigestAlgorithm;
  /**
   * Absolute path, in the scratch folder, of a file that holds exactly what `body` gives once that has ended, so that it need
   * not be copied. It may get a second name while it is here; the pipeline removes this one once the item is stored or proved
   * wrong, and leaves it for the next try after any other failure. A source must never begin to write into one that has
   * more names than one: it removes that name first.
   */
  readonly file?: string;
}

/** What the archive vouches for, complete once the last entry has been read. Null: it says nothing of that. */
export interface Statement {
  /** By entry name. */
  readonly digests: ReadonlyMap<string, Digest> | null;
  /** True: it vouches for some files by a digest, for the others by their count and size. */
  readonly partial?: boolean;
  readonly files: number | null;
  readonly bytes: number | null;
  /** What the source itself found true of the whole item while it passed, e.g. `sha256`, `format`; for the receipt. */
  readonly checked?: readonly string[];
  /** Scheme and host that the bytes came from. */
  readonly from: string;
  /** Facts about the item that only its data tells (e.g. SOPClassUID), kept in the receipt. */
  readonly facts: Row;
}

/** One item of a fetch: its entries, or why there are none. A throw while reading is the item's failure. */
export type Delivery =
  | { readonly item: Item; readonly entries: AsyncIterable<Entry>; readonly statement: () => Statement }
  | { readonly item: Item; readonly error: RunError };

/** What arrived, for a source that is asked to settle a contradiction. */
export interface Arrived {
  readonly name: string;
  readonly bytes: number;
  readonly digest: Digest;
  /** The first bytes of the file (up to 64 KiB). */
  readonly head: () => Promise<Uint8Array>;
}

/** A file that a source keeps beside the data, made anew from what is held (e.g. `metadata.csv`). */
export interface Companion {
  /** Raw segments below the target folder. */
  readonly path: readonly string[];
  readonly content: AsyncIterable<string | Uint8Array>;
  /** True: keep a file that is there already. */
  readonly keep: boolean;
}

/** An item that is held, as companions and citations see it. */
export interface HeldItem {
  readonly item: Item;
  readonly place: string;
  readonly files: number;
  readonly bytes: number;
  readonly facts: Row;
  /** When it was stored, UTC. */
  readonly storedAt: string;
  /** Of its files, relative to the target folder; of an original where what is made from it is shown. */
  readonly paths: readonly string[];
  /** See `LayoutPlace.original`. */
  readonly original: boolean;
  /** The bytes of its first file. */
  readonly read: () => AsyncIterable<Uint8Array>;
}

/** A file that is held names another one that is not here, e.g. a field map what it is for. */
export interface Dangling {
  /** Relative to the target folder. */
  readonly by: string;
  /** Where it would be in the archive's own tree. */
  readonly path: string;
  /** Of what is named, if the archive could have it. */
  readonly address: string | null;
}

/** What data name of other data. */
export interface References {
  /** What of it is not here. `held` as for companions. */
  dangling(held: () => AsyncIterable<HeldItem>): AsyncIterable<Dangling>;
  /** The items at these paths, with all that belongs to each; those that the archive has not are left out. */
  items(paths: ReadonlySet<string>, context: SourceContext): AsyncIterable<Item>;
}

/** What using the data owes. */
export interface Citation {
  readonly collection: string;
  readonly licence: string | null;
  readonly licenceUrl: string | null;
  readonly doi: string | null;
}

/** What an archive offers beside its items, e.g. on the web pages of its collections. */
export interface Offers {
  readonly columns: readonly string[];
  /** The few of them that fit a terminal. */
  readonly summaryColumns: readonly string[];
  /** With `address` where it can be given to `get`, else null; `DateUpdated` is `yyyy-MM-dd`. */
  readonly rows: AsyncIterable<Row>;
}

/** The filters that `Source.downloads` answers; the dates and the limit are applied by the pipeline. */
export const DOWNLOAD_FILTERS: readonly FilterName[] = ["collection", "since", "until", "limit"];

/** An item that a file says it is of. */
export interface Claim {
  /** Id of the item. */
  readonly item: string;
  /** Which file of the item, in the archive's own words; null: an archive file that holds the item whole. */
  readonly part: string | null;
}

/** A file that no receipt names, as far as a source may look at it. */
export interface ForeignFile {
  /** Relative to the target folder, `/` between segments. */
  readonly path: string;
  /** Its first bytes; all of them when `whole`. */
  readonly head: Uint8Array;
  readonly whole: boolean;
  /** From the beginning. */
  readonly read: () => AsyncIterable<Uint8Array>;
}

/**
 * How files that another tool left are recognised by what they hold, whatever their names. A source without it
 * has all its new items fetched.
 */
export interface ForeignFiles {
  /** The items that the file may be of, the likeliest first; `more`: the head was too short to tell. No network. */
  claims(file: ForeignFile): Promise<readonly Claim[] | "more">;
  /** Which parts make the item whole, by the archive's own list; null when it has none. */
  parts(item: Item, context: SourceContext): Promise<ReadonlySet<string> | null>;
  /** One part as an item of its own, for `fetch` and `vouch`. */
  part(item: Item, part: string): Item;
  /**
   * The names that the archive would give to all files of an item, by part, judged by their first bytes; null when
   * they do not tell.
   */
  names(
    files: readonly { readonly part: string; readonly head: Uint8Array }[],
  ): ReadonlyMap<string, string> | null;
  /** What `Statement.facts` would hold, from the first bytes of one of the item's files. */
  facts(head: Uint8Array): Row;
  /** The list of sums that tools leave beside the files of an item: its name, and what it says by file name. */
  readonly sums: { readonly name: string; readonly parse: (text: string) => ReadonlyMap<string, Digest> };
  /** An item from an archive file on the disk, as `fetch` would deliver it. `from` of its statement is empty. */
  unpack(item: Item, read: () => AsyncIterable<Uint8Array>): Delivery;
}

/** A file where the layout puts an item of one file, and that no receipt names. */
export interface PlacedFile {
  /** From the beginning. */
  readonly read: () => AsyncIterable<Uint8Array>;
  /** All of a small file of this name in the same folder; null when there is none. */
  readonly beside: (name: string) => Promise<Uint8Array | null>;
}

/** How files that another tool left under the archive's own names are taken over. Needs `Source.isCurrent`. */
export interface PlacedFiles {
  /**
   * What a receipt of the file would say, as far as it and what lies beside it tell; `isCurrent` is asked whether that is
   * so. Null: nothing proves it, and the item is fetched. No network.
   */
  examine(
    item: Item,
    file: PlacedFile,
  ): Promise<{ readonly facts: Row; readonly proof: readonly string[] } | null>;
}

export interface ListOptions {
  /** False: the columns of a listing are enough. True: everything that layouts and companions need. */
  readonly complete: boolean;
}

export interface FetchOptions {
  /** Which try this is for the item, from 0: patience grows with it. */
  readonly attempt: number;
  /**
   * A folder for what can be resumed, on the disk for unfinished data; it may not exist yet, and other fetches of this run
   * use it, too. What is in it, or in a folder in it, begins with the `scratchName` of its item: another run that goes on
   * with the item takes just that. Survives the process, until a run of the target folder ends without failure.
   */
  readonly scratch: string;
  /**
   * Told of bytes that have come and lie in scratch, so that they count as progress; of as many, negative, when they are
   * handed over as a body or given up.
   */
  readonly onArrived?: (bytes: number) => void;
  /** Told once of the size of an item whose listing had none, when it becomes known, so that an end can be foreseen. */
  readonly onPromised?: (item: Item, bytes: number) => void;
}

/** Files that go to an archive. */
export interface Upload {
  /** Decoded segments of the place they go to, below the archive's root. */
  readonly path: readonly string[];
  readonly files: readonly UploadFile[];
  /** For what ascp or the source has to write down; exists, private, removed after the upload. */
  readonly scratch: string;
  /** What people are told, where the archive has a place for it. */
  readonly title: string | null;
  readonly note: string | null;
  readonly recipients: readonly string[];
  /** True: encrypted at rest, with a passphrase that the source finds in the environment. */
  readonly encrypt: boolean;
  /** How often was tried before. */
  readonly attempt: number;
}

export interface UploadFile {
  /** Absolute. */
  readonly from: string;
  /** `/` between segments, relative to the place; the first segment is the name of what was given. */
  readonly name: string;
  readonly bytes: number;
}

export type UploadEvent =
  /** Bytes that the archive has, of this upload. */
  | { readonly type: "progress"; readonly bytes: number }
  /** What the archive says of the whole, e.g. that it still puts it together; for people. */
  | { readonly type: "state"; readonly sentence: string };

/** What has become of an upload: where it is, for people and to be pasted back where that is possible. */
export interface Uploaded {
  readonly address: string;
  /** What the archive or the transfer vouches for, e.g. `ascp`, `size`. */
  readonly proof: readonly string[];
}

export interface Source {
  /** Name of the configured archive, e.g. `tcia`. */
  readonly archive: string;
  /** Archive kind, e.g. `nbia`. */
  readonly kind: string;
  readonly capabilities: Capabilities;
  /** What a `.tcia` manifest calls this archive (`downloadServerUrl`); absent where no manifest can name it. */
  readonly manifestServer?: string;

  /**
   * The query with every name spelt as the archive spells it. Throws `unknown-name` (with near matches or the
   * valid words) for a name that does not exist, `unsupported-filter` for what this archive can't answer.
   */
  resolve(query: Query, context: SourceContext): Promise<Query>;

  /** One level below the path: rows whose `address` can be pasted back. The path is resolved. */
  browse(query: Query, context: SourceContext): AsyncIterable<Row>;

  /**
   * The values of a field among what the query selects, with the number of patients that have each, if the
   * archive can say so itself; null: the pipeline counts them in the items.
   */
  values(
    field: string,
    query: Query,
    context: SourceContext,
  ): AsyncIterable<{ value: Value; count: number }> | null;

  /**
   * What the archive says of the places of a level above the items', below a path (names, no UID alone): rows with
   * the columns of `fields` for the level and those above it, and of `levelColumns`. More places do no harm.
   */
  places?(level: string, path: readonly string[], context: SourceContext): AsyncIterable<Row>;

  /** What an item consists of, e.g. images: rows with the columns of the level below, and `address`. */
  parts?(item: Item, context: SourceContext): AsyncIterable<Row>;

  /**
   * The elements of an item's first image, or of the one image that it is: rows of `element`
   * (`(gggg,eeee)`, one `>` before it for each sequence it is in), `name` and `data`.
   */
  tags?(item: Item, context: SourceContext): AsyncIterable<Row>;

  /** Items that may match, in any order: a superset is fine, the pipeline filters again. */
  list(query: Query, options: ListOptions, context: SourceContext): AsyncIterable<Item>;

  /** The items of ready paths (each as an address's segments); what the archive does not show comes as `unknown`. */
  lookup(paths: AsyncIterable<readonly string[]>, context: SourceContext): AsyncIterable<Item>;

  /**
   * What the archive offers beside its items at a place, or `--collection`, as typed: not `resolve`d. Absent: nothing of
   * the kind. Throws `usage` when it is not configured, `unknown-name`.
   */
  downloads?(query: Query, context: SourceContext): Offers;

  /** The bytes, item by item, in the order given. Stops early when the reader does. */
  fetch(items: readonly Item[], options: FetchOptions, context: Context): AsyncIterable<Delivery>;

  /**
   * Asked when a delivery came without digests: what the archive vouches for each file that arrived, by name.
   * Throws `proof-digest` when it can't say.
   */
  vouch?(
    item: Item,
    arrived: readonly Arrived[],
    context: SourceContext,
  ): Promise<ReadonlyMap<string, Digest>>;

  /**
   * Asked of an archive without digests: what the files that arrived prove of themselves, as a word for the
   * receipt, e.g. `dicom`. Throws `proof-format` for a file that is not of the item.
   */
  inspect?(item: Item, arrived: readonly Arrived[], context: SourceContext): Promise<string>;

  /**
   * Asked when every digest is right but the announced count or size is not: does the archive's own list of
   * the item's files agree with what arrived? True: the announcement is wrong, and the data whole.
   */
  witness?(item: Item, arrived: readonly Arrived[], context: SourceContext): Promise<boolean>;

  /**
   * Sends files; ends when the archive has all of them, and says so. Absent: nothing can be sent there. The same call
   * again goes on with what has come. Throws what a fetch may throw.
   */
  upload?(upload: Upload, context: SourceContext): AsyncGenerator<UploadEvent, Uploaded>;

  /**
   * Asked of items that are here and whole, several at once, before a transfer, of an archive whose list does not tell
   * when data change: are the data still those of the receipt? Throws what the archive answers instead, after its own
   * retries. Absent: revisions tell.
   */
  isCurrent?(item: Item, receipt: Pick<Receipt, "files" | "facts">, context: SourceContext): Promise<boolean>;

  /**
   * Asked of an item that is here in another revision, before anything is fetched: throws where what would come now is not to
   * take its place, e.g. encrypted files that of decrypted ones.
   */
  checkChange?(item: Item, revision: string): void;

  /** Files that other tools left, known by their content. */
  readonly foreign?: ForeignFiles;

  /** Files that other tools left, known by their place. */
  readonly placed?: PlacedFiles;

  /**
   * Files kept beside the data. `held` can be read any number of times, sorted by item id. `extras`: what was asked for
   * of `Capabilities.extras`.
   */
  companions?(held: () => AsyncIterable<HeldItem>, extras: ReadonlySet<Extra>): AsyncIterable<Companion>;

  readonly references?: References;

  cite(labels: Row): Citation | null;

  /**
   * Small questions that show whether the archive answers, and to this account, step by step. Ends after the first
   * finding that is `failed`. That the server can be reached at all was looked at before.
   */
  diagnose?(context: SourceContext): AsyncIterable<Finding>;

  /** Ends the session of the account's ready token. False: the archive knows of none that could be ended. */
  logOut?(context: Context): Promise<boolean>;

  close(): Promise<void>;
}

/** What a source is made from. */
export interface SourceOptions {
  readonly archive: string;
  readonly url: string;
  readonly http: Http;
  /** For replies about items, never for their bytes; null: nothing is kept. */
  readonly replies?: ReplyCache | null;
  readonly redactor: Redactor;
  /** For transfers by ascp; absent where none can be made. */
  readonly ascp?: Ascp;
  /** For servers that speak SFTP; absent where none is to be spoken. */
  readonly sftp?: (site: SftpSite) => Sftp;
  /** The only way that bytes may come, where there are two; absent: the fastest that gets through. */
  readonly transport?: "ascp" | "sftp";
  /** From the credential store or the environment; every value is known to the redactor. */
  readonly secrets: {
    readonly user?: string;
    readonly password?: string;
    readonly token?: string;
    readonly apiKey?: string;
  };
  /** Settings of this archive, checked against the kind's own. */
  readonly settings: Readonly<Record<string, string>>;
  /**
   * The link that opens this archive, a secret; null when it is not known, or there is none. Asked when it is needed:
   * what concerns no network works without.
   */
  readonly link?: () => string | null;
}

/** How users are known to an archive. */
export interface AccountKind {
  /** `user`: a name and a password; a token is taken, too. */
  readonly by: "user" | "api-key";
  /** The name that anybody may log in with, without a password. */
  readonly guest?: string;
}

/** One archive kind in the register. */
export interface SourceKind {
  readonly kind: string;
  /** What people call it. */
  readonly title: string;
  /** Settings that an archive of this kind takes beside its URL, by name. */
  readonly settings?: Readonly<
    Record<string, { readonly help: string; readonly values?: readonly string[] }>
  >;
  /** What an account of such an archive is. Absent: these archives know none. */
  account?(settings: Readonly<Record<string, string>>): AccountKind | null;
  create(options: SourceOptions): Source;
}
