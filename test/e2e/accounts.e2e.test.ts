/** Accounts: archives are added and removed, logins are stored for their owner alone, and restricted data come with them. */
import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { datasetOf } from "../../src/sandbox/tiny-dataset.ts";
import { commandLines } from "../support/arguments.ts";
import { dicomSeries } from "../support/dataset.ts";
import { freshDir, listAll, listFiles, type Stage, startStage } from "../support/gantry.ts";
import { hasTerminal, typeInto } from "../support/terminal.ts";

// Each of them starts the program many times.
vi.setConfig({ testTimeout: 120_000 });

const PASSWORD = "correct-horse-battery-staple";

const archive = () =>
  datasetOf([
    dicomSeries("1.2.840.1.1", { collection: "Closed Trial", access: "restricted" }),
    dicomSeries("1.2.840.1.2", { collection: "Closed Trial", access: "restricted" }),
    dicomSeries("1.2.840.1.3", { collection: "Open Data" }),
  ]);

let stage: Stage;
let config: string;
let credentials: string;

beforeEach(async () => {
  stage = await startStage({ data: archive(), password: PASSWORD });
  config = stage.environment.GANTRY_CONFIG as string;
  credentials = join(stage.home, "credentials.toml");
});

const login = (...more: string[]) =>
  stage.run(["login", "tcia", "--user", "demo", "--password-stdin", ...more], { input: `${PASSWORD}\n` });

/** Every token that a request carried. */
const tokens = (): string[] => [
  ...new Set(
    stage.control
      .requests()
      .flatMap(({ headers }) =>
        headers.authorization ? [headers.authorization.replace("Bearer ", "")] : [],
      ),
  ),
];

