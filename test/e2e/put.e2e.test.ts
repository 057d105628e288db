/** Uploads: to an ascp site and through a package's upload link; what arrived is judged by sha256sum and tar. */
import { execFileSync } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { ensureBuilt, freshDir, has, listFiles, startStage, temporaryDir, until } from "../support/gantry.ts";
import { argumentsOf, processesNaming } from "../support/processes.ts";

// Each of them starts the program several times.
vi.setConfig({ testTimeout: 120_000 });
await ensureBuilt();
const stage = await startStage();
const links = await stage.sandbox.links();
const site = links.site ?? "";
const ENV = { ASPERA_SCP_PASS: "demo" };
const FILES = {
  "scans/a b.bin": Buffer.alloc(300_000, 7),
  "scans/Größe/x.txt": Buffer.from("x\n"),
  "scans/empty": Buffer.alloc(0),
  "one.csv": Buffer.from("1,2\n"),
};
let base: string;
beforeAll(async () => {
  base = await temporaryDir();
  for (const [name, bytes] of Object.entries(FILES)) {
    await mkdir(join(base, name, ".."), { recursive: true });
    await writeFile(join(base, name), bytes);
  }
});
beforeEach(() => stage.control.reset());

const put = (address: string, more: string[] = [], env: Record<string, string> = ENV) =>
  stage.run(["put", "scans", "one.csv", address, ...more], { env, cwd: base });
const get = async (address: string, env: Record<string, string> = ENV): Promise<string> => {
  const dir = await freshDir();
  expect(await stage.run(["get", address, "-o", dir], { env })).toMatchObject({ code: 0 });
  return dir;
};
const check = (cwd: string, list: string): void => {
  execFileSync("sha256sum", ["-c", "--strict", list], { cwd, stdio: "ignore" });
};
const sent = () =>
  stage.control.requests().filter(({ path, method }) => method === "POST" && path.endsWith("/packages"));

describe("through an upload link", () => {
  it("is a package with title and note, whose state is told until it is complete", async () => {
    const words = ["--title", "Scans of 2026", "--note", "two\nlines"];
    const done = await put(links.upload ?? "", words);
    expect(done).toMatchObject({ code: 0 });
    expect(done.stderr).toMatch(/package 901 of \S+: created as "Scans of 2026"/u);
    expect(done.stderr).toMatch(/Sent: 4 files.*Proved: count, ascp, complete/u);
    const body = JSON.parse(sent()[0]?.json ?? "{}") as Record<string, unknown>;
    expect(body).toMatchObject({
      title: "Scans of 2026",
      note: "two\nlines",
      recipients: [{ name: "curator@archive.example", recipient_type: "user" }],
    });
    const dir = await get((await stage.sandbox.links())["uploaded-901"] ?? "", {});
    const [top = ""] = (await listFiles(dir)).map((path) => path.split("/")[0] ?? "");
    check(join(dir, top), "Scans of 2026.sha256");
    expect(await readFile(join(dir, top, "scans/Größe/x.txt"), "utf8")).toBe("x\n");
  });

  it("goes on in the same package after a cut, and refuses whom the link does not name", async () => {
    stage.control.setFaults([{ kind: "ascp-error", code: 40, afterBytes: 100_000, count: 1 }]);
    const done = await put(links["upload-inbox"] ?? "", ["--pack", "tar"]);
    expect(done).toMatchObject({ code: 0, stderr: expect.stringContaining("trying again") });
    expect(sent()).toHaveLength(1);
    const refused = await put(links.upload ?? "", ["--to", "somebody@else.example"]);
    expect(refused).toMatchObject({ code: 4, stderr: expect.stringContaining("recipients") });
  });
});

