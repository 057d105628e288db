/** Many kills of gantry and of ascp amid transfers. */
import { expect, it } from "vitest";
import { killAscpOnce, openAscpGround, VICTIMS, WAYS } from "./ascp-kills.ts";

const KILLS = Number(process.env.GANTRY_SOAK_KILLS ?? 100);
const SEED = Number(process.env.GANTRY_SOAK_SEED ?? 1);

it(`${KILLS} kills of gantry and of ascp, seed ${SEED}`, async () => {
  const ground = await openAscpGround();
  let amid = 0;
  for (let n = 0; n < KILLS; n += 1) {
    const way = WAYS[n % WAYS.length] as (typeof WAYS)[number];
    const victim = VICTIMS[Math.floor(n / WAYS.length) % VICTIMS.length] as (typeof VICTIMS)[number];
    if ((await killAscpOnce(ground, way, victim, SEED * 1_000 + n)) === "amid") amid += 1;
  }
  process.stdout.write(`  ${KILLS} kills, seed ${SEED}: ${amid} amid a transfer\n`);
  expect(amid).toBeGreaterThan(KILLS / 2);
});
