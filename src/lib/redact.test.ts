import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createRedactor, redactUrl } from "./redact.ts";

describe("known patterns", () => {
  it.each([
    ["Authorization: Basic aGVsbG86d29ybGQ=", "Authorization: ***"],
    ["authorization: Bearer abc.def-ghi", "authorization: ***"],
    ['{"Authorization":"Bearer abc"}', '{"Authorization":"***"}'],
    ['{\\"Authorization\\":\\"Bearer abc\\"}', '{\\"Authorization\\":\\"***\\"}'],
    ['Authorization: Digest username="u", response="c0ffee"\nHost: h', "Authorization: ***\nHost: h"],
    ["Proxy-Authorization: secret1\r\nHost: h", "Proxy-Authorization: ***\r\nHost: h"],
    ["sent BEARER eyJhbGciOi.x.y to h", "sent BEARER *** to h"],
    ["Cookie: a=b; c=d\nHost: h", "Cookie: ***\nHost: h"],
    ['{"Cookie":"a=b"}', '{"Cookie":"***"}'],
    ["X-Api-Key: k1", "X-Api-Key: ***"],
    ["username=u&password=p%40ss&grant_type=password", "username=u&password=***&grant_type=password"],
    ["https://h/p?api_key=k&x=1", "https://h/p?api_key=***&x=1"],
    ["https://h/p?access_token=k#frag", "https://h/p?access_token=***"],
    ["https://h/?X-Amz-Signature=00ff&X-Amz-Date=2", "https://h/?X-Amz-Signature=***&X-Amz-Date=2"],
    ["PASSWORD = 'two words' # note", "PASSWORD = '***' # note"],
    ['password="two words"', 'password="***"'],
    ['{"password": "a\\"b", "user": "u"}', '{"password": "***", "user": "u"}'],
    ['"{\\"token\\":\\"abc\\"}"', '"{\\"token\\":\\"***\\"}"'],
    ["ASPERA_SCP_PASS=abc ascp", "ASPERA_SCP_PASS=*** ascp"],
    ["https://user:pass@host/x", "https://***@host/x"],
    ["https://user:p@ss:w@host/x@y", "https://***@host/x@y"],
    ["ftp://user@host", "ftp://***@host"],
  ])("%s", (text, expected) => {
    const redactor = createRedactor();
    expect(redactor.redact(text)).toBe(expected);
    expect(redactor.redact(expected)).toBe(expected);
  });

  it.each([
    "the password is wrong",
    "tokens=5 and passes=3",
    "a bearer of news",
    "https://host/a@b?series=1.2.3",
    "mail me@host",
    "basic facts",
    "compass=north",
  ])("leaves %j", (text) => {
    expect(createRedactor().redact(text)).toBe(text);
  });

  it("is fast on long texts", () => {
    const begun = performance.now();
    for (const unit of ["a", " ", "token", "=", "https://", '"', "authorization:", "\\", "a:@"]) {
      createRedactor().redact(unit.repeat(Math.ceil(200_000 / unit.length)));
    }
    expect(performance.now() - begun).toBeLessThan(5000);
  });
});

describe("added secrets", () => {
  it("go in every form, wherever they stand", () => {
    const secret = 'p&ss w"rd+ä';
    const redactor = createRedactor();
    redactor.add(secret);
    for (const form of [
      secret,
      encodeURIComponent(secret),
      new URLSearchParams({ x: secret }).toString().slice(2),
      JSON.stringify(secret).slice(1, -1),
      Buffer.from(secret).toString("base64"),
    ]) {
      expect(redactor.redact(`before ${form} after`)).toBe("before *** after");
    }
  });

  it("never come through", () => {
    const secrets = fc.array(fc.stringMatching(/^[A-Za-z0-9.$^[\]()|\\-]{4,20}$/), {
      minLength: 1,
      maxLength: 5,
    });
    fc.assert(
      fc.property(secrets, fc.array(fc.string()), (all, between) => {
        const redactor = createRedactor();
        for (const secret of all) redactor.add(secret);
        const text = all.map((secret, index) => `${between[index] ?? ""} ${secret} `).join("");
        const redacted = redactor.redact(text);
        for (const secret of all) expect(redacted).not.toContain(secret);
      }),
    );
  });

  it("replace the longer of two, and ignore what is too short", () => {
    const redactor = createRedactor();
    for (const secret of ["abcd", "abcdefgh", "", "a"]) redactor.add(secret);
    expect(redactor.redact("abcdefgh abcd a")).toBe("*** *** a");
  });
});

describe("redactUrl", () => {
  it("keeps the rest byte for byte", () => {
    expect(redactUrl("https://u:p@h:8443/a%20b/c?X=1+2&Token=abc&y=%7E")).toBe(
      "https://***@h:8443/a%20b/c?X=1+2&Token=***&y=%7E",
    );
    expect(redactUrl(new URL("https://h/?series=1.2"))).toBe("https://h/?series=1.2");
  });
});
