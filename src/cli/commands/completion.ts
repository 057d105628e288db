import { defineCommand, UsageError } from "../command.ts";
import { buildCompletion, SHELLS } from "../completion.ts";
import { withGantry } from "../open-library.ts";
import { createWriter } from "../render/writer.ts";

export const command = defineCommand<object>({
  words: "<bash|zsh|fish>",
  about: "Prints what a shell needs to complete commands, flags and the names of archives.",
  flags: [],
  examples: [
    ["source <(gantry completion bash)", "in this bash; put it in ~/.bashrc for all"],
    ["gantry completion zsh > _gantry", "for zsh: a file in a folder of $fpath"],
    ["gantry completion fish > gantry.fish", "for fish: in ~/.config/fish/completions"],
  ],
  async run({ words }, running) {
    const shell = SHELLS.find((each) => each === words[0]);
    if (shell === undefined)
      throw new UsageError(
        `there is no completion for ${JSON.stringify(words[0])}`,
        `shells are ${SHELLS.join(", ")}`,
      );
    // Not at the top: the table of commands names this module.
    const { COMMANDS } = await import("../program.ts");
    const commands = await Promise.all(
      COMMANDS.map(async ({ name, summary, load }) => ({ name, summary, command: (await load()).command })),
    );
    const addresses = await withGantry(running, async (gantry) =>
      gantry.archives().map(({ name }) => `${name}:`),
    );
    const writer = createWriter(running.io.stdout);
    await writer.write(buildCompletion(shell, commands, addresses));
    await writer.flush();
    return 0;
  },
});
