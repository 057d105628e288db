/** The data set with the changes that were made at the control door, so that an archive can change between runs. */
import { createHash } from "node:crypto";
import * as v from "valibot";
import type { Dataset, SandboxInstance, SandboxSeries } from "./data/dataset.ts";

const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const text = v.nullable(v.string());
const uid = v.string();

const schema = v.variant("change", [
  v.strictObject({ uid, change: v.literal("withdraw") }),
  v.strictObject({ uid, change: v.literal("restore") }),
  v.strictObject({ uid, change: v.literal("touch"), submittedAt: v.optional(v.string()) }),
  v.strictObject({
    uid,
    change: v.literal("announce"),
    imageCount: v.optional(count),
    fileSizeBytes: v.optional(count),
  }),
  v.strictObject({ uid, change: v.literal("replace-bytes"), image: v.optional(count) }),
  v.strictObject({ uid, change: v.literal("remove-image"), image: v.optional(count) }),
  v.strictObject({ uid, change: v.literal("rename-patient"), patientId: v.string() }),
  v.strictObject({ uid, change: v.literal("restrict") }),
  v.strictObject({
    uid,
    change: v.literal("relabel"),
    seriesDescription: v.optional(text),
    studyDescription: v.optional(text),
    bodyPartExamined: v.optional(text),
    licenseName: v.optional(text),
    licenseUri: v.optional(text),
  }),
]);

/** One change of one series (docs/sandbox.md). `image` counts from 0 in the order of instance numbers. */
export type SeriesChange = v.InferOutput<typeof schema>;

/** Parse a change. Throws an Error with one sentence for people. */
export function parseSeriesChange(input: unknown): SeriesChange {
  const result = v.safeParse(schema, input);
  if (result.success) return result.output;
  throw new Error(
    result.issues.map((issue) => `${v.getDotPath(issue) ?? "change"}: ${issue.message}`).join("; "),
  );
}

interface Patch {
  /** Of the latest change. */
  number: number;
  withdrawn: boolean;
  fields: { -readonly [K in keyof SandboxSeries]?: SandboxSeries[K] };
  instances?: readonly SandboxInstance[];
}

export class ChangedDataset implements Dataset {
  #base: Dataset;
  #patches = new Map<string, Patch>();
  #generation = 0;
  #changes = 0;

  constructor(base: Dataset) {
    this.#base = base;
  }

  /** Text that is another one after each change of the series, so that replies built before can be told. */
  revisionOf(seriesInstanceUid: string): string {
    return `${this.#generation}.${this.#patches.get(seriesInstanceUid)?.number ?? 0}`;
  }

