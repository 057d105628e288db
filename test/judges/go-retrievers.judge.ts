/**
 * The Go command lines of ygidtu (ygidtu/NBIA_data_retriever_CLI) and of its descendant by GrigoryEvko, led to the
 * sandbox by their own URL flags: v2 with a token, JSON metadata, one series a request.
 */
import { spawnSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { SandboxSeries } from "../../src/sandbox/data/dataset.ts";
import { listFiles, temporaryDir } from "../support/gantry.ts";
import {
  type Archive,
  DATA_SETS,
  dicomDigests,
  imageDigests,
  openArchive,
  publicSeries,
  requestCounts,
  uidsOf,
  writeManifest,
} from "./archive.ts";
import { type Ended, lack, program, runClient } from "./clients.ts";

const ygidtu = program("ygidtu");
const grigoryEvko = program("GrigoryEvko");
const hasUnzip = spawnSync("unzip", ["-v"]).status === 0;

/** The flags that both have. */
function urls(archive: Archive, image: string): string[] {
  const base = `${archive.stage.sandbox.url}/nbia-api`;
  return [
    ...["--token-url", `${base}/oauth/token`],
    ...["--meta-url", `${base}/services/v2/getSeriesMetaData`],
    ...["--image-url", `${base}/services/v2/${image}`],
  ];
}

const restrictedOf = ({ data }: Archive): readonly SandboxSeries[] =>
  [...data.series()].filter(({ access }) => access === "restricted");

const LOGIN = ["-u", "demo", "--passwd", "demo"];

describe.skipIf(ygidtu === null || !hasUnzip)(`ygidtu${lack(ygidtu, "ygidtu")}`, () => {
  async function run(archive: Archive, uids: readonly string[], folder: string, ...more: string[]) {
    const cart = await writeManifest(folder, "cart.tcia", archive.stage.sandbox.url, uids);
    archive.stage.control.clearRequests();
    const out = join(folder, "out");
    const args = ["-i", cart, "-s", out, "-p", "4", ...urls(archive, "getImage"), ...more];
    const ended: Ended = await runClient(ygidtu ?? "", args, { cwd: folder });
    return { ...ended, out };
  }

  /** It keeps the zips; `unzip` judges and opens them. */
  async function unpacked(out: string): Promise<string> {
    const dir = await temporaryDir();
    for (const path of (await listFiles(out)).filter((name) => name.endsWith(".zip"))) {
      const target = join(dir, basename(path, ".zip"));
      const opened = spawnSync("unzip", ["-qq", join(out, path), "-d", target], { encoding: "utf8" });
      expect(opened.status, opened.stderr).toBe(0);
    }
    return dir;
  }

  describe.each(DATA_SETS)("$name", ({ open }) => {
    let archive: Archive;
    beforeAll(async () => {
      archive = await openArchive(open);
    });

    it("logs in as the guest, by query and with an empty body, and gets a zip and a JSON file a series", async () => {
      const series = publicSeries(archive);
      const { code, out, said } = await run(archive, uidsOf(series), await temporaryDir());
      expect(code, said).toBe(0);
      expect(said).not.toMatch(/WARN|ERROR/u);
      expect(requestCounts(archive)).toEqual({
        "POST oauth/token 200": 1,
        "GET v2/getSeriesMetaData 200": series.length,
        "GET v2/getImage 200": series.length,
      });
      const [login] = archive.stage.control.requests();
      expect(login?.query).toMatchObject({ username: "nbia_guest", grant_type: "password" });
      expect(await dicomDigests(await unpacked(out))).toEqual(await imageDigests(series));
      const described = (await listFiles(out)).filter((path) => path.endsWith(".json"));
      expect(described).toHaveLength(series.length + 1);
    });
  });

  it("gets with a login what is restricted, and passes over what its JSON file says is there", async () => {
    const archive = await openArchive(DATA_SETS[0]!.open);
    const series = restrictedOf(archive);
    const folder = await temporaryDir();
    const { out } = await run(archive, uidsOf(series), folder, ...LOGIN);
    expect(await dicomDigests(await unpacked(out))).toEqual(await imageDigests(series));
    const again = await run(archive, uidsOf(series), folder, ...LOGIN);
    expect(again.said.match(/Skip /gu)).toHaveLength(series.length);
    // The token of the first run is kept beside the data, with everybody's permissions.
    expect(requestCounts(archive)).toEqual({ "GET v2/getSeriesMetaData 200": series.length });
  });

  it("leaves out a series that is not for it, with exit 0", async () => {
    const archive = await openArchive(DATA_SETS[0]!.open);
    const open = publicSeries(archive).slice(0, 2);
    const uids = [...uidsOf(restrictedOf(archive)), ...uidsOf(open)];
    const { code, out } = await run(archive, uids, await temporaryDir());
    expect(code).toBe(0);
    expect(await dicomDigests(await unpacked(out))).toEqual(await imageDigests(open));
  });
});

describe.skipIf(grigoryEvko === null)(`GrigoryEvko${lack(grigoryEvko, "GrigoryEvko")}`, () => {
  async function run(archive: Archive, uids: readonly string[], folder: string, ...more: string[]) {
    const cart = await writeManifest(folder, "cart.tcia", archive.stage.sandbox.url, uids);
    archive.stage.control.clearRequests();
    const out = join(folder, "out");
    const image = more.includes("--no-md5") ? "getImage" : "getImageWithMD5Hash";
    const args = ["-i", cart, "-o", out, "-p", "8", ...urls(archive, image), ...more];
    const ended: Ended = await runClient(grigoryEvko ?? "", args, { cwd: folder });
    return { ...ended, out };
  }

  describe.each(DATA_SETS)("$name", ({ open }) => {
    let archive: Archive;
    beforeAll(async () => {
      archive = await openArchive(open);
    });

    it("gets every series, proves sums and sizes, and fetches nothing twice", async () => {
      const series = publicSeries(archive);
      const folder = await temporaryDir();
      const { code, out, said } = await run(archive, uidsOf(series), folder);
      expect(code, said).toBe(0);
      expect(said).toContain(`Downloaded: ${series.length}\n`);
      expect(said).toContain("Failed: 0\n");
      expect(requestCounts(archive)).toEqual({
        "POST oauth/token 200": 1,
        "GET v2/getSeriesMetaData 200": series.length,
        "GET v2/getImageWithMD5Hash 200": series.length,
      });
      expect(await dicomDigests(out)).toEqual(await imageDigests(series));
      const folders = (await listFiles(out))
        .filter((path) => path.endsWith(".dcm"))
        .map((path) => basename(dirname(path)));
      expect([...new Set(folders)].sort()).toEqual(uidsOf(series).sort());
      const again = await run(archive, uidsOf(series), folder);
      expect(again.said).toContain(`Skipped: ${series.length}\n`);
      // It fails to save its token (Dump without a path), so each run logs in.
      expect(requestCounts(archive)).toEqual({ "POST oauth/token 200": 1 });
    });
  });

  it("keeps zips on demand, gets metadata alone, and logs in", async () => {
    const archive = await openArchive(DATA_SETS[0]!.open);
    const series = restrictedOf(archive);
    const folder = await temporaryDir();
    const meta = await run(archive, uidsOf(series), folder, "--meta", ...LOGIN);
    expect(meta.code, meta.said).toBe(0);
    expect(requestCounts(archive)).toEqual({
      "POST oauth/token 200": 1,
      "GET v2/getSeriesMetaData 200": series.length,
    });
    const zips = await run(archive, uidsOf(series), folder, "--no-md5", "--no-decompress", ...LOGIN);
    const kept = (await listFiles(zips.out)).filter((path) => path.endsWith(".zip"));
    expect(kept.map((path) => basename(path, ".zip")).sort()).toEqual(uidsOf(series).sort());
  });

  it("renews its token when it has run out", async () => {
    const archive = await openArchive(DATA_SETS[0]!.open);
    const series = restrictedOf(archive);
    const folder = await temporaryDir();
    archive.stage.control.tokens({ ttlSeconds: 1 });
    const { out } = await run(archive, uidsOf(series), folder, "-p", "1", ...LOGIN);
    expect(await dicomDigests(out)).toEqual(await imageDigests(series));
    expect(requestCounts(archive)["POST oauth/token 200"]).toBeGreaterThan(1);
  });

  it("takes a broken manifest line for a UID and says that it failed", async () => {
    const archive = await openArchive(DATA_SETS[0]!.open);
    const folder = await temporaryDir();
    await writeFile(join(folder, "note.txt"), "");
    const { said, out } = await run(archive, ["hello", ...uidsOf(publicSeries(archive).slice(0, 1))], folder);
    expect(said).toContain("Successfully fetched metadata for 1 files");
    expect(await dicomDigests(out)).toEqual(await imageDigests(publicSeries(archive).slice(0, 1)));
  });
});
