import { defineCommand, UsageError } from "../command.ts";
import { TABLE_FLAGS, type TableFlags, writeTable } from "../render/table.ts";
import { shown } from "../render/wording.ts";
import { say } from "../render/writer.ts";

interface Flags extends TableFlags {
  readonly sdkUrl?: string;
  readonly ascp?: string;
}

export const command = defineCommand<Flags>({
  words: "[info|install]",
  about:
    "Tells which ascp, IBM's program for Aspera transfers, is used: path, version, licence and key; or installs it from IBM's Transfer SDK. A failed install leaves an earlier one as it was. Gantry brings neither the program nor a key.",
  flags: [
    {
      flags: "--sdk-url <url>",
      help: "install: this archive; file:///x is relative, file:////x absolute, a path works, too (default: the newest in IBM's index)",
    },
    { flags: "--ascp <path>", help: "info: this program" },
    ...TABLE_FLAGS,
  ],
  examples: [
    ["gantry ascp info", "which ascp is used, and what it lacks"],
    ["gantry ascp install", "from IBM, for this system"],
    ["gantry ascp install --sdk-url file:///sdk.tar.gz", "from a file in this folder"],
  ],
  async run({ words, flags }, { io, signal }) {
    const [action = "info", ...more] = words;
    if (more.length > 0 || !["info", "install"].includes(action)) {
      throw new UsageError(
        `gantry ascp knows info and install, not ${JSON.stringify([action, ...more].join(" "))}`,
      );
    }
    const library = await io.library();
    if (action === "install") {
      const sdk = flags.sdkUrl === undefined ? {} : { sdk: flags.sdkUrl };
      const { path, product, version, from, sha256, instead } = await library.installAscp({
        environment: io.env,
        signal,
        ...sdk,
      });
      say(
        io,
        `Installed ${shown(product)}, version ${shown(version)}${instead === null ? "" : ` in the place of ${shown(instead)}`}.`,
        `  program  ${shown(path)}`,
        `  from     ${shown(from)}`,
        `  sha256   ${sha256}`,
      );
      return 0;
    }
    const found = await library.describeAscp({
      environment: io.env,
      ...(flags.ascp ? { program: flags.ascp } : {}),
    });
    const rows = Object.entries(found).map(([fact, value]) => ({ fact, value }));
    async function* all() {
      yield* rows;
    }
    await writeTable(io, { columns: ["fact", "value"], rows: all() }, flags);
    if (!library.isAscpNewEnough(found.version))
      say(io, `warning: this ascp is older than ${library.OLDEST_ASCP}, the oldest that is known to work`);
    if (found.key === null)
      say(io, "No key for packages is here: IBM Aspera Connect brings one, or name a file with --key.");
    if (found.licence === null) say(io, "No licence file (aspera-license) is beside it, and ascp wants one.");
    return 0;
  },
});
