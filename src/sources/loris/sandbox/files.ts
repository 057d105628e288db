/** File replies and their ETags (loris.md 4.3 to 4.5). */
import { createHash } from "node:crypto";
import type { StudyFile } from "../../../sandbox/data/studies.ts";
import type { Fault } from "../../../sandbox/faults.ts";
import type { Reply } from "../../../sandbox/stand-ins.ts";
import { otherContent } from "../../../sandbox/study-changes.ts";

export const md5 = (text: string): string => createHash("md5").update(text).digest("hex");

/** Over the time of the last change, the size and the path; never over the content. */
export async function fileEtag(file: StudyFile): Promise<string> {
  const facts = await file.stat();
  return md5(`${facts?.modifiedMs ?? ""} ${facts?.sizeBytes ?? ""} /data/${file.path}`);
}

/** The whole file with its length, as the faults of the data have it. Null when it is not on the disk. */
export async function fileReply(
  file: StudyFile,
  headers: Readonly<Record<string, string>>,
  fault: Fault | undefined,
): Promise<Reply | null> {
  const facts = await file.stat();
  if (facts === null) return null;
  const sent = fault?.kind === "wrong-bytes" ? otherContent(file) : file;
  return {
    status: 200,
    headers: { ...headers, "Content-Length": String(facts.sizeBytes) },
    body: fault?.kind === "flip" ? flipped(sent, facts.sizeBytes) : sent.read(),
  };
}

/** One bit of the byte in the middle is another. */
async function* flipped(file: StudyFile, sizeBytes: number): AsyncGenerator<Uint8Array> {
  const middle = sizeBytes >> 1;
  let position = 0;
  for await (const chunk of file.read()) {
    const at = middle - position;
    position += chunk.byteLength;
    if (at < 0 || at >= chunk.byteLength) yield chunk;
    else {
      const copy = Uint8Array.from(chunk);
      copy[at]! ^= 1;
      yield copy;
    }
  }
}

/** MINC 2 by its first bytes, as LORIS decides by the stored header type (loris.md 4.5). */
export async function nativeType(file: StudyFile): Promise<string> {
  if ((await file.stat()) === null) return "application/octet-stream";
  for await (const chunk of file.read())
    return Buffer.from(chunk.subarray(0, 4)).toString("latin1") === "\x89HDF"
      ? "application/x.minc2"
      : "application/octet-stream";
  return "application/octet-stream";
}
