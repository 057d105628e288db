import { describe, expect, it } from "vitest";
import { EventChannel } from "./channel.ts";

describe("an event channel", () => {
  it("gives its reader every event in order, and ends", async () => {
    const channel = new EventChannel<number>();
    const reader = channel[Symbol.asyncIterator]();
    const writing = (async () => {
      for (let n = 0; n < 1000; n += 1) await channel.push(n);
      channel.end();
    })();
    const seen: number[] = [];
    for (let next = await reader.next(); !next.done; next = await reader.next()) seen.push(next.value);
    await writing;
    expect(seen).toEqual(Array.from({ length: 1000 }, (_, n) => n));
  });

  it("lets nobody wait when nobody reads, or the reader has left", async () => {
    const channel = new EventChannel<number>();
    for (let n = 0; n < 1000; n += 1) await channel.push(n);
    const reader = channel[Symbol.asyncIterator]();
    const stuck = Promise.all(Array.from({ length: 600 }, (_, n) => channel.push(n)));
    await reader.return?.();
    await stuck;
    await channel.push(1);
  });

  it("holds a writer back while its reader is slow", async () => {
    const channel = new EventChannel<number>();
    const reader = channel[Symbol.asyncIterator]();
    let pushed = 0;
    const writing = (async () => {
      for (; pushed < 2000; pushed += 1) await channel.push(pushed);
    })();
    for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(pushed).toBeLessThan(300);
    while (pushed < 2000) await reader.next();
    await writing;
  });
});
