import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { parseQuota, readQuota } from "./quota.ts";

const KIB = 1024;

describe("parseQuota", () => {
  it.each([
    ["nothing", "", []],
    [
      "quota -w -p, of which something is over its soft limit",
      "Disk quotas for user u (uid 1000): \n     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace\n" +
        "      /dev/sda1     1500*   1000    2000 1764403200      10       0       0       0\n",
      [{ bytes: 500 * KIB, inodes: null }],
    ],
    [
      "lfs quota -q, with a long name and numbers that are not exact",
      "/lustre/very/long/name\n                [1041408]  5242880 6291456       -     [40]       0      50       -\n",
      [{ bytes: (6291456 - 1041408) * KIB, inodes: 10 }],
    ],
    ["a soft limit alone", "/h 10 30 0 - 1 5 0 -", [{ bytes: 20 * KIB, inodes: 4 }]],
    ["more than the limit", "/h 40* 30 35 none 7* 5 6 none", [{ bytes: 0, inodes: 0 }]],
    [
      "no limits",
      "/h 40 0 0 - 7 0 0 -\nuid 5 is using default block quota setting\n",
      [{ bytes: null, inodes: null }],
    ],
  ])("%s", (_, text, left) => {
    expect(parseQuota(text)).toEqual(left);
  });
});

describe("readQuota", () => {
  const folders: string[] = [];
  afterEach(async () => {
    for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true });
  });

  /** Programs that say these things. */
  async function path(programs: Readonly<Record<string, string>>): Promise<{ PATH: string }> {
    const bin = await mkdtemp(join(tmpdir(), "gantry-quota-"));
    folders.push(bin);
    for (const [name, script] of Object.entries(programs)) {
      await writeFile(join(bin, name), `#!/bin/sh\n${script}\n`);
      await chmod(join(bin, name), 0o755);
    }
    return { PATH: `${bin}:/usr/bin:/bin` };
  }

  it("is the least that any of user, group and project leaves", async () => {
    const gid = process.getegid?.();
    const programs = await path({
      quota: `case "$*" in
        *-u*) echo "Disk quotas for user u (uid 0):"; echo "/dev/a 100 0 1100 0 5 0 0 0";;
        *) echo "Disk quotas for group other (gid 99999):"; echo "/dev/a 1 0 2 0 1 0 2 0"
           echo "Disk quotas for group mine (gid ${gid}):"; echo "/dev/a 100 0 2100 0 5 0 45 0"; exit 1;;
      esac`,
      lfs: `case "$*" in
        project*) echo "  77 P $3";;
        *"-p 77"*) echo "/l 0 0 500 - 0 0 60 -";;
        *) echo "not on a mounted Lustre filesystem" >&2; exit 22;;
      esac`,
    });
    expect(await readQuota(tmpdir(), programs)).toEqual({ bytes: 500 * KIB, inodes: 40 });
  });

  it("is unknown without these programs, and when they fail", async () => {
    expect(await readQuota(tmpdir(), { PATH: "/nonexistent:." })).toEqual({ bytes: null, inodes: null });
    const failing = await path({ quota: "exit 1", lfs: "exit 2" });
    expect(await readQuota(tmpdir(), failing)).toEqual({ bytes: null, inodes: null });
    expect(await readQuota("/no/such/folder", failing)).toEqual({ bytes: null, inodes: null });
  });
});
