/** A few of the kills of test/soak/pack-kills.soak.ts, seeded. */
import { describe, expect, it } from "vitest";
import { seeded } from "../soak/kill-runs.ts";
import { type Format, killPacked, type Moment, openPackGround } from "../soak/pack-kills.ts";
import { has } from "../support/gantry.ts";

const SEED = Number(process.env.GANTRY_SOAK_SEED ?? 3);

describe.skipIf(!has("zstd") || !has("xz"))("SIGKILL of a run that packs (needs zstd, xz)", () => {
  it.each<Format>(["tar.zst", "tar.xz", "tar"])(`%s, seed ${SEED}`, { timeout: 120_000 }, async (format) => {
    const ground = await openPackGround(format, 24);
    const random = seeded(SEED);
    for (let n = 0; n < 2; n += 1) {
      const moment = (): Moment => ({ stored: 1 + Math.floor(random() * 20), thenMs: random() * 20 });
      const { stored } = await killPacked(ground, format, [moment(), moment()]);
      expect(stored).toBeLessThanOrEqual(24);
    }
  });
});
