import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseJsonArray } from "./json-array-stream.ts";

async function* pieces(body: string | Uint8Array, sizeBytes: number): AsyncGenerator<Uint8Array> {
  const bytes = Buffer.from(body as string);
  for (let begin = 0; begin < bytes.length; begin += sizeBytes)
    yield bytes.subarray(begin, begin + sizeBytes);
}

async function parse(body: string | Uint8Array, sizeBytes = 3, options = {}): Promise<unknown[]> {
  const all: unknown[] = [];
  // As it streams, unless a test asks for the short way.
  const read = parseJsonArray(pieces(body, sizeBytes), { wholeBytes: 0, ...options });
  for await (const element of read) all.push(element);
  return all;
}

describe("parseJsonArray", () => {
  it("gives what JSON.parse gives, however the bytes are cut", async () => {
    const array = fc.array(fc.jsonValue({ maxDepth: 3 }));
    await fc.assert(
      fc.asyncProperty(array, fc.integer({ min: 1, max: 40 }), fc.boolean(), async (value, size, wide) => {
        const text = JSON.stringify(value, null, wide ? 2 : 0);
        expect(await parse(text, size)).toEqual(JSON.parse(text));
        expect(await parse(text, size, { wholeBytes: text.length / 2 })).toEqual(JSON.parse(text));
        expect(await parse(text, size, { wholeBytes: 1e6 })).toEqual(JSON.parse(text));
      }),
    );
  });

  it.each(["", "  \r\n\t ", "[]", " [ ] \n", "\ufeff[]"])("no elements in %j", async (body) => {
    expect(await parse(body, 1)).toEqual([]);
    expect(await parse(body, 1000)).toEqual([]);
  });

  it.each([
    "[1,2",
    "[",
    '["a',
    "[1] x",
    "[1][2]",
    '{"a":1}',
    "5",
    "null",
    '"[1]"',
    "[1,]",
    "[,1]",
    "[01]",
    "[1 2]",
    "[NaN]",
    "[1.]",
    "[tru]",
    '["a\nb"]',
    '["\\x"]',
    '[{"a":1,}]',
    "<html><body>[1]</body></html>",
  ])("is archive-reply: %j", async (body) => {
    for (const size of [1, 1000]) {
      await expect(parse(body, size)).rejects.toMatchObject({ code: "archive-reply" });
      const whole = parse(body, size, { wholeBytes: 1e6 });
      await expect(whole).rejects.toMatchObject({ code: "archive-reply" });
    }
  });

  it("tells a cut reply from a wrong one", async () => {
    await expect(parse('[{"a":1},{"a"')).rejects.toThrow("ends before");
    await expect(parse("<html>login</html>", 100)).rejects.toThrow("<html>login");
  });

  it("yields the elements before a fault", async () => {
    const seen: unknown[] = [];
    const reading = (async () => {
      for await (const element of parseJsonArray(pieces("[1,2,", 100))) seen.push(element);
    })();
    await expect(reading).rejects.toMatchObject({ code: "archive-reply" });
    expect(seen).toEqual([1, 2]);
  });

  it("survives a stray Latin-1 byte next to a quote", async () => {
    expect(await parse(Buffer.from('[{"a":"Ren\xe9"},"b"]', "latin1"))).toEqual([{ a: "Ren\ufffd" }, "b"]);
  });

  it("keeps __proto__ a plain field", async () => {
    const [element] = await parse('[{"__proto__":{"x":1}}]');
    expect(Object.getPrototypeOf(element)).toBe(Object.prototype);
    expect(Object.keys(element as object)).toEqual(["__proto__"]);
  });

  it("bounds an element", async () => {
    const large = JSON.stringify(["x".repeat(300_000)]);
    await expect(parse(large, 10_000, { maxElementBytes: 100_000 })).rejects.toMatchObject({
      code: "archive-reply",
    });
    expect(await parse(large, 10_000, { maxElementBytes: 300_000 })).toHaveLength(1);
    const many = JSON.stringify(Array.from({ length: 50_000 }, (_, index) => ({ index })));
    expect(await parse(many, 10_000, { maxElementBytes: 100 })).toHaveLength(50_000);
  });

  it("closes the source when the consumer stops, and passes its errors", async () => {
    let closed = false;
    const source = (async function* () {
      try {
        yield Buffer.from("[1,2,");
        yield Buffer.from("3]");
      } finally {
        closed = true;
      }
    })();
    for await (const element of parseJsonArray(source)) {
      expect(element).toBe(1);
      break;
    }
    expect(closed).toBe(true);
    const fault = new Error("reset");
    const failing = parseJsonArray(
      (async function* () {
        yield Buffer.from("[1");
        throw fault;
      })(),
    );
    await expect(failing.next()).rejects.toBe(fault);
  });
});
