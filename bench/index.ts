/** `npm run bench`: the figures of docs/performance.md. */
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { parseArgs } from "node:util";
import { benchDownload } from "./download.ts";
import { benchStartUp } from "./start-up.ts";
import { WORKLOADS } from "./workloads.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    only: { type: "string" },
    dir: { type: "string", default: tmpdir() },
  },
});

const needed = ["bash", "curl", "aria2c", "unzip", "md5sum", "xargs", "awk", "sync"];
const folders = (process.env.PATH ?? "").split(delimiter);
const missing = needed.filter((program) => !folders.some((folder) => existsSync(join(folder, program))));
if (!existsSync("/usr/bin/time")) missing.push("/usr/bin/time");
const names = ["start-up", ...WORKLOADS.map(({ name }) => name)];
const rounds = Number(values.rounds);

if (missing.length > 0) {
  process.stderr.write(`the bench needs ${missing.join(", ")}\n`);
  process.exitCode = 2;
} else if (
  !Number.isInteger(rounds) ||
  rounds < 1 ||
  (values.only !== undefined && !names.includes(values.only))
) {
  process.stderr.write(`npm run bench -- [--rounds N] [--only ${names.join("|")}] [--dir DIR]\n`);
  process.exitCode = 2;
} else {
  const wanted = (name: string): boolean => values.only === undefined || values.only === name;
  const [cpu] = cpus();
  process.stdout.write(`${cpus().length} × ${cpu?.model.trim()}, Node ${process.versions.node}\n`);
  if (wanted("start-up")) benchStartUp();
  const dir = await mkdtemp(join(values.dir, "gantry-bench-"));
  try {
    for (const workload of WORKLOADS) {
      if (wanted(workload.name)) await benchDownload(workload, { dir, rounds });
    }
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
