/** One Aspera package, opened by its public link, as a Source: each file of it is an item. */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { digestAlgorithm } from "../../lib/digest.ts";
import type { Finding } from "../../model/finding.ts";
import { buildUnknownItem, type Item, type Row, scratchName } from "../../model/item.ts";
import type { Query } from "../../model/query.ts";
import { formatAddress } from "../../model/selection.ts";
import type { Ascp } from "../../transports/ascp/ascp.ts";
import { readReceived } from "../../transports/ascp/received-files.ts";
import { AscpRoad, checkedOf, digest, type Received, type Wanted } from "../../transports/ascp/road.ts";
import type { Http } from "../../transports/http.ts";
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
import { FaspexApi } from "./api.ts";
import { diagnosePackage } from "./diagnose.ts";
import { Gateway } from "./gateway.ts";
import {
  COLUMNS,
  digestOf,
  entryRow,
  fileItem,
  fileNameOf,
  isDecrypted,
  isMissing,
  isWhole,
  LAYOUTS,
  pathOf,
  SUMMARY_COLUMNS,
} from "./map.ts";
import { PackageOffer } from "./offer.ts";
import { PackageSums } from "./sums.ts";
import { PackageTree } from "./tree.ts";
import { uploadPackage } from "./upload.ts";
import { WholePackage } from "./whole.ts";
import type { PackageEntry } from "./wire.ts";

const CAPABILITIES: Capabilities = {
  levels: ["file"],
  itemLevel: "file",
  filters: ["since", "until", "include", "exclude", "limit"],
  fields: { file: "Path" },
  columns: COLUMNS,
  summaryColumns: SUMMARY_COLUMNS,
  dates: { changed: ["Changed"], acquired: "Changed" },
  layouts: LAYOUTS,
  defaultLayout: "package",
  digest: "md5",
  // A package without a list of sums vouches for sizes only.
  digestless: true,
  nested: true,
  openedByLink: true,
  messages: true,
  batchItems: 300,
};

export function createFaspexSource(options: SourceOptions): Source {
  return new FaspexSource(options);
}

class FaspexSource implements Source {
  readonly archive: string;
  readonly kind = "faspex";
  readonly capabilities = CAPABILITIES;
  readonly #http: Http;
  readonly #ascp: Ascp | null;
  /** Why ascp does not get through, once that is known and there is another way. */
  #blocked: RunError | null = null;
  readonly #api: FaspexApi;
  readonly #tree: PackageTree;
  readonly #sums: PackageSums<SourceContext>;
  readonly #whole: WholePackage;
  #gateway: Promise<Gateway> | null = null;
  /** Packages that are being sent. */
  readonly #begun = new Map<string, string>();

  constructor({ archive, http, ascp, redactor, link = () => null }: SourceOptions) {
    this.archive = archive;
    this.#http = http;
    this.#ascp = ascp ?? null;
    this.#api = new FaspexApi({ http, archive, link, redactor });
    this.#whole = new WholePackage(this.#api, this.#ascp);
    this.#tree = new PackageTree(this.#api);
    this.#sums = new PackageSums((entry, take, context) => this.#readFile(entry, take, context));
  }

