/** Configured archives and credentials: the built-in names, the site's file, the user's file, the environment. */
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { parse } from "smol-toml";
import * as v from "valibot";
import { RunError } from "./errors.ts";

export interface ArchiveConfig {
  readonly name: string;
  /** Archive kind, a key of the register of sources. */
  readonly kind: string;
  readonly url: string;
  /** What else the kind wants to know, e.g. `api` of an NBIA; see `SourceKind.settings`. */
  readonly settings: Readonly<Record<string, string>>;
}

export interface Secrets {
  readonly user?: string;
  readonly password?: string;
  readonly token?: string;
  readonly apiKey?: string;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** Hosts: CBIIT/NBIA-TCIA nbia-api.yaml (2025-11-22); NLST has a server of its own (kirbyju/tcia_utils#21). */
const BUILT_IN: readonly ArchiveConfig[] = [
  { name: "tcia", kind: "nbia", url: "https://nbia.cancerimagingarchive.net/nbia-api", settings: {} },
  { name: "nlst", kind: "nbia", url: "https://nlst.cancerimagingarchive.net/nbia-api", settings: {} },
];

const SITE_FILE = "/etc/xdg/gantry/config.toml";

const ConfigFile = v.object({
  archives: v.optional(
    v.record(
      v.string(),
      v.objectWithRest(
        {
          kind: v.string(),
          url: v.pipe(v.string(), v.url(), v.regex(/^https?:/iu, "it must begin with https:// or http://")),
        },
        v.string(),
      ),
    ),
  ),
});

/** The user's configuration file: `$GANTRY_CONFIG`, else in the XDG folder. */
export function configPath(environment: Environment): string {
  if (environment.GANTRY_CONFIG) return environment.GANTRY_CONFIG;
  return join(
    environment.XDG_CONFIG_HOME || join(environment.HOME || homedir(), ".config"),
    "gantry",
    "config.toml",
  );
}

/** All archives by name, the user's over the site's over the built-in ones. Throws `usage` for a file that can't be used. */
export function readArchives(environment: Environment): ReadonlyMap<string, ArchiveConfig> {
  const archives = new Map(BUILT_IN.map((archive) => [archive.name, archive]));
  for (const path of [SITE_FILE, configPath(environment)]) {
    if (!existsSync(path)) {
      if (path === environment.GANTRY_CONFIG)
        throw new RunError("usage", `GANTRY_CONFIG names ${path}, which does not exist`);
      continue;
    }
    for (const [name, { kind, url, ...settings }] of Object.entries(readFile(path).archives ?? {})) {
      if (!/^[a-z][a-z0-9-]+$/u.test(name)) {
        throw new RunError("usage", `${path}: ${JSON.stringify(name)} can't name an archive`, {
          hint: "use small letters, digits and dashes",
        });
      }
      archives.set(name, { name, kind, url, settings });
    }
  }
  return archives;
}

function readFile(path: string): v.InferOutput<typeof ConfigFile> {
  let parsed: unknown;
  try {
    parsed = parse(readFileSync(path, "utf8"));
  } catch (error) {
    const line = error instanceof Error ? error.message.split("\n")[0] : "unreadable";
    throw new RunError("usage", `${path} can't be read as TOML: ${line}`);
  }
  const result = v.safeParse(ConfigFile, parsed);
  if (!result.success) {
    const [issue] = result.issues;
    throw new RunError("usage", `${path}: ${v.getDotPath(issue) ?? "the file"}: ${issue.message}`);
  }
  return result.output;
}

/** `GANTRY_<NAME>_USER`, `_PASSWORD`, `_TOKEN`, `_API_KEY`, the name in capitals with `-` as `_`. */
export function readSecrets(name: string, environment: Environment): Secrets {
  const prefix = `GANTRY_${name.toUpperCase().replaceAll("-", "_")}_`;
  const user = environment[`${prefix}USER`];
  const password = environment[`${prefix}PASSWORD`];
  const token = environment[`${prefix}TOKEN`];
  const apiKey = environment[`${prefix}API_KEY`];
  if (user && !password && !token) {
    throw new RunError("access-login", `${prefix}USER is set, but ${prefix}PASSWORD is not`, {
      hint: `set ${prefix}PASSWORD in the environment`,
    });
  }
  return {
    ...(user ? { user } : {}),
    ...(password ? { password } : {}),
    ...(token ? { token } : {}),
    ...(apiKey ? { apiKey } : {}),
  };
}

/** Built-in names of archive kinds that later versions bring, so that the message can say so. */
export const LATER_ARCHIVES: Readonly<Record<string, string>> = {
  idc: "the Imaging Data Commons",
  preventad: "PREVENT-AD",
};
