/** The way to a site: what doctor says of it, what a terminal is asked, and what other users of the machine can read. */
import { spawn, spawnSync } from "node:child_process";
import { createServer } from "node:net";
import { join } from "node:path";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { root } from "../support/built.ts";
import { ensureBuilt, freshDir, has, listFiles, startStage, until } from "../support/gantry.ts";
import { argumentsOf, processesNaming } from "../support/processes.ts";

// Each of them starts the program several times.
vi.setConfig({ testTimeout: 120_000 });
await ensureBuilt();
const stage = await startStage();
const { site = "", "sftp-site": sftpSite = "" } = await stage.sandbox.links();
const PASSWORD = { ASPERA_SCP_PASS: "demo" };
const README = "Phantom_tumor_ROIs_v1/README.txt";
beforeEach(() => stage.control.reset());

interface Row {
  readonly check: string;
  readonly result: string;
  readonly detail: string;
}

async function doctor(address: string, env: Record<string, string>) {
  const { code, stdout, stderr } = await stage.run(["doctor", address, "--format", "json"], { env });
  const rows = (JSON.parse(stdout) as Row[]).slice(2);
  return { code, stderr, checks: rows.map(({ check, result }) => `${check.replace(/\d+/u, "N")} ${result}`) };
}

describe("gantry doctor of a site", () => {
  it("names ports, login and ways, and is content with one of them", async () => {
    const listed = await doctor(sftpSite, PASSWORD);
    expect(listed).toMatchObject({ code: 0 });
    expect(listed.checks).toEqual([
      "name ok",
      "tcp N ok",
      "login ok",
      "sftp ok",
      "ascp ok",
      expect.stringMatching(/^udp/u),
    ]);
    const without = await doctor(sftpSite, { ...PASSWORD, GANTRY_ASCP: "" });
    expect(without).toMatchObject({ code: 0 });
    expect(without.checks.at(-1)).toBe("ascp warning");
    const bare = await doctor(site, { ...PASSWORD, GANTRY_ASCP: "" });
    expect(bare).toMatchObject({ code: 2, stderr: expect.stringContaining("gantry ascp install") });
    expect(bare.checks.slice(-2)).toEqual(["sftp warning", "ascp failed"]);
  });

  it.each([
    [
      "a wrong password",
      "aspera://demo-sftp@127.0.0.1:PORT/",
      { ASPERA_SCP_PASS: "wrong" },
      4,
      "login failed",
    ],
    ["no password", "aspera://demo-sftp@127.0.0.1:PORT/", { ASPERA_SCP_PASS: "" }, 4, "login failed"],
    ["a closed port", "aspera://demo@127.0.0.1:CLOSED/", PASSWORD, 5, "tcp N failed"],
    ["a name that is none", "aspera://demo@no-such-host.invalid/", PASSWORD, 5, "name failed"],
  ])("names %s", async (_, address, env, code, last) => {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const closed = (server.address() as { port: number }).port;
    await new Promise((resolve) => server.close(resolve));
    const port = new URL(site.replace("aspera:", "http:")).port;
    const there = address.replace("PORT", port).replace("CLOSED", String(closed));
    const found = await doctor(there, env as Record<string, string>);
    expect(found).toMatchObject({ code });
    expect(found.checks.at(-1)).toBe(last);
  });
});

const isUtilLinux = spawnSync("script", ["--version"]).status === 0;

/** The program at a terminal: what it shows, with lines typed as it asks. */
async function atTerminal(args: readonly string[], answers: readonly (readonly [RegExp, string])[]) {
  const words = [process.execPath, join(root, "bin/gantry.js"), ...args];
  const command = words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
  const child = spawn("script", ["-qec", command, "/dev/null"], {
    env: { ...stage.environment, ASPERA_SCP_PASS: "", TERM: "xterm" },
  });
  let text = "";
  let typed = 0;
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (more: string) => {
      text += more;
      const next = answers[typed];
      if (!next?.[0].test(text)) return;
      typed += 1;
      child.stdin.write(`${next[1]}\r`);
    });
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, text };
}

describe.skipIf(!isUtilLinux || !has("script"))("a terminal (needs script of util-linux)", () => {
  it("is asked for the password and the passphrase, which are not shown", async () => {
    const dir = await freshDir();
    const { code, text } = await atTerminal(
      ["get", `${site}encrypted/README.txt.aspera-env`, "-o", dir, "--decrypt"],
      [
        [/Password of demo at 127\.0\.0\.1 \(not shown\): /u, "demo"],
        [/Passphrase of the encrypted files of 127\.0\.0\.1 \(not shown\): /u, "demo at rest"],
      ],
    );
    expect(code, text).toBe(0);
    expect(text).not.toContain("demo at rest");
    expect(await listFiles(dir)).toEqual([expect.stringMatching(/^README\.txt/u)]);
  });

  it("that gives no answer is told what is missing", async () => {
    const { code, text } = await atTerminal(["ls", sftpSite], [[/not shown\): /u, ""]]);
    expect(code).toBe(4);
    expect(text).toContain("ASPERA_SCP_PASS");
  });
});

describe("a background run of a site", () => {
  it("shows no secret to others, is watched and stopped, goes on, and tells of its end", async () => {
    const dir = await freshDir();
    const told = join(await freshDir(), "..", "told");
    const env = { ...PASSWORD, ASPERA_SCP_PASS: "demo", ASPERA_SCP_FILEPASS: "passphrase-for-others" };
    stage.control.setFaults([{ kind: "ascp-hang", afterBytes: 60_000 }]);
    const notify = ["--notify", `cat >> '${told}'`];
    const begun = await stage.run(["get", `${site}Phantom_tumor_ROIs_v1`, "-o", dir, "--detach", ...notify], {
      env,
    });
    expect(begun, begun.stderr).toMatchObject({ code: 0 });
    await until("ascp runs", () => processesNaming(dir).length >= 3);
    for (const pid of processesNaming(dir)) {
      expect(argumentsOf(pid)).not.toContain("passphrase-for-others");
      expect(argumentsOf(pid)).not.toMatch(/^demo$/mu);
    }
    const watched = stage.start(["status", dir, "--watch"]);
    await until("the run is shown", () =>
      /running|transferring|alive/iu.test(watched.stdout() + watched.stderr()),
    );
    expect(await stage.run(["status", dir, "--check"])).toMatchObject({ code: 0 });
    expect(await stage.run(["stop", dir])).toMatchObject({ code: 0 });
    await until(
      "nothing of it is left",
      () => processesNaming(dir).filter((pid) => pid !== watched.pid).length === 0,
    );
    await watched.ended;
    stage.control.reset();
    const rest = await stage.run(["get", "-o", dir, "--detach", ...notify], { env });
    expect(rest, rest.stderr).toMatchObject({ code: 0 });
    await until("it has finished", async () => (await listFiles(dir)).length > 3);
    await until("it is told", () => spawnSync("grep", ["-q", '"finished"', told]).status === 0);
    expect(await stage.run(["verify", dir])).toMatchObject({ code: 0 });
    expect(await stage.run(["status", dir, "--check"])).toMatchObject({ code: 0 });
  });

  it("of one file by SFTP does the same", async () => {
    const dir = await freshDir();
    const args = ["get", `${sftpSite}${README}`, "-o", dir, "--transport", "sftp", "--detach"];
    expect(await stage.run(args, { env: PASSWORD })).toMatchObject({ code: 0 });
    await until("it is here", async () => (await listFiles(dir)).length === 1);
  });
});
