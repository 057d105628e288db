/** A whole path by ascp: first the transfer into scratch, then what came as entries. */
import { join } from "node:path";
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { type Item, scratchName } from "../../model/item.ts";
import type { Ascp } from "../../transports/ascp/ascp.ts";
import { FolderTransfer } from "../../transports/ascp/folder-transfer.ts";
import { readReceived } from "../../transports/ascp/received-files.ts";
import type { TransferSpec } from "../../transports/ascp/transfer-spec.ts";
import type { Entry, FetchOptions, Statement } from "../source.ts";
import { locatorOf } from "./map.ts";

export class PathDelivery {
  readonly #item: Item;
  readonly #spec: TransferSpec;
  readonly #transfer: FolderTransfer;

  constructor(item: Item, spec: TransferSpec, ascp: Ascp, options: FetchOptions) {
    this.#item = item;
    this.#spec = spec;
    const { scratch, attempt, onArrived, onPromised } = options;
    const folder = join(scratch, scratchName(item));
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
