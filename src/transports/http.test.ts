import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type ErrorCode, RunError } from "../errors.ts";
import { systemClock } from "../lib/context.ts";
import { type Sandbox, startSandbox } from "../sandbox/server.ts";
import { tinyDataset } from "../sandbox/tiny-dataset.ts";
import { createHttp, type HttpResponse } from "./http.ts";

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

let sandbox: Sandbox;
beforeAll(async () => {
  sandbox = await startSandbox({ data: tinyDataset(), tls: true });
});
afterAll(() => sandbox.close());

const SECRET = "Bearer a-secret-nobody-may-see";

/** One GET through a transport with exactly this environment. */
async function get(
  url: string,
  environment: Record<string, string>,
  stallTimeoutMs = 5_000,
): Promise<HttpResponse> {
  const http = createHttp({ userAgent: "test", connections: 4, stallTimeoutMs, environment });
  cleanups.push(() => http.close());
  return http.request(
    { method: "GET", url: new URL(url), headers: { authorization: SECRET }, firstByteTimeoutMs: 5_000 },
    { signal: new AbortController().signal, clock: systemClock, random: Math.random, log: () => undefined },
  );
}

async function failure(promise: Promise<unknown>): Promise<RunError> {
  const error = await promise.then(() => undefined).catch((reason: unknown) => reason);
  if (!(error instanceof RunError)) throw new Error(`no RunError but ${String(error)}`);
  return error;
}

interface Proxy {
  readonly url: string;
  /** Targets of CONNECT, in order. */
  readonly tunnels: string[];
  /** Addresses asked for without a tunnel. */
  readonly forwarded: string[];
  /** Head lines sent to the proxy itself. */
  readonly heads: IncomingMessage["headers"][];
  /** All that went through tunnels towards servers, as it was on the wire. */
  readonly sent: () => string;
}

