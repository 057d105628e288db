/** The real binary killed at random moments while it packs: nothing is lost, nothing is there twice. */
import { describe, expect, it } from "vitest";
import { seeded } from "./kill-runs.ts";
import { type Format, killPacked, type Moment, openPackGround, type PackGround } from "./pack-kills.ts";

const KILLS = Number(process.env.GANTRY_SOAK_KILLS ?? 100);
const SEED = Number(process.env.GANTRY_SOAK_SEED ?? 1);

const SERIES = 60;

/** Mostly amid the items, else while the archive is asked, or at the end. */
function momentOf(random: () => number, { cleanMs }: PackGround): Moment {
  if (random() < 0.15) return { stored: 0, thenMs: random() * cleanMs };
  return { stored: 1 + Math.floor(random() * SERIES), thenMs: random() * 40 };
}

describe("SIGKILL of a run that packs", () => {
  it.each<Format>(["tar.zst", "tar.xz", "tar"])(`%s: at ${KILLS} moments, seed ${SEED}`, async (format) => {
    const ground = await openPackGround(format, SERIES);
    const random = seeded(SEED);
    const tally = { listing: 0, partly: 0, over: 0 };
    for (let n = 1; n <= KILLS; n += 1) {
      const moments = [momentOf(random, ground)];
      if (random() < 0.3) moments.push(momentOf(random, ground));
      const { stored, finished } = await killPacked(ground, format, moments);
      tally[finished ? "over" : stored === 0 ? "listing" : "partly"] += 1;
    }
    process.stdout.write(
      `  ${format}: ${KILLS} kills, seed ${SEED}: ${tally.listing} before anything was stored, ${tally.partly} amid, ${tally.over} too late\n`,
    );
    expect(tally.partly).toBeGreaterThan(KILLS / 5);
  });
});
