/** `md5hashes.csv`, the last entry of an image zip: `Filename,MD5Hash`, then `name,32 hex`, rows in any order. */
import { RunError } from "../../errors.ts";
import type { Digest } from "../../lib/digest.ts";

/** Digests by entry name. Throws `proof-format` for anything that is no such list. */
export function parseMd5Hashes(text: string): Map<string, Digest> {
  const lines = text.split(/\r?\n/u);
  if (lines[0]?.trim() !== "Filename,MD5Hash") {
    throw new RunError("proof-format", "md5hashes.csv does not begin with 'Filename,MD5Hash'");
  }
  const digests = new Map<string, Digest>();
  for (const [index, line] of lines.entries()) {
    if (index === 0 || line === "") continue;
    const match = /^(.+),([0-9a-fA-F]{32})$/u.exec(line);
    if (!match) throw new RunError("proof-format", `line ${index + 1} of md5hashes.csv is no name and MD5`);
    digests.set(match[1] as string, `md5:${(match[2] as string).toLowerCase()}`);
  }
  return digests;
}
