/** Compressors that do not do their work, and say nothing of it: nothing is packed by them, and nothing judged. */
import { chmod, readdir, readFile, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { datasetOf } from "../../src/sandbox/tiny-dataset.ts";
import { dicomSeries } from "../support/dataset.ts";
import { freshDir, has, type Stage, startStage, temporaryDir } from "../support/gantry.ts";

/** What stands first on PATH, beside the real one. */
const STAND_INS: readonly (readonly [what: string, script: string])[] = [
  ["ends well at once", "exit 0"],
  ["writes rubbish", "cat > /dev/null; echo rubbish"],
  ["writes the beginning only", '"$REAL" "$@" | head -c 5000'],
  ["fails", "echo 'no such library' >&2; exit 1"],
];

const FORMS = [["tar.xz", "xz"] as const, ["tar.zst", "zstd"] as const].filter(([, program]) => has(program));

describe.each(FORMS)("%s", { timeout: 120_000 }, (form, program) => {
  let stage: Stage;

  beforeAll(async () => {
    const series = [1, 2].map((n) =>
      dicomSeries(`1.2.840.9.${n}`, { patientId: `P${n}`, count: 4, pixelBytes: 20_000 }),
    );
    stage = await startStage({ data: datasetOf(series) });
  });

  /** The environment in which it comes first. */
  async function standIn(script: string): Promise<Record<string, string>> {
    const folder = await temporaryDir();
    await writeFile(
      join(folder, program),
      `#!/bin/sh\nPATH="${"$"}{PATH#*:}"\nREAL=$(command -v ${program})\n${script}\n`,
    );
    await chmod(join(folder, program), 0o755);
    return { PATH: `${folder}${delimiter}${process.env.PATH}` };
  }
  const sentence = new RegExp(`the program ${program} does not work here: `, "u");
  const receipts = async (dir: string): Promise<string> => {
    const names = await readdir(join(dir, ".gantry", "receipts"));
    const texts = names.sort().map((name) => readFile(join(dir, ".gantry", "receipts", name), "utf8"));
    return (await Promise.all(texts)).join("");
  };

  it.each(STAND_INS)("one that %s packs nothing, and no loose file goes", async (_what, script) => {
    const env = await standIn(script);
    const dir = await freshDir("packed");
    const got = await stage.run(["get", "tcia:", "-o", dir, "--pack", form, "--progress", "none"], { env });
    expect([got.code, got.stderr]).toEqual([2, expect.stringMatching(sentence)]);
    const loose = await freshDir("loose");
    expect((await stage.run(["get", "tcia:", "-o", loose, "--progress", "none"])).code).toBe(0);
    const packed = await stage.run(["pack", loose, "--pack", form], { env });
    expect([packed.code, packed.stderr]).toEqual([2, expect.stringMatching(sentence)]);
    expect((await stage.run(["verify", loose, "--strict", "--progress", "none"])).code).toBe(0);
    // Nothing was packed, so that another form can be chosen.
    const other = await stage.run(["pack", loose, "--pack", "tar"], { env });
    expect(other.code, other.stderr).toBe(0);
  });

  it.each(STAND_INS)("one that %s damages nothing", async (_what, script) => {
    const dir = await freshDir("packed");
    const got = await stage.run(["get", "tcia:", "-o", dir, "--pack", form, "--progress", "none"]);
    expect(got.code, got.stderr).toBe(0);
    const before = await receipts(dir);
    const env = await standIn(script);
    for (const words of [
      ["verify", dir],
      ["verify", join(dir, `packed.${form}`)],
      ["cat", dir, "**"],
    ]) {
      const { code, stderr } = await stage.run(words, { env });
      expect([code, stderr]).toEqual([2, expect.stringMatching(sentence)]);
    }
    expect(await receipts(dir)).toBe(before);
  });

  it("one that a signal ends, as where memory is short, says nothing of what it read", async () => {
    const dir = await freshDir("packed");
    const got = await stage.run(["get", "tcia:", "-o", dir, "--pack", form, "--progress", "none"]);
    expect(got.code, got.stderr).toBe(0);
    const before = await receipts(dir);
    // The two runs of the trial pass.
    const counted = join(await temporaryDir(), "runs");
    const env = await standIn(
      `echo >> ${counted}; [ $(wc -l < ${counted}) -le 2 ] || kill -9 $$\nexec "$REAL" "$@"`,
    );
    const { code, stderr } = await stage.run(["verify", dir, "--progress", "none"], { env });
    expect([code, stderr]).toEqual([7, expect.stringContaining(`the program ${program} was ended by `)]);
    expect(await receipts(dir)).toBe(before);
  });

  it("one that fails only at what it packs takes no loose file with it", async () => {
    const loose = await freshDir("loose");
    expect((await stage.run(["get", "tcia:", "-o", loose, "--progress", "none"])).code).toBe(0);
    // The two runs of the trial pass; decompressors, which are asked with -d, are right.
    const counted = join(await temporaryDir(), "runs");
    const env = await standIn(
      `echo >> ${counted}; case " $* " in *" -d "*) exec "$REAL" "$@" ;; esac
if [ $(wc -l < ${counted}) -le 2 ]; then exec "$REAL" "$@"; fi
tr 'a-z' 'b-za' | "$REAL" "$@"`,
    );
    const { code, stderr } = await stage.run(["pack", loose, "--pack", form], { env });
    expect([code, stderr]).toEqual([7, expect.stringContaining("is not there as it was just packed")]);
    expect((await stage.run(["verify", loose, "--strict", "--progress", "none"])).code).toBe(0);
  });
});
