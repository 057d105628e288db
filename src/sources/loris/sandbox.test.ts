/** The stand-in by what was observed of the real servers; sections are those of the protocol notes it follows. */
import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type Sandbox, startSandbox } from "../../sandbox/server.ts";

interface Got {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly text: string;
}

let sandbox: Sandbox;
const tokens = new Map<string, string>();

beforeAll(async () => {
  sandbox = await startSandbox();
});
afterEach(() => {
  sandbox.control.reset();
  tokens.clear();
});
afterAll(() => sandbox.close());

const baseOf = (archive: string): string => sandbox.archives.find(({ name }) => name === archive)!.url;

function ask(
  url: string,
  {
    method = "GET",
    headers = {},
    body,
  }: { method?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<Got> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest(url, { method, headers, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        const whole = Buffer.concat(chunks);
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: whole,
          text: whole.toString(),
        });
      });
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

async function login(archive: string): Promise<string> {
  const known = tokens.get(archive);
  if (known !== undefined) return known;
  const body = JSON.stringify({ username: "demo", password: "demo" });
  const { text } = await ask(`${baseOf(archive)}/login`, { method: "POST", body });
  const { token } = JSON.parse(text) as { token: string };
  tokens.set(archive, token);
  return token;
}

/** With the token of the archive. */
async function get(
  archive: string,
  path: string,
  options: { method?: string; headers?: Record<string, string> } = {},
): Promise<Got> {
  const headers = { Authorization: `Bearer ${await login(archive)}`, ...options.headers };
  return ask(baseOf(archive) + path, { ...options, headers });
}

const F = "preventad";
const MANIFEST = "/projects/loris/bids/";
const EXPORT_ETAG = "8241a4b1e6d135003117a3b095b974a5";

interface Manifest {
  readonly SessionFiles: readonly { Candidate: string; Visit: string; TsvLink: string; JsonLink: string }[];
  readonly Images: readonly Record<string, string>[];
}
const manifest = async (): Promise<Manifest> => JSON.parse((await get(F, MANIFEST)).text) as Manifest;

const firstImage = async (scanType: string): Promise<Record<string, string>> =>
  (await manifest()).Images.find(({ LorisScanType }) => LorisScanType === scanType)!;

