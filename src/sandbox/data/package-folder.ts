/** Folders of `gantry sandbox --data DIR` that no other archive serves, as packages. */
import { createReadStream } from "node:fs";
import { readdir, realpath, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Packages, SandboxPackage, TreeFolder, TreeNode } from "./packages.ts";

/**
 * A folder with a `.sums` file in it is a package, whatever is above it; of the rest each top folder none of whose files
 * another archive serves. `left`: the files that none serves, relative to `dir`. Names that begin with a dot are passed
 * over, links are not followed. The title is the folder's name.
 */
export async function openFolderPackages(dir: string, left: ReadonlySet<string>): Promise<Packages> {
  const root = await realpath(dir);
  const served = new Set<string>();
  const packages: SandboxPackage[] = [];
  const take = async (path: string): Promise<void> => {
    const title = basename(join(root, path));
    const tree = await readTree(join(root, path), `PKG - ${title}`, path, served);
    packages.push({ title, root: tree });
  };
  /** True when something below became a package. */
  const search = async (path: string): Promise<boolean> => {
    const entries = await entriesOf(join(root, path));
    if (entries.some((entry) => entry.isFile() && entry.name.endsWith(".sums"))) {
      await take(path);
      return true;
    }
    let found = false;
    for (const entry of entries)
      if (entry.isDirectory())
        found = (await search(path === "" ? entry.name : `${path}/${entry.name}`)) || found;
    return found;
  };
  if ((await entriesOf(root)).some((entry) => entry.isFile() && entry.name.endsWith(".sums"))) await take("");
  else
    for (const entry of await entriesOf(root)) {
      if (!entry.isDirectory() || (await search(entry.name))) continue;
      const files = await filesIn(join(root, entry.name), entry.name);
      if (files.length > 0 && files.every((path) => left.has(path))) await take(entry.name);
    }
  return { packages, served };
}

async function entriesOf(folder: string) {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  return entries
    .filter(({ name }) => !name.startsWith("."))
    .sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)));
}

async function filesIn(folder: string, path: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await entriesOf(folder)) {
    if (entry.isFile()) found.push(`${path}/${entry.name}`);
    else if (entry.isDirectory())
      found.push(...(await filesIn(join(folder, entry.name), `${path}/${entry.name}`)));
  }
  return found;
}

async function readTree(
  folder: string,
  name: string,
  path: string,
  served: Set<string>,
): Promise<TreeFolder> {
  const children = new Map<string, TreeNode>();
  for (const entry of await entriesOf(folder)) {
    const target = join(folder, entry.name);
    const inside = path === "" ? entry.name : `${path}/${entry.name}`;
    if (entry.isDirectory()) children.set(entry.name, await readTree(target, entry.name, inside, served));
    else if (entry.isFile()) {
      const { size, mtimeMs } = await stat(target);
      served.add(inside);
      children.set(entry.name, {
        kind: "file",
        name: entry.name,
        modifiedMs: Math.floor(mtimeMs),
        sizeBytes: size,
        read: (from = 0) => createReadStream(target, { start: from, highWaterMark: 256 * 1024 }),
      });
    }
  }
  return { kind: "folder", name, modifiedMs: Math.floor((await stat(folder)).mtimeMs), children };
}
