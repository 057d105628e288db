/**
 * The credential file: `credentials.toml` beside the configuration, readable by its owner alone. Each entry belongs to
 * one origin, so that a changed configuration sends no password elsewhere.
 */
import { type Stats, statSync } from "node:fs";
import { realpath } from "node:fs/promises";
import { dirname, join } from "node:path";
import { parse, stringify } from "smol-toml";
import * as v from "valibot";
import { configPath, type Environment, readText } from "../config.ts";
import { RunError } from "../errors.ts";
import { ensureFolder, writeFileDurably } from "../lib/durable-file.ts";

/** What is kept for one archive: user and password, or a token, or an API key. */
export interface Credentials {
  /** Scheme, host and port that they were given for. */
  readonly origin: string;
  readonly user?: string;
  /** May be empty, as a guest's is. */
  readonly password?: string;
  readonly token?: string;
  readonly apiKey?: string;
}

const VERSION = 1;
const HEAD = "# Written by `gantry login`: keep it to yourself (mode 0600).\n";

const CredentialFile = v.object({
  version: v.number(),
  archives: v.optional(
    v.record(
      v.string(),
      v.object({
        origin: v.string(),
        user: v.optional(v.string()),
        password: v.optional(v.string()),
        token: v.optional(v.string()),
        api_key: v.optional(v.string()),
      }),
    ),
  ),
});

export function credentialsPath(environment: Environment): string {
  return join(dirname(configPath(environment)), "credentials.toml");
}

/**
 * All entries by archive; none when there is no file. Throws `usage` for a file that others may read, that can't be
 * read, or that a newer version wrote. No message holds anything of the content.
 */
export function readCredentials(path: string): ReadonlyMap<string, Credentials> {
  const text = readText(path);
  if (text === null) return new Map();
  refuseShared(path);
  const fail = (what: string): RunError =>
    new RunError("usage", `${path} ${what}`, {
      hint: "mend it, or remove it and use `gantry login` again",
    });
  let parsed: unknown;
  try {
    parsed = parse(text);
  } catch {
    // The parser's message shows the line, which may be the one with the password.
    throw fail("is no TOML");
  }
  const result = v.safeParse(CredentialFile, parsed);
  if (!result.success) throw fail(`holds an unusable ${v.getDotPath(result.issues[0]) ?? "entry"}`);
  if (result.output.version > VERSION) {
    throw new RunError("usage", `${path} was written by a newer gantry`, { hint: "use that one" });
  }
  const found = new Map<string, Credentials>();
  for (const [name, entry] of Object.entries(result.output.archives ?? {})) {
    const { origin, user, password, token, api_key: apiKey } = entry;
    found.set(name, {
      origin,
      ...(user === undefined ? {} : { user }),
      ...(password === undefined ? {} : { password }),
      ...(token === undefined ? {} : { token }),
      ...(apiKey === undefined ? {} : { apiKey }),
    });
  }
  return found;
}

/** Windows keeps a user's own folder from others by other means than modes. */
function refuseShared(path: string): void {
  if (process.platform === "win32") return;
  const facts: Stats = statSync(path);
  if ((facts.mode & 0o077) === 0) return;
  const mode = (facts.mode & 0o777).toString(8).padStart(4, "0");
  throw new RunError("usage", `${path} can be read by others on this machine (mode ${mode})`, {
    hint: `chmod 600 '${path.replaceAll("'", "'\\''")}'`,
  });
}

/** Stores an archive's entry in place of an earlier one; null removes it. True: something changed. Throws `disk-…` too. */
export async function writeCredentials(
  path: string,
  name: string,
  credentials: Credentials | null,
): Promise<boolean> {
  const entries = new Map(readCredentials(path));
  if (credentials === null && !entries.has(name)) return false;
  entries.delete(name);
  if (credentials !== null) entries.set(name, credentials);
  const archives: Record<string, Record<string, string>> = {};
  for (const [key, { apiKey, ...rest }] of [...entries].sort(([a], [b]) => (a < b ? -1 : 1))) {
    archives[key] = { ...rest, ...(apiKey === undefined ? {} : { api_key: apiKey }) };
  }
  await ensureFolder(dirname(path), { mode: 0o700 });
  // A link is followed: people keep such files in another folder.
  const target = await realpath(path).catch(() => path);
  await writeFileDurably(target, HEAD + stringify({ version: VERSION, archives }), { mode: 0o600 });
  return true;
}
