import { defineCommand, parseSize, shellWord, UsageError, WEBDATASET_DIGITS } from "../command.ts";
import { withGantry } from "../open-library.ts";
import { counted, shown, sized } from "../render/wording.ts";
import { say } from "../render/writer.ts";

interface Flags {
  readonly pack?: string;
  readonly shardSize?: number;
  readonly webdataset?: boolean;
  readonly join?: boolean;
}

export const command = defineCommand<Flags>({
  words: "<dir>",
  about:
    "Puts what a folder holds as loose files into archive files in it, as `get --pack` makes them. A loose file goes once its bytes are in one. Asks no archive.",
  flags: [
    {
      flags: "--pack <format>",
      help: "form of the archive files",
      choices: ["tar.zst", "tar.xz", "tar"],
    },
    {
      flags: "--shard-size <size>",
      help: "begin another archive file when one has grown so large, e.g. 2GB",
      parse: parseSize,
    },
    {
      flags: "--webdataset",
      help: "with --shard-size: number the archive files as WebDataset does, NAME-000000.tar",
    },
    { flags: "--join", help: "make one archive file, without blanks, of all that the folder holds packed" },
  ],
  examples: [
    ["gantry pack lctsc --pack tar.zst", "lctsc/lctsc.tar.zst in the place of all images"],
    [
      "gantry pack lctsc --join",
      "one archive file again, after later gets made further ones, or a drop left blanks",
    ],
  ],
  async run({ words: [dir = ""], flags }, running) {
    const { io } = running;
    const { pack: format, shardSize, webdataset, join } = flags;
    if (join && shardSize !== undefined)
      throw new UsageError("--join makes one archive file, and --shard-size several", "use one of them");
    if (webdataset && shardSize === undefined)
      throw new UsageError(
        "--webdataset numbers several archive files",
        "say how large with --shard-size 2GB",
      );
    return withGantry(running, async (gantry) => {
      const { packed, before, joined, deletedFiles, kept, bad } = await gantry.pack({
        dir,
        join: join === true,
        ...(format === undefined ? {} : { format }),
        warn: (sentence) => say(io, `warning: ${shown(sentence)}`),
        ...(shardSize === undefined ? {} : { shardBytes: shardSize }),
        ...(webdataset ? { shardDigits: WEBDATASET_DIGITS } : {}),
      });
      const tell = ({ items, files, bytes }: typeof packed): string =>
        `${counted(items, "item")}: ${counted(files, "file")} (${sized(bytes)})`;
      const parts: string[] = [];
      if (packed.items > 0) parts.push(`Packed ${tell(packed)}`);
      if (joined.items > 0) parts.push(`Joined ${tell(joined)}`);
      if (parts.length === 0) parts.push("Nothing was left to pack");
      if (before > 0 && joined.items === 0) parts.push(`${counted(before, "item")} packed before`);
      if (deletedFiles > 0) parts.push(`${counted(deletedFiles, "loose file")} deleted`);
      say(io, `${parts.join("; ")}.`);
      if (kept > 0)
        say(io, `${counted(kept, "item")} stay loose: what the folder shows of them is made from them.`);
      for (const { path, state } of bad) say(io, `${state}: ${shown(path)}`);
      if (bad.length === 0) return 0;
      say(io, `Their items stay as they are. To mend them: gantry get -o ${shellWord(dir)}`);
      return 6;
    });
  },
});
