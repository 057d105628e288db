/** The archive as a caller of the NBIA stand-in sees it, and what its endpoints are made of. */
import type { SandboxInstance, SandboxSeries } from "../../../sandbox/data/dataset.ts";
import type { Fault } from "../../../sandbox/faults.ts";
import type { Reply, SandboxRequest, Serves, World } from "../../../sandbox/stand-ins.ts";
import { type Cell, politely, type Row } from "./format.ts";
import type { User } from "./oauth.ts";

/** The second host holds only this collection, and the first one lacks it. */
const NLST = "NLST";

export type Api = "v1" | "v2" | "v4" | "advanced";

/** One request, understood. */
export interface Call {
  readonly request: SandboxRequest;
  readonly api: Api;
  readonly host: "main" | "nlst";
  /** Asked by way of the service before NBIA's own. */
  readonly historic?: boolean;
  readonly user: User;
  readonly fault: Fault | undefined;
  /** First value of a query parameter, null when absent. */
  query(name: string): string | null;
}

export interface Endpoint {
  readonly apis: readonly Api[];
  readonly verb: "GET" | "POST";
  readonly serves: Serves;
  /** v4 refuses every other parameter; absent: no check. */
  readonly allowed?: readonly string[];
  run(call: Call): Reply | Promise<Reply>;
}

export const SEARCHES: readonly Api[] = ["v1", "v2", "v4"];

export type NamedEndpoint = readonly [name: string, endpoint: Endpoint];

export class ArchiveView {
  readonly world: World;

  constructor(world: World) {
    this.world = world;
  }

  sees(call: Call, series: SandboxSeries): boolean {
    return (
      (series.access === "public" || call.user === "demo") &&
      (series.collection === NLST) === (call.host === "nlst")
    );
  }

  find(call: Call, uid: string): SandboxSeries | undefined {
    const series = this.world.dataset.find(uid);
    return series !== undefined && this.sees(call, series) ? series : undefined;
  }

  async *series(call: Call, wanted: (series: SandboxSeries) => boolean): AsyncIterable<SandboxSeries> {
    const uid = call.query("SeriesInstanceUID");
    if (uid !== null) {
      const series = this.find(call, uid);
      if (series !== undefined && wanted(series)) yield series;
      return;
    }
    for await (const series of politely(this.world.dataset.series())) {
      if (this.sees(call, series) && wanted(series)) yield series;
    }
  }

  /** All filters of this call that are query parameters by their v1 and v4 names. Compared without case. */
  filter(call: Call, names: readonly string[]): (series: SandboxSeries) => boolean {
    const tests: ((series: SandboxSeries) => boolean)[] = [];
    for (const name of names) {
      const wanted = call.query(name);
      const cell = FILTERS[name];
      if (wanted === null || cell === undefined) continue;
      const exact = name.endsWith("UID") || (name === "PatientId" && call.api === "v4");
      const upper = wanted.toUpperCase();
      tests.push((series) => {
        const value = cell(series);
        return value !== null && (exact ? value === wanted : value.toUpperCase() === upper);
      });
    }
    return (series) => tests.every((test) => test(series));
  }

  async findImage(call: Call, sop: string): Promise<SandboxInstance | undefined> {
    for await (const series of politely(this.world.dataset.series(), 64)) {
      if (!this.sees(call, series)) continue;
      const image = series.instances().find(({ sopInstanceUid }) => sopInstanceUid === sop);
      if (image !== undefined) return image;
    }
    return undefined;
  }
}

/** Wordings as in the server's source, odd commas and blanks included. */
export const REQUIRED = {
  series: "A parameter, SeriesInstanceUID, is required for this API call.",
  seriesNoComma: "A parameter, SeriesInstanceUID is required for this API call.",
  newItems: "A parameter, Collection and Date are required for this API call.",
  collectionAndModality: "A parameter, Collection and Modality, are required for this API call.",
  singleImage: "A parameter, SeriesInstanceUID and SOPInstanceUID, are required for this API call.",
  seriesList: "A parameter, seriesList,  a list of SeriesInstanceUID is required for this API call.",
  list: "A form parameter, list, containing at least one SeriesInstanceUID is required.",
} as const;

/** Text of a series by the name of a parameter. */
export const FILTERS: Readonly<Record<string, (series: SandboxSeries) => string | null>> = {
  Collection: (s) => s.collection,
  PatientID: (s) => s.patientId,
  PatientId: (s) => s.patientId,
  StudyInstanceUID: (s) => s.studyInstanceUid,
  SeriesInstanceUID: (s) => s.seriesInstanceUid,
  Modality: (s) => s.modality,
  BodyPartExamined: (s) => s.bodyPartExamined,
  Manufacturer: (s) => s.manufacturer,
  ManufacturerModelName: (s) => s.manufacturerModelName,
  Species: (s) => s.species?.description ?? "Homo sapiens",
};

export function text(body: string): Reply {
  return { status: 200, headers: { "Content-Type": "text/plain" }, body };
}

/** Patients are unique only within a collection. */
export const patientKey = (series: SandboxSeries) => `${series.collection}\n${series.patientId}`;

export async function* mapped<T>(
  things: AsyncIterable<T>,
  row: (thing: T) => readonly Cell[],
): AsyncIterable<Row> {
  for await (const thing of things) yield row(thing);
}
