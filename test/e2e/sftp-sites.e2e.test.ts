/** Sites whose servers speak SFTP: OpenSSH's own, without ascp and with one that does not get through; the sandbox's, with one that does. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { mkdir, readFile, symlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import {
  ensureBuilt,
  freshDir,
  hashTree,
  listAll,
  listFiles,
  startStage,
  temporaryDir,
  until,
} from "../support/gantry.ts";
import { scriptedAscp } from "../support/scripted-ascp.ts";
import { canRunSshd, type Sshd, startSshd } from "../support/sshd.ts";

// Each of them starts the program several times.
vi.setConfig({ testTimeout: 120_000 });
await ensureBuilt();
const stage = await startStage();
beforeEach(() => stage.control.reset());

const MEBIBYTE = 1024 * 1024;
const big = Buffer.alloc(24 * MEBIBYTE);
for (let at = 0; at < big.length; at += 4) big.writeUInt32LE((at * 2_654_435_761) >>> 0, at);

/** A home in which no ascp is found. */
const bare = { ...stage.environment, GANTRY_ASCP: "" };

describe.skipIf(!canRunSshd)("a site of OpenSSH (needs sshd, root)", () => {
  let sshd: Sshd;
  beforeAll(async () => {
    sshd = await startSshd();
    const at = (path: string): string => join(sshd.folder, path);
    await mkdir(at("study/Größe 1/deep"), { recursive: true });
    await mkdir(at("study/empty"), { recursive: true });
    await writeFile(at("study/Größe 1/a b.txt"), "blank\n");
    await writeFile(at("study/Größe 1/two\nlines.txt"), "newline\n");
    await writeFile(at("study/Größe 1/deep/nothing"), "");
    await writeFile(at("study/big.bin"), big);
    await symlink("../big.bin", at("study/Größe 1/link.bin"));
    await symlink("..", at("study/Größe 1/loop"));
  });

  const run = (args: string[], env: Record<string, string> = {}) =>
    stage.run(args, { env: { ...bare, ASPERA_SCP_PASS: sshd.password, ...env } });
  const study = (): string => `${sshd.site}/study`;

  it("is listed completely, with sizes and times, and its key is kept and told once", async () => {
    const listed = await run(["ls", "-R", study(), "--format", "json"]);
    expect(listed.stderr).toMatch(/met for the first time: its key SHA256:/u);
    expect(listed.stderr).toMatch(/leads back to a folder/u);
    const rows = JSON.parse(listed.stdout) as { Path: string; Bytes: number; Changed: string }[];
    expect(rows.map(({ Path, Bytes }) => `${Path} ${Bytes}`).sort()).toEqual(
      [
        "study/Größe 1/a b.txt 6",
        "study/Größe 1/deep/nothing 0",
        `study/Größe 1/link.bin ${big.length}`,
        "study/Größe 1/two\nlines.txt 8",
        `study/big.bin ${big.length}`,
      ].sort(),
    );
    const again = await run(["ls", "-l", study()]);
    expect(again).toMatchObject({ code: 0, stderr: expect.not.stringContaining("first time") });
    expect(again.stdout).toMatch(/empty\tfolder/u);
    // OpenSSH reads what was kept.
    const kept = join(stage.home, "known_hosts");
    const found = execFileSync("ssh-keygen", ["-F", `[127.0.0.1]:${sshd.port}`, "-f", kept]);
    expect(String(found)).toContain("found");
  });

  it("is got without ascp, told to be the slower way, and is as the server has it", async () => {
    const dir = await freshDir();
    const got = await run(["get", study(), "-o", dir]);
    expect(got).toMatchObject({ code: 0 });
    expect(got.stderr).toContain("come by SFTP, which is the slower way");
    execFileSync("cmp", [join(sshd.folder, "study/big.bin"), join(dir, "study/big.bin")]);
    expect(await listFiles(dir)).toEqual([
      "study/Größe 1/a b.txt",
      "study/Größe 1/deep/nothing",
      "study/Größe 1/link.bin",
      "study/Größe 1/two%0Alines.txt",
      "study/big.bin",
    ]);
    expect(await run(["verify", dir])).toMatchObject({ code: 0 });
    // What did not change is not fetched again, what did is.
    await utimes(join(sshd.folder, "study/Größe 1/a b.txt"), 1_600_000_000, 1_600_000_000);
    const second = await run(["get", "-o", dir, "--json"]);
    const stored = second.stdout.split("\n").filter((line) => line.includes('"item-stored"'));
    expect(stored).toEqual([expect.stringContaining("a b.txt")]);
  });

  it("opens to a key, takes user@host:dir, a dry run knows sizes, and filters work", async () => {
    const key = ["--key", sshd.key];
    const dir = await freshDir();
    const dry = await run(["get", study(), "-o", dir, "--dry-run", ...key], { ASPERA_SCP_PASS: "" });
    expect(dry.stdout).toContain(String(2 * big.length + 14));
    const got = await run(["get", study(), "-o", dir, "--include", "**/*.txt", ...key], {
      ASPERA_SCP_PASS: "",
    });
    expect(got).toMatchObject({ code: 0 });
    expect(await listFiles(dir)).toEqual(["study/Größe 1/a b.txt", "study/Größe 1/two%0Alines.txt"]);
  });

  it.each([
    ["a wrong password", { ASPERA_SCP_PASS: "wrong" }, [], 4, "refuses the login"],
    ["no login", { ASPERA_SCP_PASS: "" }, [], 4, "ASPERA_SCP_PASS"],
    ["insistence on ascp", {}, ["--transport", "ascp"], 2, "gantry ascp install"],
  ])("with %s ends with one sentence", async (_, env, more, code, words) => {
    const result = await run(
      ["get", study(), "-o", await freshDir(), ...more],
      env as Record<string, string>,
    );
    expect(result).toMatchObject({ code, stderr: expect.stringContaining(words) });
  });

  it("is got by SFTP when ascp does not get through, but not when ascp is insisted on", async () => {
    const folder = await temporaryDir();
    const ascp = await scriptedAscp(folder);
    const description = "Client unable to connect to server (check UDP port and firewall)";
    await ascp.script([{ frame: { Type: "ERROR", Code: 14, Description: description } }, { exit: 1 }]);
    const dir = await freshDir();
    const env = { GANTRY_ASCP: ascp.program };
    const got = await run(["get", study(), "-o", dir, "--retries", "0"], env);
    expect(got).toMatchObject({ code: 0, stderr: expect.stringContaining("ascp does not get through") });
    expect(await listFiles(dir)).toHaveLength(5);
    for (const { argv } of await ascp.calls()) expect(argv.join(" ")).not.toContain(sshd.password);
    const insists = ["--transport", "ascp", "--retries", "0"];
    const refused = await run(["get", study(), "-o", await freshDir(), ...insists], env);
    expect(refused).toMatchObject({ code: 5, stderr: expect.stringContaining("UDP") });
  });

  it("outlives cuts and a kill, and leaves the same tree", async () => {
    const plain = await freshDir();
    await run(["get", study(), "-o", plain]);
    const dir = await freshDir();
    const slow = ["get", study(), "-o", dir, "--bandwidth", "24MB/s", "--jobs", "2"];
    const env = { ...bare, ASPERA_SCP_PASS: sshd.password };
    const resumable = join(dir, ".gantry", "partial", "resumable");
    const grown = (bytes: number) => () =>
      existsSync(resumable) &&
      readdirSync(resumable, { encoding: "utf8", recursive: true }).some(
        (name) => name.endsWith(".part") && statSync(join(resumable, name)).size > bytes,
      );
    const first = stage.start(slow, { env });
    await until("a part has come", grown(4 * MEBIBYTE));
    sshd.cut();
    await until("more has come", grown(17 * MEBIBYTE));
    first.kill("SIGKILL");
    await first.ended;
    expect(await run(["get", "-o", dir])).toMatchObject({ code: 0 });
    expect(await hashTree(dir)).toEqual(await hashTree(plain));
    expect((await listAll(dir)).filter((path) => path.startsWith(".gantry/partial"))).toEqual([]);
  });

  it("is refused with another key than the known one, until that is taken away", async () => {
    await run(["ls", study()]);
    await sshd.changeHostKey();
    const refused = await run(["get", study(), "-o", await freshDir()]);
    expect(refused.code).toBe(4);
    expect(refused.stderr).toMatch(/shows another key than the known one[^\n]*\n[^\n]*ssh-keygen -R/u);
    const remove = /ssh-keygen -R '([^']+)' -f '([^']+)'/u.exec(refused.stderr);
    execFileSync("ssh-keygen", ["-R", remove?.[1] ?? "", "-f", remove?.[2] ?? ""], { stdio: "ignore" });
    expect(await run(["ls", study()])).toMatchObject({ code: 0 });
  });
});

