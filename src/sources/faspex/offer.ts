/** What ascp is told of a package's files: a transfer specification of the server, with a token for just these paths. */
import { randomUUID } from "node:crypto";
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import type { Json } from "../../model/item.ts";
import type { AscpOffer } from "../../transports/ascp/road.ts";
import type { TransferSpec } from "../../transports/ascp/transfer-spec.ts";
import type { FaspexApi } from "./api.ts";
import { isRecord, textOf, type Wire } from "./wire.ts";

/** Of the server's own folder before each path: the title twice, an identity, some words. */
const PLACE_BYTES = 100;

export class PackageOffer implements AscpOffer {
  readonly #api: FaspexApi;

  constructor(api: FaspexApi) {
    this.#api = api;
  }

  get archive(): string {
    return this.#api.session.archive;
  }

  get subject(): string {
    return this.#api.subject;
  }

  async placeBytes(context: Context): Promise<number> {
    const { title } = await this.#api.facts(context);
    return PLACE_BYTES + 2 * Buffer.byteLength(title ?? "");
  }

  async specFor(paths: readonly (readonly string[])[], context: Context): Promise<TransferSpec> {
    const spec = await this.#api.downloadSpec(paths, "connect", context);
    const sources = sourcesOf(spec);
    if (sources?.length !== paths.length) throw strangeSpec(this.#api);
    // The token is for these sources in this order.
    return completeSpec(
      this.#api,
      spec,
      sources.map((source) => ({ source })),
    );
  }
}

/** The specification of a package as a whole, under the server's name for it. */
export async function wholeSpec(api: FaspexApi, context: Context): Promise<TransferSpec> {
  const spec = await api.downloadSpec([[]], "connect", context);
  const sources = sourcesOf(spec);
  if (sources?.length !== 1) throw strangeSpec(api);
  return completeSpec(
    api,
    spec,
    sources.map((source) => ({ source })),
  );
}

function completeSpec(api: FaspexApi, spec: Wire, paths: TransferSpec["paths"]): TransferSpec {
  const host = textOf(spec.remote_host);
  if (host === null) throw strangeSpec(api);
  return {
    ...(spec as Readonly<Record<string, Json>>),
    ...withTransferId(spec),
    direction: "receive",
    remote_host: host,
    paths,
    resume_policy: "sparse_csum",
    create_dir: true,
    precalculate_job_size: true,
  };
}

const strangeSpec = ({ subject }: FaspexApi): RunError =>
  new RunError("archive-reply", `${subject}: the transfer specification is not for what was asked`);

/** Tags of Faspex tell the server of the transfer; each transfer has an identity in them (IBM aspera-cli, transfer/spec). */
export function withTransferId(spec: Wire): { tags?: Readonly<Record<string, Json>> } {
  const { tags } = spec;
  if (!isRecord(tags) || !isRecord(tags.aspera)) return {};
  const aspera = { ...tags.aspera, xfer_id: randomUUID(), xfer_retry: 3600 };
  return { tags: { ...tags, aspera } as Readonly<Record<string, Json>> };
}

function sourcesOf({ paths }: Wire): string[] | null {
  if (!Array.isArray(paths)) return null;
  const sources = paths.map((each: unknown) => (isRecord(each) ? textOf(each.source) : textOf(each)));
  return sources.every((source): source is string => source !== null) ? sources : null;
}
