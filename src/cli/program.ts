/** The commands and how a command line is read. A command's module is loaded only when it is the one asked for. */
import { Command as Commander, CommanderError, Option } from "commander";
import { type Call, type Command, type Flag, UsageError } from "./command.ts";

interface Entry {
  readonly name: string;
  readonly summary: string;
  readonly group: string;
  readonly load: () => Promise<{ readonly command: Command }>;
}

const FIND = "Find:";
const FETCH = "Fetch and prove:";
const CLUSTER = "On a cluster:";
const MORE = "Set up and try:";

/** In the order of help. */
export const COMMANDS: readonly Entry[] = [
  {
    name: "ls",
    summary: "show one level of an archive's tree",
    group: FIND,
    load: () => import("./commands/ls.ts"),
  },
  {
    name: "find",
    summary: "show the items that match",
    group: FIND,
    load: () => import("./commands/find.ts"),
  },
  {
    name: "values",
    summary: "show the values of a field, with counts",
    group: FIND,
    load: () => import("./commands/values.ts"),
  },
  {
    name: "tags",
    summary: "show the DICOM tags of an image",
    group: FIND,
    load: () => import("./commands/tags.ts"),
  },
  {
    name: "get",
    summary: "download, prove every file, resume after anything",
    group: FETCH,
    load: () => import("./commands/get.ts"),
  },
  {
    name: "put",
    summary: "send files to an ascp site",
    group: FETCH,
    load: () => import("./commands/put.ts"),
  },
  {
    name: "verify",
    summary: "prove again what is on disk",
    group: FETCH,
    load: () => import("./commands/verify.ts"),
  },
  {
    name: "pack",
    summary: "put a folder's loose files into archive files",
    group: FETCH,
    load: () => import("./commands/pack.ts"),
  },
  {
    name: "cat",
    summary: "print members of an archive file",
    group: FETCH,
    load: () => import("./commands/cat.ts"),
  },
  {
    name: "unpack",
    summary: "write members of an archive file into a folder",
    group: FETCH,
    load: () => import("./commands/unpack.ts"),
  },
  {
    name: "status",
    summary: "show how far a folder's download is",
    group: FETCH,
    load: () => import("./commands/status.ts"),
  },
  {
    name: "stop",
    summary: "end a running download cleanly",
    group: FETCH,
    load: () => import("./commands/stop.ts"),
  },
  {
    name: "drop",
    summary: "delete data, and never fetch them again",
    group: FETCH,
    load: () => import("./commands/drop.ts"),
  },
  {
    name: "slurm",
    summary: "run a get as a Slurm job array",
    group: CLUSTER,
    load: () => import("./commands/slurm.ts"),
  },
  {
    name: "archives",
    summary: "list, add, remove and test the archives that addresses can name",
    group: MORE,
    load: () => import("./commands/archives.ts"),
  },
  {
    name: "login",
    summary: "store an account of an archive",
    group: MORE,
    load: () => import("./commands/login.ts"),
  },
  {
    name: "logout",
    summary: "forget an account of an archive",
    group: MORE,
    load: () => import("./commands/logout.ts"),
  },
  {
    name: "ascp",
    summary: "tell which ascp is used, or install it",
    group: MORE,
    load: () => import("./commands/ascp.ts"),
  },
  {
    name: "doctor",
    summary: "find out what is in the way of an archive or a folder",
    group: MORE,
    load: () => import("./commands/doctor.ts"),
  },
  {
    name: "sandbox",
    summary: "serve stand-in archives on this machine",
    group: MORE,
    load: () => import("./commands/sandbox.ts"),
  },
  {
    name: "demo",
    summary: "take the guided first run, without the internet",
    group: MORE,
    load: () => import("./commands/demo.ts"),
  },
  {
    name: "completion",
    summary: "print the completion script of a shell",
    group: MORE,
    load: () => import("./commands/completion.ts"),
  },
];

const ABOUT = `Gets research imaging data from the archives that hold it, and proves every file.

Start here:
  gantry demo                        a guided first run, without the internet
  gantry ls tcia:                    the collections of TCIA
  gantry get tcia:LCTSC -o lctsc     download one, prove it, resume it`;

/** What to do, or text to show with its exit status. */
export type Reading =
  | { readonly kind: "run"; readonly command: Command; readonly call: Call<Record<string, unknown>> }
  | { readonly kind: "show"; readonly text: string };

