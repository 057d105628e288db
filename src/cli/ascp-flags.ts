/** Flags of every command that may transfer by ascp. */
import { type Flag, UsageError } from "./command.ts";
import type { AscpChoices } from "./library.ts";

export interface AscpFlags {
  readonly ascp?: string;
  readonly key?: string;
  readonly resumeLevel?: string;
  readonly policy?: NonNullable<AscpChoices["policy"]>;
  readonly decrypt?: boolean;
  readonly transport?: NonNullable<AscpChoices["transport"]>;
  readonly ascpOpt?: readonly string[];
}

const GROUP = "Transfers by ascp:";

/** For what only asks a site. */
export const KEY_FLAG: Flag = {
  flags: "--key <file>",
  help: "private key file for an ascp site",
  group: GROUP,
};

export const ASCP_FLAGS: readonly Flag[] = [
  {
    flags: "--ascp <path>",
    help: "the program ascp (default: the one that `gantry ascp info` tells)",
    group: GROUP,
  },
  { ...KEY_FLAG, help: "private key file for the server" },
  {
    flags: "--resume-level <level>",
    help: "what is compared before a file is gone on with: 0 nothing, 1 size and time (default), 2 a sparse, 3 a full checksum",
    choices: ["0", "1", "2", "3"],
    group: GROUP,
  },
  {
    flags: "--policy <policy>",
    help: "how ascp shares the line",
    choices: ["fixed", "high", "fair", "low"],
    group: GROUP,
  },
  {
    flags: "--decrypt",
    help: "decrypt what is encrypted at rest, with the passphrase in ASPERA_SCP_FILEPASS",
    group: GROUP,
  },
  {
    flags: "--transport <way>",
    help: "the only way that files of an ascp site may come (default: by ascp, else by SFTP)",
    choices: ["ascp", "sftp"],
    group: GROUP,
  },
  {
    flags: "--ascp-opt <option>",
    help: "any other option of ascp, as in --ascp-opt=-Z1400; may be repeated",
    parse: (text, before) => [...((before as string[] | undefined) ?? []), readOption(text)],
    group: GROUP,
  },
];

/** Those that would undo what the transfer is driven by, or hold a secret. */
const OURS = /^(?:-M|-W|-f|--dest64|--mode|--host|--user|--file-(?:pair-)?list|-q$|--keepalive)/u;

function readOption(text: string): string {
  if (!text.startsWith("-")) {
    throw new UsageError(
      `--ascp-opt takes an option with its value glued to it, not ${JSON.stringify(text)}`,
      "for example: --ascp-opt=-Z1400 or --ascp-opt=--symbolic-links=skip",
    );
  }
  if (OURS.test(text)) {
    throw new UsageError(
      `--ascp-opt can't set ${/^-+[a-zA-Z0-9-]*/u.exec(text)?.[0]}, which gantry itself needs`,
      "a token goes into the variable ASPERA_SCP_TOKEN",
    );
  }
  return text;
}

/** For `open`. */
export function ascpChoices(flags: AscpFlags): { readonly ascp: AscpChoices } {
  const { ascp, key, resumeLevel, policy, decrypt, transport, ascpOpt } = flags;
  return {
    ascp: {
      ...(ascp === undefined ? {} : { program: ascp }),
      ...(key === undefined ? {} : { key }),
      ...(resumeLevel === undefined ? {} : { resumeLevel: Number(resumeLevel) as 0 | 1 | 2 | 3 }),
      ...(policy === undefined ? {} : { policy }),
      ...(decrypt ? { decrypt } : {}),
      ...(transport === undefined ? {} : { transport }),
      ...(ascpOpt === undefined ? {} : { options: ascpOpt }),
    },
  };
}
