/** Accounts, and what is in the way: the parts of the library that are about reaching an archive. */
import {
  type Credentials,
  credentialsPath,
  readCredentials,
  writeCredentials,
} from "./accounts/credentials.ts";
import { environmentPrefix, type Secrets } from "./accounts/secrets.ts";
import { accountKindOf, findArchive } from "./archives.ts";
import { type ArchiveConfig, configPath, type Environment, readArchives } from "./config.ts";
import { checkFolder } from "./doctor/folder.ts";
import { checkRoad } from "./doctor/road.ts";
import { RunError } from "./errors.ts";
import { type OpenOptions, open } from "./gantry.ts";
import { type Context, type Log, systemClock } from "./lib/context.ts";
import { nearMatches } from "./model/address.ts";
import { type Finding, failed, fine, warning } from "./model/finding.ts";
import { readSite } from "./model/site.ts";
import type { AccountKind } from "./sources/source.ts";
import { type AscpDescription, describeAscp as describe } from "./transports/ascp/describe-ascp.ts";
import { type Installed, installAscp as install } from "./transports/ascp/install-ascp.ts";
import { createHttp, type Http } from "./transports/http.ts";
import { VERSION } from "./version.ts";

export interface AccountOptions {
  /** Default: the process's. */
  readonly environment?: Environment;
  readonly signal?: AbortSignal;
  readonly log?: Log;
}

/** How users are known to a configured archive; null: it knows none. Throws `usage`. */
export async function readAccountKind(
  archive: string,
  options: AccountOptions = {},
): Promise<AccountKind | null> {
  return accountKindOf(findArchive(archive, readArchives(options.environment ?? process.env)));
}

export interface LoggedIn {
  /** The credential file. */
  readonly path: string;
  /** What the archive answered, when it was asked; warnings. */
  readonly findings: readonly Finding[];
  /** Variables of the environment that go before what is stored now. */
  readonly overridden: readonly string[];
}

/**
 * Stores an account in the credential file, for the archive's present origin; the archive is asked first, unless
 * `check` is false. Throws what the archive answered, `usage`, `disk-…`; nothing is stored then.
 */
export async function logIn(
  archive: string,
  secrets: Secrets,
  options: AccountOptions & { check?: boolean } = {},
): Promise<LoggedIn> {
  const { environment = process.env, check = true, ...rest } = options;
  const { url } = findArchive(archive, readArchives(environment));
  const path = credentialsPath(environment);
  // A file that can't be used is told before anybody is asked.
  readCredentials(path);
  const { protocol, hostname, origin } = new URL(url);
  const findings: Finding[] = [];
  if (protocol === "http:" && !/^(localhost|127\..*|\[::1\])$/u.test(hostname)) {
    const what = `${hostname} is asked over http: whoever is on the way can read the account`;
    findings.push(warning("connection", what, "use the archive's https address"));
  }
  if (check) {
    const gantry = await open({ environment, ...rest, retries: 1, secrets: { [archive]: secrets } });
    try {
      for await (const finding of gantry.check(archive)) {
        if (finding.error) throw finding.error;
        findings.push(finding);
      }
    } finally {
      await gantry.close();
    }
  }
  const credentials: Credentials = { origin, ...secrets };
  await writeCredentials(path, archive, credentials);
  const prefix = environmentPrefix(archive);
  const names = ["USER", "PASSWORD", "TOKEN", "API_KEY"].map((end) => `${prefix}${end}`);
  return { path, findings, overridden: names.filter((name) => environment[name]) };
}

/**
 * Forgets a stored account. Where it is a ready token of the archive's present origin, its session is ended there,
 * too, as far as the archive can be reached. Throws `usage`, `disk-…`.
 */
export async function logOut(
  archive: string,
  options: AccountOptions = {},
): Promise<{ readonly path: string; readonly removed: boolean; readonly ended: boolean }> {
  const { environment = process.env, ...rest } = options;
  const path = credentialsPath(environment);
  const stored = readCredentials(path).get(archive);
  const archives = readArchives(environment);
  // Of an archive that is not configured any more the entry can still go.
  if (stored === undefined) findArchive(archive, archives);
  const url = archives.get(archive)?.url;
  let ended = false;
  if (stored?.token !== undefined && url !== undefined && new URL(url).origin === stored.origin) {
    const gantry = await open({
      environment,
      ...rest,
      retries: 0,
      secrets: { [archive]: { token: stored.token } },
    });
    try {
      ended = await gantry.logOut(archive);
    } catch (error) {
      if (!(error instanceof RunError) || error.exit >= 130) throw error;
    } finally {
      await gantry.close();
    }
  }
  return { path, removed: await writeCredentials(path, archive, null), ended };
}

/**
 * Looks for what is in the way: of an archive (its name), of a folder (any other word), or, without a word, of this
 * machine, the present folder and every archive. Of each the findings come in order and end with the first that
 * failed. Throws `usage` for a word that is neither, and when the signal is aborted.
 */
