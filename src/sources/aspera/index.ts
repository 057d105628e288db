/**
 * An ascp site as a Source. Where the server speaks SFTP, too, it is listed and each file is an item, which comes by ascp,
 * or, where that does not get through, by SFTP. A server that lists nothing is told a path and sends what is there: the
 * path is one item, proved by the number and size of its files as ascp counts them.
 */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import type { Finding } from "../../model/finding.ts";
import { type Item, type Row, scratchName } from "../../model/item.ts";
import { filterNames, type Query } from "../../model/query.ts";
import type { Ascp } from "../../transports/ascp/ascp.ts";
import { checkStaysClear } from "../../transports/ascp/clear-files.ts";
import { readReceived } from "../../transports/ascp/received-files.ts";
import { AscpRoad, checkedOf, type Received, type Wanted } from "../../transports/ascp/road.ts";
import type { TransferSpec } from "../../transports/ascp/transfer-spec.ts";
import type { Sftp } from "../../transports/sftp/sftp.ts";
import type {
  Capabilities,
  Delivery,
  Entry,
  FetchOptions,
  ListOptions,
  Source,
  SourceContext,
  SourceOptions,
  Upload,
  UploadEvent,
  Uploaded,
} from "../source.ts";
import { diagnoseSite } from "./diagnose.ts";
import {
  CLEAR_PATH,
  COLUMNS,
  entryRow,
  type FileLocator,
  fileItem,
  fileNameOf,
  fileOf,
  isClear,
  isDecrypted,
  LAYOUTS,
  locatorOf,
  pathItem,
  type SiteName,
  SUMMARY_COLUMNS,
  siteOf,
  unknownFile,
} from "./map.ts";
import { PathDelivery } from "./path-delivery.ts";
import { SftpFetch } from "./sftp-road.ts";
import { SiteTree } from "./tree.ts";
import { type Endpoint, uploadToSite } from "./upload.ts";

const CAPABILITIES: Omit<Capabilities, "batchItems"> = {
  levels: ["file"],
  itemLevel: "file",
  filters: ["since", "until", "include", "exclude", "limit"],
  fields: { file: "Path" },
  columns: COLUMNS,
  summaryColumns: SUMMARY_COLUMNS,
  dates: { changed: ["Changed"], acquired: "Changed" },
  layouts: LAYOUTS,
  defaultLayout: "descriptive",
  digest: "sha256",
  digestless: true,
  nested: true,
};

/** ascp's own default is 22; sites of Aspera servers nearly all listen on 33001 (IBM Aspera HSTS 4.4, "Firewall"). */
const ASCP_PORT = 33001;
const SSH_PORT = 22;
const UDP_PORT = 33001;
/** Files of one ascp session. */
const BATCH = 300;
/**
 * Of SFTP: a file is asked for while those before it are stored, so that its round trips are not waited for. Few, so that
 * the files of a folder go to all jobs alike.
 */
const SFTP_BATCH = 16;
const SFTP_BATCH_BYTES = 4 * 1024 * 1024;

export function createAsperaSource(options: SourceOptions): Source {
  return new AsperaSource(options);
}

class AsperaSource implements Source {
  readonly archive: string;
  readonly kind = "aspera";
  readonly capabilities: Capabilities;
  readonly #site: SiteName;
  readonly #ascp: Ascp;
  readonly #sftp: Sftp | null;
  readonly #tree: SiteTree | null;
  readonly #transport: "ascp" | "sftp" | null;
  /** Why files come by SFTP, once that is decided. */
  #slow: string | null = null;

  constructor({ archive, ascp, sftp, transport }: SourceOptions) {
    if (!ascp) throw new Error("a site needs ascp");
    this.archive = archive;
    this.#site = siteOf(archive);
    this.#ascp = ascp;
    this.#transport = transport ?? null;
    const { user, host, port } = this.#site;
    // The control connection of ascp is SSH, too: where that gets through, so does this.
    this.#sftp = sftp?.({ user, host, ports: port === null ? [ASCP_PORT, SSH_PORT] : [port] }) ?? null;
    this.#tree = this.#sftp && new SiteTree(this.#sftp, archive);
    const bySftp = (): boolean => this.#slow !== null || this.#transport === "sftp";
    this.capabilities = Object.defineProperties(
      { ...CAPABILITIES, batchItems: BATCH },
      {
        batchItems: { get: () => (bySftp() ? SFTP_BATCH : BATCH), enumerable: true },
        batchBytes: { get: () => (bySftp() ? SFTP_BATCH_BYTES : undefined), enumerable: true },
      },
    );
  }

