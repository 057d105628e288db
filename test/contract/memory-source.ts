/**
 * The smallest whole Source: an archive of text files in memory, in two levels. It shows what a new archive kind
 * has to bring to pass the contract, and it can be told to lie.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { RunError } from "../../src/errors.ts";
import type { Context } from "../../src/lib/context.ts";
import { type Digest, hashBytes } from "../../src/lib/digest.ts";
import { nearMatches } from "../../src/model/address.ts";
import type { Item, Row } from "../../src/model/item.ts";
import type { Query } from "../../src/model/query.ts";
import { formatAddress } from "../../src/model/selection.ts";
import type {
  Capabilities,
  Citation,
  Delivery,
  Entry,
  FetchOptions,
  ListOptions,
  Source,
  SourceContext,
  Statement,
} from "../../src/sources/source.ts";
import type { Lie, ListLie } from "./source.contract.ts";

export interface MemoryItem {
  readonly project: string;
  readonly name: string;
  /** By file name. */
  readonly files: Readonly<Record<string, string>>;
}

const CAPABILITIES: Capabilities = {
  levels: ["project", "series"],
  itemLevel: "series",
  filters: ["project", "include", "exclude", "limit"],
  fields: { project: "Project", series: "Name" },
  columns: ["Project", "Name", "Files", "Bytes"],
  summaryColumns: ["Project", "Name"],
  dates: null,
  layouts: { classic: (item) => ({ folder: [String(item.labels.Project), String(item.labels.Name)] }) },
  defaultLayout: "classic",
  digest: "sha256",
  batchItems: 10,
};

const LIST_ERRORS = {
  "list-cut": "archive-cut",
  "list-torn": "archive-reply",
  "list-html": "archive-reply",
  "list-busy": "archive-busy",
  "list-error": "archive-error",
} as const satisfies Record<ListLie, string>;

export class MemorySource implements Source {
  readonly archive = "memory";
  readonly kind = "memory";
  readonly capabilities = CAPABILITIES;
  /** Bodies that were begun and neither ended nor were left. */
  open = 0;
  fetches = 0;
  /** The ids of each fetch. */
  readonly batches: (readonly string[])[] = [];
  /** True: what comes lies finished in the scratch folder. */
  finished = false;
  #items: MemoryItem[];
  #lie: { readonly kind: Lie | ListLie; left: number } | null = null;

  constructor(items: readonly MemoryItem[]) {
    this.#items = [...items];
  }

  lie(kind: Lie | ListLie, count = Number.POSITIVE_INFINITY): void {
    this.#lie = { kind, left: count };
  }

  honest(): void {
    this.#lie = null;
  }

