/** Pieces that no compressor made, judged by the programs that read them. */
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import { has } from "../../../test/support/gantry.ts";
import { tarHeader } from "../../lib/tar-header.ts";
import { readStoredXz, storedXz } from "./xz-stream.ts";
import { readStoredZst, storedZst } from "./zst-frame.ts";

const CASES: readonly (readonly [what: string, bytes: Buffer])[] = [
  ["zeros", Buffer.alloc(1024)],
  ["the least", randomBytes(256)],
  ["the most", randomBytes(16 * 1024)],
  ["a member", Buffer.concat([tarHeader("a/b.json", 1500), Buffer.alloc(1536, "{}")])],
  ["runs of every length", Buffer.concat(Array.from({ length: 30 }, (_, n) => Buffer.alloc(n + 1, n % 2)))],
  ["zeros at both ends", Buffer.concat([Buffer.alloc(700), randomBytes(33), Buffer.alloc(291)])],
];

describe.each([
  ["zstd", storedZst, readStoredZst],
  ["xz", storedXz, readStoredXz],
] as const)("%s", (program, store, read) => {
  const unpack = (pieces: Buffer): { status: number | null; stdout: Buffer } =>
    spawnSync(program, ["-q", "-d", "-c"], { input: pieces });

  it.skipIf(!has(program)).each(CASES)(
    `%s: the program reads it, alone and in a row (needs ${program})`,
    (_, bytes) => {
      expect(unpack(store(bytes))).toMatchObject({ status: 0, stdout: bytes });
      const row = unpack(Buffer.concat([store(bytes), store(bytes)]));
      expect(row).toMatchObject({ status: 0, stdout: Buffer.concat([bytes, bytes]) });
    },
  );

  it.each(CASES)("%s: is read back, and nothing else is", (_, bytes) => {
    const piece = store(bytes);
    expect(read(piece)?.equals(bytes)).toBe(true);
    for (const other of [piece.subarray(0, -1), Buffer.concat([piece, piece]), Buffer.alloc(0), bytes])
      expect(read(other)).toBeNull();
    for (let at = 0; at < piece.length; at += 1 + (at >> 5)) {
      const flipped = Buffer.from(piece);
      flipped[at] = (flipped[at] ?? 0) ^ 0x10;
      expect(read(flipped), `byte ${at}`).toBeNull();
    }
  });

  it.skipIf(!has(program))(`the program notices any flipped byte (needs ${program})`, () => {
    const piece = store(CASES[3]?.[1] ?? Buffer.alloc(0));
    for (let at = 0; at < piece.length; at += 97) {
      const flipped = Buffer.from(piece);
      flipped[at] = (flipped[at] ?? 0) ^ 0x10;
      expect(unpack(flipped).status, `byte ${at}`).not.toBe(0);
    }
  });
});
