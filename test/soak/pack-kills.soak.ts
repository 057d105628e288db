/** The real binary killed at random moments while it packs: nothing is lost, nothing is there twice. */
import { describe, expect, it } from "vitest";
import { seeded } from "./kill-runs.ts";
import {
  type Format,
  type JoinMoment,
  killJoined,
  killPacked,
  type Moment,
  openJoinGround,
  openPackGround,
  type PackGround,
} from "./pack-kills.ts";

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

describe("SIGKILL of a join", () => {
  it.each<[Format, 1 | 2]>([
    ["tar.zst", 1],
    ["tar.zst", 2],
    ["tar.xz", 1],
    ["tar.xz", 2],
    ["tar", 1],
    ["tar", 2],
  ])(`%s, archive files with blanks: %i; at ${KILLS / 2} moments, seed ${SEED}`, async (format, files) => {
    const ground = await openJoinGround(await openPackGround(format, SERIES), format, files);
    const random = seeded(SEED);
    const momentOfJoin = (): JoinMoment => {
      const writing = random() < 0.8;
      const thenMs = random() * (writing ? ground.writingMs : ground.cleanMs);
      return { writing, thenMs, thenGet: random() < 0.3 };
    };
    const tally = { begun: 0, over: 0 };
    for (let n = 1; n <= KILLS / 2; n += 1) {
      const moments = [momentOfJoin()];
      if (random() < 0.3) moments.push(momentOfJoin());
      const { finished, begun } = await killJoined(ground, format, moments);
      if (begun) tally.begun += 1;
      if (finished) tally.over += 1;
    }
    process.stdout.write(
      `  ${format}, ${files}: ${KILLS / 2} kills, seed ${SEED}: ${tally.begun} amid, ${tally.over} too late\n`,
    );
    expect(tally.begun).toBeGreaterThan(KILLS / 20);
  });
});
