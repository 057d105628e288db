import { defineCommand } from "../command.ts";
import { warner } from "../open-library.ts";
import { tellLeft } from "../render/left-members.ts";
import { createWriter } from "../render/writer.ts";

export const command = defineCommand<Record<string, never>>({
  words: "<archive-or-dir> <path...>",
  about:
    "Prints members of an archive file (.tar, .tar.zst, .tar.xz, .tar.gz), or of all that a folder holds. With an index, or in a folder that `get` has filled, only what is asked for is read, and proved.",
  flags: [],
  examples: [
    [
      "gantry cat packed/LCTSC.tar.zst LCTSC/LCTSC-Test-S1-101 | md5sum",
      "all of a patient, one after the other",
    ],
    ["gantry cat packed LCTSC/LCTSC-Test-S1-101 | md5sum", "the same, whichever archive file it is in"],
  ],
  async run({ words }, { io, signal }) {
    const { LeftMembers, MemberPaths, openMembers } = await io.library();
    const [archive = "", ...paths] = words;
    const wanted = new MemberPaths(paths);
    const writer = createWriter(io.stdout);
    const members = await openMembers(archive, {
      warn: warner(io),
    });
    const left = new LeftMembers();
    for await (const { body } of members.read((path) => wanted.has(path), left.add)) {
      for await (const chunk of body) {
        signal.throwIfAborted();
        await writer.writeBytes(chunk);
      }
    }
    await writer.flush();
    wanted.complain(archive);
    return tellLeft(io, left);
  },
});
