/** Receipts that were torn or altered: told, never fatal, healed by the next get. */
import { cpSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { buildScaleDataset } from "../../src/sandbox/data/scale.ts";
import { eventsOf, freshDir, runVerify, type Stage, startStage } from "../support/gantry.ts";
import { readTree, type Tree } from "./tree.ts";

const STEP = Number(process.env.GANTRY_SOAK_STEP ?? 1);

describe("receipts", () => {
  let stage: Stage;
  let pristine: string;
  let clean: Tree;
  beforeAll(async () => {
    stage = await startStage({
      data: buildScaleDataset({ series: 5, imagesPerSeries: 2, imageBytes: 4_000, seed: 9 }),
    });
    pristine = await freshDir();
    const { summary } = await stage.get(["tcia:"], { dir: pristine });
    expect(summary.exit).toBe(0);
    clean = readTree(pristine);
  });

  const receiptsOf = (dir: string): string => {
    const folder = join(dir, ".gantry", "receipts");
    const [name] = readdirSync(folder);
    return join(folder, String(name));
  };

  /** Copies with times, damages the receipts, gets and verifies. */
  async function healed(damage: (path: string) => void, lost: number): Promise<string[]> {
    const dir = await freshDir();
    cpSync(pristine, dir, { recursive: true, preserveTimestamps: true });
    damage(receiptsOf(dir));
    const { summary, events } = await stage.get([], { dir });
    expect(summary, JSON.stringify(summary.error)).toMatchObject({
      exit: 0,
      failed: 0,
      stored: { items: lost },
      here: { items: 5 - lost },
    });
    expect([...readTree(dir)]).toEqual([...clean]);
    expect(readdirSync(join(dir, ".gantry", "quarantine"))).toEqual([]);
    expect((await runVerify(dir)).summary.exit).toBe(0);
    const second = await stage.get([], { dir });
    expect(second.summary).toMatchObject({ exit: 0, stored: { items: 0 }, here: { items: 5 } });
    rmSync(dir, { recursive: true });
    return eventsOf(events, "warning").map((event) => event.message);
  }

  it("cut at every byte of the last two lines", async () => {
    const bytes = readFileSync(receiptsOf(pristine));
    const last = bytes.lastIndexOf(10, bytes.length - 2) + 1;
    const before = bytes.lastIndexOf(10, last - 2) + 1;
    let cuts = 0;
    for (let at = before; at < bytes.length; at += STEP) {
      const whole = at === before || at === last;
      const warnings = await healed((path) => truncateSync(path, at), at < last ? 2 : 1);
      if (!whole) expect(warnings.join("\n"), `cut at ${at}`).toMatch(/torn|altered/);
      cuts += 1;
    }
    process.stdout.write(`  ${cuts} cuts of ${bytes.length - before} bytes\n`);
  });

  it("altered in the middle", async () => {
    const bytes = readFileSync(receiptsOf(pristine));
    const first = bytes.indexOf(10) + 1;
    const end = bytes.indexOf(10, first);
    for (let at = first; at < end; at += STEP * 7) {
      const warnings = await healed((path) => {
        const altered = Buffer.from(bytes);
        altered[at] = (altered[at] as number) ^ 1;
        writeFileSync(path, altered);
      }, 1);
      expect(warnings.join("\n"), `altered at ${at}`).toMatch(/altered|not a receipt/);
    }
  });

  it("a line that is gone, a line twice, a foreign line, zeros", async () => {
    const lines = readFileSync(receiptsOf(pristine), "utf8").split("\n");
    const write = (changed: string[]) => (path: string) => writeFileSync(path, changed.join("\n"));
    await healed(write(lines.filter((_, index) => index !== 2)), 1);
    await healed(write([...lines.slice(0, 3), lines[2] as string, ...lines.slice(3)]), 0);
    expect(await healed(write([...lines.slice(0, 3), "hello", ...lines.slice(3)]), 0)).not.toEqual([]);
    // What some file systems leave of a file that grew when the power went.
    expect(await healed((path) => writeFileSync(path, Buffer.alloc(4096), { flag: "a" }), 0)).not.toEqual([]);
  });
});
