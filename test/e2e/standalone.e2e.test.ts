/**
 * Gantry on machines that have nothing: the standalone tarball in an empty root without network, as an environment
 * module, in a container. The npm tarball is judged in test/package.test.ts.
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { beforeAll, describe, expect, it, type TestContext } from "vitest";
import { ensureBuilt, has, root, temporaryDir } from "../support/gantry.ts";

const PATIENT = { timeout: 180_000 };
const isRoot = process.getuid?.() === 0;

function run(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
) {
  const env = options.env ?? process.env;
  return spawnSync(command, args, {
    ...options,
    env,
    encoding: "utf8",
    timeout: 150_000,
    maxBuffer: 64 << 20,
  });
}

/** The main job, in `sh`: find, download, prove. */
const MAIN_JOB = `gantry sandbox -- sh -c 'gantry find tcia:Phantom-CT --format json > "$0/rows" && gantry get tcia:Phantom-CT -o "$0/ct" && gantry verify "$0/ct"'`;

let release = "";
let tarball = "";
/** Why there is no tarball, for a reason outside of the project. */
let unbuilt: string | undefined;

beforeAll(async () => {
  ensureBuilt();
  release = await temporaryDir();
  const made = run(process.execPath, [join(root, "scripts/standalone.mjs"), "--built", release], {
    env: { ...process.env, NODE_OPTIONS: "" },
  });
  if (made.status === 0) tarball = made.stdout.trim();
  else if (/no Node to put inside/u.test(made.stderr)) unbuilt = made.stderr.trim().split("\n").at(-1);
  else throw new Error(made.stderr);
}, 300_000);

const needsTarball = (test: TestContext): void => test.skip(unbuilt !== undefined, unbuilt);
const unpacked = (): string => {
  const [name] = readdirSync(release).filter((each) => existsSync(join(release, each, "bin/gantry")));
  if (name !== undefined) return join(release, name);
  expect(run("tar", ["-xzf", tarball, "-C", release]).status).toBe(0);
  return unpacked();
};

/** A root with busybox and the libraries that a Node is linked to, and nothing else. */
async function emptyRoot(node: string): Promise<string> {
  const top = await temporaryDir();
  for (const folder of ["bin", "opt", "tmp", "data"]) mkdirSync(join(top, folder));
  const busybox = ["/bin/busybox", "/usr/bin/busybox"].find((path) => existsSync(path)) as string;
  copyFileSync(busybox, join(top, "bin/busybox"));
  for (const name of ["sh", "ip", "tar", "gzip", "sha256sum", "readlink", "ls", "ln", "mkdir", "env"])
    symlinkSync("busybox", join(top, "bin", name));
  for (const [library] of run("ldd", [node]).stdout.matchAll(/\/\S+/gu)) {
    mkdirSync(join(top, dirname(library)), { recursive: true });
    copyFileSync(library, join(top, library));
  }
  return top;
}

const canUnshare = isRoot && has("busybox") && has("unshare") && run("unshare", ["-n", "true"]).status === 0;