  change(what: "withdraw" | "fewer-files", id: string): void {
    this.#items = this.#items.flatMap((each) => {
      if (itemOf(each).id !== id) return [each];
      if (what === "withdraw") return [];
      return [{ ...each, files: Object.fromEntries(Object.entries(each.files).slice(1)) }];
    });
  }

  async resolve(query: Query, _context: SourceContext): Promise<Query> {
    const [project, name] = query.path;
    const path: string[] = [];
    if (project !== undefined) {
      path.push(
        spelt(
          project,
          this.#items.map((each) => each.project),
        ),
      );
    }
    if (name !== undefined) {
      path.push(
        spelt(
          name,
          this.#items.filter((each) => each.project === path[0]).map((each) => each.name),
        ),
      );
    }
    return { ...query, path };
  }

  async *browse(query: Query, _context: SourceContext): AsyncIterable<Row> {
    const [project] = query.path;
    if (project === undefined) {
      for (const name of new Set(this.#items.map((each) => each.project)))
        yield { Project: name, address: formatAddress(this.archive, [name]) };
      return;
    }
    for (const each of this.#items) {
      if (each.project === project) {
        const item = itemOf(each);
        yield { ...item.labels, address: item.address };
      }
    }
  }

  values(): null {
    return null;
  }

  async *list(query: Query, _options: ListOptions, context: SourceContext): AsyncIterable<Item> {
    yield* context.retry.stream("list", () => this.#listOnce(query, context));
  }

  async *#listOnce(query: Query, context: Context): AsyncGenerator<Item> {
    const lie = this.#draw((kind): kind is ListLie => kind in LIST_ERRORS);
    for (const [index, each] of this.#items.entries()) {
      context.signal.throwIfAborted();
      if (lie && index === 1) throw new RunError(LIST_ERRORS[lie], `the list ends: ${lie}`);
      const [project, name] = query.path;
      if (project !== undefined && each.project !== project) continue;
      if (name !== undefined && each.name !== name) continue;
      yield itemOf(each);
    }
  }

  async *lookup(paths: AsyncIterable<readonly string[]>, context: SourceContext): AsyncIterable<Item> {
    for await (const path of paths) {
      context.signal.throwIfAborted();
      const found = this.#items.find((each) => each.project === path[0] && each.name === path[1]);
      yield found ? itemOf(found) : unknownItem(path);
    }
  }

  async *fetch(items: readonly Item[], { scratch }: FetchOptions, context: Context): AsyncIterable<Delivery> {
    this.batches.push(items.map((item) => item.id));
    for (const item of items) {
      this.fetches += 1;
      const lie = this.#draw((kind): kind is Lie => !(kind in LIST_ERRORS));
      const found = this.#items.find((each) => itemOf(each).id === item.id);
      if (!found) {
        yield { item, error: new RunError("access-item", "the archive does not show it") };
      } else if (lie === "busy" || lie === "busy-until") {
        const wish = lie === "busy-until" ? { retryAfterMs: 3000 } : {};
        yield { item, error: new RunError("archive-busy", "come back later", wish) };
      } else {
        const folder = join(scratch, hashBytes("md5", item.id).slice(4));
        yield this.#deliver(item, found, lie, this.finished ? folder : null, context);
      }
    }
  }

  #deliver(
    item: Item,
    found: MemoryItem,
    lie: Lie | null,
    folder: string | null,
    context: Context,
  ): Delivery {
    const truth = Object.entries(found.files);
    let files = truth;
    if (lie === "missing-file" || lie === "missing-file-without-digests") files = truth.slice(0, -1);
    if (lie === "no-files") files = [];
    if (lie === "extra-file") files = [...truth, ["unexpected.txt", "nobody asked for this"]];
    if (lie === "duplicate-entry") files = [...truth, ...truth.slice(0, 1)];
    if (lie === "hostile-name")
      files = truth.map(([name, text], at) => [at === 0 ? "../../../evil" : name, text]);
    const changed = (text: string): string => {
      if (lie === "short-body") return text.slice(0, -1);
      if (lie === "long-body") return `${text}!`;
      if (lie === "wrong-bytes") return `#${text.slice(1)}`;
      return lie === "html-labelled-as-data" ? "<html>log in</html>" : text;
    };
    const source = this;
    async function* entries(): AsyncGenerator<Entry> {
      for (const [index, [name, text]] of files.entries()) {
        const content = index === 0 ? changed(text) : text;
        const body = source.#body(content, index === 0 ? lie : null, context);
        if (folder === null) yield { name, body };
        else {
          const file = join(folder, String(index));
          await mkdir(folder, { recursive: true });
          await writeFile(file, content);
          yield { name, body, file };
        }
      }
    }
    const digests = (): ReadonlyMap<string, Digest> =>
      new Map(
        truth.map(([name, text]) => [
          name,
          lie === "wrong-digest" ? `sha256:${"0".repeat(64)}` : hashBytes("sha256", text),
        ]),
      );
    const statement = (): Statement => ({
      digests: lie === "missing-file-without-digests" ? null : digests(),
      files: item.files,
      bytes: item.bytes,
      from: "memory",
      facts: {},
    });
    return { item, entries: entries(), statement };
  }

  async *#body(text: string, lie: Lie | null, context: Context): AsyncGenerator<Uint8Array> {
    this.open += 1;
    try {
      const bytes = Buffer.from(text);
      yield bytes.subarray(0, 3);
      if (lie === "cut") throw new RunError("archive-cut", "the connection broke");
      if (lie === "stall") await stalled(context);
      yield bytes.subarray(3);
    } finally {
      this.open -= 1;
    }
  }

  #draw<T extends Lie | ListLie>(fits: (kind: Lie | ListLie) => kind is T): T | null {
    const lie = this.#lie;
    if (!lie || lie.left <= 0 || !fits(lie.kind)) return null;
    lie.left -= 1;
    return lie.kind;
  }

  cite(): Citation | null {
    return null;
  }

  async close(): Promise<void> {}
}

/** A transfer that hangs until it is given up, by the source's own patience or by the user. */
async function stalled(context: Context): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const patience = setTimeout(() => reject(new RunError("archive-stalled", "nothing came any more")), 100);
    const onAbort = (): void => {
      clearTimeout(patience);
      reject(context.signal.reason);
    };
    if (context.signal.aborted) onAbort();
    else context.signal.addEventListener("abort", onAbort, { once: true });
    void resolve;
  });
}

function itemOf({ project, name, files }: MemoryItem): Item {
  const texts = Object.values(files);
  const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  return {
    id: `memory:${project}/${name}`,
    revision: hashBytes("md5", JSON.stringify(files)),
    archive: "memory",
    address: formatAddress("memory", [project, name]),
    bytes,
    files: texts.length,
    labels: { Project: project, Name: name, Files: texts.length, Bytes: bytes },
  };
}

function unknownItem(path: readonly string[]): Item {
  const address = formatAddress("memory", path);
  return {
    id: `memory:${path.join("/")}`,
    revision: "",
    archive: "memory",
    address,
    bytes: null,
    files: null,
    labels: {},
    unknown: true,
  };
}

function spelt(word: string, known: readonly string[]): string {
  const found =
    known.find((each) => each === word) ?? known.find((each) => each.toLowerCase() === word.toLowerCase());
  if (found !== undefined) return found;
  throw new RunError("unknown-name", `there is no ${JSON.stringify(word)}`, {
    hint: `did you mean ${nearMatches(word, known).join(", ")}?`,
  });
}
