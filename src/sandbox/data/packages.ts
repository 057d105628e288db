// The interface between packages of files (Aspera) and what serves them: trees in which links are followed by hand.

export interface TreeFile {
  readonly kind: "file";
  readonly name: string;
  readonly modifiedMs: number;
  readonly sizeBytes: number;
  /** How a listing gives the size: as a number (default), as text of digits, or not at all. */
  readonly listedSize?: "number" | "text" | "null";
  /** From a byte on, from disk or generated (deterministic), chunk by chunk. */
  read(from?: number): AsyncIterable<Uint8Array>;
}

export interface TreeFolder {
  readonly kind: "folder";
  readonly name: string;
  readonly modifiedMs: number;
  /** By name, in the order of a listing. */
  readonly children: Map<string, TreeNode>;
}

/** A symbolic link on the server's disk. */
export interface TreeLink {
  readonly kind: "link";
  readonly name: string;
  readonly modifiedMs: number;
  /** Null: it leads nowhere. */
  readonly to: TreeFile | TreeFolder | null;
  /** What a listing says of the target: everything, all but its size, or nothing. */
  readonly says: "all" | "no-size" | "nothing";
}

export type TreeNode = TreeFile | TreeFolder | TreeLink;

/** A package as somebody sent it. */
export interface SandboxPackage {
  readonly title: string;
  readonly root: TreeFolder;
}

export interface Packages {
  /** The first is the one that examples use. */
  readonly packages: readonly SandboxPackage[];
  /** Of `--data`: the files that are served, relative to the folder. */
  readonly served: ReadonlySet<string>;
}

export function folderOf(name: string, modifiedMs: number, children: readonly TreeNode[] = []): TreeFolder {
  return {
    kind: "folder",
    name,
    modifiedMs,
    children: new Map(children.map((child) => [child.name, child])),
  };
}

/** A file in memory. */
export function fileOf(
  name: string,
  modifiedMs: number,
  content: Uint8Array | string,
  listedSize: TreeFile["listedSize"] = "number",
): TreeFile {
  const bytes = typeof content === "string" ? Buffer.from(content) : content;
  return {
    kind: "file",
    name,
    modifiedMs,
    sizeBytes: bytes.length,
    listedSize,
    async *read(from = 0) {
      const chunk = 256 * 1024;
      for (let at = from; at < bytes.length; at += chunk) yield bytes.subarray(at, at + chunk);
    },
  };
}

/** What a name leads to, links followed; undefined when there is nothing. */
export const targetOf = (node: TreeNode | undefined): TreeFile | TreeFolder | undefined =>
  node?.kind === "link" ? (node.to ?? undefined) : node;

/** The node at a path below a folder (`/` between names, empty names passed over), links on the way followed. */
export function nodeAt(root: TreeFolder, path: string): TreeNode | undefined {
  let node: TreeNode | undefined = root;
  for (const name of path.split("/")) {
    if (name === "" || name === ".") continue;
    const folder = targetOf(node);
    if (folder?.kind !== "folder") return undefined;
    node = folder.children.get(name);
  }
  return node;
}

export interface FoundFile {
  /** Relative to the folder that was walked. */
  readonly path: string;
  readonly file: TreeFile;
}

/**
 * Every file below a folder, links followed; a link that leads to a folder which it is in is passed over, else the walk
 * had no end.
 */
export function* filesBelow(
  root: TreeFolder,
  prefix = "",
  above: readonly TreeFolder[] = [],
): Generator<FoundFile> {
  const inside = [...above, root];
  for (const [name, child] of root.children) {
    const node = targetOf(child);
    const path = `${prefix}${name}`;
    if (node?.kind === "file") yield { path, file: node };
    else if (node?.kind === "folder" && !inside.includes(node)) yield* filesBelow(node, `${path}/`, inside);
  }
}