describe("a login", () => {
  it("is checked, stored for its owner alone, shown, used, and forgotten", async () => {
    const stored = await login();
    expect(stored.code, stored.stderr).toBe(0);
    expect(stored.stderr).toMatch(/user demo is logged in/u);
    expect(statSync(credentials).mode & 0o777).toBe(0o600);
    expect(JSON.parse((await stage.run(["archives", "--format", "json"])).stdout)).toContainEqual(
      expect.objectContaining({ name: "tcia", account: "user demo" }),
    );
    expect((await stage.run(["ls", "tcia:"])).stdout).toContain("Closed Trial");
    const gone = await stage.run(["logout", "tcia"]);
    expect(gone.code, gone.stderr).toBe(0);
    expect(readFileSync(credentials, "utf8")).not.toContain(PASSWORD);
    expect((await stage.run(["ls", "tcia:"])).stdout).not.toContain("Closed Trial");
    expect((await stage.run(["logout", "tcia"])).code).toBe(0);
  });

  it("that the archive refuses is 4 and not stored, unless nobody asks", async () => {
    const wrong = ["login", "tcia", "--user", "demo", "--password-stdin"];
    const refused = await stage.run(wrong, { input: "not-the-password\n" });
    expect(refused.code, refused.stderr).toBe(4);
    expect(refused.stderr).toMatch(/wrong user name or password/u);
    expect(refused.stderr).not.toContain("not-the-password");
    expect(existsSync(credentials)).toBe(false);
    expect((await stage.run([...wrong, "--no-check"], { input: "not-the-password\n" })).code).toBe(0);
    const half = await stage.run(["archives", "--format", "json"], { env: { GANTRY_NLST_USER: "demo" } });
    expect(JSON.parse(half.stdout)).toContainEqual(
      expect.objectContaining({
        name: "nlst",
        account: expect.stringContaining("GANTRY_NLST_PASSWORD is not"),
      }),
    );
    const used = await stage.run(["ls", "tcia:"]);
    expect(used.code, used.stderr).toBe(4);
    expect(used.stderr).toMatch(/gantry login tcia/u);
    const tested = await stage.run(["archives", "test", "tcia"]);
    expect(tested.code, tested.stderr).toBe(4);
  });

  it("without a terminal and without flags is 2, with the line to type, and asks nobody", async () => {
    const result = await stage.run(["login", "tcia"]);
    expect(result.code, result.stderr).toBe(2);
    expect(result.stderr).toContain("gantry login tcia --user NAME --password-file FILE");
    for (const args of [
      ["--password-stdin"],
      ["--user", "demo", "--password-stdin", "--guest"],
      ["--api-key-stdin"],
      ["--user", "demo", "--token-stdin"],
      ["--user", "demo", "--password-file", "/no/such/file"],
    ]) {
      const refused = await stage.run(["login", "tcia", ...args], { input: "x\n" });
      expect(refused.code, `${args.join(" ")}: ${refused.stderr}`).toBe(2);
    }
    expect(
      (await stage.run(["login", "tcia", "--user", "demo", "--password-stdin"], { input: "\n" })).code,
    ).toBe(2);
    expect((await stage.run(["login", "tcai"])).stderr).toContain("did you mean tcia");
    expect(stage.control.requests()).toEqual([]);
    expect(existsSync(credentials)).toBe(false);
  });

  it("by a file, as a guest and by a token; the token's session ends with the logout", async () => {
    const file = join(stage.home, "secret.txt");
    writeFileSync(file, `${PASSWORD}\r\nsecond line\n`);
    expect((await stage.run(["login", "tcia", "--user", "demo", "--password-file", file])).code).toBe(0);
    await stage.run(["ls", "tcia:"]);
    const [token = ""] = tokens();
    const guest = await stage.run(["login", "tcia", "--guest"]);
    expect(guest.code, guest.stderr).toBe(0);
    expect((await stage.run(["ls", "tcia:"])).stdout).not.toContain("Closed Trial");
    expect((await stage.run(["login", "tcia", "--token-stdin"], { input: token })).code).toBe(0);
    expect((await stage.run(["ls", "tcia:"])).stdout).toContain("Closed Trial");
    const out = await stage.run(["logout", "tcia"]);
    expect(out.stderr).toContain("its session is ended");
    const after = await stage.run(["ls", "tcia:"], { env: { GANTRY_TCIA_TOKEN: token } });
    expect(after.code, after.stderr).toBe(4);
    expect(after.stderr).toMatch(/can't be renewed/u);
    expect(after.stderr).not.toContain(token);
  });

  it("in a file that others may read is refused with the line that mends it", async () => {
    await login();
    chmodSync(credentials, 0o644);
    const refused = await stage.run(["ls", "tcia:"]);
    expect(refused.code, refused.stderr).toBe(2);
    const mend = /chmod 600 '[^']+'/u.exec(refused.stderr)?.[0] ?? "";
    expect(mend).toBe(`chmod 600 '${credentials}'`);
    chmodSync(credentials, 0o600);
    expect((await stage.run(["ls", "tcia:"])).stdout).toContain("Closed Trial");
  });

  it("goes to the server that it was given for and to no other; the environment goes before it", async () => {
    await login();
    const other = await startStage({ data: archive(), password: PASSWORD });
    const moved = readFileSync(config, "utf8").replaceAll(stage.sandbox.url, other.sandbox.url);
    writeFileSync(config, moved);
    const refused = await stage.run(["ls", "tcia:"]);
    expect(refused.code, refused.stderr).toBe(4);
    expect(refused.stderr).toContain(stage.sandbox.url);
    expect(other.control.requests()).toEqual([]);
    const env = { GANTRY_TCIA_USER: "demo", GANTRY_TCIA_PASSWORD: PASSWORD };
    expect((await stage.run(["ls", "tcia:"], { env })).stdout).toContain("Closed Trial");
    const again = await stage.run(["login", "tcia", "--user", "demo", "--password-stdin"], {
      input: PASSWORD,
      env,
    });
    expect(again.stderr).toContain(
      "GANTRY_TCIA_USER, GANTRY_TCIA_PASSWORD in the environment still goes before it",
    );
    expect((await stage.run(["ls", "tcia:"])).stdout).toContain("Closed Trial");
  });
});

describe.skipIf(!hasTerminal)("a login on a terminal (needs python3)", () => {
  it("asks for user and password and shows no letter of the password", async () => {
    const { code, screen } = await typeInto(
      ["login", "tcia"],
      [
        ["User name for tcia: ", "demo\r"],
        ["not shown): ", `${PASSWORD}x\u007f\r`],
      ],
      stage.environment,
    );
    expect(code, screen).toBe(0);
    expect(screen).toContain("user demo is logged in");
    expect(screen).not.toContain(PASSWORD.slice(0, 4));
    expect((await stage.run(["ls", "tcia:"])).stdout).toContain("Closed Trial");
  });

  it.each([
    ["Ctrl-C", "\u0003"],
    ["Ctrl-D", "\u0004"],
    ["nothing", "\r"],
  ])("is given up by %s, and nothing is stored", async (_, key) => {
    const { code, screen } = await typeInto(
      ["login", "tcia", "--user", "demo"],
      [["not shown): ", key]],
      stage.environment,
    );
    expect(code, screen).toBe(130);
    expect(existsSync(credentials)).toBe(false);
  });
});