  /** Undo every change; with `base`, go on with other data. */
  reset(base: Dataset = this.#base): void {
    if (base !== this.#base) this.#generation++;
    this.#base = base;
    this.#patches.clear();
  }

  /** Throws an Error when the series or the image does not exist. */
  apply(change: SeriesChange): void {
    const base = this.#base.find(change.uid);
    if (base === undefined) throw new Error(`there is no series ${change.uid} in the data`);
    if (change.change === "restore") {
      this.#patches.delete(change.uid);
      return;
    }
    const patch = this.#patches.get(change.uid) ?? { number: 0, withdrawn: false, fields: {} };
    const now = this.#patched(base, patch);
    const instances = now.instances();
    switch (change.change) {
      case "withdraw":
        patch.withdrawn = true;
        break;
      case "touch":
        patch.fields.submittedAt = change.submittedAt ?? nextDay(now.submittedAt);
        break;
      case "announce":
        if (change.imageCount !== undefined) patch.fields.imageCount = change.imageCount;
        if (change.fileSizeBytes !== undefined) patch.fields.fileSizeBytes = change.fileSizeBytes;
        break;
      case "replace-bytes": {
        const index = change.image ?? 0;
        const image = imageAt(instances, index, change.uid);
        patch.instances = instances.with(index, otherBytes(image));
        break;
      }
      case "remove-image": {
        const index = change.image ?? 0;
        const image = imageAt(instances, index, change.uid);
        patch.instances = instances.toSpliced(index, 1);
        patch.fields.imageCount = now.imageCount - 1;
        patch.fields.fileSizeBytes = now.fileSizeBytes - image.sizeBytes;
        break;
      }
      case "rename-patient":
        patch.fields.patientId = change.patientId;
        break;
      case "restrict":
        patch.fields.access = "restricted";
        break;
      case "relabel": {
        const { uid: _uid, change: _change, ...labels } = change;
        for (const [name, value] of Object.entries(labels)) {
          if (value !== undefined) Object.assign(patch.fields, { [name]: value });
        }
        break;
      }
    }
    patch.number = ++this.#changes;
    this.#patches.set(change.uid, patch);
  }

  *series(): Iterable<SandboxSeries> {
    if (this.#patches.size === 0) {
      yield* this.#base.series();
      return;
    }
    for (const series of this.#base.series()) {
      const patch = this.#patches.get(series.seriesInstanceUid);
      if (patch === undefined) yield series;
      else if (!patch.withdrawn) yield this.#patched(series, patch);
    }
  }

  find(seriesInstanceUid: string): SandboxSeries | undefined {
    const series = this.#base.find(seriesInstanceUid);
    const patch = this.#patches.get(seriesInstanceUid);
    if (series === undefined || patch === undefined) return series;
    return patch.withdrawn ? undefined : this.#patched(series, patch);
  }

  get seriesCount(): number {
    let withdrawn = 0;
    for (const patch of this.#patches.values()) if (patch.withdrawn) withdrawn++;
    return this.#base.seriesCount - withdrawn;
  }

  get problems(): Dataset["problems"] {
    return this.#base.problems;
  }

  collectionDescription(collection: string): { html: string; doi: string | null } | undefined {
    return this.#base.collectionDescription(collection);
  }

  #patched(series: SandboxSeries, patch: Patch): SandboxSeries {
    const instances = patch.instances;
    // The base may be frozen, or of a class whose methods need their own `this`: delegate, do not copy.
    return new Proxy({} as SandboxSeries, {
      get(_, name) {
        if (name === "instances" && instances !== undefined) return () => instances;
        if (Object.hasOwn(patch.fields, name)) return patch.fields[name as keyof SandboxSeries];
        const value: unknown = Reflect.get(series, name, series);
        return typeof value === "function" ? value.bind(series) : value;
      },
    });
  }
}

function imageAt(instances: readonly SandboxInstance[], index: number, seriesUid: string): SandboxInstance {
  const image = instances[index];
  if (image === undefined) throw new Error(`series ${seriesUid} has no image ${index}`);
  return image;
}

function nextDay(moment: string): string {
  const then = new Date(`${moment.replace(" ", "T")}Z`);
  return new Date(then.getTime() + 86_400_000).toISOString().slice(0, 19).replace("T", " ");
}

/** The same image with other content of the same length: the last byte, which is pixel data, is inverted. */
export function otherBytes(image: SandboxInstance): SandboxInstance {
  async function* read(): AsyncIterable<Uint8Array> {
    let position = 0;
    for await (const chunk of image.read()) {
      const last = image.sizeBytes - 1 - position;
      position += chunk.byteLength;
      if (last < 0 || last >= chunk.byteLength) {
        yield chunk;
        continue;
      }
      const copy = Uint8Array.from(chunk);
      copy[last]! ^= 0xff;
      yield copy;
    }
  }
  let digest: Promise<string> | undefined;
  const hash = async (): Promise<string> => {
    const md5 = createHash("md5");
    for await (const chunk of read()) md5.update(chunk);
    return md5.digest("hex");
  };
  const { sopInstanceUid, sopClassUid, instanceNumber, acquisitionNumber, sizeBytes } = image;
  return {
    sopInstanceUid,
    sopClassUid,
    instanceNumber,
    acquisitionNumber,
    sizeBytes,
    read,
    md5: () => {
      digest ??= hash();
      return digest;
    },
  };
}
