import { defineCommand } from "../command.ts";
import { createWriter } from "../render/writer.ts";

export const command = defineCommand<Record<string, never>>({
  words: "<archive> <path...>",
  about:
    "Prints members of an archive file (.tar, .tar.zst, .tar.xz, .tar.gz). With an index beside it only what is asked for is read, and proved.",
  flags: [],
  examples: [
    [
      "gantry cat packed/LCTSC.tar.zst LCTSC/LCTSC-Test-S1-101 | md5sum",
      "all of a patient, one after the other",
    ],
  ],
  async run({ words }, { io, signal }) {
    const { MemberPaths, openArchiveFile } = await io.library();
    const [archive = "", ...paths] = words;
    const wanted = new MemberPaths(paths);
    const writer = createWriter(io.stdout);
    for await (const { body } of (await openArchiveFile(archive)).read((path) => wanted.has(path))) {
      for await (const chunk of body) {
        signal.throwIfAborted();
        await writer.writeBytes(chunk);
      }
    }
    await writer.flush();
    wanted.complain(archive);
    return 0;
  },
});
