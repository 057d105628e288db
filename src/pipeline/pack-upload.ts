/**
 * What is to be sent as one archive file, written by the store that `get --pack` and `pack` write with, in a folder of
 * its own. The list of sums of the members is a member, too.
 */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { createHasher, type Digest, hashFile } from "../lib/digest.ts";
import { onDisk } from "../lib/durable-file.ts";
import { readFileStream } from "../lib/read-file.ts";
import type { Place } from "../model/place.ts";
import type { StoredFile } from "../model/receipt.ts";
import { safeSegment } from "../model/safe-path.ts";
import { formatSumsLine } from "../model/sums-line.ts";
import type { ItemWriter, OpenStore } from "../sinks/sink.ts";
import type { SourceContext, UploadFile } from "../sources/source.ts";
import { ReceiptWriter } from "../state/receipts.ts";
import { newRunId } from "../state/runs.ts";
import { beginStateFolder } from "../state/state-folder.ts";
import { readStates } from "./held.ts";

export interface PackUpload {
  readonly files: readonly UploadFile[];
  /** What the archive file is called, without its extension. */
  readonly title: string;
  readonly format: string;
  /** Empty, and large enough for all of it. */
  readonly folder: string;
  /** Name of the list of sums inside; null: there is none. */
  readonly manifest: string | null;
}

export interface PackedUpload {
  readonly archive: UploadFile;
  readonly sha256: string;
  /** The members by their paths, the list of sums aside. */
  readonly members: readonly { readonly name: string; readonly bytes: number; readonly sha256: string }[];
}

const TOP: Place = { folder: null, file: null, prefix: "" };

/** Throws `disk-…`, and `usage` where a program is missing that packs. */
export async function packUpload(
  { files, title, format, folder, manifest }: PackUpload,
  openStore: OpenStore,
  context: SourceContext,
): Promise<PackedUpload> {
  const { clock, temporary } = context;
  const wanted = { layout: "flat", sink: format, archive: safeSegment(title) };
  const state = await beginStateFolder(folder, {}, wanted);
  const store = await openStore(state);
  const run = newRunId(clock);
  const sink = await store.sink({
    run,
    partial: state.path("partial", run),
    scratch: null,
    quarantine: state.path("quarantine", run),
    shardBytes: null,
  });
  const receipts = new ReceiptWriter(state, run);
  /** Files as one item of the archive, under their stored paths. */
  const add = async (item: string, contents: readonly Content[]): Promise<readonly StoredFile[]> => {
    const writer = await sink.begin({ id: item }, TOP);
    for (const { name, read } of contents) await write(writer, name, read(), context.signal);
    const { files: stored } = await writer.commit([]);
    await receipts.append({
      ...{ item, type: "stored", supersedes: [], archive: "", revision: "", from: null, tookMs: 0 },
      ...{ proof: [], disputed: null, place: TOP, files: stored, damaged: [], facts: {} },
      at: clock.now().toISOString(),
    });
    return stored;
  };
  try {
    const stored = await add(
      "files",
      files.map(({ name, from }) => ({ name, read: () => readFileStream(from) })),
    );
    const members = stored.map(({ path, bytes, digest }) => ({ name: path, bytes, sha256: hexOf(digest) }));
    if (manifest !== null) {
      const list = members.map(({ sha256, name }) => formatSumsLine(sha256, name)).join("");
      await add("list", [{ name: manifest, read: () => [Buffer.from(list)] }]);
    }
    await sink.close();
    const states = () => readStates(state, temporary);
    await store.settle({ run, states, life: () => "gone", publish: true, temporary });
    const name = `${wanted.archive}.${format}`;
    const from = join(folder, name);
    const { size } = await onDisk({ operation: "read", path: from }, () => stat(from));
    const sha256 = hexOf(await hashFile(from, "sha256", context.signal));
    return { archive: { from, name, bytes: size }, sha256, members };
  } finally {
    await receipts.close();
    await sink.close();
  }
}

interface Content {
  readonly name: string;
  readonly read: () => AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

async function write(
  writer: ItemWriter,
  name: string,
  bytes: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  const hasher = createHasher("sha256");
  async function* body(): AsyncGenerator<Uint8Array> {
    for await (const chunk of bytes) {
      signal.throwIfAborted();
      hasher.update(chunk);
      yield chunk;
    }
  }
  await writer.write(name, body(), () => hasher.digest());
}

const hexOf = (digest: Digest): string => digest.slice("sha256:".length);
