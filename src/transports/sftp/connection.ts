/**
 * One SSH connection with SFTP on it (draft-ietf-secsh-filexfer-02, the version that every server speaks). What is asked
 * and gets no answer for too long ends the connection; what was asked on a lost one fails, and a new one is for the
 * caller to open.
 */
import { createPrivateKey } from "node:crypto";
import type { Client, ConnectConfig, FileEntryWithStats, SFTPWrapper, Stats } from "ssh2";
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { networkError } from "../http.ts";
import type { KnownHosts } from "./known-hosts.ts";
import { MAX_WINDOW_BYTES, PIECE_BYTES, ReadWindow } from "./read-window.ts";

export interface SftpLogin {
  readonly user: string;
  readonly password?: string;
  /** Text of a private key. */
  readonly key?: string;
  /** What sentences call the key, e.g. its path. */
  readonly keyName?: string;
}

export interface SftpFacts {
  readonly type: "file" | "folder" | "link" | "other";
  readonly bytes: number;
  readonly mtimeSeconds: number;
}

export interface SftpEntry extends SftpFacts {
  readonly name: string;
}

export interface ConnectOptions {
  readonly host: string;
  readonly port: number;
  readonly login: SftpLogin;
  readonly known: KnownHosts;
  /** Told of a server that was met for the first time, with its key. */
  readonly onNewHost: (key: Uint8Array) => void;
  /** A question without an answer for so long ends the connection. */
  readonly stallTimeoutMs: number;
}

/** What came of it: SFTP, or why what listens there has none. */
export type Connected = { readonly sftp: SftpConnection } | { readonly none: string };

const CONNECT_MS = 20_000;
/** Of the protocol's status codes (section 7). */
const NO_SUCH_FILE = 2;
const PERMISSION_DENIED = 3;
/** What every server has to give in one piece is 32 KiB with all that is around it (section 3). */
const SURE_PIECE_BYTES = 31 * 1024;
/**
 * Channels of one connection that files come through: each has a process of its own at the server, which does one thing
 * after the other. OpenSSH permits ten (sshd_config(5), MaxSessions).
 */
const MAX_CHANNELS = 4;
/** What the library lets a server send through a channel before it hears that more may come (its lib/Channel.js). */
const CHANNEL_BYTES = 2 * 1024 * 1024;

/**
 * Connects and logs in. Throws `archive-unreachable`, `archive-cut`, `access-login`, `access-denied` for another key than
 * the known one, `usage` for a key that can't be used.
 */
export async function connectSftp(options: ConnectOptions, context: Context): Promise<Connected> {
  const { host, port } = options;
  const { default: ssh2 } = await import("ssh2");
  const login = withReadableKey(options.login, ssh2.utils.parseKey);
  const client = new ssh2.Client();
  const url = new URL(`http://${host.includes(":") ? `[${host}]` : host}:${port}`);
  let connected = false;
  let shaken = false;
  let refusal: unknown = null;
  const onAbort = (): void => void client.destroy();
  context.signal.throwIfAborted();
  context.signal.addEventListener("abort", onAbort, { once: true });
  try {
    const none = await new Promise<string | null>((resolve, reject) => {
      const lost = (): RunError => new RunError("archive-cut", `${host}: the connection was lost`);
      client.on("error", (error: Error & { level?: string }) => {
        if (refusal !== null) reject(refusal);
        else if (error.level === "client-authentication") reject(refusedLogin(host, login));
        else if (shaken) reject(lost());
        else if (!connected || error.level === "client-timeout" || error.level === "client-socket")
          reject(networkError(error, url, context));
        else if (/before handshake/u.test(error.message)) reject(lost());
        // What answers is no SSH server, or none that today's clients can talk to.
        else resolve(error.message);
      });
      client.on("close", () => reject(refusal ?? lost()));
      client.on("connect", () => {
        connected = true;
        // Else a question waits until the server has acknowledged the one before, which it puts off for 40 ms.
        client.setNoDelay(true);
      });
      client.on("handshake", () => {
        shaken = true;
      });
      client.on("ready", () => resolve(null));
      client.on("keyboard-interactive", (_name, _instructions, _lang, prompts, finish) =>
        finish(prompts.map(() => login.password ?? "")),
      );
      client.connect({
        ...{ host, port, username: login.user, readyTimeout: CONNECT_MS, keepaliveInterval: 15_000 },
        ...(login.password === undefined ? {} : { password: login.password, tryKeyboard: true }),
        ...(login.key === undefined ? {} : { privateKey: login.key }),
        ...(login.key === undefined || login.password === undefined ? {} : { passphrase: login.password }),
        algorithms: algorithms(options.known),
        hostVerifier: (key: Buffer, verify: (valid: boolean) => void) => {
          meet(key, options).then(
            () => verify(true),
            (error: unknown) => {
              refusal = error;
              verify(false);
            },
          );
        },
      });
    });
    if (none !== null) return giveUp(client, none);
    const channel = await openChannel(client).catch((error: Error) => error);
    if (channel instanceof Error) return giveUp(client, channel.message);
    return { sftp: new SftpConnection(client, channel, options) };
  } catch (error) {
    client.destroy();
    if (context.signal.aborted) throw context.signal.reason;
    throw error;
  } finally {
    context.signal.removeEventListener("abort", onAbort);
  }
}