describe("to a site", () => {
  it.skipIf(!has("zstd"))(
    "may be one archive file, with its sum beside it and a list inside (needs zstd)",
    async () => {
      const done = await put(`${site}in/box`, [
        "--pack",
        "tar.zst",
        "--title",
        "all",
        "--scratch",
        await temporaryDir(),
      ]);
      expect(done).toMatchObject({ code: 0 });
      const box = join(await get(`${site}in/box`), "box");
      expect(await listFiles(box)).toEqual(["all.tar.zst", "all.tar.zst.sha256"]);
      check(box, "all.tar.zst.sha256");
      const out = await temporaryDir();
      execFileSync("tar", ["--zstd", "-xf", join(box, "all.tar.zst"), "-C", out]);
      check(out, "all.sha256");
      for (const name of Object.keys(FILES)) execFileSync("cmp", [join(base, name), join(out, name)]);
      expect((await listFiles(out)).sort()).toEqual([...Object.keys(FILES), "all.sha256"].sort());
    },
  );

  it.runIf(process.platform === "linux")("refuses a name that is no UTF-8 in one sentence", async () => {
    const folder = await temporaryDir();
    await writeFile(Buffer.concat([Buffer.from(`${folder}/odd`), Buffer.from([0xe9])]), "x");
    const refused = await stage.run(["put", folder, `${site}in/odd`], { env: ENV });
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining("is no UTF-8") });
  });

  it("is encrypted with the passphrase, and says that it is missing before anything is sent", async () => {
    const missing = await put(`${site}in/safe`, ["--encrypt"]);
    expect(missing).toMatchObject({ code: 4, stderr: expect.stringContaining("ASPERA_SCP_FILEPASS") });
    const alike = await put(links.upload ?? "", ["--encrypt"]);
    expect(alike).toMatchObject({ code: 4, stderr: expect.stringContaining("ASPERA_SCP_FILEPASS") });
    expect(stage.requests("send")).toHaveLength(0);
    expect(sent()).toHaveLength(0);
    const env = { ...ENV, ASPERA_SCP_FILEPASS: "a passphrase" };
    expect(await put(`${site}in/safe`, ["--encrypt"], env)).toMatchObject({
      code: 0,
      stderr: expect.stringContaining("sums are of the clear files"),
    });
    const shut = join(await get(`${site}in/safe`), "safe");
    expect(await listFiles(shut)).toContain("one.csv.aspera-env");
    check(join(await get(`${site}in/safe`, env), "safe"), "scans.sha256");
  });

  it("sends nothing in a dry run, and refuses what a site has no place for", async () => {
    const dry = await put(`${site}in`, ["--dry-run", "--pack", "tar"]);
    expect(dry).toMatchObject({ code: 0, stdout: expect.stringContaining("scans/a b.bin") });
    const note = await put(`${site}in`, ["--note", "hello"]);
    expect(note).toMatchObject({ code: 2, stderr: expect.stringContaining("no note") });
    const clash = await put(`${site}in`, ["--title", "a/b"]);
    expect(clash.code).toBe(0);
    expect(stage.requests("send")).toHaveLength(1);
  });

  it("shows no secret in any argument list, and no ascp outlives a kill", async () => {
    stage.control.setFaults([{ kind: "ascp-hang", afterBytes: 100_000 }]);
    const secret = { ASPERA_SCP_PASS: "demo", ASPERA_SCP_FILEPASS: "passphrase-of-a-put" };
    const place = `${site}in/${Math.random().toString(36).slice(2)}`;
    const marked = Buffer.from(new URL(place.replace("aspera:", "http:")).pathname.slice(1)).toString(
      "base64",
    );
    const running = stage.start(["put", "scans", place, "--encrypt"], { env: secret, cwd: base });
    await until("ascp runs", () => processesNaming(marked).length > 0);
    for (const pid of [running.pid, ...processesNaming(marked)])
      expect(argumentsOf(pid)).not.toContain("passphrase-of-a-put");
    running.kill("SIGKILL");
    await running.ended;
    await until("ascp is gone", () => processesNaming(marked).length === 0);
  });
});
