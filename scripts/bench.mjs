// `npm run bench [-- ARGUMENTS]`: Node 20 cannot run TypeScript, so bench/ is compiled beside the program first.

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { cache, mustSetUp, root, say } from "./setup.mjs";

if (!existsSync(join(root, "bench/index.ts"))) {
  say("there is no bench/index.ts");
  process.exit(2);
}
await mustSetUp();
const run = (...args) => spawnSync(process.execPath, args, { cwd: root, stdio: "inherit" }).status ?? 1;
const compiled = run(join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.bench.json");
process.exitCode =
  compiled === 0 ? run(join(cache, "build/bench/index.js"), ...process.argv.slice(2)) : compiled;
