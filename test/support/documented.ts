/**
 * Lines of help and documents, run as they stand: an archive with the names that they use, and a shell to type them
 * into.
 */
import { spawn } from "node:child_process";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Dataset } from "../../src/sandbox/data/dataset.ts";
import { datasetOf } from "../../src/sandbox/tiny-dataset.ts";
import { dicomSeries } from "./dataset.ts";
import { ensureBuilt, type ProgramResult, root, type Stage, temporaryDir } from "./gantry.ts";

/** Series that documents name by their UIDs. */
export const SERIES = {
  ct: "1.3.6.1.4.1.14519.5.2.1.7014.4598.106943890850011666503487579262",
  rtstruct: "1.3.6.1.4.1.14519.5.2.1.7014.4598.267594131248797648024467962783",
} as const;

/** A few small series under the names of collections and patients of TCIA. */
export function documentedArchive(): Dataset {
  const licenceUri = "https://creativecommons.org/licenses/by/4.0/";
  const series = [];
  for (const [collection, patients, bodyPart] of [
    ["LCTSC", ["LCTSC-Test-S1-101", "LCTSC-Test-S1-102", "LCTSC-Train-S1-001"], "LUNG"],
    ["LIDC-IDRI", ["LIDC-IDRI-0001", "LIDC-IDRI-0002"], "CHEST"],
    ["NSCLC-Radiomics", ["LUNG1-001"], "LUNG"],
    ["UPENN-GBM", ["UPENN-GBM-00001"], "BRAIN"],
  ] as const) {
    for (const [index, patientId] of patients.entries()) {
      const study = `1.3.6.1.4.1.14519.5.2.1.1.${collection.length}.${index + 1}`;
      const first = collection === "LCTSC" && index === 0;
      const parts = {
        collection,
        patientId,
        studyInstanceUid: study,
        studyDate: "2004-05-06",
        bodyPartExamined: bodyPart,
        manufacturer: "Siemens",
        licenseName: "Creative Commons Attribution 4.0 International License",
        licenseUri: licenceUri,
        submittedAt: "2024-03-01 10:00:00",
        releasedAt: "2024-03-01 10:00:00",
      };
      series.push(
        dicomSeries(first ? SERIES.ct : `${study}.1`, {
          ...parts,
          modality: collection === "UPENN-GBM" ? "MR" : "CT",
          seriesDescription: "axial",
        }),
      );
      if (collection === "LCTSC")
        series.push(
          dicomSeries(first ? SERIES.rtstruct : `${study}.2`, { ...parts, modality: "RTSTRUCT", count: 1 }),
        );
    }
  }
  return datasetOf(series);
}

/** A folder with `gantry` on its path, and what lines take for granted: a manifest, a mail program, DICOM files. */
export interface Desk {
  readonly dir: string;
  /** One line or block for bash, from the desk's folder. */
  type(lines: string, options?: { readonly interruptAt?: string }): Promise<ProgramResult>;
}

export async function openDesk(stage: Stage): Promise<Desk> {
  ensureBuilt();
  const dir = await temporaryDir();
  const bin = join(await temporaryDir(), "bin");
  mkdirSync(bin);
  const program = (name: string, text: string): void => {
    writeFileSync(join(bin, name), `#!/bin/sh\n${text}\n`);
    chmodSync(join(bin, name), 0o755);
  };
  program("gantry", `exec '${process.execPath}' '${join(root, "bin/gantry.js")}' "$@"`);
  // Runs a job's tasks one after the other, at once; a job that waits for another runs after it by itself.
  program(
    "sbatch",
    `first=0 last=0; while :; do case $1 in --array=*) last=\${1#--array=0-}; last=\${last%%%*} ;; -*) ;; *) break ;; esac; shift; done
script=$1; shift
for number in $(seq $first $last); do SLURM_ARRAY_TASK_ID=$number bash "$script" "$@" >&2; done; echo 1`,
  );
  program("mail", `cat >> '${join(dir, "mail.txt")}'`);
  writeFileSync(
    join(dir, "cart.tcia"),
    `downloadServerUrl=${stage.sandbox.url}/nbia-download/servlet/DownloadServlet\nincludeAnnotation=true\nnoOfrRetry=4\n` +
      `databasketId=manifest-1.tcia\nmanifestVersion=3.0\nListOfSeriesToDownload=\n${SERIES.ct}\n${SERIES.rtstruct}\n`,
  );
  writeFileSync(join(dir, "my-pipeline.sh"), "gantry ls tcia:\n");
  mkdirSync(join(stage.home, "dicom"), { recursive: true });
  const env = { ...stage.environment, PATH: `${bin}:${process.env.PATH}` };
  return {
    dir,
    type: (lines, { interruptAt } = {}) =>
      new Promise((resolve, reject) => {
        const child = spawn("bash", ["-c", `set -eo pipefail\n${lines}`], { cwd: dir, env, detached: true });
        child.stdin.end();
        let stdout = "";
        let stderr = "";
        child.stdout.setEncoding("utf8").on("data", (text: string) => {
          stdout += text;
          if (interruptAt !== undefined && stdout.includes(interruptAt))
            process.kill(-(child.pid as number), "SIGINT");
        });
        child.stderr.setEncoding("utf8").on("data", (text: string) => {
          stderr += text;
        });
        child.on("error", reject);
        child.on("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
      }),
  };
}
