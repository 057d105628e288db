import { describe, expect, it } from "vitest";
import { contentRange, rangeCondition, readHead, revisionOf } from "./head.ts";

const LINK = "https://example.org/uploads/table%201.xlsx";
const reply = (headers: Record<string, string>, status = 200, url = LINK) => ({
  status,
  url,
  header: (name: string) => headers[name],
});
const MD5 = "1B2M2Y8AsgTpgAmY7PhCfg==";
const MD5_HEX = "md5:d41d8cd98f00b204e9800998ecf8427e";

describe("size", () => {
  it("is that of the whole file", () => {
    expect(readHead(reply({ "content-length": "12" }), LINK).bytes).toBe(12);
    expect(readHead(reply({ "content-length": "1", "content-range": "bytes 0-0/12" }, 206), LINK).bytes).toBe(
      12,
    );
    expect(readHead(reply({ "content-range": "bytes */0" }, 416), LINK).bytes).toBe(0);
  });

  it("is unknown where it is not announced, or is that of a packing", () => {
    expect(readHead(reply({}), LINK).bytes).toBeNull();
    expect(readHead(reply({ "content-range": "bytes 0-0/*" }, 206), LINK).bytes).toBeNull();
    expect(readHead(reply({ "content-length": "12", "content-encoding": "gzip" }), LINK).bytes).toBeNull();
    expect(contentRange(reply({ "content-range": "bytes 5-" }, 206))).toBeNull();
  });
});

describe("sums", () => {
  const md5 = (headers: Record<string, string>, status = 200) => readHead(reply(headers, status), LINK).md5;
  it("are taken from the headers that speak of the whole file", () => {
    expect(md5({ "content-md5": MD5 })).toBe(MD5_HEX);
    expect(md5({ "x-goog-hash": `crc32c=AAAAAA==,md5=${MD5}` }, 206)).toBe(MD5_HEX);
    expect(md5({ digest: `SHA=x,MD5=${MD5}` }, 206)).toBe(MD5_HEX);
    const sha256 = Buffer.alloc(32, 7).toString("base64");
    const { sha256: found } = readHead(reply({ "repr-digest": `sha-256=:${sha256}:` }, 206), LINK);
    expect(found).toBe(`sha256:${"07".repeat(32)}`);
  });

  it("are not taken from a part, a packing, or what is no sum", () => {
    expect(md5({ "content-md5": MD5 }, 206)).toBeNull();
    expect(md5({ "content-md5": MD5, "content-encoding": "gzip" })).toBeNull();
    expect(md5({ "content-md5": "bm8=" })).toBeNull();
  });

  it("an ETag is one at Amazon alone, of one part, without another's key", () => {
    const etag = '"d41d8cd98f00b204e9800998ecf8427e"';
    const amazon = { server: "AmazonS3", "x-amz-request-id": "1", etag };
    expect(md5(amazon)).toBe(MD5_HEX);
    expect(md5({ ...amazon, "x-amz-server-side-encryption": "AES256" })).toBe(MD5_HEX);
    expect(md5({ ...amazon, "x-amz-server-side-encryption": "aws:kms" })).toBeNull();
    expect(md5({ ...amazon, "x-amz-server-side-encryption-customer-algorithm": "AES256" })).toBeNull();
    expect(md5({ ...amazon, etag: `${etag.slice(0, -1)}-3"` })).toBeNull();
    expect(md5({ etag })).toBeNull();
  });
});

describe("names", () => {
  const name = (headers: Record<string, string>, link = LINK, url = link) =>
    readHead(reply(headers, 200, url), link).name;
  it.each([
    [{}, "table 1.xlsx"],
    [{ "content-disposition": 'attachment; filename="a \\"b\\".csv"' }, 'a "b".csv'],
    [{ "content-disposition": "attachment; filename=x.csv; filename*=UTF-8''%C3%A4.csv" }, "ä.csv"],
    [{ "content-disposition": 'attachment; filename="../../etc/passwd"' }, "passwd"],
    [{ "content-disposition": 'attachment; filename="C:\\\\x\\\\y.csv"' }, "y.csv"],
    [{ "content-disposition": `attachment; filename="${Buffer.from("ü.csv").toString("latin1")}"` }, "ü.csv"],
    [{ "content-disposition": "attachment; filename*=UTF-8''%ZZ" }, "table 1.xlsx"],
  ])("%j", (headers, expected) => {
    expect(name(headers as Record<string, string>)).toBe(expected);
  });

  it("come from where a redirect led when the link has none, else from the host", () => {
    expect(name({}, "https://example.org/download?id=5", "https://cdn.example.org/a.zip")).toBe("a.zip");
    expect(name({}, "https://example.org/download")).toBe("download");
    expect(name({}, "https://example.org/")).toBe("example.org");
  });
});

it("a revision differs when the file can have changed", () => {
  const head = (headers: Record<string, string>) => readHead(reply(headers), LINK);
  const all = [
    { etag: '"a"', "content-length": "1" },
    { etag: '"b"', "content-length": "1" },
    { etag: '"a"', "content-length": "2" },
    { "last-modified": "Wed, 27 May 2015 17:12:21 GMT", "content-length": "1" },
    { "last-modified": "Wed, 27 May 2015 17:12:22 GMT", "content-length": "1" },
    { "content-length": "1" },
    {},
  ].map((headers) => revisionOf(head(headers as Record<string, string>)));
  expect(new Set(all).size).toBe(7);
  expect(all.at(-1)).toBe("?");
});

it("only a strong ETag, or a date without any, is a condition for going on", () => {
  const condition = (headers: Record<string, string>) => rangeCondition(readHead(reply(headers), LINK));
  const date = "Wed, 27 May 2015 17:12:21 GMT";
  expect(condition({ etag: '"a"', "last-modified": date })).toBe('"a"');
  expect(condition({ etag: 'W/"a"', "last-modified": date })).toBeNull();
  expect(condition({ "last-modified": date })).toBe(date);
  expect(condition({})).toBeNull();
});
