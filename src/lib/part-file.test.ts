import { link, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { copyPart, PartFile } from "./part-file.ts";

const MEBIBYTE = 1024 * 1024;
const bytes = Buffer.alloc(20 * MEBIBYTE);
for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt32LE(at, at);
const fresh = { bytes: 24 * MEBIBYTE, condition: "1", md5: null, sha256: null };

let base: string;
beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), "gantry-part-"));
});
afterEach(() => rm(base, { recursive: true, force: true }));

/** One that is being written: its first 16 MiB are synced behind the writer's back. */
async function begun(): Promise<PartFile> {
  const part = await PartFile.open(join(base, "one"), "name");
  await part.begin(fresh);
  for (let at = 0; at < bytes.length; at += MEBIBYTE) await part.append(bytes.subarray(at, at + MEBIBYTE));
  await expect.poll(() => readFile(join(base, "one", "name.json"), "utf8").catch(() => "")).toContain("1677");
  return part;
}

const copy = (): Promise<boolean> =>
  copyPart("name", {
    ...{ from: join(base, "one"), to: join(base, "two"), temporary: base },
    ...{ signal: new AbortController().signal, onBytes: () => undefined },
  });

it("is copied as far as it is synced while its writer goes on, also under another name", async () => {
  const part = await begun();
  await link(part.path, join(base, "another"));
  expect(await copy()).toBe(true);
  await part.keep();
  const second = await PartFile.open(join(base, "two"), "name");
  expect(second.facts).toMatchObject({ ...fresh, syncedBytes: 16 * MEBIBYTE });
  const came: Uint8Array[] = [];
  for await (const chunk of second.read()) came.push(chunk);
  expect(Buffer.concat(came).equals(bytes.subarray(0, 16 * MEBIBYTE))).toBe(true);
});

it("is never written into while it has another name", async () => {
  const part = await begun();
  await part.keep();
  await link(part.path, join(base, "another"));
  const again = await PartFile.open(join(base, "one"), "name");
  expect(again.facts).toBeNull();
  await again.begin(fresh);
  await again.append(Buffer.from("other bytes"));
  await again.keep();
  expect((await readFile(join(base, "another"))).equals(bytes)).toBe(true);
  await rm(join(base, "another"));
  expect((await PartFile.open(join(base, "one"), "name")).facts).toMatchObject({ syncedBytes: 11 });
});
