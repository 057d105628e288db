/** What an ascp is: its own words, its licence, its key. */
import { execFile } from "node:child_process";
import { RunError } from "../../errors.ts";
import { type Environment, findAscp, findLicence, findTokenKey, noAscp } from "./find-ascp.ts";

export interface AscpDescription {
  readonly path: string;
  /** Who named it, or which product it is of. */
  readonly from: string;
  /** First line that it says of itself. */
  readonly product: string;
  readonly version: string;
  /** A licence file beside it; null: none was found. */
  readonly licence: string | null;
  /** A key for transfers with a token; null: none was found. */
  readonly key: string | null;
}

/** The oldest whose management channel and options are those that are used here. */
export const OLDEST_VERSION = "3.9.6";
const RUN_MS = 30_000;

/** Throws `usage` when there is none, or it does not run here. */
export async function describeAscp(environment: Environment, named?: string): Promise<AscpDescription> {
  const found = await findAscp(environment, named);
  if (found === null) throw noAscp();
  return {
    ...found,
    ...(await askVersion(found.path)),
    licence: await findLicence(found.path),
    key: await findTokenKey(found.path, environment),
  };
}

/** What `ascp -A` says. Throws `usage` when it does not run, or says nothing of a version. */
export async function askVersion(path: string): Promise<{ product: string; version: string }> {
  const { output, error } = await new Promise<{ output: string; error: Error | null }>((resolve) => {
    const child = execFile(
      path,
      ["-A"],
      { timeout: RUN_MS, env: { PATH: process.env.PATH } },
      (failure, out, err) => resolve({ output: `${out}${err}`, error: failure }),
    );
    child.stdin?.end();
  });
  const version = / version (\d+(?:\.\d+)+)/u.exec(output)?.[1];
  const product = output.split("\n", 1)[0]?.trim() ?? "";
  if (version !== undefined && error === null) return { product, version };
  const why =
    output.trim().split("\n").at(-1)?.slice(0, 200) || error?.message.split("\n")[0] || "it says no version";
  throw new RunError("usage", `${path} does not run here: ${why}`, {
    hint: "it may be for another system, or lack a library (glibc 2.28 for the newer ones)",
  });
}

/** Whether a version is at least another: numbers between dots. */
export function isAtLeast(version: string, least: string): boolean {
  const [a, b] = [version, least].map((each) => each.split(".").map(Number));
  for (let at = 0; at < Math.max(a?.length ?? 0, b?.length ?? 0); at += 1) {
    const difference = (a?.[at] ?? 0) - (b?.[at] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return true;
}

export const isNewEnough = (version: string): boolean => isAtLeast(version, OLDEST_VERSION);
