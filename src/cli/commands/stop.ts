import { defineCommand, shellWord } from "../command.ts";
import { counted, shown } from "../render/wording.ts";
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
    const { run, array, asked } = await stopRun(dir);
    if (run === null) say(io, `No run is at work in ${shown(dir)}.`);
    else if (array === null)
      say(io, `Asked the run to stop: process ${run.pid} on ${shown(run.host)}. It ends within seconds.`);
    else say(io, `Asked ${counted(asked, "task")} of array ${array} to stop. They end within seconds.`);
    if (array !== null)
      say(
        io,
        `Array ${array} is over: what waits of it in Slurm's queue ends as it begins, and scancel takes it out.`,
      );
    if (run !== null) say(io, `To see it end:  gantry status ${shellWord(dir)} --watch`);
    if (run !== null || array !== null) {
      const again =
        array === null ? `gantry get -o ${shellWord(dir)}` : `gantry slurm resume ${shellWord(dir)}`;
      say(io, `To go on later: ${again}`);
    }
    return 0;
  },
});
