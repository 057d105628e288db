/**
 * A list of checksums that somebody published of an archive's files, read whole: what md5sum and its kin write, and names
 * of git-annex (`MD5E-s<bytes>--<md5>.<ext>`; git-annex, "internals: key format"), which hold size and digest of a
 * file's content.
 *
 * | form of a line | |
 * |---|---|
 * | `<hex>  <path>`, `MD5 (<path>) = <hex>` | md5sum |
 * | `<path> -> …/<key>`, also at the end of a line of `ls -l` | links of a checkout |
 * | `<key> <path>`, `<path> <key>` | `git annex find --format` |
 * | `<path>` `<bytes>` `<hex>`, with tabs or commas between | a table; its first line may name the columns |
 */
import { stat } from "node:fs/promises";
import { RunError } from "../errors.ts";
import type { Digest, DigestAlgorithm } from "../lib/digest.ts";
import { onDisk } from "../lib/durable-file.ts";
import { readLines } from "../lib/lines.ts";
import { parseSumsLine } from "../model/sums-line.ts";

interface Entry {
  readonly path: string;
  readonly digest: Digest;
  /** Null: the list does not tell. */
  readonly bytes: number | null;
}

export interface PublishedVerdict {
  readonly agrees: boolean;
  /** For the receipt when it agrees. */
  readonly proof: readonly string[];
  /** One sentence when it does not. */
  readonly sentence: string;
}

const KEY = /\b(MD5E?|SHA256E?)-s(\d+)-(?:[^-\s/]+-)*-([0-9a-f]{64}|[0-9a-f]{32})(?:\.[\w.]+)?/iu;
/** Permissions, links, owner, group, size and time, as `ls -l` writes them. */
const LS = /^l[rwxst-]{9}[.+@]?\s+\d+\s+\S+\s+\S+\s+\d+\s+\S+\s+\S+\s+\S+\s+/u;

/** Null: a blank line, a comment or the names of columns. Throws `bad-selection`. */
export function parsePublishedLine(line: string): Entry | null {
  const text = line.replace(/^\uFEFF/u, "").replace(/\r$/u, "");
  const key = KEY.exec(text);
  if (key) {
    const [whole, , bytes, hex] = key as unknown as [string, string, string, string];
    const arrow = text.indexOf(" -> ");
    const named =
      arrow >= 0
        ? text.slice(0, arrow).replace(LS, "")
        : text.slice(0, key.index) + text.slice(key.index + whole.length);
    return entryOf(named, hex, Number(bytes));
  }
  const cells = text.split(text.includes("\t") ? "\t" : ",").map((cell) => cell.trim());
  if (cells.length === 3) {
    const hex = cells.findIndex((cell) => /^(?:[0-9a-f]{32}|[0-9a-f]{64})$/iu.test(cell));
    const bytes = cells.findIndex((cell) => /^\d+$/u.test(cell));
    if (hex >= 0 && bytes >= 0)
      return entryOf(cells[3 - hex - bytes] ?? "", cells[hex] ?? "", Number(cells[bytes]));
    if (cells.every((cell) => /^"?[a-z][\w ]*"?$/iu.test(cell))) return null;
  }
  const sums = parseSumsLine(text);
  return sums && entryOf(sums.names[0], sums.hex, null);
}

function entryOf(named: string, hex: string, bytes: number | null): Entry {
  const path = named
    .trim()
    .replace(/^"(.*)"$/u, "$1")
    .split("/")
    .filter((segment) => segment !== "" && segment !== ".")
    .join("/");
  if (path === "") throw new RunError("bad-selection", "it names no file");
  return { path, digest: `${algorithmOf(hex)}:${hex.toLowerCase()}`, bytes };
}

function algorithmOf(hex: string): DigestAlgorithm {
  if (hex.length === 32) return "md5";
  if (hex.length === 64) return "sha256";
  throw new RunError("bad-selection", `${hex.length} hex digits are neither an md5 nor a sha256`);
}

/** About 300 bytes of memory a line. */
export class Published {
  readonly name: string;
  readonly algorithm: DigestAlgorithm;
  readonly #byName: ReadonlyMap<string, readonly Entry[]>;

  private constructor(
    name: string,
    algorithm: DigestAlgorithm,
    byName: ReadonlyMap<string, readonly Entry[]>,
  ) {
    this.name = name;
    this.algorithm = algorithm;
    this.#byName = byName;
  }

  /** Throws `bad-selection` for a line that can't be read, `usage` for a list of nothing or of several algorithms, `disk-…`. */
  static async read(path: string): Promise<Published> {
    const byName = new Map<string, Entry[]>();
    const algorithms = new Set<DigestAlgorithm>();
    const refuse = (what: string, hint: string): RunError =>
      new RunError("usage", `the checksum list ${path} ${what}`, { at: { path }, hint });
    const facts = await stat(path).catch(() => null);
    if (!facts?.isFile()) throw refuse("is no file", "name a list as md5sum writes it");
    await onDisk({ operation: "read", path }, async () => {
      for await (const { text, number } of readLines(path)) {
        let entry: Entry | null;
        try {
          entry = parsePublishedLine(text);
        } catch (error) {
          if (!(error instanceof RunError)) throw error;
          throw new RunError("bad-selection", `${path}:${number}: ${error.message}`, {
            at: { path },
            hint: "a line is a checksum and a path, or a path with a git-annex key",
          });
        }
        if (entry === null) continue;
        algorithms.add(entry.digest.startsWith("md5:") ? "md5" : "sha256");
        const base = baseOf(entry.path);
        const same = byName.get(base);
        if (same) same.push(entry);
        else byName.set(base, [entry]);
      }
    });
    const [algorithm, ...others] = algorithms;
    if (algorithm === undefined) throw refuse("names no file", "name a list as md5sum writes it");
    if (others.length > 0) throw refuse("mixes md5 and sha256", "make one list of each");
    return new Published(path, algorithm, byName);
  }

  /** What the list says of a file at a path of the target folder; null when it does not name it. */
  judge(path: string, file: { readonly bytes: number; readonly digest: Digest }): PublishedVerdict | null {
    const entry = this.#find(path);
    if (entry === null) return null;
    const proof = [`published-${this.algorithm}`, ...(entry.bytes === null ? [] : ["size"])];
    const size = entry.bytes === null || entry.bytes === file.bytes;
    if (size && entry.digest === file.digest) return { agrees: true, proof, sentence: "" };
    const told = size ? entry.digest : `${entry.bytes} bytes`;
    const came = size ? file.digest : `${file.bytes} bytes`;
    return { agrees: false, proof: [], sentence: `${this.name} tells of ${told}, but ${came} came` };
  }

  /**
   * By the whole path, else the only one of which one is the end of the other, else the only one that has all of the
   * path's folders in order, and more (another tool's tree of the same data).
   */
  #find(path: string): Entry | null {
    const named = this.#byName.get(baseOf(path)) ?? [];
    const exact = named.find((entry) => entry.path === path);
    if (exact) return exact;
    const ends = named.filter((entry) => entry.path.endsWith(`/${path}`) || path.endsWith(`/${entry.path}`));
    const found = ends.length > 0 ? ends : named.filter((entry) => isWithin(path, entry.path));
    const [only, ...others] = found;
    return only !== undefined && others.every((entry) => entry.path === only.path) ? only : null;
  }
}

const baseOf = (path: string): string => path.slice(path.lastIndexOf("/") + 1);

function isWithin(path: string, longer: string): boolean {
  const wanted = path.split("/");
  let at = 0;
  for (const segment of longer.split("/")) if (segment === wanted[at]) at += 1;
  return at === wanted.length;
}
