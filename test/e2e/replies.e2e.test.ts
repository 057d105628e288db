/** Kept replies: the same question is asked once, images always, and a damaged file never loses data. */
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { smallArchive } from "../support/dataset.ts";
import { ensureBuilt, freshDir, listFiles, type Stage, startStage, temporaryDir } from "../support/gantry.ts";

const LOGIN = { GANTRY_TCIA_USER: "demo", GANTRY_TCIA_PASSWORD: "demo" };
const COUNT = ["find", "tcia:", "--count"];

ensureBuilt();
const stage = await startStage({ data: smallArchive() });

async function asked(run: () => Promise<unknown>, of: Stage = stage): Promise<string[]> {
  const before = of.control.requests().length;
  await run();
  return of.control
    .requests()
    .slice(before)
    .map(({ path }) => path.split("/").at(-1) ?? "");
}

/** The program's answer, which must be 0. */
async function answer(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<string> {
  const { code, stdout, stderr } = await stage.run(args, { env });
  expect({ code, stderr }).toMatchObject({ code: 0 });
  return stdout;
}

describe("gantry --cache-dir", () => {
  it("asks the archive once for the same answer, and again with --refresh or without the folder", async () => {
    const cache = join(await temporaryDir(), "replies");
    const plain = await answer(COUNT);
    for (const [args, env, expected] of [
      [[...COUNT, "--cache-dir", cache], {}, ["getSeries"]],
      [[...COUNT, "--cache-dir", cache], {}, []],
      [COUNT, { GANTRY_CACHE_DIR: cache }, []],
      [[...COUNT, "--refresh", "--cache-dir", cache], {}, ["getSeries"]],
      [COUNT, {}, ["getSeries"]],
    ] as const) {
      const requests = await asked(async () => expect(await answer(args, env)).toBe(plain));
      expect(requests).toEqual(expected);
    }
  });

  it("keeps replies to a login apart, readable by their owner only, without a secret", async () => {
    const cache = join(await temporaryDir(), "replies");
    await answer([...COUNT, "--cache-dir", cache]);
    expect(await asked(() => answer([...COUNT, "--cache-dir", cache], LOGIN))).toContain("getSeries");
    const names = readdirSync(cache);
    expect(names).toHaveLength(2);
    expect(statSync(cache).mode & 0o777).toBe(0o700);
    for (const name of names) {
      expect(statSync(join(cache, name)).mode & 0o777).toBe(0o600);
      expect(readFileSync(join(cache, name), "latin1")).not.toMatch(/bearer|demo/iu);
    }
  });

  it("refuses --refresh where nothing is kept", async () => {
    const { code, stderr } = await stage.run([...COUNT, "--refresh"]);
    expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringContaining("--cache-dir") });
  });

  it("serves get, which fetches images all the same, and loses nothing to a damaged file", async () => {
    const cache = join(await temporaryDir(), "replies");
    const get = (dir: string): readonly string[] => ["get", "tcia:LUNG CT", "-o", dir, "--cache-dir", cache];
    const whole = await freshDir();
    await stage.run(get(whole));
    const expected = await listFiles(whole);
    expect(expected.length).toBeGreaterThan(10);

    const kept = await freshDir();
    const requests = await asked(() => stage.run(get(kept)));
    expect(requests).toContain("getImage");
    expect(requests).not.toContain("getSeries");
    expect(await listFiles(kept)).toEqual(expected);

    // What is left of a reply after a cut is no shorter list: it is asked for again.
    for (const name of readdirSync(cache)) {
      const bytes = readFileSync(join(cache, name));
      const cut = bytes.toString("latin1").replace(/,\{"SeriesInstanceUID.*\}\]/su, "]");
      writeFileSync(join(cache, name), Buffer.from(cut === bytes.toString("latin1") ? "" : cut, "latin1"));
    }
    const mended = await freshDir();
    expect(await asked(() => stage.run(get(mended)))).toContain("getSeries");
    expect(await listFiles(mended)).toEqual(expected);
    const log = (await listFiles(join(mended, ".gantry", "logs"))).map((name) =>
      readFileSync(join(mended, ".gantry", "logs", name), "utf8"),
    );
    expect(log.join()).toContain("damaged");
  });

  it("keeps nothing of a page that is no list", async () => {
    const cache = join(await temporaryDir(), "replies");
    stage.control.setFaults([{ kind: "html", route: "**/getSeries", count: 1 }]);
    await answer([...COUNT, "--cache-dir", cache]);
    expect(readdirSync(cache)).toHaveLength(1);
    expect(await asked(() => answer([...COUNT, "--cache-dir", cache]))).toEqual([]);
  });
});
