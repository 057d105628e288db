/** One file on its way: from the server, or from where an earlier try was cut; looked at as it passes. */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { createHasher, type Digest, isDigest } from "../../lib/digest.ts";
import { PartFile } from "../../lib/part-file.ts";
import { type Item, scratchName } from "../../model/item.ts";
import type { HttpResponse } from "../../transports/http.ts";
import type { Statement } from "../source.ts";
import type { WebApi } from "./api.ts";
import { checkFormat, LOOKED_AT_BYTES } from "./format-check.ts";
import { contentRange, type Head, rangeCondition, readHead } from "./head.ts";

/** A smaller file is fetched again sooner than it is kept. */
export const RESUMED_FROM_BYTES = 1024 * 1024;

export interface TransferParts {
  readonly item: Item;
  readonly link: string;
  readonly name: string;
  readonly api: WebApi;
  readonly scratch: string;
  readonly context: Context;
}

export class Transfer {
  readonly #parts: TransferParts;
  #bytes: number | null = null;
  #md5: Digest | null = null;
  #sha256: Digest | null = null;
  #checked: readonly string[] = [];

  constructor(parts: TransferParts) {
    this.#parts = parts;
  }

  /** Complete once `body` was read. Nothing announced: the server vouches for nothing but the one file. */
  statement(): Statement {
    const { name, link } = this.#parts;
    return {
      digests: this.#md5 === null ? null : new Map([[name, this.#md5]]),
      files: 1,
      bytes: this.#bytes,
      checked: this.#checked,
      from: new URL(link).origin,
      facts: {},
    };
  }

  /** Throws `archive-…`, `access-…`, `proof-size`, `proof-digest`, `proof-format`, `disk-…`. */
  async *body(): AsyncGenerator<Uint8Array> {
    const { item, link, name, api, scratch, context } = this.#parts;
    const keeps = item.bytes !== null && item.bytes >= RESUMED_FROM_BYTES;
    const part = keeps ? await PartFile.open(scratch, scratchName(item)) : null;
    const before = part?.facts ?? null;
    const resume = before && { firstByte: before.syncedBytes, condition: before.condition };
    const response = await api.content(link, resume, context);
    const ends = new Ends();
    let whole = false;
    let reading = false;
    try {
      const head = readHead(response, link);
      const resumed = response.status === 206;
      if (resumed) await this.#checkRange(response, before, part);
      this.#bytes = this.#announced(head);
      this.#md5 = head.md5 ?? (resumed ? asDigest(before?.md5) : null);
      this.#sha256 = head.sha256 ?? (resumed ? asDigest(before?.sha256) : null);
      const hasher = this.#sha256 === null ? null : createHasher("sha256");
      const pass = (chunk: Uint8Array): Uint8Array => {
        ends.add(chunk);
        hasher?.update(chunk);
        if (this.#bytes !== null && ends.bytes > this.#bytes)
          throw new RunError("proof-size", `${name}: more than the announced ${this.#bytes} bytes came`);
        return chunk;
      };
      if (resumed && part) {
        for await (const chunk of part.read()) yield pass(chunk);
        await part.begin(null);
      } else if (part) await beginPart(part, head, response);
      reading = true;
      for await (const chunk of response.body) {
        if (part?.facts) await part.append(chunk);
        yield pass(chunk);
      }
      whole = true;
      this.#checked = this.#check(hasher?.digest() ?? null, ends);
    } finally {
      if (!reading) await response.discard();
      // Whole but wrong is of no use either.
      if (whole) await part?.remove();
      else await part?.keep();
    }
  }

  async #checkRange(response: HttpResponse, before: PartFile["facts"], part: PartFile | null): Promise<void> {
    const range = contentRange(response);
    if (range !== null && range.first === before?.syncedBytes && range.total === before.bytes) return;
    await part?.remove();
    throw new RunError("archive-reply", "the server went on at another place of the file than was asked", {
      at: { url: response.url },
    });
  }

  /** The size to hold the file to. Throws `proof-size` when the server no longer says what it said at the listing. */
  #announced(head: Head): number | null {
    const { item, name } = this.#parts;
    if (item.bytes !== null && head.bytes !== null && item.bytes !== head.bytes) {
      throw new RunError(
        "proof-size",
        `${name}: ${item.bytes} bytes were announced when it was listed, now there are ${head.bytes}`,
      );
    }
    return head.bytes ?? item.bytes;
  }

  #check(sha256: Digest | null, ends: Ends): readonly string[] {
    const { name } = this.#parts;
    if (sha256 !== this.#sha256) {
      throw new RunError(
        "proof-digest",
        `${name} is not what the server vouches for (${this.#sha256}, but ${sha256} came)`,
      );
    }
    // A shorter file is told by its size, not by the form that it therefore lacks.
    const format =
      this.#bytes === null || this.#bytes === ends.bytes
        ? checkFormat(name, ends.head, ends.tail, ends.bytes)
        : null;
    return [...(sha256 === null ? [] : ["sha256"]), ...(format === null ? [] : [format])];
  }
}

/** Only what has a version to ask for can be gone on with. */
async function beginPart(part: PartFile, head: Head, response: HttpResponse): Promise<void> {
  const condition = rangeCondition(head);
  const refuses = /^none$/iu.test(response.header("accept-ranges")?.trim() ?? "");
  if (condition === null || head.bytes === null || refuses) return part.remove();
  return part.begin({ bytes: head.bytes, condition, md5: head.md5, sha256: head.sha256 });
}

const asDigest = (text: string | null | undefined): Digest | null =>
  text != null && isDigest(text) ? text : null;

/** The first and the last bytes of what passed. */
class Ends {
  bytes = 0;
  #head: Uint8Array[] = [];
  #headBytes = 0;
  #tail: Uint8Array[] = [];
  #tailBytes = 0;

  add(chunk: Uint8Array): void {
    this.bytes += chunk.length;
    if (this.#headBytes < LOOKED_AT_BYTES) {
      const some = Uint8Array.prototype.slice.call(chunk, 0, LOOKED_AT_BYTES - this.#headBytes);
      this.#head.push(some);
      this.#headBytes += some.length;
    }
    this.#tail.push(Uint8Array.prototype.slice.call(chunk, -LOOKED_AT_BYTES));
    this.#tailBytes += Math.min(chunk.length, LOOKED_AT_BYTES);
    while (this.#tailBytes - (this.#tail[0]?.length ?? 0) >= LOOKED_AT_BYTES) {
      this.#tailBytes -= this.#tail.shift()?.length ?? 0;
    }
  }

  get head(): Uint8Array {
    return Buffer.concat(this.#head);
  }

  get tail(): Uint8Array {
    return Buffer.concat(this.#tail);
  }
}
