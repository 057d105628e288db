// What the tarball takes from node_modules is made fit for machines without compiler and network: no package of it has
// anything to build when it is installed. ssh2 would try to compile two addons, which it works without (its README,
// "Installation"). Runs before `npm pack`; `npm ci` undoes it.

import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./setup.mjs";

for (const name of ["cpu-features", "buildcheck", "nan"])
  rmSync(join(root, "node_modules", name), { recursive: true, force: true });

const path = join(root, "node_modules", "ssh2", "package.json");
if (existsSync(path)) {
  const { scripts: _, optionalDependencies: __, ...rest } = JSON.parse(readFileSync(path, "utf8"));
  writeFileSync(path, `${JSON.stringify(rest, null, 2)}\n`);
  rmSync(join(root, "node_modules", "ssh2", "lib", "protocol", "crypto", "build"), {
    recursive: true,
    force: true,
  });
}
