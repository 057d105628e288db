/** What a user gets from the packed program: it must run without any file of the repository. */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

interface Ended {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

function run(command: string, args: readonly string[], options: { cwd: string; env?: NodeJS.ProcessEnv }) {
  return new Promise<Ended>((resolve) => {
    const settings = { ...options, timeout: 120_000, maxBuffer: 64 << 20 };
    execFile(command, args, settings, (error, stdout, stderr) => {
      const status = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
      resolve({ status, stdout, stderr });
    });
  });
}

describe("the package-lock", () => {
  it("names every platform's build of a package, so that npm ci accepts it everywhere", () => {
    interface Locked {
      readonly optionalDependencies?: Record<string, string>;
    }
    const { packages } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
      packages: Record<string, Locked>;
    };
    const lost = Object.values(packages)
      .flatMap(({ optionalDependencies }) => Object.keys(optionalDependencies ?? {}))
      .filter((name) => packages[`node_modules/${name}`] === undefined);
    expect(lost).toEqual([]);
  });
});

describe("the packed program", () => {
  let work: string;
  beforeAll(async () => {
    work = mkdtempSync(join(tmpdir(), "gantry-package-"));
    for (const folder of ["home", "prefix", "empty"]) mkdirSync(join(work, folder));
    const bundled = await run(process.execPath, ["scripts/bundle.mjs"], { cwd: root });
    expect(bundled.status, bundled.stderr).toBe(0);
    const packed = await run("npm", ["pack", "--ignore-scripts", "--pack-destination", work], { cwd: root });
    expect(packed.status, packed.stderr).toBe(0);
    const [tarball] = readdirSync(work).filter((name) => name.endsWith(".tgz"));
    // Its packages are inside (`bundleDependencies`): neither a registry nor a cache is asked.
    const args = [
      "i",
      "--offline",
      "--cache",
      join(work, "cache"),
      "--prefix",
      join(work, "prefix"),
      "--no-audit",
    ];
    const installed = await run("npm", [...args, "--no-fund", join(work, tarball!)], {
      cwd: join(work, "empty"),
    });
    expect(installed.status, installed.stderr).toBe(0);
  }, 240_000);

  afterAll(() => rmSync(work, { recursive: true, force: true }));

  const gantry = (...args: string[]): Promise<Ended> =>
    run(join(work, "prefix/node_modules/.bin/gantry"), args, {
      cwd: join(work, "empty"),
      env: { PATH: process.env.PATH, HOME: join(work, "home"), NO_COLOR: "1" },
    });

  it("answers --version", async () => {
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
    expect(await gantry("--version")).toEqual({ status: 0, stdout: `${version}\n`, stderr: "" });
  });

  it("answers --help", async () => {
    const { status, stdout } = await gantry("--help");
    expect(status).toBe(0);
    expect(stdout).toContain("get");
  });

  it("gives its library to an import by name, with types", async () => {
    const script = 'import("gantry").then((library) => console.log(Object.keys(library).sort().join(" ")))';
    const answer = await run(process.execPath, ["-e", script], { cwd: join(work, "prefix") });
    expect(answer.status, answer.stderr).toBe(0);
    expect(answer.stdout.split(/\s/)).toContain("RunError");
    expect(existsSync(join(work, "prefix/node_modules/gantry/dist/index.d.ts"))).toBe(true);
  });

  it("carries neither tests nor anything else that a user does not need", async () => {
    const files = readdirSync(join(work, "prefix/node_modules/gantry"), {
      recursive: true,
      encoding: "utf8",
    });
    const own = files.filter((name) => !name.startsWith("node_modules/"));
    expect(own.filter((name) => /\.test\.|\.ts$(?<!\.d\.ts)|fixtures|^src\b|^\.cache/.test(name))).toEqual(
      [],
    );
  });

  it("has nothing to build or run when it is installed", () => {
    const modules = join(work, "prefix/node_modules/gantry/node_modules");
    const files = readdirSync(modules, { recursive: true, encoding: "utf8" });
    const scripts = files
      .filter((name) => /^(@[^/]+\/)?[^/]+\/package\.json$/u.test(name))
      .flatMap((name) => {
        const { scripts: of = {} } = JSON.parse(readFileSync(join(modules, name), "utf8"));
        return ["preinstall", "install", "postinstall"]
          .filter((word) => word in of)
          .map((word) => `${name} ${word}`);
      });
    expect(scripts).toEqual([]);
    expect(files.filter((name) => /^(@[^/]+\/)?[^/]+\/binding\.gyp$/u.test(name))).toEqual([]);
    expect(files).toContain("ssh2/package.json");
  });

  it("downloads from the sandbox, proves it, and has nothing to do the second time", async () => {
    const out = join(work, "data");
    const script = `gantry ls tcia: --format json > "$1/ls.json" && name=$(node -e '
      console.log(JSON.parse(require("fs").readFileSync(process.argv[1], "utf8"))[0].address)' "$1/ls.json") &&
      gantry get "$name" -o "$2" --limit 1 && gantry verify "$2" && cp -r "$2" "$2.first" && gantry get "$name" -o "$2" --limit 1`;
    const bin = join(work, "prefix/node_modules/.bin");
    const answer = await run(
      join(bin, "gantry"),
      ["sandbox", "--", "bash", "-c", script, "bash", work, out],
      {
        cwd: join(work, "empty"),
        env: { PATH: `${bin}:${process.env.PATH}`, HOME: join(work, "home"), NO_COLOR: "1" },
      },
    );
    expect(answer.status, answer.stderr).toBe(0);
    const data = (folder: string): string[] =>
      readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".dcm"));
    expect(data(out).length).toBeGreaterThan(0);
    expect(data(out).sort()).toEqual(data(`${out}.first`).sort());
  }, 120_000);
});