describe("family F: login and tokens (3)", () => {
  const attempt = (body: string, headers: Record<string, string> = {}) =>
    ask(`${baseOf(F)}/login`, { method: "POST", body, headers });

  it("gives a JWT of 24 hours, whatever the body's type is called", async () => {
    const good = '{"username":"demo","password":"demo"}';
    for (const type of ["application/json", "application/x-www-form-urlencoded", "text/plain"]) {
      const { status, headers, text } = await attempt(good, { "Content-Type": type });
      expect([status, headers["content-type"]]).toEqual([200, "application/json"]);
      const { token } = JSON.parse(text) as { token: string };
      const [head, claims] = token
        .split(".")
        .slice(0, 2)
        .map((part) => Buffer.from(part, "base64url").toString());
      expect(JSON.parse(head!)).toMatchObject({ alg: "HS256" });
      const { iat, nbf, exp, user } = JSON.parse(claims!) as Record<string, number | string>;
      expect([Number(exp) - Number(iat), nbf, user]).toEqual([86_400, iat, "demo"]);
    }
  });

  it.each([
    ["username=demo&password=demo", 400, "Missing username or password"],
    ['{"username":"demo"}', 400, "Missing username or password"],
    ['{"username":"demo","password":""}', 400, "Missing username or password"],
    ['{"username":"demo","password":"wrong"}', 401, "Incorrect username or password."],
  ])("refuses %s with %d", async (body, status, error) => {
    const got = await attempt(body);
    expect([got.status, JSON.parse(got.text)]).toEqual([status, { error }]);
  });

  it("locks out after more than 10 failures, the right password too", async () => {
    for (let i = 0; i < 11; i++) await attempt('{"username":"demo","password":"wrong"}');
    const { status, text } = await attempt('{"username":"demo","password":"demo"}');
    expect(status).toBe(401);
    expect(text).toContain("too many bad login attempts");
  });

  it("answers GET with 405 and an empty body", async () => {
    const { status, headers, text } = await ask(`${baseOf(F)}/login`);
    expect([status, headers.allow, text]).toEqual([405, "POST", ""]);
  });

  it("knows the header as Authorization only (3.1)", async () => {
    const token = await login(F);
    const by = async (headers: Record<string, string>) =>
      (await ask(`${baseOf(F)}/projects/`, { headers })).status;
    expect(await by({ Authorization: `Bearer ${token}` })).toBe(200);
    expect(await by({ Authorization: `Whatever ${token}` })).toBe(200);
    expect(await by({ authorization: `Bearer ${token}` })).toBe(401);
    expect(await by({ Authorization: "Bearer " })).toBe(401);
    expect(await by({ Authorization: `Bearer ${token.slice(0, -2)}xx` })).toBe(401);
  });

  it("takes no token after its end", async () => {
    await login(F);
    sandbox.control.tokens({ expireNow: true });
    expect((await get(F, "/projects/")).text).toBe('{"error":"User not authenticated"}');
    tokens.clear();
    sandbox.control.tokens({ ttlSeconds: 0 });
    expect((await get(F, "/projects/")).status).toBe(401);
  });

  it("lets a cookie in without a token, and makes its requests wait for each other (3.2)", async () => {
    const { headers } = await get(F, "/projects/");
    const cookie = headers["set-cookie"]![0]!.split(";")[0]!;
    expect((await ask(`${baseOf(F)}/projects/`, { headers: { Cookie: cookie } })).status).toBe(200);
    const { NiftiLink } = await firstImage("t1w-defaced");
    sandbox.control.setFaults([{ kind: "slow", bytesPerSecond: 60_000, route: "**/*.nii.gz" }]);
    const order: string[] = [];
    const slow = get(F, NiftiLink!, { headers: { Cookie: cookie } }).then(() => order.push("slow"));
    while (!sandbox.control.requests().some(({ path }) => path.endsWith(NiftiLink!)))
      await new Promise((resolve) => setImmediate(resolve));
    const free = get(F, "/projects/").then(() => order.push("free"));
    const held = get(F, "/projects/", { headers: { Cookie: cookie } }).then(() => order.push("held"));
    await Promise.all([slow, free, held]);
    expect(order.indexOf("free")).toBe(0);
    expect(order.indexOf("held")).toBeGreaterThan(order.indexOf("slow"));
  });
});

