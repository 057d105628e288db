/**
 * Streaming unzip that is also a proof: it reads a zip once, from front to back, and ends normally only when
 * everything that the archive says about itself agrees with what was streamed.
 *
 * Facts of the format: PKWARE APPNOTE.TXT 6.3.10, sections 4.3 (records), 4.4 (fields), 4.5 (extra fields).
 * Java's ZipOutputStream, which writes the zips of NBIA, leaves sizes and CRC to a descriptor behind the data.
 */

import { crc32, inflateRawSync } from "node:zlib";
import { ByteReader } from "./bytes.ts";
import { CHUNK_BYTES, damaged, Entry, InflatePull, Tally, type ZipEntry } from "./zip-entry.ts";
import {
  ALL_ONES_16,
  ALL_ONES_32,
  CENTRAL,
  cut,
  DEFLATED,
  DESCRIPTOR,
  DESCRIPTOR_BYTES,
  DESCRIPTOR_WINDOW,
  decodeName,
  descriptorLength,
  ENCRYPTED,
  END,
  fault,
  HAS_DESCRIPTOR,
  type Header,
  LOCAL,
  MASKED,
  mayDescribe,
  PATCHED,
  quote,
  readUInt64,
  readZip64,
  refuseHostileName,
  STORED,
  STRONGLY_ENCRYPTED,
  UTF8,
  ZIP64_END,
  ZIP64_LOCATOR,
} from "./zip-records.ts";

export type { ZipEntry } from "./zip-entry.ts";

/** Bounds on what an archive may make us do. Absent: no bound, except 1,000,000 entries. */
export interface UnzipLimits {
  readonly maxEntries?: number;
  /** Largest inflated size of one entry. */
  readonly maxEntryBytes?: number;
  /** Largest inflated size of all entries together. */
  readonly maxTotalBytes?: number;
}

/**
 * The entries of a zip that arrives as a stream of bytes. **The archive is good only when the iteration ends
 * normally**: then the central directory and the end records were read and agree with every entry's name,
 * CRC, sizes and offset, and nothing follows them.
 *
 * Memory is bounded: a few chunks, and per entry its name and five numbers. The source is read only when the
 * consumer asks. When the consumer stops early the source's iterator is returned. Chunks may be views of the
 * source's chunks, so the source must not reuse their memory.
 *
 * @throws RunError `proof-format`, from the iteration or from a body, when the archive is cut, damaged,
 * contradicts itself, breaks a limit, uses a hostile name or a feature that cannot be read (encryption, other
 * methods than store and deflate, several disks). An error of the source passes unchanged.
 */
export async function* unzip(
  source: AsyncIterable<Uint8Array>,
  limits: UnzipLimits = {},
): AsyncGenerator<ZipEntry, void, undefined> {
  const reader = new ByteReader(source);
  const reading = new Reading(reader, limits);
  let failed = false;
  try {
    for (;;) {
      const entry = await reading.nextEntry();
      if (entry === undefined) return;
      yield entry;
      await entry.drain();
    }
  } catch (error) {
    failed = true;
    throw error;
  } finally {
    reading.close();
    // A second error, from closing, must not hide the first.
    await reader.close().catch((error: unknown) => {
      if (!failed) throw error;
    });
  }
}

const DEFAULT_MAX_ENTRIES = 1_000_000;
/** All names together; keeps the directory check small whatever an archive claims. */
const MAX_NAMES_BYTES = 256 * 1024 * 1024;

/**
 * Entries up to this deflated size are inflated in one synchronous call: setting up a stream costs more than
 * the work itself (measured with MD5, 8 KiB files: 26 µs against 98 µs each). The two bounds keep the time that
 * the event loop is held to a few milliseconds.
 */
const SMALL_BYTES = 64 * 1024;
const SMALL_INFLATED_BYTES = 1024 * 1024;
/** What is kept of each entry until the directory confirms it. */
class Facts {
  readonly names: string[] = [];
  /** Names that are not pure ASCII, as one character per byte: the directory must repeat them exactly. */
  readonly rawNames = new Map<number, string>();
  readonly taken = new Set<string>();
  readonly offsets: number[] = [];
  readonly crcs: number[] = [];
  readonly compressed: number[] = [];
  readonly sizes: number[] = [];
  readonly methodsAndUtf8: number[] = [];