describe("the standalone tarball", () => {
  it("has the sum that lies beside it, and one folder of its own name", PATIENT, (test) => {
    needsTarball(test);
    expect(run("sha256sum", ["-c", `${tarball}.sha256`], { cwd: release }).stdout).toMatch(/: OK\n$/u);
    const names = run("tar", ["-tzf", tarball]).stdout.trim().split("\n");
    expect(new Set(names.map((name) => name.split("/")[0])).size).toBe(1);
    expect(
      names.filter((name) => /\.test\.|\.tgz$|\/src\//u.test(name) && !name.includes("node_modules/")),
    ).toEqual([]);
  });

  it.skipIf(!canUnshare)(
    "does the main job in an empty root without network (needs root, unshare, busybox)",
    PATIENT,
    async (test) => {
      needsTarball(test);
      const top = await emptyRoot(join(unpacked(), "lib/node/bin/node"));
      for (const file of readdirSync(release).filter((name) => name.includes(".tar.gz")))
        copyFileSync(join(release, file), join(top, "opt", file));
      const script = `export PATH=/bin HOME=/tmp NO_COLOR=1; ip link set lo up; cd /opt && sha256sum -c *.sha256 &&
        tar -xzf *.tar.gz && ln -s ../opt/gantry-*/bin/gantry /bin/gantry && ${MAIN_JOB.replaceAll("$0", "/data")}`;
      const ended = run("unshare", ["-n", "env", "-i", "/usr/sbin/chroot", top, "/bin/sh", "-c", script]);
      expect(ended.status, ended.stderr).toBe(0);
      const rows = JSON.parse(readFileSync(join(top, "data/rows"), "utf8")) as { ImageCount: number }[];
      const images = readdirSync(join(top, "data/ct"), { recursive: true, encoding: "utf8" });
      expect(rows.length).toBeGreaterThan(0);
      expect(images.filter((name) => name.endsWith(".dcm")).length).toBeGreaterThan(rows.length);
    },
  );

  it.skipIf(!has("modulecmd"))("is an environment module (needs modulecmd)", PATIENT, async (test) => {
    needsTarball(test);
    const folder = await temporaryDir();
    const elsewhere = join(folder, "software of the lab");
    mkdirSync(elsewhere);
    const top = unpacked();
    expect(run("cp", ["-r", top, elsewhere]).status).toBe(0);
    const there = join(elsewhere, top.slice(release.length + 1));
    const script = `eval "$(modulecmd bash load gantry)" && command -v gantry && gantry --version && eval "$(modulecmd bash unload gantry)" && ! command -v gantry`;
    const env = {
      PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
      MODULEPATH: join(there, "share/modulefiles"),
      HOME: folder,
    };
    const ended = run("bash", ["-c", script], { env });
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
    expect(ended.stderr).toBe("");
    expect(ended.stdout).toBe(`${join(there, "bin/gantry")}\n${version}\n`);
    expect(ended.status).toBe(0);
  });

  it.skipIf(!canUnshare || !has("buildah"))(
    "becomes a container by the Containerfile (needs root, unshare, busybox, buildah)",
    PATIENT,
    async (test) => {
      needsTarball(test);
      const store = await temporaryDir();
      const top = await emptyRoot(join(unpacked(), "lib/node/bin/node"));
      const context = await temporaryDir();
      mkdirSync(join(context, "release"));
      copyFileSync(tarball, join(context, "release", tarball.slice(release.length + 1)));
      copyFileSync(join(root, "Containerfile"), join(context, "Containerfile"));
      // The same build without and with network would look alike: here there is none.
      const script = `set -e; ip link set lo up
        b() { buildah --root "$S/root" --runroot "$S/run" --storage-driver vfs "$@"; }
        base=$(b from scratch); b copy -q "$base" "$BASE" / >/dev/null; b commit -q "$base" localhost/base >/dev/null
        b build -q --isolation chroot --pull=never --build-arg BASE=localhost/base -t localhost/gantry "$CONTEXT" >/dev/null
        b inspect --type image --format '{{.OCIv1.Config.Entrypoint}} {{.OCIv1.Config.WorkingDir}}' localhost/gantry
        made=$(b from --pull=never localhost/gantry)
        b run --isolation chroot "$made" -- /bin/env PATH=/usr/local/bin:/bin HOME=/tmp /bin/sh -c "$JOB"`;
      const env = {
        ...process.env,
        S: store,
        BASE: top,
        CONTEXT: context,
        JOB: MAIN_JOB.replaceAll("$0", "/data"),
      };
      const ended = run("unshare", ["-n", "sh", "-c", script], { env });
      expect(ended.status, ended.stderr).toBe(0);
      expect(ended.stdout).toContain("[/usr/local/bin/gantry] /data");
    },
  );
});
