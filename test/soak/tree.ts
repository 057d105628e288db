/** What a target folder shows to its user, to be compared with that of another run. */
import { createHash } from "node:crypto";
import { lstatSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Path → mode and digest. `.gantry/` is left out, and so is the timestamp column of metadata.csv. */
export type Tree = ReadonlyMap<string, string>;

const DERIVED = /(^|\/)(metadata\.csv|LICENSE)$/;

export function readTree(dir: string): Tree {
  const tree = new Map<string, string>();
  for (const path of listFiles(dir, "")) tree.set(path, describe(join(dir, path), path));
  return new Map([...tree].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/**
 * The data files of a folder, now, that a clean run would not have put there, or not with these bytes. A file
 * that is moved away while it is looked at is no fault.
 */
export function wrongFiles(dir: string, clean: Tree): string[] {
  const wrong: string[] = [];
  for (const path of listFiles(dir, "")) {
    if (DERIVED.test(path) || /(^|\/)\.[^/]*\.tmp$/.test(path)) continue;
    const expected = clean.get(path);
    let found: string;
    try {
      found = describe(join(dir, path), path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") continue;
      throw error;
    }
    if (found !== expected) wrong.push(`${path}: ${found}, not ${expected ?? "there in a clean run"}`);
  }
  return wrong;
}

export function missingFiles(dir: string, clean: Tree): string[] {
  const here = new Set(listFiles(dir, ""));
  return [...clean.keys()].filter((path) => !here.has(path));
}

function listFiles(dir: string, under: string): string[] {
  const files: string[] = [];
  let names: string[];
  try {
    names = readdirSync(join(dir, under));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
  for (const name of names) {
    const path = under === "" ? name : `${under}/${name}`;
    if (path === ".gantry") continue;
    const facts = lstatSync(join(dir, path), { throwIfNoEntry: false });
    if (facts?.isDirectory()) files.push(...listFiles(dir, path));
    else if (facts) files.push(path);
  }
  return files;
}

function describe(file: string, path: string): string {
  const mode = (lstatSync(file).mode & 0o7777).toString(8);
  const bytes = readFileSync(file);
  const content = path === "metadata.csv" ? withoutTimestamp(bytes.toString()) : bytes;
  return `${mode} ${createHash("sha256").update(content).digest("hex")}`;
}

/** The last column is when a series was stored; the official retriever has it, too. */
function withoutTimestamp(csv: string): string {
  return csv.replace(/,[^,\r\n]*(?=\r?\n|$)/g, "");
}
