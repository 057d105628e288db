import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { buildScript, type JobFacts } from "./script.ts";

const facts: JobFacts = {
  title: "tcia:LCTSC into lctsc",
  version: "1.2.3",
  name: "gantry-lctsc",
  cwd: "/data/it's mine",
  dir: "/data/it's mine/lctsc",
  program: ["/usr/bin/node", "/opt/gantry/bin/gantry.js"],
  plan: ["slurm", "plan", "tcia:LCTSC", "-o", "lctsc", "--tasks", "8"],
  task: ["--jobs", "2", "--bandwidth", "1000B/s"],
  finish: ["--jobs", "2", "--prune"],
  atOnce: 4,
  environment: { GANTRY_CONFIG: "/home/me/config $HOME.toml" },
  sbatch: ["--partition=long", "--time=12:00:00"],
};

describe("the script of a job array", () => {
  it("is this one", () => {
    expect(buildScript(facts)).toMatchSnapshot();
  });

  it("is right for bash, whatever names hold", () => {
    const hostile = "a'b\"c$(touch x)`y`\n;z";
    for (const script of [
      buildScript(facts),
      buildScript({
        ...facts,
        title: hostile,
        cwd: hostile,
        dir: hostile,
        plan: [hostile],
        environment: { A: hostile },
      }),
    ]) {
      const checked = spawnSync("bash", ["-n"], { input: script, encoding: "utf8" });
      expect(checked.stderr).toBe("");
      expect(checked.status).toBe(0);
    }
    const told = spawnSync(
      "bash",
      [
        "-c",
        `${buildScript({ ...facts, cwd: "/", dir: hostile })
          .split("\n")
          .filter((line) => line.startsWith("dir=") || line.includes("touch x") || line.startsWith(";z"))
          .join("\n")}\nprintf %s "$dir"`,
      ],
      {
        encoding: "utf8",
      },
    );
    expect(told.stdout).toBe(hostile);
  });

  it("leaves the output to who names it", () => {
    expect(buildScript(facts)).toContain("--output=");
    expect(buildScript({ ...facts, sbatch: ["--output=mine.log"] }).match(/--output=/gu)).toHaveLength(1);
  });
});
