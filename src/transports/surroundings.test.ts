import { describe, expect, it } from "vitest";
import { proxyFor } from "./surroundings.ts";

describe("the proxy for a URL", () => {
  it.each([
    ["https://a.example/x", { HTTPS_PROXY: "http://p:1" }, "HTTPS_PROXY p:1"],
    ["https://a.example/x", { https_proxy: "p:1", HTTPS_PROXY: "http://q:2" }, "https_proxy p:1"],
    ["https://a.example/x", { HTTP_PROXY: "http://p:1" }, "HTTP_PROXY p:1"],
    ["http://a.example/x", { HTTPS_PROXY: "http://p:1" }, null],
    ["http://a.example/x", { http_proxy: "http://user:secret@p:1" }, "http_proxy p:1"],
    ["https://a.example/x", {}, null],
    ["https://a.example/x", { HTTPS_PROXY: "http://p:1", NO_PROXY: "a.example" }, null],
    ["https://b.a.example/x", { HTTPS_PROXY: "http://p:1", NO_PROXY: "x, .a.example" }, null],
    ["https://ba.example/x", { HTTPS_PROXY: "http://p:1", NO_PROXY: "a.example" }, "HTTPS_PROXY p:1"],
    ["https://a.example/x", { HTTPS_PROXY: "http://p:1", no_proxy: "*" }, null],
    ["https://a.example:8443/x", { HTTPS_PROXY: "http://p:1", NO_PROXY: "a.example:443" }, "HTTPS_PROXY p:1"],
    ["https://a.example/x", { HTTPS_PROXY: "http://p:1", NO_PROXY: "a.example:443" }, null],
    ["https://[::1]/x", { HTTPS_PROXY: "http://p:1", NO_PROXY: "::1" }, null],
  ])("%s in %j: %s", (url, environment, expected) => {
    const proxy = proxyFor(new URL(url), environment);
    expect(proxy === null ? null : `${proxy.variable} ${proxy.host}`).toBe(expected);
  });

  it("that is no address is refused by its variable's name", () => {
    expect(() => proxyFor(new URL("https://a.example"), { HTTPS_PROXY: "http://" })).toThrow(/HTTPS_PROXY/u);
  });
});
