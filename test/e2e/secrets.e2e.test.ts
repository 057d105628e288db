import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { datasetOf } from "../../src/sandbox/tiny-dataset.ts";
import { commandLines } from "../support/arguments.ts";
import { dicomSeries } from "../support/dataset.ts";
import { freshDir, hashTree, listAll, type Stage, startStage, until } from "../support/gantry.ts";

const PASSWORD = "correct-horse-battery-staple";
const LOGIN = { GANTRY_TCIA_USER: "demo", GANTRY_TCIA_PASSWORD: PASSWORD };

const archive = () =>
  datasetOf([
    dicomSeries("1.2.840.1.1", { access: "restricted" }),
    dicomSeries("1.2.840.1.2", { access: "restricted" }),
    dicomSeries("1.2.840.1.3"),
  ]);

describe("a login", () => {
  let stage: Stage;
  let dir: string;

  beforeEach(async () => {
    stage = await startStage({ data: archive(), password: PASSWORD });
    dir = await freshDir();
  });

  const tokens = (): string[] => [
    ...new Set(
      stage.control
        .requests()
        .flatMap(({ headers }) =>
          headers.authorization ? [headers.authorization.replace("Bearer ", "")] : [],
        ),
    ),
  ];

  it("shows what only the user may see", async () => {
    expect((await stage.run(["get", "tcia:1.2.840.1.1", "-o", dir])).code).toBe(4);
    const other = await freshDir();
    const result = await stage.run(["get", "tcia:", "-o", other], { env: LOGIN });
    expect(result.code, result.stderr).toBe(0);
    expect((await listAll(other)).filter((path) => path.endsWith(".dcm"))).toHaveLength(9);
  });

  it("that is refused is 4, and a user without a password, too", async () => {
    const wrong = { ...LOGIN, GANTRY_TCIA_PASSWORD: "not-the-password" };
    const refused = await stage.run(["get", "tcia:", "-o", dir], { env: wrong });
    expect(refused.code, refused.stderr).toBe(4);
    expect(refused.stderr).not.toContain("not-the-password");
    const half = await stage.run(["get", "tcia:", "-o", dir], { env: { GANTRY_TCIA_USER: "demo" } });
    expect(half.code, half.stderr).toBe(4);
  });

  it("is renewed when tokens run out between and during requests", async () => {
    stage.control.tokens({ ttlSeconds: 2 });
    stage.control.setFaults([{ kind: "slow-first-byte", route: "**/getImage", ms: 1000 }]);
    const brief = await stage.run(["get", "tcia:", "-o", dir, "--jobs", "1"], { env: LOGIN });
    expect(brief.code, brief.stderr).toBe(0);
    expect(tokens().length).toBeGreaterThan(1);
    const other = await freshDir();
    stage.control.reset();
    stage.control.setFaults([{ kind: "expired-token", route: "**/getImage", count: 1 }]);
    const expired = await stage.run(["get", "tcia:", "-o", other, "--retries", "0"], { env: LOGIN });
    expect(expired.code, expired.stderr).toBe(0);
    expect(await hashTree(other)).toEqual(await hashTree(dir));
  });

  it("a ready token is used as it is; a wrong one is 4", async () => {
    await stage.run(["ls", "tcia:", "-l"], { env: LOGIN });
    const [token = ""] = tokens();
    expect(token).not.toBe("");
    const result = await stage.run(["get", "tcia:", "-o", dir], { env: { GANTRY_TCIA_TOKEN: token } });
    expect(result.code, result.stderr).toBe(0);
    const wrong = await stage.run(["get", "tcia:", "-o", await freshDir(), "--retries", "0"], {
      env: { GANTRY_TCIA_TOKEN: "no-such-token-at-all" },
    });
    expect(wrong.code, wrong.stderr).toBe(4);
    expect(wrong.stderr + wrong.stdout).not.toContain("no-such-token-at-all");
  });

  it("leaves no secret in arguments, events, logs, receipts, errors or at another origin", async () => {
    stage.control.setFaults([
      { kind: "redirect", route: "**/getImage", count: 2 },
      { kind: "expired-token", route: "**/getImage", count: 1 },
      { kind: "redirect", route: "**/getSeries", count: 1 },
      { kind: "500", route: "**/getImage", count: 1 },
      { kind: "wrong-bytes", route: "**/getImage", containing: "1.2.840.1.2" },
      { kind: "slow-first-byte", route: "**/getImage", ms: 400 },
    ]);
    const args = ["get", "tcia:", "-o", dir, "--json", "--retries", "3"];
    const program = stage.start(args, { env: LOGIN });
    const lines: string[] = [];
    const watching = setInterval(() => lines.push(...commandLines(program)), 50);
    const result = await program.ended;
    clearInterval(watching);
    expect(result.code, result.stderr).toBe(3);
    expect(lines.length).toBeGreaterThan(0);

    const secrets = [PASSWORD, ...tokens()];
    expect(secrets.length).toBeGreaterThan(1);
    const places: [string, string][] = [
      ["arguments of processes", lines.join("\n")],
      ["stdout", result.stdout],
      ["stderr", result.stderr],
      ["the other origin", JSON.stringify(stage.sandbox.elsewhere.requests)],
    ];
    for (const path of await listAll(dir)) places.push([path, await readFile(join(dir, path), "latin1")]);
    for (const path of await listAll(stage.home)) {
      places.push([path, await readFile(join(stage.home, path), "latin1")]);
    }
    expect(stage.sandbox.elsewhere.requests.length).toBeGreaterThan(0);
    expect(places.some(([path]) => path.includes("/logs/"))).toBe(true);
    const leaks = places.flatMap(([place, text]) =>
      secrets
        .filter((secret) => text.includes(secret) || text.includes(encodeURIComponent(secret)))
        .map(() => place),
    );
    expect(leaks).toEqual([]);
    for (const { headers } of stage.sandbox.elsewhere.requests) {
      expect(headers.authorization).toBeUndefined();
      expect(headers.cookie).toBeUndefined();
    }
  });

  it("a server that puts a secret into its error gets no echo of it", async () => {
    const dead = await stage.run(["get", "tcia:", "-o", dir, "--retries", "0"], {
      env: { ...LOGIN, GANTRY_TCIA_PASSWORD: "", GANTRY_TCIA_TOKEN: "a-token-that-ends.as-user" },
    });
    expect(dead.stdout + dead.stderr).not.toContain("a-token-that-ends");
    for (const path of await listAll(dir)) {
      expect(await readFile(join(dir, path), "latin1")).not.toContain("a-token-that-ends");
    }
  });
});

