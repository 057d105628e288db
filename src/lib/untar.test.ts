import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { untar } from "./untar.ts";

const base = mkdtempSync(join(tmpdir(), "gantry-untar-"));
afterAll(() => rmSync(base, { recursive: true, force: true }));
const LONG = `${"deep/".repeat(30)}${"name".repeat(25)}.txt`;

async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function read(bytes: Uint8Array, size = 700): Promise<unknown[]> {
  const found: unknown[] = [];
  for await (const { name, type, target, body } of untar(pieces(bytes, size))) {
    const parts: Uint8Array[] = [];
    if (type === "file") for await (const part of body) parts.push(part);
    found.push([name.replace(/\/$/u, ""), type, target, Buffer.concat(parts).toString().length]);
  }
  return found;
}

describe("a tar archive that GNU tar wrote", () => {
  mkdirSync(join(base, "t", LONG, ".."), { recursive: true });
  writeFileSync(join(base, "t", LONG), "x".repeat(1500));
  writeFileSync(join(base, "t", "ä b"), "");
  symlinkSync("ä b", join(base, "t", "link"));

  it.each(["gnu", "pax", "posix"])("in the form %s is read, whatever the pieces", async (format) => {
    const path = join(base, `${format}.tar`);
    execFileSync("tar", ["--format", format, "--sort=name", "-C", base, "-cf", path, "t"]);
    const bytes = readFileSync(path);
    for (const size of [1, 511, 512, 100_000]) {
      const found = (await read(bytes, size)).filter((entry) => (entry as string[])[1] !== "folder");
      expect(found).toEqual([
        [`t/${LONG}`, "file", "", 1500],
        ["t/link", "symlink", "ä b", 0],
        ["t/ä b", "file", "", 0],
      ]);
    }
    const whole = bytes.length;
    for (const cut of [100, 600, 3000])
      await expect(read(bytes.subarray(0, Math.min(cut, whole - 1024)))).rejects.toMatchObject({
        code: "proof-format",
      });
    const flipped = Buffer.from(bytes);
    flipped[10] = (flipped[10] ?? 0) ^ 1;
    await expect(read(flipped)).rejects.toMatchObject({ code: "proof-format" });
  });
});
