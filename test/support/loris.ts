/** A LORIS stand-in as other clients ask it: plain requests, and a tree as the published script leaves it. */
import { mkdir, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Stage } from "./gantry.ts";

export const lorisAccount = { GANTRY_PREVENTAD_USER: "demo", GANTRY_PREVENTAD_PASSWORD: "demo" };

export interface LorisClient {
  get(link: string, headers?: Readonly<Record<string, string>>): Promise<Response>;
}

export async function lorisClient(stage: Stage, archive = "preventad"): Promise<LorisClient> {
  const base = stage.sandbox.archives.find(({ name }) => name === archive)?.url ?? "";
  const body = JSON.stringify({ username: "demo", password: "demo" });
  const reply = await fetch(`${base}/login`, { method: "POST", body });
  const { token } = (await reply.json()) as { token: string };
  return {
    get: (link, headers = {}) =>
      fetch(base + link, {
        headers: { Authorization: `Bearer ${token}`, "Accept-Encoding": "identity", ...headers },
      }),
  };
}

/** By path in the tree: the links of the BIDS export. */
export async function exportLinks(client: LorisClient): Promise<ReadonlyMap<string, string>> {
  const manifest = (await (await client.get("/projects/loris/bids/")).json()) as Record<string, unknown>;
  const links = new Map<string, string>();
  const add = (row: unknown): void => {
    const { Candidate, Visit, Subfolder, ...rest } = row as Record<string, string>;
    for (const [key, link] of Object.entries(rest)) {
      if (!key.endsWith("Link")) continue;
      const folders = [Candidate && `sub-${Candidate}`, Visit && `ses-${Visit}`, Subfolder];
      links.set([...folders.filter(Boolean), basename(link)].join("/"), link);
    }
  };
  for (const part of Object.values(manifest)) for (const row of Array.isArray(part) ? part : [part]) add(row);
  return links;
}

/**
 * A tree as LAMID_PREVENT-AD leaves it: each file with a hidden neighbour that holds the ETag of the reply, whatever it
 * was.
 */
export async function writeScriptTree(client: LorisClient, dir: string): Promise<readonly string[]> {
  const paths: string[] = [];
  for (const [path, link] of await exportLinks(client)) {
    const reply = await client.get(link);
    const bytes = Buffer.from(await reply.arrayBuffer());
    const target = join(dir, path);
    await mkdir(dirname(target), { recursive: true });
    const etag = reply.headers.get("etag");
    if (etag !== null) await writeFile(etagPath(target), etag);
    if (reply.status !== 200) continue;
    await writeFile(target, bytes);
    paths.push(path);
  }
  return paths;
}

export const etagPath = (path: string): string => join(dirname(path), `.${basename(path)}.etag`);
