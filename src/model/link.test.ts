import { describe, expect, it } from "vitest";
import { isManifestLink, packageKindOf, parseFileLink } from "./link.ts";

describe("parseFileLink", () => {
  it.each([
    ["https://www.cancerimagingarchive.net/wp-content/uploads/a.xlsx", undefined],
    ["HTTPS://Example.ORG:443/a b.csv#top", "https://example.org/a%20b.csv"],
    ["https://example.org/größe.csv?v=2", "https://example.org/gr%C3%B6%C3%9Fe.csv?v=2"],
    ['https://example.org/a?x=\\n"', "https://example.org/a?x=%5Cn%22"],
    ["http://127.0.0.1:8080/x.zip", undefined],
  ])("%s", (link, spelt) => {
    expect(parseFileLink(link)).toBe(spelt ?? link);
    expect(parseFileLink(parseFileLink(link))).toBe(parseFileLink(link));
    expect(JSON.stringify(parseFileLink(link))).toBe(`"${parseFileLink(link)}"`);
  });

  it.each([
    ["X-Amz-Signature", "https://b.s3.amazonaws.com/k?X-Amz-Date=1&X-Amz-Signature=5ecre7"],
    ["X-Goog-Signature", "https://storage.googleapis.com/b/k?X-Goog-Signature=5ecre7"],
    ["sig", "https://a.blob.core.windows.net/c/k?sv=2020&sig=5ecre7"],
    ["access_token", "https://example.org/k?access_token=5ecre7"],
    ["Signature", "https://d.cloudfront.net/k?Expires=1&Signature=5ecre7&Key-Pair-Id=K"],
    ["api_key", "https://example.org/k?api_key=5ecre7"],
    ["login", "https://demo:5ecre7@example.org/k"],
  ])("refuses a link that holds a %s, without repeating it", (_, link) => {
    const refused = () => parseFileLink(link);
    expect(refused).toThrow(/kept in receipts/u);
    expect(refused).not.toThrow(/5ecre7/u);
  });

  it.each([
    [
      "https://faspex.cancerimagingarchive.net/aspera/faspex/public/package?context=eyJyZXNv5ecre7",
      "Aspera package",
    ],
    ["https://faspex.example.org/public/package?context=5ecre7", "Aspera package"],
    ["https://example.org/external_deliveries/12?passcode=5ecre7", "Aspera package"],
    ["aspera://user@host.org/dir", "Aspera site"],
    ["user@aspera.immport.org:dir", "Aspera site"],
  ])("says of %s what it is", (link, what) => {
    expect(packageKindOf(link)).not.toBeNull();
    expect(() => parseFileLink(link)).toThrow(what);
    expect(() => parseFileLink(link)).not.toThrow(/5ecre7/u);
  });

  it("refuses other schemes and what is no address", () => {
    expect(() => parseFileLink("ftp://example.org/a")).toThrow(/serves ftp links/u);
    expect(() => parseFileLink("https://")).toThrow(/no address/u);
  });
});

it("tells manifests from files", () => {
  expect(isManifestLink("https://example.org/uploads/LCTSC.TCIA?x=1")).toBe(true);
  expect(isManifestLink("https://example.org/uploads/LCTSC.tcia.zip")).toBe(false);
  expect(isManifestLink("ftp://example.org/a.tcia")).toBe(false);
});
