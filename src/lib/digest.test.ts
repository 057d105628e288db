import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  createHasher,
  digestAlgorithm,
  digestOfHex,
  hashBytes,
  hashFile,
  isDigest,
  parseDigest,
} from "./digest.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "digest-"));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

const EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e";

describe("digests as text", () => {
  it("reads any case and knows the lengths", () => {
    expect(parseDigest(` MD5:${EMPTY_MD5.toUpperCase()}\n`)).toBe(`md5:${EMPTY_MD5}`);
    expect(digestOfHex("md5", EMPTY_MD5)).toBe(`md5:${EMPTY_MD5}`);
    expect(digestAlgorithm(parseDigest(`sha256:${"0".repeat(64)}`))).toBe("sha256");
    expect(isDigest(`md5:${EMPTY_MD5}`)).toBe(true);
    expect(isDigest(`MD5:${EMPTY_MD5}`)).toBe(false);
  });

  it.each(["", "md5:", EMPTY_MD5, `sha1:${EMPTY_MD5}`, `md5:${"g".repeat(32)}`, `md4:${EMPTY_MD5}`])(
    "refuses %j",
    (text) => {
      expect(() => parseDigest(text)).toThrow(expect.objectContaining({ code: "bad-selection" }));
    },
  );
});

describe("createHasher", () => {
  it("hashes and counts as bytes pass", () => {
    const hasher = createHasher("sha256");
    hasher.update("ä");
    hasher.update(Buffer.from("bc"));
    expect(hasher.sizeBytes).toBe(4);
    expect(hasher.digest()).toBe(hashBytes("sha256", "äbc"));
    expect(createHasher("md5").digest()).toBe(`md5:${EMPTY_MD5}`);
  });
});

describe("hashFile", () => {
  it.each([0, 1, 1000, 1_048_575, 1_048_576, 1_048_577, 2_097_152, 5_000_000])(
    "hashes %i bytes",
    async (size) => {
      const bytes = randomBytes(size);
      const path = join(folder, "file");
      await writeFile(path, bytes);
      for (const algorithm of ["md5", "sha1", "sha256"] as const) {
        const expected = `${algorithm}:${createHash(algorithm).update(bytes).digest("hex")}`;
        expect(await hashFile(path, algorithm)).toBe(expected);
      }
    },
  );

  it("refuses what is no regular file", async () => {
    await writeFile(join(folder, "target"), "x");
    await symlink("target", join(folder, "link"));
    await expect(hashFile(join(folder, "link"), "md5")).rejects.toMatchObject({ code: "disk-error" });
    await expect(hashFile(folder, "md5")).rejects.toMatchObject({ code: "disk-error" });
    const path = join(folder, "absent");
    await expect(hashFile(path, "md5")).rejects.toMatchObject({ code: "disk-error", at: { path } });
  });

  it.skipIf(process.platform === "win32")("does not wait for a named pipe", async () => {
    execFileSync("mkfifo", [join(folder, "pipe")]);
    await expect(hashFile(join(folder, "pipe"), "md5")).rejects.toMatchObject({ code: "disk-error" });
  });

  it("stops by the signal", async () => {
    const path = join(folder, "file");
    await writeFile(path, "x");
    const reason = new Error("stop");
    await expect(hashFile(path, "md5", AbortSignal.abort(reason))).rejects.toBe(reason);
  });
});
