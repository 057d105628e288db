/**
 * A package whose files the server lists nowhere (Faspex 4): one item, which comes whole by ascp. Its own list of sums is
 * read when it is here, and vouches for the files that it names.
 */
import { join } from "node:path";
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { type Digest, digestAlgorithm } from "../../lib/digest.ts";
import { type Item, type Row, scratchName } from "../../model/item.ts";
import type { Query } from "../../model/query.ts";
import type { Ascp } from "../../transports/ascp/ascp.ts";
import { FolderTransfer } from "../../transports/ascp/folder-transfer.ts";
import { readReceived, receivedFiles } from "../../transports/ascp/received-files.ts";
import { AT_REST } from "../../transports/ascp/road.ts";
import type { Delivery, Entry, FetchOptions, SourceContext, Statement } from "../source.ts";
import type { FaspexApi } from "./api.ts";
import { wholeItem, wholeRow } from "./map.ts";
import { wholeSpec } from "./offer.ts";
import { type Comparison, PackageSums } from "./sums.ts";

export class WholePackage {
  readonly #api: FaspexApi;
  readonly #ascp: Ascp | null;

  constructor(api: FaspexApi, ascp: Ascp | null) {
    this.#api = api;
    this.#ascp = ascp;
  }

  /** Throws `unknown-name` for a path, `unsupported-filter` for globs: what is in the package can't be told. */
  resolve(query: Query): Query {
    const why = `${this.#api.subject} is on a Faspex 4, which lists no files: it comes whole`;
    const { include, exclude } = query.filters;
    if (query.path.length > 0)
      throw new RunError("unknown-name", why, { hint: "leave out the PATH: gantry get LINK -o DIR" });
    if (include.length + exclude.length > 0)
      throw new RunError("unsupported-filter", why, { hint: "leave out --include and --exclude" });
    return query;
  }

  async row(context: SourceContext): Promise<Row> {
    const facts = await this.#api.askFacts(context);
    context.log("warn", `${this.#api.subject} is on a Faspex 4, which says nothing of the files in it`);
    return wholeRow(facts);
  }

  async item(context: SourceContext): Promise<Item> {
    const facts = await this.#api.askFacts(context);
    return wholeItem(this.#api.session.archive, facts, this.#ascp?.decrypts === true);
  }

  async fetch(item: Item, options: FetchOptions, context: Context): Promise<Delivery> {
    if (this.#ascp === null) throw new Error("a whole package comes by ascp");
    const { scratch, attempt, onArrived, onPromised } = options;
    const folder = join(scratch, scratchName(item));
    const promised = (bytes: number): void => onPromised?.(item, bytes);
    const parts = { ascp: this.#ascp, folder, attempt, onArrived, onPromised: promised };
    const transfer = new FolderTransfer(parts);
    try {
      const spec = await wholeSpec(this.#api, context);
      await transfer.receive(spec, context);
      const from = `aspera://${spec.remote_host}`;
      const arrival = new Arrival({ transfer, folder, from, subject: this.#api.subject });
      return { item, entries: arrival.entries(context), statement: () => arrival.statement() };
    } catch (error) {
      if (context.signal.aborted || !(error instanceof RunError)) throw error;
      return { item, error };
    }
  }
}

interface ArrivalParts {
  readonly transfer: FolderTransfer;
  readonly folder: string;
  /** Scheme and host that it came from. */
  readonly from: string;
  readonly subject: string;
}

/** A package that is here. */
class Arrival {
  readonly #parts: ArrivalParts;
  readonly #digests = new Map<string, Digest>();

  constructor(parts: ArrivalParts) {
    this.#parts = parts;
  }

  async *entries(context: Context): AsyncGenerator<Entry> {
    const sums = await this.#readSums(context);
    for await (const { name: path, path: file } of this.#parts.transfer.received()) {
      const name = inside(path);
      const vouched = await sums.found(name.split("/"));
      if (vouched !== null) this.#digests.set(name, vouched);
      yield {
        name,
        body: readReceived(file),
        file,
        ...(vouched === null ? {} : { digest: digestAlgorithm(vouched) }),
      };
    }
    for await (const { path, digest: vouched } of sums.missing([]))
      this.#digests.set(path.join("/"), vouched);
  }

  async #readSums(context: Context): Promise<Comparison> {
    let at = "";
    const sums = new PackageSums<Context>((_, take) => take(readReceived(at)));
    for await (const { name, path: file, bytes } of receivedFiles(this.#parts.folder)) {
      if (name.endsWith(AT_REST)) throw this.#encrypted();
      at = file;
      const path = inside(name).split("/");
      await sums.enter([{ path, type: "file", bytes, mtime: null, isLink: false }], context);
    }
    return sums.compare();
  }

  #encrypted(): RunError {
    return new RunError(
      "access-login",
      `${this.#parts.subject} came encrypted, and there is no passphrase for it`,
      {
        hint: "put the passphrase that the sender gave into the variable ASPERA_SCP_FILEPASS",
      },
    );
  }

  statement(): Statement {
    const { transfer, from } = this.#parts;
    const { files, bytes } = transfer;
    const digests = this.#digests.size === 0 ? null : this.#digests;
    return { digests, partial: true, files, bytes, checked: ["ascp"], from, facts: {} };
  }
}

/** The package's own folder, which comes with it, is its place. */
function inside(path: string): string {
  const below = path.indexOf("/");
  return below < 0 ? path : path.slice(below + 1);
}
