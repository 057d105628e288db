import { describe, expect, it } from "vitest";
import { simulate } from "../../test/soak/lease-simulation.ts";
import { parseLeaseName, topGenerations } from "./leases.ts";

describe("names of leases", () => {
  it("tell slice, generation and end, and nothing else does", () => {
    expect(parseLeaseName("12.3")).toEqual({ slice: 12, generation: 3 });
    expect(parseLeaseName("12.done")).toEqual({ slice: 12, generation: Number.POSITIVE_INFINITY });
    for (const name of ["12", "12.", ".3", "a.1", "1.2.3", "12.done~", ".nfs0001"])
      expect(parseLeaseName(name)).toBeNull();
  });

  it("the highest generation of a slice counts", () => {
    expect([...topGenerations(["1.1", "1.10", "1.9", "2.1", "2.done", "x"])]).toEqual([
      [1, 10],
      [2, Number.POSITIVE_INFINITY],
    ]);
  });
});

describe("the protocol in virtual time", () => {
  const seed = Number(process.env.GANTRY_SEED ?? Math.floor(Math.random() * 2 ** 31));

  it(`loses nothing when tasks are stopped, killed and frozen (seed ${seed})`, async () => {
    const result = await simulate({ seed, items: 600, sliceItems: 8, tasks: 16, preempted: 0.5 });
    expect(result).toMatchObject({ missing: 0, disputed: 0 });
    expect(result.duplicates).toBeLessThanOrEqual(result.expired);
  });

  it("meets every way to end, and takes over", async () => {
    const result = await simulate({ seed: 1, items: 600, sliceItems: 8, tasks: 16, preempted: 0.9 });
    expect(result.expired).toBeGreaterThan(0);
    for (const count of Object.values(result.ended)) expect(count).toBeGreaterThan(0);
  });
});
