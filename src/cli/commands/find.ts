import { type AscpFlags, ascpChoices, KEY_FLAG } from "../ascp-flags.ts";
import { CACHE_FLAGS, type CacheFlags, cacheOptions } from "../cache.ts";
import { defineCommand, UsageError } from "../command.ts";
import { FILTER_FLAGS, readFilters } from "../filters.ts";
import { exitOf, logWarnings, withGantry } from "../open-library.ts";
import { TABLE_FLAGS, type TableFlags, writeTable } from "../render/table.ts";
import { counted, shown } from "../render/wording.ts";
import { say } from "../render/writer.ts";

interface Flags extends TableFlags, CacheFlags, Pick<AscpFlags, "key"> {
  readonly level?: string;
  readonly count?: boolean;
  readonly downloads?: boolean;
  readonly save?: string;
  readonly skipBad?: boolean;
}

export const command = defineCommand<Flags>({
  words: "<address> [path...]",
  about: "Shows the items that match, with bytes, files and licence.",
  flags: [
    {
      flags: "--level <level>",
      help: "rows of another level: the patients, studies, images … of what matches",
    },
    { flags: "--count", help: "one row: how many there are of each level, images and bytes" },
    {
      flags: "--downloads",
      help: "instead of items, what the pages of collections offer: packages, manifests, tables, with sizes and licences",
    },
    {
      flags: "--save <file>",
      help: "write the selection to a file that `get` takes (.jsonl, .csv, .tsv, .tcia)",
    },
    { flags: "--skip-bad", help: "go on when a line of a selection can't be read" },
    ...TABLE_FLAGS,
    ...FILTER_FLAGS,
    ...CACHE_FLAGS,
    KEY_FLAG,
  ],
  examples: [
    ["gantry find tcia:LCTSC --modality CT", "the CT series of a collection"],
    ["gantry find tcia: --body-part CHEST --since 2024-01-01 --save new.jsonl", "save a selection for `get`"],
    ["gantry find tcia:LCTSC --level patient --modality RTSTRUCT", "the patients who have contours"],
    ["gantry find tcia:LCTSC --count", "how much it is"],
    [
      "gantry find tcia:LCTSC --downloads",
      "what the collection's page offers, each with an address for `get`",
    ],
    ["gantry find cart.tcia --format json", "what a manifest from the website holds"],
  ],
  run: ({ words, flags }, running) =>
    withGantry(
      running,
      async (gantry) => {
        if (flags.downloads) {
          checkAlone(flags);
          await writeTable(running.io, await gantry.downloads(words, { filters: readFilters(flags) }), flags);
          return 0;
        }
        const found = await gantry.find(words, {
          filters: readFilters(flags),
          warn: (sentence) => say(running.io, `warning: ${shown(sentence)}`),
          ...(flags.level === undefined ? {} : { level: flags.level }),
          ...(flags.count ? { count: true } : {}),
          ...(flags.skipBad ? { skipBad: true } : {}),
          ...(flags.save === undefined ? {} : { save: flags.save }),
        });
        const count = await writeTable(running.io, found, flags);
        if (flags.save !== undefined) {
          const file = shown(found.savedTo ?? flags.save);
          say(
            running.io,
            `${counted(count, "item")} saved in ${file}. To download: gantry get ${file} -o DIR`,
          );
        }
        return exitOf(found, count);
      },
      { ...cacheOptions(flags, running), ...ascpChoices(flags), log: logWarnings(running) },
    ),
});

/** Downloads are no items: what concerns items does not go with them. */
function checkAlone(flags: Flags): void {
  for (const name of ["level", "count", "save", "skipBad"] as const) {
    if (flags[name] === undefined) continue;
    const flag = name === "skipBad" ? "skip-bad" : name;
    throw new UsageError(`--downloads and --${flag} can't be given together`, `leave --${flag} out`);
  }
}
