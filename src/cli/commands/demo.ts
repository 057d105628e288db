import { defineCommand } from "../command.ts";

export const command = defineCommand<object>({
  words: "[dir]",
  about:
    "The guided first run: lists, fetches, proves, breaks and mends data of the sandbox, without the internet.",
  flags: [],
  examples: [],
  run: async () => 0,
});
