/** `npm run bench`: the figures of docs/performance.md. */
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { parseArgs } from "node:util";
import { benchDownload } from "./download.ts";
import { benchPack, benchPackLink, benchPackTiny, benchPackXz } from "./pack.ts";
import { benchReadOne } from "./read-one.ts";
import { benchStartUp } from "./start-up.ts";
import { workloadOf } from "./workloads.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    only: { type: "string" },
    dir: { type: "string", default: tmpdir() },
  },
});

type Bench = (options: { readonly dir: string; readonly rounds: number }) => void | Promise<void>;
const benches: Readonly<Record<string, Bench>> = {
  "start-up": benchStartUp,
  "many-small": (options) => benchDownload(workloadOf("many-small"), options),
  "few-large": (options) => benchDownload(workloadOf("few-large"), options),
  "pack-link": benchPackLink,
  pack: benchPack,
  "pack-xz": benchPackXz,
  "pack-tiny": benchPackTiny,
  "read-one": benchReadOne,
};

const folders = (process.env.PATH ?? "").split(delimiter);
const names = Object.keys(benches);
const wanted = values.only?.split(",") ?? names;
const rounds = Number(values.rounds);
const needed = ["bash", "curl", "unzip", "md5sum", "xargs", "awk", "sync", "tar", "zstd", "xz"];
if (wanted.some((name) => ["many-small", "few-large"].includes(name))) needed.push("aria2c");
const missing = needed.filter((program) => !folders.some((folder) => existsSync(join(folder, program))));
if (!existsSync("/usr/bin/time")) missing.push("/usr/bin/time");

if (missing.length > 0) {
  process.stderr.write(`the bench needs ${missing.join(", ")}\n`);
  process.exitCode = 2;
} else if (!Number.isInteger(rounds) || rounds < 1 || !wanted.every((name) => names.includes(name))) {
  process.stderr.write(`npm run bench -- [--rounds N] [--only ${names.join("|")}] [--dir DIR]\n`);
  process.exitCode = 2;
} else {
  const [cpu] = cpus();
  process.stdout.write(`${cpus().length} × ${cpu?.model.trim()}, Node ${process.versions.node}\n`);
  for (const name of wanted) {
    const dir = await mkdtemp(join(values.dir, "gantry-bench-"));
    try {
      await benches[name]?.({ dir, rounds });
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  }
}
