import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { credentialsPath, readCredentials, writeCredentials } from "./credentials.ts";
import { readAccount, readSecrets } from "./secrets.ts";

const home = mkdtempSync(join(tmpdir(), "gantry-credentials-"));
afterAll(() => rmSync(home, { recursive: true, force: true }));

const folder = join(home, "gantry");
const path = join(folder, "credentials.toml");
const env = { XDG_CONFIG_HOME: home };
const origin = "https://a.example";
const archive = (name: string, url = `${origin}/nbia-api`) => ({
  name,
  kind: "nbia",
  url,
  settings: {},
  from: "test",
});

beforeEach(() => rmSync(folder, { recursive: true, force: true }));

describe("the credential file", () => {
  it("lies beside the configuration and is its owner's alone", async () => {
    expect(credentialsPath(env)).toBe(path);
    expect(credentialsPath({ GANTRY_CONFIG: "/etc/x/my.toml" })).toBe("/etc/x/credentials.toml");
    await writeCredentials(path, "old", { origin, apiKey: "k" });
    await writeCredentials(path, "tcia", { origin, user: "u", password: 'p "\\\n' });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    expect(readCredentials(path).get("tcia")).toEqual({ origin, user: "u", password: 'p "\\\n' });
    expect(await writeCredentials(path, "tcia", null)).toBe(true);
    expect(await writeCredentials(path, "tcia", null)).toBe(false);
    expect([...readCredentials(path)]).toEqual([["old", { origin, apiKey: "k" }]]);
    expect(readFileSync(path, "utf8")).not.toContain("tcia");
  });

  it.each([0o640, 0o604, 0o660])("of mode %o is refused, with what to type", async (mode) => {
    await writeCredentials(path, "tcia", { origin, token: "t" });
    chmodSync(path, mode);
    expect(() => readCredentials(path)).toThrow(
      expect.objectContaining({ code: "usage", hint: `chmod 600 '${path}'` }),
    );
    await expect(writeCredentials(path, "x", { origin, token: "t" })).rejects.toMatchObject({
      code: "usage",
    });
  });

  it.each([
    'version = 1\n[archives.tcia]\npassword = "hunter2hunter2',
    'version = 1\n[archives.tcia]\npassword = ["hunter2hunter2"]\norigin = "x"\n',
    'version = "hunter2hunter2"\n',
    'version = 9\n[archives.tcia]\npassword = "hunter2hunter2"\n',
  ])("that can't be used is refused without showing it: %j", (text) => {
    mkdirSync(folder, { mode: 0o700 });
    writeFileSync(path, text, { mode: 0o600 });
    const failure = (() => {
      try {
        readCredentials(path);
      } catch (error) {
        return error as Error & { code: string; hint: string };
      }
      throw new Error("it was read");
    })();
    expect(failure.code).toBe("usage");
    expect(failure.message).toContain(path);
    expect(failure.message + failure.hint + failure.stack + String(failure.cause)).not.toContain("hunter2");
  });
});

describe("an archive's secrets", () => {
  it("are those of its own name, the environment before the file", async () => {
    await writeCredentials(path, "my-own", { origin, user: "filed", password: "" });
    const own = archive("my-own");
    expect(readSecrets(own, env)).toEqual({ user: "filed", password: "" });
    expect(readAccount(own, env)).toEqual({ what: "user filed", from: "credentials" });
    const set = { ...env, GANTRY_MY_OWN_USER: "u", GANTRY_MY_OWN_PASSWORD: "p", GANTRY_TCIA_TOKEN: "t" };
    expect(readSecrets(own, set)).toEqual({ user: "u", password: "p" });
    expect(readAccount(own, set)).toEqual({ what: "user u", from: "environment" });
    expect(readSecrets(archive("tcia"), set)).toEqual({ token: "t" });
    expect(readSecrets(archive("tcia"), env)).toEqual({});
    expect(readAccount(archive("tcia"), env)).toBeNull();
  });

  it.each([{ GANTRY_TCIA_USER: "u" }, { GANTRY_TCIA_PASSWORD: "p" }])(
    "half an account is refused: %j",
    (half) => {
      expect(() => readSecrets(archive("tcia"), { ...env, ...half })).toThrow(
        expect.objectContaining({ code: "access-login" }),
      );
    },
  );

  it("are not for a server that they were not given for", async () => {
    await writeCredentials(path, "tcia", { origin, user: "u", password: "secret-word" });
    for (const url of [
      "https://b.example/nbia-api",
      "http://a.example/nbia-api",
      "https://a.example:8443/",
    ]) {
      expect(() => readSecrets(archive("tcia", url), env)).toThrow(
        expect.objectContaining({ code: "access-login", hint: expect.stringContaining("gantry login tcia") }),
      );
    }
    expect(readSecrets(archive("tcia", `${origin}/elsewhere`), env)).toMatchObject({ user: "u" });
  });
});
