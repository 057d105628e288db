/**
 * Reads ready selections of every form (docs/formats/selections.md). The form is seen in the content, not in the name;
 * what the file names is written to a temporary list, so that it is read, and fetched, once.
 */
import { createHash, randomUUID } from "node:crypto";
import { open, stat } from "node:fs/promises";
import { basename, dirname, extname, join, normalize } from "node:path";
import { RunError } from "../errors.ts";
import { onDisk, writeFileDurably } from "../lib/durable-file.ts";
import { readLines } from "../lib/lines.ts";
import { redactUrl } from "../lib/redact.ts";
import { SELECTION_KIND } from "../model/selection.ts";
import { followRefusal } from "./fetch.ts";
import { type Archives, type Found, type FoundBatches, quoted, type Ref } from "./found.ts";
import { parseSelectionLine } from "./line.ts";
import { isBeforeHeader, parseHeader, readTable } from "./table.ts";
import { readText } from "./text.ts";

export interface ReadOptions {
  readonly archives: Archives;
  /** A folder for temporary files; removed by its owner. */
  readonly temporary: () => Promise<string>;
  /** Writes what is at a URL to a file. */
  readonly fetch: (url: URL, path: string) => Promise<void>;
  readonly signal: AbortSignal;
}

/** A selection file that is on the disk, and where it came from. */
export interface SelectionPlace {
  readonly path: string;
  /** For messages: the file's name, or the redacted URL. */
  readonly name: string;
  /** Null for a file of the user's. */
  readonly url: URL | null;
  /** Where paths in it are relative to; null where that is nowhere. */
  readonly folder: string | null;
}

export interface ReadSelection {
  /** What the file names, in its order; can be read any number of times. */
  readonly refs: () => AsyncIterable<Ref>;
  readonly count: number;
  /** Of them, how many repeat an earlier one. */
  readonly repeated: number;
  /** SHA-256 of the lines `ARCHIVE:SEGMENT/SEGMENT\n`, decoded, in the order of the file. */
  readonly digest: string;
  /** The first bad lines: where, why, and what stands there. */
  readonly bad: readonly string[];
  readonly badCount: number;
}

const SHOWN_BAD_LINES = 5;
/** A manifest of manifests of manifests is none any more. */
const MAX_DEPTH = 4;
const MAX_FURTHER = 1_000;
const HEAD_BYTES = 64 * 1024;

/**
 * Reads the file and all that it leads to. What single lines have wrong is told in `bad`. Throws `bad-selection` for a
 * file that can't be used as a whole, `disk-…`, and what `fetch` throws for a file that may be there later.
 */
export async function readSelection(place: SelectionPlace, options: ReadOptions): Promise<ReadSelection> {
  const spool = join(await options.temporary(), `refs-${randomUUID()}`);
  const hash = createHash("sha256");
  const repeats = new RepeatCounter();
  const bad: string[] = [];
  let badCount = 0;
  let count = 0;
  let repeated = 0;
  async function* lines(): AsyncGenerator<string> {
    for await (const { found, name } of new Walk(options).read(place, [])) {
      options.signal.throwIfAborted();
      let text = "";
      let keys = "";
      for (const each of found) {
        if (each.kind === "ref") {
          const { archive, path } = each.ref;
          const key = `${archive}:${path.join("/")}`;
          count += 1;
          if (repeats.has(key)) repeated += 1;
          keys += `${key}\n`;
          text += `${JSON.stringify([archive, ...path])}\n`;
        } else if (each.kind === "bad") {
          badCount += 1;
          if (bad.length < SHOWN_BAD_LINES) bad.push(`${name}${each.at}: ${each.reason}`);
        }
      }
      hash.update(keys);
      yield text;
    }
  }
  await writeFileDurably(spool, lines());
  async function* refs(): AsyncGenerator<Ref> {
    for await (const { text } of readLines(spool)) {
      const [archive = "", ...path] = JSON.parse(text) as string[];
      yield { archive, path };
    }
  }
  return { refs, count, repeated, digest: hash.digest("hex"), bad, badCount };
}