/** Reads a command line. Throws `UsageError`. */
export async function readCommandLine(
  argv: readonly string[],
  options: { readonly columns: number; readonly version: () => Promise<string> },
): Promise<Reading> {
  if (argv.length === 0) return readCommandLine(["--help"], options);
  const first = argv.find((word) => !word.startsWith("-")) ?? "";
  if (argv[0] === "--version" || argv[0] === "-V")
    return { kind: "show", text: `${await options.version()}\n` };
  const wanted = first === "help" ? (argv[argv.indexOf(first) + 1] ?? "") : first;
  if (first === "help" && wanted !== "" && !COMMANDS.some(({ name }) => name === wanted))
    unknownCommand(wanted);

  let text = "";
  let reading: Reading | undefined;
  const settle = (command: Commander): Commander =>
    command
      .exitOverride()
      .configureOutput({
        writeOut: (part) => {
          text += part;
        },
        writeErr: () => undefined,
        getOutHelpWidth: () => Math.min(options.columns, 100),
        getErrHelpWidth: () => Math.min(options.columns, 100),
      })
      .configureHelp({ subcommandTerm: (sub) => sub.name() })
      .helpOption("-h, --help", "show this help");

  const program = settle(new Commander("gantry"))
    .description(ABOUT)
    .option("-V, --version", "show the version")
    .usage("<command> [options]")
    .commandsGroup(MORE)
    .helpCommand("help [command]", "show help for a command")
    .addHelpText("after", "\n`gantry help COMMAND` shows a command's flags and examples.");
  for (const entry of COMMANDS) {
    const sub = settle(program.command(entry.name).summary(entry.summary).helpGroup(entry.group));
    if (entry.name !== wanted) continue;
    const { command } = await entry.load();
    sub.description(command.about);
    if (command.words !== "") sub.arguments(command.words);
    sub.allowExcessArguments(false);
    for (const flag of command.flags) sub.addOption(toOption(flag));
    if (command.examples.length > 0) sub.addHelpText("after", examplesText(command));
    sub.action(() => {
      reading = { kind: "run", command, call: { words: sub.args, flags: sub.opts(), argv } };
    });
  }
  try {
    await program.parseAsync([...argv], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode !== 0 && error.code !== "commander.help") throw toUsageError(error, wanted);
  }
  return reading ?? { kind: "show", text };
}

function toOption(flag: Flag): Option {
  const option = new Option(flag.flags, flag.help);
  if (flag.choices !== undefined) option.choices(flag.choices);
  if (flag.parse !== undefined) option.argParser(flag.parse);
  if (flag.hidden) option.hideHelp();
  if (flag.group !== undefined) option.helpGroup(flag.group);
  return option;
}

function examplesText(command: Command): string {
  const width = Math.max(...command.examples.map(([line]) => line.length));
  const lines = command.examples.map(([line, what]) =>
    width > 56 ? `  ${line}\n      ${what}` : `  ${line.padEnd(width)}  ${what}`,
  );
  return `\nExamples:\n${lines.join("\n")}`;
}

/** Commander's message is `error: …`, with `(Did you mean …?)` on a line of its own. */
function toUsageError(error: CommanderError, command: string): UsageError {
  const [message = "", ...more] = error.message.replace(/^error: /, "").split("\n");
  if (error.code === "commander.unknownCommand") unknownCommand(/'(.*)'/.exec(message)?.[1] ?? "");
  const near = more
    .join(" ")
    .trim()
    .replace(/^\(Did you mean (.*)\?\)$/, "did you mean $1?");
  const known = COMMANDS.some(({ name }) => name === command);
  const help = known
    ? `\`gantry ${command} --help\` shows what it takes`
    : "`gantry --help` shows the commands";
  const sentence = message.replace(/\.$/, "").replace(" Allowed choices are ", " it takes ");
  return new UsageError(sentence, near === "" ? help : near);
}

function unknownCommand(word: string): never {
  const near = COMMANDS.map(({ name }) => ({ name, distance: editDistance(word.toLowerCase(), name) }))
    .filter(
      ({ name, distance }) =>
        distance <= Math.max(1, Math.floor(name.length / 3)) || (word.length > 1 && name.startsWith(word)),
    )
    .sort((a, b) => a.distance - b.distance)
    .map(({ name }) => `\`gantry ${name}\``);
  throw new UsageError(
    `there is no command ${JSON.stringify(word)}`,
    near.length > 0 ? `did you mean ${near.join(" or ")}?` : "`gantry --help` shows the commands",
  );
}

/** Letters to add, drop, change or swap with their neighbour (Damerau, restricted). */
function editDistance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min(rows[i - 1]![j]! + 1, row[j - 1]! + 1, rows[i - 1]![j - 1]! + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, rows[i - 2]![j - 2]! + 1);
      }
      row.push(best);
    }
    rows.push(row);
  }
  return rows[a.length]![b.length]!;
}
