/** What earlier versions wrote is whole, too. */
import { spawnSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { has, temporaryDir } from "../../../test/support/gantry.ts";
import { hashBytes } from "../../lib/digest.ts";
import { TAR_END, tarHeader, tarPadding } from "../../lib/tar-header.ts";
import { openArchiveFile } from "./archive-file.ts";
import { openCodec } from "./codec.ts";

const bytes = Buffer.from("hello");
const member = Buffer.concat([tarHeader("a/b", bytes.length), bytes, Buffer.alloc(tarPadding(bytes.length))]);

/** An archive of one member that ends with these bytes, and what is read of it. */
async function read(format: "tar.zst" | "tar.xz" | "tar", end: Uint8Array): Promise<string> {
  const path = join(await temporaryDir(), `x.${format}`);
  const piece = Buffer.concat(await openCodec(format).pack(member));
  await writeFile(path, Buffer.concat([piece, end]));
  const lines = [
    { kind: "gantry-archive-index", version: 1, format },
    {
      path: "a/b",
      bytes: bytes.length,
      digest: hashBytes("md5", bytes),
      item: "i",
      offset: 0,
      length: piece.length,
      at: 0,
    },
  ];
  await writeFile(`${path}.index.jsonl`, lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  let text = "";
  for await (const { body } of (await openArchiveFile(path)).read(() => true))
    for await (const part of body) text += Buffer.from(part).toString();
  return text;
}

describe.skipIf(!has("zstd") || !has("xz"))("the end of an archive with an index (needs zstd, xz)", () => {
  it.each([
    ["tar.zst", "zstd", ["-q", "-3", "-c", "--single-thread"]],
    ["tar.zst", "zstd", ["-q", "-19", "-c", "--check"]],
    ["tar.xz", "xz", ["-q", "-6", "-c", "-T1"]],
    ["tar", "cat", []],
  ] as const)("%s: is one that %s made", async (format, program, args) => {
    const compressed = (input: Uint8Array): Buffer => spawnSync(program, args, { input }).stdout;
    expect(await read(format, compressed(TAR_END))).toBe("hello");
    for (const other of [Buffer.alloc(512), Buffer.alloc(1024, 1), Buffer.alloc(1536), member])
      await expect(read(format, compressed(other))).rejects.toThrow("goes on after");
    await expect(read(format, compressed(TAR_END).subarray(0, -1))).rejects.toThrow("goes on after");
    await expect(read(format, new Uint8Array())).rejects.toThrow("was cut");
  });
});
