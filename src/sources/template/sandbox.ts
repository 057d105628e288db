/**
 * The stand-in: what the archive answers, by its documents and the fixtures. It imports neither `api.ts` nor `map.ts`,
 * so that a misreading can't hide in both.
 */
import { otherBytes } from "../../sandbox/changes.ts";
import type { SandboxInstance, SandboxSeries } from "../../sandbox/data/dataset.ts";
import type { Fault } from "../../sandbox/faults.ts";
import type { Reply, Route, SandboxRequest, StandIn, World } from "../../sandbox/stand-ins.ts";

const BASE = "/shelf";

export async function openTemplateStandIn(world: World): Promise<StandIn> {
  return {
    kind: "template",
    archives: (origin) => [{ name: "shelf", kind: "template", url: `${origin}${BASE}` }],
    route: (request) => routeOf(world, request),
    reset: () => undefined,
  };
}

function routeOf(world: World, { path, query }: SandboxRequest): Route | undefined {
  if (path === `${BASE}/collections`)
    return { serves: "rows", answer: () => json(rowsOf(world, () => true, collectionRow)) };
  if (path === `${BASE}/files`) {
    const { collection, patient, id } = Object.fromEntries(query) as Record<string, string | undefined>;
    const wanted = (series: SandboxSeries): boolean =>
      (collection ?? series.collection) === series.collection &&
      (patient ?? series.patientId) === series.patientId;
    return { serves: "rows", answer: () => json(fileRows(world, wanted, id)) };
  }
  if (path.startsWith(`${BASE}/files/`)) {
    const id = decodeURIComponent(path.slice(`${BASE}/files/`.length));
    return { serves: "file", answer: (_request, fault) => content(world, id, fault) };
  }
  return undefined;
}

/** A collection once, in the order of its first series. */
function* rowsOf<T>(
  { dataset }: World,
  wanted: (series: SandboxSeries) => boolean,
  row: (series: SandboxSeries) => T,
): Generator<T> {
  const seen = new Set<string>();
  for (const series of dataset.series()) {
    if (series.access !== "public" || !wanted(series) || seen.has(series.collection)) continue;
    seen.add(series.collection);
    yield row(series);
  }
}

const collectionRow = ({ collection, licenseName, licenseUri }: SandboxSeries) => ({
  name: collection,
  ...(licenseName === null ? {} : { licence: licenseName }),
  ...(licenseUri === null ? {} : { licenceUrl: licenseUri }),
});

function* files({ dataset }: World): Generator<[SandboxSeries, SandboxInstance]> {
  for (const series of dataset.series())
    if (series.access === "public") for (const image of series.instances()) yield [series, image];
}

async function* fileRows(
  world: World,
  wanted: (series: SandboxSeries) => boolean,
  id: string | undefined,
): AsyncGenerator<unknown> {
  for (const [series, image] of files(world)) {
    if (!wanted(series) || (id ?? image.sopInstanceUid) !== image.sopInstanceUid) continue;
    yield {
      id: image.sopInstanceUid,
      collection: series.collection,
      patient: series.patientId,
      name: `${image.sopInstanceUid}.dcm`,
      bytes: image.sizeBytes,
      md5: await image.md5(),
      changed: series.submittedAt.slice(0, 10),
    };
  }
}

/** A fault that concerns what a file holds is applied here; the server does those of the wire. */
function content(world: World, id: string, fault: Fault | undefined): Reply {
  for (const [, image] of files(world)) {
    if (image.sopInstanceUid !== id) continue;
    const sent = fault?.kind === "wrong-bytes" || fault?.kind === "flip" ? otherBytes(image) : image;
    return {
      status: 200,
      headers: { "Content-Type": "application/octet-stream", "Content-Length": String(image.sizeBytes) },
      body: sent.read(),
    };
  }
  return { status: 404 };
}

function json(rows: Iterable<unknown> | AsyncIterable<unknown>): Reply {
  async function* body(): AsyncGenerator<string> {
    let separator = "[";
    for await (const row of rows) {
      yield `${separator}${JSON.stringify(row)}`;
      separator = ",";
    }
    yield separator === "[" ? "[]" : "]";
  }
  return { status: 200, headers: { "Content-Type": "application/json" }, body: body() };
}
