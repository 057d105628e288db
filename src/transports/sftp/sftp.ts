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
  /**
   * The bytes of a file from `start` on, held to the bandwidth. Throws `access-item` where it is not there, `proof-size`
   * when it is not, or no longer, the file of that size and time.
   */
  read(
    path: string,
    of: { readonly start: number; readonly bytes: number; readonly mtimeSeconds: number },
    context: Context,
  ): AsyncGenerator<Uint8Array>;
  close(): void;
}

export function createSftp(site: SftpSite, options: SftpOptions): Sftp {
  let open: SftpConnection | null = null;
  let opening: Promise<SftpConnection | null> | null = null;
  let none = false;
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
    async *read(path, { start, bytes, mtimeSeconds }, context) {
      const sftp = await connection(context);
      if (sftp === null) throw new RunError("archive-error", `${site.host} has no SFTP`);
      const file = await sftp.open(path);
      try {
        const expectSame = async (when: string): Promise<void> => {
          const now = await file.facts();
          if (now.bytes === bytes && now.mtimeSeconds === mtimeSeconds) return;
          throw new RunError("proof-size", `${path}: it changed at the server ${when}`, {
            hint: "run the same command again: it is listed anew",
          });
        };
        await expectSame("after it was listed");
        let came = start;
        for await (const chunk of file.read(start, bytes)) {
          context.signal.throwIfAborted();
          await options.limiter?.take(chunk.length, context.signal);
          options.onReceived?.(chunk.length);
          came += chunk.length;
          yield chunk;
        }
        await expectSame("while it was read");
        if (came !== bytes)
          throw new RunError("proof-size", `${path}: ${bytes} bytes are announced, and ${came} came`);
      } finally {
        await file.close();
      }
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
