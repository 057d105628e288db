/** What submitting an array needs of a folder beside the runs themselves. */
import { RunError } from "../errors.ts";
import { readEnvironment, writeEnvironment } from "../state/array-environment.ts";
import { readArrays } from "../state/arrays.ts";
import { openStateFolder, type StateFolder } from "../state/state-folder.ts";

/** How the newest array of a folder was submitted; null when there never was one. Throws `folder-unknown`. */
export async function readArrayJob(dir: string): Promise<readonly string[] | null> {
  const arrays = await readArrays(await known(dir));
  return arrays.at(-1)?.job ?? null;
}

/** Keeps the secret part of an environment for the tasks of an array, and nothing else of it. */
export async function writeArrayEnvironment(
  dir: string,
  array: string,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<void> {
  await writeEnvironment(await known(dir), array, environment);
}

export async function readArrayEnvironment(
  dir: string,
  array: string,
): Promise<Readonly<Record<string, string>>> {
  return readEnvironment(await known(dir), array);
}

async function known(dir: string): Promise<StateFolder> {
  const state = await openStateFolder(dir);
  if (!state) throw new RunError("folder-unknown", `${dir} holds no state of gantry`);
  return state;
}
