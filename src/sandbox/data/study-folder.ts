/** The BIDS roots and MINC trees of a folder as imaging studies: `gantry sandbox --data DIR`. */
import { createReadStream, type Dirent } from "node:fs";
import { readdir, readFile, realpath, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { hash32 } from "../hash32.ts";
import { buildMinc } from "./minc-writer.ts";
import { readNifti } from "./nifti-writer.ts";
import {
  type ImagingStudy,
  madeFile,
  type Studies,
  type StudyCandidate,
  type StudyFile,
  type StudyImage,
  type StudyVisit,
} from "./studies.ts";

type Problem = Studies["problems"][number];

/** What LORIS exports at the top of a study (loris.md 6). */
const STUDY_FILES = [
  "README",
  "dataset_description.json",
  "participants.tsv",
  "participants.json",
  ".bids-validator-config.json",
];

const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

/**
 * Indexes `dir` by names; contents are read when asked for.
 *
 * A folder with a `dataset_description.json` is a BIDS root, and a study of its own name. It is served when it has
 * sessions: `sub-DIGITS/ses-LABEL/SUBFOLDER/…`. Its images are also offered as MINC, made from the NIfTI when asked
 * for, because an export is always one of native images. What LORIS itself writes into an export (README,
 * participants.json, `.bids-validator-config.json`, `_scans.json`) is made up when the tree lacks it. `CANDIDATE/VISIT/…/*.mnc` outside of BIDS roots is a MINC
 * tree; its study is named by the folder above the candidates, or the next one up when that is called `assembly`,
 * as LORIS calls its own. Study names that are taken get `-2`, and so on. Throws the error of the file system when
 * `dir` itself can't be read.
 */
export async function openFolderStudies(dir: string): Promise<Studies> {
  const root = await realpath(dir);
  const files = (await walk(root)).sort(byBytes);
  const problems: Problem[] = [];
  const served = new Set<string>();
  const roots = files
    .filter((path) => basename(path) === "dataset_description.json")
    .map((path) => (path.includes("/") ? dirname(path) : ""));
  const rootOf = (path: string): string | undefined =>
    roots.find((folder) => folder === "" || path.startsWith(`${folder}/`));
  const names = new Set<string>();
  const nameFor = (wanted: string): string => {
    let name = wanted;
    for (let n = 2; names.has(name); n++) name = `${wanted}-${n}`;
    names.add(name);
    return name;
  };

  const studies: ImagingStudy[] = [];
  for (const folder of roots) {
    if (rootOf(`${folder}/`) !== folder) continue;
    const inside = files
      .filter((path) => rootOf(path) === folder)
      .map((path) => (folder === "" ? path : path.slice(folder.length + 1)));
    const name = nameFor(folder === "" ? basename(root) : basename(folder));
    const taken = new Set<string>();
    const study = await bidsStudy(name, join(root, folder), inside, taken);
    if (study.candidates.length === 0) {
      problems.push({
        path: folder === "" ? "." : folder,
        reason:
          "This BIDS dataset has no sessions with images (sub-DIGITS/ses-LABEL/), so that LORIS could not hold it.",
      });
      continue;
    }
    studies.push(study);
    for (const path of inside) {
      const whole = folder === "" ? path : `${folder}/${path}`;
      if (taken.has(path)) served.add(whole);
      else
        problems.push({ path: whole, reason: "LORIS' export has no place for this file of a BIDS dataset." });
    }
  }
  studies.push(
    ...(await mincStudies(
      root,
      files.filter((path) => rootOf(path) === undefined),
      nameFor,
      served,
    )),
  );
  return { studies, problems, served };
}

/** Names that begin with a dot are passed over, but for the validator's configuration. Links are not followed. */
async function walk(root: string): Promise<string[]> {
  const found: string[] = [];
  const visit = async (folder: string): Promise<void> => {
    let entries: Dirent[];
    try {
      entries = await readdir(join(root, folder), { withFileTypes: true });
    } catch (error) {
      if (folder === "") throw error;
      return;
    }
    for (const entry of entries) {
      const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
      if (entry.name.startsWith(".") && entry.name !== ".bids-validator-config.json") continue;
      if (entry.isDirectory()) await visit(path);
      else if (entry.isFile()) found.push(path);
    }
  };
  await visit("");
  return found;
}

function diskFile(study: string, root: string, path: string): StudyFile {
  const target = join(root, path);
  return {
    name: basename(path),
    path: `${study}/${path}`,
    async stat() {
      try {
        const { size, mtimeMs } = await stat(target);
        return { sizeBytes: size, modifiedMs: mtimeMs };
      } catch {
        return null;
      }
    },
    read: () => createReadStream(target, { highWaterMark: 256 * 1024 }),
  };
}

async function bidsStudy(
  name: string,
  root: string,
  paths: readonly string[],
  taken: Set<string>,
): Promise<ImagingStudy> {
  const present = new Set(paths);
  const people = await readParticipants(join(root, "participants.tsv"));
  const take = (path: string): StudyFile => {
    taken.add(path);
    return diskFile(name, root, path);
  };
  const sessions = new Map<string, Map<string, StudyImage[]>>();
  const counts = new Map<string, number>();
  for (const path of paths) {
    const match = /^sub-(\d+)\/ses-([A-Za-z0-9]+)\/([a-z]+)\/(sub-\1_ses-\2_(.+))\.nii\.gz$/.exec(path);
    if (match === null) continue;
    const [, candId = "", label = "", subfolder = "", stem = "", entities = ""] = match;
    const folder = path.slice(0, path.lastIndexOf("/"));
    const sides = [".json", ".bval", ".bvec"].map((ending) => `${folder}/${stem}${ending}`);
    const events = [`${folder}/${stem}_events.txt`, `${folder}/${stem.replace(/_bold$/, "_events")}.tsv`];
    const scanType = await scanTypeOf(entities, join(root, sides[1]!));
    const key = `${candId} ${label} ${scanType}`;
    const number = (counts.get(key) ?? 0) + 1;
    counts.set(key, number);
    const nifti = take(path);
    const native = `${name}_${candId}_${label}_${scanType}_${String(number).padStart(3, "0")}.mnc`;
    const image: StudyImage = {
      native: mincOf(nifti, `${name}/assembly/${candId}/${label}/mri/native/${native}`),
      scanType,
      outputType: "native",
      ...databaseFacts(path),
      headers: {},
      bids: {
        subfolder,
        files: [nifti, ...[...sides, ...events].filter((side) => present.has(side)).map(take)],
      },
    };
    const visits = sessions.get(candId) ?? new Map<string, StudyImage[]>();
    sessions.set(candId, visits.set(label, [...(visits.get(label) ?? []), image]));
  }
  const candidates: StudyCandidate[] = [];
  for (const [candId, visits] of sessions) {
    const person = people.get(`sub-${candId}`) ?? {};
    const site = known(person.site) ?? "Data Coordinating Center";
    const found: StudyVisit[] = [];
    for (const [label, images] of visits) {
      const stem = `sub-${candId}/ses-${label}/sub-${candId}_ses-${label}_scans`;
      // Without the table there is no session in an export; the other file LORIS writes of its own accord.
      const bids = present.has(`${stem}.tsv`)
        ? [
            take(`${stem}.tsv`),
            present.has(`${stem}.json`) ? take(`${stem}.json`) : exported(name, `${stem}.json`),
          ]
        : [];
      found.push({ label, date: null, ageMonths: null, site, images, bids });
    }
    candidates.push({
      candId,
      pscid: known(person.pscid) ?? `C${candId}`,
      site,
      sex: known(person.sex) ?? null,
      birth: null,
      language: null,
      visits: found,
    });
  }
  const files = STUDY_FILES.map((path) => (present.has(path) ? take(path) : exported(name, path)));
  return { name, form: "bids", access: "public", candidates, files };
}

/** What LORIS writes itself when it exports, for a tree that came without it. */
function exported(study: string, path: string): StudyFile {
  const text = path === "README" ? "An export.\n" : path.endsWith(".tsv") ? "participant_id\n" : "{}\n";
  return madeFile(`${study}/${path}`, Date.UTC(2019, 3, 23), () => text);
}

/** LORIS' name for what a BIDS name says; of a diffusion image with the number of its volumes, as `dwi65`. */
async function scanTypeOf(entities: string, bval: string): Promise<string> {
  const suffix = /([A-Za-z0-9]+)$/.exec(entities)?.[1] ?? "image";
  const task = /(?:^|_)task-([A-Za-z0-9]+)/.exec(entities)?.[1];
  if (suffix === "bold") return task === undefined || task === "rest" ? "bold" : `task-${task}-bold`;
  if (suffix === "dwi") {
    const values = await readFile(bval, "utf8").catch(() => "");
    const volumes = values.split(/\s+/).filter((word) => word !== "").length;
    return volumes === 0 ? "dwi" : `dwi${volumes}`;
  }
  if (suffix === "phasediff") return "fieldmap-phasediff";
  if (/^magnitude[12]$/.test(suffix)) return "fieldmap-magnitude";
  return { T1w: "t1w", T2w: "t2w" }[suffix] ?? suffix;
}

/** Made when it is first asked for; not on the disk when the NIfTI is of a kind that isn't converted. */
function mincOf(nifti: StudyFile, path: string): StudyFile {
  let made: Promise<Uint8Array | null> | undefined;
  const bytes = (): Promise<Uint8Array | null> => {
    made ??= (async () => {
      const chunks: Uint8Array[] = [];
      for await (const chunk of nifti.read()) chunks.push(chunk);
      const volume = readNifti(Buffer.concat(chunks));
      return volume === null ? null : buildMinc(volume);
    })();
    return made;
  };
  return {
    name: basename(path),
    path,
    async stat() {
      const [content, of] = [await bytes(), await nifti.stat()];
      return content === null || of === null
        ? null
        : { sizeBytes: content.byteLength, modifiedMs: of.modifiedMs };
    },
    async *read() {
      const content = await bytes();
      if (content !== null) yield content;
    },
  };
}

const known = (text: string | undefined): string | undefined =>
  text === undefined || text === "" || text === "n/a" ? undefined : text;

async function readParticipants(path: string): Promise<Map<string, Record<string, string>>> {
  const text = await readFile(path, "utf8").catch(() => "");
  const [head = "", ...lines] = text.split(/\r?\n/);
  const columns = head.split("\t");
  return new Map(
    lines
      .filter((line) => line !== "")
      .map((line) => {
        const cells = line.split("\t");
        return [cells[0]!, Object.fromEntries(columns.map((column, i) => [column, cells[i] ?? ""]))];
      }),
  );
}

/** What only the archive's database would know: invented from the path, the same each time. */
function databaseFacts(path: string): Pick<StudyImage, "insertedAt" | "qc" | "selected" | "caveats"> {
  const draw = hash32(path);
  const moment = new Date(Date.UTC(2019, 3, 1) + (draw % 10_000_000) * 1000);
  return {
    insertedAt: `${moment.toISOString().slice(0, 19)}-04:00`,
    qc: draw % 7 === 0 ? null : draw % 7 === 1 ? "Fail" : "Pass",
    selected: draw % 7 === 0 ? null : draw % 7 !== 1,
    caveats: [],
  };
}

async function mincStudies(
  root: string,
  paths: readonly string[],
  nameFor: (wanted: string) => string,
  served: Set<string>,
): Promise<ImagingStudy[]> {
  const trees = new Map<string, Map<string, Map<string, StudyImage[]>>>();
  const names = new Map<string, string>();
  for (const path of paths) {
    const match = /^((?:.*\/)?)(\d{6,10})\/([A-Za-z0-9_.]+)\/(?:.*\/)?([^/]+)\.mnc$/.exec(path);
    if (match === null) continue;
    const [, above = "", candId = "", label = "", stem = ""] = match;
    const parts = above.split("/").filter((part) => part !== "" && part !== "assembly");
    if (!names.has(above)) names.set(above, nameFor(parts.at(-1) ?? basename(root)));
    const file = diskFile(names.get(above)!, root, path);
    const candidates = trees.get(above) ?? new Map<string, Map<string, StudyImage[]>>();
    const visits = candidates.get(candId) ?? new Map<string, StudyImage[]>();
    const type = new RegExp(`_${candId}_${label.replaceAll(".", "\\.")}_(.+?)_\\d+$`).exec(stem)?.[1];
    const image: StudyImage = {
      native: file,
      scanType: type ?? "unknown",
      outputType: stem.includes("defaced") ? "defaced" : "native",
      ...databaseFacts(path),
      headers: {},
      bids: null,
    };
    visits.set(label, [...(visits.get(label) ?? []), image]);
    trees.set(above, candidates.set(candId, visits));
    served.add(path);
  }
  const site = "Data Coordinating Center";
  return [...trees].map(([above, candidates]) => ({
    name: names.get(above)!,
    form: "minc",
    access: "public",
    files: [],
    candidates: [...candidates].map(([candId, visits]) => ({
      candId,
      pscid: `C${candId}`,
      site,
      sex: null,
      birth: null,
      language: null,
      visits: [...visits].map(([label, images]) => ({
        label,
        date: null,
        ageMonths: null,
        site,
        images,
        bids: [],
      })),
    })),
  }));
}
