/** Plain ascp sites, with the sandbox's stand-in of ascp: proof, resume, kills, secrets. */
import { execFileSync } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { beforeEach, describe, expect, it } from "vitest";
import {
  ensureBuilt,
  freshDir,
  hashTree,
  listAll,
  listFiles,
  startStage,
  temporaryDir,
} from "../support/gantry.ts";

await ensureBuilt();
const stage = await startStage();
const { site = "", "key-site": keySite = "" } = await stage.sandbox.links();
const PASSWORD = { ASPERA_SCP_PASS: "demo" };
const PACKAGE = "Phantom_tumor_ROIs_v1";
const FOLDER = `${site}${PACKAGE}/Phantom_HER2_cohort`;
beforeEach(() => stage.control.reset());

const get = (address: string, dir: string, env: Record<string, string> = PASSWORD, more: string[] = []) =>
  stage.run(["get", address, "-o", dir, "--retries", "2", ...more], { env });

/** The same in this process. */
const getHere = (dir: string) =>
  stage.get([FOLDER], { dir }, { environment: { ...stage.environment, ...PASSWORD }, retries: 0 });

/** Processes whose command line or environment names this folder: ascp and its guards. */
function processesOf(word: string): number[] {
  const found: number[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/u.test(name)) continue;
    try {
      const command = readFileSync(`/proc/${name}/cmdline`, "utf8");
      const state = readFileSync(`/proc/${name}/stat`, "utf8");
      if (command.includes(word) && !/\) Z /u.test(state)) found.push(Number(name));
    } catch {
      // It has gone meanwhile.
    }
  }
  return found;
}

let plain: ReturnType<typeof hashTree> | null = null;
/** What a get without any trouble leaves. */
const plainTree = (): ReturnType<typeof hashTree> => {
  plain ??= freshDir().then(async (dir) => {
    await getHere(dir);
    return hashTree(dir);
  });
  return plain;
};

const until = async (what: () => boolean): Promise<void> => {
  while (!what()) await pause(20);
};

