/** Mistakes that are easily made say what they are: in accounts, addresses, kept replies and questions. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { startStage, temporaryDir } from "../support/gantry.ts";

vi.setConfig({ testTimeout: 60_000 });
const stage = await startStage();

describe("a secret that no header can carry", () => {
  it.each(["GANTRY_TCIA_V3_API_KEY", "GANTRY_TCIA_TOKEN"])("%s is a matter of the login", async (name) => {
    const archive = name === "GANTRY_TCIA_TOKEN" ? "tcia:" : "tcia-v3:";
    const done = await stage.run(["ls", archive], { env: { [name]: "se\nkret" } });
    expect([done.code, done.stderr]).toEqual([4, expect.stringMatching(/characters that can't be sent/u)]);
    expect(done.stderr).not.toContain("kret");
  });

  it("is not made by the byte order mark of a password file", async () => {
    const file = join(await temporaryDir(), "password.txt");
    writeFileSync(file, "\u{feff}demo\r\n");
    const done = await stage.run(["login", "tcia-v2", "--user", "demo", "--password-file", file]);
    expect(done.code, done.stderr).toBe(0);
  });
});

it("an archive whose URL leads nowhere is named", async () => {
  const { origin } = new URL(stage.sandbox.url);
  const added = await stage.run(["archives", "add", "nowhere", "nbia", `${origin}/not-an-nbia`]);
  expect(added.code, added.stderr).toBe(0);
  const done = await stage.run(["ls", "nowhere:"]);
  expect(done.code).toBe(5);
  expect(done.stderr).toMatch(/^gantry: nowhere: .*404/u);
  expect(done.stderr).toMatch(/URL/u);
});

it("a name that was typed decomposed is the same name", async () => {
  const typed = "tcia:Fantôme%2Fαβ".normalize("NFD");
  expect(typed).not.toBe("tcia:Fantôme%2Fαβ");
  const done = await stage.run(["find", typed, "--count"]);
  expect(done.code, done.stderr).toBe(0);
});

it("an item that the archive does not show is told of, in a plain table too", async () => {
  const done = await stage.run(["find", "tcia:1.2.3.4.5"]);
  expect(done.stderr).toMatch(/warning: tcia:1\.2\.3\.4\.5: unknown, withdrawn or not permitted/u);
  expect(done.code).toBe(4);
  const [row] = JSON.parse((await stage.run(["find", "tcia:", "--limit", "1", "--format", "json"])).stdout);
  const both = await stage.run(["find", "-"], { input: `${row.address}\ntcia:1.2.3.4.5\n` });
  expect([both.code, both.stdout.trim().split("\n").length], both.stderr).toEqual([3, 3]);
});

it("--level and --count together are refused as what they are", async () => {
  const done = await stage.run(["find", "tcia:", "--level", "patient", "--count"]);
  expect([done.code, done.stderr]).toEqual([2, expect.stringMatching(/--level and --count can't be given/u)]);
});
