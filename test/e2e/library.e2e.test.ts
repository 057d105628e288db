/** The four words of the library: open, plan, transfer, verify. */
import { expect, it } from "vitest";
import { NO_FILTERS, plan, transfer, verify } from "../../src/index.ts";
import { eventsOf, listAll, startStage, temporaryDir } from "../support/gantry.ts";

it("plans without a trace, transfers what was planned, and verifies it", async () => {
  const stage = await startStage();
  const gantry = await stage.openGantry();
  const dir = await temporaryDir();
  const options = { dir, filters: NO_FILTERS };
  const planned = [];
  const planning = plan(gantry, ["tcia:"], options);
  for await (const event of planning) planned.push(event);
  expect((await planning.result).exit).toBe(0);
  expect(await listAll(dir)).toEqual([]);

  const summary = await transfer(gantry, ["tcia:"], options).result;
  expect(summary.exit).toBe(0);
  expect(eventsOf(planned, "planned")[0]?.fetch.items).toBe(summary.stored.items);
  expect(summary.stored.items).toBeGreaterThan(0);
  expect((await verify(dir).result).exit).toBe(0);
  await gantry.close();
});
