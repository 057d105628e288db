#!/usr/bin/env node
// The door: what must hold before any of our code is loaded. `--version` is answered here, because loading the
// program costs more than starting Node.

import { existsSync, readFileSync } from "node:fs";

const argv = process.argv.slice(2);
const [major, minor] = process.versions.node.split(".").map(Number);

if (major < 20 || (major === 20 && minor < 19)) {
  process.stderr.write(`gantry needs Node 20.19 or newer, and this is Node ${process.versions.node}\n`);
  process.exitCode = 2;
} else if (argv.length === 1 && (argv[0] === "--version" || argv[0] === "-V")) {
  const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  process.stdout.write(`${version}\n`);
} else {
  const main = new URL("../dist/cli/main.js", import.meta.url);
  if (existsSync(main)) {
    const program = await import(main.href);
    // Rows come and go by the million and few are kept: left alone, V8 lets the garbage grow to 150 MB before it
    // looks. From here on the young generation stays as large as loading the program made it, and the old one at
    // about twice what is in use (peaks: test/soak/memory.soak.ts). V8 reads both at each collection
    // (src/heap/heap.cc, src/heap/new-spaces.cc), so that they may be set now.
    const { setFlagsFromString } = await import("node:v8");
    setFlagsFromString("--semi-space-growth-factor=1");
    setFlagsFromString("--heap-growing-percent=100");
    process.exitCode = await program.main(argv);
  } else {
    process.stderr.write("gantry is not built yet: run npm run build\n");
    process.exitCode = 2;
  }
}
