/** The bytes of items, and whether those that are here are still the archive's. */
import type { Context } from "../../lib/context.ts";
import { createHasher, digestAlgorithm } from "../../lib/digest.ts";
import type { Item } from "../../model/item.ts";
import type { Receipt } from "../../model/receipt.ts";
import type { Delivery, Entry, SourceContext } from "../source.ts";
import type { FileReply, LorisApi } from "./api.ts";
import { ETAG_FACT, type EtagLedger } from "./etags.ts";
import { checkedBody } from "./format-check.ts";
import { jsonText, locatorOf } from "./map.ts";

/** Companions of an image by their endings; the first is the image, without which there are no others. */
const COMPANIONS: readonly (readonly [ending: string, format: string])[] = [
  [".nii.gz", "nifti"],
  [".json", "bidsjson"],
  [".bval", "bval"],
  [".bvec", "bvec"],
];

/** What came of an item, while it comes. */
class Arrival {
  readonly facts: Record<string, string> = {};
  files = 0;
  /** Null once a reply did not say. */
  bytes: number | null = 0;
  checked = false;
}

export class Contents {
  readonly #api: LorisApi;
  readonly #ledger: EtagLedger;

  constructor(api: LorisApi, ledger: EtagLedger) {
    this.#api = api;
    this.#ledger = ledger;
  }

  deliver(item: Item, context: Context): Delivery {
    const arrival = new Arrival();
    return {
      item,
      entries: this.#entries(item, arrival, context),
      statement: () => ({
        digests: null,
        files: arrival.files,
        bytes: arrival.bytes,
        checked: arrival.checked ? ["format"] : [],
        from: this.#api.origin,
        facts: arrival.facts,
      }),
    };
  }

  /** Whether the files of a receipt are still what the archive has. Throws what the archive answers instead. */
  async isCurrent(
    item: Item,
    { files, facts }: Pick<Receipt, "files" | "facts">,
    context: SourceContext,
  ): Promise<boolean> {
    const api = this.#api;
    const locator = locatorOf(item);
    const [only] = files;
    /** By its ETag where that can be trusted, else by its bytes. `file`: null when there was none. */
    const isSame = async (
      link: string,
      file: Receipt["files"][number] | null,
      etag: unknown,
    ): Promise<boolean> => {
      if (file !== null && typeof etag === "string" && this.#ledger.trusted(link, etag) !== null)
        return api.isUnchanged(link, etag, context);
      return context.retry.run(link, async () => {
        const reply = await api.fileIfAny(link, context);
        if (reply === null || file === null) {
          await reply?.discard();
          return reply === null && file === null;
        }
        return hasBytes(reply, file);
      });
    };
    switch (locator.form) {
      case "text":
        // The list told it, and the revision is made of it.
        return true;
      case "session": {
        const { candidate, visit } = locator;
        const what = `${candidate}/${visit}`;
        const text = jsonText(await context.retry.run(what, () => api.visit(candidate, visit, context)));
        const hasher = createHasher(digestAlgorithm(only?.digest ?? "md5:"));
        hasher.update(Buffer.from(text));
        return only?.digest === hasher.digest();
      }
      case "companions":
        for (const [ending, format] of COMPANIONS) {
          const file = files.find(({ path }) => path.endsWith(ending)) ?? null;
          if (!(await isSame(`${locator.link}/format/${format}`, file, facts[ETAG_FACT + ending])))
            return false;
          if (file === null && ending === COMPANIONS[0]?.[0]) break;
        }
        return true;
      case "quality":
        return isSame(locator.link, only ?? null, null);
      case "file":
        return only !== undefined && isSame(locator.link, only, facts[ETAG_FACT]);
    }
  }

  async *#entries(item: Item, arrival: Arrival, context: Context): AsyncGenerator<Entry> {
    const api = this.#api;
    const locator = locatorOf(item);
    const name = String(item.labels.File);
    switch (locator.form) {
      case "text":
        yield textEntry(name, locator.text, arrival);
        return;
      case "session":
        yield textEntry(name, jsonText(await api.visit(locator.candidate, locator.visit, context)), arrival);
        return;
      case "companions":
        for (const [ending, format] of COMPANIONS) {
          const link = `${locator.link}/format/${format}`;
          const reply = await api.fileIfAny(link, context);
          // One that is not there is no failure: no list ever named it.
          if (reply !== null) yield this.#entry(ending, link, reply, arrival, ending);
          else if (ending === COMPANIONS[0]?.[0]) return;
        }
        return;
      case "quality": {
        const reply = await api.fileIfAny(locator.link, context);
        if (reply !== null) yield this.#entry(name, locator.link, reply, arrival);
        return;
      }
      case "file":
        yield this.#entry(name, locator.link, await api.file(locator.link, context), arrival);
    }
  }

  #entry(name: string, link: string, reply: FileReply, arrival: Arrival, ending = ""): Entry {
    const etag = this.#ledger.trusted(link, reply.etag);
    if (etag !== null) arrival.facts[ETAG_FACT + ending] = etag;
    arrival.files += 1;
    arrival.bytes = arrival.bytes === null || reply.bytes === null ? null : arrival.bytes + reply.bytes;
    // Tables and texts have no form that could be checked.
    if (/\.(?:gz|json|mnc)$/u.test(name)) arrival.checked = true;
    return { name, body: checkedBody(name, reply.body) };
  }
}

function textEntry(name: string, text: string, arrival: Arrival): Entry {
  arrival.files = 1;
  arrival.bytes = Buffer.byteLength(text);
  arrival.checked = true;
  async function* body(): AsyncGenerator<Uint8Array> {
    yield Buffer.from(text);
  }
  return { name, body: body() };
}

/** Reads the reply to its end, unless its length says enough. */
async function hasBytes(reply: FileReply, file: Receipt["files"][number]): Promise<boolean> {
  if (reply.bytes !== null && reply.bytes !== file.bytes) {
    await reply.discard();
    return false;
  }
  const hasher = createHasher(digestAlgorithm(file.digest));
  for await (const chunk of reply.body) hasher.update(chunk);
  return hasher.digest() === file.digest;
}