describe.skipIf(!canRunSshd)("a server without SFTP (needs sshd, root)", () => {
  it("can't be listed, and a path of it is one item of ascp", async () => {
    const sshd = await startSshd({ sftp: false });
    const env = { ...bare, ASPERA_SCP_PASS: sshd.password };
    const listed = await stage.run(["ls", sshd.site], { env });
    expect(listed).toMatchObject({ code: 2, stderr: expect.stringContaining("can't be listed") });
    const insists = await stage.run(["get", sshd.site, "-o", "x", "--transport", "sftp"], { env });
    expect(insists).toMatchObject({ code: 2, stderr: expect.stringContaining("speaks no SFTP") });
  });
});

describe("the sandbox's site, by ascp and by SFTP", () => {
  const PACKAGE = "Phantom_tumor_ROIs_v1";
  const env = { ASPERA_SCP_PASS: "demo" };
  const address = async (): Promise<string> =>
    `${(await stage.sandbox.links())["sftp-site"] ?? ""}${PACKAGE}`;

  it("gives the same tree by either way, files as items", async () => {
    const [fast, slow] = [await freshDir(), await freshDir()];
    const got = await stage.run(["get", await address(), "-o", fast], { env });
    expect(got).toMatchObject({ code: 0, stderr: expect.stringContaining("count, size, ascp") });
    const files = await listFiles(fast);
    expect(files.length).toBeGreaterThan(3);
    // One session brought them all.
    expect(stage.requests("receive")).toHaveLength(1);
    const insists = ["--transport", "sftp"];
    expect(await stage.run(["get", await address(), "-o", slow, ...insists], { env })).toMatchObject({
      code: 0,
    });
    expect(stage.requests("receive")).toHaveLength(1);
    expect(await hashTree(slow)).toEqual(await hashTree(fast));
    // Which way it came makes no difference for what is here.
    await stage.run(["get", "-o", fast, ...insists], { env });
    await stage.run(["get", "-o", slow], { env });
    expect(stage.requests("receive")).toHaveLength(1);
  });

  it("comes by SFTP where a variable names an ascp that is none, which is said", async () => {
    const named = { ...env, GANTRY_ASCP: "/nonexistent" };
    const args = ["get", `${await address()}/README.txt`, "-o", await freshDir()];
    const got = await stage.run(args, { env: named });
    expect(got).toMatchObject({ code: 0, stderr: expect.stringContaining("GANTRY_ASCP names /nonexistent") });
    expect(await stage.run([...args, "--transport", "ascp"], { env: named })).toMatchObject({ code: 2 });
  });

  it("is listed to an end where a link leads back", async () => {
    const site = (await stage.sandbox.links())["sftp-site"] ?? "";
    const listed = await stage.run(["ls", "-R", `${site}Phantom oddities/loop`, "--format", "json"], { env });
    expect(listed).toMatchObject({ code: 0, stderr: expect.stringContaining("leads back to a folder") });
    expect(JSON.parse(listed.stdout)).toMatchObject([{ Path: "Phantom oddities/loop/inside.txt" }]);
  });

  it("goes on by SFTP where it was cut, and receives little twice", async () => {
    const dataDir = await temporaryDir();
    await mkdir(join(dataDir, "Large"));
    await writeFile(join(dataDir, "Large", "image.tif"), big.subarray(0, 3 * MEBIBYTE));
    const large = await startStage({ dataDir });
    large.control.setFaults([{ kind: "cut", route: "/sftp/**/image.tif", fraction: 0.6, count: 1 }]);
    const dir = await freshDir();
    const site = (await large.sandbox.links())["sftp-site"] ?? "";
    const args = ["get", `${site}Large`, "-o", dir, "--transport", "sftp"];
    expect(await large.run(args, { env })).toMatchObject({ code: 0 });
    const reads = large.requests("image.tif");
    expect(reads).toHaveLength(2);
    expect(reads.at(1)?.bytesSent).toBeLessThan(2 * MEBIBYTE);
    execFileSync("cmp", [join(dataDir, "Large", "image.tif"), join(dir, "Large", "image.tif")]);
    expect(await readFile(join(dir, ".gantry", "listing.tsv"), "utf8")).toContain(String(3 * MEBIBYTE));
  });
});