  async resolve(query: Query, context: SourceContext): Promise<Query> {
    const { host } = this.#site;
    if (query.path.includes(".."))
      throw new RunError("usage", `${host} can't be asked for a path with .. in it`);
    const tree = await this.#listing(context);
    if (tree) return { ...query, path: (await tree.find(query.path.filter(isNoDot), context)).path };
    if (query.path.some((segment) => /[\r\n]/u.test(segment)))
      throw new RunError("usage", `${host} can't be asked for a path with a line break in it`);
    const [filter] = filterNames(query.filters).filter((name) => name !== "limit");
    if (filter !== undefined) {
      throw new RunError(
        "unsupported-filter",
        `${host} lists nothing, and can't be filtered by --${filter}`,
        {
          hint: "leave it out: a path comes whole",
        },
      );
    }
    return query;
  }

  async *browse({ path }: Query, context: SourceContext): AsyncIterable<Row> {
    const tree = await this.#listing(context);
    if (tree === null) {
      throw new RunError("usage", `${this.#site.host} is an ascp site without SFTP, which can't be listed`, {
        hint: "get a path of it: gantry get aspera://USER@HOST/PATH -o DIR",
      });
    }
    const entry = await tree.find(path, context);
    const rows = new Map<string, Row>();
    for await (const each of entry.type === "file" ? [entry] : tree.folder(path, context))
      rows.set(each.path.at(-1) ?? "", entryRow(this.archive, each));
    for (const [, row] of [...rows].sort(([a], [b]) => (a < b ? -1 : 1))) yield row;
  }

  values(): null {
    return null;
  }

  async *list({ path }: Query, { complete }: ListOptions, context: SourceContext): AsyncIterable<Item> {
    const tree = await this.#listing(context);
    if (tree === null) {
      yield this.#pathItem(path);
      return;
    }
    // What is needed to have the bytes is said before anything begins.
    if (complete) await this.#road(context);
    const entry = await tree.find(path, context);
    for await (const file of tree.files(entry, context)) yield this.#fileItem(file, path);
  }

  async *lookup(paths: AsyncIterable<readonly string[]>, context: SourceContext): AsyncIterable<Item> {
    const tree = await this.#listing(context);
    if (tree) await this.#road(context);
    for await (const path of paths) {
      if (tree === null) {
        yield this.#pathItem(path);
        continue;
      }
      try {
        const entry = await tree.find(path, context);
        for await (const file of tree.files(entry, context)) yield this.#fileItem(file, null);
      } catch (error) {
        if (!(error instanceof RunError) || error.code !== "unknown-name") throw error;
        yield unknownFile(this.archive, path);
      }
    }
  }

