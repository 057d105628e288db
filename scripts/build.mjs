// src/ to dist/: TypeScript through tsc, every other file that the program reads at run time as it is.

import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync } from "node:fs";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

function copyAssets(from, to) {
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    if (entry.isDirectory()) {
      if (!["fixtures", "__snapshots__"].includes(entry.name))
        copyAssets(join(from, entry.name), join(to, entry.name));
    } else if (![".ts", ".md"].includes(extname(entry.name))) {
      mkdirSync(to, { recursive: true });
      copyFileSync(join(from, entry.name), join(to, entry.name));
    }
  }
}

copyAssets(join(root, "src"), join(root, "dist"));
const tsc = spawnSync(
  process.execPath,
  [join(root, "node_modules/typescript/bin/tsc"), "-p", join(root, "tsconfig.build.json")],
  { stdio: "inherit" },
);
process.exit(tsc.status ?? 1);
