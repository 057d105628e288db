/** One file by SFTP: from the server, or from where an earlier try was cut. */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { PartFile } from "../../lib/part-file.ts";
import { type Item, scratchName } from "../../model/item.ts";
import type { SftpReading } from "../../transports/sftp/reading.ts";
import type { Sftp } from "../../transports/sftp/sftp.ts";
import type { Delivery, Entry } from "../source.ts";
import { type FileLocator, fileNameOf, isDecrypted } from "./map.ts";

/** A smaller file is fetched again sooner than it is kept. */
const RESUMED_FROM_BYTES = 1024 * 1024;

export interface SftpParts {
  readonly item: Item;
  readonly file: FileLocator;
  /** As the server is asked for it. */
  readonly remotePath: () => Promise<string>;
  readonly sftp: Sftp;
  readonly scratch: string;
}

/** A file, and what of it may be asked for before it is wanted. */
export class SftpFetch {
  readonly #parts: SftpParts;
  readonly #context: Context;
  #begun: Promise<Begun> | null = null;

  constructor(parts: SftpParts, context: Context) {
    this.#parts = parts;
    this.#context = context;
  }

  /** Asks for it, if that was not done. */
  begin(): void {
    if (!isDecrypted(this.#parts.item)) void this.#begin();
  }

  #begin(): Promise<Begun> {
    this.#begun ??= this.#ask();
    // Told to whoever wants the file.
    this.#begun.catch(() => undefined);
    return this.#begun;
  }

  async #ask(): Promise<Begun> {
    const { item, file, remotePath, sftp, scratch } = this.#parts;
    const { bytes, mtimeSeconds } = file;
    let part = bytes >= RESUMED_FROM_BYTES ? await PartFile.open(scratch, scratchName(item)) : null;
    if (part?.facts && part.facts.condition !== item.revision) {
      await part.remove();
      part = await PartFile.open(scratch, scratchName(item));
    }
    const start = part?.facts?.syncedBytes ?? 0;
    const path = await remotePath();
    return { part, start, reading: sftp.begin(path, { start, bytes, mtimeSeconds }, this.#context) };
  }

  delivery(): Delivery {
    const { item, file, sftp } = this.#parts;
    const { host } = sftp.site;
    if (isDecrypted(item)) {
      const what = `${host}: ${item.labels.Path} is encrypted at rest, and only ascp can decrypt it`;
      const hint =
        "leave --decrypt and ASPERA_SCP_FILEPASS out to have it as it is, or get ascp: gantry ascp install";
      return { item, error: new RunError("usage", what, { hint }) };
    }
    return {
      item,
      entries: this.#entries(),
      statement: () => ({ digests: null, files: 1, bytes: file.bytes, from: `sftp://${host}`, facts: {} }),
    };
  }

  async *#entries(): AsyncGenerator<Entry> {
    const { item, file } = this.#parts;
    const name = fileNameOf(item);
    const { part, start, reading } = await this.#begin();
    const state: { ended: "whole" | "wrong" | null } = { ended: null };
    // What changed meanwhile must not be gone on with.
    const judge = (error: unknown): void => {
      if (error instanceof RunError && error.exit === 6) state.ended = "wrong";
    };
    async function* body(): AsyncGenerator<Uint8Array> {
      try {
        if (part && start > 0) yield* part.read();
        for await (const chunk of reading.chunks()) {
          await part?.append(chunk);
          yield chunk;
        }
        state.ended = "whole";
      } catch (error) {
        judge(error);
        throw error;
      }
    }
    try {
      // What is here already counts only once the server has shown that the file is still the same.
      await reading.expectListed();
      const fresh = { bytes: file.bytes, condition: item.revision, md5: null, sha256: null };
      await part?.begin(start > 0 ? null : fresh);
      yield { name, body: body(), ...(part ? { file: part.path } : {}) };
    } catch (error) {
      judge(error);
      throw error;
    } finally {
      reading.close();
      if (state.ended === "whole") await part?.finish();
      else if (state.ended === "wrong") await part?.remove();
      else await part?.keep();
    }
  }

  /** Of one that may never have been wanted. */
  close(): void {
    this.#begun?.then(
      ({ reading }) => reading.close(),
      () => undefined,
    );
  }
}

interface Begun {
  /** Of a file that is worth to be gone on with. */
  readonly part: PartFile | null;
  readonly start: number;
  readonly reading: SftpReading;
}
