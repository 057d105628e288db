/** What suites of judges ask the sandbox itself, by its plain interface, to know what a client should end up with. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Dataset, SandboxSeries } from "../../src/sandbox/data/dataset.ts";
import { openFolderDataset } from "../../src/sandbox/data/folder.ts";
import { buildPhantomDataset } from "../../src/sandbox/data/phantom.ts";
import { listFiles, type Stage, startStage, testData } from "../support/gantry.ts";

export interface Archive {
  readonly stage: Stage;
  readonly data: Dataset;
}

/** The data sets of every suite: generated ones, and real ones where there are some. */
export const DATA_SETS = [
  { name: "generated data", open: () => buildPhantomDataset({ seed: 1 }) },
  ...(testData === null ? [] : [{ name: "real data", open: () => openFolderDataset(testData ?? "") }]),
];

export async function openArchive(open: () => Dataset | Promise<Dataset>): Promise<Archive> {
  const data = await open();
  return { data, stage: await startStage({ data }) };
}

/** The series with images that everybody may see on the first host, sorted by UID. */
export function publicSeries({ data }: Archive): readonly SandboxSeries[] {
  return [...data.series()]
    .filter((series) => series.access === "public" && series.collection !== "NLST" && hasImages(series))
    .sort((a, b) => (a.seriesInstanceUid < b.seriesInstanceUid ? -1 : 1));
}

export const uidsOf = (all: readonly SandboxSeries[]): string[] =>
  all.map(({ seriesInstanceUid }) => seriesInstanceUid);

const hasImages = (series: SandboxSeries): boolean => series.instances().length > 0;

/** MD5 of every image of some series, sorted: what must be on the disk, whatever it is called there. */
export async function imageDigests(all: readonly SandboxSeries[]): Promise<string[]> {
  const digests = all.flatMap((series) => series.instances().map((image) => image.md5()));
  return (await Promise.all(digests)).sort();
}

const md5 = (path: string): string => createHash("md5").update(readFileSync(path)).digest("hex");

/** MD5 of the DICOM files of a folder, sorted. */
export async function dicomDigests(dir: string): Promise<string[]> {
  return [...(await filesByPath(dir))]
    .filter(([path]) => path.endsWith(".dcm"))
    .map(([, digest]) => digest)
    .sort();
}

/** MD5 of each file of a folder by its path; `.gantry` aside. */
export async function filesByPath(dir: string): Promise<Map<string, string>> {
  const paths = await listFiles(dir);
  return new Map(paths.map((path) => [path, md5(join(dir, path))]));
}

/** A `.tcia` manifest as the portal writes it, pointing at the sandbox; its path. */
export async function writeManifest(
  folder: string,
  name: string,
  sandboxUrl: string,
  uids: readonly string[],
): Promise<string> {
  const lines = [
    `downloadServerUrl=${sandboxUrl}/nbia-download/servlet/DownloadServlet`,
    "includeAnnotation=true",
    "noOfrRetry=4",
    "databasketId=manifest-1598890146597.tcia",
    "manifestVersion=3.0",
    "ListOfSeriesToDownload=",
    ...uids,
  ];
  const path = join(folder, name);
  await writeFile(path, `${lines.join("\n")}\n`);
  return path;
}

/** How often each request was seen, as `GET v2/getImage 200`. */
export function requestCounts({ stage }: Archive): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const { method, path, status } of stage.control.requests()) {
    const name = `${method} ${path.replace(/^\/nbia-api\/(services\/)?/u, "")} ${status}`;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}
