/** The stand-in as a client meets it: the OAuth dance, listings, transfer specs, and ascp moving what they open. */
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startAscp } from "../../sandbox/ascp/spawn.test-support.ts";
import { type Sandbox, startSandbox } from "../../sandbox/server.ts";
import { tinyDataset } from "../../sandbox/tiny-dataset.ts";

let sandbox: Sandbox;
let links: Readonly<Record<string, string>>;
let work: string;
beforeAll(async () => {
  sandbox = await startSandbox({ data: tinyDataset() });
  links = await sandbox.links();
  work = await mkdtemp(join(tmpdir(), "gantry-faspex-"));
});
beforeEach(() => sandbox.control.reset());
afterAll(async () => {
  await sandbox.close();
  await rm(work, { recursive: true, force: true });
});

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: replies are looked into field by field
  readonly body: any;
}

interface Session {
  readonly base: string;
  readonly headers: Record<string, string>;
  readonly number: string;
  readonly query: string;
  call(method: string, path: string, body?: unknown): Promise<Answer>;
}

async function fetchJson(url: string, init: RequestInit = {}): Promise<Answer> {
  const reply = await fetch(url, { redirect: "manual", ...init });
  const text = await reply.text();
  let body: unknown = text;
  try {
    body = JSON.parse(text);
  } catch {
    // A page: kept as text.
  }
  return { status: reply.status, headers: reply.headers, body };
}

/** What a client does with a link. `failed`: where it was sent instead of a code. */
async function dance(link: string): Promise<Session | { failed: URL }> {
  const page = await fetch(link);
  expect(page.status).toBe(200);
  const final = new URL(page.url);
  const context = final.searchParams.get("context")!;
  const number = JSON.parse(Buffer.from(context, "base64").toString()).package_id;
  const base = `${final.origin}${final.pathname.replace(/\/public\/.*$/, "")}`;
  const config = await (await fetch(`${base}/config.js`)).text();
  const of = (key: string): string => new RegExp(`${key}: '([^']*)'`).exec(config)![1]!;
  const [clientId, redirectUri] = [of("client_id"), of("redirect_uri")];
  const asked = await fetchJson(
    `${base}/auth/authorize_public_link?${new URLSearchParams({ response_type: "code", state: context, client_id: clientId, redirect_uri: redirectUri })}`,
  );
  expect(asked.status).toBe(302);
  const to = new URL(asked.headers.get("location")!, base);
  const code = to.searchParams.get("code");
  if (code === null) return { failed: to };
  const token = await fetchJson(`${base}/auth/token`, {
    method: "POST",
    body: new URLSearchParams({
      client_id: clientId,
      grant_type: "authorization_code",
      code,
      redirect_uri: redirectUri,
    }),
  });
  expect(token.status).toBe(201);
  return session(base, number, { Authorization: `Bearer ${token.body.access_token}` });
}

