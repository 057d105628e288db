/** Finished replies, kept so that a bench measures the client: in memory up to a budget, beyond it in files. */
import { createReadStream } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { collect } from "../../../sandbox/wire.ts";

const MEMORY_BYTES = 512 * 1024 * 1024;
const CHUNK_BYTES = 256 * 1024;

type Kept = { readonly bytes: Uint8Array } | { readonly file: string };

export class KeptZips {
  #kept = new Map<string, Promise<Kept>>();
  #memoryBytes = 0;
  #folder: Promise<string> | undefined;
  #files = 0;

  /** The reply of this key, built on the first call. */
  async get(key: string, build: () => AsyncIterable<Uint8Array>): Promise<AsyncIterable<Uint8Array>> {
    let kept = this.#kept.get(key);
    if (kept === undefined) {
      kept = this.#keep(build);
      this.#kept.set(key, kept);
    }
    const found = await kept;
    return "bytes" in found
      ? pieces(found.bytes)
      : createReadStream(found.file, { highWaterMark: CHUNK_BYTES });
  }

  async #keep(build: () => AsyncIterable<Uint8Array>): Promise<Kept> {
    const bytes = await collect(build());
    if (this.#memoryBytes + bytes.byteLength <= MEMORY_BYTES) {
      this.#memoryBytes += bytes.byteLength;
      return { bytes };
    }
    this.#folder ??= mkdtemp(join(tmpdir(), "gantry-sandbox-"));
    const file = join(await this.#folder, `${++this.#files}.zip`);
    await writeFile(file, bytes);
    return { file };
  }

  clear(): void {
    this.#kept.clear();
    this.#memoryBytes = 0;
    const folder = this.#folder;
    this.#folder = undefined;
    void folder?.then((path) => rm(path, { recursive: true, force: true }));
  }
}

async function* pieces(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += CHUNK_BYTES) yield bytes.subarray(at, at + CHUNK_BYTES);
}
