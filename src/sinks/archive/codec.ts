/**
 * The three archive formats. An archive is a row of *pieces* that can be read without each other: frames of zstd,
 * streams of xz, members of plain tar. Put together, the plain programs read them as one.
 */
import { availableParallelism } from "node:os";
import { RunError } from "../../errors.ts";
import { ByteReader } from "../../lib/bytes.ts";
import { type FilterProgram, filterThrough } from "../../lib/filter-program.ts";
import { FilterRows } from "../../lib/filter-rows.ts";
import { TAR_END, tarComment } from "../../lib/tar-header.ts";
import { emptyXz, readStoredXz, storedXz } from "./xz-stream.ts";
import { readStoredZst, storedZst } from "./zst-frame.ts";

export type PackFormat = "tar" | "tar.zst" | "tar.xz";
export const PACK_FORMATS: readonly PackFormat[] = ["tar.zst", "tar.xz", "tar"];

export interface Codec {
  readonly format: PackFormat;
  /** Throws `usage` when a program that it packs with is missing or does not work. */
  tryPrograms(): Promise<void>;
  /** One piece that holds these bytes; the same bytes give the same piece. */
  pack(bytes: Uint8Array): Promise<readonly Uint8Array[]>;
  /** One piece of bytes that come as a stream, with every processor of this machine. */
  packStream(bytes: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array>;
  /** What pieces hold. Throws `proof-format` for damaged ones. */
  unpack(pieces: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array>;
  /** Bytes that hold nothing and that readers pass over, in the place of pieces of this length together. */
  blank(length: number): Iterable<Uint8Array>;
}

/**
 * A piece of at most so many bytes holds them as they are: to start a compressor costs ten times what there is to
 * compress (docs/decisions/0023-small-pieces.md). What such a piece holds is read without a program, too.
 */
const SMALL_BYTES = 16 * 1024;
/** No stored piece is longer. */
const LONGEST_SMALL = SMALL_BYTES + 1024;

/** Blanks are of pieces of this size, because some readers of tar hold a comment in memory (libarchive: 1 MiB). */
const BLANK_BYTES = 1024 * 1024;
const SKIPPABLE_HEAD = 8;

/** Lets so many at a time through, in the order of their coming. */
class Gate {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(free: number) {
    this.#free = free;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free += 1;
    }
  }
}

/** Compressors at once: more than processors only cost memory. */
const compressors = new Gate(availableParallelism());

export function openCodec(format: PackFormat): Codec {
  if (format === "tar") return plainTar;
  return format === "tar.xz" ? xz : zstd;
}

const plainTar: Codec = {
  format: "tar",
  tryPrograms: async () => undefined,
  pack: async (bytes) => [bytes],
  packStream: (bytes) => bytes,
  unpack: (pieces) => pieces,
  *blank(length) {
    for (let left = length; left > 0; left -= BLANK_BYTES) yield tarComment(Math.min(left, BLANK_BYTES));
  },
};

function compressor(program: string, from: string, args: readonly string[]): FilterProgram {
  return { program, from, args, failure: "disk-error" };
}

function decompressor(program: string, from: string): FilterProgram {
  return { program, from, args: ["-q", "-d", "-c"], failure: "proof-format" };
}

const XZ = "xz-utils";
const xz: Codec = {
  format: "tar.xz",
  tryPrograms: () => tryProgram("xz", XZ),
  pack: async (bytes) => {
    if (bytes.length <= SMALL_BYTES) return [storedXz(bytes)];
    // The dictionary of the preset, but none larger than what is packed: it makes nothing smaller, and costs its memory.
    let dictionary = 64 * 1024;
    while (dictionary < bytes.length && dictionary < 8 * 1024 * 1024) dictionary *= 2;
    return packWith("xz", XZ, ["-q", "-c", "-T1", `--lzma2=preset=6,dict=${dictionary}`], bytes);
  },
  packStream: (bytes) => packStreamWith(compressor("xz", XZ, ["-q", "-6", "-c", "-T0"]), bytes),
  unpack: (pieces) => unpackWith(decompressor("xz", XZ), readStoredXz, pieces),
  *blank(length) {
    for (let left = length; left > 0; ) {
      const part = left <= 2 * BLANK_BYTES ? left : BLANK_BYTES;
      yield emptyXz(part);
      left -= part;
    }
  },
};

const zstd: Codec = {
  format: "tar.zst",
  tryPrograms: () => tryProgram("zstd", "zstd"),
  pack: async (bytes) => {
    if (bytes.length <= SMALL_BYTES) return [storedZst(bytes)];
    return packWith("zstd", "zstd", ["-q", "-3", "-c", "--single-thread"], bytes);
  },
  packStream: (bytes) => packStreamWith(compressor("zstd", "zstd", ["-q", "-3", "-c", "-T0"]), bytes),
  unpack: (pieces) => unpackWith(decompressor("zstd", "zstd"), readStoredZst, pieces),
  // Skippable frames (RFC 8878, section 3.1.2).
  *blank(length) {
    for (let left = length; left > 0; ) {
      const whole = left <= BLANK_BYTES ? left : Math.min(BLANK_BYTES, left - SKIPPABLE_HEAD);
      const frame = Buffer.alloc(whole);
      frame.writeUInt32LE(0x184d2a50, 0);
      frame.writeUInt32LE(whole - SKIPPABLE_HEAD, 4);
      yield frame;
      left -= whole;
    }
  },
};

/** Bytes of which little can be spared, so that a program that stops early is seen. */
const SAMPLE = Buffer.alloc(64 * 1024);
for (let at = 0, value = 1; at < SAMPLE.length; at += 1) {
  value = (Math.imul(value, 1_103_515_245) + 12_345) >>> 0;
  SAMPLE[at] = value >>> 24;
}
/** By name; in force as long as the process. */
const tried = new Map<string, Promise<void>>();

/**
 * Packs and unpacks a sample, once: a program that ends well without having done its work would cost the data that are packed
 * by it, and what is unpacked by it would count as damaged.
 */
function tryProgram(program: string, from: string): Promise<void> {
  const known = tried.get(program);
  if (known) return known;
  const trial = (async () => {
    let why = "what it packs does not unpack to the same bytes";
    try {
      const packed = filterThrough(compressor(program, from, ["-q", "-1", "-c"]), [SAMPLE]);
      const parts: Uint8Array[] = [];
      for await (const part of filterThrough(decompressor(program, from), packed)) parts.push(part);
      if (Buffer.concat(parts).equals(SAMPLE)) return;
    } catch (error) {
      if (!(error instanceof RunError) || error.code === "usage") throw error;
      why = error.message;
    }
    throw new RunError("usage", `the program ${program} does not work here: ${why}`, {
      hint: `see which one comes first on PATH, or install the package ${from}`,
    });
  })();
  tried.set(program, trial);
  // Somebody may install another one while this process lives.
  trial.catch(() => tried.delete(program));
  return trial;
}

async function* packStreamWith(
  filter: FilterProgram,
  bytes: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  await tryProgram(filter.program, filter.from);
  yield* filterThrough(filter, bytes);
}

/** By command line. */
const rows = new Map<string, FilterRows>();

async function packWith(
  program: string,
  from: string,
  args: readonly string[],
  bytes: Uint8Array,
): Promise<readonly Uint8Array[]> {
  await tryProgram(program, from);
  const command = [program, ...args].join(" ");
  const known = rows.get(command) ?? new FilterRows(compressor(program, from, args));
  rows.set(command, known);
  return compressors.run(() => known.run(bytes));
}

async function* unpackWith(
  filter: FilterProgram,
  readStored: (piece: Buffer) => Buffer | null,
  pieces: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  const reader = new ByteReader(pieces);
  try {
    if (!(await reader.fill(LONGEST_SMALL + 1))) {
      const stored = readStored(reader.peek(LONGEST_SMALL));
      if (stored) {
        yield stored;
        return;
      }
    }
    await tryProgram(filter.program, filter.from);
    yield* filterThrough(filter, rest(reader));
  } finally {
    await reader.close();
  }
}

async function* rest(reader: ByteReader): AsyncGenerator<Uint8Array> {
  while (reader.available > 0 || (await reader.fill(1))) yield reader.take(reader.available);
}

/** The piece that ends an archive. */
export async function endPiece(codec: Codec): Promise<Uint8Array> {
  return Buffer.concat(await codec.pack(TAR_END));
}
