import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { hashBytes } from "../lib/digest.ts";
import type { StoredFile } from "../model/receipt.ts";
import { checkFiles } from "./folder-check.ts";

let dir = "";
const bytes = Buffer.from("an image");
const mtimeMs = 1_700_000_000_000;

function put(path: string, content: Uint8Array = bytes): StoredFile {
  const at = join(dir, path);
  mkdirSync(join(at, ".."), { recursive: true });
  writeFileSync(at, content);
  utimesSync(at, mtimeMs / 1000, mtimeMs / 1000);
  return { path, bytes: bytes.length, digest: hashBytes("md5", bytes), mtimeMs };
}

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "gantry-disk-check-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe("what is on disk", () => {
  const states = async (files: readonly StoredFile[], hash = false) => {
    const { bad, touched } = await checkFiles(dir, files, hash);
    return { bad: bad.map(({ state }) => state), touched };
  };

  it("is whole when size and mtime are as stored", async () => {
    expect(await states([put("a/1.dcm")])).toEqual({ bad: [], touched: false });
  });

  it("is only touched when the bytes are the same", async () => {
    const file = put("a/1.dcm");
    expect(await states([{ ...file, mtimeMs: 1 }])).toEqual({ bad: [], touched: true });
  });

  it("is changed by one byte, which a hash finds under the same mtime", async () => {
    const file = put("a/1.dcm", Buffer.from("an imagE"));
    expect((await states([file])).bad).toEqual([]);
    expect((await states([file], true)).bad).toEqual(["changed"]);
  });

  it("is missing when it is gone, or a part of its path is a file", async () => {
    const file = put("a/1.dcm");
    rmSync(join(dir, "a"), { recursive: true });
    expect((await states([file])).bad).toEqual(["missing"]);
    writeFileSync(join(dir, "a"), "");
    expect((await states([file])).bad).toEqual(["missing"]);
  });

  it("is not what lies behind a link, be it the file or its folder", async () => {
    const file = put("a/b/1.dcm");
    const outside = mkdtempSync(join(tmpdir(), "gantry-outside-"));
    try {
      renameSync(join(dir, "a"), join(outside, "a"));
      symlinkSync(join(outside, "a"), join(dir, "a"));
      expect((await states([file], true)).bad).toEqual(["changed"]);
      rmSync(join(dir, "a"));
      mkdirSync(join(dir, "a/b"), { recursive: true });
      symlinkSync(join(outside, "a/b/1.dcm"), join(dir, "a/b/1.dcm"));
      expect((await states([file], true)).bad).toEqual(["changed"]);
    } finally {
      rmSync(outside, { recursive: true, force: true });
    }
  });
});