describe("an older interface", () => {
  const KEYLESS = { GANTRY_TCIA_V3_API_KEY: "" };
  const add = (name: string, ...more: string[]) => {
    const known = stage.sandbox.archives.find((each) => each.name === name);
    return stage.run(["archives", "add", "old", "nbia", known?.url ?? "", ...more]);
  };

  it("v3 is added by its settings and asks for a key, which is checked and stored", async () => {
    const added = await add("tcia-v3", "--api", "v3", "--resource", "TCIA");
    expect(added.code, added.stderr).toBe(0);
    expect((await stage.run(["archives", "test", "old"], { env: KEYLESS })).code).toBe(4);
    const line = await stage.run(["login", "old"]);
    expect(line.code).toBe(2);
    expect(line.stderr).toContain("gantry login old --api-key-stdin");
    expect((await stage.run(["login", "old", "--guest"])).code).toBe(2);
    const stored = await stage.run(["login", "old", "--api-key-stdin"], { input: "demo\n" });
    expect(stored.code, stored.stderr).toBe(0);
    expect(readFileSync(credentials, "utf8")).toContain('api_key = "demo"');
    const listed = await stage.run(["archives", "list", "--format", "json"]);
    expect(JSON.parse(listed.stdout)).toContainEqual(
      expect.objectContaining({ name: "old", settings: "api=v3 resource=TCIA", account: "API key" }),
    );
    expect((await stage.run(["ls", "old:"])).stdout).toContain("Open Data");
    expect((await stage.run(["logout", "old"])).code).toBe(0);
    expect((await stage.run(["ls", "old:"])).code).toBe(4);
  });

  it("with a value that it does not have is refused; v1 knows no login; v2 takes guests and users", async () => {
    expect((await add("tcia-v3", "--api", "v9")).code).toBe(2);
    expect((await add("tcia-v1", "--set", "api=v1")).code).toBe(0);
    const none = await stage.run(["login", "old", "--user", "demo", "--password-stdin"], { input: PASSWORD });
    expect(none.code, none.stderr).toBe(2);
    expect((await stage.run(["archives", "remove", "old"])).code).toBe(0);
    expect((await add("tcia-v2", "--api", "v2")).code).toBe(0);
    expect((await stage.run(["ls", "old:"])).stdout).not.toContain("Closed Trial");
    const stored = await stage.run(["login", "old", "--user", "demo", "--password-stdin"], {
      input: PASSWORD,
    });
    expect(stored.code, stored.stderr).toBe(0);
    expect((await stage.run(["ls", "old:"])).stdout).toContain("Closed Trial");
  });

  it.skipIf(!hasTerminal)("v3 asks a terminal for its key, unseen (needs python3)", async () => {
    expect((await add("tcia-v3", "--api", "v3")).code).toBe(0);
    const { code, screen } = await typeInto(
      ["login", "old"],
      [["API key for old: ", "demo\r"]],
      stage.environment,
    );
    expect(code, screen).toBe(0);
    expect(screen).not.toMatch(/: ?demo/u);
  });
});

describe("a restricted collection", () => {
  it("is unknown to a guest, and found, fetched and proved with a login", async () => {
    const guest = await stage.run(["find", "tcia:Closed Trial"]);
    expect(guest.code, guest.stderr).toBe(2);
    expect(guest.stderr).toContain("Closed Trial");
    const dir = await freshDir();
    expect((await stage.run(["get", "tcia:1.2.840.1.1", "-o", dir])).code).toBe(4);
    await login();
    const found = await stage.run(["find", "tcia:Closed Trial", "--format", "json"]);
    expect(JSON.parse(found.stdout)).toHaveLength(2);
    const got = await stage.run(["get", "tcia:Closed Trial", "-o", dir]);
    expect(got.code, got.stderr).toBe(0);
    expect((await listFiles(dir)).filter((path) => path.endsWith(".dcm"))).toHaveLength(6);
    expect((await stage.run(["verify", dir])).code).toBe(0);
  });

  it("goes on when tokens end mid-run, by one renewal each time; no secret is left anywhere", async () => {
    await login();
    stage.control.clearRequests();
    stage.control.tokens({ ttlSeconds: 1 });
    stage.control.setFaults([
      { kind: "slow-first-byte", route: "**/getImage", ms: 1200 },
      { kind: "expired-token", route: "**/getImage", count: 1, skip: 1 },
    ]);
    const dir = await freshDir();
    const program = stage.start(["get", "tcia:", "-o", dir, "--jobs", "1", "--retries", "0", "--json"]);
    const lines: string[] = [];
    const watching = setInterval(() => lines.push(...commandLines(program)), 50);
    const result = await program.ended;
    clearInterval(watching);
    expect(lines.length).toBeGreaterThan(0);
    expect(result.code, result.stderr).toBe(0);
    const grants = stage.requests("token").map(({ form }) => form.grant_type?.[0]);
    expect(grants[0]).toBe("password");
    expect(grants).toContain("refresh_token");
    expect(grants.length).toBeGreaterThan(2);
    const secrets = [PASSWORD, ...tokens()];
    const places: [string, string][] = [
      ["stdout", result.stdout],
      ["stderr", result.stderr],
      ["arguments of processes", lines.join("\n")],
    ];
    for (const path of await listAll(dir)) places.push([path, await readFile(join(dir, path), "latin1")]);
    expect(places.some(([path]) => path.includes("/receipts/"))).toBe(true);
    expect(places.some(([path]) => path.includes("/logs/"))).toBe(true);
    expect(
      places.filter(([, text]) => secrets.some((secret) => text.includes(secret))).map(([path]) => path),
    ).toEqual([]);
    expect(await readFile(config, "utf8")).not.toContain(PASSWORD);
  });

  it("asks for one login, however many requests wait for it", async () => {
    await login();
    stage.control.clearRequests();
    const dir = await freshDir();
    expect((await stage.run(["get", "tcia:", "-o", dir, "--jobs", "8"])).code).toBe(0);
    expect(stage.requests("token")).toHaveLength(1);
  });
});

