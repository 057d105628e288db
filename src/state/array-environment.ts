/**
 * `.gantry/private/ARRAY.json`: what the tasks of an array need of the environment that they were submitted from and
 * that must not be in a script, in an argument or in Slurm's own files. Readable by its owner alone; gone with the array.
 */
import { chmod, readFile, stat } from "node:fs/promises";
import { RunError } from "../errors.ts";
import { ensureFolder, onDisk, writeFileDurably } from "../lib/durable-file.ts";
import { checkHeader } from "../model/receipt.ts";
import type { StateFolder } from "./state-folder.ts";

const KIND = "gantry-environment";
const VERSION = 1;

type Environment = Readonly<Record<string, string | undefined>>;

export const environmentPath = (state: StateFolder, array: string): string =>
  state.path("private", `${array}.json`);

/** Accounts of archives, keys and passphrases of ascp, and proxies whose address holds a login. */
const isSecret = (name: string, value: string): boolean =>
  /^(GANTRY_.+_(USER|PASSWORD|TOKEN|API_KEY)|ASPERA_(SCP|PROXY)_\w+)$/u.test(name) ||
  (/_PROXY$/iu.test(name) && value.includes("@"));

/** Writes nothing when there is nothing secret. Throws `disk-…`. */
export async function writeEnvironment(
  state: StateFolder,
  array: string,
  environment: Environment,
): Promise<void> {
  const variables = Object.fromEntries(
    Object.entries(environment).filter(([name, value]) => value !== undefined && isSecret(name, value)),
  );
  if (Object.keys(variables).length === 0) return;
  await ensureFolder(state.path("private"), { mode: 0o700 });
  // A folder of before may be open to others.
  await onDisk({ operation: "protect", path: state.path("private") }, () =>
    chmod(state.path("private"), 0o700),
  );
  const text = JSON.stringify({ kind: KIND, version: VERSION, variables });
  await writeFileDurably(environmentPath(state, array), `${text}\n`, { mode: 0o600 });
}

/** Empty when there is none. Throws `usage` for a file that others may read. */
export async function readEnvironment(
  state: StateFolder,
  array: string,
): Promise<Readonly<Record<string, string>>> {
  const path = environmentPath(state, array);
  const facts = await stat(path).catch(() => null);
  if (!facts) return {};
  if ((facts.mode & 0o077) !== 0) {
    throw new RunError("usage", `others may read ${path}, which holds secrets`, {
      hint: `chmod 600 ${path}`,
    });
  }
  const text = await onDisk({ operation: "read", path }, () => readFile(path, "utf8"));
  const { variables } = checkHeader(text, KIND, VERSION, path);
  return variables as Readonly<Record<string, string>>;
}