async function session(base: string, number: string, headers: Record<string, string>): Promise<Session> {
  const call: Session["call"] = (method, path, body) =>
    fetchJson(`${base}/api/v5${path}`, {
      method,
      headers: { ...headers, ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  const shown = await call("GET", `/packages/${number}`);
  const [recipient] = shown.body.recipients ?? [];
  const query =
    recipient === undefined
      ? ""
      : `recipient_${recipient.recipient_type === "user" ? "user" : "workgroup"}_id=${recipient.id}`;
  return { base, headers, number, query, call };
}

async function open(name: string): Promise<Session> {
  const link = links[name]!;
  if (name.startsWith("old")) {
    const url = new URL(link);
    const { passcode, package_id } = JSON.parse(
      Buffer.from(url.searchParams.get("context")!, "base64").toString(),
    );
    return session(`${url.origin}/old/aspera/faspex`, package_id, { Passcode: passcode });
  }
  const opened = await dance(link);
  if ("failed" in opened) throw new Error(`no token: ${opened.failed}`);
  return opened;
}

const browse = (at: Session, path: string, more = "") =>
  at.call("POST", `/packages/${at.number}/files/received?${at.query}${more}`, { path });

interface Spec {
  readonly token: string;
  readonly ssh_port: number;
  readonly remote_user: string;
  readonly paths: readonly { readonly source: string }[];
  readonly content_protection?: string;
}

async function specOf(at: Session, paths?: readonly string[]): Promise<Spec> {
  const answer = await at.call(
    "POST",
    `/packages/${at.number}/transfer_spec/download?transfer_type=connect&type=received&${at.query}`,
    paths === undefined ? {} : { paths: paths.map((path) => ({ path })) },
  );
  expect(answer.status).toBe(201);
  return answer.body.data ?? answer.body;
}

/** ascp as the reference client starts it. */
async function ascp(
  spec: Spec,
  into: string,
  more: readonly string[] = [],
  env: Record<string, string> = {},
) {
  const list = join(work, `list-${Math.random()}`);
  await writeFile(list, spec.paths.map(({ source }) => source).join("\n"));
  return startAscp(
    sandbox.ascp,
    [
      "-q",
      "-i",
      join(sandbox.ascp, "../../etc/aspera_tokenauth_id_rsa"),
      ...["--mode", "recv", "--host", "127.0.0.1", "--user", spec.remote_user, "-P", String(spec.ssh_port)],
      ...["-d", "-k", "2", ...more, "--dest64", `--file-list=${list}`],
      Buffer.from(into).toString("base64"),
    ],
    { env: { ASPERA_SCP_TOKEN: spec.token, ...env } },
  );
}

async function tree(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(dir.length + 1))
    .sort();
}

describe("a public link", () => {
  it("leads to a package, its listing, a transfer spec, and its bytes", async () => {
    const at = await open("short");
    const shown = await at.call("GET", `/packages/${at.number}`);
    expect(shown.body).toMatchObject({
      id: "701",
      title: "Phantom_tumor_ROIs_v1",
      pagination_browsing: true,
    });
    const root = await browse(at, "/");
    expect(root.body.items.map(({ path }: { path: string }) => path)).toContain(
      "/Phantom_tumor_ROIs_v1.sums",
    );
    const spec = await specOf(at);
    const into = join(work, "whole");
    const run = await ascp(spec, into);
    expect(await run.ended).toMatchObject({ status: 0, stdout: "", stderr: "" });
    expect(run.frames.map(({ Type }) => Type).filter((type) => type !== "STATS" && type !== "STOP")).toEqual([
      "INIT",
      "SESSION",
      "NOTIFICATION",
      "DONE",
    ]);
    expect(run.frames.at(-1)).toMatchObject({ TransferBytes: String(shown.body.total_bytes) });
    const top = join(into, "PKG - Phantom_tumor_ROIs_v1");
    const sums = await readFile(join(top, "Phantom_tumor_ROIs_v1.sums"), "utf8");
    const lines = sums.trimEnd().split("\n");
    for (const line of lines) {
      const [digest, path] = line.split("  ") as [string, string];
      const bytes = await readFile(join(top, path));
      expect(createHash("md5").update(bytes).digest("hex"), path).toBe(digest);
    }
    expect(await tree(top)).toHaveLength(lines.length + 1);
  });

  it("with a code that is good once, for its redirect address only", async () => {
    const at = await open("package");
    const config = await (await fetch(`${at.base}/config.js`)).text();
    const clientId = /client_id: '([^']*)'/.exec(config)![1]!;
    const context = new URL(links.package!).searchParams.get("context")!;
    const ask = async (redirect: string) => {
      const query = { response_type: "code", state: context, client_id: clientId, redirect_uri: redirect };
      return fetchJson(`${at.base}/auth/authorize_public_link?${new URLSearchParams(query)}`);
    };
    expect((await ask("https://elsewhere.example/")).status).toBe(403);
    const code = new URL(
      (await ask("/aspera/faspex/token")).headers.get("location")!,
      at.base,
    ).searchParams.get("code")!;
    const exchange = (redirect: string) =>
      fetchJson(`${at.base}/auth/token`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({
          client_id: clientId,
          grant_type: "authorization_code",
          code,
          redirect_uri: redirect,
        }),
      });
    expect((await exchange("/other")).body.code).toBe("2021");
    expect((await exchange("/aspera/faspex/token")).status).toBe(201);
    expect((await exchange("/aspera/faspex/token")).body.code).toBe("2020");
  });

  it.each([
    ["link-expired", "action_message", /expired/],
    ["link-used-up", "action_message", /used/],
    ["link-unknown", "action_message", /not valid/],
    ["link-mfa", "state", /./],
  ])("that is dead (%s) brings no code", async (name, parameter, words) => {
    const opened = await dance(links[name]!);
    if (!("failed" in opened)) throw new Error("it brought one");
    expect(opened.failed.searchParams.get(parameter)).toMatch(words);
  });

  it("of an older server is good by its passcode", async () => {
    const at = await open("old");
    expect((await fetch(`${at.base}/config.js`)).status).toBe(404);
    expect((await browse(at, "/")).body.total_count).toBeGreaterThan(3);
    expect((await specOf(at)).token).toMatch(/^AT.*TA$/);
    for (const [passcode, code] of [
      [undefined, "2002"],
      ["nonsense", "3805"],
    ] as const) {
      const headers: Record<string, string> = passcode === undefined ? {} : { Passcode: passcode };
      expect((await fetchJson(`${at.base}/api/v5/packages/${at.number}`, { headers })).body.code).toBe(code);
    }
    await expect(
      open("old-expired").then((it) => it.call("GET", `/packages/${it.number}`)),
    ).resolves.toMatchObject({ body: { code: "3807" } });
  });

  it.each([
    ["held", "1038"],
    ["deleted", "1051"],
    ["expired", "1051"],
  ])("to a package that is %s", async (name, code) => {
    expect((await browse(await open(name), "/")).body.code).toBe(code);
  });

  it("ends with its token", async () => {
    const at = await open("package");
    sandbox.control.tokens({ expireNow: true });
    expect(await browse(at, "/")).toMatchObject({ status: 401, body: { code: "2005" } });
  });
});