describe("get of an ascp site", () => {
  it("stores a path proved by count and size, and fetches nothing twice", async () => {
    const dir = await freshDir();
    const first = await get(FOLDER, dir);
    expect(first).toMatchObject({ code: 0 });
    expect(first.stderr).toContain("count, size, ascp");
    const files = await listFiles(dir);
    expect(files).toEqual(expect.arrayContaining([expect.stringMatching(/^Phantom_HER2_cohort\/SVS\//u)]));
    expect(await readFile(join(dir, ".gantry", "listing.tsv"), "utf8")).toContain("Phantom_HER2_cohort/SVS/");
    const sessions = stage.requests("receive").length;
    expect(await stage.run(["get", "-o", dir], { env: PASSWORD })).toMatchObject({ code: 0 });
    expect(stage.requests("receive")).toHaveLength(sessions);
    expect(await stage.run(["verify", dir])).toMatchObject({ code: 0 });
  });

  it("takes user@host:dir, a file by its name, a key, and hands on what it is told of ascp", async () => {
    const dir = await freshDir();
    const port = new URL(site.replace("aspera:", "http:")).port;
    const key = join(await temporaryDir(), "key");
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    await writeFile(key, privateKey.export({ type: "pkcs1", format: "pem" }), { mode: 0o600 });
    const flags = [
      "--key",
      key,
      "--policy",
      "low",
      "--bandwidth",
      "800Mbps",
      "--ascp-opt=-T",
      "--resume-level",
      "2",
    ];
    expect(await get(`${keySite}${PACKAGE}/README.txt`, dir, {}, flags)).toMatchObject({ code: 0 });
    expect(await listFiles(dir)).toEqual(["README.txt"]);
    const argv = JSON.stringify(stage.control.requests().at(-1));
    for (const word of ["--policy=low", "-T", key]) expect(argv).toContain(word);
    // Without a port the address means that of Aspera servers.
    const other = await get("demo@127.0.0.1:x", await freshDir(), PASSWORD, ["--retries", "0"]);
    expect(other.code).toBe(5);
    expect(other.stderr).toMatch(/127\.0\.0\.1/u);
    expect(port).not.toBe("33001");
  });

  it("decrypts with the passphrase, and says that it is missing or wrong", async () => {
    const dir = await freshDir();
    const passphrase = { ...PASSWORD, ASPERA_SCP_FILEPASS: "demo at rest" };
    expect(await get(`${site}encrypted`, dir, passphrase)).toMatchObject({ code: 0 });
    const names = await listFiles(dir);
    expect(names.filter((name) => name.endsWith(".aspera-env"))).toEqual([]);
    expect(names).toContain("encrypted/README.txt");
    // A rerun without it must not put encrypted files in their place.
    const forgotten = await stage.run(["get", "-o", dir], { env: PASSWORD });
    expect(forgotten).toMatchObject({
      code: 4,
      stderr: expect.stringContaining("what is here was decrypted"),
    });
    expect(await stage.run(["get", "-o", dir], { env: passphrase })).toMatchObject({ code: 0 });
    expect(await listFiles(dir)).toEqual(names);
    const missing = await get(`${site}encrypted`, await freshDir(), PASSWORD, ["--decrypt"]);
    expect(missing).toMatchObject({ code: 4 });
    expect(missing.stderr).toContain("ASPERA_SCP_FILEPASS");
    const wrong = await get(`${site}encrypted`, await freshDir(), {
      ...passphrase,
      ASPERA_SCP_FILEPASS: "not this",
    });
    expect(wrong.code).toBe(4);
  });

  it.each([
    ["no login at all", { ASPERA_SCP_PASS: "" }, "README.txt", 4, "ASPERA_SCP_PASS"],
    ["a wrong password", { ASPERA_SCP_PASS: "wrong" }, "README.txt", 4, "refuses the login"],
    ["a path that is not there", PASSWORD, "nothing-here", 4, "no such file"],
  ])("with %s ends with one sentence", async (_, env, path, code, words) => {
    const result = await get(`${site}${path}`, await freshDir(), env as Record<string, string>);
    expect(result.code).toBe(code);
    expect(result.stderr).toContain(words);
  });

  it.each([
    [{ kind: "ascp-late-exit" }],
    [{ kind: "ascp-no-final-frame" }],
    [{ kind: "ascp-exit" }],
    [{ kind: "ascp-error", code: 40, afterBytes: 60_000 }],
    [{ kind: "ascp-killed", afterBytes: 60_000 }],
    [{ kind: "ascp-short" }],
    [{ kind: "ascp-file-error", code: 36 }],
  ] as const)(
    "is not content with %j, and whole at the next try",
    async (fault) => {
      const dir = await freshDir();
      stage.control.setFaults([fault as never]);
      const failed = await getHere(dir);
      expect(failed.summary.exit).toBeGreaterThanOrEqual(3);
      expect(await listFiles(dir)).toEqual([]);
      stage.control.reset();
      expect((await getHere(dir)).summary.exit).toBe(0);
      expect(await hashTree(dir)).toEqual(await plainTree());
    },
    120_000,
  );

  it("reads frames however they are cut, ends a hang, and answers no prompt", async () => {
    stage.control.setFaults([{ kind: "ascp-odd-frames" } as never]);
    expect(await get(FOLDER, await freshDir())).toMatchObject({ code: 0 });
    stage.control.reset();
    stage.control.setFaults([{ kind: "ascp-hang", afterBytes: 30_000, count: 1 } as never]);
    const hung = await get(FOLDER, await freshDir(), PASSWORD, ["--stall-timeout", "3"]);
    expect(hung).toMatchObject({ code: 0 });
    expect(hung.stderr).toContain("got no further");
    stage.control.reset();
    stage.control.setFaults([{ kind: "ascp-prompt" } as never]);
    expect((await get(FOLDER, await freshDir())).code).toBe(4);
  }, 120_000);

  it("outlives a kill of gantry without an orphan, shows no secret, and goes on where it stopped", async () => {
    const dir = await freshDir();
    stage.control.setFaults([{ kind: "ascp-hang", afterBytes: 150_000 } as never]);
    const secrets = { ASPERA_SCP_PASS: "demo", ASPERA_SCP_FILEPASS: "passphrase-for-proc" };
    const running = stage.start(["get", FOLDER, "-o", dir], { env: secrets });
    const resumable = join(dir, ".gantry", "partial", "resumable");
    await until(
      () =>
        existsSync(resumable) &&
        readdirSync(resumable, { recursive: true }).some((name) => String(name).endsWith(".svs")),
    );
    const ours = processesOf(dir);
    expect(ours.length).toBeGreaterThan(1);
    for (const pid of ours)
      expect(readFileSync(`/proc/${pid}/cmdline`, "utf8")).not.toContain("passphrase-for-proc");
    running.kill("SIGKILL");
    await running.ended;
    await until(() => processesOf(dir).length === 0);
    stage.control.reset();
    const before = stage.requests("receive").length;
    expect(await get(FOLDER, dir)).toMatchObject({ code: 0 });
    expect(stage.requests("receive").length).toBe(before + 1);
    expect(await hashTree(dir)).toEqual(await plainTree());
    expect(await listAll(resumable)).toEqual([]);
  }, 120_000);

  it("refuses what a site can't do, by name", async () => {
    await mkdir(await freshDir(), { recursive: true });
    expect(await stage.run(["ls", site], { env: PASSWORD })).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("can't be listed"),
    });
    const opt = await stage.run(["get", FOLDER, "-o", "x", "--ascp-opt=-W"]);
    expect(opt).toMatchObject({ code: 2, stderr: expect.stringContaining("--ascp-opt") });
  });
});

describe("put to an ascp site", () => {
  it("sends files and folders with a list of sums that other programs read", async () => {
    const base = await temporaryDir();
    await mkdir(join(base, "things", "sub"), { recursive: true });
    await writeFile(join(base, "things", "sub", "b c.bin"), Buffer.alloc(200_000, 7));
    await writeFile(join(base, "one.csv"), "x\n");
    const place = `${site}in/box`;
    const options = { env: PASSWORD, cwd: base };
    const dry = await stage.run(["put", "one.csv", "things", place, "--dry-run"], options);
    expect(dry).toMatchObject({ code: 0, stdout: expect.stringContaining("things/sub/b c.bin") });
    expect(stage.requests("send")).toHaveLength(0);
    expect(await stage.run(["put", "one.csv", "things", place], options)).toMatchObject({ code: 0 });
    const back = await freshDir();
    expect(await get(place, back)).toMatchObject({ code: 0 });
    const box = join(back, "box");
    execFileSync("sha256sum", ["-c", "--strict", "one.csv.sha256"], { cwd: box });
    expect(await listFiles(box)).toEqual(["one.csv", "one.csv.sha256", "things/sub/b c.bin"]);
    // The session says that it is done, and is not.
    stage.control.setFaults([{ kind: "ascp-late-exit" } as never]);
    expect((await stage.run(["put", "one.csv", place, "--retries", "0"], options)).code).toBe(5);
  }, 120_000);

  it.each([
    [["nothing-here"], PASSWORD, 2],
    [["."], { ASPERA_SCP_PASS: "" }, 4],
  ])("refuses %j", async (files, env, code) => {
    const base = await temporaryDir();
    await writeFile(join(base, "a"), "a");
    const result = await stage.run(["put", ...files, `${site}in`], {
      env: env as Record<string, string>,
      cwd: base,
    });
    expect(result.code).toBe(code);
  });
});
