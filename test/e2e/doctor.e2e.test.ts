/** `gantry doctor` names the first thing that is in the way, and ends with the exit status of its kind. */
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { createServer, type RequestListener } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo, Server } from "node:net";
import { join } from "node:path";
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import {
  type Certificates,
  type FaultyCertificate,
  issueCertificates,
} from "../../src/sandbox/certificates.ts";
import { smallArchive } from "../support/dataset.ts";
import { atEnd, type Stage, startStage, temporaryDir } from "../support/gantry.ts";

// Each of them starts the program several times.
vi.setConfig({ testTimeout: 120_000 });

interface FindingRow {
  readonly subject: string;
  readonly check: string;
  readonly result: string;
  readonly detail: string;
  readonly hint: string | null;
}

let stage: Stage;
beforeAll(async () => {
  stage = await startStage({ data: smallArchive(), tls: true });
});

/** No proxy is excepted, and no authority trusted, but what `env` says. */
const BARE = { NO_PROXY: "", no_proxy: "", SSL_CERT_FILE: "", NODE_EXTRA_CA_CERTS: "" };

async function configured(url: string): Promise<string> {
  const path = join(await temporaryDir(), "config.toml");
  writeFileSync(path, `[archives.tcia]\nkind = "nbia"\nurl = ${JSON.stringify(url)}\n`);
  return path;
}

async function doctor(words: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const { code, stdout, stderr } = await stage.run(["doctor", ...words, "--format", "json"], { env });
  const rows = JSON.parse(stdout) as FindingRow[];
  const blocker = rows.find(({ result }) => result === "failed");
  return { code, rows, blocker, checks: rows.map(({ check }) => check), stderr };
}