function giveUp(client: Client, none: string): Connected {
  client.destroy();
  return { none };
}

/** What is kept of the connection later errors are told by its requests. */
const openChannel = (client: Client): Promise<SFTPWrapper> =>
  new Promise((resolve, reject) => {
    client.once("close", () => reject(new Error("the connection was lost")));
    client.sftp((error, channel) => (error ? reject(error) : resolve(channel)));
  });

async function meet(key: Buffer, { known, onNewHost }: ConnectOptions): Promise<void> {
  if (known.check(key) === "known") return;
  await known.remember(key);
  onNewHost(key);
}

/** What OpenSSL does with the processor's own instructions; ssh2 would rather have ChaCha20, in JavaScript and WebAssembly. */
const FAST_CIPHERS = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"];

/** Of host keys only those of the kinds that the server is known by, so that it can't come with another. */
function algorithms({ types }: KnownHosts): NonNullable<ConnectConfig["algorithms"]> {
  const serverHostKey = types.flatMap((type) =>
    type === "ssh-rsa" ? ["rsa-sha2-512", "rsa-sha2-256"] : [type],
  );
  // The types know no host keys but the library's list; what it does not know it leaves out.
  return {
    cipher: { prepend: FAST_CIPHERS, append: [], remove: [] },
    ...(serverHostKey.length === 0 ? {} : { serverHostKey }),
  } as NonNullable<ConnectConfig["algorithms"]>;
}

/** The key in a form that the library reads, which is none of PKCS #8. Throws `usage`. */
function withReadableKey(login: SftpLogin, parse: (key: string, passphrase?: string) => unknown): SftpLogin {
  const { key, keyName = "the key", password } = login;
  if (key === undefined) return login;
  const parsed = parse(key, password);
  if (!(parsed instanceof Error)) return login;
  try {
    const read = createPrivateKey({ key, ...(password === undefined ? {} : { passphrase: password }) });
    const type = read.asymmetricKeyType === "ec" ? "sec1" : "pkcs1";
    return { ...login, key: read.export({ type, format: "pem" }) as string };
  } catch {
    throw new RunError("usage", `${keyName} can't be used: ${parsed.message}`, {
      hint: "it has to be a private key in the form of OpenSSH or PEM; its passphrase goes into ASPERA_SCP_PASS",
    });
  }
}

const refusedLogin = (host: string, { user, key, password }: SftpLogin): RunError =>
  new RunError("access-login", `${host}: the server refuses the login of ${user}`, {
    hint:
      key === undefined && password === undefined
        ? "put the password into the variable ASPERA_SCP_PASS, or name a private key file with --key"
        : "check user, password and key (--key)",
  });

export class SftpConnection {
  readonly #client: Client;
  readonly #options: ConnectOptions;
  readonly #main: SFTPWrapper;
  /** What files come through. */
  readonly #channels: Channel[];
  /** How many of them there are, are being opened, or can't be had. */
  #channelsAsked = 1;
  /** Of all files that are read. */
  readonly window = new ReadWindow();
  #lost: RunError | null = null;
  /** What is to be told of a loss. */
  readonly #waiting = new Set<() => void>();