export async function* diagnose(
  word: string | null,
  options: AccountOptions & Pick<OpenOptions, "ascp" | "askSecret"> = {},
): AsyncGenerator<Finding & { readonly subject: string }> {
  const { environment = process.env } = options;
  const about = async function* (subject: string, findings: AsyncIterable<Finding>) {
    for await (const finding of findings) yield { subject, ...finding };
  };
  let archives: ReadonlyMap<string, ArchiveConfig> | null = null;
  let broken = false;
  for await (const finding of about(
    "gantry",
    checkProgram(environment, (found) => (archives = found)),
  )) {
    broken ||= finding.result === "failed";
    yield finding;
  }
  if (broken || archives === null) return;
  const known: ReadonlyMap<string, ArchiveConfig> = archives;
  const site = word === null ? null : readSite(word);
  if (word !== null && site !== null) {
    const server = site.bearer === null ? null : new URL("/", site.bearer);
    yield* about(site.archive, checkArchive(word, server, options));
    return;
  }
  const name = word?.replace(/:.*$/su, "") ?? "";
  const isArchive = word !== null && (known.has(name) || (/:$/u.test(word) && !word.includes("/")));
  if (word === null || !isArchive) {
    if (word !== null && /^[a-z][a-z0-9-]+$/u.test(word) && !(await isThere(word))) {
      const near = nearMatches(word, known.keys());
      throw new RunError("usage", `there is no archive and no folder ${JSON.stringify(word)}`, {
        hint:
          near.length > 0
            ? `did you mean ${near.join(" or ")}?`
            : `archives are ${[...known.keys()].join(", ")}; a folder that is not there yet is ./${word}`,
      });
    }
    yield* about("folder", checkFolder(word ?? "."));
    if (word !== null) return;
  }
  const names = word === null ? [...known.keys()].sort() : [findArchive(name, known).name];
  for (const each of names)
    yield* about(each, checkArchive(each, new URL(findArchive(each, known).url), options));
}

/** Which ascp is used. `program`: the one that the user names. Throws `usage`. */
export function describeAscp(options: AccountOptions & { program?: string } = {}): Promise<AscpDescription> {
  return describe(options.environment ?? process.env, options.program);
}

/** Installs ascp. `sdk`: a URL, `file:///…` or a path; default: IBM's newest. Throws like `installAscp` there. */
export async function installAscp(options: AccountOptions & { sdk?: string } = {}): Promise<Installed> {
  const { environment = process.env, sdk } = options;
  const context = contextOf(options);
  let http: Http | null = null;
  const openHttp = (): Http => {
    http ??= createHttp({
      userAgent: `gantry/${VERSION}`,
      connections: 1,
      stallTimeoutMs: 60_000,
      environment,
    });
    return http;
  };
  try {
    return await install({ environment, context, http: openHttp, ...(sdk === undefined ? {} : { sdk }) });
  } finally {
    await (http as Http | null)?.close();
  }
}

const contextOf = (options: AccountOptions): Context => ({
  signal: options.signal ?? new AbortController().signal,
  clock: systemClock,
  random: Math.random,
  log: options.log ?? (() => undefined),
});

const isThere = async (path: string): Promise<boolean> => {
  const { stat } = await import("node:fs/promises");
  return stat(path).then(
    () => true,
    () => false,
  );
};

/** The road to an archive, where it speaks HTTP, then what it answers to its account. `word`: its name, or a link. */
async function* checkArchive(
  word: string,
  url: URL | null,
  options: AccountOptions & Pick<OpenOptions, "ascp" | "askSecret">,
): AsyncGenerator<Finding> {
  const { environment = process.env } = options;
  const context = contextOf(options);
  let http: Http | null = null;
  const openHttp = (): Http => {
    http ??= createHttp({
      userAgent: `gantry/${VERSION}`,
      connections: 1,
      stallTimeoutMs: 20_000,
      environment,
    });
    return http;
  };
  try {
    const road = url === null ? [] : checkRoad(url, { environment, http: openHttp, context });
    for await (const finding of road) {
      yield finding;
      if (finding.result === "failed") return;
    }
  } finally {
    await (http as Http | null)?.close();
  }
  const gantry = await open({ ...options, environment, retries: 0 });
  try {
    yield* gantry.check(word);
  } finally {
    await gantry.close();
  }
}

/** The program itself: what runs it, and its configuration. */
async function* checkProgram(
  environment: Environment,
  found: (archives: ReadonlyMap<string, ArchiveConfig>) => void,
): AsyncGenerator<Finding> {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major < 20 || (major === 20 && minor < 19)) {
    const old = `gantry needs Node 20.19 or newer, and this is ${process.versions.node}`;
    yield failed("node", new RunError("usage", old, { hint: "install a newer Node" }));
    return;
  }
  yield fine("node", process.versions.node);
  try {
    const archives = readArchives(environment);
    const stored = readCredentials(credentialsPath(environment)).size;
    yield fine(
      "configuration",
      `${configPath(environment)}: ${archives.size} archives, ${stored} of them with stored credentials`,
    );
    found(archives);
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    yield failed("configuration", error);
  }
}
