/** Large files by SFTP: packed beside small ones, gone on with after a kill and after a silence of the server. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import {
  ensureBuilt,
  freshDir,
  has,
  hashTree,
  listAll,
  type Stage,
  startStage,
  temporaryDir,
  until,
} from "../support/gantry.ts";

vi.setConfig({ testTimeout: 120_000 });
await ensureBuilt();

const MEBIBYTE = 1024 * 1024;
const SIZE = 24 * MEBIBYTE;
/** Of the first try the server sends so much and then is silent: more than is synced by then. */
const SILENT_FROM = 0.8;

let dataDir: string;
let stage: Stage;
let site: string;
beforeAll(async () => {
  dataDir = await temporaryDir();
  const study = join(dataDir, "study");
  await mkdir(join(study, "small"), { recursive: true });
  const big = Buffer.alloc(SIZE);
  for (let at = 0; at < SIZE; at += 4) big.writeUInt32LE((at * 2_654_435_761) >>> 0, at);
  await writeFile(join(study, "image.tif"), big);
  for (let at = 0; at < 20; at += 1)
    await writeFile(join(study, "small", `${at}.bin`), big.subarray(at * 1000, at * 60_000));
  stage = await startStage({ dataDir });
  site = (await stage.sandbox.links())["sftp-site"] ?? "";
});
beforeEach(() => stage.control.reset());

const env = { ASPERA_SCP_PASS: "demo" };
const get = (dir: string, more: readonly string[] = []): string[] => [
  ...["get", `${site}study`, "-o", dir, "--transport", "sftp", ...more],
];
const falterOnce = (): void =>
  stage.control.setFaults([{ kind: "stall", route: "/sftp/**/image.tif", fraction: SILENT_FROM, count: 1 }]);
/** What the server sent of the large file, try by try. */
const sent = (): number[] => stage.requests("image.tif").map(({ bytesSent }) => bytesSent);

/** How much of the large file is surely on the disk, as the part's own note says. */
async function syncedBytes(dir: string): Promise<number> {
  const resumable = join(dir, ".gantry", "partial", "resumable");
  if (!existsSync(resumable)) return 0;
  const names = readdirSync(resumable, { encoding: "utf8", recursive: true });
  const note = names.find((name) => name.endsWith(".json"));
  if (note === undefined) return 0;
  return (JSON.parse(await readFile(join(resumable, note), "utf8")) as { syncedBytes: number }).syncedBytes;
}

async function expectWhole(dir: string, packed: boolean): Promise<void> {
  let tree = dir;
  if (packed) {
    tree = await temporaryDir();
    const [archive] = readdirSync(dir).filter((name) => name.endsWith(".tar.zst"));
    execFileSync("tar", ["-xf", join(dir, archive ?? "none"), "-C", tree]);
  }
  expect(await hashTree(join(tree, "study"))).toEqual(await hashTree(join(dataDir, "study")));
}

describe.each([
  ["in a folder", []],
  ["packed", ["--pack", "tar.zst"]],
])("a large file by SFTP, %s", (_, how) => {
  const packed = how.length > 0;

  it.skipIf(packed && !(has("zstd") && has("tar")))("comes as it is, small ones beside it", async () => {
    const dir = await freshDir();
    expect(await stage.run(get(dir, how), { env })).toMatchObject({ code: 0 });
    await expectWhole(dir, packed);
    expect(sent()).toEqual([SIZE]);
    expect((await listAll(dir)).filter((path) => path.startsWith(".gantry/partial"))).toEqual([]);
  });

  it.skipIf(packed && !(has("zstd") && has("tar")))(
    "is asked for, after a kill, from where it was surely on the disk",
    async () => {
      const dir = await freshDir();
      falterOnce();
      const first = stage.start(get(dir, how), { env });
      await until("the part is noted", async () => (await syncedBytes(dir)) > 0);
      first.kill("SIGKILL");
      await first.ended;
      const synced = await syncedBytes(dir);
      expect(synced).toBeGreaterThanOrEqual(16 * MEBIBYTE);
      expect(await stage.run(get(dir, how), { env })).toMatchObject({ code: 0 });
      expect(sent()).toHaveLength(2);
      expect(sent()[1]).toBe(SIZE - synced);
      await expectWhole(dir, packed);
    },
  );

  it.skipIf(packed && !(has("zstd") && has("tar")))(
    "is asked for again when the server falls silent in it, from where it was",
    async () => {
      const dir = await freshDir();
      falterOnce();
      const got = await stage.run(get(dir, [...how, "--stall-timeout", "3", "--json"]), { env });
      expect(got).toMatchObject({ code: 0 });
      expect(got.stdout).toMatch(/"item-retry"[^\n]*"archive-stalled"/u);
      expect(sent()).toHaveLength(2);
      expect(sent()[1]).toBeLessThanOrEqual(SIZE * (1 - SILENT_FROM) + MEBIBYTE);
      await expectWhole(dir, packed);
    },
  );
});