  constructor(client: Client, channel: SFTPWrapper, options: ConnectOptions) {
    this.#client = client;
    this.#main = channel;
    this.#options = options;
    this.#channels = [{ sftp: widened(client, channel), files: 0, pieceBytes: pieceBytesOf(channel) }];
    const lost = (): void =>
      this.#lose(new RunError("archive-cut", `${options.host}: the connection was lost`));
    client.removeAllListeners("error").removeAllListeners("close");
    client.on("error", lost).on("close", lost);
    channel.on("error", lost);
  }

  get host(): string {
    return this.#options.host;
  }

  get isLost(): boolean {
    return this.#lost !== null;
  }

  close(): void {
    this.#client.end();
    this.#lose(new RunError("archive-cut", `${this.host}: the connection was closed`));
  }

  #lose(why: RunError): void {
    this.#lost ??= why;
    this.#client.destroy();
    for (const tell of [...this.#waiting]) tell();
  }

  /** Of what a path leads to, links followed; null: nothing is there. */
  async facts(path: string): Promise<SftpFacts | null> {
    const stats = await orNull(this.#ask<Stats>(path, (done) => this.#main.stat(path, done)));
    return stats && factsOf(stats);
  }

  /** The path without links and dots; null: nothing is there. */
  realPath(path: string): Promise<string | null> {
    return orNull(this.#ask<string>(path, (done) => this.#main.realpath(path, done)));
  }

  /** What is in a folder, as the server sends it. Links are told as such. */
  async *folder(path: string): AsyncGenerator<SftpEntry> {
    const handle = await this.#ask<Buffer>(path, (done) => this.#main.opendir(path, done));
    try {
      for (;;) {
        const batch = await this.#ask<FileEntryWithStats[] | null>(path, (done) =>
          // The types know paths only; a handle gives one portion, and fails with the end of the list.
          this.#main.readdir(handle as unknown as string, (error, list) =>
            isEnd(error) ? done(undefined, null) : done(error, list),
          ),
        );
        if (batch === null) return;
        for (const { filename, attrs } of batch) yield { name: filename, ...factsOf(attrs) };
      }
    } finally {
      if (!this.isLost)
        await this.#ask(path, (done) => this.#main.close(handle, done)).catch(() => undefined);
    }
  }

  /** Opens a file; close it. Throws `access-item` when there is none. */
  async open(path: string): Promise<SftpFile> {
    const channel = this.#channel();
    channel.files += 1;
    try {
      const ask = <T>(call: (done: Done<T>) => void): Promise<T> => this.#ask(path, call);
      const handle = await ask<Buffer>((done) => channel.sftp.open(path, "r", done));
      return new SftpFile(channel, handle, ask);
    } catch (error) {
      channel.files -= 1;
      throw error;
    }
  }

  /** That with the fewest files; where each has some, another one is opened for later. */
  #channel(): Channel {
    const [least] = [...this.#channels].sort((a, b) => a.files - b.files) as [Channel];
    if (least.files > 0 && this.#channelsAsked < MAX_CHANNELS) {
      this.#channelsAsked += 1;
      this.#ask<SFTPWrapper>("", (done) => this.#client.sftp(done as never)).then(
        (sftp) => {
          sftp.on("error", () => undefined);
          const pieceBytes = pieceBytesOf(sftp);
          this.#channels.push({ sftp: widened(this.#client, sftp), files: 0, pieceBytes });
        },
        // A server that permits no more of them still has those.
        () => {
          this.#channelsAsked = MAX_CHANNELS;
        },
      );
    }
    return least;
  }