  get count(): number {
    return this.offsets.length;
  }

  /** Index of the entry whose local header is at `offset`, or -1. Offsets only grow. */
  indexAt(offset: number): number {
    let low = 0;
    let high = this.offsets.length - 1;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      const at = this.offsets[middle]!;
      if (at === offset) return middle;
      if (at < offset) low = middle + 1;
      else high = middle - 1;
    }
    return -1;
  }
}

class Reading {
  readonly #reader: ByteReader;
  readonly #maxEntries: number;
  readonly #maxEntryBytes: number;
  readonly #maxTotalBytes: number;
  readonly #facts = new Facts();
  #totalBytes = 0;
  #namesBytes = 0;
  #inflating: InflatePull | undefined;
  /** Sizes of the entry before: a series holds files of a kind, so they tell how to read the next. */
  #lastCompressedBytes = 0;
  #lastSizeBytes = 0;

  constructor(reader: ByteReader, limits: UnzipLimits) {
    this.#reader = reader;
    this.#maxEntries = limits.maxEntries ?? DEFAULT_MAX_ENTRIES;
    this.#maxEntryBytes = limits.maxEntryBytes ?? Number.POSITIVE_INFINITY;
    this.#maxTotalBytes = limits.maxTotalBytes ?? Number.POSITIVE_INFINITY;
  }

  close(): void {
    this.#inflating?.close();
    this.#inflating = undefined;
  }

