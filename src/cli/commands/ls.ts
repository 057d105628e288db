import { CACHE_FLAGS, type CacheFlags, cacheOptions } from "../cache.ts";
import { defineCommand } from "../command.ts";
import { FILTER_FLAGS, readFilters } from "../filters.ts";
import { exitOf, logWarnings, withGantry } from "../open-library.ts";
import { TABLE_FLAGS, type TableFlags, writeTable } from "../render/table.ts";

interface Flags extends TableFlags, CacheFlags {
  readonly recursive?: boolean;
  readonly long?: boolean;
}

export const command = defineCommand<Flags>({
  words: "<address> [path...]",
  about: "Shows one level of an archive's tree. Every row's address can be pasted back into a command.",
  flags: [
    { flags: "-R, --recursive", help: "all levels down to the items" },
    { flags: "-l, --long", help: "with sizes and counts" },
    ...TABLE_FLAGS,
    ...FILTER_FLAGS,
    ...CACHE_FLAGS,
  ],
  examples: [
    ["gantry ls tcia:", "the collections"],
    ["gantry ls -l tcia:LCTSC", "the patients of one, with sizes"],
    ["gantry ls -R tcia:LCTSC --modality RTSTRUCT", "every series of a kind"],
  ],
  run: ({ words, flags }, running) =>
    withGantry(
      running,
      async (gantry) => {
        const { recursive = false, long = false } = flags;
        const listing = await gantry.list(words, { recursive, long, filters: readFilters(flags) });
        return exitOf(listing, await writeTable(running.io, listing, flags));
      },
      { ...cacheOptions(flags, running), log: logWarnings(running) },
    ),
});
