import { execFileSync } from "node:child_process";
import { chmod, mkdir, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { temporaryDir } from "../../../test/support/gantry.ts";
import { hastyContext } from "../../../test/support/pipeline.ts";
import { zipStream } from "../../lib/zip-writer.ts";
import { describeAscp, isAtLeast } from "./describe-ascp.ts";
import { findAscp, installFolder, readFileWord } from "./find-ascp.ts";
import { chooseSdk, installAscp } from "./install-ascp.ts";

const program = (version: string, exit = 0): string =>
  `#!/bin/sh\necho 'Some product'\necho 'ascp version ${version} abc'\nexit ${exit}\n`;

describe("an install", () => {
  let base: string;
  let environment: Record<string, string>;

  beforeEach(async () => {
    base = await temporaryDir();
    environment = { HOME: base, PATH: "" };
  });

  const install = (sdk: string) =>
    installAscp({
      environment,
      http: () => {
        throw new Error("nothing is asked");
      },
      context: hastyContext(),
      sdk,
    });
  /** An archive with these files below a top folder; `dots`: names begin with `./`. */
  const pack = async (files: Record<string, string>, options: { dots?: boolean; more?: string[] } = {}) => {
    const folder = join(base, `sdk-${Math.random()}`);
    for (const [name, text] of Object.entries(files)) {
      await mkdir(join(folder, name, ".."), { recursive: true });
      await writeFile(join(folder, name), text);
    }
    const path = `${folder}.tar.gz`;
    const what = options.dots ? ["."] : await readdir(folder);
    execFileSync("tar", ["-C", folder, "-czf", path, ...(options.more ?? []), ...what]);
    return path;
  };
  const sdk = (version: string) => ({
    "sdk/bin/ascp": program(version),
    "sdk/etc/aspera-license": "L",
    "sdk/lib/libx.so.1": "x",
    "sdk/api/transferd.proto": "not needed",
  });

  it.each([false, true])("puts the program where it is found, names with ./ in front: %s", async (dots) => {
    const archive = await pack(sdk("4.4.7.1"), { dots });
    const installed = await install(archive);
    expect(installed).toMatchObject({ product: "Some product", version: "4.4.7.1", instead: null });
    expect(installed.sha256).toMatch(/^[0-9a-f]{64}$/u);
    expect(await findAscp(environment)).toEqual({ path: installed.path, from: "gantry ascp install" });
    expect(await describeAscp(environment)).toMatchObject({
      version: "4.4.7.1",
      licence: join(installFolder(environment), "etc", "aspera-license"),
      key: null,
    });
    expect(await readdir(installFolder(environment))).toEqual(["bin", "etc", "lib"]);
    const again = await install(await pack(sdk("4.4.8")));
    expect(again).toMatchObject({ version: "4.4.8", instead: "4.4.7.1" });
    expect(await readdir(join(installFolder(environment), ".."))).toEqual(["aspera-sdk"]);
  });

  it("takes a zip, too", async () => {
    const path = join(base, "sdk.zip");
    const parts: Uint8Array[] = [];
    const entries = Object.entries(sdk("4.4.6")).map(([name, text]) => ({ name, body: Buffer.from(text) }));
    for await (const part of zipStream(entries, { store: true })) parts.push(part);
    await writeFile(path, Buffer.concat(parts));
    expect(await install(path)).toMatchObject({ version: "4.4.6" });
  });

  const broken: [string, () => Promise<string>, string][] = [
    ["no file", async () => join(base, "none.tar.gz"), "usage"],
    ["another kind of file", async () => join(base, "sdk.rpm"), "usage"],
    [
      "no gzip",
      async () => {
        await writeFile(join(base, "x.tar.gz"), "hello");
        return join(base, "x.tar.gz");
      },
      "proof-format",
    ],
    [
      "a cut one",
      async () => {
        const path = await pack(sdk("5"));
        execFileSync("truncate", ["-s", "-200", path]);
        return path;
      },
      "proof-format",
    ],
    ["no ascp in it", () => pack({ "sdk/etc/aspera-license": "L" }), "proof-format"],
    ["an ascp that does not run", () => pack({ "sdk/bin/ascp": program("5", 1) }), "usage"],
    [
      "a name that leads out",
      () => pack(sdk("5"), { more: ["--transform", "s,sdk/lib,sdk/lib/../../../evil,", "-P"] }),
      "proof-format",
    ],
    [
      "an absolute name",
      () => pack(sdk("5"), { more: ["--transform", "s,^sdk/lib,/tmp/evil,", "-P"] }),
      "proof-format",
    ],
    [
      "a name twice",
      () =>
        pack({ ...sdk("5"), "sdk/lib/other": "y" }, { more: ["--transform", "s,lib/other,lib/libx.so.1,"] }),
      "proof-format",
    ],
    [
      "a link that leads out",
      async () => {
        const folder = join(base, "links");
        await mkdir(join(folder, "sdk", "lib"), { recursive: true });
        await symlink("../../../etc", join(folder, "sdk", "lib", "x"));
        execFileSync("tar", ["-C", folder, "-czf", `${folder}.tar.gz`, "sdk"]);
        return `${folder}.tar.gz`;
      },
      "proof-format",
    ],
  ];
  it.each(broken)("of %s fails and leaves the old one working", async (_, make, code) => {
    await install(await pack(sdk("4.4.7")));
    await expect(install(await make())).rejects.toMatchObject({ code });
    expect(await describeAscp(environment)).toMatchObject({ version: "4.4.7" });
    expect(await readdir(join(installFolder(environment), ".."))).toEqual(["aspera-sdk"]);
  });
});

describe("the ascp that is used", () => {
  it("is the named one, else that of a product, else that in PATH, and never one of the working folder", async () => {
    const base = await temporaryDir();
    const place = async (folder: string, version: string): Promise<string> => {
      await mkdir(folder, { recursive: true });
      await writeFile(join(folder, "ascp"), program(version));
      await chmod(join(folder, "ascp"), 0o755);
      return join(folder, "ascp");
    };
    const inPath = await place(join(base, "path"), "1");
    const environment = { HOME: base, PATH: `.::relative:${join(base, "path")}` };
    expect(await findAscp(environment)).toEqual({ path: inPath, from: "PATH" });
    const connect = await place(join(base, ".aspera", "connect", "bin"), "2");
    expect(await findAscp(environment)).toMatchObject({ path: connect, from: "Aspera Connect" });
    const own = await place(join(base, "own"), "3");
    expect(await findAscp({ ...environment, GANTRY_ASCP: own })).toMatchObject({
      path: own,
      from: "GANTRY_ASCP",
    });
    expect(await findAscp({ ...environment, GANTRY_ASCP: "x" }, join(base, "own"))).toMatchObject({
      path: own,
    });
    await expect(findAscp({ ...environment, GANTRY_ASCP: join(base, "none") })).rejects.toMatchObject({
      code: "usage",
    });
    await rm(connect);
    expect(await findAscp({ ...environment, PATH: "." })).toBeNull();
  });

  it("may be named as ascli names files", () => {
    expect(readFileWord("file:///a/b")).toBe(join(process.cwd(), "a/b"));
    expect(readFileWord("file:////a/b")).toBe("/a/b");
    expect(readFileWord("/a/b")).toBe("/a/b");
    expect(readFileWord("a")).toBe(join(process.cwd(), "a"));
    expect(readFileWord("https://x/y")).toBeNull();
  });

  it("is compared by numbers", () => {
    expect(isAtLeast("3.9.6", "3.9.6")).toBe(true);
    expect(isAtLeast("3.10", "3.9.6")).toBe(true);
    expect(isAtLeast("3.9.5.99", "3.9.6")).toBe(false);
  });
});

describe("IBM's index", () => {
  const index = `---
- url: https://example.com/linux-1.1.9.tar.gz
  version: 1.1.9
  os: linux
  arch: x86_64
  platform: linux-x86_64
  comment: "an: odd # comment"
- url: https://example.com/linux-1.1.10.tar.gz
  version: '1.1.10'
  platform: linux-x86_64
- platform: osx-universal
  url: https://example.com/mac.zip
  version: 1.0.0
- url: http://example.com/plain.tar.gz
  version: 9.0.0
  platform: linux-x86_64
`;
  it("gives the newest for a system", () => {
    expect(chooseSdk(index, "linux", "x64")).toBe("https://example.com/linux-1.1.10.tar.gz");
    expect(chooseSdk(index, "darwin", "arm64")).toBe("https://example.com/mac.zip");
    expect(() => chooseSdk(index, "linux", "mips")).toThrow(expect.objectContaining({ code: "usage" }));
  });
});