  /** The next entry, or undefined when the archive has ended and everything about it is proven. */
  async nextEntry(): Promise<Entry | undefined> {
    const reader = this.#reader;
    if (reader.available < 4 && !(await reader.fill(4))) {
      if (reader.position === 0 && reader.available === 0) throw fault("the zip is empty: not one byte came");
      throw cut(this.#facts.count === 0 ? "its first bytes" : "front of its directory");
    }
    const signature = reader.peek(4).readUInt32LE(0);
    if (signature === LOCAL) {
      const header = await this.#readHeader();
      return await this.#openEntry(header);
    }
    if (signature === CENTRAL || signature === END || signature === ZIP64_END) {
      await this.#proveDirectory();
      return undefined;
    }
    if (reader.position === 0) {
      throw fault(
        signature === DESCRIPTOR || signature === 0x30304b50
          ? "the zip is one part of a multi-disk archive"
          : "the bytes are not a zip: they do not begin like one",
      );
    }
    throw fault(`the zip holds something that is no zip record at byte ${reader.position}`);
  }

  async #readHeader(): Promise<Header> {
    const reader = this.#reader;
    const offset = reader.position;
    await this.#need(30, "the header of an entry");
    const fixed = reader.take(30);
    const flags = fixed.readUInt16LE(6);
    const method = fixed.readUInt16LE(8);
    const headerCrc = fixed.readUInt32LE(14);
    let compressedBytes = fixed.readUInt32LE(18);
    let sizeBytes = fixed.readUInt32LE(22);
    const nameLength = fixed.readUInt16LE(26);
    const extraLength = fixed.readUInt16LE(28);
    await this.#need(nameLength + extraLength, "the header of an entry");
    // Copied, as a view would keep the whole chunk in memory.
    const nameBytes = Buffer.from(reader.take(nameLength));
    const extra = reader.take(extraLength);

    const name = decodeName(nameBytes, (flags & UTF8) !== 0, extra);
    const label = `zip entry ${quote(name)}`;
    refuseHostileName(name, label);
    if ((flags & (ENCRYPTED | STRONGLY_ENCRYPTED | MASKED)) !== 0) throw fault(`${label} is encrypted`);
    if ((flags & PATCHED) !== 0) throw fault(`${label} is a patch, which cannot be read`);
    if (method !== STORED && method !== DEFLATED) {
      throw fault(`${label} is compressed by method ${method}, which cannot be read`);
    }
    if (this.#facts.count >= this.#maxEntries) {
      throw fault(`the zip holds more than the ${this.#maxEntries} entries allowed`);
    }
    this.#namesBytes += nameLength;
    if (this.#namesBytes > MAX_NAMES_BYTES) throw fault("the names in the zip take too much memory");
    if (this.#facts.taken.has(name)) throw fault(`${label} comes twice`);

    const hasDescriptor = (flags & HAS_DESCRIPTOR) !== 0;
    if (compressedBytes === ALL_ONES_32 || sizeBytes === ALL_ONES_32) {
      const wide = readZip64(extra, sizeBytes === ALL_ONES_32, compressedBytes === ALL_ONES_32, false, false);
      if (wide !== undefined) {
        sizeBytes = wide.sizeBytes ?? sizeBytes;
        compressedBytes = wide.compressedBytes ?? compressedBytes;
      } else if (hasDescriptor) {
        sizeBytes = 0;
        compressedBytes = 0;
      } else {
        throw fault(`${label} promises a zip64 size but does not give it`);
      }
    }
    if (!hasDescriptor && method === STORED && compressedBytes !== sizeBytes) {
      throw fault(`${label} is stored, but its two sizes differ`);
    }
    return {
      name,
      nameBytes,
      label,
      flags,
      method,
      offset,
      hasDescriptor,
      crc32: headerCrc,
      compressedBytes,
      sizeBytes,
    };
  }

  async #openEntry(header: Header): Promise<Entry> {
    const tally = this.#openTally(header);
    if (header.method === DEFLATED) {
      const small = await this.#inflateSmall(header);
      if (small !== undefined) {
        tally.add(small.bytes);
        await this.#finish(header, tally, small.compressedBytes);
        let left: Uint8Array | undefined = small.bytes.length === 0 ? undefined : small.bytes;
        return new Entry(header, tally, async () => {
          const bytes = left;
          left = undefined;
          return bytes;
        });
      }
      const inflating = new InflatePull(this.#reader, tally, header.label);
      this.#inflating = inflating;
      return new Entry(header, tally, async () => {
        const bytes = await inflating.next();
        if (bytes !== undefined) return bytes;
        this.close();
        await this.#finish(header, tally, inflating.compressedBytes);
        return undefined;
      });
    }
    if (header.hasDescriptor && header.compressedBytes === 0) {
      return new Entry(header, tally, () => this.#pullUnmeasured(header, tally));
    }
    return new Entry(header, tally, () => this.#pullStored(header, tally));
  }

  /** The smallest bound that applies, with the sentence that names it. */
  #openTally(header: Header): Tally {
    let max = this.#maxEntryBytes;
    let tooLarge = `is larger than the ${this.#maxEntryBytes} bytes allowed`;
    const left = this.#maxTotalBytes - this.#totalBytes;
    if (left < max) {
      max = left;
      tooLarge = `brings the zip over the ${this.#maxTotalBytes} bytes allowed in all`;
    }
    if (!header.hasDescriptor) {
      // Refused before the first byte, as the archive says itself that it is too large.
      if (header.sizeBytes > max) throw fault(`${header.label} ${tooLarge}`);
      max = header.sizeBytes;
      tooLarge = `is larger than its header says (${header.sizeBytes} bytes)`;
    }
    return new Tally(header.label, max, tooLarge);
  }

  /** Inflates an entry at once if it is likely to be small; undefined means: not small, stream it. */
  async #inflateSmall(header: Header): Promise<{ bytes: Buffer; compressedBytes: number } | undefined> {
    const reader = this.#reader;
    const expected = header.hasDescriptor ? this.#lastCompressedBytes : header.compressedBytes;
    if (expected > SMALL_BYTES) return undefined;
    const sizeHint = header.hasDescriptor ? this.#lastSizeBytes : header.sizeBytes;
    if (sizeHint > SMALL_INFLATED_BYTES) return undefined;
    const chunkSize = Math.min(Math.max(16 * 1024, sizeHint), CHUNK_BYTES);
    let wanted = Math.max(expected, 1);
    for (;;) {
      if (reader.available < wanted) await reader.fill(wanted);
      const input = reader.peek(SMALL_BYTES);
      try {
        // With `info` Node answers { buffer, engine } (zlib documentation, "Class: Options"), which its
        // types do not say.
        const { buffer, engine } = inflateRawSync(input, {
          info: true,
          chunkSize,
          maxOutputLength: SMALL_INFLATED_BYTES,
        }) as unknown as { buffer: Buffer; engine: { bytesWritten: number } };
        reader.take(engine.bytesWritten);
        return { bytes: buffer, compressedBytes: engine.bytesWritten };
      } catch (error) {
        const code = codeOf(error);
        if (code === "ERR_BUFFER_TOO_LARGE") return undefined;
        if (code !== "Z_BUF_ERROR") throw damaged(header.label, error);
        if (reader.ended && input.length === reader.available) throw cut(header.label);
        if (input.length >= SMALL_BYTES) return undefined;
        wanted = Math.min(Math.max(input.length * 2, 4096), SMALL_BYTES);
      }
    }
  }

  async #pullStored(header: Header, tally: Tally): Promise<Uint8Array | undefined> {
    const reader = this.#reader;
    const left = header.compressedBytes - tally.sizeBytes;
    if (left === 0) {
      await this.#finish(header, tally, header.compressedBytes);
      return undefined;
    }
    if (reader.available === 0 && !(await reader.fill(1))) throw cut(header.label);
    const bytes = reader.take(left);
    tally.add(bytes);
    return bytes;
  }

  /**
   * Stored data of unknown length, which the format cannot delimit: the data ends where a descriptor stands
   * that repeats both the CRC and the length of everything before it, with another record behind. The
   * directory confirms the guess at the end.
   */
  async #pullUnmeasured(header: Header, tally: Tally): Promise<Uint8Array | undefined> {
    const reader = this.#reader;
    const give = (count: number): Buffer => {
      const bytes = reader.take(count);
      tally.add(bytes);
      return bytes;
    };
    let passed = 0;
    for (;;) {
      const view = reader.peek(CHUNK_BYTES);
      const at = view.indexOf(DESCRIPTOR_BYTES, passed);
      if (at === -1) {
        // The last three bytes may be the beginning of a signature.
        const safe = Math.max(passed, view.length - 3);
        if (safe > 0) return give(safe);
        if (!(await reader.fill(view.length + 1))) throw cut(header.label);
        continue;
      }
      if (view.length - at < DESCRIPTOR_WINDOW && !(reader.ended && view.length === reader.available)) {
        if (at > 0) return give(at);
        await reader.fill(DESCRIPTOR_WINDOW);
        continue;
      }
      const size = tally.sizeBytes + at;
      if (mayDescribe(view, at, size)) {
        const crc = crc32(view.subarray(0, at), tally.crc32);
        const length = descriptorLength(view.subarray(at, at + DESCRIPTOR_WINDOW), crc, size, size, true);
        if (length !== undefined) {
          if (at > 0) return give(at);
          await this.#finish(header, tally, tally.sizeBytes);
          return undefined;
        }
      }
      passed = at + 1;
    }
  }