describe("a listing", () => {
  it("wants the recipient named", async () => {
    for (const [name, query] of [
      ["package", "recipient_user_id=17"],
      ["workgroup", "recipient_workgroup_id=17"],
    ] as const) {
      const at = await open(name);
      expect(at.query).toBe(query);
      expect((await browse({ ...at, query: "" }, "/")).body.code).toBe("3809");
    }
    expect((await browse(await open("no-recipient"), "/")).status).toBe(200);
  });

  it("is cut by its pages: by offset at 100, by token as asked", async () => {
    const at = await open("thousand");
    const folder = await browse(at, "/PHANTOM-0001", "&offset=40&limit=5");
    expect(folder.body).toMatchObject({ item_count: 5, total_count: 50 });
    const pages: number[] = [];
    let token: string | null = "";
    while (token !== null) {
      const page: Answer = await at.call(
        "POST",
        `/packages/${at.number}/files/received/page?per_page=20&iteration_token=${token}&${at.query}`,
        { path: "/PHANTOM-0002" },
      );
      pages.push(page.body.item_count);
      token = page.headers.get("x-aspera-next-iteration-token");
    }
    expect(pages).toEqual([20, 20, 10]);
  });

  it("shows links with all, a part and nothing of their targets, and sizes in three forms", async () => {
    const at = await open("odd");
    const { items } = (await browse(at, "links")).body;
    const by = Object.fromEntries(items.map((row: { basename: string }) => [row.basename, row]));
    expect(by["far away.svs"]).toMatchObject({
      path: "links/far away.svs",
      type: "symbolic_link",
      size: 152_345,
      target: { type: "file", size: 152_345 },
    });
    expect(by["no size.svs"].target.size).toBeUndefined();
    expect(by["no target.svs"].target).toBeUndefined();
    expect(by["to a folder"].target.type).toBe("directory");
    expect((await browse(at, "/links/to a folder")).body.total_count).toBe(2);
    const sizes = (await browse(at, "/sizes")).body.items.map(({ size }: { size: unknown }) => size);
    expect(sizes).toEqual([0, null, "800"]);
    expect((await browse(at, "/loop/up again/up again/up again")).body.total_count).toBe(2);
    expect((await browse(at, "/empty")).body).toMatchObject({ items: [], total_count: 0 });
  });

  it("fails without a slash in front where a server is of that kind", async () => {
    const at = await open("slash");
    expect(await browse(at, "Phantom_HER2_cohort")).toMatchObject({ status: 500, body: { code: "1202" } });
    expect((await browse(at, "/Phantom_HER2_cohort")).status).toBe(200);
  });
});