  async resolve(query: Query, context: SourceContext): Promise<Query> {
    if (await this.#isWhole(context)) return this.#whole.resolve(query);
    return { path: (await this.#tree.find(query.path, context)).path, filters: query.filters };
  }

  /** Its files are listed nowhere. */
  async #isWhole(context: SourceContext): Promise<boolean> {
    return !(await this.#api.askFacts(context)).listed;
  }

  async *browse({ path }: Query, context: SourceContext): AsyncIterable<Row> {
    if (await this.#isWhole(context)) {
      yield await this.#whole.row(context);
      return;
    }
    const entry = await this.#tree.find(path, context);
    if (entry.type === "file") {
      yield entryRow(entry);
      return;
    }
    const folder = [...(await this.#tree.folder(path, context))];
    folder.sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
    for (const each of folder) yield entryRow(each);
  }

  values(): null {
    return null;
  }

  list({ path }: Query, options: ListOptions, context: SourceContext): AsyncIterable<Item> {
    return this.#items(path, path, options, context);
  }

  /** `selected`: what was asked for by name, which `--layout flat` places by. */
  async *#items(
    path: readonly string[],
    selected: readonly string[],
    options: ListOptions,
    context: SourceContext,
  ): AsyncGenerator<Item> {
    const facts = await this.#api.askFacts(context);
    // What is needed to have the bytes is said before anything begins.
    if (options.complete) await this.#ascpRoad(context);
    if (!facts.listed) {
      yield await this.#whole.item(context);
      return;
    }
    const decrypted = facts.encrypted && this.#ascp?.decrypts === true;
    const start = await this.#tree.find(path, context);
    const enter = this.#sumsReader(options, context);
    for (let depth = 0; depth < start.path.length; depth += 1)
      await enter(start.path.slice(0, depth), await this.#tree.folder(start.path.slice(0, depth), context));
    const sums = this.#sums.compare();
    const loop = (at: readonly string[]): void =>
      context.log(
        "warn",
        `${this.#api.subject}: ${at.join("/")} leads back to a folder it is in, and is left out`,
      );
    for await (const entry of this.#tree.files(start, { enter, loop }, context)) {
      const digest = await sums.found(entry.path);
      const read = await this.#sums.digestOfList(entry.path);
      yield fileItem({ archive: this.archive, facts, entry, digest, read, selected, decrypted });
    }
    for await (const { path: named, digest } of sums.missing(path)) {
      const entry: PackageEntry = { path: named, type: "file", bytes: null, mtime: null, isLink: false };
      yield fileItem({ archive: this.archive, facts, entry, digest, selected, missing: true });
    }
  }

  /** Reads the lists of sums of folders; where the bytes of files can't be had, a listing does without. */
  #sumsReader(
    { complete }: ListOptions,
    context: SourceContext,
  ): (path: readonly string[], folder: readonly PackageEntry[]) => Promise<void> {
    let without = false;
    return async (_path, folder) => {
      if (without) return;
      try {
        await this.#sums.enter(folder, context);
      } catch (error) {
        if (complete || !(error instanceof RunError) || error.exit >= 130) throw error;
        without = true;
        context.log("warn", `the package's list of checksums is not shown: ${error.message}`);
      }
    };
  }

  async *lookup(paths: AsyncIterable<readonly string[]>, context: SourceContext): AsyncIterable<Item> {
    for await (const path of paths) {
      if (await this.#isWhole(context)) {
        yield path.length === 0 ? await this.#whole.item(context) : this.#unknown(path);
        continue;
      }
      try {
        await this.#tree.find(path, context);
      } catch (error) {
        if (!(error instanceof RunError) || error.code !== "unknown-name") throw error;
        yield this.#unknown(path);
        continue;
      }
      yield* this.#items(path, [], { complete: true }, context);
    }
  }

  #unknown(path: readonly string[]): Item {
    const entry: PackageEntry = { path, type: "file", bytes: null, mtime: null, isLink: false };
    const { id } = fileItem({
      archive: this.archive,
      facts: { id: "", title: null },
      entry,
      digest: null,
      selected: [],
    });
    const address = formatAddress(this.archive, path);
    return buildUnknownItem({ id, archive: this.archive, address });
  }

  async *fetch(items: readonly Item[], options: FetchOptions, context: Context): AsyncIterable<Delivery> {
    const wanted: WantedItem[] = [];
    for (const item of items) {
      if (isWhole(item)) {
        await this.#ascpRoad(context);
        yield await this.#whole.fetch(item, options, context);
        continue;
      }
      const path = pathOf(item);
      if (!isMissing(item))
        wanted.push({
          item,
          path,
          key: scratchName(item),
          decrypted: isDecrypted(item),
        });
      else {
        const what = `${this.#api.subject} has no ${path.join("/")}, although its list of checksums names it`;
        yield { item, error: new RunError("access-item", what, { hint: "tell whoever offers the package" }) };
      }
    }
    const road = await this.#ascpRoad(context);
    if (road === null) {
      for (const { item } of wanted) yield await this.#overHttp(item, context);
      return;
    }
    for await (const outcome of road.receive(wanted, options, context)) {
      const { item } = outcome.wanted;
      if ("received" in outcome) yield this.#received(item, outcome.received);
      else yield (await this.#instead(item, outcome.error, context)) ?? { item, error: outcome.error };
    }
  }

  /** By which road bytes come: null means over HTTP. Throws what is needed where there is neither. */
  async #ascpRoad(context: Context): Promise<AscpRoad | null> {
    if (this.#ascp === null || this.#blocked !== null) {
      await this.#openGateway(context);
      return null;
    }
    const { encrypted } = await this.#api.facts(context);
    if (encrypted && !this.#ascp.decrypts) {
      throw new RunError(
        "access-login",
        `${this.#api.subject} is encrypted, and there is no passphrase for it`,
        {
          hint: "put the passphrase that the sender gave into the variable ASPERA_SCP_FILEPASS",
        },
      );
    }
    const road = new AscpRoad(this.#ascp, new PackageOffer(this.#api));
    try {
      await road.check();
      return road;
    } catch (error) {
      if (!(error instanceof RunError) || error.code !== "usage") throw error;
      try {
        await this.#openGateway(context);
        if (isNamed(error) && this.#blocked === null) {
          this.#blocked = error;
          context.log("warn", `${error.message}: files come over HTTP instead`);
        }
        return null;
      } catch (none) {
        // What the user named as ascp and is none is the user's to mend.
        throw none instanceof RunError && none.code === "access-denied" && !isNamed(error) ? none : error;
      }
    }
  }

  /** An item over HTTP that did not come by ascp; null where the reason is no blocked way, or there is no other way. */
  async #instead(item: Item, error: RunError, context: Context): Promise<Delivery | null> {
    if (!["archive-unreachable", "access-login"].includes(error.code)) return null;
    try {
      await this.#openGateway(context);
    } catch (none) {
      if (context.signal.aborted || !(none instanceof RunError)) throw none;
      return null;
    }
    if (this.#blocked === null) {
      this.#blocked = error;
      context.log("warn", `ascp does not get through (${error.message}): files come over HTTP instead`);
    }
    return this.#overHttp(item, context);
  }

  #received(item: Item, received: Received): Delivery {
    const { file, bytes, from } = received;
    const digest = digestOf(item);
    const name = fileNameOf(item);
    const clear = isDecrypted(item);
    async function* entries(): AsyncGenerator<Entry> {
      yield {
        name,
        body: readReceived(file),
        file,
        ...(digest === null ? {} : { digest: digestAlgorithm(digest) }),
      };
    }
    return {
      item,
      entries: entries(),
      statement: () => ({
        digests: digest === null ? null : new Map([[name, digest]]),
        files: 1,
        // Of an encrypted file the server knows another size than that of what comes out of it.
        bytes: clear ? null : (item.bytes ?? bytes),
        checked: checkedOf(received),
        from,
        facts: {},
      }),
    };
  }

  async #overHttp(item: Item, context: Context): Promise<Delivery> {
    const name = fileNameOf(item);
    const digest = digestOf(item);
    const gateway = await this.#openGateway(context);
    const body = (): AsyncIterable<Uint8Array> => this.#content(pathOf(item), context);
    async function* entries(): AsyncGenerator<Entry> {
      yield { name, body: body(), ...(digest === null ? {} : { digest: digestAlgorithm(digest) }) };
    }
    return {
      item,
      entries: entries(),
      statement: () => ({
        digests: digest === null ? null : new Map([[name, digest]]),
        files: 1,
        bytes: item.bytes,
        from: gateway.origin,
        facts: {},
      }),
    };
  }

  async *#content(path: readonly string[], context: Context): AsyncGenerator<Uint8Array> {
    const gateway = await this.#openGateway(context);
    const spec = await this.#api.downloadSpec([path], "http_gateway", context);
    yield* (await gateway.download(spec, path.at(-1) ?? "file", context)).body;
  }

