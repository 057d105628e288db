import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Context } from "../../lib/context.ts";
import { createRedactor } from "../../lib/redact.ts";
import { createHttp, type Http } from "../../transports/http.ts";
import { type NbiaCredentials, TokenKeeper } from "./token.ts";

/** A token service that gives `token-N` and notes what it was asked. */
interface Service {
  readonly url: string;
  readonly asked: Record<string, string>[];
  reply: (fields: Record<string, string>, n: number) => { status: number; body: unknown };
  close(): Promise<void>;
}

async function serve(): Promise<Service> {
  const asked: Record<string, string>[] = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    const fields = { path: request.url ?? "", ...Object.fromEntries(new URLSearchParams(body)) };
    asked.push({ ...fields, bearer: request.headers.authorization ?? "" });
    const { status, body: text } = service.reply(fields, asked.length);
    response.writeHead(status, { "content-type": "application/json" });
    response.end(typeof text === "string" ? text : JSON.stringify(text));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const service: Service = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/nbia-api`,
    asked,
    reply: (_, n) => ({
      status: 200,
      body: {
        access_token: `token-${n}`,
        expires_in: 100,
        refresh_token: `refresh-${n}`,
        refresh_expires_in: 1000,
      },
    }),
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return service;
}

describe("the token of an archive", () => {
  let service: Service;
  let http: Http;
  let nowMs: number;
  const context: Context = {
    signal: new AbortController().signal,
    clock: { now: () => new Date(0), monotonicMs: () => nowMs, sleep: async () => undefined },
    random: () => 0,
    log: () => undefined,
  };
  const keeper = (credentials: NbiaCredentials): TokenKeeper =>
    new TokenKeeper({ http, archive: "tcia", url: service.url, credentials, redactor: createRedactor() });
  const login = { user: "demo", password: "secret" };
  const grants = (): (string | undefined)[] => service.asked.map(({ grant_type }) => grant_type);

  beforeEach(async () => {
    service = await serve();
    http = createHttp({ userAgent: "t", connections: 4, stallTimeoutMs: 5000, environment: {} });
    nowMs = 1000;
  });
  afterEach(async () => {
    await http.close();
    await service.close();
  });

  it("comes of one login, however many wait for it", async () => {
    const tokens = keeper(login);
    const got = await Promise.all(Array.from({ length: 20 }, () => tokens.token(context)));
    expect(new Set(got)).toEqual(new Set(["token-1"]));
    expect(service.asked).toEqual([
      {
        path: "/nbia-api/oauth/token",
        grant_type: "password",
        username: "demo",
        password: "secret",
        client_id: "NBIA",
        bearer: "",
      },
    ]);
  });

  it("is prolonged before it ends by its refresh token, without the password", async () => {
    const tokens = keeper(login);
    expect(await tokens.token(context)).toBe("token-1");
    nowMs += 79_000;
    expect(await tokens.token(context)).toBe("token-1");
    nowMs += 2_000;
    const got = await Promise.all([tokens.token(context), tokens.token(context)]);
    expect(got).toEqual(["token-2", "token-2"]);
    nowMs += 81_000;
    expect(await tokens.token(context)).toBe("token-3");
    expect(grants()).toEqual(["password", "refresh_token", "refresh_token"]);
    expect(service.asked[2]).toMatchObject({ refresh_token: "refresh-2", client_id: "NBIA" });
    expect(service.asked[2]?.password).toBeUndefined();
  });

  it("comes of the password again when the refresh token is refused, has ended, or was never given", async () => {
    const tokens = keeper(login);
    const { reply } = service;
    service.reply = (fields, n) =>
      fields.grant_type === "refresh_token"
        ? { status: 400, body: { error: "invalid_grant" } }
        : reply(fields, n);
    await tokens.token(context);
    nowMs += 81_000;
    expect(await tokens.token(context)).toBe("token-3");
    expect(grants()).toEqual(["password", "refresh_token", "password"]);
    nowMs += 1_000_000;
    expect(await tokens.token(context)).toBe("token-4");
    expect(grants().at(-1)).toBe("password");
    service.reply = (_, n) => ({ status: 200, body: { access_token: `token-${n}`, expires_in: 100 } });
    tokens.refused("token-4");
    await tokens.token(context);
    nowMs += 81_000;
    await tokens.token(context);
    expect(grants().slice(-1)).toEqual(["password"]);
  });

  it("that was refused is replaced once, not once for each request that met it", async () => {
    const tokens = keeper(login);
    await tokens.token(context);
    tokens.refused("token-1");
    expect(await tokens.token(context)).toBe("token-2");
    tokens.refused("token-1");
    expect(await tokens.token(context)).toBe("token-2");
    expect(service.asked).toHaveLength(2);
  });

  it.each([400, 401, 403])(
    "a login that is refused with %d is access-login, with what to do",
    async (status) => {
      service.reply = () => ({ status, body: { error_description: "the password is secret" } });
      await expect(keeper(login).token(context)).rejects.toMatchObject({
        code: "access-login",
        retry: "never",
        message: expect.stringContaining("demo"),
        hint: expect.stringContaining("gantry login tcia"),
      });
      await expect(keeper(login).token(context)).rejects.not.toThrow(/secret/u);
    },
  );

  it.each([
    [404, "", "archive-reply"],
    [200, "<html>sign in</html>", "archive-reply"],
    [200, "[]", "archive-reply"],
    [200, { access_token: 7 }, "archive-reply"],
    [503, "", "archive-busy"],
    [500, "", "archive-error"],
  ])("what is no login service (%d %j) is %s", async (status, body, code) => {
    service.reply = () => ({ status, body });
    await expect(keeper(login).token(context)).rejects.toMatchObject({ code });
  });

  it("that was given ready is sent as it is, can't be renewed, and is ended by logging out", async () => {
    const tokens = keeper({ token: "ready" });
    expect(await tokens.token(context)).toBe("ready");
    expect(tokens.canRenew).toBe(false);
    expect(tokens.rejection()).toMatchObject({
      code: "access-login",
      message: expect.stringContaining("can't be renewed"),
    });
    expect(service.asked).toEqual([]);
    expect(await tokens.logOut(context)).toBe(true);
    expect(service.asked).toEqual([{ path: "/nbia-api/logout", bearer: "Bearer ready" }]);
  });

  it("is none without an account, and nobody is logged out", async () => {
    expect(await keeper({}).token(context)).toBeNull();
    expect(await keeper({}).logOut(context)).toBe(false);
    expect(service.asked).toEqual([]);
  });
});
