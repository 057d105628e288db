import { CACHE_FLAGS, type CacheFlags, cacheOptions } from "../cache.ts";
import { defineCommand } from "../command.ts";
import { logWarnings, withGantry } from "../open-library.ts";
import { TABLE_FLAGS, type TableFlags, writeTable } from "../render/table.ts";
import { shown } from "../render/wording.ts";
import { say } from "../render/writer.ts";

export const command = defineCommand<TableFlags & CacheFlags>({
  words: "<address> [path...]",
  about: "Shows the DICOM tags of one image, or of the first image of a series, without fetching its pixels.",
  flags: [...TABLE_FLAGS, ...CACHE_FLAGS],
  examples: [
    ["gantry tags tcia:1.3.6.1.4.1.14519.5.2.1.7014.4598.106943890850011666503487579262", "of a series"],
    [
      "gantry tags tcia:1.3.6.1.4.1.14519.5.2.1.7014.4598.106943890850011666503487579262 --format json",
      "for a program",
    ],
  ],
  run: ({ words, flags }, running) =>
    withGantry(
      running,
      async (gantry) => {
        const warn = (sentence: string): void => say(running.io, `warning: ${shown(sentence)}`);
        await writeTable(running.io, await gantry.tags(words, { warn }), flags);
        return 0;
      },
      { ...cacheOptions(flags, running), log: logWarnings(running) },
    ),
});
