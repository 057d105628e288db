/** Paths in ids of items: what can't stand there as it is are controls, quotes, and what escapes are made of. */
export const idPath = (path: readonly string[]): string =>
  path
    .join("/")
    .toWellFormed()
    .replace(/[%"\\\u0000-\u001f\u007f]/gu, encodeURIComponent);