interface Batch {
  readonly found: readonly Found[];
  /** Name of the file that they stand in. */
  readonly name: string;
}

/** From a file to the files that it names, in place of the line that names them. */
class Walk {
  readonly #options: ReadOptions;
  readonly #seen = new Set<string>();

  constructor(options: ReadOptions) {
    this.#options = options;
  }

  async *read(place: SelectionPlace, above: readonly string[]): AsyncGenerator<Batch> {
    const { name } = place;
    for await (const batch of await this.#open(place)) {
      let found: Found[] = [];
      for (const each of batch) {
        if (each.kind !== "further") {
          found.push(each);
          continue;
        }
        yield { found, name };
        found = [];
        yield* this.#follow(each.target, each.at, place, above);
      }
      if (found.length > 0) yield { found, name };
    }
  }

  async *#follow(
    target: string,
    at: string,
    from: SelectionPlace,
    above: readonly string[],
  ): AsyncGenerator<Batch> {
    const bad = (reason: string): Batch => ({ found: [{ kind: "bad", at, reason }], name: from.name });
    const next = await this.#place(target, from);
    if ("reason" in next) return yield bad(`${next.reason} (${quoted(target)})`);
    const key = next.url?.href ?? next.path;
    if (above.includes(key)) return yield bad(`it leads back to ${next.name}`);
    if (this.#seen.has(key)) return;
    if (above.length >= MAX_DEPTH) return yield bad(`more than ${MAX_DEPTH} manifests inside of each other`);
    if (this.#seen.size >= MAX_FURTHER)
      throw new RunError("bad-selection", `${from.name} leads to more than ${MAX_FURTHER} further files`);
    this.#seen.add(key);
    try {
      if (next.url) await this.#options.fetch(next.url, next.path);
      else await checkSelectionFile(next.path);
      yield* this.read(next, [...above, key]);
    } catch (error) {
      if (!(error instanceof RunError) || !GONE.has(error.code)) throw error;
      yield bad(error.message);
    }
  }

  /** Where a target is: on the web, or beside a file of the user's and below its folder. */
  async #place(target: string, from: SelectionPlace): Promise<SelectionPlace | { readonly reason: string }> {
    const base = from.url?.href;
    if (!URL.canParse(target, base)) {
      const path = normalize(target);
      if (from.folder === null || !/^[^/\\:?#\0]+([/\\][^:?#\0]*)?$/u.test(target) || path.startsWith(".."))
        return { reason: "neither an address on the web nor a file beside this one" };
      const full = join(from.folder, path);
      return { path: full, name: basename(path), url: null, folder: dirname(full) };
    }
    const url = new URL(target, base);
    url.hash = "";
    const refusal = followRefusal(url, from.url);
    if (refusal) return { reason: refusal };
    const path = join(await this.#options.temporary(), `further-${randomUUID()}`);
    return { path, name: redactUrl(url), url, folder: null };
  }

  async #open(place: SelectionPlace): Promise<FoundBatches> {
    const { archives } = this.#options;
    const { path, name } = await this.#decoded(place);
    const form = recognise(
      await readHead(path),
      extname(place.url?.pathname ?? place.path).toLowerCase(),
      name,
    );
    switch (form) {
      case "spreadsheet":
        return (await import("./spreadsheet.ts")).readSpreadsheet(path, name, archives);
      case "xml":
        return (await import("./xml.ts")).readXmlManifest(path, name);
      case "json":
        return (await import("./json.ts")).readJson(path, name, archives);
      case "own":
        return (await import("./own.ts")).readOwn(path, name, archives);
      case "json-lines":
        return (await import("./own.ts")).readJsonLines(path, name, archives);
      case "table":
        return readTable(path, name, archives);
      case "text":
        return readText(path, name, archives);
    }
  }

  /** Windows' shells and Excel's "Unicode text" write UTF-16. */
  async #decoded(place: SelectionPlace): Promise<SelectionPlace> {
    const head = await readHead(place.path);
    const encoding =
      head[0] === 0xff && head[1] === 0xfe
        ? "utf-16le"
        : head[0] === 0xfe && head[1] === 0xff
          ? "utf-16be"
          : null;
    if (encoding === null) return place;
    const path = join(await this.#options.temporary(), `decoded-${randomUUID()}`);
    async function* decode(): AsyncGenerator<string> {
      const { fileChunks } = await import("./xml.ts");
      const decoder = new TextDecoder(encoding as string);
      for await (const chunk of fileChunks(place.path)) yield decoder.decode(chunk, { stream: true });
      yield decoder.decode();
    }
    await writeFileDurably(path, decode());
    return { ...place, path };
  }
}

/** Of one file among several: it is not there for us, or no selection. */
const GONE = new Set(["access-item", "access-denied", "bad-selection", "usage"]);

type Form = "spreadsheet" | "xml" | "json" | "json-lines" | "own" | "table" | "text";

/** Says what a file is by its first bytes, and by its extension where they leave it open. Throws `bad-selection`. */
export function recognise(head: Uint8Array, extension: string, name: string): Form {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  const refuse = (what: string, hint: string): RunError =>
    new RunError("bad-selection", `${name} ${what}`, { hint });
  if (bytes.subarray(0, 4).equals(Buffer.from("PK\u0003\u0004", "latin1"))) return "spreadsheet";
  if (bytes.subarray(0, 4).equals(Buffer.from([0xd0, 0xcf, 0x11, 0xe0])))
    throw refuse("is an old or an encrypted Excel file, which is not read", "save it as .xlsx or .csv");
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) throw refuse("is compressed (gzip)", "unpack it first");
  if (bytes.includes(0))
    throw refuse("is no text", "a selection names series; a file of data is not one: see docs/addresses.md");
  const text = bytes
    .toString("utf8")
    .replace(/^\uFEFF/u, "")
    .trimStart();
  if (text.startsWith("<")) return "xml";
  if (text.startsWith(`{"kind":"${SELECTION_KIND}"`)) return "own";
  if (text.startsWith("[")) return "json";
  if (text.startsWith("{")) return firstIsWholeObject(text) ? "json-lines" : "json";
  const first = text.split("\n").find((line) => !isBeforeHeader(line)) ?? "";
  if (parseHeader(first)) return "table";
  // A table of which no column is known is refused with their names, unless it is a bare list.
  const isTable = /^\.(csv|tsv)$/u.test(extension) && first !== "";
  return isTable && parseSelectionLine(first).kind !== "ref" ? "table" : "text";
}

function firstIsWholeObject(text: string): boolean {
  const [first = "", ...rest] = text.split("\n");
  if (rest.every((line) => line.trim() === "")) return false;
  try {
    JSON.parse(first);
    return true;
  } catch {
    return false;
  }
}

async function readHead(path: string): Promise<Uint8Array> {
  return onDisk({ operation: "read", path }, async () => {
    const file = await open(path, "r");
    try {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(HEAD_BYTES), 0, HEAD_BYTES, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  });
}

/** Throws `usage` for what is no file that could be read. */
export async function checkSelectionFile(path: string): Promise<void> {
  const facts = await stat(path).catch(() => null);
  if (facts === null) {
    throw new RunError("usage", `there is no file ${quoted(path)}`, {
      hint: "an archive's name ends in a colon, for example tcia:; a selection is a file",
    });
  }
  if (facts.isDirectory()) throw new RunError("usage", `${path} is a folder, not a selection file`);
}

/** Counts repetitions among the first 200,000 distinct keys; enough to tell the user, in bounded memory. */
class RepeatCounter {
  readonly #hashes = new Set<number>();

  has(key: string): boolean {
    // 48 bits of a hash: a false alarm changes a warning's number, nothing else.
    const hash = createHash("md5").update(key).digest().readUIntBE(0, 6);
    if (this.#hashes.has(hash)) return true;
    if (this.#hashes.size < 200_000) this.#hashes.add(hash);
    return false;
  }
}
