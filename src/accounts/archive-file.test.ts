import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { type ArchiveConfig, parseConfig } from "../config.ts";
import { addArchive, buildWithArchive, buildWithoutArchive, removeArchive } from "./archive-file.ts";

const home = mkdtempSync(join(tmpdir(), "gantry-archive-file-"));
afterAll(() => rmSync(home, { recursive: true, force: true }));

const archive = (name: string, settings: Record<string, string> = {}): ArchiveConfig => ({
  name,
  kind: "nbia",
  url: "https://a.example/nbia-api",
  settings,
  from: "test",
});

const FILE = `# my archives
# kept by hand

[archives.one]
kind = "nbia" # the old one
url = "https://one.example"

# about two
[archives."two"]
kind = "nbia"
url = "https://two.example"

# about three
[archives.three]
kind = "nbia"
url = "https://three.example"
# the end
`;

describe("a configuration's text", () => {
  it("gets a new archive at its end, whatever it ended with", () => {
    for (const text of ["", FILE, FILE.trimEnd(), `${FILE}\n`]) {
      const made = buildWithArchive(text, archive("four", { api: "v3", resource: 'a"b\\c' }));
      expect(made.startsWith(text)).toBe(true);
      expect(parseConfig(made, "x").at(-1)).toMatchObject({
        name: "four",
        settings: { api: "v3", resource: 'a"b\\c' },
      });
    }
  });

  it("loses a table with the comment above it, and no other line", () => {
    expect(buildWithoutArchive(FILE, "two")).toBe(FILE.replace(/# about two\n.*?(?=# about three)/su, ""));
    expect(buildWithoutArchive(FILE, "three")).toBe(FILE.replace(/\n# about three.*$/su, ""));
    const without = buildWithoutArchive(FILE, "one");
    expect(without).toContain("# kept by hand\n");
    expect(without).toContain("# about two\n");
    expect(buildWithoutArchive(FILE, "on")).toBeNull();
    expect(buildWithoutArchive('[archives]\none = { kind = "nbia", url = "https://a" }\n', "one")).toBeNull();
  });

  it("comes back as it was when what was added is removed (property)", () => {
    const word = fc.stringMatching(/^[a-z][a-z0-9-]{1,8}$/u);
    fc.assert(
      fc.property(
        fc.uniqueArray(word, { minLength: 2, maxLength: 5 }),
        fc.nat(),
        fc.string(),
        (names, at, setting) => {
          const text = names.reduce((made, name) => buildWithArchive(made, archive(name, { setting })), FILE);
          const gone = names[at % names.length] as string;
          const rest = buildWithoutArchive(text, gone);
          const said = parseConfig(rest ?? "", "x").map(({ name }) => name);
          expect(said).toEqual(["one", "two", "three", ...names.filter((name) => name !== gone)]);
          expect(rest?.startsWith(FILE.trimEnd())).toBe(true);
        },
      ),
    );
  });
});

describe("a configuration file", () => {
  it("is made, keeps its mode, and is followed through a link", async () => {
    const path = join(home, "new", "config.toml");
    await addArchive(path, archive("four"));
    expect(statSync(join(home, "new")).mode & 0o777).toBe(0o700);
    chmodSync(path, 0o600);
    const link = join(home, "link.toml");
    symlinkSync(path, link);
    await addArchive(link, archive("five"));
    expect(readFileSync(path, "utf8")).toContain("[archives.five]");
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(await removeArchive(link, "four")).toBe(true);
    expect(await removeArchive(link, "four")).toBe(false);
    expect(parseConfig(readFileSync(path, "utf8"), path).map(({ name }) => name)).toEqual(["five"]);
  });

  it.each([
    '[archives]\none = { kind = "nbia", url = "https://a.example" }\n',
    'archives.one.kind = "nbia"\narchives.one.url = "https://a.example"\n',
    '[archives.one]\nkind = "nbia"\n[archives]\none.url = "https://a.example"\n',
  ])("that can't be changed without harm is left alone: %j", async (text) => {
    const path = join(home, "odd.toml");
    writeFileSync(path, text);
    await expect(removeArchive(path, "one")).rejects.toMatchObject({ code: "usage" });
    expect(readFileSync(path, "utf8")).toBe(text);
  });

  it("with a header inside a text of several lines is not torn apart", async () => {
    const path = join(home, "text.toml");
    const text = `[archives.one]\nkind = "nbia"\nurl = "https://a.example"\nnote = """\n[archives.two]\n"""\n`;
    writeFileSync(path, text);
    await expect(removeArchive(path, "two")).resolves.toBe(false);
    await removeArchive(path, "one").catch(() => undefined);
    expect([text, ""]).toContain(readFileSync(path, "utf8"));
  });
});
