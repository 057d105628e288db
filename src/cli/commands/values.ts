import { CACHE_FLAGS, type CacheFlags, cacheOptions } from "../cache.ts";
import { defineCommand } from "../command.ts";
import { FILTER_FLAGS, readFilters } from "../filters.ts";
import { logWarnings, withGantry } from "../open-library.ts";
import { TABLE_FLAGS, type TableFlags, writeTable } from "../render/table.ts";

export const command = defineCommand<TableFlags & CacheFlags>({
  words: "<address> <field>",
  about:
    "Shows the values of a field with counts: collection, modality, body-part, manufacturer, model, visit … Every filter works for every field.",
  flags: [...TABLE_FLAGS, ...FILTER_FLAGS, ...CACHE_FLAGS],
  examples: [
    ["gantry values tcia: modality", "what kinds of images there are"],
    ["gantry values tcia:LCTSC manufacturer", "whose scanners made a collection"],
    ["gantry values tcia: collection --body-part BRAIN", "which collections show brains"],
  ],
  run: ({ words, flags }, running) =>
    withGantry(
      running,
      async (gantry) => {
        const field = words.at(-1)!;
        const values = await gantry.values(words.slice(0, -1), field, { filters: readFilters(flags) });
        await writeTable(running.io, values, flags);
        return 0;
      },
      { ...cacheOptions(flags, running), log: logWarnings(running) },
    ),
});