  #fileItem(entry: Parameters<typeof fileItem>[0]["entry"], selected: readonly string[] | null): Item {
    return fileItem({ archive: this.archive, entry, selected, decrypts: this.#ascp.decrypts });
  }

  #pathItem(path: readonly string[]): Item {
    // Whether what lies there has changed can't be known; clear files are other data than encrypted ones.
    return pathItem(this.archive, path, this.#ascp.decrypts ? CLEAR_PATH : "as-sent");
  }

  /** Null: the server lists nothing. Throws what keeps from knowing: a folder is not asked for now so, now so. */
  async #listing(context: Context): Promise<SiteTree | null> {
    const { user, host } = this.#site;
    await this.#ascp.secrets.checkLogin({ host, user });
    const connection = await this.#sftp?.connection(context);
    if (connection) return this.#tree;
    if (this.#transport !== "sftp") return null;
    throw new RunError("usage", `${host} speaks no SFTP to ${user}`, { hint: "leave --transport sftp out" });
  }

  async *fetch(items: readonly Item[], options: FetchOptions, context: Context): AsyncIterable<Delivery> {
    const wanted: WantedFile[] = [];
    for (const item of items) {
      const file = fileOf(item);
      if (file === null) yield* this.#fetchPath(item, options, context);
      else if (!file.unreadable) {
        const key = scratchName(item);
        wanted.push({ item, file, path: file.path, key, decrypted: isDecrypted(item) });
      } else {
        const what = `${this.#site.host}: the name of ${item.labels.Path} is no UTF-8, and can't be asked for`;
        yield { item, error: new RunError("access-item", what, { hint: "have it renamed at the server" }) };
      }
    }
    if (wanted.length > 0) yield* this.#fetchFiles(wanted, options, context);
  }

  async *#fetchPath(item: Item, options: FetchOptions, context: Context): AsyncGenerator<Delivery> {
    const { user, host } = this.#site;
    await this.#ascp.secrets.checkLogin({ host, user });
    const spec: TransferSpec = {
      ...this.#endpoint(),
      direction: "receive",
      paths: [{ source: locatorOf(item).source }],
      create_dir: true,
      // Counted first, so that what is missing at the end can be told.
      precalculate_job_size: true,
    };
    const delivery = new PathDelivery(item, spec, this.#ascp, options);
    try {
      await delivery.receive(context);
    } catch (error) {
      if (context.signal.aborted || !(error instanceof RunError)) throw error;
      yield { item, error };
      return;
    }
    yield { item, entries: delivery.entries(), statement: () => delivery.statement() };
  }

  async *#fetchFiles(
    wanted: readonly WantedFile[],
    options: FetchOptions,
    context: Context,
  ): AsyncGenerator<Delivery> {
    const slowly = (each: readonly WantedFile[]): AsyncGenerator<Delivery> =>
      this.#overSftp(each, options, context);
    if ((await this.#road(context)) === "sftp") {
      yield* slowly(wanted);
      return;
    }
    const tree = this.#tree as SiteTree;
    const road = new AscpRoad(this.#ascp, {
      archive: this.archive,
      subject: this.#site.host,
      specFor: async (paths) => {
        const sources: { source: string }[] = [];
        for (const path of paths) {
          const remote = await tree.remotePath(path, context);
          sources.push({ source: remote.replace(/^\.\//u, "") });
        }
        return { ...this.#endpoint(), direction: "receive", paths: sources };
      },
    });
    for await (const outcome of road.receive(wanted, options, context)) {
      if ("received" in outcome) yield received(outcome.wanted, outcome.received);
      else if (!this.#isBlocked(outcome.error)) yield { item: outcome.wanted.item, error: outcome.error };
      else {
        this.#goSlow(`ascp does not get through (${outcome.error.message})`, context);
        yield* slowly([outcome.wanted]);
      }
    }
  }

  /** By which way files come. Throws `usage` where the only one that the user permits is not there. */
  async #road(context: Context): Promise<"ascp" | "sftp"> {
    if (this.#transport === "sftp" || this.#slow !== null) return "sftp";
    try {
      await this.#ascp.find();
      return "ascp";
    } catch (error) {
      if (this.#transport === "ascp" || !(error instanceof RunError) || error.code !== "usage") throw error;
      this.#goSlow(`${error.message} (${error.hint})`, context);
      return "sftp";
    }
  }

  #goSlow(why: string, context: Context): void {
    if (this.#slow !== null) return;
    this.#slow = why;
    context.log("warn", `${why}: files of ${this.#site.host} come by SFTP, which is the slower way`);
  }

  #isBlocked({ code }: RunError): boolean {
    return this.#transport === null && ["archive-unreachable", "access-login"].includes(code);
  }

  async *#overSftp(
    wanted: readonly WantedFile[],
    { scratch }: FetchOptions,
    context: Context,
  ): AsyncGenerator<Delivery> {
    const sftp = this.#sftp as Sftp;
    const fetches = wanted.map(({ item, file }) => {
      const remotePath = (): Promise<string> => (this.#tree as SiteTree).remotePath(file.path, context);
      return new SftpFetch({ item, file, sftp, scratch, remotePath }, context);
    });
    try {
      for (const [index, each] of fetches.entries()) {
        each.begin();
        for (const later of fetches.slice(index + 1)) if (sftp.hasRoom) later.begin();
        yield each.delivery();
      }
    } finally {
      for (const each of fetches) each.close();
    }
  }

  /** Sites see no bypass key: the user's own login is all that opens them. */
  #endpoint(): Endpoint {
    const { user, host, port } = this.#site;
    return { remote_host: host, remote_user: user, ssh_port: port ?? ASCP_PORT, resume_policy: "attrs" };
  }

  checkChange(item: Item, revision: string): void {
    checkStaysClear(this.#site.host, isClear(revision), isClear(item.revision));
  }

  upload(upload: Upload, context: SourceContext): AsyncGenerator<UploadEvent, Uploaded> {
    return uploadToSite(this.archive, this.#endpoint(), this.#ascp, upload, context);
  }

  diagnose(context: SourceContext): AsyncIterable<Finding> {
    const sftp = this.#sftp;
    if (sftp === null) throw new Error("a site is looked at over SSH");
    const port = this.#site.port ?? ASCP_PORT;
    return diagnoseSite({ ascp: this.#ascp, sftp, port, udp: UDP_PORT }, context);
  }

  /** A site says nothing of licences. */
  cite(): null {
    return null;
  }

  async close(): Promise<void> {
    this.#sftp?.close();
  }
}

interface WantedFile extends Wanted {
  readonly item: Item;
  readonly file: FileLocator;
}

const isNoDot = (segment: string): boolean => segment !== ".";

function received({ item, file }: WantedFile, arrived: Received): Delivery {
  const { file: path, from } = arrived;
  const name = fileNameOf(item);
  async function* entries(): AsyncGenerator<Entry> {
    yield { name, body: readReceived(path), file: path };
  }
  return {
    item,
    entries: entries(),
    statement: () => ({
      digests: null,
      files: 1,
      bytes: isDecrypted(item) ? null : file.bytes,
      checked: checkedOf(arrived),
      from,
      facts: {},
    }),
  };
}