describe("family F: replies (2, 4)", () => {
  it("labels JSON as HTML and escapes slashes", async () => {
    const { headers, text } = await get(F, MANIFEST);
    expect(headers["content-type"]).toBe("text/html; charset=UTF-8");
    expect(text).toContain('"Link":"\\/projects\\/loris\\/bids\\/README"');
  });

  it.each([
    ["/projects", 301, "/projects/?PrintProjects=true"],
    ["/candidates", 301, "/candidates/?PrintCandidates=true"],
  ])("redirects %s", async (path, status, location) => {
    const got = await get(F, path);
    expect(got.status).toBe(status);
    expect(got.headers.location).toContain(location);
  });

  it("answers with Apache's page where no rule fits, and with JSON where one does", async () => {
    const { Candidate, Visit } = await firstImage("t1w-defaced");
    const at = `/candidates/${Candidate}/${Visit}`;
    for (const path of [`${at}/images/`, "/candidates/abc", `${at}/images/x.mnc/format/nifti`, "/nothing"]) {
      const { status, headers, text } = await get(F, path);
      expect([path, status, headers["content-type"]]).toEqual([path, 404, "text/html; charset=iso-8859-1"]);
      expect(text).toMatch(/^<!DOCTYPE/);
    }
    const said = async (path: string) => {
      const { status, text } = await get(F, path);
      return [status, JSON.parse(text)];
    };
    expect(await said("/projects/other")).toEqual([404, { error: { error: "Invalid project" } }]);
    expect(await said("/candidates/12")).toEqual([400, { error: "Invalid CandID format" }]);
    expect(await said("/candidates/9999999")).toEqual([404, { error: "Unknown CandID" }]);
    expect(await said(`/candidates/${Candidate}/NOPE`)).toEqual([404, { error: "Invalid visit NOPE" }]);
    expect(await said(`${at}/images/none.mnc`)).toEqual([404, { error: "File not found" }]);
  });

  it("takes a double slash after the version", async () => {
    expect((await get(F, "//projects/loris/bids")).status).toBe(200);
  });

  it("refuses other methods with 405 and nothing else", async () => {
    const got = await get(F, "/candidates/", { method: "POST" });
    expect([got.status, got.headers.allow, got.text]).toEqual([405, "GET", ""]);
  });

  it("answers HEAD for native images and session files only, never with 304 (4.3)", async () => {
    const { NiftiLink } = await firstImage("t1w-defaced");
    const native = NiftiLink!.replace(/\/bids\/.*/, "");
    const got = await get(F, native, { method: "HEAD" });
    expect([got.status, Number(got.headers["content-length"]) > 0]).toEqual([200, true]);
    const again = { "If-None-Match": got.headers.etag! };
    expect((await get(F, native, { method: "HEAD", headers: again })).status).toBe(200);
    expect((await get(F, (await manifest()).SessionFiles[0]!.TsvLink, { method: "HEAD" })).status).toBe(200);
    expect((await get(F, NiftiLink!, { method: "HEAD" })).status).toBe(405);
    expect((await get(F, "/projects/loris/bids/README", { method: "HEAD" })).status).toBe(405);
  });

  it("cuts ranges out of small replies only (4.3)", async () => {
    const image = await firstImage("dwi65");
    const Range = "bytes=2-5";
    const small = await get(F, image.BvalLink!, { headers: { Range } });
    const whole = await get(F, image.BvalLink!);
    expect([small.status, small.body]).toEqual([206, whole.body.subarray(2, 6)]);
    const { NiftiLink } = await firstImage("t1w-defaced");
    const large = await get(F, NiftiLink!, { headers: { Range } });
    expect([large.status, large.body.length > 8192, large.headers["accept-ranges"]]).toEqual([
      200,
      true,
      undefined,
    ]);
  });

  it("wraps .nii.gz in gzip once more for who offers it: chunked, without a length (4.3)", async () => {
    const { NiftiLink } = await firstImage("t1w-defaced");
    const plain = await get(F, NiftiLink!);
    expect(plain.headers["content-type"]).toBe("text/plain");
    expect(Number(plain.headers["content-length"])).toBe(plain.body.length);
    const wrapped = await get(F, NiftiLink!, { headers: { "Accept-Encoding": "gzip, deflate" } });
    expect([wrapped.headers["content-encoding"], wrapped.headers["content-length"]]).toEqual([
      "gzip",
      undefined,
    ]);
    expect(gunzipSync(wrapped.body)).toEqual(plain.body);
    const native = NiftiLink!.replace(/\/bids\/.*/, "");
    const minc = await get(F, native, { headers: { "Accept-Encoding": "gzip" } });
    expect([minc.headers["content-type"], minc.headers["content-encoding"]]).toEqual([
      "application/x.minc2",
      undefined,
    ]);
  });
});

