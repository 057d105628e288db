import { ASCP_FLAGS, type AscpFlags, ascpChoices } from "../ascp-flags.ts";
import { defineCommand } from "../command.ts";
import { writeFindings } from "../findings.ts";
import { asking } from "../open-library.ts";
import { TABLE_FLAGS, type TableFlags } from "../render/table.ts";

export const command = defineCommand<TableFlags & Pick<AscpFlags, "ascp" | "key">>({
  words: "[archive|link|site|dir]",
  about:
    "Looks step by step for what is in the way of an archive (proxy, name, port, certificate, server, login), of a package's link or an ascp site (also ascp, login or key, TCP and UDP ports), or of a folder (disk, space, inodes, permission), and names the first thing that is.",
  flags: [...TABLE_FLAGS, ...ASCP_FLAGS.filter(({ flags }) => /^--(?:ascp|key) /u.test(flags))],
  examples: [
    ["gantry doctor", "this machine, this folder, every archive"],
    ["gantry doctor tcia", "the road to one archive, and its account"],
    ["gantry doctor 'https://HOST/…?context=…'", "a package's link, and the ports that its data need"],
    ["gantry doctor aspera://USER@HOST", "a site: its ports, the login, and whether it can be listed"],
    ["gantry doctor ./lctsc", "a folder to download to"],
  ],
  async run({ words, flags }, running) {
    const { io, signal } = running;
    const { diagnose } = await io.library();
    const options = { environment: io.env, signal, ...ascpChoices(flags), ...asking(io) };
    return writeFindings(diagnose(words[0] ?? null, options), flags, running);
  },
});