describe("gantry archives", () => {
  it("adds an archive that works, keeps the file's own lines, and removes it with its account", async () => {
    const own = `# mine\n${readFileSync(config, "utf8")}# the end\n`;
    writeFileSync(config, own);
    const url = `${stage.sandbox.url}/nbia-api`;
    const added = await stage.run(["archives", "add", "my-own", "nbia", url]);
    expect(added.code, added.stderr).toBe(0);
    expect(readFileSync(config, "utf8").startsWith(own)).toBe(true);
    expect((await stage.run(["ls", "my-own:"])).stdout).toContain("my-own:Open Data");
    const logged = await stage.run(["login", "my-own", "--user", "demo", "--password-stdin"], {
      input: PASSWORD,
    });
    expect(logged.code, logged.stderr).toBe(0);
    const tested = await stage.run(["archives", "test", "my-own", "--format", "json"]);
    expect(tested.code, tested.stderr).toBe(0);
    expect(JSON.parse(tested.stdout)).toEqual([
      expect.objectContaining({ subject: "my-own", check: "login", result: "ok" }),
      expect.objectContaining({ check: "archive", detail: expect.stringContaining("2 collections") }),
    ]);
    const removed = await stage.run(["archives", "remove", "my-own"]);
    expect(removed.code, removed.stderr).toBe(0);
    expect(removed.stderr).toContain("its stored account is gone");
    expect(readFileSync(credentials, "utf8")).not.toContain("my-own");
    expect(readFileSync(config, "utf8").trimEnd()).toBe(own.trimEnd());
    expect((await stage.run(["ls", "my-own:"])).code).toBe(2);
  });

  it.each<[string[], RegExp]>([
    [["add", "Upper", "nbia", "https://a.example"], /can't name an archive/u],
    [["add", "x", "nbia", "https://a.example"], /can't name an archive/u],
    [["add", "new", "nbai", "https://a.example"], /kinds are .*nbia/u],
    [["add", "new", "nbia", "a.example"], /no address of a server/u],
    [["add", "new", "nbia", "ftp://a.example"], /no address of a server/u],
    [["add", "new", "nbia", "https://me:hunter2@a.example"], /holds no login/u],
    [["add", "new", "nbia", "https://a.example", "--set", "colour=red"], /does not know/u],
    [["add", "tcia", "nbia", "https://a.example"], /--replace/u],
    [["add", "new", "nbia"], /archives add NAME KIND URL/u],
    [["remove", "none"], /no archive named/u],
    [["test", "none"], /no archive named/u],
    [["rm", "tcia"], /list, add, remove and test/u],
    [["list", "--set", "a=b"], /for `gantry archives add`/u],
  ])("%j is 2 and changes nothing", async (args, sentence) => {
    const before = readFileSync(config, "utf8");
    const result = await stage.run(["archives", ...args]);
    expect(result.code, result.stderr).toBe(2);
    expect(result.stderr).toMatch(sentence);
    expect(result.stderr).not.toContain("hunter2");
    expect(readFileSync(config, "utf8")).toBe(before);
  });

  it("makes the first configuration, and gives a built-in name another meaning only with --replace", async () => {
    const env = { GANTRY_CONFIG: join(stage.home, "deep", "config.toml") };
    const url = `${stage.sandbox.url}/nbia-api`;
    expect((await stage.run(["archives", "add", "tcia", "nbia", url], { env })).code).toBe(2);
    const replaced = await stage.run(["archives", "add", "tcia", "nbia", url, "--replace"], { env });
    expect(replaced.code, replaced.stderr).toBe(0);
    expect(replaced.stderr).toContain("the built-in archive");
    expect((await stage.run(["ls", "tcia:"], { env })).stdout).toContain("Open Data");
    const back = await stage.run(["archives", "remove", "tcia"], { env });
    expect(back.stderr).toContain("cancerimagingarchive.net");
    expect((await stage.run(["archives", "remove", "tcia"], { env })).stderr).toContain("built in");
  });
});