describe("family F: ETags (4.4)", () => {
  it("has one constant for the manifest and the study-level files, right for ever", async () => {
    for (const name of ["", "README", "dataset_description.json", "participants.tsv", "participants.json"])
      expect((await get(F, MANIFEST + name)).headers.etag).toBe(EXPORT_ETAG);
    await sandbox.control.changeFile({
      file: "participants.tsv",
      change: "rewrite",
      text: "participant_id\n",
    });
    expect((await get(F, `${MANIFEST}participants.tsv`)).text).toBe("participant_id\n");
    const stale = await get(F, `${MANIFEST}participants.tsv`, { headers: { "If-None-Match": EXPORT_ETAG } });
    expect([stale.status, stale.headers.etag, stale.text]).toEqual([304, EXPORT_ETAG, ""]);
    expect(stale.headers["content-length"]).toBeUndefined();
  });

  it("compares by plain equality, and an empty value with the empty ETag of qc", async () => {
    const { NiftiLink } = await firstImage("t1w-defaced");
    const { etag } = (await get(F, NiftiLink!)).headers;
    expect(etag).toMatch(/^[0-9a-f]{32}$/);
    const by = async (path: string, value: string) =>
      (await get(F, path, { headers: { "If-None-Match": value } })).status;
    expect(await by(NiftiLink!, etag!)).toBe(304);
    expect(await by(NiftiLink!, `"${etag}"`)).toBe(200);
    expect(await by(NiftiLink!, "*")).toBe(200);
    expect(await by(NiftiLink!, "")).toBe(200);
    const qc = `${NiftiLink!.replace(/\/bids\/.*/, "")}/qc`;
    expect((await get(F, qc)).headers.etag).toBe("");
    expect(await by(qc, "")).toBe(304);
  });

  it("tells the time of a file and not its content", async () => {
    const { NiftiLink } = await firstImage("t1w-defaced");
    const file = NiftiLink!.slice(NiftiLink!.lastIndexOf("/") + 1);
    const before = await get(F, NiftiLink!);
    await sandbox.control.changeFile({ file, change: "replace-bytes" });
    const other = await get(F, NiftiLink!);
    expect(other.headers.etag).toBe(before.headers.etag);
    expect(other.body).not.toEqual(before.body);
    expect(gunzipSync(other.body)).toEqual(gunzipSync(before.body));
    await sandbox.control.changeFile({ file, change: "restore" });
    await sandbox.control.changeFile({ file, change: "touch" });
    const touched = await get(F, NiftiLink!);
    expect(touched.headers.etag).not.toBe(before.headers.etag);
    expect(touched.body).toEqual(before.body);
  });
});

