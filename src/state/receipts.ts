/** Reads and writes `.gantry/receipts/`. */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { type Appender, openAppender } from "../lib/durable-file.ts";
import { ExternalSort, groupSorted } from "../lib/external-sort.ts";
import { readLineBatches } from "../lib/lines.ts";
import {
  checkHeader,
  formatReceipt,
  formatReceiptsHeader,
  type ItemState,
  parseReceipt,
  RECEIPTS_KIND,
  RECEIPTS_VERSION,
  type Receipt,
  type ReceiptBody,
  receiptItem,
  resolveReceipts,
} from "../model/receipt.ts";
import { readNames, type StateFolder } from "./state-folder.ts";

export interface ReadReceiptsOptions {
  /** For temporary files when the receipts do not fit in memory. */
  readonly folder: () => Promise<string>;
  /** Told of each line that does not count: torn or altered. */
  readonly onBad: (sentence: string) => void;
  /** Text held before it goes to a temporary file, in bytes. Default that of `ExternalSort`. */
  readonly memoryBytes?: number;
}

/**
 * The state of every item that any receipt names, sorted by item id, items that were removed included. Memory is
 * bounded whatever the number of receipts. Throws `folder-newer`, `disk-…`.
 */
export async function* readItemStates(
  state: StateFolder,
  options: ReadReceiptsOptions,
): AsyncGenerator<ItemState> {
  for await (const { state: resolved } of readItemHistories(state, options)) yield resolved;
}

/** The same with every line of each item, those that others replace included, in no order. */
export async function* readItemHistories(
  state: StateFolder,
  options: ReadReceiptsOptions,
): AsyncGenerator<{ readonly state: ItemState; readonly lines: readonly Receipt[] }> {
  const { folder: temporary, memoryBytes } = options;
  const sorter = new ExternalSort({
    folder: temporary,
    ...(memoryBytes === undefined ? {} : { memoryBytes }),
  });
  try {
    const folder = state.path("receipts");
    for (const name of await readNames(folder)) {
      if (name.endsWith(".jsonl")) await pushLines(sorter, state.path("receipts", name), options.onBad);
    }
    for await (const group of groupSorted(sorter.sorted(), (line) => receiptItem(line) as string)) {
      const lines: Receipt[] = [];
      for (const text of group.items) {
        const receipt = parseReceipt(text);
        if (receipt) lines.push(receipt);
        else options.onBad(`a receipt of ${group.key} was altered and does not count`);
      }
      const resolved = resolveReceipts(lines);
      if (resolved) yield { state: resolved, lines };
    }
  } finally {
    await sorter.close();
  }
}

async function pushLines(
  sorter: ExternalSort,
  path: string,
  onBad: (sentence: string) => void,
): Promise<void> {
  for await (const batch of readLineBatches(path)) {
    for (const [index, text] of batch.texts.entries()) {
      const number = batch.firstNumber + index;
      const torn = index === batch.texts.length - 1 && !batch.complete;
      if (number === 1) {
        // A process that died while writing the header stored nothing.
        if (torn) onBad(`${path}: the first line is torn; nothing was recorded in it`);
        else checkHeader(text, RECEIPTS_KIND, RECEIPTS_VERSION, path);
        continue;
      }
      const item = receiptItem(text);
      if (torn)
        onBad(`${path}:${number}: the last line is torn (a run was cut while writing it) and does not count`);
      else if (item === null) onBad(`${path}:${number}: not a receipt; the line does not count`);
      else await sorter.push(item, text);
    }
  }
}

/** Appends receipts to a file of this process's own, made when the first one is written. */
export class ReceiptWriter {
  readonly #state: StateFolder;
  readonly #run: string;
  #appender: Promise<Appender> | undefined;

  constructor(state: StateFolder, run: string) {
    this.#state = state;
    this.#run = run;
  }

  /** Resolves when the receipt is on the disk. Throws `disk-…`. */
  async append(body: ReceiptBody): Promise<Receipt> {
    const { line, receipt } = formatReceipt(body);
    this.#appender ??= this.#open();
    await (await this.#appender).append(line);
    return receipt;
  }

  async #open(): Promise<Appender> {
    const host = hostname()
      .replace(/[^A-Za-z0-9-]/g, "-")
      .slice(0, 40);
    const writer = `${this.#run}-${host}-${process.pid}-${randomBytes(3).toString("hex")}`;
    const appender = await openAppender(this.#state.path("receipts", `${writer}.jsonl`));
    await appender.append(formatReceiptsHeader(writer));
    return appender;
  }

  async close(): Promise<void> {
    if (this.#appender) await (await this.#appender).close();
  }
}
