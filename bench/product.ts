/** The built program: what is measured is what users run. */
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/** scripts/bench.mjs starts the bench at the root of the checkout. */
export const ROOT = process.cwd();
export const PROGRAM = join(ROOT, "bin/gantry.js");

/** A module of dist/ by its path there; name its type as `typeof import("../src/….ts")`. */
export async function productModule<T>(path: string): Promise<T> {
  return (await import(pathToFileURL(join(ROOT, "dist", path)).href)) as T;
}
