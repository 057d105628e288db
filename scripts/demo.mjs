// `npm run demo`: set up a fresh clone, then the guided first run against the sandbox.

import { spawn } from "node:child_process";
import { constants } from "node:os";
import { join } from "node:path";
import { mustSetUp, root } from "./setup.mjs";

await mustSetUp();
const child = spawn(process.execPath, [join(root, "bin/gantry.js"), "demo", ...process.argv.slice(2)], {
  stdio: "inherit",
});
// Ctrl-C reaches the demo itself through the terminal: it decides when to end, and we with it.
process.on("SIGINT", () => {});
process.on("SIGTERM", () => child.kill("SIGTERM"));
child.on("close", (code, signal) => {
  process.exitCode = code ?? 128 + (constants.signals[signal] ?? 0);
});
