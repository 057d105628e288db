/**
 * Generated imaging studies, named as the open PREVENT-AD data are (loris.md 6.1 to 6.3): NIfTI with companions, MINC,
 * text logs. Everything is made when it is asked for; same seed, same bytes.
 */
import { hash32 } from "../hash32.ts";
import { buildMinc } from "./minc-writer.ts";
import { buildNifti, phantomVolume, type Volume } from "./nifti-writer.ts";
import {
  type ImagingStudy,
  madeFile,
  type Studies,
  type StudyCandidate,
  type StudyFile,
  type StudyImage,
  type StudyVisit,
} from "./studies.ts";

/** One scan type: how its images are named and what they are. */
interface ScanType {
  readonly type: string;
  /** Null: native only. */
  readonly subfolder: string | null;
  /** Of the BIDS name; `NNN` becomes the run. */
  readonly bids: string;
  readonly side: number;
  readonly slices: number;
  readonly volumes: number;
  /** Repetition time in seconds. */
  readonly seconds: number;
  /** In seconds. */
  readonly echo: number;
  readonly fields?: Readonly<Record<string, unknown>>;
}

const scan = (
  type: string,
  subfolder: string | null,
  bids: string,
  size: readonly [side: number, slices: number, volumes: number],
  times: readonly [seconds: number, echo: number],
  fields?: ScanType["fields"],
): ScanType => ({
  type,
  subfolder,
  bids,
  side: size[0],
  slices: size[1],
  volumes: size[2],
  seconds: times[0],
  echo: times[1],
  ...(fields === undefined ? {} : { fields }),
});

const T1 = scan("t1w-defaced", "anat", "run-NNN_T1w", [64, 16, 1], [2.3, 0.00298]);
const BOLD = scan("bold", "func", "task-rest_run-NNN_bold", [16, 8, 10], [2, 0.03], { TaskName: "rest" });
const FIELD_MAPS = [
  scan("fieldmap-phasediff", "fmap", "run-NNN_phasediff", [16, 8, 1], [0.4, 0.00738], {
    EchoTime1: 0.00492,
    EchoTime2: 0.00738,
  }),
  scan("fieldmap-magnitude-defaced", "fmap", "run-NNN_magnitude1", [16, 8, 1], [0.4, 0.00492]),
  scan("fieldmap-magnitude-defaced", "fmap", "run-NNN_magnitude2", [16, 8, 1], [0.4, 0.00738]),
];
const DIFFUSION = scan("dwi65", "dwi", "run-NNN_dwi", [16, 4, 7], [9.3, 0.092]);
const ANATOMY = [
  scan("FLAIR-defaced", "anat", "run-NNN_FLAIR", [32, 12, 1], [5, 0.388]),
  scan("T2star-defaced", "anat", "run-NNN_T2star", [32, 12, 1], [0.65, 0.02]),
];
const QUANTITATIVE = [1, 2].flatMap((n) => [
  scan(
    `echo${n}-magnitude-qT2star-defaced`,
    "anat",
    `echo-${n}_part-mag_run-NNN_T2star`,
    [16, 8, 1],
    [0.05, 0.004 * n],
  ),
  scan(
    `echo${n}-phase-qT2star`,
    "anat",
    `echo-${n}_part-phase_run-NNN_T2star`,
    [16, 8, 1],
    [0.05, 0.004 * n],
  ),
]);
const MP2RAGE = [
  scan("inv1-MP2RAGE-defaced", "anat", "inv-1_part-mag_run-NNN_MP2RAGE", [16, 8, 1], [5, 0.003]),
  scan("inv2-MP2RAGE-defaced", "anat", "inv-2_part-mag_run-NNN_MP2RAGE", [16, 8, 1], [5, 0.003]),
  scan("uni-denoised-MP2RAGE-defaced", "anat", "run-NNN_UNIT1", [16, 8, 1], [5, 0.003]),
  scan("uni-MP2RAGE", null, "", [16, 8, 1], [5, 0.003]),
  scan("T1map-MP2RAGE-defaced", "anat", "run-NNN_T1map", [16, 8, 1], [5, 0.003]),
];
const PERFUSION = [
  scan("asl", "asl", "run-NNN_asl", [16, 6, 4], [4, 0.01]),
  scan("echo1-pcasl", null, "", [16, 6, 4], [4, 0.01]),
];
const TASKS = ["encoding", "retrieval"].map((task) =>
  scan(`task-${task}-bold`, "func", `task-${task}_run-NNN_bold`, [16, 8, 10], [2, 0.03], { TaskName: task }),
);

