/** Entries and addresses of Faspex 4, with what servers leave in them as it is. */
import { describe, expect, it } from "vitest";
import { buildAscpCall, type TransferSpec } from "../../transports/ascp/transfer-spec.ts";
import { parseDelivery, specOfAddress, tokenRequest } from "./four.ts";

const TAGS = { aspera: { faspex: { delivery: "/a>>>?" } } };
const TAGS64 = Buffer.from(JSON.stringify(TAGS)).toString("base64");
const ADDRESS = `faspe://faspex@[2001:db8::1]:33001/My%20title%20-%20100%25%2Fa+b?auth=no&bwcap=10000000&cookie=c%3Ad&createpath=no&enc=aes256gcm&fallback=yes&httpport=8080&lockpolicy=no&minrate=0&policy=fair&port=33002&protect=optional&tags64=${TAGS64}&targetrate=1000000&token=ATM2_ACs+x/y==&v=2&__proto__=x&targetrate=often`;

describe("an entry", () => {
  it("is read whatever its prefix, order and entities are", () => {
    const text = `\uFEFF<?xml version="1.0"?><a:entry xmlns:a="http://www.w3.org/2005/Atom">
<a:author><a:title>of nobody</a:title></a:author>
<a:link href="external_deliveries/7" rel="alternate"/><a:link href="faspe://u@h:1/p?a=b&amp;c=d==" rel="package"/>
<a:updated>2020-02-02T00:00:00Z</a:updated><a:title><![CDATA[Tiles & ]]>slides &#x26; more</a:title></a:entry>`;
    expect(parseDelivery(text)).toEqual({
      title: "Tiles & slides & more",
      updated: "2020-02-02T00:00:00Z",
      address: "faspe://u@h:1/p?a=b&c=d==",
    });
  });

  it("without a link to the package has no content", () => {
    expect(parseDelivery("<entry><title>Gone</title></entry>")).toMatchObject({ address: null });
  });

  it.each([
    "<!DOCTYPE html><html><body>Package not found</body></html>",
    "<html><body><p>Package not found</body></html>",
    '<!DOCTYPE entry [<!ENTITY a "b">]><entry><title>&a;</title></entry>',
    "<feed><entry/></feed>",
    '{"code":"1224"}',
    "<entry><title>cut",
    "",
  ])("%s is none", (text) => {
    expect(parseDelivery(text)).toBeNull();
  });
});

describe("an address", () => {
  it("becomes a transfer specification; only the first = of a parameter is a sign", () => {
    expect(specOfAddress(ADDRESS)).toEqual({
      remote_host: "2001:db8::1",
      remote_user: "faspex",
      ssh_port: 33001,
      fasp_port: 33002,
      paths: [{ source: "/My title - 100%/a+b" }],
      cookie: "c:d",
      token: "ATM2_ACs+x/y==",
      cipher: "aes-256-gcm",
      rate_policy: "fair",
      target_rate_kbps: 1_000_000,
      min_rate_kbps: 0,
      http_fallback: true,
      http_fallback_port: 8080,
      tags: TAGS,
    });
  });

  it("gives ascp what it asks for, and no secret among its arguments", () => {
    const spec = { ...specOfAddress(ADDRESS), direction: "receive" } as unknown as TransferSpec;
    const { args, env, list } = buildAscpCall(spec);
    expect(args.join(" ")).toContain("-c aes256-gcm");
    expect(args.join(" ")).not.toContain("ATM2");
    expect(env).toMatchObject({ ASPERA_SCP_TOKEN: "ATM2_ACs+x/y==", ASPERA_SCP_COOKIE: "c:d" });
    expect(list.text).toBe("/My title - 100%/a+b\n");
  });

  it.each(["https://host/path", "faspe://", "faspe:///path"])("%s is none", (address) => {
    expect(specOfAddress(address)).toBeNull();
  });

  it("is asked a token for in XML that keeps it as it is", () => {
    const asked = tokenRequest('faspe://h/p?a=1&b="<x>"');
    expect(asked).toContain('href="faspe://h/p?a=1&#38;b=&#34;&#60;x&#62;&#34;"/>');
  });
});