async function listen(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  atEnd(async () => {
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

const page: RequestListener = (_, response) => {
  response.setHeader("content-type", "text/html").end("<html><h1>Sign in</h1></html>");
};

describe("an archive", () => {
  it("that is well is 0, over HTTP and HTTPS, for a guest and a user", async () => {
    const plain = await doctor(["tcia"]);
    expect(plain.code, plain.stderr).toBe(0);
    expect(plain.checks).toEqual([
      ...["node", "configuration", "proxy", "name", "port", "server", "clock", "archive"],
    ]);
    const safe = await doctor(["tcia:"], {
      GANTRY_CONFIG: await configured(`${stage.sandbox.tls?.url}/nbia-api`),
      GANTRY_TCIA_USER: "demo",
      GANTRY_TCIA_PASSWORD: "demo",
    });
    expect(safe.code, safe.stderr).toBe(0);
    expect(safe.checks).toEqual([
      ...[
        "node",
        "configuration",
        "proxy",
        "name",
        "port",
        "certificate",
        "server",
        "clock",
        "login",
        "archive",
      ],
    ]);
    expect(safe.stderr).toContain("All is well.");
  });

  it("behind a certificate that nobody vouches for: the variables that help are named", async () => {
    const env = { ...BARE, GANTRY_CONFIG: await configured(`${stage.sandbox.tls?.url}/nbia-api`) };
    const { code, blocker, stderr } = await doctor(["tcia"], env);
    expect(code, stderr).toBe(5);
    expect(blocker).toMatchObject({
      check: "certificate",
      detail: expect.stringContaining("Gantry sandbox"),
    });
    expect(stderr).toMatch(/SSL_CERT_FILE or NODE_EXTRA_CA_CERTS/u);
  });

  it.each<[string, FaultyCertificate, RegExp]>([
    ["ended", { until: new Date("2020-02-03T00:00:00Z") }, /certificate ended on 2020-02-03/u],
    ["is another host's", { host: "other.example" }, /for another name: DNS:other\.example/u],
  ])("whose certificate %s", async (_, faulty, sentence) => {
    const made: Certificates = await issueCertificates(faulty);
    const port = await listen(createSecureServer({ cert: made.certificate, key: made.key }, page));
    const ca = join(await temporaryDir(), "ca.pem");
    writeFileSync(ca, made.caCertificate);
    const url = `https://127.0.0.1:${port}/nbia-api`;
    const env = { ...BARE, SSL_CERT_FILE: ca, GANTRY_CONFIG: await configured(url) };
    const { code, blocker, stderr } = await doctor(["tcia"], env);
    expect(code, stderr).toBe(5);
    expect(blocker).toMatchObject({ check: "certificate", detail: expect.stringMatching(sentence) });
  });

  it("at a port where no TLS is spoken, at a closed port, and under a name that does not exist", async () => {
    const noTls = await listen(createServer(page));
    for (const [url, check] of [
      [`https://127.0.0.1:${noTls}/nbia-api`, "certificate"],
      ["http://127.0.0.1:9/nbia-api", "port"],
      ["https://archive.invalid/nbia-api", "name"],
    ] as const) {
      const { code, blocker, stderr } = await doctor(["tcia"], {
        ...BARE,
        GANTRY_CONFIG: await configured(url),
      });
      expect(code, `${url}: ${stderr}`).toBe(5);
      expect(blocker?.check, `${url}: ${stderr}`).toBe(check);
      expect(blocker?.hint).not.toBeNull();
    }
  });

  it("behind a dead proxy is told as the proxy, by doctor and by other commands", async () => {
    for (const [variable, scheme] of [
      ["HTTP_PROXY", "http"],
      ["HTTPS_PROXY", "https"],
    ] as const) {
      const env = {
        ...BARE,
        [variable]: "http://me:proxy-secret@127.0.0.1:9",
        GANTRY_CONFIG: await configured(`${scheme}://archive.invalid/nbia-api`),
      };
      const { code, blocker, stderr } = await doctor(["tcia"], env);
      expect(code, stderr).toBe(5);
      expect(blocker).toMatchObject({ check: "proxy", detail: expect.stringContaining(variable) });
      const got = await stage.run(["get", "tcia:", "--dry-run", "--retries", "0", "-o", "x"], { env });
      expect(got.code, got.stderr).toBe(5);
      expect(got.stderr).toContain(`the proxy 127.0.0.1:9 (${variable})`);
      expect(stderr + got.stderr).not.toContain("proxy-secret");
    }
  });

  it("behind a proxy that wants a login, or refuses", async () => {
    for (const [status, sentence] of [
      [407, /HTTP 407/u],
      [403, /refused|HTTP 403/u],
    ] as const) {
      const proxy = createServer((_, response) => response.writeHead(status).end());
      proxy.on("connect", (_, socket) => socket.end(`HTTP/1.1 ${status} No\r\n\r\n`));
      const env = {
        ...BARE,
        HTTPS_PROXY: `http://127.0.0.1:${await listen(proxy)}`,
        GANTRY_CONFIG: await configured("https://archive.invalid/nbia-api"),
      };
      const { code, blocker, stderr, checks } = await doctor(["tcia"], env);
      expect(code, stderr).toBe(5);
      expect(checks).not.toContain("name");
      expect(blocker).toMatchObject({ check: "server", detail: expect.stringMatching(sentence) });
    }
  });

  it("that is a web page, is no NBIA, or has a clock of its own", async () => {
    const early = new Date(Date.now() - 3_600_000).toUTCString();
    const port = await listen(
      createServer((request, response) => {
        response.setHeader("date", early);
        page(request, response);
      }),
    );
    const env = { GANTRY_CONFIG: await configured(`http://127.0.0.1:${port}/nbia-api`) };
    const { code, blocker, rows, stderr } = await doctor(["tcia"], env);
    expect(code, stderr).toBe(5);
    expect(blocker).toMatchObject({ check: "archive", detail: expect.stringContaining("web page") });
    expect(rows.find(({ check }) => check === "clock")).toMatchObject({
      result: "warning",
      detail: expect.stringContaining("60 minutes ahead"),
    });
    const login = await doctor(["tcia"], { ...env, GANTRY_TCIA_USER: "demo", GANTRY_TCIA_PASSWORD: "demo" });
    expect(login.code).toBe(5);
    expect(login.blocker).toMatchObject({ check: "login", detail: expect.stringContaining("not JSON") });
  });

  it("that is busy is 5, that refuses the login or the token is 4", async () => {
    stage.control.setFaults([{ kind: "503", route: "**/getCollectionValuesAndCounts" }]);
    const busy = await doctor(["tcia"]);
    stage.control.setFaults([]);
    expect(busy.code, busy.stderr).toBe(5);
    expect(busy.blocker?.check).toBe("archive");
    const wrong = await doctor(["tcia"], { GANTRY_TCIA_USER: "demo", GANTRY_TCIA_PASSWORD: "wrong-word" });
    expect(wrong.code, wrong.stderr).toBe(4);
    expect(wrong.blocker?.check).toBe("login");
    const token = await doctor(["tcia"], { GANTRY_TCIA_TOKEN: "wrong-token-word" });
    expect(token.code, token.stderr).toBe(4);
    expect(token.blocker).toMatchObject({
      check: "archive",
      detail: expect.stringContaining("can't be renewed"),
    });
    expect(JSON.stringify([wrong, token])).not.toMatch(/wrong-(token-)?word/u);
  });
});

describe("the configuration", () => {
  it("that can't be used is the first thing in the way: 2", async () => {
    const path = join(await temporaryDir(), "config.toml");
    writeFileSync(path, "[archives\n");
    const { code, blocker, stderr } = await doctor(["tcia"], { GANTRY_CONFIG: path });
    expect(code, stderr).toBe(2);
    expect(blocker?.check).toBe("configuration");
    expect((await stage.run(["doctor", "tcai"])).code).toBe(2);
    expect((await stage.run(["doctor", "tcai"])).stderr).toContain("did you mean tcia");
  });
});

const run = (command: string, ...args: string[]): boolean => spawnSync(command, args).status === 0;
const canMount =
  process.getuid?.() === 0 &&
  spawnSync("unshare", ["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).status === 0;

describe("a folder", () => {
  const mounted: string[] = [];
  afterEach(() => {
    for (const path of mounted.splice(0)) run("umount", "-l", path);
  });
  async function tmpfs(options: string): Promise<string> {
    const path = await temporaryDir();
    expect(run("mount", "-t", "tmpfs", "-o", `${options},mode=777`, "tmpfs", path)).toBe(true);
    mounted.push(path);
    return path;
  }

  it("that is well is 0 and stays as it is; one that is not there is judged by its parent", async () => {
    const dir = await temporaryDir();
    for (const path of [dir, join(dir, "new", "deep")]) {
      const { code, checks, stderr } = await doctor([path]);
      expect(code, stderr).toBe(0);
      expect(checks).toEqual([
        ...["node", "configuration", "folder", "file system", "free space", "inodes", "writable", "names"],
      ]);
    }
    expect(readdirSync(dir)).toEqual([]);
  });

  it("that is a file is 2, and one where nothing can be written is 7", async () => {
    const file = join(await temporaryDir(), "file");
    writeFileSync(file, "");
    expect((await doctor([file])).code).toBe(2);
    expect((await doctor(["/proc/self"])).code).toBe(7);
  });

  it.skipIf(!canMount)(
    "that is full, without inodes or read-only is 7, and told apart (needs root and mount)",
    async () => {
      const full = await tmpfs("size=256k");
      spawnSync("dd", ["if=/dev/zero", `of=${join(full, "fill")}`, "bs=64k"]);
      const bytes = await doctor([full]);
      expect(bytes.code, bytes.stderr).toBe(7);
      expect(bytes.blocker?.detail).toMatch(/disk is full/u);

      const narrow = await tmpfs("size=64k");
      const little = await doctor([narrow]);
      expect(little.code, little.stderr).toBe(7);
      expect(readdirSync(narrow)).toEqual([]);

      const inodes = await tmpfs("size=8m,nr_inodes=4");
      for (const name of ["a", "b", "c"]) mkdirSync(join(inodes, name));
      const none = await doctor([inodes]);
      expect(none.code, none.stderr).toBe(7);
      expect(none.blocker).toMatchObject({
        check: "inodes",
        detail: expect.stringContaining("no free inode"),
      });

      const sealed = await tmpfs("size=8m");
      expect(run("mount", "-o", "remount,ro", sealed)).toBe(true);
      const closed = await doctor([sealed]);
      expect(closed.code, closed.stderr).toBe(7);
      expect(closed.blocker).toMatchObject({
        check: "writable",
        detail: expect.stringContaining("read-only"),
      });
    },
  );
});