/** Which images a visit has. Between them the kinds of visits hold every scan type of the archive. */
const PROTOCOLS: readonly (readonly ScanType[])[] = [
  [T1, BOLD, ...FIELD_MAPS, DIFFUSION, ...ANATOMY],
  [T1, T1, BOLD, ...TASKS, ...PERFUSION],
  [T1, scan("t2w-defaced", "anat", "run-NNN_T2w", [32, 12, 1], [2.5, 0.2]), ...QUANTITATIVE, ...MP2RAGE],
];

const VISITS = ["NAPBL00", "NAPFU12", "PREBL00", "PREFU12", "NAPEN00", "PREEN00"];
const SITE = "Douglas Mental Health University Institute";
const MODIFIED_MS = Date.UTC(2019, 3, 23, 14, 30);

/** Three open studies: `PREVENT-AD` (BIDS), `Pilot` (MINC only), and `Closed`, which the demo user may not see. */
export function buildPhantomStudies({
  seed = 1,
  candidates = 4,
}: {
  readonly seed?: number;
  /** Of the largest study. */
  readonly candidates?: number;
} = {}): Studies {
  const studies: ImagingStudy[] = [
    study("PREVENT-AD", "preventad", "bids", "public", 1_000_000, candidates, seed),
    study("Pilot", "pilot", "minc", "public", 2_000_000, 1, seed),
    study("Closed", "closed", "minc", "restricted", 3_000_000, 1, seed),
  ];
  return { studies, problems: [], served: new Set() };
}

function study(
  name: string,
  prefix: string,
  form: ImagingStudy["form"],
  access: ImagingStudy["access"],
  firstId: number,
  count: number,
  seed: number,
): ImagingStudy {
  const people: StudyCandidate[] = [];
  for (let n = 0; n < count; n++) {
    const draw = hash32(`${seed} ${name} ${n}`);
    const candId = String(firstId + 1 + n * 7919 + (draw % 7000));
    const site = n % 2 === 0 ? SITE : "Montréal";
    const visits = [0, 1].map((v) => {
      const label = VISITS[(2 * (n % 3) + v) % VISITS.length]!;
      const protocol = form === "bids" ? PROTOCOLS[(n * 2 + v) % PROTOCOLS.length]! : [T1, BOLD];
      return visit({ study: name, prefix, form, candId, label, site, protocol, seed, number: v });
    });
    // One who came but was not scanned.
    if (n === 0) visits.push({ label: "NAPFU03", date: null, ageMonths: null, site, images: [], bids: [] });
    people.push({
      candId,
      pscid: `MTL${String(n + 1).padStart(4, "0")}`,
      site,
      sex: draw % 3 === 0 ? "Male" : "Female",
      birth: "1950-01",
      language: n % 2 === 0 ? "English" : "French",
      visits,
    });
  }
  return { name, form, access, candidates: people, files: form === "bids" ? studyFiles(name, people) : [] };
}

interface VisitPlan {
  readonly study: string;
  readonly prefix: string;
  readonly form: ImagingStudy["form"];
  readonly candId: string;
  readonly label: string;
  readonly site: string;
  readonly protocol: readonly ScanType[];
  readonly seed: number;
  readonly number: number;
}

