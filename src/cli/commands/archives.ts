import { defineCommand } from "../command.ts";
import { withGantry } from "../open-library.ts";
import { TABLE_FLAGS, type TableFlags, writeTable } from "../render/table.ts";

export const command = defineCommand<TableFlags>({
  words: "",
  about: "Lists the archives that addresses can name: the built-in ones and those of the configuration.",
  flags: TABLE_FLAGS,
  examples: [["gantry archives", "name, kind and URL of each"]],
  run: ({ flags }, running) =>
    withGantry(running, async (gantry) => {
      async function* rows() {
        yield* gantry.archives().map(({ name, kind, url }) => ({ name, kind, url, address: `${name}:` }));
      }
      await writeTable(running.io, { columns: ["name", "kind", "url", "address"], rows: rows() }, flags);
      return 0;
    }),
});
