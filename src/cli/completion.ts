/** Completion scripts for shells, written from the table of commands. Pure. */
import { Option } from "commander";
import { type Command, shellWord } from "./command.ts";

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

export interface CompletedCommand {
  readonly name: string;
  readonly summary: string;
  readonly command: Pick<Command, "words" | "flags">;
}

/** What is offered where a value or a word stands. */
type Offer = readonly string[] | "files" | "folders" | "nothing";

interface CompletedFlag {
  readonly short: string | undefined;
  readonly long: string | undefined;
  readonly help: string;
  /** Undefined: a switch. */
  readonly value: Offer | undefined;
}

interface Completed {
  readonly name: string;
  readonly summary: string;
  readonly flags: readonly CompletedFlag[];
  readonly first: Offer;
  readonly others: Offer;
}

/** The script that a shell reads once. `addresses`: beginnings of addresses, e.g. `tcia:`. */
export function buildCompletion(
  shell: Shell,
  commands: readonly CompletedCommand[],
  addresses: readonly string[],
): string {
  const completed = commands.map((each) => describe(each, addresses));
  return { bash: bashScript, zsh: zshScript, fish: fishScript }[shell](completed);
}

function describe({ name, summary, command }: CompletedCommand, addresses: readonly string[]): Completed {
  const flags = command.flags
    .filter((flag) => flag.hidden !== true)
    .map((flag): CompletedFlag => {
      const option = new Option(flag.flags);
      const takesValue = option.required || option.optional;
      return {
        short: option.short,
        long: option.long,
        help: flag.help,
        value: takesValue ? (flag.choices ?? offerFor(option.flags, addresses)) : undefined,
      };
    });
  flags.push({ short: "-h", long: "--help", help: "show this help", value: undefined });
  const words = command.words.split(" ").filter((word) => word !== "");
  return {
    name,
    summary,
    flags,
    first: words[0] === undefined ? "nothing" : offerFor(words[0], addresses),
    others: words.at(-1)?.includes("...") || words.length > 1 ? "files" : "nothing",
  };
}

/** By the name between the brackets: `<dir>`, `[file...]`, `<address>`, `<bash|zsh|fish>`. */
function offerFor(text: string, addresses: readonly string[]): Offer {
  const name = /[<[]([^>\]]*?)(\.\.\.)?[>\]]/u.exec(text)?.[1] ?? "";
  if (name.includes("|")) return name.split("|");
  if (/^(dir|folder)$/u.test(name)) return "folders";
  if (/file|command/u.test(name)) return "files";
  return name === "address" ? addresses : "nothing";
}

const names = (flag: CompletedFlag): string[] => [flag.short, flag.long].filter((name) => name !== undefined);

function bashScript(commands: readonly Completed[]): string {
  const offer = (value: Offer): string => {
    if (value === "files") return "_gantry_files -f";
    if (value === "folders") return "_gantry_files -d";
    if (value === "nothing") return ":";
    const list = shellWord(value.join(" "));
    // Without the blank after it, so that the rest of an address can be typed; a selection file fits as well.
    return value.some((word) => word.endsWith(":")) ? `_gantry_address ${list}` : `_gantry_words ${list}`;
  };
  const cases = commands.map(({ name, flags, first, others }) => {
    const valued = flags.filter((flag) => flag.value !== undefined);
    const values = valued.map(
      (flag) => `        ${names(flag).join("|")}) ${offer(flag.value as Offer)}; return ;;`,
    );
    return [
      `    ${name})`,
      '      case "$previous" in',
      ...values,
      "      esac",
      `      if [[ $current == -* ]]; then _gantry_words ${shellWord(flags.flatMap(names).join(" "))}; return; fi`,
      `      if (( position == 2 )); then ${offer(first)}; else ${offer(others)}; fi ;;`,
    ].join("\n");
  });
  return `# gantry: completion for bash. Load it with: source <(gantry completion bash)
_gantry_words() { mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current"); }
_gantry_files() {
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen "$1" -- "$current")
}
_gantry_address() {
  local before=""
  # A colon divides words for bash: only what follows it is replaced.
  if [[ $COMP_WORDBREAKS == *:* && $current == *:* ]]; then before=\${current%"\${current##*:}"}; fi
  compopt -o nospace -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current"; compgen -f -- "$current")
  COMPREPLY=("\${COMPREPLY[@]#"$before"}")
}
_gantry() {
  local line=\${COMP_LINE:0:COMP_POINT} current previous position
  local -a words
  # The line again, divided at blanks only.
  read -r -a words <<< "$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  position=$(( \${#words[@]} - 1 ))
  current=\${words[position]}
  previous=\${words[position > 0 ? position - 1 : 0]}
  COMPREPLY=()
  if (( position <= 1 )); then
    _gantry_words ${shellWord([...commands.map(({ name }) => name), "help", "--help", "--version"].join(" "))}
    return
  fi
  case "\${words[1]}" in
${cases.join("\n")}
    help) _gantry_words ${shellWord(commands.map(({ name }) => name).join(" "))} ;;
  esac
}
complete -F _gantry gantry
`;
}

