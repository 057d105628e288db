/**
 * `.gantry/private/`: the links that open what this folder was asked for (docs/formats/folder.md). Each is a secret, so
 * that nobody but the folder's owner may read them, and nothing else in the folder repeats one.
 */
import { createHash } from "node:crypto";
import { chmod, readFile } from "node:fs/promises";
import { ensureFolder, onDisk, writeFileDurably } from "../lib/durable-file.ts";
import { checkHeader } from "../model/receipt.ts";
import { readNames, type StateFolder } from "./state-folder.ts";

const LINK_KIND = "gantry-link";
const LINK_VERSION = 1;

/** Adds the folder's links, by archive, to `links`; those that are there are newer. Throws `folder-newer`, `disk-…`. */
export async function loadLinks(state: StateFolder, links: Map<string, string>): Promise<void> {
  for (const name of await readNames(state.path("private"))) {
    if (!name.endsWith(".link")) continue;
    const path = state.path("private", name);
    const text = await onDisk({ operation: "read", path }, () => readFile(path, "utf8"));
    const { archive, link } = checkHeader(text, LINK_KIND, LINK_VERSION, path);
    if (typeof archive !== "string" || typeof link !== "string") continue;
    if (!links.has(archive)) links.set(archive, link);
  }
}

/** Durable when it resolves; takes the place of an older link to the same archive. Throws `disk-…`. */
export async function keepLink(state: StateFolder, archive: string, link: string): Promise<void> {
  const folder = state.path("private");
  await ensureFolder(folder, { mode: 0o700 });
  await onDisk({ operation: "protect", path: folder }, () => chmod(folder, 0o700));
  const stem = createHash("sha256").update(archive).digest("hex").slice(0, 16);
  const line = `${JSON.stringify({ kind: LINK_KIND, version: LINK_VERSION, archive, link })}\n`;
  await writeFileDurably(state.path("private", `${stem}.link`), line, { mode: 0o600 });
}
