/** Every fault of the sandbox, alone and mixed: whatever a run met, the next one leaves a clean run's tree. */
import { beforeAll, describe, expect, it } from "vitest";
import { ALL_KINDS, faultOf, type Ground, openGround, runUnderFaults } from "./fault-runs.ts";

const FIRST_SEED = Number(process.env.GANTRY_SOAK_SEED ?? 1);
const SEEDS = Array.from({ length: 20 }, (_, index) => FIRST_SEED + index);

/** Kinds that delay, or strike nothing that a get asks for. */
const HARMLESS = new Set<string>(["slow", "slow-first-byte", "truncated-json"]);

describe("faults of the archive", () => {
  let ground: Ground;
  beforeAll(async () => {
    ground = await openGround();
  });

  describe.each(ALL_KINDS)("%s", (kind) => {
    it("a quarter of the requests, ten times", async () => {
      const fault = faultOf(kind, { probability: 0.25, count: 10 });
      const { faulty } = await runUnderFaults(ground, [fault]);
      tell(kind, "25 %", faulty.exit);
    });

    it("six of ten image requests", async () => {
      const fault = faultOf(kind, { probability: 0.6, route: "**/getImage" });
      const { faulty } = await runUnderFaults(ground, [fault], { watch: true });
      tell(kind, "60 % of images", faulty.exit);
    });

    it("every image request", async () => {
      const fault = faultOf(kind, { route: "**/getImage" });
      const { faulty } = await runUnderFaults(ground, [fault]);
      tell(kind, "every image", faulty.exit);
      if (!HARMLESS.has(kind)) expect(faulty.exit).not.toBe(0);
    });

    it("every list request but the first three", async () => {
      const fault = { ...faultOf(kind, { route: "/get(Series|SeriesMetadata)$/" }), skip: 3 };
      const { faulty } = await runUnderFaults(ground, [fault], { typedAgain: true });
      tell(kind, "lists", faulty.exit);
    });
  });

  // An empty reply is a true one elsewhere, and a proxy may cut a list at a place where it still parses.
  it.each([
    "getSeries",
    "getSeriesMetadata",
    "getCollectionValues",
    "getMD5HashForImage",
    "getSOPInstanceUIDs",
  ])("%s answers with nothing", async (endpoint) => {
    for (const part of [{}, { count: 1 }, { skip: 1 }, { containing: "SCALE-02" }]) {
      const fault = { ...faultOf("empty-body", { route: `**/${endpoint}` }), ...part };
      const { faulty } = await runUnderFaults(ground, [fault], { typedAgain: true });
      tell(`empty ${endpoint} ${JSON.stringify(part)}`, "lists", faulty.exit);
    }
  });

  it.each(SEEDS)("all kinds mixed at a tenth of the requests, seed %i", async (seed) => {
    const faults = ALL_KINDS.map((kind) => faultOf(kind, { probability: 0.1 / ALL_KINDS.length }));
    const { faulty } = await runUnderFaults(ground, faults, { seed, watch: seed % 4 === 0 });
    tell(`mixed, seed ${seed}`, "10 %", faulty.exit);
  });
});

function tell(what: string, how: string, exit: number): void {
  process.stdout.write(`  ${what} (${how}): exit ${exit}\n`);
}
