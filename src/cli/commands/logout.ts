import { defineCommand } from "../command.ts";
import { shown } from "../render/wording.ts";
import { say } from "../render/writer.ts";

export const command = defineCommand<Record<string, never>>({
  words: "<archive>",
  about:
    "Forgets the stored account of an archive. The session of a stored token is ended at the archive, too.",
  flags: [],
  examples: [["gantry logout tcia", "forget what `gantry login tcia` stored"]],
  async run({ words }, { io, signal }) {
    const { logOut } = await io.library();
    const name = words[0]!.replace(/:$/u, "");
    const { path, removed, ended } = await logOut(name, { environment: io.env, signal });
    if (!removed) say(io, `No account of ${shown(name)} is stored.`);
    else {
      const session = ended ? "; its session is ended" : "";
      say(io, `The account of ${shown(name)} is gone from ${shown(path)}${session}.`);
    }
    return 0;
  },
});
