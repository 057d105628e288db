import { defineCommand, UsageError } from "../command.ts";
import { counted, shown, sized } from "../render/wording.ts";
import { say } from "../render/writer.ts";

interface Flags {
  readonly output?: string;
}

export const command = defineCommand<Flags>({
  words: "<archive> [path...]",
  about:
    "Writes members of an archive file into a folder: all of them, or those at and below the paths. With an index beside it only these are read, and proved.",
  flags: [{ flags: "-o, --output <dir>", help: "the folder to fill" }],
  examples: [
    ["gantry unpack packed/LCTSC.tar.zst -o loose", "everything"],
    ["gantry unpack packed/LCTSC.tar.zst LCTSC/LCTSC-Test-S1-101 -o one", "one patient"],
  ],
  async run({ words, flags }, { io, signal }) {
    const { unpackArchive } = await io.library();
    const [archive = "", ...paths] = words;
    if (!flags.output) throw new UsageError("there is no folder to unpack to", "say where with -o DIR");
    const { files, bytes, here, proved } = await unpackArchive(archive, { to: flags.output, paths, signal });
    const parts = [`${counted(files, "file")} (${sized(bytes)}) in ${shown(flags.output)}`];
    if (here > 0) parts.push(`${counted(here, "file")} there already`);
    parts.push(proved === files ? "each proved by the index" : "not proved: the archive has no index");
    say(io, `${parts.join("; ")}.`);
    return 0;
  },
});
