import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { NO_FILTERS, open, type RunSummary } from "../index.ts";
import type { SandboxTls } from "./server.ts";
import { type Sandbox, startSandbox } from "./server.ts";
import { tinyDataset } from "./tiny-dataset.ts";

let sandbox: Sandbox;
let tls: SandboxTls;
let work: string;
beforeAll(async () => {
  sandbox = await startSandbox({ data: tinyDataset(), tls: true });
  if (sandbox.tls === null) throw new Error("no HTTPS side");
  tls = sandbox.tls;
  work = await mkdtemp(join(tmpdir(), "gantry-tls-"));
});
beforeEach(() => sandbox.control.reset());
afterAll(async () => {
  await sandbox.close();
  await rm(work, { recursive: true, force: true });
});

/** One get by the library with the sandbox's HTTPS archives configured. */
async function getAll(name: string, environment: Record<string, string>): Promise<RunSummary> {
  const config = join(work, "config.toml");
  await writeFile(
    config,
    tls.archives.map((a) => `[archives.${a.name}]\nkind = "${a.kind}"\nurl = "${a.url}"\n`).join("\n"),
  );
  const gantry = await open({
    environment: { GANTRY_CONFIG: config, HOME: work, ...environment },
    retries: 0,
  });
  try {
    const run = gantry.get(["tcia:"], { dir: join(work, name), filters: NO_FILTERS });
    for await (const _ of run);
    return await run.result;
  } finally {
    await gantry.close();
  }
}

function run(command: string, args: string[], env: Record<string, string> = {}) {
  return new Promise<{ status: number; stdout: string; stderr: string }>((resolve) => {
    execFile(command, args, { env: { PATH: process.env.PATH, ...env } }, (error, stdout, stderr) => {
      const status = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
      resolve({ status, stdout, stderr });
    });
  });
}

const installed = async (command: string): Promise<boolean> =>
  (await run(command, ["--version"])).status === 0;
const hasCurl = await installed("curl");
const hasPython = await installed("python3");

describe("the certificates", () => {
  it("are an authority's of its own and a server's, as RFC 5280 has them", async () => {
    const ca = new X509Certificate(await readFile(tls.caFile));
    expect(ca.ca).toBe(true);
    expect(ca.verify(ca.publicKey)).toBe(true);
    const pem = await new Promise<Buffer>((resolve, reject) => {
      const probe = request(tls.url, { ca: ca.toString(), agent: false }, (reply) => {
        const { raw } = (reply.socket as import("node:tls").TLSSocket).getPeerCertificate();
        reply.resume();
        resolve(raw);
      });
      probe.on("error", reject);
      probe.end();
    });
    const server = new X509Certificate(pem);
    expect(server.verify(ca.publicKey)).toBe(true);
    expect(server.checkIssued(ca)).toBe(true);
    expect(server.ca).toBe(false);
    expect(server.subjectAltName).toBe("DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1");
    const days = (Date.parse(server.validTo) - Date.parse(server.validFrom)) / 86_400_000;
    expect(days).toBeLessThan(398);
    expect(Date.parse(server.validFrom)).toBeLessThan(Date.now());
  });

  it("hold no key in any file", async () => {
    expect(await readFile(tls.caFile, "utf8")).not.toContain("PRIVATE");
  });

  it("differ at every start, and their file goes with the sandbox", async () => {
    const other = await startSandbox({ data: tinyDataset(), tls: true });
    const caFile = other.tls?.caFile ?? "";
    expect(await readFile(caFile, "utf8")).not.toBe(await readFile(tls.caFile, "utf8"));
    await other.close();
    expect(existsSync(caFile)).toBe(false);
  });
});

