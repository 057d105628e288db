// The self-contained tarball: Gantry, its packages and a Node, for machines without Node, npm or network.
// `npm run standalone [-- FOLDER]` leaves gantry-<version>-linux-<arch>.tar.gz and its SHA-256 in `release/`.
//
//   gantry-<version>-linux-<arch>/bin/gantry            a launcher; may be linked to from anywhere
//                                 lib/gantry, lib/node
//                                 share/modulefiles     for environment modules and Lmod
//                                 share/completions     for bash, zsh and fish

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { cache, mustSetUp, node24, root, say } from "./setup.mjs";

const LAUNCHER = `#!/bin/sh
# Starts Gantry with the Node beside it, wherever this folder lies and whatever links to this file.
self=$0
while [ -h "$self" ]; do
  link=$(readlink "$self")
  case $link in /*) self=$link ;; *) self=\${self%/*}/$link ;; esac
done
here=$(CDPATH= cd -- "\${self%/*}" && pwd -P) || exit 1
exec "$here/../lib/node/bin/node" "$here/../lib/gantry/bin/gantry.js" "$@"
`;

const moduleFile = (version) => `#%Module1.0
# Gantry ${version}, for environment modules and Lmod. Add the folder share/modulefiles to MODULEPATH, or copy this
# file to where your modules are and set the root by hand.
set root [file normalize [file join [file dirname [file normalize $ModulesCurrentModulefile]] .. .. ..]]
module-whatis "Gets research imaging data from the archives that hold it, and proves every file"
proc ModulesHelp { } {
  puts stderr "Gantry ${version}. Begin with: gantry --help"
}
conflict gantry
prepend-path PATH [file join $root bin]
`;

function mustRun(command, args, options = {}) {
  const ended = spawnSync(command, args, { encoding: "utf8", maxBuffer: 64 << 20, ...options });
  if (ended.status === 0) return ended.stdout;
  say(`${ended.stderr ?? ""}${ended.error?.message ?? ""}\n${command} failed`);
  process.exit(1);
}

// Tests use what is built already, while others run it.
const built = process.argv.includes("--built");
if (!built) await mustSetUp();
const found = await node24();
if (found.node === undefined) {
  say(`no Node to put inside: ${found.reason}`);
  process.exit(1);
}
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const name = `gantry-${version}-${process.platform}-${process.arch}`;
const out = resolve(process.argv.slice(2).find((word) => word !== "--built") ?? join(root, "release"));
mkdirSync(out, { recursive: true });
mkdirSync(cache, { recursive: true });
const work = mkdtempSync(join(cache, "standalone-"));
try {
  const top = join(work, name);
  const lib = join(top, "lib");
  mkdirSync(join(lib, "node", "bin"), { recursive: true });
  mkdirSync(join(top, "bin"));

  // What npm would publish, its packages included (`bundleDependencies`).
  mustRun(process.execPath, [join(root, "scripts", "bundle.mjs")]);
  mustRun("npm", ["pack", "--ignore-scripts", "--silent", "--pack-destination", work], { cwd: root });
  const [packed] = readdirSync(work).filter((file) => file.endsWith(".tgz"));
  mustRun("tar", ["-xzf", join(work, packed), "-C", lib]);
  renameSync(join(lib, "package"), join(lib, "gantry"));

  cpSync(found.node, join(lib, "node", "bin", "node"));
  cpSync(join(dirname(found.node), "..", "LICENSE"), join(lib, "node", "LICENSE"));
  writeFileSync(join(top, "bin", "gantry"), LAUNCHER, { mode: 0o755 });
  cpSync(join(root, "LICENSE"), join(top, "LICENSE"));
  cpSync(join(root, "README.md"), join(top, "README.md"));

  const modules = join(top, "share", "modulefiles", "gantry");
  mkdirSync(modules, { recursive: true });
  writeFileSync(join(modules, version), moduleFile(version));
  const completions = join(top, "share", "completions");
  mkdirSync(completions, { recursive: true });
  const empty = { GANTRY_CONFIG: "", HOME: work, PATH: process.env.PATH };
  for (const [shell, file] of [
    ["bash", "gantry.bash"],
    ["zsh", "_gantry"],
    ["fish", "gantry.fish"],
  ])
    writeFileSync(
      join(completions, file),
      mustRun(join(top, "bin", "gantry"), ["completion", shell], { env: empty }),
    );

  const tarball = join(out, `${name}.tar.gz`);
  // Same input, same bytes: sorted, owned by root, dated by the last commit where there is one.
  const date =
    spawnSync("git", ["log", "-1", "--format=%ct"], { cwd: root, encoding: "utf8" }).stdout?.trim() || "0";
  const same = [
    "--sort=name",
    "--owner=0",
    "--group=0",
    "--numeric-owner",
    `--mtime=@${date}`,
    "--mode=u+w,go+rX,go-w",
  ];
  mustRun("tar", [...same, "-I", "gzip -n", "-cf", `${tarball}.part`, "-C", work, name]);
  renameSync(`${tarball}.part`, tarball);
  const digest = createHash("sha256").update(readFileSync(tarball)).digest("hex");
  writeFileSync(`${tarball}.sha256`, `${digest}  ${basename(tarball)}\n`);
  process.stdout.write(`${tarball}\n`);
} finally {
  rmSync(work, { recursive: true, force: true });
}
