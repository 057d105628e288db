import { defineCommand } from "../command.ts";
import { writeFindings } from "../findings.ts";
import { TABLE_FLAGS, type TableFlags } from "../render/table.ts";

export const command = defineCommand<TableFlags>({
  words: "[archive|link|dir]",
  about:
    "Looks step by step for what is in the way of an archive (proxy, name, port, certificate, server, login), of a package's link (also ascp, its key, TCP and UDP ports), or of a folder (disk, space, inodes, permission), and names the first thing that is.",
  flags: TABLE_FLAGS,
  examples: [
    ["gantry doctor", "this machine, this folder, every archive"],
    ["gantry doctor tcia", "the road to one archive, and its account"],
    ["gantry doctor 'https://HOST/…?context=…'", "a package's link, and the ports that its data need"],
    ["gantry doctor ./lctsc", "a folder to download to"],
  ],
  async run({ words, flags }, running) {
    const { io, signal } = running;
    const { diagnose } = await io.library();
    return writeFindings(diagnose(words[0] ?? null, { environment: io.env, signal }), flags, running);
  },
});