const zshText = (text: string): string =>
  text.replace(/['[\]:\\]/gu, (sign) => (sign === "'" ? "'\\''" : `\\${sign}`));

function zshScript(commands: readonly Completed[]): string {
  const action = (offer: Offer, what: string): string => {
    if (offer === "files") return `:${what}:_files`;
    if (offer === "folders") return `:${what}:_files -/`;
    if (offer === "nothing") return `:${what}: `;
    const list = offer.map(zshText).join(" ");
    return offer.some((word) => word.endsWith(":"))
      ? `:${what}:{compadd -S "" -- ${list}; _files}`
      : `:${what}:(${list})`;
  };
  const cases = commands.map(({ name, flags, first, others }) => {
    const specs = flags.map((flag) => {
      const rest = `'[${zshText(flag.help)}]${flag.value === undefined ? "" : action(flag.value, "value")}'`;
      const [one, two] = names(flag);
      return two === undefined ? `'*'${one}${rest}` : `'*'{${one},${two}}${rest}`;
    });
    if (first !== "nothing") specs.push(`'1${action(first, "word")}'`);
    if (others !== "nothing") specs.push(`'*${action(others, "word")}'`);
    return `        ${name})\n          _arguments -s \\\n            ${specs.join(" \\\n            ")} ;;`;
  });
  const list = commands.map(({ name, summary }) => `    '${name}:${zshText(summary)}'`).join("\n");
  return `#compdef gantry
# gantry: completion for zsh. Save it as _gantry in a folder of $fpath, or: source <(gantry completion zsh)
_gantry() {
  local curcontext="$curcontext" state line
  local -a commands
  commands=(
${list}
    'help:show help for a command'
  )
  _arguments -C '--help[show this help]' '--version[show the version]' '1: :->command' '*:: :->words'
  case $state in
    command) _describe -t commands command commands ;;
    words)
      case $line[1] in
${cases.join("\n")}
        help) _describe -t commands command commands ;;
      esac ;;
  esac
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _gantry "$@"; else compdef _gantry gantry; fi
`;
}

const fishText = (text: string): string => `'${text.replace(/['\\]/gu, "\\$&")}'`;

function fishScript(commands: readonly Completed[]): string {
  const lines = [
    "# gantry: completion for fish. Save it as ~/.config/fish/completions/gantry.fish",
    "complete -c gantry -f",
    "complete -c gantry -n __fish_use_subcommand -l help -s h -d 'show this help'",
    "complete -c gantry -n __fish_use_subcommand -l version -s V -d 'show the version'",
    "complete -c gantry -n __fish_use_subcommand -a help -d 'show help for a command'",
  ];
  for (const { name, summary } of commands) {
    lines.push(
      `complete -c gantry -n __fish_use_subcommand -a ${name} -d ${fishText(summary)}`,
      `complete -c gantry -n '__fish_seen_subcommand_from help' -a ${name} -d ${fishText(summary)}`,
    );
  }
  for (const { name, flags, first, others } of commands) {
    const within = `complete -c gantry -n '__fish_seen_subcommand_from ${name}; and not __fish_seen_subcommand_from help'`;
    const offer = (value: Offer): string => {
      if (value === "files") return " -F";
      if (value === "folders") return " -a '(__fish_complete_directories)'";
      return value === "nothing" ? "" : ` -a ${fishText(value.join(" "))}`;
    };
    if (first !== "nothing") lines.push(`${within}${offer(first)}`);
    if (others === "files" || (Array.isArray(first) && first.some((word) => word.endsWith(":"))))
      lines.push(`${within} -F`);
    for (const { short, long, help, value } of flags) {
      const switches = `${short === undefined ? "" : ` -s ${short.slice(1)}`}${long === undefined ? "" : ` -l ${long.slice(2)}`}`;
      lines.push(
        `${within}${switches}${value === undefined ? "" : ` -x${offer(value)}`} -d ${fishText(help)}`,
      );
    }
  }
  return `${lines.join("\n")}\n`;
}