function visit(plan: VisitPlan): StudyVisit {
  const { study: name, prefix, form, candId, label, site, protocol, number } = plan;
  const ageMonths = String(740 + (hash32(candId) % 90) + 12 * number);
  const runs = new Map<string, number>();
  const images: StudyImage[] = [];
  for (const type of protocol) {
    const run = (runs.get(type.bids + type.type) ?? 0) + 1;
    runs.set(type.bids + type.type, run);
    const ofType = images.filter((image) => image.scanType === type.type).length + 1;
    images.push(phantomImage(plan, type, run, ofType));
    if (!type.type.startsWith("task-")) continue;
    const log = type.type.replace("-bold", "-events");
    const file = `${prefix}_${candId}_${label}_${log}_${String(run).padStart(3, "0")}.txt`;
    images.push({
      ...nativeFacts(plan, log, file, () => eventsOf(type)),
      headers: {},
      bids: null,
    });
  }
  const stem = `sub-${candId}_ses-${label}_scans`;
  const folder = `${name}/sub-${candId}/ses-${label}`;
  const rows = images.flatMap(({ bids }) =>
    bids === null ? [] : `${bids.subfolder}/${bids.files[0]!.name}`,
  );
  const scans = [
    madeFile(`${folder}/${stem}.tsv`, MODIFIED_MS, () =>
      table([["filename", "candidate_age_at_acquisition"], ...rows.map((path) => [path, ageMonths])]),
    ),
    madeFile(`${folder}/${stem}.json`, MODIFIED_MS, () =>
      json({ candidate_age_at_acquisition: { Description: "Age at acquisition", Units: "months" } }),
    ),
  ];
  return {
    label,
    date: `2019-04-${10 + number}`,
    ageMonths,
    site,
    images,
    bids: form === "bids" ? scans : [],
  };
}

function phantomImage(plan: VisitPlan, type: ScanType, run: number, ofType: number): StudyImage {
  const { study: name, prefix, form, candId, label, seed } = plan;
  const [plain, defaced] = [type.type.replace(/-defaced$/, ""), type.type.endsWith("-defaced")];
  const number = String(ofType).padStart(3, "0");
  const stem = `${prefix}_${candId}_${label}_${plain}_${number}`;
  const file = defaced ? `${stem}_${type.type}_${number}.mnc` : `${stem}.mnc`;
  const paint = (): Volume => {
    const noise = hash32(`${seed} ${candId} ${label} ${type.bids} ${type.type} ${run}`);
    const { side, slices, volumes, seconds } = type;
    return phantomVolume({ side, slices, volumes, seconds, patient: hash32(candId), noise, unit: 800 });
  };
  const headers = {
    "patient:full_name": `${candId}_${label}`,
    "acquisition:repetition_time": String(type.seconds),
    "acquisition:echo_time": String(type.echo),
    "acquisition:series_description": plain,
  };
  const image = {
    ...nativeFacts(plan, type.type, file, () => buildMinc(paint(), headers)),
    headers,
  };
  if (type.subfolder === null || form !== "bids") return { ...image, bids: null };
  const bids = `sub-${candId}_ses-${label}_${type.bids.replace("NNN", String(run).padStart(3, "0"))}`;
  const folder = `${name}/sub-${candId}/ses-${label}/${type.subfolder}`;
  const made = (ending: string, make: () => Uint8Array | string): StudyFile =>
    madeFile(`${folder}/${bids}${ending}`, MODIFIED_MS, make);
  const files = [made(".nii.gz", () => buildNifti(paint())), made(".json", () => json(sidecar(plan, type)))];
  if (type.subfolder === "dwi")
    files.push(
      made(".bval", () => bval(type)),
      made(".bvec", () => bvec(type)),
    );
  if (type.type.startsWith("task-")) files.push(made("_events.txt", () => eventsOf(type)));
  return { ...image, bids: { subfolder: type.subfolder, files } };
}

