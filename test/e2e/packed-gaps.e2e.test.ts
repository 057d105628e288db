/** Between the pieces that an index names lie blanks and nothing else: `verify`, `ls` and `unpack` look. */
import { cp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { datasetOf } from "../../src/sandbox/tiny-dataset.ts";
import { dicomSeries } from "../support/dataset.ts";
import { freshDir, has, type Stage, startStage, temporaryDir } from "../support/gantry.ts";

const FORMATS = ["tar.zst", "tar.xz", "tar"] as const;
type Format = (typeof FORMATS)[number];

/** Of several pieces. */
const LARGE = "1.2.840.7.3";

interface Line {
  readonly path: string;
  readonly item: string;
  readonly offset: number;
  readonly length: number;
  readonly at: number;
}

const readIndex = async (archive: string): Promise<{ head: string; lines: Line[] }> => {
  const [head = "", ...lines] = (await readFile(`${archive}.index.jsonl`, "utf8")).trim().split("\n");
  return { head, lines: lines.map((line) => JSON.parse(line) as Line) };
};

/** Parts of an archive file before its last piece that its index does not name. */
const gapsOf = ({ lines }: { lines: readonly Line[] }): { offset: number; length: number }[] => {
  let end = 0;
  return lines.flatMap(({ offset, length }) => {
    const gap = { offset: end, length: offset - end };
    end = offset + length;
    return gap.length > 0 ? [gap] : [];
  });
};

describe.skipIf(!has("zstd") || !has("xz"))("gaps (needs zstd, xz)", { timeout: 120_000 }, () => {
  let stage: Stage;

  beforeAll(async () => {
    const series = [1, 2, 3, 4, 5, 6].map((n) =>
      dicomSeries(`1.2.840.7.${n}`, {
        patientId: `P${n}`,
        studyInstanceUid: `1.2.840.70.${n}`,
        ...(n === 3 ? { count: 4, pixelBytes: 1_200_000, quick: true } : {}),
      }),
    );
    stage = await startStage({ data: datasetOf(series) });
  });

  const get = (dir: string, ...more: string[]) =>
    stage.run(["get", "tcia:", "-o", dir, ...more, "--progress", "none"]);
  const packed = async (format: Format): Promise<{ dir: string; archive: string }> => {
    const dir = await freshDir("packed");
    const got = await get(dir, "--pack", format, "--jobs", "1");
    expect(got.code, got.stderr).toBe(0);
    return { dir, archive: join(dir, `packed.${format}`) };
  };
  /** Somewhere else, with its index. */
  const lone = async (archive: string): Promise<string> => {
    const file = join(await temporaryDir(), archive.slice(archive.lastIndexOf("/") + 1));
    for (const ending of ["", ".index.jsonl"]) await cp(archive + ending, file + ending);
    return file;
  };
  const looks = async (file: string): Promise<{ code: number | null; stderr: string }[]> => [
    await stage.run(["verify", file]),
    await stage.run(["ls", file]),
    await stage.run(["unpack", file, "-o", await freshDir("out")]),
  ];
  const expectClean = async (file: string): Promise<void> => {
    for (const { code, stderr } of await looks(file)) expect(code, stderr).toBe(0);
  };
  /** One sentence and one hint. */
  const expectRefused = async (file: string, said: RegExp): Promise<void> => {
    for (const { code, stderr } of await looks(file)) {
      expect([code, stderr]).toEqual([6, expect.stringMatching(said)]);
      expect(stderr.trim().split("\n").length, stderr).toBeLessThanOrEqual(2);
      expect(stderr).not.toMatch(/run the same command again/u);
    }
  };
  const writeIndex = (file: string, head: string, lines: readonly unknown[]): Promise<void> =>
    writeFile(
      `${file}.index.jsonl`,
      [head, ...lines.map((line) => JSON.stringify(line))].join("\n").concat("\n"),
    );

  it("what a failed item leaves is clean", async () => {
    const format = "tar.zst";
    const dir = await freshDir("packed");
    const route = "**/getImage*";
    // Its first piece is written before the last items come, and it fails after them.
    stage.control.setFaults([
      { kind: "stall", route, containing: LARGE, fraction: 0.9 },
      { kind: "slow-first-byte", route, containing: "1.2.840.7.4", ms: 5000 },
      { kind: "slow-first-byte", route, containing: "1.2.840.7.6", ms: 500 },
    ]);
    const got = await get(dir, "--pack", format, "--stall-timeout", "12", "--retries", "0");
    stage.control.setFaults([]);
    expect(got.code, got.stderr).toBe(3);
    const archive = join(dir, `packed.${format}`);
    expect((await readIndex(archive)).lines.length).toBeGreaterThan(5);
    expect(gapsOf(await readIndex(archive)).length).toBeGreaterThan(0);
    await expectClean(archive);
  });

  it.each(FORMATS)("%s: what a drop leaves is clean", async (format) => {
    const whole = await packed(format);
    for (const patient of ["P3", "P4", "P1"]) {
      const dropped = await stage.run(["drop", whole.dir, `tcia:LUNG CT/${patient}`, "--yes"]);
      expect(dropped.code, dropped.stderr).toBe(0);
      await expectClean(whole.archive);
    }
    const gaps = gapsOf(await readIndex(whole.archive));
    expect(gaps.map(({ offset }) => offset === 0)).toEqual([true, false]);
    // Longer than one blank.
    if (format === "tar") expect(gaps[1]?.length).toBeGreaterThan(4_800_000);
    // Not a byte of it is another one.
    const file = await lone(whole.archive);
    const bytes = await readFile(file);
    const { offset = 0, length = 0 } = gaps[1] ?? {};
    const harmed = offset + Math.floor(length / 2);
    bytes[harmed] = (bytes[harmed] ?? 0) ^ 0x01;
    await writeFile(file, bytes);
    const { code, stderr } = await stage.run(["verify", file]);
    expect([code, stderr]).toEqual([6, expect.stringContaining("its index does not name")]);
  });

  it.each(FORMATS)("%s: an index that lost pieces in its middle is not whole", async (format) => {
    const { archive } = await packed(format);
    const file = await lone(archive);
    const { head, lines } = await readIndex(file);
    const items = [...new Set(lines.map(({ item }) => item))];
    expect(items.length).toBe(6);
    const large = lines.filter(({ item }) => item.endsWith(LARGE));
    expect(new Set(large.map(({ offset }) => offset)).size).toBeGreaterThan(1);
    const [inMiddle, first] = [items[3], items[0]];
    for (const kept of [
      lines.filter(({ item }) => item !== inMiddle),
      lines.filter(({ item }) => item !== first),
      lines.filter(({ item }) => item !== first && item !== inMiddle),
      // A whole piece, but not a whole item.
      lines.filter(({ offset }) => offset !== large[0]?.offset),
    ]) {
      expect(kept.length).toBeLessThan(lines.length);
      await writeIndex(file, head, kept);
      await expectRefused(file, new RegExp(`${format} holds something before \\S.* that its index does not`));
    }
    await writeIndex(file, head, lines);
    await expectClean(file);
    // The end of a piece, which in plain tar is known without reading it.
    const within = lines.findIndex(({ item }, at) => item === inMiddle && lines[at + 1]?.item !== inMiddle);
    await writeIndex(
      file,
      head,
      lines.filter((_, at) => at !== within),
    );
    if (format === "tar") await expectRefused(file, /that its index does not name/u);
    else for (const at of [0, 2]) expect((await looks(file))[at]?.code).toBe(6);
  });

  it.each(FORMATS)("%s: an index whose lines overlap or are out of order is damaged", async (format) => {
    const { archive } = await packed(format);
    const file = await lone(archive);
    const { head, lines } = await readIndex(file);
    const [one, two, ...rest] = lines as [Line, Line, ...Line[]];
    expect(two.offset).toBe(one.offset);
    const last = lines.at(-1) as Line;
    for (const [wrong, number] of [
      [[two, one, ...rest], 2],
      [[one, ...rest], 3],
      [[one, one, two, ...rest], 3],
      [[...lines.slice(0, -1), { ...last, at: last.at + 512 }], lines.length + 1],
      [[...lines.slice(0, -1), { ...last, length: last.length + 4 }], lines.length + 1],
      [[...lines, { ...one, path: "again" }], lines.length + 2],
      [lines.map((each) => (each.offset === 0 ? { ...each, length: each.length + 512 } : each)), 5],
    ] as const) {
      await writeIndex(file, head, wrong);
      await expectRefused(
        file,
        new RegExp(`line ${number} does not follow the line before it[\\s\\S]*delete it`, "u"),
      );
    }
  });

  it("in a folder of gantry the hint mends it", async () => {
    const { dir, archive } = await packed("tar.zst");
    const { head, lines } = await readIndex(archive);
    const text = await readFile(`${archive}.index.jsonl`, "utf8");
    await writeIndex(
      archive,
      head,
      lines.filter(({ item }) => !item.endsWith(LARGE)),
    );
    await expectRefused(
      archive,
      new RegExp(`delete ${archive}.index.jsonl, then .gantry verify ${dir}`, "u"),
    );
    await rm(`${archive}.index.jsonl`);
    expect((await stage.run(["verify", dir])).code).toBe(0);
    expect((await stage.run(["get", "-o", dir, "--progress", "none"])).code).toBe(0);
    expect(await readFile(`${archive}.index.jsonl`, "utf8")).toBe(text);
    await expectClean(archive);
  });
});
