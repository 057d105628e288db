/**
 * `<archive>.index.jsonl`: where each member is, so that it can be read without the rest (docs/formats/archive.md).
 * Made from receipts; whoever has the archive file alone needs no receipts.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { RunError } from "../../errors.ts";
import { type Digest, isDigest } from "../../lib/digest.ts";
import { writeFileDurably } from "../../lib/durable-file.ts";
import { readLines } from "../../lib/lines.ts";
import { tarHeaderBytes, tarPadding } from "../../lib/tar-header.ts";
import { checkHeader } from "../../model/receipt.ts";
import type { PackFormat } from "./codec.ts";
import { indexMending } from "./damage.ts";

const INDEX_KIND = "gantry-archive-index";
const INDEX_VERSION = 1;

/** One member; lines are in the order of the archive. */
export interface IndexLine {
  readonly path: string;
  readonly bytes: number;
  readonly digest: Digest;
  readonly item: string;
  readonly offset: number;
  readonly length: number;
  readonly at: number;
}

/** Where a member ends in what its piece unpacks to. */
export const memberEnd = ({ path, bytes, at }: Pick<IndexLine, "path" | "bytes" | "at">): number =>
  at + tarHeaderBytes(path, bytes) + bytes + tarPadding(bytes);

/** Makes the index from a file of ready lines, unless it is there and right. Throws `disk-…`. */
export async function writeIndex(
  path: string,
  {
    format,
    lines,
    temporaryIn,
  }: { readonly format: PackFormat; readonly lines: string; readonly temporaryIn: string },
): Promise<void> {
  async function* content(): AsyncGenerator<string | Uint8Array> {
    yield `${JSON.stringify({ kind: INDEX_KIND, version: INDEX_VERSION, format })}\n`;
    yield* createReadStream(lines) as AsyncIterable<Buffer>;
  }
  const [wanted, found] = [createHash("sha256"), createHash("sha256")];
  for await (const part of content()) wanted.update(part);
  if ((await stat(path).catch(() => null))?.isFile()) {
    for await (const part of createReadStream(path) as AsyncIterable<Buffer>) found.update(part);
    if (found.digest("hex") === wanted.digest("hex")) return;
  }
  await writeFileDurably(path, content(), { temporaryIn });
}

/** Null when there is none. Throws `folder-newer`, `disk-…`, `proof-format` where it is damaged or out of order. */
export async function openIndex(path: string): Promise<AsyncIterable<IndexLine> | null> {
  if (!(await stat(path).catch(() => null))?.isFile()) return null;
  async function* lines(): AsyncGenerator<IndexLine> {
    let first = true;
    let before: IndexLine | null = null;
    for await (const { text, number } of readLines(path)) {
      if (first) checkHeader(text, INDEX_KIND, INDEX_VERSION, path);
      else {
        const line = readIndexLine(text);
        if (line === null) throw await damaged(`${path}: line ${number} is damaged`, path);
        if (!follows(before, line))
          throw await damaged(`${path}: line ${number} does not follow the line before it`, path);
        yield line;
        before = line;
      }
      first = false;
    }
    if (first) throw await damaged(`${path} is empty`, path);
  }
  return lines();
}

/** Pieces do not overlap, and of one piece no member is left out but at its end. */
function follows(before: IndexLine | null, line: IndexLine): boolean {
  if (before?.offset === line.offset) return line.length === before.length && line.at === memberEnd(before);
  return line.at === 0 && line.offset >= (before ? endOf(before) : 0);
}

async function damaged(what: string, path: string): Promise<RunError> {
  return new RunError("proof-format", what, { hint: await indexMending(path) });
}

const endOf = ({ offset, length }: Pick<IndexLine, "offset" | "length">): number => offset + length;

function readIndexLine(text: string): IndexLine | null {
  let line: Partial<IndexLine> | null;
  try {
    line = JSON.parse(text);
  } catch {
    return null;
  }
  const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
  return typeof line?.path === "string" &&
    isDigest(line?.digest ?? "") &&
    [line?.bytes, line?.offset, line?.length, line?.at].every(isCount) &&
    [endOf(line as IndexLine), memberEnd(line as IndexLine)].every(isCount)
    ? (line as IndexLine)
    : null;
}
