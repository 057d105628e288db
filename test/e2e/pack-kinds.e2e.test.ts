/** `get --pack` of every kind of archive: GNU tar unpacks it to the bytes of the folder form. */
import { spawnSync } from "node:child_process";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { tinyDataset } from "../../src/sandbox/tiny-dataset.ts";
import { startFileServer } from "../support/file-server.ts";
import { atEnd, freshDir, has, hashTree, type Stage, startStage, temporaryDir } from "../support/gantry.ts";
import { lorisAccount } from "../support/loris.ts";

interface Kind {
  readonly words: () => Promise<readonly string[]>;
  readonly env?: Readonly<Record<string, string>>;
}

let stage: Stage;
beforeAll(async () => {
  stage = await startStage({ data: tinyDataset() });
});

const KINDS: Readonly<Record<string, Kind>> = {
  "a BIDS tree of LORIS": { words: async () => ["preventad:", "--limit", "6"], env: lorisAccount },
  "a Faspex package by ascp": { words: async () => [(await stage.sandbox.links()).package ?? ""] },
  "a Faspex package over HTTP": { words: async () => [(await stage.sandbox.links()).gateway ?? ""] },
  "a site by ascp": {
    words: async () => [`${(await stage.sandbox.links()).site ?? ""}Phantom_tumor_ROIs_v1`],
    env: { ASPERA_SCP_PASS: "demo" },
  },
  "links on the web": {
    words: async () => {
      const facts = { type: "application/octet-stream", modified: new Date("2024-01-02T03:04:05Z") };
      const server = await startFileServer({
        "/data/table.bin": { ...facts, bytes: Buffer.from("one two") },
        "/data/more/image.bin": { ...facts, bytes: Buffer.alloc(300_000, "image") },
      });
      atEnd(() => server.close());
      return [`${server.url}/data/table.bin`, `${server.url}/data/more/image.bin`];
    },
  },
};

describe.skipIf(!has("tar") || !has("zstd"))("packed (needs tar, zstd)", { timeout: 60_000 }, () => {
  it.each(Object.keys(KINDS))("%s", async (name) => {
    const { words, env = {} } = KINDS[name] as Kind;
    const asked = await words();
    const gantry = async (...args: string[]): Promise<string> => {
      const { code, stdout, stderr } = await stage.run(args, { env });
      expect(code, stderr).toBe(0);
      return stdout + stderr;
    };
    const [loose, packed, members, out] = [
      await freshDir(),
      await freshDir(),
      await freshDir(),
      await temporaryDir(),
    ];
    await gantry("get", ...asked, "-o", loose, "--progress", "none");
    await gantry("get", ...asked, "-o", packed, "--pack", "tar.zst", "--progress", "none");
    // What the folder form shows may be made from the data: `unpack` gives the data themselves.
    await gantry("unpack", loose, "-o", members);
    const archives = (await readdir(packed)).filter((each) => each.endsWith(".tar.zst"));
    expect(archives).toHaveLength(1);
    const untar = spawnSync("tar", ["-xf", join(packed, archives[0] ?? ""), "-C", out], { encoding: "utf8" });
    expect([untar.status, untar.stderr]).toEqual([0, ""]);
    const tree = await hashTree(out);
    expect(Object.keys(tree).length).toBeGreaterThan(1);
    expect(tree).toEqual(await hashTree(members));
    expect(await gantry("get", "-o", packed, "--progress", "none")).toMatch(/Everything was here/u);
    await gantry("verify", "--strict", packed);
  });
});
