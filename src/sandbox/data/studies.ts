// The interface between imaging studies (BIDS trees, MINC trees) and the stand-ins that serve them.

/** One file as a server's disk holds it. */
export interface StudyFile {
  /** Base name. */
  readonly name: string;
  /** Where the server has it: study, a slash, the path within the study. Two files never share one. */
  readonly path: string;
  /** Size and time of the last change; null when the file is not on the disk though the database lists it. */
  stat(): Promise<{ readonly sizeBytes: number; readonly modifiedMs: number } | null>;
  /** The whole file, from disk or generated (deterministic), chunk by chunk. */
  read(): AsyncIterable<Uint8Array>;
}

/** One acquisition: the native image (MINC, or the text of a task's log) and what was exported of it to BIDS. */
export interface StudyImage {
  /** The native file. Its name is the image's name in the archive. */
  readonly native: StudyFile;
  readonly scanType: string;
  readonly outputType: "native" | "defaced";
  /** ISO 8601 with offset. */
  readonly insertedAt: string;
  /** Null: nobody looked at it. */
  readonly qc: "Pass" | "Fail" | null;
  readonly selected: boolean | null;
  readonly caveats: readonly {
    readonly severity: string;
    readonly header: string;
    readonly value: string;
    readonly validRange: string | null;
    readonly validRegex: string | null;
  }[];
  /** Header fields of the native file by name, e.g. `acquisition:repetition_time`. */
  readonly headers: Readonly<Record<string, string>>;
  /** Null: not exported. The first file is the NIfTI; others are its companions of the same stem. */
  readonly bids: { readonly subfolder: string; readonly files: readonly StudyFile[] } | null;
}

export interface StudyVisit {
  readonly label: string;
  /** yyyy-MM-dd; null when it has not begun. */
  readonly date: string | null;
  readonly ageMonths: string | null;
  readonly site: string;
  readonly images: readonly StudyImage[];
  /** The session's own files of the export: `sub-…_ses-…_scans.tsv` and `.json`. */
  readonly bids: readonly StudyFile[];
}

export interface StudyCandidate {
  readonly candId: string;
  readonly pscid: string;
  readonly site: string;
  readonly sex: string | null;
  /** yyyy-MM */
  readonly birth: string | null;
  readonly language: string | null;
  readonly visits: readonly StudyVisit[];
}

export interface ImagingStudy {
  readonly name: string;
  /** `bids`: its images are in a BIDS export too. */
  readonly form: "bids" | "minc";
  /** `restricted`: the demo user may not see it where an archive has permissions. */
  readonly access: "public" | "restricted";
  readonly candidates: readonly StudyCandidate[];
  /** Study-level files of the export, e.g. `participants.tsv`. */
  readonly files: readonly StudyFile[];
}

export interface Studies {
  readonly studies: readonly ImagingStudy[];
  /** Of `--data`: what could not be served, and why. One sentence each; `path` relative to the folder. */
  readonly problems: readonly { readonly path: string; readonly reason: string }[];
  /** Of `--data`: the files that are served, relative to the folder. */
  readonly served: ReadonlySet<string>;
}

/** Every file of a study, once. */
export function* filesOf(study: ImagingStudy): Generator<StudyFile> {
  yield* study.files;
  for (const { visits } of study.candidates)
    for (const visit of visits) {
      yield* visit.bids;
      for (const image of visit.images) {
        yield image.native;
        if (image.bids !== null) yield* image.bids.files;
      }
    }
}

/** A file that is made when it is first asked for, and kept. */
export function madeFile(path: string, modifiedMs: number, make: () => Uint8Array | string): StudyFile {
  let made: Uint8Array | undefined;
  const bytes = (): Uint8Array => {
    if (made === undefined) {
      const content = make();
      made = typeof content === "string" ? Buffer.from(content) : content;
    }
    return made;
  };
  return {
    name: path.slice(path.lastIndexOf("/") + 1),
    path,
    stat: async () => ({ sizeBytes: bytes().byteLength, modifiedMs }),
    async *read() {
      yield bytes();
    },
  };
}
