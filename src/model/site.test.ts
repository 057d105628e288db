import { describe, expect, it } from "vitest";
import { parseTarget } from "./address.ts";
import { linkContextText, parseLinkContext, readSite, secretLinkName, siteKindOf } from "./site.ts";

const contextOf = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64");
const CONTEXT = contextOf({
  type: "external_download_package",
  id: "707",
  package_id: "707",
  passcode: "5ecre7",
});

describe("a package's link", () => {
  it.each([
    ["https://Faspex.Example.org/aspera/faspex/public/package?context=C", "faspex.example.org/707"],
    ["https://faspex.example.org/?context=C", "faspex.example.org/707"],
    ["  https://faspex.example.org:8443/aspera/faspex/?a=1&context=C#x\n", "faspex.example.org:8443/707"],
    ["http://127.0.0.1:4711/aspera/faspex/public/package?context=C", "127.0.0.1:4711/707"],
  ])("%s is known as %s", (link, archive) => {
    const pasted = link.replace("C", encodeURIComponent(CONTEXT));
    expect(readSite(pasted)).toEqual({ kind: "faspex", archive, path: [], bearer: pasted.trim() });
    expect(siteKindOf(archive)).toBe("faspex");
    expect(secretLinkName(pasted)).toBe(archive);
    expect(parseTarget([`${archive}:a/b%2Fc`])).toEqual({ kind: "archive", archive, paths: [["a", "b/c"]] });
  });

  it("of Faspex 4 is known by its number", () => {
    const link = "https://faspex.example.org/aspera/faspex/external_deliveries/12?passcode=5ecre7";
    expect(readSite(link)).toEqual({
      kind: "faspex",
      archive: "faspex.example.org/12",
      path: [],
      bearer: link,
    });
  });

  it("may have its Base64 without padding, in either alphabet, and with blanks for +", () => {
    const value = { package_id: "1", name: "ÿþ>?~".repeat(3) };
    const text = contextOf(value);
    expect(text).toMatch(/[+/]/u);
    for (const form of [
      text.replace(/=+$/u, ""),
      Buffer.from(text, "base64").toString("base64url"),
      text.replaceAll("+", " "),
    ]) {
      const found = linkContextText(`https://h/?context=${form}`);
      expect(parseLinkContext(found ?? "")).toEqual(value);
    }
  });

  it.each([
    ["no context", "https://faspex.example.org/aspera/faspex/public/package"],
    ["a cut context", `https://faspex.example.org/?context=${CONTEXT.slice(0, 40)}`],
    ["no package in it", `https://faspex.example.org/?context=${contextOf({ passcode: "5ecre7" })}`],
    ["http to another machine", `http://faspex.example.org/?context=${CONTEXT}`],
    ["no passcode", "https://faspex.example.org/external_deliveries/12"],
  ])("with %s is refused and not repeated", (_, link) => {
    expect(() => readSite(link)).toThrow(/package/u);
    expect(() => readSite(link)).not.toThrow(/5ecre7|context=ey/u);
    expect(secretLinkName(link)).toBe("faspex.example.org");
  });
});

describe("an ascp site", () => {
  it.each([
    ["aspera://user@Host.org/dir/sub", "aspera://user@host.org", ["dir", "sub"]],
    ["aspera://user@host.org:33001", "aspera://user@host.org:33001", []],
    ["user@host.org:dir", "aspera://user@host.org", ["dir"]],
  ])("%s", (text, archive, path) => {
    expect(readSite(text)).toEqual({ kind: "aspera", archive, path, bearer: null });
    expect(secretLinkName(text)).toBeNull();
  });

  it.each([
    ["aspera://demo@127.0.0.1:99999/x", /99999.*none/u],
    ["aspera://demo@127.0.0.1:0/x", /port 0/u],
    ["aspera://demo@ho st/x", /"ho st".*no name of a host/u],
    ["aspera://demo@host:ssh/x", /no address/u],
  ])("%s is refused in one sentence", (text, sentence) => {
    expect(() => readSite(text)).toThrow(
      expect.objectContaining({ code: "usage", message: expect.stringMatching(sentence) }),
    );
  });

  it("takes no password and needs a user", () => {
    expect(() => readSite("aspera://user:5ecre7@host.org/dir")).toThrow(/holds a password/u);
    expect(() => readSite("aspera://host.org/dir")).toThrow(/names no user/u);
  });
});

it("leaves plain files, configured archives and paths of files alone", () => {
  expect(readSite("https://example.org/a.xlsx")).toBeNull();
  expect(siteKindOf("tcia")).toBeNull();
  expect(siteKindOf("web")).toBeNull();
  expect(parseTarget(["data/7:x"])).toMatchObject({ kind: "file", path: "data/7:x" });
  expect(parseTarget(["./data.org/7:x"])).toMatchObject({ kind: "file" });
});
