import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Published, parsePublishedLine } from "./published.ts";

const MD5 = "d41d8cd98f00b204e9800998ecf8427e";
const KEY = `MD5E-s12--${MD5}.nii.gz`;
const folder = await mkdtemp(join(tmpdir(), "gantry-test-published-"));
afterAll(() => rm(folder, { recursive: true }));

async function listOf(text: string): Promise<Published> {
  const path = join(folder, "list.txt");
  await writeFile(path, text);
  return Published.read(path);
}

describe("a line of a published list", () => {
  const size = { path: "sub-1/anat/a b.nii.gz", digest: `md5:${MD5}`, bytes: 12 };
  it.each([
    [`./sub-1/anat/a b.nii.gz -> ../../.git/annex/objects/Xx/9z/${KEY}/${KEY}`, size],
    [
      `lrwxrwxrwx 1 data data 201 Jan 14  2025 sub-1/anat/a b.nii.gz -> ../../.git/annex/objects/Xx/9z/${KEY}/${KEY}`,
      size,
    ],
    [`${KEY} sub-1/anat/a b.nii.gz`, size],
    [`sub-1/anat/a b.nii.gz\t${KEY}`, size],
    [`sub-1/anat/a b.nii.gz,12,${MD5}`, size],
    [`${MD5.toUpperCase()}\t12\tsub-1/anat/a b.nii.gz`, size],
    [`${MD5}  ./sub-1/anat/a b.nii.gz`, { ...size, bytes: null }],
    [`MD5 (sub-1/anat/a b.nii.gz) = ${MD5}`, { ...size, bytes: null }],
    ["path,size,md5", null],
    ["# made in 2025", null],
    ["", null],
  ])("%s", (line, entry) => {
    expect(parsePublishedLine(line)).toEqual(entry);
  });

  it.each(["anything", `${MD5}0  x`, "a -> ../b"])("is refused: %s", (line) => {
    expect(() => parsePublishedLine(line)).toThrow(expect.objectContaining({ code: "bad-selection" }));
  });
});

describe("a published list", () => {
  const file = { bytes: 12, digest: `md5:${MD5}` } as const;

  it("is found by path, by the end of a path, and by a name below more folders", async () => {
    const list = await listOf(
      `${KEY} BIDS/sub-1/x.nii.gz\n${KEY} 10/V1/images/y.mnc\n${KEY} 1/README\n${KEY} 2/README\n`,
    );
    expect(list.judge("sub-1/x.nii.gz", file)).toMatchObject({
      agrees: true,
      proof: ["published-md5", "size"],
    });
    expect(list.judge("10/V1/y.mnc", file)).toMatchObject({ agrees: true });
    expect(list.judge("11/V1/y.mnc", file)).toBeNull();
    expect(list.judge("y.mnc", file)).toMatchObject({ agrees: true });
    expect(list.judge("README", file)).toBeNull();
    expect(list.judge("sub-2/x.nii.gz", file)).toBeNull();
  });

  it("says what differs", async () => {
    const list = await listOf(`${KEY} x\n`);
    expect(list.judge("x", { ...file, bytes: 13 })?.sentence).toMatch(/12 bytes, but 13 bytes came/u);
    expect(list.judge("x", { ...file, digest: "md5:00" as typeof file.digest })).toMatchObject({
      agrees: false,
    });
  });

  it("is refused when it names nothing, or a line can't be read", async () => {
    await expect(listOf("# nothing\n")).rejects.toMatchObject({ code: "usage" });
    await expect(listOf(`${KEY} x\nnonsense\n`)).rejects.toThrow(/list\.txt:2: /u);
    const mixed = `${MD5}  x\n${MD5}${MD5}  y\n`;
    await expect(listOf(mixed)).rejects.toThrow(/mixes md5 and sha256/u);
  });
});
