/**
 * An ascp site as a Source: a server that is told a path and sends what is there. It lists nothing and vouches for
 * nothing beyond what ascp itself counts, so a path is one item, proved by the number and size of its files.
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import type { Item, Row } from "../../model/item.ts";
import type { Query } from "../../model/query.ts";
import { formatAddress } from "../../model/selection.ts";
import type { Ascp, AscpEvent } from "../../transports/ascp/ascp.ts";
import { FolderTransfer } from "../../transports/ascp/folder-transfer.ts";
import { readReceived } from "../../transports/ascp/received-files.ts";
import type { TransferSpec } from "../../transports/ascp/transfer-spec.ts";
import type {
  Capabilities,
  Delivery,
  Entry,
  FetchOptions,
  ListOptions,
  Source,
  SourceContext,
  SourceOptions,
  Statement,
  Upload,
  UploadEvent,
  Uploaded,
} from "../source.ts";
import { COLUMNS, LAYOUTS, locatorOf, pathItem, type SiteName, siteOf } from "./map.ts";

const CAPABILITIES: Capabilities = {
  levels: ["path"],
  itemLevel: "path",
  filters: ["limit"],
  fields: { path: "Path" },
  columns: COLUMNS,
  summaryColumns: COLUMNS,
  dates: null,
  layouts: LAYOUTS,
  defaultLayout: "descriptive",
  digest: "sha256",
  digestless: true,
  batchItems: 1,
};

export function createAsperaSource(options: SourceOptions): Source {
  return new AsperaSource(options);
}

class AsperaSource implements Source {
  readonly archive: string;
  readonly kind = "aspera";
  readonly capabilities = CAPABILITIES;
  readonly #site: SiteName;
  readonly #ascp: Ascp;

  constructor({ archive, ascp }: SourceOptions) {
    if (!ascp) throw new Error("a site needs ascp");
    this.archive = archive;
    this.#site = siteOf(archive);
    this.#ascp = ascp;
  }

  async resolve(query: Query): Promise<Query> {
    if (query.path.some((segment) => segment === ".." || /[\r\n]/u.test(segment))) {
      throw new RunError(
        "usage",
        `${this.#site.host} can't be asked for a path with .. or a line break in it`,
      );
    }
    return query;
  }

  // biome-ignore lint/correctness/useYield: a site lists nothing
  async *browse(): AsyncIterable<Row> {
    throw new RunError("usage", `${this.#site.host} is an ascp site, which can't be listed`, {
      hint: "get a path of it: gantry get aspera://USER@HOST/PATH -o DIR",
    });
  }

  values(): null {
    return null;
  }

  async *list(query: Query, _options: ListOptions, _context: SourceContext): AsyncIterable<Item> {
    yield this.#item(query.path);
  }

  async *lookup(paths: AsyncIterable<readonly string[]>): AsyncIterable<Item> {
    for await (const path of paths) yield this.#item(path);
  }

  #item(path: readonly string[]): Item {
    // Whether what lies there has changed can't be known; clear files are other data than encrypted ones.
    return pathItem(this.archive, path, this.#ascp.decrypts ? "decrypted" : "as-sent");
  }

  async *fetch(items: readonly Item[], options: FetchOptions, context: Context): AsyncIterable<Delivery> {
    for (const item of items) {
      const delivery = new PathDelivery(item, this.#spec(item), this.#ascp, options);
      try {
        await delivery.receive(context);
      } catch (error) {
        if (context.signal.aborted || !(error instanceof RunError)) throw error;
        yield { item, error };
        continue;
      }
      yield { item, entries: delivery.entries(), statement: () => delivery.statement() };
    }
  }

  #spec(item: Item): TransferSpec {
    return {
      ...this.#endpoint(),
      direction: "receive",
      paths: [{ source: locatorOf(item).source }],
      create_dir: true,
      // Counted first, so that what is missing at the end can be told.
      precalculate_job_size: true,
    };
  }

  /** Sites see no bypass key: the user's own login is all that opens them. */
  #endpoint(): Pick<TransferSpec, "remote_host" | "remote_user" | "ssh_port"> & Partial<TransferSpec> {
    const { user, host, port } = this.#site;
    this.#ascp.checkLogin({ host, user });
    return { remote_host: host, remote_user: user, ssh_port: port, resume_policy: "attrs" };
  }

  async *upload(upload: Upload, context: SourceContext): AsyncGenerator<UploadEvent, Uploaded> {
    const { files, path, scratch, encrypt, attempt } = upload;
    const destination = path.join("/") || ".";
    const spec: TransferSpec = {
      ...this.#endpoint(),
      direction: "send",
      destination_root: destination,
      create_dir: true,
      precalculate_job_size: true,
      ...(encrypt ? { content_protection: "encrypt" } : {}),
      paths: files.map(({ from, name }) => ({ source: from, destination: name })),
    };
    let done: Extract<AscpEvent, { type: "done" }> | null = null;
    let failure: RunError | null = null;
    for await (const event of this.#ascp.transfer(
      { spec, folder: scratch, patience: attempt + 1 },
      context,
    )) {
      if (event.type === "progress") yield { type: "progress", bytes: event.bytes };
      else if (event.type === "file-failed") failure ??= event.error;
      else if (event.type === "done") done = event;
    }
    if (failure) throw failure;
    const count = done?.files ?? null;
    if (count !== null && count !== files.length) {
      throw new RunError("proof-count", `${this.#site.host} has ${count} of the ${files.length} files`);
    }
    return {
      address: formatAddress(this.archive, path),
      proof: count === null ? ["ascp"] : ["count", "ascp"],
    };
  }

  /** A site says nothing of licences. */
  cite(): null {
    return null;
  }

  async close(): Promise<void> {}
}

/** A path on its way: first the transfer into scratch, then what came as entries. */
class PathDelivery {
  readonly #item: Item;
  readonly #spec: TransferSpec;
  readonly #transfer: FolderTransfer;

  constructor(item: Item, spec: TransferSpec, ascp: Ascp, options: FetchOptions) {
    this.#item = item;
    this.#spec = spec;
    const { scratch, attempt, onArrived, onPromised } = options;
    // The same for the same path of the same server, so that another run goes on with it.
    const name = createHash("sha256").update(`${item.id}\n${item.revision}`).digest("hex").slice(0, 24);
    const folder = join(scratch, `ascp-${name}`);
    const promised = (bytes: number): void => onPromised?.(item, bytes);
    this.#transfer = new FolderTransfer({ ascp, folder, attempt, onArrived, onPromised: promised });
  }

  /** Throws what the transfer throws; the failure of one file is that of the path. */
  receive(context: Context): Promise<void> {
    return this.#transfer.receive(this.#spec, context);
  }

  async *entries(): AsyncGenerator<Entry> {
    const { file } = locatorOf(this.#item);
    for await (const { name, path } of this.#transfer.received()) {
      const [top, ...rest] = name.split("/");
      if (file && rest.length > 0) {
        throw new RunError(
          "usage",
          `${top} is a folder on the server, and its name looks like that of a file`,
          {
            hint: `ask for it with /. at its end: ${this.#item.address}/.`,
          },
        );
      }
      // The place has the name of the folder already.
      yield { name: rest.length > 0 ? rest.join("/") : name, body: readReceived(path), file: path };
    }
  }

  statement(): Statement {
    const { remote_host } = this.#spec;
    return {
      digests: null,
      files: this.#transfer.files,
      bytes: this.#transfer.bytes,
      checked: ["ascp"],
      from: `aspera://${remote_host}`,
      facts: {},
    };
  }
}