function nativeFacts(
  { study: name, candId, label }: VisitPlan,
  scanType: string,
  file: string,
  make: () => Uint8Array | string,
): Omit<StudyImage, "headers" | "bids"> {
  const draw = hash32(file);
  const seen = draw % 6 !== 0;
  const fails = draw % 6 === 1;
  return {
    native: madeFile(`${name}/assembly/${candId}/${label}/mri/native/${file}`, MODIFIED_MS, make),
    scanType,
    outputType: scanType.endsWith("-defaced") ? "defaced" : "native",
    insertedAt: `2019-04-23T${String(8 + (draw % 10)).padStart(2, "0")}:${String(draw % 60).padStart(2, "0")}:00-04:00`,
    qc: seen ? (fails ? "Fail" : "Pass") : null,
    selected: seen ? !fails : null,
    caveats: fails
      ? [
          {
            severity: "warning",
            header: "slice_thickness",
            value: "4",
            validRange: "0-3.5",
            validRegex: null,
          },
        ]
      : [],
  };
}

function sidecar({ candId, label }: VisitPlan, type: ScanType): Readonly<Record<string, unknown>> {
  return {
    Modality: "MR",
    Manufacturer: "Siemens",
    ManufacturersModelName: "TrioTim",
    MagneticFieldStrength: 3,
    RepetitionTime: type.seconds,
    EchoTime: type.echo,
    ...type.fields,
    ...(type.type === "fieldmap-phasediff"
      ? { IntendedFor: [`ses-${label}/func/sub-${candId}_ses-${label}_task-rest_run-001_bold.nii.gz`] }
      : {}),
  };
}

function studyFiles(name: string, people: readonly StudyCandidate[]): StudyFile[] {
  const made = (file: string, make: () => string): StudyFile =>
    madeFile(`${name}/${file}`, MODIFIED_MS, make);
  return [
    made("README", () => "Phantoms of the sandbox, named as an open release of PREVENT-AD.\n"),
    made("dataset_description.json", () =>
      json({
        Name: "PREVENT-AD_open_release_bids",
        BIDSVersion: "1.1.1 & BEP0001",
        Authors: ["Gantry sandbox"],
        HowToAcknowledge: "These are generated phantoms: there is nobody to thank.",
        LORISScriptVersion: "0.2.11",
        LORISReleaseVersion: "20.1",
      }),
    ),
    made("participants.tsv", () =>
      table([
        ["participant_id", "sex", "test_language", "handedness_score", "handedness_interpretation"],
        ...people.map(({ candId, sex, language }) => [
          `sub-${candId}`,
          sex ?? "n/a",
          language ?? "n/a",
          "100",
          "Right-handed",
        ]),
      ]),
    ),
    made("participants.json", () =>
      json({
        sex: { Description: "Sex of the participant", Levels: { Male: "Male", Female: "Female" } },
        test_language: { Description: "Language of the tests" },
        handedness_score: { Description: "Score of the handedness test" },
        handedness_interpretation: { Description: "What the score means" },
      }),
    ),
    // Of the real one only the length and that it is an object with one list are known.
    made(".bids-validator-config.json", () => json({ ignore: [1] })),
  ];
}

const bval = ({ volumes }: ScanType): string =>
  `${Array.from({ length: volumes }, (_, i) => (i === 0 ? 0 : 1000)).join(" ")}\n`;

function bvec({ volumes }: ScanType): string {
  const rows = [0, 1, 2].map((axis) =>
    Array.from({ length: volumes }, (_, i) => (i > 0 && i % 3 === axis ? 1 : 0)).join(" "),
  );
  return `${rows.join("\n")}\n`;
}

const eventsOf = ({ seconds, volumes }: ScanType): string =>
  table([
    ["onset", "duration", "trial_type"],
    ...Array.from({ length: Math.floor((seconds * volumes) / 5) }, (_, i) => [String(i * 5), "2", "face"]),
  ]);

const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;
const table = (rows: readonly (readonly string[])[]): string =>
  rows.map((row) => `${row.join("\t")}\n`).join("");