describe("a transfer spec", () => {
  it("takes paths by the key `path` only", async () => {
    const at = await open("package");
    const ask = (paths: unknown, type = "connect") =>
      at.call("POST", `/packages/${at.number}/transfer_spec/download?transfer_type=${type}&${at.query}`, {
        paths,
      });
    expect((await ask(["README.txt"])).body.code).toBe("1228");
    expect((await ask([{ source: "README.txt" }])).status).toBe(500);
    expect((await ask([{ path: "README.txt" }], "ftp")).body.code).toBe("1225");
    expect((await ask([{ path: "/README.txt" }])).body.paths[0].source).toMatch(
      /^\/Phantom_tumor_ROIs_v1 - [0-9a-f-]{36}\.aspera-package\/PKG - Phantom_tumor_ROIs_v1\/README\.txt$/,
    );
  });

  it("opens its own list of paths and no other", async () => {
    const spec = await specOf(await open("package"), ["/README.txt", "/Phantom_HER2_cohort/SVS"]);
    const right = await ascp(spec, join(work, "two"));
    expect((await right.ended).status).toBe(0);
    expect(await tree(join(work, "two"))).toContain("SVS/Phantom_Case_01.svs");
    for (const paths of [spec.paths.slice(0, 1), spec.paths.toReversed()]) {
      const wrong = await ascp({ ...spec, paths }, join(work, "none"));
      expect(await wrong.ended).toMatchObject({ status: 1 });
      expect(wrong.frames.at(-1)).toMatchObject({ Type: "ERROR", Code: "37" });
      expect(wrong.frames.at(-1)?.Description).toMatch(/token and path mismatch/);
    }
  });

  it("opens less than it says when the list is too long", async () => {
    const at = await open("thousand");
    const { items } = (await browse(at, "/PHANTOM-0001")).body;
    const paths = Array.from({ length: 430 }, (_, index) => items[index % 50].path);
    const run = await ascp(await specOf(at, paths), join(work, "long"));
    await run.ended;
    expect(run.frames.at(-1)?.Description).toMatch(/mismatch/);
  });

  it("of an encrypted package needs the passphrase", async () => {
    const spec = await specOf(await open("encrypted"), ["/README.txt.aspera-env"]);
    expect(spec.content_protection).toBe("decrypt");
    const more = ["--file-crypt=decrypt"];
    const right = await ascp(spec, join(work, "clear"), more, { ASPERA_SCP_FILEPASS: "demo at rest" });
    expect((await right.ended).status).toBe(0);
    expect(await readFile(join(work, "clear/README.txt"), "utf8")).toMatch(/generated package/);
    const wrong = await ascp(spec, join(work, "wrong"), more, { ASPERA_SCP_FILEPASS: "something" });
    expect((await wrong.ended).status).toBe(1);
    expect(wrong.frames.find(({ Type }) => Type === "FILEERROR")?.Code).toBe("49");
    const raw = await ascp(spec, join(work, "raw"));
    expect((await raw.ended).status).toBe(0);
    expect(await tree(join(work, "raw"))).toEqual(["README.txt.aspera-env"]);
  });
});

describe("the HTTP gateway", () => {
  const gatewaySpec = async (name: string, paths?: readonly string[]) => {
    const at = await open(name);
    const { body: account } = await at.call("GET", "/account");
    const answer = await at.call(
      "POST",
      `/packages/${at.number}/transfer_spec/download?transfer_type=http_gateway&${at.query}`,
      paths === undefined ? {} : { paths: paths.map((path) => ({ path })) },
    );
    return { account, answer, url: account.gateway_url as string };
  };

  it.each([
    ["gateway", "1.2.1"],
    ["gateway2", "2.3.0"],
  ])("of %s gives a file, and a zip of several", async (name, version) => {
    const one = await gatewaySpec(name, ["/README.txt"]);
    expect(one.account.gateway_enabled).toBe(true);
    expect((await fetchJson(`${one.url}/v1/info`)).body.version).toBe(version);
    const post = (spec: unknown) =>
      fetchJson(`${one.url}/v1/download`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ transfer_spec: spec }),
      });
    const prepared = await post(one.answer.body);
    const file = await fetch(prepared.body.url);
    expect(file.headers.get("content-disposition")).toContain('filename="README.txt"');
    expect(await file.text()).toMatch(/generated package/);
    const whole = await gatewaySpec(name);
    expect((await post(whole.answer.body)).status).toBe(400);
    const zip = await post({ ...whole.answer.body, zip_required: true, download_name: "all" });
    const bytes = Buffer.from(await (await fetch(zip.body.url)).arrayBuffer());
    expect(bytes.includes("PKG - Phantom_tumor_ROIs_v1/README.txt")).toBe(true);
    const other = { ...one.answer.body, paths: [{ source: "/elsewhere" }] };
    expect((await post(other)).status).toBe(403);
  });

  it("of version 3 takes the spec in a header", async () => {
    const { answer, url } = await gatewaySpec("gateway3", ["/README.txt"]);
    expect((await fetchJson(`${url}/info`)).body.version).toBe("3.1.0");
    const spec = Buffer.from(JSON.stringify(answer.body)).toString("base64");
    const file = await fetch(`${url}/v3/download`, { headers: { "X-Aspera-Spec": spec } });
    expect(await file.text()).toMatch(/generated package/);
  });

  it("is not there for every server and not allowed for every package", async () => {
    expect((await gatewaySpec("package")).account).toMatchObject({ gateway_enabled: false });
    expect((await gatewaySpec("gateway-forbidden")).answer.body.code).toBe("1238");
  });
});

