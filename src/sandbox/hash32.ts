/**
 * A fast, well-mixed 32-bit hash of text (FNV-1a with a final avalanche). For repeatable choices and for orders
 * that look random but never change; not for security.
 */
export function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** A copy in an order that depends on the keys alone: what a database without ORDER BY looks like. */
export function databaseOrder<T>(things: Iterable<T>, key: (thing: T) => string): T[] {
  return [...things]
    .map((thing) => ({ thing, rank: hash32(key(thing)) }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ thing }) => thing);
}
