// The interface between sandbox data (src/sandbox/data/) and the servers.

/** One DICOM image as the sandbox holds it. Absent text is null, as in the archive's database. */
export interface SandboxInstance {
  readonly sopInstanceUid: string;
  readonly sopClassUid: string;
  readonly instanceNumber: number | null;
  readonly acquisitionNumber: number | null;
  readonly sizeBytes: number;
  /** Lower-case hex MD5 of the file. Lazily computed and cached. */
  md5(): Promise<string>;
  /** The whole file, from disk or generated (deterministic), chunk by chunk. */
  read(): AsyncIterable<Uint8Array>;
}

export interface SandboxSeries {
  readonly seriesInstanceUid: string;
  readonly studyInstanceUid: string;
  readonly collection: string;
  readonly patientId: string;
  readonly patientName: string | null;
  readonly patientSex: string | null;
  readonly patientBirthDate: string | null;
  readonly patientAge: string | null;
  readonly ethnicGroup: string | null;
  /** yyyy-MM-dd */
  readonly studyDate: string | null;
  readonly studyDescription: string | null;
  readonly studyId: string | null;
  readonly admittingDiagnosis: string | null;
  readonly modality: string | null;
  readonly protocolName: string | null;
  /** yyyy-MM-dd */
  readonly seriesDate: string | null;
  readonly seriesDescription: string | null;
  readonly bodyPartExamined: string | null;
  readonly seriesNumber: number | null;
  readonly manufacturer: string | null;
  readonly manufacturerModelName: string | null;
  readonly softwareVersions: string | null;
  readonly pixelSpacingMm: string | null;
  readonly sliceThicknessMm: string | null;
  readonly licenseName: string | null;
  readonly licenseUri: string | null;
  readonly dataDescriptionUri: string | null;
  /** yyyy-MM-dd HH:mm:ss  (MaxSubmissionTimestamp) */
  readonly submittedAt: string;
  /** yyyy-MM-dd HH:mm:ss  (DateReleased) */
  readonly releasedAt: string;
  readonly thirdPartyAnalysis: string | null;
  readonly site: string | null;
  readonly species: { readonly code: string; readonly description: string } | null;
  /** What the database ANNOUNCES; normally the true values, a series may announce a wrong one on purpose. */
  readonly imageCount: number;
  readonly fileSizeBytes: number;
  /** "public", or "restricted" (only the demo user sees it). */
  readonly access: "public" | "restricted";
  /** Sorted by instance number as stored in the "database" (stable). Loaded lazily for synthetic scale data. */
  instances(): readonly SandboxInstance[];
}

export interface Dataset {
  /**
   * All series; iteration order is stable but NOT sorted (as the archive's is not). May be millions: never copy it
   * into an array needlessly.
   */
  series(): Iterable<SandboxSeries>;
  find(seriesInstanceUid: string): SandboxSeries | undefined;
  readonly seriesCount: number;
  /** What could not be read or served, and why (for --data). One sentence each. */
  readonly problems: readonly { readonly path: string; readonly reason: string }[];
  /** HTML description of a collection, if any. */
  collectionDescription(collection: string): { html: string; doi: string | null } | undefined;
}
