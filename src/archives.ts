/** Configured archives: opened as sources with their accounts, added to the configuration and taken out of it. */
import { addArchive as addToFile, removeArchive as removeFromFile } from "./accounts/archive-file.ts";
import { credentialsPath, writeCredentials } from "./accounts/credentials.ts";
import { readSecrets, type Secrets } from "./accounts/secrets.ts";
import {
  type ArchiveConfig,
  checkArchiveName,
  configPath,
  type Environment,
  LATER_ARCHIVES,
  readArchives,
} from "./config.ts";
import { RunError } from "./errors.ts";
import type { Redactor } from "./lib/redact.ts";
import { nearMatches } from "./model/address.ts";
import { SOURCE_KINDS } from "./sources/index.ts";
import type { AccountKind, Source, SourceKind } from "./sources/source.ts";
import type { Ascp } from "./transports/ascp/ascp.ts";
import type { Http } from "./transports/http.ts";
import type { ReplyCache } from "./transports/reply-cache.ts";
import type { Sftp, SftpSite } from "./transports/sftp/sftp.ts";

type Archives = ReadonlyMap<string, ArchiveConfig>;

/** The archive of this name. Throws `usage`, with near names. */
export function findArchive(name: string, archives: Archives): ArchiveConfig {
  const config = archives.get(name);
  if (!config) {
    const later = LATER_ARCHIVES[name];
    const near = nearMatches(name, archives.keys());
    throw new RunError(
      "usage",
      later
        ? `${later} (${name}:) is served by a later version`
        : `there is no archive named ${JSON.stringify(name)}`,
      {
        hint:
          near.length > 0
            ? `did you mean ${near.map((each) => `${each}:`).join(" or ")}?`
            : `configured are ${[...archives.keys()].map((each) => `${each}:`).join(" ")}; a file of that name is ./${name}:…`,
      },
    );
  }
  return config;
}

/** The kind of a configured archive, its settings checked. Throws `usage`. */
async function kindOf(config: ArchiveConfig): Promise<SourceKind> {
  const load = SOURCE_KINDS[config.kind];
  if (!load) {
    throw new RunError(
      "usage",
      `the archive ${config.name} is of the kind ${JSON.stringify(config.kind)}, which this version does not know`,
      {
        hint: `kinds are ${Object.keys(SOURCE_KINDS).join(", ")}`,
      },
    );
  }
  const kind = await load();
  checkSettings(config, kind);
  return kind;
}

/** `given`: an account to use instead of the configured one. Throws `usage`, `access-login`. */
export async function openSource(
  config: ArchiveConfig,
  environment: Environment,
  parts: {
    readonly http: () => Http;
    readonly replies: ReplyCache | null;
    readonly redactor: Redactor;
    readonly ascp: Ascp;
    readonly sftp: (site: SftpSite) => Sftp;
    readonly transport?: "ascp" | "sftp";
    readonly link: () => string | null;
  },
  given?: Secrets,
): Promise<Source> {
  const { http, redactor, ...others } = parts;
  const kind = await kindOf(config);
  const secrets = given ?? readSecrets(config, environment);
  for (const secret of [secrets.password, secrets.token, secrets.apiKey]) if (secret) redactor.add(secret);
  const { name, url, settings } = config;
  return kind.create({ archive: name, url, settings, http: http(), redactor, secrets, ...others });
}

/** How users are known to an archive; null: it knows none. Throws `usage`. */
export async function accountKindOf(config: ArchiveConfig): Promise<AccountKind | null> {
  return (await kindOf(config)).account?.(config.settings) ?? null;
}

/** Throws `usage` for a setting that the archive's kind does not have, or a value that it does not take. */
function checkSettings({ name, settings }: ArchiveConfig, kind: SourceKind): void {
  const known = kind.settings ?? {};
  for (const [setting, value] of Object.entries(settings)) {
    const rule = known[setting];
    if (!rule) {
      const names = ["url", ...Object.keys(known)].join(", ");
      throw new RunError(
        "usage",
        `the archive ${name} has the setting ${JSON.stringify(setting)}, which ${kind.title} does not know`,
        {
          hint: `settings are ${names}`,
        },
      );
    }
    if (rule.values && !rule.values.includes(value)) {
      throw new RunError(
        "usage",
        `the archive ${name}: ${setting} = ${JSON.stringify(value)} is none of ${rule.values.join(", ")}`,
      );
    }
  }
}

export interface AddedArchive {
  /** The file that was written. */
  readonly path: string;
  /** The archive that the name meant before; null: none. */
  readonly instead: ArchiveConfig | null;
}

/**
 * Adds an archive to the user's configuration. A name that means an archive already is refused unless `replace`.
 * Throws `usage` for what could not be opened later, `disk-…`.
 */
export async function addArchive(
  archive: Omit<ArchiveConfig, "from">,
  options: { environment?: Environment; replace?: boolean } = {},
): Promise<AddedArchive> {
  const { environment = process.env, replace = false } = options;
  const path = configPath(environment);
  const { name, url } = archive;
  const config = { ...archive, from: path };
  checkArchiveName(name, "");
  checkUrl(url);
  await kindOf(config);
  const earlier = readArchives(environment, { mayBeMissing: true }).get(name) ?? null;
  if (earlier !== null && !replace) {
    const where = earlier.from === "built-in" ? "is built in" : `is in ${earlier.from}`;
    throw new RunError("usage", `an archive ${name} ${where} already: ${earlier.url}`, {
      hint: "choose another name, or use --replace to have the name mean the new one",
    });
  }
  if (earlier?.from === path) await removeFromFile(path, name);
  await addToFile(path, config);
  return { path, instead: earlier };
}

function checkUrl(text: string): void {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/u.test(url.protocol)) {
    throw new RunError("usage", `${JSON.stringify(text)} is no address of a server`, {
      hint: "write it as https://host/path",
    });
  }
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") {
    throw new RunError("usage", "the address of an archive holds no login and no query", {
      hint: "leave out what stands before @ and after ?; an account is given to `gantry login`",
    });
  }
}

export interface RemovedArchive {
  /** The file that was written. */
  readonly path: string;
  /** Whether credentials were stored for it, and are gone, too. */
  readonly credentials: boolean;
  /** The archive that the name means from now on, e.g. a built-in one; null: none. */
  readonly now: ArchiveConfig | null;
}

/** Takes an archive out of the user's configuration, its credentials too. Throws `usage`, `disk-…`. */
export async function removeArchive(
  name: string,
  options: { environment?: Environment } = {},
): Promise<RemovedArchive> {
  const { environment = process.env } = options;
  const path = configPath(environment);
  const { from } = findArchive(name, readArchives(environment));
  if (from !== path) {
    throw new RunError(
      "usage",
      from === "built-in"
        ? `the archive ${name} is built in`
        : `the archive ${name} is configured in ${from}, for all of this machine`,
      { hint: `only what is in ${path} is removed` },
    );
  }
  await removeFromFile(path, name);
  const credentials = await writeCredentials(credentialsPath(environment), name, null);
  const now = readArchives(environment).get(name) ?? null;
  return { path, credentials, now };
}
