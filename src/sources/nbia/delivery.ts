/** The bytes of NBIA items: a series as a zip, an image by itself. */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import type { Digest } from "../../lib/digest.ts";
import { unzip } from "../../lib/unzip.ts";
import { parseDicomHeader } from "../../model/dicom.ts";
import type { Item, Row, Value } from "../../model/item.ts";
import type { Delivery, Entry, FetchOptions, Statement } from "../source.ts";
import type { NbiaApi } from "./api.ts";
import { seriesUidOf, sopOf } from "./map.ts";
import { parseMd5Hashes } from "./md5hashes.ts";

const TABLE_LIMIT_BYTES = 64 * 1024 * 1024;

export function deliver(api: NbiaApi, item: Item, options: FetchOptions, context: Context): Delivery {
  const sop = sopOf(item);
  return sop === undefined
    ? deliverSeries(api, item, options, context)
    : deliverImage(api, item, sop, options, context);
}

function deliverSeries(api: NbiaApi, item: Item, options: FetchOptions, context: Context): Delivery {
  // Listings of the historic service have no size, and nothing else proves its data.
  const announce = async (): Promise<Announced> => {
    if (item.bytes !== null || api.digests) return item;
    const size = await api.seriesSize(seriesUidOf(item), options.attempt, context);
    return { files: item.files ?? size.files, bytes: size.bytes };
  };
  const open = () => api.images(seriesUidOf(item), options.attempt, context);
  return deliverZip(item, api.origin, open, announce);
}

type Announced = Pick<Item, "files" | "bytes">;

/** A series from a zip as the archive makes them. */
export function deliverZip(
  item: Item,
  from: string,
  open: () => Promise<AsyncIterable<Uint8Array>>,
  announce: () => Promise<Announced> = async () => item,
): Delivery {
  let digests: ReadonlyMap<string, Digest> | null = null;
  let announced: Announced = { files: item.files, bytes: item.bytes };
  const facts: Record<string, Value> = {};
  async function* entries(): AsyncGenerator<Entry> {
    const { files, bytes } = await announce();
    announced = { files, bytes };
    // An archive may be wrong about a size, but not by any amount: a bomb stops here.
    const limits = {
      maxEntries: (announced.files ?? 100_000) * 2 + 1_000,
      maxTotalBytes: (announced.bytes ?? 1 << 30) * 2 + TABLE_LIMIT_BYTES,
    };
    let first = true;
    for await (const entry of unzip(await open(), limits)) {
      if (entry.isDirectory || entry.name === "LICENSE") continue;
      if (entry.name === "md5hashes.csv") {
        digests = parseMd5Hashes(await readText(entry.body));
        continue;
      }
      yield { name: entry.name, body: first ? noteFacts(entry.body, facts) : entry.body };
      first = false;
    }
  }
  const statement = (): Statement => ({
    digests,
    ...announced,
    from,
    facts,
  });
  return { item, entries: entries(), statement };
}

function deliverImage(
  api: NbiaApi,
  item: Item,
  sop: string,
  options: FetchOptions,
  context: Context,
): Delivery {
  const facts: Record<string, Value> = {};
  async function* entries(): AsyncGenerator<Entry> {
    const body = await api.image(seriesUidOf(item), sop, options.attempt, context);
    yield { name: `${sop}.dcm`, body: noteFacts(body, facts) };
  }
  return {
    item,
    entries: entries(),
    statement: () => ({ digests: null, files: 1, bytes: null, from: api.origin, facts }),
  };
}

/** The SOP class alone. */
export function factsOf(head: Uint8Array): Row {
  const header = parseDicomHeader(head);
  return header?.sopClassUid ? { SOPClassUID: header.sopClassUid } : {};
}

/** Passes the bytes on and notes the SOP class, which metadata.csv wants and no v4 listing tells. */
async function* noteFacts(
  body: AsyncIterable<Uint8Array>,
  facts: Record<string, Value>,
): AsyncGenerator<Uint8Array> {
  let first = true;
  for await (const chunk of body) {
    if (first) {
      Object.assign(facts, factsOf(chunk.subarray(0, 65_536)));
      first = false;
    }
    yield chunk;
  }
}

async function readText(body: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > TABLE_LIMIT_BYTES) throw new RunError("proof-format", "md5hashes.csv is too large");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}
