/** What an archive is given to know its user by: from the environment, else from the credential file. */
import type { ArchiveConfig, Environment } from "../config.ts";
import { RunError } from "../errors.ts";
import { type Credentials, credentialsPath, readCredentials } from "./credentials.ts";

/** Which of several is used when more are given: the source decides; absent ones were not given. */
export interface Secrets {
  readonly user?: string;
  readonly password?: string;
  readonly token?: string;
  readonly apiKey?: string;
}

/** Where an archive's secrets come from, without them. */
export interface Account {
  /** For people: `user demo`, `token`, `API key`. */
  readonly what: string;
  readonly from: "environment" | "credentials";
}

/**
 * The environment's, else those of the credential file, else none. Throws `access-login` for half an account and for
 * credentials that were stored for another server than the archive has now, `usage` for a credential file that
 * can't be used.
 */
export function readSecrets(archive: ArchiveConfig, environment: Environment): Secrets {
  const given = readEnvironment(archive.name, environment);
  if (Object.keys(given).length > 0) return given;
  const path = credentialsPath(environment);
  const stored = readCredentials(path).get(archive.name);
  if (stored === undefined) return {};
  const { origin } = new URL(archive.url);
  if (stored.origin !== origin) {
    throw new RunError(
      "access-login",
      `the credentials of ${archive.name} were stored for ${stored.origin}, and the configuration now names ${origin}: they are not sent there`,
      {
        hint: `log in there with \`gantry login ${archive.name}\`, or remove them with \`gantry logout ${archive.name}\``,
        at: { archive: archive.name },
      },
    );
  }
  return secretsOf(stored);
}

/** What `gantry archives` tells of an archive's account; null: none. Throws like `readCredentials`. */
export function readAccount(archive: ArchiveConfig, environment: Environment): Account | null {
  const given = readEnvironment(archive.name, environment);
  if (Object.keys(given).length > 0) return { what: accountWords(given), from: "environment" };
  const stored = readCredentials(credentialsPath(environment)).get(archive.name);
  return stored === undefined ? null : { what: accountWords(secretsOf(stored)), from: "credentials" };
}

export function accountWords(secrets: Secrets): string {
  if (secrets.token !== undefined) return "token";
  if (secrets.user !== undefined) return `user ${secrets.user}`;
  return "API key";
}

const secretsOf = ({ origin: _, ...secrets }: Credentials): Secrets => secrets;

/** How the environment's variables of an archive begin: the name in capitals with `-` as `_`. */
export const environmentPrefix = (name: string): string =>
  `GANTRY_${name.toUpperCase().replaceAll("-", "_")}_`;

/** `GANTRY_<NAME>_USER`, `_PASSWORD`, `_TOKEN`, `_API_KEY`; an empty one is none. */
function readEnvironment(name: string, environment: Environment): Secrets {
  const prefix = environmentPrefix(name);
  const user = environment[`${prefix}USER`];
  const password = environment[`${prefix}PASSWORD`];
  const token = environment[`${prefix}TOKEN`];
  const apiKey = environment[`${prefix}API_KEY`];
  if (!token && !apiKey && Boolean(user) !== Boolean(password)) {
    const [there, missing] = user ? ["USER", "PASSWORD"] : ["PASSWORD", "USER"];
    throw new RunError("access-login", `${prefix}${there} is set, but ${prefix}${missing} is not`, {
      hint: `set ${prefix}${missing} in the environment, or take ${prefix}${there} away and use \`gantry login ${name}\``,
    });
  }
  return {
    ...(user ? { user } : {}),
    ...(password ? { password } : {}),
    ...(token ? { token } : {}),
    ...(apiKey ? { apiKey } : {}),
  };
}