describe("family F: what it lists (5, 6)", () => {
  it("serves every file that the manifest links, with the length it says", async () => {
    const { SessionFiles, Images } = await manifest();
    expect(SessionFiles.length).toBeGreaterThan(3);
    for (const row of [...SessionFiles, ...Images])
      for (const [key, link] of Object.entries(row)) {
        if (!key.endsWith("Link")) continue;
        const { status, body, headers } = await get(F, link);
        expect([link, status, Number(headers["content-length"])]).toEqual([link, 200, body.length]);
      }
  });

  it("links gradients of diffusion and logs of tasks only", async () => {
    const { Images } = await manifest();
    for (const { Subfolder, NiftiLink, BvalLink, BvecLink, EventLink } of Images) {
      expect([BvalLink !== undefined, BvecLink !== undefined]).toEqual(Array(2).fill(Subfolder === "dwi"));
      expect(EventLink !== undefined).toBe(/_task-(encoding|retrieval)/.test(NiftiLink!));
    }
  });

  it("answers a file that is gone from the disk with an empty 500 that has an ETag, and no row with 404", async () => {
    const { JsonLink } = await firstImage("t1w-defaced");
    const file = JsonLink!.slice(JsonLink!.lastIndexOf("/") + 1);
    await sandbox.control.changeFile({ file, change: "remove" });
    const gone = await get(F, JsonLink!);
    expect([gone.status, gone.text, gone.headers.etag?.length]).toEqual([500, "", 32]);
    sandbox.control.setFaults([{ kind: "missing", route: "**/*_T1w.json" }]);
    const none = await get(F, JsonLink!);
    expect([none.status, none.headers.etag, none.text]).toEqual([
      404,
      undefined,
      '{"error":"File not found"}',
    ]);
  });

  it("lists visits without images, stages as an empty array, and images without their visit", async () => {
    const { Candidates } = JSON.parse((await get(F, "/candidates/")).text) as {
      Candidates: { CandID: string }[];
    };
    const at = `/candidates/${Candidates[0]!.CandID}/NAPFU03`;
    expect(JSON.parse((await get(F, at)).text)).toMatchObject({ Meta: { Visit: "NAPFU03" }, Stages: [] });
    expect(JSON.parse((await get(F, `${at}/images`)).text)).toMatchObject({ Files: [] });
    expect(JSON.parse((await get(F, `${at}/dicoms`)).text)).toMatchObject({ DicomTars: [[]] });
  });

  it("finds an image by the end of its name, under the name asked for (4.5)", async () => {
    const { NiftiLink } = await firstImage("t1w-defaced");
    const native = NiftiLink!.replace(/\/bids\/.*/, "");
    const got = await get(F, `${native.slice(0, native.lastIndexOf("/"))}/t1w-defaced_001.mnc`);
    expect([got.status, got.headers["content-disposition"]]).toEqual([
      200,
      "attachment; filename=t1w-defaced_001.mnc",
    ]);
  });

  it("withdraws an image and brings it back", async () => {
    const { NiftiLink } = await firstImage("bold");
    const file = /images\/([^/]+)/.exec(NiftiLink!)![1]!;
    const count = (await manifest()).Images.length;
    await sandbox.control.changeFile({ file, change: "withdraw" });
    expect((await manifest()).Images.length).toBe(count - 1);
    expect((await get(F, NiftiLink!)).status).toBe(404);
    await sandbox.control.changeFile({ file, change: "restore" });
    expect((await manifest()).Images.length).toBe(count);
  });

  it("sends short and wrong bodies on demand", async () => {
    const { NiftiLink } = await firstImage("t1w-defaced");
    const whole = (await get(F, NiftiLink!)).body;
    sandbox.control.setFaults([{ kind: "short-body", afterBytes: 100 }]);
    const short = await get(F, NiftiLink!);
    expect([short.body.length, short.headers["content-length"]]).toEqual([100, "100"]);
    sandbox.control.setFaults([{ kind: "flip", route: "**/*.nii.gz" }]);
    const flipped = (await get(F, NiftiLink!)).body;
    expect([flipped.length, flipped.equals(whole)]).toEqual([whole.length, false]);
  });
});

