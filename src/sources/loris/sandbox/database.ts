/** The studies as one LORIS database: projects, candidates, visits, images. */
import type {
  ImagingStudy,
  StudyCandidate,
  StudyFile,
  StudyImage,
  StudyVisit,
} from "../../../sandbox/data/studies.ts";

export interface Visit extends StudyVisit {
  readonly project: string;
  readonly access: ImagingStudy["access"];
}

export interface Candidate extends Omit<StudyCandidate, "visits"> {
  readonly project: string;
  readonly visits: ReadonlyMap<string, Visit>;
}

export interface ImageRow {
  readonly candidate: Candidate;
  readonly visit: Visit;
  readonly image: StudyImage;
}

/** A candidate belongs to the project that has it first; visits of another study with the same CandID are its too. */
export class Database {
  readonly candidates: ReadonlyMap<string, Candidate>;
  readonly projects: readonly string[];
  /** The study whose export is served, if any. */
  readonly bids: ImagingStudy | undefined;
  readonly #access: ReadonlyMap<string, ImagingStudy["access"]>;

  constructor(studies: readonly ImagingStudy[]) {
    this.projects = studies.map(({ name }) => name);
    this.#access = new Map(studies.map(({ name, access }) => [name, access]));
    this.bids = studies.find(({ form }) => form === "bids");
    const candidates = new Map<string, Omit<Candidate, "visits"> & { visits: Map<string, Visit> }>();
    for (const study of studies)
      for (const { visits, ...candidate } of study.candidates) {
        const known = candidates.get(candidate.candId) ?? {
          ...candidate,
          project: study.name,
          visits: new Map<string, Visit>(),
        };
        candidates.set(candidate.candId, known);
        for (const visit of visits) {
          const earlier = known.visits.get(visit.label);
          known.visits.set(visit.label, {
            ...(earlier ?? { ...visit, project: study.name, access: study.access }),
            images: [...(earlier?.images ?? []), ...visit.images],
            bids: [...(earlier?.bids ?? []), ...visit.bids],
          });
        }
      }
    this.candidates = candidates;
  }

  accessOf(project: string): ImagingStudy["access"] | undefined {
    return this.#access.get(project);
  }

  /** By time of insertion. */
  images(): ImageRow[] {
    const rows: ImageRow[] = [];
    for (const candidate of this.candidates.values())
      for (const visit of candidate.visits.values())
        for (const image of visit.images) rows.push({ candidate, visit, image });
    const key = ({ image }: ImageRow): string => `${image.insertedAt} ${image.native.name}`;
    return rows.sort((a, b) => (key(a) < key(b) ? -1 : 1));
  }
}

/** The companion that ends so, e.g. `.json`. */
export function companion(image: StudyImage, ending: string): StudyFile | undefined {
  return image.bids?.files.find(({ name }) => name.endsWith(ending));
}

/** Name of the exported NIfTI without its ending; undefined when the image was not exported. */
export function bidsStem(image: StudyImage): string | undefined {
  return image.bids?.files[0]?.name.replace(/\.nii\.gz$/, "");
}

/** `/qc`, as far as both families agree. */
export function caveatRows(image: StudyImage) {
  const none = { severity: null, header: null, value: null, validRange: null, validRegex: null };
  // The join with the table of caveats gives one row of nulls when there are none (loris.md 5.6).
  const rows = image.caveats.length === 0 ? [none] : image.caveats;
  return rows.map(({ severity, header, value, validRange, validRegex }) => ({
    Severity: severity,
    Header: header,
    Value: value,
    ValidRange: validRange,
    ValidRegex: validRegex,
  }));
}

/** `/headers`: every leaf is text, empty when unknown. */
export function headerSummary({ headers }: StudyImage) {
  const of = (name: string): string => headers[name] ?? "";
  return {
    Physical: {
      TE: of("acquisition:echo_time"),
      TR: of("acquisition:repetition_time"),
      TI: of("acquisition:inversion_time"),
      SliceThickness: of("acquisition:slice_thickness"),
    },
    Description: {
      SeriesName: of("acquisition:protocol"),
      SeriesDescription: of("acquisition:series_description"),
    },
    Dimensions: Object.fromEntries(
      ["xspace", "yspace", "zspace"].map((axis) => [
        `${axis[0]!.toUpperCase()}Space`,
        { Length: of(`${axis}:length`), StepSize: of(`${axis}:step`) },
      ]),
    ),
    ScannerInfo: {
      Manufacturer: of("study:manufacturer"),
      Model: of("study:device_model"),
      SoftwareVersion: of("study:software_version"),
      SerialNumber: of("study:serial_no"),
      FieldStrength: of("study:field_value"),
    },
  };
}