describe("an interrupted run", () => {
  const big = () =>
    datasetOf(
      Array.from({ length: 6 }, (_, index) =>
        dicomSeries(`1.2.840.2.${index}`, { count: 4, pixelBytes: 20_000 }),
      ),
    );

  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)(
    "%s once: exit %d, the way on is said, nothing unfinished stays, a rerun completes",
    async (signal, code) => {
      const stage = await startStage({ data: big() });
      const dir = await freshDir();
      stage.control.setFaults([{ kind: "slow", route: "**/getImage", bytesPerSecond: 20_000, skip: 1 }]);
      const program = stage.start(["get", "tcia:", "-o", dir, "--jobs", "1"]);
      await until("the second transfer has begun", () => stage.requests("getImage").length > 1);
      program.kill(signal);
      const result = await program.ended;
      expect(result.code, result.stderr).toBe(code);
      expect(result.stderr).toContain(`gantry get -o ${dir}`);
      expect((await listAll(dir)).filter((path) => path.startsWith(".gantry/partial/"))).toEqual([]);
      const stored = (await listAll(dir)).filter((path) => path.endsWith(".dcm")).length;
      expect(stored % 4).toBe(0);
      stage.control.setFaults([]);
      stage.control.clearRequests();
      const rerun = await stage.run(["get", "-o", dir]);
      expect(rerun.code, rerun.stderr).toBe(0);
      expect(stage.requests("getImage")).toHaveLength(6 - stored / 4);
      const fresh = await freshDir("fresh");
      await stage.get(["tcia:"], { dir: fresh });
      expect(await hashTree(dir)).toEqual(await hashTree(fresh));
    },
  );

  it("gantry stop ends it cleanly from another terminal", async () => {
    const stage = await startStage({ data: big() });
    const dir = await freshDir();
    stage.control.setFaults([{ kind: "stall", route: "**/getImage", skip: 1 }]);
    const program = stage.start(["get", "tcia:", "-o", dir, "--jobs", "1"]);
    await until("the second transfer has begun", () => stage.requests("getImage").length > 1);
    const stopped = await stage.run(["stop", dir]);
    expect(stopped.code, stopped.stderr).toBe(0);
    const result = await program.ended;
    expect(result.code, result.stderr).toBe(143);
    expect((await listAll(dir)).filter((path) => path.startsWith(".gantry/partial/"))).toEqual([]);
    stage.control.setFaults([]);
    expect((await stage.run(["get", "-o", dir])).code).toBe(0);
  });

  it("SIGKILL at several moments: a rerun leaves the tree of a clean run, with --scratch, too", async () => {
    const stage = await startStage({ data: big() });
    const fresh = await freshDir("fresh");
    await stage.get(["tcia:"], { dir: fresh });
    const clean = await hashTree(fresh);
    for (const [moment, scratch] of [
      [1, false],
      [3, false],
      [4, true],
    ] as const) {
      const dir = await freshDir();
      const scratchDir = await freshDir("scratch");
      const more = scratch ? ["--scratch", scratchDir] : [];
      stage.control.clearRequests();
      stage.control.setFaults([
        { kind: "slow", route: "**/getImage", bytesPerSecond: 40_000, skip: moment - 1 },
      ]);
      const program = stage.start(["get", "tcia:", "-o", dir, "--jobs", "1", ...more]);
      await until("the transfer has begun", () => stage.requests("getImage").length >= moment);
      program.kill("SIGKILL");
      await program.ended;
      stage.control.setFaults([]);
      const rerun = await stage.run(["get", "-o", dir, ...more]);
      expect(rerun.code, rerun.stderr).toBe(0);
      expect(await hashTree(dir)).toEqual(clean);
      expect((await listAll(dir)).filter((path) => path.startsWith(".gantry/partial/"))).toEqual([]);
      expect(await listAll(scratchDir)).toEqual([]);
    }
  });
});
