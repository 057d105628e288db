import { defineCommand, shellWord } from "../command.ts";
import { shown } from "../render/wording.ts";
import { say } from "../render/writer.ts";

export const command = defineCommand<object>({
  words: "<dir>",
  about:
    "Asks the run that is at work in a folder to end cleanly: what is finished stays, the rest can be resumed.",
  flags: [],
  examples: [["gantry stop lctsc", "end a detached download"]],
  async run({ words }, { io }) {
    const { stopRun } = await io.library();
    const dir = words[0]!;
    const stopped = await stopRun(dir);
    if (stopped === null) {
      say(io, `No run is at work in ${shown(dir)}.`);
      return 0;
    }
    say(
      io,
      `Asked the run to stop: process ${stopped.pid} on ${shown(stopped.host)}. It ends within seconds.`,
      `To see it end:  gantry status ${shellWord(dir)} --watch`,
      `To go on later: gantry get -o ${shellWord(dir)}`,
    );
    return 0;
  },
});
