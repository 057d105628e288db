/**
 * One list of checksums in some 60 bytes a line, however long its names are: packages have hundreds of thousands of
 * files. Paths are known by their MD5, which no path of a package is made to meet.
 */
import { hash } from "node:crypto";
import { deflateRawSync, inflateRawSync } from "node:zlib";
import { RunError } from "../../errors.ts";
import { type Digest, digestOfHex } from "../../lib/digest.ts";
import { parseSumsLine, type SumsAlgorithm } from "../../model/sums-line.ts";

const KEY_BYTES = 16;
/** Names are kept deflated, so many together. */
const BLOCK_LINES = 4096;
export type Readings = readonly [string, ...string[]];

const ALGORITHMS: readonly SumsAlgorithm[] = ["md5", "sha1", "sha256", "sha512"];

export class SumsList {
  /** Of each path that a line may mean: its key, and the number of the line. */
  readonly #keys = new Bytes();
  #lineOf: Uint32Array = new Uint32Array(1024);
  #paths = 0;
  /** Hash table of the paths' numbers, from 1. */
  #slots: Uint32Array = new Uint32Array(4096);
  /** Of each line: the number of its algorithm, then the checksum. */
  readonly #digests = new Bytes();
  #startOf: Uint32Array = new Uint32Array(1024);
  #lines = 0;
  readonly #blocks: Buffer[] = [];
  #names: Readings[] = [];
  /** Lines that are no checksums. */
  bad = 0;

  /** From text that comes in any pieces. */
  static async read(chunks: AsyncIterable<Uint8Array>): Promise<SumsList> {
    const list = new SumsList();
    const decoder = new TextDecoder("utf-8");
    let rest = "";
    for await (const chunk of chunks) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) list.#add(line);
    }
    list.#add(rest + decoder.decode());
    list.#endBlock();
    return list;
  }

  get lines(): number {
    return this.#lines;
  }

  /** Of the first line that names a path, in any reading of it. */
  digestOf(path: string): Digest | null {
    const found = this.#find(keyOf(path));
    if (found === 0) return null;
    const line = this.#lineOf[found - 1] ?? 0;
    const start = this.#startOf[line] ?? 0;
    const end = line + 1 < this.#lines ? this.#startOf[line + 1] : this.#digests.length;
    const algorithm = ALGORITHMS[this.#digests.at(start)] ?? "md5";
    return digestOfHex(algorithm, this.#digests.slice(start + 1, end).toString("hex"));
  }

  /** The number of that line, from 0; null when none names it. */
  lineOf(path: string): number | null {
    const found = this.#find(keyOf(path));
    return found === 0 ? null : (this.#lineOf[found - 1] ?? 0);
  }

  /** What each line may mean, the reading of md5sum first. */
  *names(): Generator<Readings> {
    for (const block of this.#blocks) yield* JSON.parse(inflateRawSync(block).toString("utf8")) as Readings[];
  }

  #add(text: string): void {
    try {
      const parsed = parseSumsLine(text);
      if (!parsed) return;
      const digest = digestOfHex(parsed.algorithm, parsed.hex).slice(parsed.algorithm.length + 1);
      this.#startOf = room(this.#startOf, this.#lines);
      this.#startOf[this.#lines] = this.#digests.length;
      this.#digests.push(Buffer.from([ALGORITHMS.indexOf(parsed.algorithm)]));
      this.#digests.push(Buffer.from(digest, "hex"));
      for (const name of parsed.names) this.#insert(keyOf(name));
      this.#names.push(parsed.names);
      this.#lines += 1;
      if (this.#names.length === BLOCK_LINES) this.#endBlock();
    } catch (error) {
      if (!(error instanceof RunError)) throw error;
      this.bad += 1;
    }
  }

  #endBlock(): void {
    if (this.#names.length > 0) this.#blocks.push(deflateRawSync(JSON.stringify(this.#names), { level: 1 }));
    this.#names = [];
  }

  /** Of two lines that mean one path the first one counts. */
  #insert(key: Buffer): void {
    if (this.#find(key) !== 0) return;
    this.#lineOf = room(this.#lineOf, this.#paths);
    this.#lineOf[this.#paths] = this.#lines;
    this.#keys.push(key);
    this.#paths += 1;
    if (this.#paths * 2 > this.#slots.length) this.#enlarge();
    else this.#put(key, this.#paths);
  }

  #enlarge(): void {
    this.#slots = new Uint32Array(this.#slots.length * 2);
    for (let path = 0; path < this.#paths; path += 1)
      this.#put(this.#keys.slice(path * KEY_BYTES, (path + 1) * KEY_BYTES), path + 1);
  }

  #put(key: Buffer, number: number): void {
    const mask = this.#slots.length - 1;
    let slot = key.readUInt32LE(0) & mask;
    while (this.#slots[slot] !== 0) slot = (slot + 1) & mask;
    this.#slots[slot] = number;
  }

  /** The number of a path, from 1; 0: it is none. */
  #find(key: Buffer): number {
    const mask = this.#slots.length - 1;
    for (let slot = key.readUInt32LE(0) & mask; ; slot = (slot + 1) & mask) {
      const number = this.#slots[slot] ?? 0;
      if (number === 0) return 0;
      const start = (number - 1) * KEY_BYTES;
      if (this.#keys.slice(start, start + KEY_BYTES).equals(key)) return number;
    }
  }
}

const keyOf = (path: string): Buffer => hash("md5", path, "buffer");

/** Bytes that grow, outside the JavaScript heap. */
class Bytes {
  #buffer = Buffer.alloc(64 * 1024);
  length = 0;

  push(bytes: Uint8Array): void {
    if (this.length + bytes.length > this.#buffer.length) {
      const larger = Buffer.alloc(Math.ceil((this.#buffer.length * 3) / 2));
      this.#buffer.copy(larger, 0, 0, this.length);
      this.#buffer = larger;
    }
    this.#buffer.set(bytes, this.length);
    this.length += bytes.length;
  }

  at(index: number): number {
    return this.#buffer[index] ?? 0;
  }

  slice(start: number, end: number | undefined): Buffer {
    return this.#buffer.subarray(start, end);
  }
}

function room(numbers: Uint32Array, index: number): Uint32Array {
  if (index < numbers.length) return numbers;
  const larger = new Uint32Array(Math.ceil((numbers.length * 3) / 2));
  larger.set(numbers);
  return larger;
}