describe("family M", () => {
  const M = ["loris-m", "loris-m22", "loris-m28"] as const;
  const json = async (archive: string, path: string) => {
    const { status, text } = await get(archive, path);
    return [status, JSON.parse(text)] as const;
  };
  const imagesOf = async (archive: string) => {
    const [, body] = await json(archive, "/projects/PREVENT-AD/images");
    return (body as { Images: Record<string, string>[] }).Images;
  };

  it("has JSON that says so, no export, and the errors of its own (1.2, 4)", async () => {
    for (const archive of M) {
      const { headers, text } = await get(archive, "/projects");
      expect(headers["content-type"]).toBe("application/json");
      expect(text).not.toContain("\\/");
      expect(await json(archive, "/projects/loris/bids/")).toEqual([404, { error: "not found" }]);
      expect((await ask(`${baseOf(archive)}/projects`)).text).toBe('{"error":"unauthorized"}');
    }
  });

  it("refuses other versions by release (1.2)", async () => {
    const status = async (archive: string, version: string) =>
      (await ask(`${sandbox.url}/${archive}/api${version}/projects`)).status;
    expect(await status("loris-m", "/v0.0.1")).toBe(400);
    expect(await status("loris-m28", "/v0.0.1")).toBe(404);
    expect(await status("loris-m", "")).toBe(400);
  });

  it("serves images with and without a slash, and the formats from 24.1 on (2, 5.6)", async () => {
    for (const archive of M) {
      const row = (await imagesOf(archive)).find(({ ScanType }) => ScanType === "dwi65")!;
      const whole = await get(archive, row.Link!);
      expect([whole.status, whole.headers["content-type"]]).toEqual([200, "application/x.minc2"]);
      expect((await get(archive, `${row.Link}/`)).body).toEqual(whole.body);
      const statuses = await Promise.all(
        ["nifti", "bval", "bvec", "bidsjson"].map(
          async (f) => (await get(archive, `${row.Link}/format/${f}`)).status,
        ),
      );
      expect(statuses).toEqual(Array(4).fill(archive === "loris-m22" ? 500 : 200));
      const Range = "bytes=0-1";
      expect((await get(archive, row.Link!, { headers: { Range } })).body).toEqual(whole.body);
      expect((await get(archive, row.Link!, { method: "HEAD" })).status).toBe(405);
      const { etag } = whole.headers;
      expect((await get(archive, row.Link!, { headers: { "If-None-Match": etag! } })).status).toBe(304);
    }
    const bold = (await imagesOf("loris-m")).find(({ ScanType }) => ScanType === "bold")!;
    expect((await get("loris-m", `${bold.Link}/format/bval`)).status).toBe(404);
    expect((await get("loris-m", `${bold.Link}/format/other`)).status).toBe(415);
  });

  it("stumbles over a conditional request with an ended token, or says 304 (4.2)", async () => {
    const { Link } = (await imagesOf("loris-m"))[0]!;
    sandbox.control.tokens({ expireNow: true });
    expect((await get("loris-m", Link!)).status).toBe(401);
    const torn = await get("loris-m", Link!, { headers: { "If-None-Match": "x" } });
    expect([torn.status, torn.text.slice(0, 9)]).toEqual([500, "<!DOCTYPE"]);
    const constant = { "If-None-Match": "99914b932bd37a50b983c5e7c90ae93b" };
    expect((await get("loris-m", "/projects", { headers: constant })).status).toBe(304);
  });

  it("hides what the user may not see: filtered lists, 403, 404 (4.2)", async () => {
    const [, list] = await json("loris-m", "/candidates/");
    const ids = (list as { Candidates: { Project: string }[] }).Candidates.map(({ Project }) => Project);
    expect(new Set(ids)).toEqual(new Set(["PREVENT-AD", "Pilot"]));
    expect(await json("loris-m", "/projects/Closed")).toEqual([403, { error: "forbidden" }]);
  });

  it("has an HTML 500 for an unknown candidate, and for 22 a 404", async () => {
    const page = await get("loris-m", "/candidates/999999");
    expect([page.status, page.text.length > 4000]).toEqual([500, true]);
    expect((await get("loris-m22", "/candidates/999999")).status).toBe(404);
    expect(await json("loris-m", "/candidates/12")).toEqual([404, { error: "Candidate not found" }]);
  });

  it("answers a file that is gone from the disk with 404", async () => {
    const { Link } = (await imagesOf("loris-m"))[0]!;
    const file = Link!.slice(Link!.lastIndexOf("/") + 1);
    await sandbox.control.changeFile({ file, change: "remove" });
    expect(await json("loris-m", Link!)).toEqual([404, { error: "not found" }]);
  });

  it("sends ids as text, and as numbers and an empty object in 22 (5)", async () => {
    const [row, old] = [(await imagesOf("loris-m"))[0]!, (await imagesOf("loris-m22"))[0]!];
    expect([typeof row.Candidate, typeof old.Candidate]).toEqual(["string", "number"]);
    const at = (link: string) => link.replace(/\/[^/]+$/, "");
    expect((await json("loris-m22", at(old.Link!)))[1]).toMatchObject({ Meta: { CandID: {} } });
    expect((await json("loris-m", at(row.Link!)))[1]).toMatchObject({ Meta: { CandID: row.Candidate } });
  });

  it("knows the header in any case from 25 on (3.1)", async () => {
    const status = async (archive: string, headers: Record<string, string>) =>
      (await ask(`${baseOf(archive)}/projects`, { headers })).status;
    const lower = async (archive: string) => ({ authorization: `Bearer ${await login(archive)}` });
    expect(await status("loris-m", await lower("loris-m"))).toBe(401);
    expect(await status("loris-m28", await lower("loris-m28"))).toBe(200);
    expect(await status("loris-m", { Authorization: "nospace" })).toBe(500);
  });
});

