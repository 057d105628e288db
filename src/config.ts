/** Configured archives: the built-in names, the site's file, the user's file. */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { parse } from "smol-toml";
import * as v from "valibot";
import { RunError } from "./errors.ts";
import { LINK_ARCHIVE } from "./model/link.ts";

export interface ArchiveConfig {
  readonly name: string;
  /** Archive kind, a key of the register of sources. */
  readonly kind: string;
  readonly url: string;
  /** What else the kind wants to know, e.g. `api` of an NBIA; see `SourceKind.settings`. */
  readonly settings: Readonly<Record<string, string>>;
  /** `built-in`, or the path of the file that says so. */
  readonly from: string;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** Collection manager of TCIA's pages (kirbyju/tcia_utils wordpress.py); NLST has its page among them. */
const PAGES = { pages: "https://cancerimagingarchive.net/api" };

/** Hosts: CBIIT/NBIA-TCIA nbia-api.yaml (2025-11-22); NLST has a server of its own (kirbyju/tcia_utils#21). */
const BUILT_IN: readonly ArchiveConfig[] = [
  {
    name: "tcia",
    kind: "nbia",
    url: "https://nbia.cancerimagingarchive.net/nbia-api",
    settings: PAGES,
    from: "built-in",
  },
  {
    name: "nlst",
    kind: "nbia",
    url: "https://nlst.cancerimagingarchive.net/nbia-api",
    settings: PAGES,
    from: "built-in",
  },
  {
    name: "preventad",
    kind: "loris",
    url: "https://openpreventad.loris.ca/api/v0.0.3-dev",
    settings: {},
    from: "built-in",
  },
];

/** Serves links, which name their own hosts. */
export const LINKS: ArchiveConfig = {
  name: LINK_ARCHIVE,
  kind: "web",
  url: "https://",
  settings: {},
  from: "built-in",
};

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
export function readArchives(
  environment: Environment,
  /** True: a file that GANTRY_CONFIG names need not be there yet. */
  options: { mayBeMissing?: boolean } = {},
): ReadonlyMap<string, ArchiveConfig> {
  const archives = new Map(BUILT_IN.map((archive) => [archive.name, archive]));
  for (const path of [SITE_FILE, configPath(environment)]) {
    const text = readText(path);
    if (text === null && path === environment.GANTRY_CONFIG && !options.mayBeMissing) {
      throw new RunError("usage", `GANTRY_CONFIG names ${path}, which does not exist`);
    }
    for (const archive of parseConfig(text ?? "", path)) archives.set(archive.name, archive);
  }
  return archives;
}

/** Throws `usage` for a name that no address could begin with. */
export function checkArchiveName(name: string, where: string): void {
  if (name === LINK_ARCHIVE) {
    throw new RunError("usage", `${where}${JSON.stringify(name)} is the name of plain links`, {
      hint: "give the archive another name",
    });
  }
  if (/^[a-z][a-z0-9-]+$/u.test(name)) return;
  throw new RunError("usage", `${where}${JSON.stringify(name)} can't name an archive`, {
    hint: "use two or more small letters, digits and dashes, a letter first",
  });
}

/** The text of a configuration file; null when there is none. Throws `usage` when it can't be read. */
export function readText(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "";
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    const why = { EACCES: "permission denied", EISDIR: "it is a folder" }[code] ?? code;
    throw new RunError("usage", `${path} can't be read: ${why}`, {
      hint: "the configuration is looked for there; make the file readable, or name another in GANTRY_CONFIG",
    });
  }
}

/** The archives of a configuration file's text, in its order. Throws `usage`; `path` is for its message. */
export function parseConfig(text: string, path: string): ArchiveConfig[] {
  const found: ArchiveConfig[] = [];
  for (const [name, { kind, url, ...settings }] of Object.entries(parseFile(text, path).archives ?? {})) {
    checkArchiveName(name, `${path}: `);
    found.push({ name, kind, url, settings, from: path });
  }
  return found;
}

function parseFile(text: string, path: string): v.InferOutput<typeof ConfigFile> {
  let parsed: Record<string, unknown>;
  try {
    parsed = parse(text);
  } catch (error) {
    const line = error instanceof Error ? error.message.split("\n")[0] : "unreadable";
    throw new RunError("usage", `${path} can't be read as TOML: ${line}`);
  }
  const unknown = Object.keys(parsed).filter((key) => !(key in ConfigFile.entries));
  if (unknown.length > 0) {
    throw new RunError(
      "usage",
      `${path}: there is no setting ${unknown.map((key) => JSON.stringify(key)).join(", ")}`,
      {
        hint: `known are ${Object.keys(ConfigFile.entries).join(", ")}; an archive stands below [archives.NAME]`,
      },
    );
  }
  const result = v.safeParse(ConfigFile, parsed);
  if (!result.success) {
    const [issue] = result.issues;
    throw new RunError("usage", `${path}: ${v.getDotPath(issue) ?? "the file"}: ${issue.message}`);
  }
  return result.output;
}

/** Built-in names of archive kinds that later versions bring, so that the message can say so. */
export const LATER_ARCHIVES: Readonly<Record<string, string>> = {
  idc: "the Imaging Data Commons",
};
