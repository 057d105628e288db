import { defineCommand, UsageError } from "../command.ts";
import { warner } from "../open-library.ts";
import { tellLeft } from "../render/left-members.ts";
import { counted, shown, sized } from "../render/wording.ts";
import { say } from "../render/writer.ts";

interface Flags {
  readonly output?: string;
}

export const command = defineCommand<Flags>({
  words: "<archive-or-dir> [path...]",
  about:
    "Writes members of an archive file, or of all that a packed folder holds, into a folder: all of them, or those at and below the paths. With an index only these are read, and proved.",
  flags: [{ flags: "-o, --output <dir>", help: "the folder to fill" }],
  examples: [
    ["gantry unpack packed/LCTSC.tar.zst -o loose", "everything"],
    ["gantry unpack packed/LCTSC.tar.zst LCTSC/LCTSC-Test-S1-101 -o one", "one patient"],
    ["gantry unpack packed LCTSC/LCTSC-Test-S1-101 -o one", "the same, whichever archive file it is in"],
  ],
  async run({ words, flags }, { io, signal }) {
    const { unpackArchive } = await io.library();
    const [archive = "", ...paths] = words;
    if (!flags.output) throw new UsageError("there is no folder to unpack to", "say where with -o DIR");
    const { files, bytes, here, proved, left, firstLeft } = await unpackArchive(archive, {
      to: flags.output,
      paths,
      signal,
      warn: warner(io),
    });
    const parts = [`${counted(files, "file")} (${sized(bytes)}) in ${shown(flags.output)}`];
    if (here > 0) parts.push(`${counted(here, "file")} there already`);
    if (files > 0)
      parts.push(proved === files ? "each proved by its digest" : "not proved: the archive has no index");
    say(io, `${parts.join("; ")}.`);
    return tellLeft(io, { count: left, first: firstLeft });
  },
});