  /** Behind the data: holds what was streamed against header or descriptor, and keeps it for the directory. */
  async #finish(header: Header, tally: Tally, compressedBytes: number): Promise<void> {
    const { label } = header;
    const reader = this.#reader;
    if (header.hasDescriptor) {
      if (reader.available < DESCRIPTOR_WINDOW) await reader.fill(DESCRIPTOR_WINDOW);
      const window = reader.peek(DESCRIPTOR_WINDOW);
      const length = descriptorLength(window, tally.crc32, compressedBytes, tally.sizeBytes, false);
      if (length === undefined) {
        if (window.length < 12) throw cut(`the descriptor of ${label}`);
        throw fault(`${label}: its descriptor does not agree with its data (CRC or sizes)`);
      }
      reader.take(length);
    } else {
      if (compressedBytes !== header.compressedBytes || tally.sizeBytes !== header.sizeBytes) {
        throw fault(`${label}: its data does not have the sizes that its header gives`);
      }
      if (tally.crc32 !== header.crc32) throw fault(`${label}: its data does not have the CRC of its header`);
    }
    if (tally.sizeBytes > 0 && header.name.endsWith("/")) {
      throw fault(`${label} has the name of a folder but holds data`);
    }
    const facts = this.#facts;
    const raw = header.nameBytes.toString("latin1");
    if (raw !== header.name) facts.rawNames.set(facts.count, raw);
    facts.names.push(header.name);
    facts.taken.add(header.name);
    facts.offsets.push(header.offset);
    facts.crcs.push(tally.crc32);
    facts.compressed.push(compressedBytes);
    facts.sizes.push(tally.sizeBytes);
    facts.methodsAndUtf8.push(header.method | (header.flags & UTF8));
    this.#totalBytes += tally.sizeBytes;
    this.#lastCompressedBytes = compressedBytes;
    this.#lastSizeBytes = tally.sizeBytes;
  }

  async #proveDirectory(): Promise<void> {
    const reader = this.#reader;
    const count = this.#facts.count;
    const start = reader.position;
    const confirmed = new Uint8Array(count);
    let listed = 0;
    while ((await this.#nextSignature("its directory")) === CENTRAL) {
      await this.#proveCentral(confirmed);
      listed += 1;
    }
    if (listed !== count) {
      throw fault(
        listed === 0
          ? `the zip has no directory for its ${count} entries`
          : `the zip's directory lists ${listed} of ${count} entries`,
      );
    }
    await this.#proveEnd({ start, bytes: reader.position - start, count });
  }

  async #proveCentral(confirmed: Uint8Array): Promise<void> {
    const reader = this.#reader;
    const facts = this.#facts;
    await this.#need(46, "its directory");
    const fixed = reader.take(46);
    const flags = fixed.readUInt16LE(8);
    const method = fixed.readUInt16LE(10);
    const crc = fixed.readUInt32LE(16);
    let compressedBytes = fixed.readUInt32LE(20);
    let sizeBytes = fixed.readUInt32LE(24);
    const nameLength = fixed.readUInt16LE(28);
    const extraLength = fixed.readUInt16LE(30);
    const commentLength = fixed.readUInt16LE(32);
    let disk = fixed.readUInt16LE(34);
    let offset = fixed.readUInt32LE(42);
    const rest = nameLength + extraLength + commentLength;
    await this.#need(rest, "its directory");
    const variable = reader.take(rest);
    const name = variable.toString("latin1", 0, nameLength);
    const extra = variable.subarray(nameLength, nameLength + extraLength);

    if (
      sizeBytes === ALL_ONES_32 ||
      compressedBytes === ALL_ONES_32 ||
      offset === ALL_ONES_32 ||
      disk === ALL_ONES_16
    ) {
      const wide = readZip64(
        extra,
        sizeBytes === ALL_ONES_32,
        compressedBytes === ALL_ONES_32,
        offset === ALL_ONES_32,
        disk === ALL_ONES_16,
      );
      if (wide === undefined) throw fault("the zip's directory promises zip64 values but does not give them");
      sizeBytes = wide.sizeBytes ?? sizeBytes;
      compressedBytes = wide.compressedBytes ?? compressedBytes;
      offset = wide.offset ?? offset;
      disk = wide.disk ?? disk;
    }
    if (disk !== 0) throw fault("the zip is one part of a multi-disk archive");
    const index = facts.indexAt(offset);
    if (index === -1) {
      throw fault(`the zip's directory places an entry at byte ${offset}, where none begins`);
    }
    const label = `zip entry ${quote(facts.names[index]!)}`;
    if (confirmed[index] !== 0) throw fault(`${label} is twice in the directory`);
    confirmed[index] = 1;
    const known = facts.rawNames.get(index) ?? facts.names[index]!;
    // The UTF-8 flag decides what a name means only if the name is not pure ASCII.
    const sameMeaning = !facts.rawNames.has(index) || ((flags ^ facts.methodsAndUtf8[index]!) & UTF8) === 0;
    if (name !== known || !sameMeaning) throw fault(`${label} has another name in the directory`);
    if (crc !== facts.crcs[index]) throw fault(`${label}: its data does not have the CRC of the directory`);
    if (compressedBytes !== facts.compressed[index] || sizeBytes !== facts.sizes[index]) {
      throw fault(`${label}: its data does not have the sizes that the directory gives`);
    }
    if (method !== (facts.methodsAndUtf8[index]! & ~UTF8)) {
      throw fault(`${label} has another compression method in the directory`);
    }
    if ((flags & (ENCRYPTED | STRONGLY_ENCRYPTED)) !== 0) {
      throw fault(`${label} is encrypted, says the directory`);
    }
  }

  async #proveEnd(directory: { start: number; bytes: number; count: number }): Promise<void> {
    const reader = this.#reader;
    const wide = (await this.#nextSignature("its end record")) === ZIP64_END;
    if (wide) await this.#proveZip64End(directory);
    if ((await this.#nextSignature("its end record")) !== END) {
      throw fault(`the zip holds something that is no zip record at byte ${reader.position}`);
    }
    await this.#need(22, "its end record");
    const end = reader.take(22);
    const agrees = (given: number, ones: number, known: number): boolean =>
      given === known || (wide && given === ones);
    if (!agrees(end.readUInt16LE(4), ALL_ONES_16, 0) || !agrees(end.readUInt16LE(6), ALL_ONES_16, 0)) {
      throw fault("the zip is one part of a multi-disk archive");
    }
    if (
      !agrees(end.readUInt16LE(8), ALL_ONES_16, directory.count) ||
      !agrees(end.readUInt16LE(10), ALL_ONES_16, directory.count)
    ) {
      throw fault(`the zip's end record does not count the ${directory.count} entries that came`);
    }
    if (
      !agrees(end.readUInt32LE(12), ALL_ONES_32, directory.bytes) ||
      !agrees(end.readUInt32LE(16), ALL_ONES_32, directory.start)
    ) {
      throw fault("the zip's end record does not say where its directory is");
    }
    const commentLength = end.readUInt16LE(20);
    await this.#need(commentLength, "its comment");
    reader.take(commentLength);
    if (reader.available > 0 || (await reader.fill(1))) throw fault("bytes follow the end of the zip");
  }

  async #proveZip64End(directory: { start: number; bytes: number; count: number }): Promise<void> {
    const reader = this.#reader;
    const at = reader.position;
    await this.#need(56, "its zip64 end record");
    const end = reader.take(56);
    const length = readUInt64(end, 4);
    if (length < 44 || length > 64 * 1024) throw fault("the zip's zip64 end record has a senseless length");
    if (end.readUInt32LE(16) !== 0 || end.readUInt32LE(20) !== 0) {
      throw fault("the zip is one part of a multi-disk archive");
    }
    if (readUInt64(end, 24) !== directory.count || readUInt64(end, 32) !== directory.count) {
      throw fault(`the zip's zip64 end record does not count the ${directory.count} entries that came`);
    }
    if (readUInt64(end, 40) !== directory.bytes || readUInt64(end, 48) !== directory.start) {
      throw fault("the zip's zip64 end record does not say where its directory is");
    }
    await this.#need(length - 44, "its zip64 end record");
    reader.take(length - 44);
    if ((await this.#nextSignature("its zip64 locator")) !== ZIP64_LOCATOR) {
      throw fault("the zip has a zip64 end record but no locator for it");
    }
    await this.#need(20, "its zip64 locator");
    const locator = reader.take(20);
    if (locator.readUInt32LE(4) !== 0 || locator.readUInt32LE(16) > 1) {
      throw fault("the zip is one part of a multi-disk archive");
    }
    if (readUInt64(locator, 8) !== at) throw fault("the zip's zip64 locator points elsewhere");
  }

  async #nextSignature(where: string): Promise<number> {
    await this.#need(4, where);
    return this.#reader.peek(4).readUInt32LE(0);
  }

  async #need(count: number, where: string): Promise<void> {
    if (this.#reader.available < count && !(await this.#reader.fill(count))) throw cut(where);
  }
}

function codeOf(error: unknown): unknown {
  return typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
}