  /** A file as it comes, by the road that there is; tried again from the beginning. */
  #readFile<T>(
    entry: PackageEntry,
    take: (chunks: AsyncIterable<Uint8Array>) => Promise<T>,
    context: SourceContext,
  ): Promise<T> {
    const name = entry.path.join("/");
    return context.retry.run(`${this.#api.subject}: ${name}`, async (attempt) => {
      let size = 0;
      const stream = this.#stream(entry, attempt, context);
      async function* counted(): AsyncGenerator<Uint8Array> {
        for await (const chunk of stream) {
          size += chunk.length;
          yield chunk;
        }
      }
      const taken = await take(counted());
      if (entry.bytes !== null && entry.bytes !== size)
        throw new RunError("proof-size", `${name}: ${entry.bytes} bytes are announced, and ${size} came`);
      return taken;
    });
  }

  async *#stream(entry: PackageEntry, attempt: number, context: SourceContext): AsyncGenerator<Uint8Array> {
    const road = await this.#ascpRoad(context);
    if (road === null) {
      yield* this.#content(entry.path, context);
      return;
    }
    const key = digest(entry.path.join("/"));
    const scratch = await context.temporary();
    for await (const outcome of road.receive([{ path: entry.path, key }], { scratch, attempt }, context)) {
      if ("error" in outcome) throw outcome.error;
      yield* readReceived(outcome.received.file);
    }
  }

  #openGateway(context: Context): Promise<Gateway> {
    this.#gateway ??= this.#findGateway(context).catch((error: unknown) => {
      this.#gateway = null;
      throw error;
    });
    return this.#gateway;
  }

  async #findGateway(context: Context): Promise<Gateway> {
    const facts = await this.#api.facts(context);
    const url = facts.httpForbidden || facts.encrypted ? null : await this.#api.gatewayUrl(context);
    if (url === null) {
      const why = facts.httpForbidden
        ? "may not be downloaded over HTTP"
        : "is on a server without an HTTP gateway";
      throw new RunError(
        "access-denied",
        `${this.#api.subject} ${why}: it takes ascp, and outbound TCP and UDP port 33001`,
        { hint: "install ascp with `gantry ascp install`; whether the ports are open: gantry doctor LINK" },
      );
    }
    return new Gateway(this.#http, url, this.#api.subject);
  }

  diagnose(context: SourceContext): AsyncIterable<Finding> {
    return diagnosePackage(this.#api, this.#ascp, context);
  }

  upload(upload: Upload, context: SourceContext): AsyncGenerator<UploadEvent, Uploaded> {
    if (this.#ascp === null) throw new Error("a package is sent by ascp");
    return uploadPackage(this.#api, this.#ascp, upload, this.#begun, context);
  }

  cite(): null {
    return null;
  }

  async close(): Promise<void> {}
}

/** Of an ascp that was not found: the user named it. */
const isNamed = ({ message }: RunError): boolean => message.includes(" names ");

interface WantedItem extends Wanted {
  readonly item: Item;
}

const nameOf = (entry: PackageEntry): string => entry.path.at(-1) ?? "";
