/** Loops that a server does not show: its paths without links are those with them, or its links look like folders. */
import { expect, it } from "vitest";
import { sourceContext } from "../../../test/support/pipeline.ts";
import type { SftpEntry } from "../../transports/sftp/connection.ts";
import type { Sftp } from "../../transports/sftp/sftp.ts";
import { SiteTree } from "./tree.ts";

const FOLDER = { type: "folder", bytes: 0, mtimeSeconds: 0 } as const;

/** A server on which each folder has one file, and folders that are itself. */
function endless(type: "link" | "folder", names: readonly string[]): Sftp {
  const entries: SftpEntry[] = [
    { name: "a.txt", type: "file", bytes: 1, mtimeSeconds: 0 },
    ...names.map((name) => ({ ...FOLDER, name, type })),
  ];
  const connection = {
    facts: async () => FOLDER,
    realPath: async (path: string) => path,
    async *folder() {
      yield* entries;
    },
  };
  return { site: { host: "site.example.org" }, connection: async () => connection } as unknown as Sftp;
}

it.each([
  ["links that are not resolved", "link", ["again", "and again"], 511],
  ["links that look like folders", "folder", ["again"], 101],
] as const)("%s are followed to a bound", async (_, type, names, count) => {
  const warned: string[] = [];
  const context = { ...sourceContext(), log: (_level: string, text: string) => void warned.push(text) };
  const tree = new SiteTree(endless(type, names), "aspera://demo@site.example.org");
  const found = new Set<string>();
  for await (const { path } of tree.files(await tree.find([], context), context)) found.add(path.join("/"));
  expect(found.size).toBe(count);
  expect(new Set(warned.map((text) => text.replace(/: .* lies/u, ": … lies")))).toEqual(
    new Set(["site.example.org: … lies as deep as in a loop of links, and is left out"]),
  );
});