describe("the HTTPS side", () => {
  it("gives the library all its data", async () => {
    const summary = await getAll("trusted", { ...sandbox.environment });
    expect(summary).toMatchObject({ exit: 0, stored: { items: 4, files: 11 }, withdrawn: 0 });
    expect(sandbox.control.requests().some(({ path }) => path.endsWith("/getImage"))).toBe(true);
  });

  it("is refused by a library that does not know the authority, in one clear sentence", async () => {
    const { exit, error } = await getAll("distrusted", { NO_PROXY: "127.0.0.1" });
    expect(exit).toBe(5);
    expect(error).toMatchObject({
      code: "archive-unreachable",
      hint: expect.stringContaining("SSL_CERT_FILE"),
    });
    expect(error?.message).toContain("certificate was not accepted");
    expect(sandbox.control.requests()).toEqual([]);
  });

  it("leads to an HTTPS place elsewhere", async () => {
    sandbox.control.setFaults([{ kind: "redirect" }]);
    const ca = await readFile(tls.caFile);
    const location = await new Promise<string | undefined>((resolve, reject) => {
      const probe = request(`${tls.url}/nbia-api/services/v4/getSeries`, { ca, agent: false }, (reply) => {
        reply.resume();
        resolve(reply.headers.location);
      });
      probe.on("error", reject);
      probe.end();
    });
    expect(location).toMatch(/^https:\/\/127\.0\.0\.1:\d+\/login$/);
    expect(location).not.toContain(tls.url);
  });

  it("breaks connections as the HTTP one does", async () => {
    const ca = await readFile(tls.caFile);
    for (const fault of [{ kind: "reset" }, { kind: "cut", afterBytes: 10 }] as const) {
      sandbox.control.setFaults([fault]);
      const ended = await new Promise<string>((resolve) => {
        const probe = request(`${tls.url}/nbia-api/services/v4/getSeries`, { ca, agent: false }, (reply) => {
          reply.on("error", () => resolve("broken"));
          reply.on("end", () => resolve("complete"));
          reply.resume();
        });
        probe.on("error", () => resolve("broken"));
        probe.end();
      });
      expect(ended).toBe("broken");
      expect(sandbox.control.requests().at(-1)).toMatchObject({ problem: null, ending: "cut" });
    }
  });

  it.skipIf(!hasCurl)("satisfies curl with --cacert, and not without", async () => {
    const url = `${tls.url}/nbia-api/services/v4/getCollectionValues`;
    const trusted = await run("curl", ["-sS", "--noproxy", "*", "--cacert", tls.caFile, url]);
    expect(trusted).toMatchObject({ status: 0, stdout: expect.stringContaining("Collection") });
    const named = await run("curl", ["-sS", url.replace("127.0.0.1", "localhost")], {
      ...sandbox.environment,
    });
    expect(named.status).toBe(0);
    // 60: the peer's certificate could not be verified.
    expect((await run("curl", ["-sS", "--noproxy", "*", url])).status).toBe(60);
  });

  it.skipIf(!hasPython)("satisfies Python's ssl in its strict mode", async () => {
    const script = [
      "import ssl, sys, urllib.request as u",
      "context = ssl.create_default_context()",
      "context.verify_flags |= ssl.VERIFY_X509_STRICT",
      "opener = u.build_opener(u.ProxyHandler({}), u.HTTPSHandler(context=context))",
      "print(opener.open(sys.argv[1]).status)",
    ].join("\n");
    const ask = (env: Record<string, string>) => run("python3", ["-c", script, `${tls.url}/_sandbox/`], env);
    expect(await ask({ ...sandbox.environment })).toMatchObject({ status: 0, stdout: "200\n" });
    expect((await ask({})).stderr).toContain("CERTIFICATE_VERIFY_FAILED");
  });
});

describe("without tls", () => {
  it("there is no HTTPS side and nothing to trust", async () => {
    const plain = await startSandbox({ data: tinyDataset() });
    expect(plain.tls).toBeNull();
    expect(plain.environment).not.toHaveProperty("SSL_CERT_FILE");
    await plain.close();
  });
});