/** A forward proxy; with `status` it refuses everything. */
async function startProxy(status?: number): Promise<Proxy> {
  const tunnels: string[] = [];
  const forwarded: string[] = [];
  const heads: IncomingMessage["headers"][] = [];
  const wire: Buffer[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((request, response) => {
    forwarded.push(request.url ?? "");
    heads.push(request.headers);
    response.writeHead(status ?? 200);
    if (request.url?.endsWith("/stalls")) response.write("only this");
    else response.end("from the proxy");
  });
  server.on("connection", (socket) => sockets.add(socket));
  server.on("connect", (request: IncomingMessage, client: Socket) => {
    tunnels.push(request.url ?? "");
    heads.push(request.headers);
    if (status !== undefined) return void client.end(`HTTP/1.1 ${status} No\r\n\r\n`);
    const { hostname, port } = new URL(`http://${request.url}`);
    const target = connect(Number(port), hostname.replace(/[[\]]/g, ""));
    sockets.add(target);
    for (const socket of [client, target]) socket.on("error", () => undefined);
    target.on("connect", () => {
      client.write("HTTP/1.1 200 Connection established\r\n\r\n");
      client.on("data", (chunk: Buffer) => wire.push(chunk));
      client.pipe(target).pipe(client);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanups.push(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    tunnels,
    forwarded,
    heads,
    sent: () => Buffer.concat(wire).toString("latin1"),
  };
}

const trust = (): Record<string, string> => ({ SSL_CERT_FILE: sandbox.tls?.caFile ?? "" });
const secure = (): string => sandbox.tls?.url ?? "";
const hostOf = (url: string): string => new URL(url).host;

describe("certificates", () => {
  it("accepts the authority in SSL_CERT_FILE, by address and by name", async () => {
    expect((await get(`${secure()}/_sandbox/`, trust())).status).toBe(200);
    const named = secure().replace("127.0.0.1", "localhost");
    expect((await get(`${named}/_sandbox/`, trust())).status).toBe(200);
  });

  it("says so when a certificate is not accepted, at once and with what can be done", async () => {
    const error = await failure(get(`${secure()}/_sandbox/`, {}));
    expect(error).toMatchObject({ code: "archive-unreachable" satisfies ErrorCode, retry: "never" });
    expect(error.message).toContain("certificate was not accepted");
    expect(error.hint).toContain("SSL_CERT_FILE");
  });

  it("keeps to NODE_EXTRA_CA_CERTS beside SSL_CERT_FILE", async () => {
    const other = await startSandbox({ data: tinyDataset(), tls: true });
    cleanups.push(() => other.close());
    const SSL_CERT_FILE = other.tls?.caFile ?? "";
    const both = { SSL_CERT_FILE, NODE_EXTRA_CA_CERTS: sandbox.tls?.caFile ?? "" };
    expect((await get(`${secure()}/_sandbox/`, both)).status).toBe(200);
    const unreadable = { SSL_CERT_FILE, NODE_EXTRA_CA_CERTS: "/no/such.pem" };
    expect((await get(`${other.tls?.url}/_sandbox/`, unreadable)).status).toBe(200);
  });

  it("does not blame a certificate where there is no TLS at all", async () => {
    const error = await failure(get(sandbox.url.replace("http:", "https:"), trust()));
    expect(error).toMatchObject({ code: "archive-unreachable" });
    expect(error.message).toContain("no secure connection");
  });

  it("names an SSL_CERT_FILE that can't be read", async () => {
    const error = await failure(get(secure(), { SSL_CERT_FILE: "/no/such.pem" }));
    expect(error).toMatchObject({ code: "usage" });
    expect(error.message).toContain("/no/such.pem");
  });
});

describe("proxies", () => {
  it("tunnels HTTPS, with SSL_CERT_FILE honoured and nothing in clear", async () => {
    const proxy = await startProxy();
    const login = proxy.url.replace("://", "://me:pass@");
    const reply = await get(`${secure()}/_sandbox/`, { ...trust(), HTTPS_PROXY: login });
    expect(reply.status).toBe(200);
    expect(await reply.text(1_000_000)).toContain('"sandbox": 1');
    expect(proxy.tunnels).toEqual([hostOf(secure())]);
    expect(proxy.forwarded).toEqual([]);
    expect(proxy.heads[0]).not.toHaveProperty("authorization");
    expect(proxy.heads[0]?.["proxy-authorization"]).toBe(
      `Basic ${Buffer.from("me:pass").toString("base64")}`,
    );
    expect(proxy.sent().length).toBeGreaterThan(500);
    expect(proxy.sent()).not.toContain("a-secret");
    // The proxy's own login is for the proxy.
    const seen = sandbox.control.requests().at(-1)?.headers ?? {};
    expect(seen).not.toHaveProperty("proxy-authorization");
  });

  it("refuses a certificate behind a proxy too", async () => {
    const proxy = await startProxy();
    const error = await failure(get(secure(), { HTTPS_PROXY: proxy.url }));
    expect(error.message).toContain("certificate was not accepted");
    expect(proxy.tunnels).toHaveLength(1);
    expect(proxy.sent()).not.toContain("a-secret");
  });

  it("asks for plain HTTP without a tunnel", async () => {
    const proxy = await startProxy();
    const reply = await get("http://archive.invalid/a?b=1", { http_proxy: proxy.url });
    expect(await reply.text(1000)).toBe("from the proxy");
    expect(proxy.forwarded).toEqual(["http://archive.invalid/a?b=1"]);
    expect(proxy.heads[0]?.host).toBe("archive.invalid");
    expect(proxy.tunnels).toEqual([]);
  });

  it("gives up a body that stalls behind a proxy too", async () => {
    const proxy = await startProxy();
    const reply = await get("http://archive.invalid/stalls", { http_proxy: proxy.url }, 200);
    expect(await failure(reply.text(1000))).toMatchObject({ code: "archive-stalled" });
  });

  it("takes a proxy without a scheme, and refuses one that is no address", async () => {
    const proxy = await startProxy();
    await get(`${secure()}/_sandbox/`, { ...trust(), https_proxy: hostOf(proxy.url) });
    expect(proxy.tunnels).toHaveLength(1);
    const error = await failure(get(secure(), { HTTPS_PROXY: "http://:::" }));
    expect(error).toMatchObject({ code: "usage" });
    expect(error.message).toContain("HTTPS_PROXY");
  });

  it.each([
    ["127.0.0.1", true],
    ["example.org, 127.0.0.1", true],
    ["*", true],
    ["example.org", false],
    ["", false],
  ])("NO_PROXY=%s", async (list, direct) => {
    const proxy = await startProxy();
    const environment = { ...trust(), HTTPS_PROXY: proxy.url, NO_PROXY: list };
    expect((await get(`${secure()}/_sandbox/`, environment)).status).toBe(200);
    expect(proxy.tunnels).toHaveLength(direct ? 0 : 1);
  });

  it("looks at the given environment only", async () => {
    const proxy = await startProxy();
    const before = { ...process.env };
    Object.assign(process.env, { HTTP_PROXY: proxy.url, no_proxy: "127.0.0.1" });
    try {
      const reply = await get(`${sandbox.url}/_sandbox/`, { HTTP_PROXY: "" });
      expect(reply.status).toBe(200);
      expect(proxy.forwarded).toEqual([]);
      await get(`${secure()}/_sandbox/`, { ...trust(), HTTPS_PROXY: proxy.url });
      expect(proxy.tunnels).toHaveLength(1);
    } finally {
      process.env = before;
    }
  });

  it("tells a proxy's refusal from an archive's", async () => {
    const login = await startProxy(407);
    const tunnelled = await failure(get(secure(), { HTTPS_PROXY: login.url }));
    expect(tunnelled).toMatchObject({ code: "archive-unreachable", retry: "never" });
    expect(tunnelled.message).toBe("the proxy asks for a login (HTTP 407)");
    const plain = await failure(get("http://archive.invalid/", { HTTP_PROXY: login.url }));
    expect(plain).toMatchObject({ code: tunnelled.code, retry: "never", message: tunnelled.message });

    const closed = await startProxy(403);
    const refused = await failure(get(secure(), { HTTPS_PROXY: closed.url }));
    expect(refused).toMatchObject({ code: "archive-unreachable" });
    expect(refused.message).toContain("the proxy refused (HTTP 403)");
  });
});

const hasIpv6 = await new Promise<boolean>((resolve) => {
  const probe = createTcpServer();
  probe.once("error", () => resolve(false));
  probe.listen(0, "::1", () => probe.close(() => resolve(true)));
});

describe.skipIf(!hasIpv6)("IPv6", () => {
  async function startServer(): Promise<{ url: string; hosts: (string | undefined)[] }> {
    const hosts: (string | undefined)[] = [];
    const server = createServer((request, response) => {
      hosts.push(request.headers.host);
      if (request.url === "/moved") response.writeHead(302, { Location: "/here" }).end();
      else response.end("here");
    });
    server.listen(0, "::1");
    await once(server, "listening");
    cleanups.push(async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    });
    return { url: `http://[::1]:${(server.address() as AddressInfo).port}`, hosts };
  }

  it("reaches an address in brackets, redirects included", async () => {
    const { url, hosts } = await startServer();
    const reply = await get(`${url}/moved`, {});
    expect(await reply.text(100)).toBe("here");
    expect(reply.url).toBe(`${url}/here`);
    expect(hosts).toEqual([hostOf(url), hostOf(url)]);
  });

  it.each(["::1", "[::1]", "example.org,::1"])("is named in NO_PROXY as %s", async (list) => {
    const proxy = await startProxy();
    const { url } = await startServer();
    const reply = await get(url, { HTTP_PROXY: proxy.url, NO_PROXY: list });
    expect(await reply.text(100)).toBe("here");
    expect(proxy.forwarded).toEqual([]);
  });
});
