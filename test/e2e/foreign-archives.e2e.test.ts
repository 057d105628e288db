/** Archive files of other programs, whole and broken: `ls`, `cat` and `unpack` say what they are and leave nothing out in silence. */
import { execFileSync, spawn } from "node:child_process";
import { open, readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { beforeAll, describe, expect, it } from "vitest";
import { tarHeader, tarPadding } from "../../src/lib/tar-header.ts";
import { freshDir, has, root, type Stage, startStage, temporaryDir } from "../support/gantry.ts";

const BLOCK = 512;
const END = Buffer.alloc(2 * BLOCK);
const CONTENT = "one\n";

/** A header like ours but for some bytes, its checksum made anew. */
function header(name: string, bytes: number, change: (header: Buffer) => void): Buffer {
  const made = Buffer.from(tarHeader("x", bytes));
  made.write(name.padEnd(100, "\0"), 0, "latin1");
  change(made);
  made.fill(0x20, 148, 156);
  made.write(
    `${made
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, "0")}\0 `,
    148,
    "latin1",
  );
  return made;
}

const member = (name: string, change: (header: Buffer) => void = () => undefined): Buffer =>
  Buffer.concat([
    header(name, CONTENT.length, change),
    Buffer.from(CONTENT),
    Buffer.alloc(tarPadding(CONTENT.length)),
  ]);
const letter = (value: string) => (made: Buffer) => void made.write(value, 156, "latin1");

describe("archive files of other programs", { timeout: 60_000 }, () => {
  let stage: Stage;
  let place: string;

  beforeAll(async () => {
    stage = await startStage();
    place = await temporaryDir();
  });

  async function unpack(archive: string) {
    const to = await freshDir("out");
    const { code, stderr } = await stage.run(["unpack", archive, "-o", to]);
    return { code, stderr, names: await readdir(to).catch(() => []), to };
  }
  const write = async (name: string, ...parts: Uint8Array[]): Promise<string> => {
    const path = join(place, name);
    await writeFile(path, Buffer.concat(parts));
    return path;
  };

  describe.skipIf(!has("tar"))("with sparse files (needs GNU tar)", () => {
    async function fill(folder: string): Promise<void> {
      const file = await open(join(folder, "holes"), "w");
      // More pieces than the header of the old form has room for.
      for (let piece = 0; piece < 40; piece += 1) await file.write(`piece ${piece}`, piece * 1_000_000);
      await file.close();
      await truncate(join(folder, "holes"), 50_000_000);
      await writeFile(join(folder, "plain"), CONTENT);
    }

    it.each([
      ["gnu", []],
      ["posix", []],
      ["posix", ["--sparse-version=0.1"]],
      ["posix", ["--sparse-version=0.0"]],
    ])(
      "%s %j: they are named and left out, not unpacked as what lies between the holes",
      async (form, more) => {
        const folder = await temporaryDir();
        await fill(folder);
        const archive = join(place, "sparse.tar");
        const words = ["-S", "--format", form, ...more, "-C", folder, "-cf", archive, "holes", "plain"];
        execFileSync("tar", words);
        const { code, stderr, names, to } = await unpack(archive);
        expect([code, names], stderr).toEqual([3, ["plain"]]);
        expect(stderr).toContain('1 member left out, the first "holes"');
        expect(await readFile(join(to, "plain"), "utf8")).toBe(CONTENT);
        const printed = await stage.run(["cat", archive, "*"]);
        expect([printed.code, printed.stdout]).toEqual([3, CONTENT]);
        expect(printed.stderr).toContain('1 member left out, the first "holes"');
      },
    );
  });

  it("a part of a file that goes on in another volume is no file", async () => {
    const archive = await write("volume.tar", member("rest", letter("M")), member("whole"), END);
    const { code, names, stderr } = await unpack(archive);
    expect([code, names], stderr).toEqual([3, ["whole"]]);
  });

  it("a label is no member", async () => {
    const archive = await write("label.tar", header("backup", 0, letter("V")), member("whole"), END);
    const { code, names, stderr } = await unpack(archive);
    expect([code, names], stderr).toEqual([0, ["whole"]]);
  });

  it.each([".", "./", ""])("a file called %j is left out and told", async (name) => {
    const { code, names, stderr } = await unpack(await write("nameless.tar", member(name), END));
    expect([code, names], stderr).toEqual([3, []]);
    expect(stderr).toMatch(/^0 files \(0 B\) in .*\n1 member left out/u);
    expect(stderr).not.toContain("proved");
  });

  it("names that are no UTF-8 stay apart", async () => {
    const { names } = await unpack(await write("latin.tar", member("M\xfcller"), member("M\xf6ller"), END));
    expect(names.sort()).toEqual(["Möller", "Müller"]);
  });

  it.each([
    [
      "cut in the middle",
      (bytes: Buffer) => bytes.subarray(0, bytes.length / 2),
      /gzip: unexpected end of file/u,
    ],
    ["empty", () => Buffer.alloc(0), /is damaged/u],
    ["no gzip", () => Buffer.from("<html>"), /gzip: incorrect header check/u],
  ] as const)("a .tar.gz that is %s is exit 6 with one sentence", async (_what, change, sentence) => {
    const whole = gzipSync(Buffer.concat([member("a"), member("b"), END]));
    const archive = await write("cut.tar.gz", change(whole));
    for (const words of [
      ["ls", archive],
      ["cat", archive, "*"],
      ["unpack", archive, "-o", await freshDir()],
    ]) {
      const { code, stderr } = await stage.run(words);
      expect([code, stderr.trim().split("\n").length], stderr).toEqual([6, 2]);
      expect(stderr).toMatch(sentence);
    }
  });

  it.each([
    ["a size below zero", member("x", (made) => void made.fill(0xff, 124, 136))],
    ["a size beyond all numbers", member("x", (made) => void made.fill(0xff, 125, 136).fill(0x80, 124, 125))],
    ["a second archive behind the first", Buffer.concat([member("x"), END, member("y")])],
    [
      "one block of zeros at its end",
      Buffer.concat([member("x"), Buffer.alloc(BLOCK)]).subarray(0, 3 * BLOCK),
    ],
  ])("%s is exit 6 with one sentence", async (what, bytes) => {
    const whole = what.startsWith("one block") ? [] : [END];
    const { code, stderr } = await stage.run(["ls", await write("odd.tar", bytes, ...whole)]);
    expect([code, stderr.trim().split("\n").length], stderr).toEqual([6, 2]);
  });

  it.each(["tar", "tar.gz", "tar.zst", "tar.xz"])(
    "%s: a reader of cat that goes away is no error",
    async (form) => {
      const tool = { "tar.zst": "zstd", "tar.xz": "xz" }[form];
      if (tool && !has(tool)) return;
      const big = Buffer.alloc(4_000_000, "many bytes that nobody reads ");
      const plain = Buffer.concat([
        header("big", big.length, () => undefined),
        big,
        Buffer.alloc(tarPadding(big.length)),
        END,
      ]);
      const packed = tool
        ? execFileSync(tool, ["-q", "-c"], { input: plain, maxBuffer: 1e8 })
        : form === "tar"
          ? plain
          : gzipSync(plain);
      const archive = await write(`big.${form}`, packed);
      const child = spawn(process.execPath, [join(root, "bin/gantry.js"), "cat", archive, "big"], {
        env: stage.environment,
      });
      child.stdout.once("data", () => child.stdout.destroy());
      let said = "";
      child.stderr.on("data", (text) => {
        said += text;
      });
      const code = await new Promise((resolve) => child.on("close", resolve));
      expect([code, said]).toEqual([0, ""]);
    },
  );
});
