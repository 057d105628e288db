/** The built-in packages: one shaped like a pathology package of TCIA, one of 1,000 files, one of oddities. */
import { createHash } from "node:crypto";
import { hash32 } from "../hash32.ts";
import {
  fileOf,
  filesBelow,
  folderOf,
  type Packages,
  type SandboxPackage,
  type TreeFile,
  type TreeFolder,
  type TreeNode,
} from "./packages.ts";

const BEGAN = Date.UTC(2023, 11, 6, 20, 30, 57);
const DAY_MS = 86_400_000;

export async function buildPackages(options: { readonly seed: number }): Promise<Packages> {
  const { seed } = options;
  return {
    packages: [await pathology(seed), await thousand(seed), await oddities(seed)],
    served: new Set(),
  };
}

/** Bytes that look like packed pixels, by name and seed. */
function noise(name: string, sizeBytes: number): Uint8Array {
  let state = hash32(name) || 1;
  const bytes = new Uint8Array(sizeBytes);
  for (let at = 0; at < sizeBytes; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[at] = state;
  }
  return bytes;
}

const timeOf = (name: string): number => BEGAN - (hash32(name) % 500) * DAY_MS;

const slide = (seed: number, name: string, sizeBytes: number): TreeFile =>
  fileOf(name, timeOf(name), noise(`${seed} ${name}`, sizeBytes));

const annotation = (seed: number, name: string): TreeFile => {
  const points = Array.from({ length: 40 }, (_, index) => {
    const draw = hash32(`${seed} ${name} ${index}`);
    return `<Vertex X="${draw % 2220}" Y="${(draw >>> 12) % 2967}" Z="0"/>`;
  });
  const text = `<?xml version="1.0"?>\n<Annotations><Annotation><Regions><Region Text="Tumor"><Vertices>\n${points.join("\n")}\n</Vertices></Region></Regions></Annotation></Annotations>\n`;
  return fileOf(name, timeOf(name), text);
};

/** As most files of TCIA's packages are: a link of the package to a file elsewhere on the server. */
const linked = (to: TreeFile | TreeFolder, name = to.name): TreeNode => ({
  kind: "link",
  name,
  modifiedMs: BEGAN,
  to,
  says: "all",
});

/** Adds the `.sums` file: md5, two blanks, path in the package; it does not list itself. */
async function summed(title: string, children: readonly TreeNode[]): Promise<SandboxPackage> {
  const root = folderOf(`PKG - ${title}`, BEGAN, children);
  const lines: string[] = [];
  for (const { path, file } of filesBelow(root)) {
    const hash = createHash("md5");
    for await (const chunk of file.read()) hash.update(chunk);
    lines.push(`${hash.digest("hex")}  ${path}\n`);
  }
  const sums = fileOf(`${title}.sums`, BEGAN, lines.join(""));
  return { title, root: folderOf(root.name, BEGAN, [sums, ...children]) };
}

async function pathology(seed: number): Promise<SandboxPackage> {
  const cohort = (folder: string, cases: readonly string[]): TreeFolder =>
    folderOf(folder, BEGAN, [
      folderOf(
        "Annotations",
        BEGAN,
        cases.map((name) => linked(annotation(seed, `${name}.xml`))),
      ),
      folderOf(
        "SVS",
        BEGAN,
        cases.map((name, index) => linked(slide(seed, `${name}.svs`, 90_000 + index * 31_000))),
      ),
    ]);
  return summed("Phantom_tumor_ROIs_v1", [
    cohort("Phantom_HER2_cohort", ["Phantom_Case_01", "Phantom_Case_02", "Phantom_Case_03"]),
    cohort("Phantom_response_cohort", ["P09-03571", "P10-07142"]),
    folderOf("Filtered annotations only", BEGAN, [annotation(seed, "PHANTOM-A1-0017-01Z-00-DX1.xml")]),
    fileOf("Slides_Überblick.tsv", BEGAN, "slide\tcohort\nPhantom_Case_01\tHER2\n"),
    fileOf("README.txt", BEGAN, "A generated package: noise in place of slides.\n"),
  ]);
}

async function thousand(seed: number): Promise<SandboxPackage> {
  const folders = Array.from({ length: 20 }, (_, at) => {
    const patient = `PHANTOM-${String(at + 1).padStart(4, "0")}`;
    return folderOf(
      patient,
      BEGAN,
      Array.from({ length: 50 }, (_, n) => {
        const name = `${patient}_tile_${String(n + 1).padStart(3, "0")}.tif`;
        return slide(seed, name, 200 + (hash32(name) % 4000));
      }),
    );
  });
  return summed("Phantom_thousand_tiles_v1", folders);
}

/** Names, sizes and links that break clients. No sums. */
async function oddities(seed: number): Promise<SandboxPackage> {
  const title = "Phantom oddities";
  const far = slide(seed, "far away.svs", 152_345);
  const shared = folderOf("shared", BEGAN, [
    fileOf("one.txt", BEGAN, "one\n"),
    fileOf("two.txt", BEGAN, "two\n"),
  ]);
  const loop = folderOf("loop", BEGAN, [fileOf("inside.txt", BEGAN, "inside\n")]);
  loop.children.set("up again", linked(loop, "up again"));
  const root = folderOf(`PKG - ${title}`, BEGAN, [
    folderOf("names", BEGAN, [
      fileOf("two  blanks and a tail ", BEGAN, "blanks\n"),
      fileOf("Ünïcödé ☃ 日本.txt", BEGAN, "unicode\n"),
      fileOf("cafe\u0301.txt", BEGAN, "decomposed\n"),
      fileOf("line\nbreak.txt", BEGAN, "newline\n"),
      fileOf("#hash?query&100%.txt", BEGAN, "marks\n"),
      fileOf("-dash.txt", BEGAN, "dash\n"),
    ]),
    folderOf("sizes", BEGAN, [
      fileOf("empty.bin", BEGAN, ""),
      fileOf("null.bin", BEGAN, noise("null", 700), "null"),
      fileOf("text.bin", BEGAN, noise("text", 800), "text"),
    ]),
    folderOf("links", BEGAN, [
      linked(far),
      { kind: "link", name: "no size.svs", modifiedMs: BEGAN, to: far, says: "no-size" },
      { kind: "link", name: "no target.svs", modifiedMs: BEGAN, to: far, says: "nothing" },
      linked(shared, "to a folder"),
      { kind: "link", name: "to a folder, untold", modifiedMs: BEGAN, to: shared, says: "nothing" },
    ]),
    loop,
    folderOf("empty", BEGAN),
  ]);
  return { title, root };
}
