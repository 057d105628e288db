/** A tree as a server keeps it with encryption at rest: its files under names with `.aspera-env`. */
import type { TreeFile, TreeFolder, TreeNode } from "../data/packages.ts";
import { AT_REST_HEAD_BYTES, AT_REST_SUFFIX, encryptAtRest } from "./at-rest.ts";

/** The passphrase of everything in the sandbox that is encrypted at rest. */
export const AT_REST_PASSPHRASE = "demo at rest";

export function encryptedTree(folder: TreeFolder, passphrase: string): TreeFolder {
  const lock = (file: TreeFile): TreeFile => ({
    ...file,
    name: `${file.name}${AT_REST_SUFFIX}`,
    sizeBytes: file.sizeBytes + AT_REST_HEAD_BYTES,
    read: (from = 0) => encryptAtRest(passphrase, file.name, (at) => file.read(at), from),
  });
  const children = [...folder.children.values()].map((child): TreeNode => {
    if (child.kind === "file") return lock(child);
    if (child.kind === "folder") return encryptedTree(child, passphrase);
    if (child.to?.kind !== "file") return child;
    return { ...child, name: `${child.name}${AT_REST_SUFFIX}`, to: lock(child.to) };
  });
  return { ...folder, children: new Map(children.map((child) => [child.name, child])) };
}
