/** Completion, judged by the shells: what each offers after the script is loaded. */
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { ensureBuilt, has, root, temporaryDir } from "../support/gantry.ts";

let dir = "";

beforeAll(async () => {
  ensureBuilt();
  dir = await temporaryDir();
  mkdirSync(join(dir, "lctsc-folder"));
  writeFileSync(join(dir, "cart.tcia"), "");
  const program = JSON.stringify(join(root, "bin/gantry.js"));
  writeFileSync(
    join(dir, "gantry"),
    `#!/bin/sh\nexec ${JSON.stringify(process.execPath)} ${program} "$@"\n`,
    { mode: 0o755 },
  );
});

function run(shell: string, args: readonly string[]): string {
  const env = { PATH: `${dir}:${process.env.PATH}`, HOME: dir, TERM: "dumb", XDG_CONFIG_HOME: dir };
  const ended = spawnSync(shell, args, { cwd: dir, env, encoding: "utf8", timeout: 30_000 });
  expect(ended.status, ended.stderr).toBe(0);
  return ended.stdout;
}

const LINES: readonly (readonly [line: string, offered: readonly string[], refused: string])[] = [
  ["gantry ver", ["verify"], "get"],
  ["gantry get --lay", ["--layout"], "--limit"],
  ["gantry get --progress p", ["plain"], "bar"],
  ["gantry ls tc", ["tcia:"], "nlst:"],
  ["gantry get cart", ["cart.tcia"], "tcia:"],
  ["gantry get tcia: -o lc", ["lctsc-folder"], "cart.tcia"],
  ["gantry help sto", ["stop"], "status"],
];

describe.skipIf(!has("bash"))("bash completes (needs bash)", () => {
  it.each(LINES)("%s", (line, offered, refused) => {
    const script = `source <(gantry completion bash); COMP_LINE=$1 COMP_POINT=\${#1}; _gantry; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const words = run("bash", ["-c", script, "bash", line])
      .split("\n")
      .map((word) => word.replace(/\/$/u, ""));
    expect(words).toEqual(expect.arrayContaining([...offered]));
    expect(words).not.toContain(refused);
  });
});

describe.skipIf(!has("fish"))("fish completes (needs fish)", () => {
  it.each(LINES)("%s", (line, offered, refused) => {
    const lines = run("fish", [
      "--no-config",
      "-c",
      `gantry completion fish | source; complete -C '${line}'`,
    ]);
    const words = lines.split("\n").map((text) => (text.split("\t")[0] ?? "").replace(/\/$/u, ""));
    expect(words).toEqual(expect.arrayContaining([...offered]));
    expect(words).not.toContain(refused);
  });
});

describe.skipIf(!has("zsh"))("zsh completes (needs zsh)", () => {
  // One word is left of each, so that Tab writes it out; the terminal of zpty shows it.
  it.each([
    ["gantry ver", "gantry verify "],
    ["gantry get --lay", "gantry get --layout "],
    ["gantry get --progress pl", "--progress plain "],
    ["gantry ls tc", "gantry ls tcia:"],
    ["gantry get tcia: -o lc", "-o lctsc-folder/"],
    ["gantry help sto", "gantry help stop "],
  ])("%s", (line, written) => {
    const script = `zmodload zsh/zpty; zpty z zsh -f -i
      zpty -w z 'PS1=; autoload -U compinit; compinit -u -d ./dump; source <(gantry completion zsh); print rea''dy'
      zpty -r z seen '*ready*' || exit 3
      zpty -w -n z "$1"$'\\t'
      zpty -r z seen "*\${(b)2}*" || exit 4
      print -r -- "$seen"; zpty -d z`;
    expect(run("zsh", ["-f", "-c", script, "zsh", line, written])).toContain(written);
  });
});
