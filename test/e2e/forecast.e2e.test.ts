/** What does not fit is refused before anything is fetched, with what would fit; `--dry-run` foretells. */
import { spawnSync } from "node:child_process";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { atEnd, freshDir, type Stage, startStage, temporaryDir } from "../support/gantry.ts";

let stage: Stage;
beforeAll(async () => {
  stage = await startStage();
});

/** An environment in which `quota` says that so much is used of so much: KiB, and files. */
async function withQuota(used: number, limit: number, files: number, fileLimit: number) {
  const bin = await temporaryDir();
  const row = `/dev/sda1 ${used} 0 ${limit} 0 ${files} 0 ${fileLimit} 0`;
  const script = `#!/bin/sh
case "$*" in *-u*) ;; *) exit 1;; esac
env | grep -q GANTRY && exit 1
echo "Disk quotas for user u (uid 0):"
echo "     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace"
echo "${row}"
`;
  await writeFile(join(bin, "quota"), script);
  await chmod(join(bin, "quota"), 0o755);
  return { PATH: `${bin}:${stage.environment.PATH}` };
}

interface PlanRow {
  readonly what: string;
  readonly files: number | null;
  readonly bytes: number | null;
}

describe("a forecast", { timeout: 60_000 }, () => {
  it("by quota: too few inodes are refused with the option that fits, and that option fits", async () => {
    const dir = await freshDir();
    const env = await withQuota(0, 0, 990, 1000);
    const words = ["get", "tcia:Phantom-CT", "-o", dir, "--progress", "none"];
    const dry = await stage.run([...words, "--dry-run", "--format", "json"], { env });
    expect(dry.stderr).toContain("the quota leaves 10 inodes");
    const rows = JSON.parse(dry.stdout) as PlanRow[];
    expect(rows.find(({ what }) => what === "left of the quota")).toMatchObject({ files: 10, bytes: null });
    expect(dry.stderr).toMatch(
      /Loose files take \d+ inodes and one for each folder, one archive file \(--pack\) takes 2;/u,
    );
    stage.control.clearRequests();
    const refused = await stage.run(words, { env });
    expect(refused.code).toBe(7);
    expect(refused.stderr).toMatch(/the quota leaves 10 inodes[\s\S]*pack it: --pack tar\.zst/u);
    expect(stage.requests("getImage").length + stage.requests("getImageWithMD5Hash").length).toBe(0);
    const packed = await stage.run([...words, "--pack", "tar.zst"], { env });
    expect(packed.code, packed.stderr).toBe(0);
  });

  it("by quota: too few bytes are refused, and what is here is packed first", async () => {
    const dir = await freshDir();
    const first = ["get", "tcia:Phantom-CT", "--limit", "3", "-o", dir, "--progress", "none"];
    expect((await stage.run(first)).code).toBe(0);
    const env = await withQuota(9_900, 10_000, 1, 0);
    const words = ["get", "tcia:Phantom-CT", "-o", dir, "--progress", "none"];
    const tight = await stage.run(words, { env });
    expect([tight.code, tight.stderr]).toEqual([7, expect.stringContaining("the quota leaves 102.4 kB")]);
    expect(tight.stderr).not.toContain("pack it");
    const some = await stage.run(words, { env: await withQuota(9_000, 10_000, 1, 0) });
    expect([some.code, some.stderr]).toEqual([
      7,
      expect.stringContaining(`pack it: gantry pack ${dir} --pack tar.zst`),
    ]);
  });

  it("tells the time at the rate of the folder's last runs, or what --bandwidth allows", async () => {
    const dir = await freshDir();
    const words = ["get", "tcia:Phantom-CT", "-o", dir, "--progress", "none"];
    const unknown = await stage.run([...words, "--dry-run"]);
    expect(unknown.stderr).toContain("known once something was fetched into this folder");
    const allowed = await stage.run([...words, "--dry-run", "--bandwidth", "10kB/s"]);
    expect(allowed.stderr).toMatch(/It takes about 4 min 42 s at 10\.0 kB\/s, which --bandwidth allows\./u);
    expect((await stage.run([...words, "--limit", "3"])).code).toBe(0);
    const measured = await stage.run([...words, "--dry-run"]);
    expect(measured.stderr).toMatch(
      /It takes about .+ at .+B\/s, as measured in the last runs of this folder\./u,
    );
  });

  const why = process.getuid?.() === 0 ? null : "needs root";
  it.skipIf(why !== null)(
    "a disk with few inodes is refused likewise, and leaves the folder undecided (needs root)",
    async () => {
      const disk = join(await temporaryDir(), "disk");
      await mkdir(disk);
      const mount = ["-t", "tmpfs", "-o", "size=40m,nr_inodes=60", "tmpfs", disk];
      if (spawnSync("mount", mount).status !== 0) throw new Error("no tmpfs could be mounted");
      atEnd(async () => void spawnSync("umount", [disk]));
      const dir = join(disk, "data");
      const words = ["get", "tcia:Phantom-CT", "-o", dir, "--progress", "none"];
      const refused = await stage.run(words);
      expect([refused.code, refused.stderr]).toEqual([7, expect.stringContaining("pack it: --pack tar.zst")]);
      const packed = await stage.run([...words, "--pack", "tar"]);
      expect(packed.code, packed.stderr).toBe(0);
      // Something is stored now: the form is fixed.
      const other = await stage.run([...words, "--pack", "tar.zst"]);
      expect(other.code).toBe(2);
    },
  );
});
