/** The imaging studies with the changes that were made at the control door, so that an archive can change between runs. */
import * as v from "valibot";
import { filesOf, type ImagingStudy, type Studies, type StudyFile, type StudyImage } from "./data/studies.ts";

const file = v.string();

const schema = v.variant("change", [
  v.strictObject({ file, change: v.literal("withdraw") }),
  v.strictObject({ file, change: v.literal("restore") }),
  v.strictObject({ file, change: v.literal("touch") }),
  v.strictObject({ file, change: v.literal("replace-bytes") }),
  v.strictObject({ file, change: v.literal("rewrite"), text: v.string() }),
  v.strictObject({ file, change: v.literal("remove") }),
]);

/** One change of one file of a study, named by its base name (docs/sandbox.md). */
export type FileChange = v.InferOutput<typeof schema>;

/** Parse a change. Throws an Error with one sentence for people. */
export function parseFileChange(input: unknown): FileChange {
  const result = v.safeParse(schema, input);
  if (result.success) return result.output;
  throw new Error(
    result.issues.map((issue) => `${v.getDotPath(issue) ?? "change"}: ${issue.message}`).join("; "),
  );
}

/** Studies are opened when they are first asked for: a sandbox starts without them. */
export class ChangedStudies {
  #load: () => Promise<Studies>;
  #opened: Promise<Studies> | undefined;
  /** By path of the file. */
  #changed = new Map<string, StudyFile>();
  #withdrawn = new Set<string>();
  #view: readonly ImagingStudy[] | undefined;

  constructor(load: () => Promise<Studies>) {
    this.#load = load;
  }

  /** As they are, changes left out. */
  opened(): Promise<Studies> {
    this.#opened ??= this.#load();
    return this.#opened;
  }

  /** With all changes. The same array until the next change. */
  async current(): Promise<readonly ImagingStudy[]> {
    const { studies } = await this.opened();
    this.#view ??= studies.map((study) => this.#patched(study));
    return this.#view;
  }

  /** Undo every change; with `load`, go on with other studies. */
  reset(load?: () => Promise<Studies>): void {
    if (load !== undefined) {
      this.#load = load;
      this.#opened = undefined;
    }
    this.#changed.clear();
    this.#withdrawn.clear();
    this.#view = undefined;
  }

  /** Rejects with an Error of one sentence when there is no such file, or no such image to withdraw. */
  async apply(change: FileChange): Promise<void> {
    const { studies } = await this.opened();
    const found = studies.flatMap((study) => [...filesOf(study)]).find(({ name }) => name === change.file);
    if (found === undefined) throw new Error(`there is no file ${change.file} in the studies`);
    const now = this.#changed.get(found.path) ?? found;
    switch (change.change) {
      case "withdraw":
        if (!studies.some((study) => [...imagesOf(study)].some(({ native }) => native.path === found.path)))
          throw new Error(`${change.file} is no image: withdraw the image by the name of its native file`);
        this.#withdrawn.add(found.path);
        break;
      case "restore":
        this.#withdrawn.delete(found.path);
        this.#changed.delete(found.path);
        break;
      case "touch":
        this.#changed.set(found.path, { ...now, stat: laterStat(now) });
        break;
      case "replace-bytes":
        this.#changed.set(found.path, otherContent(now));
        break;
      case "rewrite": {
        const bytes = Buffer.from(change.text);
        this.#changed.set(found.path, {
          ...now,
          stat: async () => ({
            sizeBytes: bytes.byteLength,
            modifiedMs: (await laterStat(now)())?.modifiedMs ?? 0,
          }),
          async *read() {
            yield bytes;
          },
        });
        break;
      }
      case "remove":
        this.#changed.set(found.path, { ...now, stat: async () => null });
        break;
    }
    this.#view = undefined;
  }

  #patched(study: ImagingStudy): ImagingStudy {
    if (this.#changed.size === 0 && this.#withdrawn.size === 0) return study;
    const now = (one: StudyFile): StudyFile => this.#changed.get(one.path) ?? one;
    const image = (one: StudyImage): StudyImage => ({
      ...one,
      native: now(one.native),
      bids: one.bids && { ...one.bids, files: one.bids.files.map(now) },
    });
    return {
      ...study,
      files: study.files.map(now),
      candidates: study.candidates.map((candidate) => ({
        ...candidate,
        visits: candidate.visits.map((visit) => ({
          ...visit,
          bids: visit.bids.map(now),
          images: visit.images.filter(({ native }) => !this.#withdrawn.has(native.path)).map(image),
        })),
      })),
    };
  }
}

function* imagesOf({ candidates }: ImagingStudy): Generator<StudyImage> {
  for (const { visits } of candidates) for (const { images } of visits) yield* images;
}

/** An hour later than the file says now. */
function laterStat(now: StudyFile): StudyFile["stat"] {
  return async () => {
    const facts = await now.stat();
    return facts && { ...facts, modifiedMs: facts.modifiedMs + 3_600_000 };
  };
}

/**
 * The file with other bytes of the same length and time, which no format check sees: of gzip another time in its
 * header, of anything else another letter, digit or byte in the middle.
 */
export function otherContent(now: StudyFile): StudyFile {
  return {
    ...now,
    async *read() {
      const chunks: Uint8Array[] = [];
      for await (const chunk of now.read()) chunks.push(chunk);
      const bytes = Buffer.concat(chunks);
      let at = bytes.length >> 1;
      if (bytes[0] === 0x1f && bytes[1] === 0x8b) at = 4;
      else if (/\.(json|tsv|txt|bval|bvec)$/.test(now.name) || now.name === "README") {
        const digit = /[0-9](?=[0-9]*[^0-9]*$)/.exec(bytes.toString("latin1"));
        const letter = /[a-z](?=[^a-z]*$)/.exec(bytes.toString("latin1"));
        at = (digit ?? letter)?.index ?? at;
      }
      // Keeps digits digits and letters letters.
      if (bytes.length > 0) bytes[at]! ^= 1;
      yield bytes;
    },
  };
}
