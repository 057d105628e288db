/** What the stand-in does not do by itself: each answer to a login, strange replies, versions. */
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { sourceContext } from "../../../test/support/pipeline.ts";
import { createRedactor } from "../../lib/redact.ts";
import type { Item } from "../../model/item.ts";
import { NO_FILTERS } from "../../model/query.ts";
import { createHttp } from "../../transports/http.ts";
import type { Source } from "../source.ts";
import { EtagLedger } from "./etags.ts";
import { createLorisSource } from "./index.ts";

interface Answer {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

const API = "/api/v0.0.3";
const LOGIN: Answer = { body: '{"token":"a.b.c"}' };
const ROW = {
  Candidate: 300001,
  Visit: "V1",
  LorisScanType: "t1w",
  Subfolder: "anat",
  NiftiLink: "/x/a.nii.gz",
};
const MANIFEST: Answer = {
  headers: { "Content-Type": "text/html" },
  body: JSON.stringify({ Images: [ROW] }),
};

async function serve(
  answer: (path: string, request: IncomingMessage) => Answer | undefined,
  { path = API, user = "u", password = "p" } = {},
): Promise<{ source: Source; seen: IncomingMessage[] }> {
  const seen: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    seen.push(request);
    const { pathname } = new URL(request.url ?? "/", "http://host");
    const {
      status = 200,
      headers = {},
      body = "",
    } = answer(pathname, request) ?? { status: 404, body: "{}" };
    response.writeHead(status, { "Set-Cookie": "PHPSESSID=1", ...headers }).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  const http = createHttp({ userAgent: "test", connections: 4, stallTimeoutMs: 1000, environment: {} });
  closing.push(() => {
    void http.close();
    server.close();
  });
  const source = createLorisSource({
    archive: "brain",
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`,
    http,
    redactor: createRedactor(),
    secrets: { ...(user ? { user } : {}), ...(password ? { password } : {}) },
    settings: {},
  });
  return { source, seen };
}

async function listed(source: Source, type = "bids"): Promise<Item[]> {
  const items: Item[] = [];
  for await (const item of source.list(
    { path: [type], filters: NO_FILTERS },
    { complete: true },
    sourceContext(),
  ))
    items.push(item);
  return items;
}

async function fetched(source: Source, item: Item): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const delivery of source.fetch([item], { attempt: 0, scratch: "" }, sourceContext())) {
    if ("error" in delivery) throw delivery.error;
    for await (const { body } of delivery.entries) for await (const chunk of body) chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

const said = (error: string): string => JSON.stringify({ error });

describe("a refused login is one sentence", () => {
  it.each([
    [401, said("Incorrect username or password."), "wrong user name or password"],
    [401, said("Incorrect email or password"), "wrong user name or password"],
    [401, said("This account is currently suspended due to too many bad login attempts."), "up to an hour"],
    [401, said("Your account has not yet been activated. Please …"), "has not activated the account of u"],
    [401, said("Your account has been deactivated. Please …"), "has deactivated the account of u"],
    [401, said(""), "without a reason"],
    [401, "", "without a reason"],
    [401, "<!DOCTYPE html><html></html>", "without a reason"],
  ])("%i %s", async (status, body, sentence) => {
    const { source, seen } = await serve((path) => (path.endsWith("/login") ? { status, body } : MANIFEST));
    await expect(listed(source)).rejects.toMatchObject({
      code: "access-login",
      message: expect.stringContaining(sentence),
    });
    // Further wrong logins lock the account.
    await expect(listed(source)).rejects.toMatchObject({ code: "access-login" });
    expect(seen).toHaveLength(1);
  });

  it.each([
    [500, said("Unacceptable JWT key."), "archive-error", "its own key is too weak"],
    [500, "", "archive-error", "HTTP 500"],
    [405, "", "archive-reply", "HTTP 405"],
    [200, "<!DOCTYPE html><html></html>", "archive-reply", "two-factor"],
    [200, "{}", "archive-reply", "no login service"],
  ])("%i %s is the archive's fault", async (status, body, code, sentence) => {
    const { source } = await serve((path) => (path.endsWith("/login") ? { status, body } : MANIFEST));
    await expect(listed(source)).rejects.toMatchObject({ code, message: expect.stringContaining(sentence) });
  });

  it("names the variable that is missing", async () => {
    const { source, seen } = await serve(() => LOGIN, { password: "" });
    const failure = { code: "access-login", hint: expect.stringContaining("set GANTRY_BRAIN_PASSWORD,") };
    await expect(listed(source)).rejects.toMatchObject(failure);
    expect(seen).toHaveLength(0);
  });

  it("tells who asks by words which words are known", async () => {
    const { source } = await serve(() => LOGIN, { user: "" });
    const filters = { ...NO_FILTERS, words: { visit: ["PREBL"] } };
    await expect(source.resolve({ path: [], filters }, sourceContext())).rejects.toMatchObject({
      code: "access-login",
      hint: expect.stringMatching(/PREBL00.*task-encoding-bold/u),
    });
  });
});

describe("a login that is good", () => {
  it("is asked once more when its token is refused, e.g. by a slower clock", async () => {
    let refused = 0;
    const { source, seen } = await serve((path, { headers }) => {
      if (path.endsWith("/login")) return LOGIN;
      expect(headers.cookie).toBeUndefined();
      refused += 1;
      return refused === 1 ? { status: 401, body: said("unauthorized") } : MANIFEST;
    });
    expect(await listed(source)).toHaveLength(1);
    expect(seen.map(({ method }) => method)).toEqual(["POST", "GET", "POST", "GET"]);
    expect(seen[1]?.rawHeaders).toContain("Authorization");
  });

  it("is no use when every token is refused", async () => {
    const { source } = await serve((path) =>
      path.endsWith("/login") ? LOGIN : { status: 401, body: said("User not authenticated") },
    );
    await expect(listed(source)).rejects.toMatchObject({ code: "access-login" });
  });
});

describe("replies that are none", () => {
  const login = (answer: Answer) => (path: string) => (path.endsWith("/login") ? LOGIN : answer);
  it.each([
    [200, "<!DOCTYPE html><html></html>", "archive-reply", "two-factor"],
    [200, said("no"), "archive-reply", "error message"],
    [400, '{"error":{"error":"Invalid date"}}', "archive-reply", "Invalid date"],
    [502, "<html></html>", "archive-error", "HTTP 502"],
    [500, "", "archive-error", "HTTP 500"],
  ])("%i %s", async (status, body, code, sentence) => {
    const { source } = await serve(login({ status, body }));
    await expect(listed(source)).rejects.toMatchObject({ code, message: expect.stringContaining(sentence) });
  });

  it("a project that the server does not have, or does not show", async () => {
    const { source } = await serve((path) => {
      if (path.endsWith("/login")) return LOGIN;
      if (path.endsWith("/projects/")) return { body: '{"Projects":{"secret":{}}}' };
      return path.endsWith("/images") ? { status: 403, body: said("forbidden") } : undefined;
    });
    await expect(listed(source, "minc")).rejects.toMatchObject({ code: "access-denied" });
  });

  it.each([
    [304, "", "archive-reply"],
    [404, said("File not found"), "access-item"],
    [404, "<html>Apache</html>", "access-item"],
  ])("%i for a file that was never here: %s", async (status, body, code) => {
    const { source } = await serve((path) =>
      path.endsWith("/login") ? LOGIN : path.endsWith(".nii.gz") ? { status, body } : MANIFEST,
    );
    const [item] = await listed(source);
    await expect(fetched(source, item as Item)).rejects.toMatchObject({ code });
  });
});

describe("rows of every release", () => {
  it("may have numbers for ids, empty objects in Meta, and accented names (defect 16)", async () => {
    const image = { Candidate: 300001, PSCID: "Zoë", Visit: "V1", ScanType: null, Selected: "true" };
    const Meta = { CandID: {}, Visit: "V1", Site: "Montréal" };
    const { source } = await serve((path) => {
      if (path.endsWith("/login")) return LOGIN;
      if (path.endsWith("/projects/")) return { body: '{"Projects":{"Étude 1":{}}}' };
      if (path.endsWith("/images"))
        return {
          body: JSON.stringify({ Images: [{ ...image, Link: "//candidates/300001/V1/images/a b.mnc" }] }),
        };
      if (path.endsWith("/candidates/"))
        return { body: '{"Candidates":[{"CandID":300001,"PSCID":"Zo\\u00eb"}]}' };
      if (path.endsWith("/300001/V1")) return { body: JSON.stringify({ Meta, Stages: [] }) };
      return path.endsWith("/images/a%20b.mnc") ? { body: "CDF\u0001" } : undefined;
    });
    const items = await listed(source, "minc");
    expect(items.map(({ labels }) => labels.Path)).toEqual([
      "300001/V1/a b.mnc",
      "300001/V1/a b.mnc.qc.json",
      "300001/V1/session.json",
      "300001/candidate.json",
    ]);
    expect(items[0]?.labels).toMatchObject({ Project: "Étude 1", PSCID: "Zoë", LorisScanType: "unknown" });
    const texts = await Promise.all(items.map((item) => fetched(source, item)));
    expect(texts[0]).toBe("CDF\u0001");
    // Quality was never looked at: no file.
    expect(texts[1]).toBe("");
    expect(JSON.parse(texts[2] ?? "")).toEqual(Meta);
    expect(JSON.parse(texts[3] ?? "")).toEqual({ CandID: 300001, PSCID: "Zoë" });
  });
});

describe("the version of the interface", () => {
  it.each(["v0.0.3", "v0.0.3-dev", "v0.0.2"])("%s is found by asking", async (version) => {
    const { source } = await serve(
      (path, { method }) => {
        if (!path.startsWith(`/loris/api/${version}/`))
          return { status: 400, body: said("Unsupported version") };
        if (!path.endsWith("/login")) return MANIFEST;
        return method === "GET" ? { status: 405 } : LOGIN;
      },
      { path: "/loris/" },
    );
    expect(await listed(source)).toHaveLength(1);
  });

  it("is told to be none where there is no LORIS", async () => {
    const { source } = await serve(() => ({ status: 404 }), { path: "" });
    await expect(listed(source)).rejects.toMatchObject({ code: "archive-reply" });
  });
});

describe("ETags", () => {
  it.each([
    ["a file's", "/candidates/1/V1/images/a.mnc", "0123", "0123"],
    ["none", "/candidates/1/V1/images/a.mnc", undefined, null],
    ["an empty one", "/candidates/1/V1/images/a.mnc/qc", "", null],
    ["a constant", "/candidates/1/V1/images/a.mnc", "99914b932bd37a50b983c5e7c90ae93b", null],
    ["one of the study's own files", "//projects/loris/bids/README", "0123", null],
  ])("%s", (_what, link, etag, trusted) => {
    expect(new EtagLedger().trusted(link, etag)).toBe(trusted);
  });

  it("of two resources are worth nothing", () => {
    const ledger = new EtagLedger();
    expect(ledger.trusted("/a", "1")).toBe("1");
    expect(ledger.trusted("/b", "1")).toBeNull();
    expect(ledger.trusted("/a", "1")).toBe("1");
  });
});