  #ask<T>(path: string, call: (done: Done<T>) => void): Promise<T> {
    const { host, stallTimeoutMs } = this.#options;
    return new Promise((resolve, reject) => {
      if (this.#lost) return reject(this.#lost);
      const gone = (): void => {
        end();
        reject(this.#lost);
      };
      const late = (): void =>
        this.#lose(
          new RunError("archive-stalled", `${host} sent nothing for ${Math.round(stallTimeoutMs / 1000)} s`),
        );
      const timer = setTimeout(late, stallTimeoutMs);
      const end = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(gone);
      };
      this.#waiting.add(gone);
      try {
        call((error, value) => {
          end();
          if (error) reject(this.#failure(error, path));
          else resolve(value as T);
        });
      } catch (error) {
        // A channel that has ended says so at once.
        end();
        reject(this.#failure(error as Error, path));
      }
    });
  }

  #failure(error: Error & { code?: unknown }, path: string): RunError {
    const { host } = this.#options;
    const shown = JSON.stringify(path.replace(/^\.\//u, ""));
    if (this.#lost) return this.#lost;
    if (error.code === NO_SUCH_FILE) return new RunError("access-item", `${host} has no ${shown}`);
    if (error.code === PERMISSION_DENIED)
      return new RunError("access-denied", `${host} does not permit to read ${shown}`);
    if (typeof error.code === "number")
      return new RunError("archive-error", `${host}: ${shown}: ${error.message} (SFTP status ${error.code})`);
    return new RunError("archive-cut", `${host}: the connection was lost`);
  }
}

type Done<T> = (error?: Error | null, value?: T) => void;

interface Channel {
  readonly sftp: SFTPWrapper;
  /** Files that are open in it. */
  files: number;
  /** What is asked for in one piece. */
  pieceBytes: number;
}

/** The library asks what a server gives in one piece (limits@openssh.com), and has no public name for the answer. */
function pieceBytesOf(channel: SFTPWrapper): number {
  const { _maxReadLen: most } = channel as SFTPWrapper & { readonly _maxReadLen?: number };
  return Math.min(PIECE_BYTES, most ?? SURE_PIECE_BYTES);
}

/**
 * Lets the server send a whole window through the channel. The library has no public way to ask for more than its own
 * two megabytes, which a link of 50 ms empties at 40 MB/s; without it files come, more slowly.
 */
function widened(client: Client, channel: SFTPWrapper): SFTPWrapper {
  const { _protocol: protocol } = client as Client & {
    readonly _protocol?: { channelWindowAdjust?(channel: number, bytes: number): void };
  };
  const { outgoing } = channel as SFTPWrapper & { readonly outgoing?: { readonly id: number } };
  if (outgoing) protocol?.channelWindowAdjust?.(outgoing.id, MAX_WINDOW_BYTES - CHANNEL_BYTES);
  return channel;
}

/** A file that is open on the server. */
export class SftpFile {
  readonly #channel: Channel;
  readonly #handle: Buffer;
  readonly #ask: <T>(call: (done: Done<T>) => void) => Promise<T>;
  #closed = false;

  constructor(channel: Channel, handle: Buffer, ask: <T>(call: (done: Done<T>) => void) => Promise<T>) {
    this.#channel = channel;
    this.#handle = handle;
    this.#ask = ask;
  }

  /** How much is best asked for at once. */
  get pieceBytes(): number {
    return this.#channel.pieceBytes;
  }

  async facts(): Promise<SftpFacts> {
    return factsOf(await this.#ask<Stats>((done) => this.#channel.sftp.fstat(this.#handle, done)));
  }

  /** So many bytes, into the buffer; fewer only at the end of the file. */
  async read(buffer: Buffer, start: number, length: number): Promise<Uint8Array> {
    let done = 0;
    while (done < length) {
      const count = await this.#ask<number>((end) =>
        this.#channel.sftp.read(this.#handle, buffer, done, length - done, start + done, (error, bytes) =>
          end(error ?? null, bytes),
        ),
      );
      if (count === 0) break;
      // More than this server gives at once is not asked for again.
      if (done + count < length && count >= SURE_PIECE_BYTES)
        this.#channel.pieceBytes = Math.min(this.#channel.pieceBytes, count);
      done += count;
    }
    return buffer.subarray(0, done);
  }

  /** At once; the server's answer is of no interest. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#channel.files -= 1;
    this.#ask((done) => this.#channel.sftp.close(this.#handle, done)).catch(() => undefined);
  }
}

async function orNull<T>(asked: Promise<T>): Promise<T | null> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof RunError && error.code === "access-item") return null;
    throw error;
  }
}

const isEnd = (error: Error | undefined): boolean => (error as { code?: unknown } | undefined)?.code === 1;

function factsOf(stats: Pick<Stats, "size" | "mtime" | "mode">): SftpFacts {
  const kind = stats.mode & 0o170000;
  const type =
    kind === 0o040000 ? "folder" : kind === 0o100000 ? "file" : kind === 0o120000 ? "link" : "other";
  return { type, bytes: stats.size, mtimeSeconds: stats.mtime };
}