describe("Faspex 4", () => {
  const entry = async (link: string): Promise<{ readonly text: string; readonly address: string }> => {
    const text = await (await fetch(link, { headers: { Accept: "application/xml" } })).text();
    const href = /rel="package" href="([^"]*)"/.exec(text)?.[1] ?? "";
    return { text, address: href.replace(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code))) };
  };
  const partsOf = (address: string) => {
    const [, user = "", port = "", path = "", query = ""] =
      /^faspe:\/\/([^@]+)@127\.0\.0\.1:(\d+)([^?]*)\?(.*)$/.exec(address) ?? [];
    const values = new Map(query.split("&").map((pair) => pair.split(/=(.*)/s) as [string, string]));
    return { user, port: Number(port), path: decodeURIComponent(path), values };
  };

  it("gives an entry whose address ascp can use", async () => {
    const { user, port, path, values } = partsOf((await entry(links.four!)).address);
    const spec = {
      token: values.get("token")!,
      ssh_port: port,
      remote_user: user,
      paths: [{ source: path }],
    };
    const run = await ascp(spec, join(work, "four"));
    expect((await run.ended).status).toBe(0);
    expect(await tree(join(work, "four"))).toContain("PKG - Phantom_tumor_ROIs_v1/README.txt");
  });

  it("gives a token on demand where the entry has none, and a page for a link that is not known", async () => {
    const { address } = await entry(links["four-bare"]!);
    expect(partsOf(address).values.has("token")).toBe(false);
    const base = links["four-bare"]!.replace(/\/external_deliveries.*/, "");
    const reply = await fetch(`${base}/issue-token?direction=down`, {
      method: "POST",
      headers: { "Content-Type": "application/vnd.aspera.url-list+xml", Accept: "text/plain" },
      body: `<?xml version="1.0"?><url-list><url href="${address.replaceAll("&", "&amp;")}"/></url-list>`,
    });
    expect(await reply.text()).toMatch(/^AT.*TA$/);
    expect((await entry(links["four-unknown"]!)).text).toContain("<html");
  });
});

describe("a public upload link", () => {
  it.each(["upload", "upload-inbox"])("%s takes a package, and its bytes come back out", async (name) => {
    const context = JSON.parse(
      Buffer.from(new URL(links[name]!).searchParams.get("context")!, "base64").toString(),
    );
    const at = await open(name);
    const create = (recipients: unknown) => at.call("POST", "/packages", { title: "Mine", recipients });
    expect((await create([{ name: "somebody", recipient_type: "user" }])).body.code).toBe("3804");
    const created = await create([{ name: context.name, recipient_type: context.recipient_type }]);
    expect(created.status).toBe(201);
    const { id } = created.body;
    const status = async () => (await at.call("GET", `/packages/${id}/upload_details`)).body.upload_status;
    expect(await status()).toBe("pre_initiation");
    const file = join(work, "mine.txt");
    await writeFile(file, `my own words ${name}\n`);
    const spec = await at.call("POST", `/packages/${id}/transfer_spec/upload?transfer_type=connect`, {
      paths: [file],
    });
    expect(spec.body).toMatchObject({ direction: "send", create_dir: true });
    expect(spec.body.paths).toEqual(name === "upload" ? undefined : [file]);
    const run = await startAscp(
      sandbox.ascp,
      [
        ...["-q", "-d", "--mode=send", "--host=127.0.0.1", `--user=${spec.body.remote_user}`],
        ...["-P", String(spec.body.ssh_port), "-i", join(sandbox.ascp, "../../etc/aspera_tokenauth_id_rsa")],
        ...["--dest64", file, Buffer.from(spec.body.destination_root).toString("base64")],
      ],
      { env: { ASPERA_SCP_TOKEN: spec.body.token } },
    );
    expect(await run.ended).toMatchObject({ status: 0 });
    expect([await status(), await status()]).toEqual(["transferring", "completed"]);
    const again = await sandbox.links();
    const back = await dance(again[`uploaded-${id}`]!);
    if ("failed" in back) throw new Error("no token");
    const got = await ascp(await specOf(back), join(work, `back-${name}`));
    expect((await got.ended).status).toBe(0);
    expect(await readFile(join(work, `back-${name}/PKG - Mine/mine.txt`), "utf8")).toContain(name);
  });
});
