import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { configPath, readArchives } from "./config.ts";

const home = mkdtempSync(join(tmpdir(), "gantry-config-"));
afterAll(() => rmSync(home, { recursive: true, force: true }));
const usage = expect.objectContaining({ code: "usage" });

function withConfig(text: string): Record<string, string> {
  const path = join(home, "config.toml");
  writeFileSync(path, text);
  return { HOME: home, GANTRY_CONFIG: path };
}

describe("configuration", () => {
  it("adds archives to the built-in ones and puts its own in their place", () => {
    const archives = readArchives(
      withConfig(
        '[archives.tcia]\nkind = "nbia"\nurl = "http://127.0.0.1:1/x"\n[archives.my-own]\nkind = "nbia"\nurl = "https://a.example"\n',
      ),
    );
    expect(archives.get("tcia")?.url).toBe("http://127.0.0.1:1/x");
    expect(archives.get("my-own")).toMatchObject({ name: "my-own", kind: "nbia" });
    expect(archives.get("nlst")?.url).toContain("https://");
  });

  it.each([
    "archives = 3",
    '[archives.tcia]\nkind = "nbia"',
    '[archives.tcia]\nkind = "nbia"\nurl = "not a url"',
    '[archives."C:"]\nkind = "nbia"\nurl = "https://a.example"',
    "[archives",
  ])("%j is refused by its file's name", (text) => {
    const environment = withConfig(text);
    expect(() => readArchives(environment)).toThrow(usage);
    expect(() => readArchives(environment)).toThrow(environment.GANTRY_CONFIG);
  });

  it("a file that was named but is not there is refused; an absent default is not", () => {
    expect(() => readArchives({ HOME: home, GANTRY_CONFIG: join(home, "nothing") })).toThrow(usage);
    expect(readArchives({ HOME: join(home, "empty") }).has("tcia")).toBe(true);
    expect(configPath({ HOME: "/h", XDG_CONFIG_HOME: "/x" })).toBe("/x/gantry/config.toml");
    expect(configPath({ HOME: "/h" })).toBe("/h/.config/gantry/config.toml");
  });

  it("a setting that does not exist is named, and so is a file that can't be read", () => {
    expect(() => readArchives(withConfig("jobs = 3\n[archive.x]\nkind = 'nbia'"))).toThrow(
      /"jobs", "archive"/u,
    );
    expect(() => readArchives({ HOME: home, GANTRY_CONFIG: home })).toThrow(/can't be read: it is a folder/u);
  });
});
