/** SIGKILL of gantry or of ascp at seeded moments; the long form is a soak. */
import { expect, it } from "vitest";
import { killAscpOnce, openAscpGround, VICTIMS, WAYS } from "../soak/ascp-kills.ts";
import { ensureBuilt } from "../support/gantry.ts";

await ensureBuilt();

it.each(WAYS.flatMap((way, index) => VICTIMS.map((victim) => [victim, way, index + 1] as const)))(
  "a killed %s amid a %s leaves no process and, after a rerun, the same tree (seed %i)",
  async (victim, way, seed) => {
    expect(await killAscpOnce(await openAscpGround(), way, victim, seed)).toBe("amid");
  },
  120_000,
);
