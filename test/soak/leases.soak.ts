/** The lease protocol at the size of a real job, in virtual time. */
import { expect, it } from "vitest";
import { simulate } from "./lease-simulation.ts";

const first = Number(process.env.GANTRY_SEED ?? Math.floor(Math.random() * 2 ** 31));

it.each([first, first + 1, first + 2].map((seed) => ({ seed })))(
  "10,000 items, 64 tasks, a third pre-empted: seed $seed",
  async ({ seed }) => {
    const result = await simulate({ seed, items: 10_000, sliceItems: 16, tasks: 64, preempted: 0.3 });
    console.log(`seed ${seed}: ${JSON.stringify(result)}`);
    expect(result).toMatchObject({ missing: 0, disputed: 0 });
    expect(result.duplicates).toBeLessThanOrEqual(result.expired);
  },
);