const has = (program: string): boolean => spawnSync(program, ["--help"]).error === undefined;

describe.skipIf(!has("mincinfo"))(
  `generated MINC is what MINC's own tools read${has("mincinfo") ? "" : " (skipped: no mincinfo)"}`,
  () => {
    it("with the dimensions of the phantom", async () => {
      const { NiftiLink } = await firstImage("bold");
      const { body } = await get(F, NiftiLink!.replace(/\/bids\/.*/, ""));
      const folder = await mkdtemp(join(tmpdir(), "gantry-minc-"));
      await writeFile(join(folder, "x.mnc"), body);
      const { status, stdout } = spawnSync("mincinfo", ["x.mnc"], { cwd: folder, encoding: "utf8" });
      await rm(folder, { recursive: true });
      expect(status).toBe(0);
      expect(stdout).toMatch(/image dimensions: time zspace yspace xspace/);
      expect(stdout).toMatch(/time\s+10\s+2\s/);
    });
  },
);

describe("data of one's own", () => {
  it("serves a BIDS root with sessions and a MINC tree, and lists what it does not", async () => {
    const folder = await mkdtemp(join(tmpdir(), "gantry-studies-"));
    const put = async (path: string, text: string): Promise<void> => {
      await mkdir(join(folder, path, ".."), { recursive: true });
      await writeFile(join(folder, path), text);
    };
    const session = "study/sub-300001/ses-V01";
    await put("study/dataset_description.json", '{"Name":"x"}');
    await put("study/participants.tsv", "participant_id\tpscid\nsub-300001\tDMO1\n");
    await put("study/CHANGES", "1.0\n");
    await put(`${session}/sub-300001_ses-V01_scans.tsv`, "filename\n");
    await put(`${session}/dwi/sub-300001_ses-V01_dwi.nii.gz`, "no image");
    await put(`${session}/dwi/sub-300001_ses-V01_dwi.bval`, "0 1000 1000\n");
    await put("flat/dataset_description.json", "{}");
    await put("flat/sub-01/anat/sub-01_T1w.nii.gz", "x");
    await put("tree/assembly/300001/V1/mri/native/demo_300001_V1_t1w_001.mnc", "\x89HDF");
    const own = await startSandbox({ dataDir: folder });
    const built = sandbox;
    sandbox = own;
    try {
      tokens.clear();
      const { Images, SessionFiles } = await manifest();
      expect(Images).toMatchObject([
        { Candidate: "300001", PSCID: "DMO1", Visit: "V01", LorisScanType: "dwi3" },
      ]);
      expect(SessionFiles).toHaveLength(1);
      expect((await get(F, Images[0]!.NiftiLink!)).text).toBe("no image");
      // Linked without a look at the disk.
      expect((await get(F, Images[0]!.JsonLink!)).status).toBe(404);
      const visits = JSON.parse((await get(F, "/candidates/300001")).text) as { Visits: string[] };
      expect(visits.Visits).toEqual(["V01", "V1"]);
      expect(JSON.parse((await get(F, "/candidates/300001/V1/images")).text)).toMatchObject({
        Files: [{ Filename: "demo_300001_V1_t1w_001.mnc", AcquisitionType: "t1w" }],
      });
      const door = JSON.parse((await ask(`${own.url}/_sandbox/`)).text) as {
        studies: unknown;
        problems: { path: string }[];
      };
      expect(door.studies).toEqual({ study: 1, tree: 1 });
      expect(door.problems.map(({ path }) => path).sort()).toEqual(["flat", "study/CHANGES"]);
    } finally {
      sandbox = built;
      await own.close();
      await rm(folder, { recursive: true });
    }
  });
});
