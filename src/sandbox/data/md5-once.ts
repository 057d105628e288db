import { createHash } from "node:crypto";

/** A function that hashes the stream when first asked and remembers the answer (but not a failure). */
export function md5Once(read: () => AsyncIterable<Uint8Array>): () => Promise<string> {
  let known: Promise<string> | undefined;
  const compute = async (): Promise<string> => {
    const hash = createHash("md5");
    for await (const chunk of read()) hash.update(chunk);
    return hash.digest("hex");
  };
  return () => {
    known ??= compute().catch((error: unknown) => {
      known = undefined;
      throw error;
    });
    return known;
  };
}
