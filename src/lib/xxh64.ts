/** XXH64 with seed 0 (xxHash specification 0.1.1), for a few kilobytes: big integers are slow. */

const P1 = 0x9e3779b185ebca87n;
const P2 = 0xc2b2ae3d27d4eb4fn;
const P3 = 0x165667b19e3779f9n;
const P4 = 0x85ebca77c2b2ae63n;
const P5 = 0x27d4eb2f165667c5n;

const cut = (value: bigint): bigint => BigInt.asUintN(64, value);
const turn = (value: bigint, bits: bigint): bigint => cut(value << bits) | (value >> (64n - bits));
const round = (lane: bigint, word: bigint): bigint => cut(turn(cut(lane + word * P2), 31n) * P1);

export function xxh64(bytes: Uint8Array): bigint {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  let hash = P5;
  if (view.length >= 32) {
    let [a, b, c, d] = [cut(P1 + P2), P2, 0n, cut(-P1)] as [bigint, bigint, bigint, bigint];
    for (; at + 32 <= view.length; at += 32) {
      a = round(a, view.readBigUInt64LE(at));
      b = round(b, view.readBigUInt64LE(at + 8));
      c = round(c, view.readBigUInt64LE(at + 16));
      d = round(d, view.readBigUInt64LE(at + 24));
    }
    hash = cut(turn(a, 1n) + turn(b, 7n) + turn(c, 12n) + turn(d, 18n));
    for (const lane of [a, b, c, d]) hash = cut((hash ^ round(0n, lane)) * P1 + P4);
  }
  hash = cut(hash + BigInt(view.length));
  for (; at + 8 <= view.length; at += 8)
    hash = cut(turn(hash ^ round(0n, view.readBigUInt64LE(at)), 27n) * P1 + P4);
  if (at + 4 <= view.length) {
    hash = cut(turn(hash ^ cut(BigInt(view.readUInt32LE(at)) * P1), 23n) * P2 + P3);
    at += 4;
  }
  for (; at < view.length; at += 1) hash = cut(turn(hash ^ cut(BigInt(view[at] ?? 0) * P5), 11n) * P1);
  hash = cut((hash ^ (hash >> 33n)) * P2);
  hash = cut((hash ^ (hash >> 29n)) * P3);
  return hash ^ (hash >> 32n);
}
