/** The legacy BIDS validator (npm `bids-validator`), as the set-up of the tests installs it. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { root } from "./built.ts";

const program = join(root, ".cache/bids-validator/package/bin/bids-validator");

/** Whether it is there; installed when it is not yet, and the registry answers. */
export function hasBidsValidator(): boolean {
  if (!existsSync(program)) {
    const install = "import('./scripts/setup.mjs').then((setup) => setup.bidsValidator())";
    spawnSync(process.execPath, ["-e", install], { cwd: root, stdio: "ignore" });
  }
  return existsSync(program);
}

export interface Verdict {
  /** `KEY path`, sorted; each once. */
  readonly errors: readonly string[];
  readonly warnings: readonly string[];
}

interface Issue {
  readonly key: string;
  readonly files: readonly { readonly file: { readonly relativePath: string } | null }[];
}

export function validateBids(dir: string): Verdict {
  const { stdout } = spawnSync(process.execPath, [program, "--json", dir], {
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
  });
  const { issues } = JSON.parse(stdout) as { issues: { errors: Issue[]; warnings: Issue[] } };
  const named = (list: readonly Issue[]): string[] => [
    ...new Set(
      list.flatMap(({ key, files }) => files.map(({ file }) => `${key} ${file?.relativePath ?? ""}`.trim())),
    ),
  ];
  return { errors: named(issues.errors).sort(), warnings: named(issues.warnings).sort() };
}
