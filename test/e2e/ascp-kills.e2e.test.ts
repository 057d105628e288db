/** SIGKILL of gantry or of ascp at seeded moments; the long form is a soak. */
import { expect, it } from "vitest";
import { killAscpOnce, openAscpGround, VICTIMS, WAYS } from "../soak/ascp-kills.ts";
import { ensureBuilt } from "../support/gantry.ts";

await ensureBuilt();

it.each(WAYS.flatMap((way, index) => VICTIMS.map((victim) => [victim, way, index + 1] as const)))(
  "a killed %s amid a %s leaves no process and, after a rerun, the same tree (seed %i)",
  async (victim, way, seed) => {
    const ground = await openAscpGround();
    const tried: string[] = [];
    // A moment can come too late where a machine is slow to be at it.
    while (tried.at(-1) !== "amid" && tried.length < 4)
      tried.push(await killAscpOnce(ground, way, victim, seed + 10 * tried.length));
    expect(tried).toContain("amid");
  },
  120_000,
);
