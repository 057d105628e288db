/**
 * SFTP with servers that a user has an account on: the same password or key as ascp gets, from the same variables and
 * flags. The library that speaks SSH is loaded with the first connection.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import type { RateLimiter } from "../../lib/limiter.ts";
import type { Redactor } from "../../lib/redact.ts";
import type { Environment, SiteSecrets } from "../site-secrets.ts";
import { connectSftp, type SftpConnection, type SftpLogin } from "./connection.ts";
import { fingerprint, readKnownHosts } from "./known-hosts.ts";
import { type ReadingOf, SftpReading } from "./reading.ts";

/** That are open at once because some are begun before they are wanted: servers have bounds for it, OpenSSH about 1000. */
const MAX_FILES = 48;

export interface SftpOptions {
  readonly environment: Environment;
  readonly redactor: Redactor;
  readonly secrets: SiteSecrets;
  readonly stallTimeoutMs: number;
  /** Where keys of servers that are met for the first time are kept. */
  readonly knownHosts: string;
  readonly limiter?: RateLimiter;
  /** Told of the bytes of files that come over the network. */
  readonly onReceived?: (bytes: number) => void;
}

export interface SftpSite {
  readonly user: string;
  readonly host: string;
  /** Of SSH, in the order in which they are tried. */
  readonly ports: readonly number[];
}

export interface Sftp {
  readonly site: SftpSite;
  /**
   * The connection, opened where there is none; null: the server has no SFTP, as far as this account sees. Throws what
   * keeps from connecting (`archive-…`, `access-…`), `usage` for a key that can't be used.
   */
  connection(context: Context): Promise<SftpConnection | null>;
  /** Asks for a file, from `start` on and held to the bandwidth. Close it, whatever becomes of it. */
  begin(path: string, of: ReadingOf, context: Context): SftpReading;
  /** Whether a file that is not wanted yet may be begun, so that its way here is not waited for later. */
  readonly hasRoom: boolean;
  close(): void;
}

export function createSftp(site: SftpSite, options: SftpOptions): Sftp {
  let open: SftpConnection | null = null;
  let opening: Promise<SftpConnection | null> | null = null;
  let none = false;
  /** Files that are asked for, up to their end. */
  let underWay = 0;
  const connect = async (context: Context): Promise<SftpConnection | null> => {
    const login = await readLogin(site, options);
    // A token, which may open ascp, opens no SSH.
    if (login.password === undefined && login.key === undefined) return null;
    let failure: unknown = null;
    for (const port of site.ports) {
      try {
        const found = await connectTo(site, port, login, options, context);
        if ("sftp" in found) {
          open = found.sftp;
          return open;
        }
        context.log("debug", `${site.host}, port ${port}: no SFTP (${found.none})`);
        none = true;
        return null;
      } catch (error) {
        const unreachable = error instanceof RunError && error.code === "archive-unreachable";
        if (!unreachable || context.signal.aborted) throw error;
        failure ??= error;
      }
    }
    throw failure;
  };
  const connection = (context: Context): Promise<SftpConnection | null> => {
    if (none) return Promise.resolve(null);
    if (open && !open.isLost) return Promise.resolve(open);
    opening ??= connect(context).finally(() => {
      opening = null;
    });
    return opening;
  };
  return {
    site,
    connection,
    begin: (path, of, context) => {
      const opened = async (): Promise<SftpConnection> => {
        const sftp = await connection(context);
        if (sftp === null) throw new RunError("archive-error", `${site.host} has no SFTP`);
        return sftp;
      };
      underWay += 1;
      const onEnd = (): void => {
        underWay -= 1;
      };
      return new SftpReading({ path, ...of }, opened, { ...options, onEnd }, context);
    },
    get hasRoom() {
      return open !== null && !open.isLost && underWay < MAX_FILES && open.window.hasRoom;
    },
    close: () => open?.close(),
  };
}

async function connectTo(
  { host }: SftpSite,
  port: number,
  login: SftpLogin,
  { environment, knownHosts, stallTimeoutMs }: SftpOptions,
  context: Context,
) {
  const home = environment.HOME ?? environment.USERPROFILE;
  const others = ["/etc/ssh/ssh_known_hosts", ...(home ? [join(home, ".ssh", "known_hosts")] : [])];
  const known = await readKnownHosts(host, port, { own: knownHosts, others });
  const onNewHost = (key: Uint8Array): void =>
    context.log(
      "warn",
      `${host} is met for the first time: its key ${fingerprint(key)} is kept in ${knownHosts}, and no other will be accepted`,
    );
  return connectSftp({ host, port, login, known, onNewHost, stallTimeoutMs }, context);
}

async function readLogin(site: SftpSite, { secrets, redactor }: SftpOptions): Promise<SftpLogin> {
  const { user } = site;
  const { key } = secrets;
  const { ASPERA_SCP_PASS: password, ASPERA_SCP_KEY: keyText } = secrets.environmentOf(site);
  for (const secret of [password, keyText]) if (secret) redactor.add(secret);
  const text = key === undefined ? keyText : await readKey(key);
  return {
    user,
    ...(password ? { password } : {}),
    ...(text ? { key: text, keyName: key === undefined ? "ASPERA_SCP_KEY" : `the key file ${key}` } : {}),
  };
}

async function readKey(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new RunError("usage", `the key file ${path} can't be read`, {
      hint: "name another with --key",
      cause,
    });
  }
}
