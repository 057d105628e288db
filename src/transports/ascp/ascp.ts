/**
 * Transfers by ascp: a transfer specification goes in, files and progress come out. Secrets reach ascp through its
 * environment alone; it can ask nobody anything, outlives nobody, and is ended when it gets no further.
 */
import { createHash } from "node:crypto";
import { rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { onDisk } from "../../lib/durable-file.ts";
import type { Redactor } from "../../lib/redact.ts";
import { SiteSecrets } from "../site-secrets.ts";
import { ascpFailure } from "./failures.ts";
import { type Environment, type FoundAscp, findAscp, findTokenKey, noAscp, noKey } from "./find-ascp.ts";
import { countOf, type Frame } from "./management.ts";
import { AscpSession } from "./session.ts";
import { type AscpCall, buildAscpCall, sessionsOf, type TransferSpec } from "./transfer-spec.ts";

export interface AscpOptions {
  readonly environment: Environment;
  readonly redactor: Redactor;
  /** A transfer that gets no further for so long is ended. */
  readonly stallTimeoutMs: number;
  /** For all transfers together. */
  readonly bandwidthBytesPerSecond?: number;
  /** `--ascp`. */
  readonly program?: string;
  /** `--key`. */
  readonly key?: string;
  /** What opens sites; default: what the environment says. */
  readonly secrets?: SiteSecrets;
  /** `--ascp-opt`: options of the user's own, after all others. */
  readonly extra?: readonly string[];
  /** Settings of the user's own (`--policy` …), over those of the specification. */
  readonly settings?: Partial<TransferSpec>;
  /** Told of the bytes that come over the network. */
  readonly onReceived?: (bytes: number) => void;
}

export interface AscpJob {
  readonly spec: TransferSpec;
  /** Absolute; what is received goes below it. Of a job that sends: where lists are kept. Must exist. */
  readonly folder: string;
  /** Makes the stall time longer, e.g. 2 for twice. */
  readonly patience?: number;
}

export type AscpEvent =
  /** The session stands; fields as ascp names them (rates in kbps), without what is secret. */
  | { readonly type: "session"; readonly facts: Frame }
  /** What the whole job holds, as far as ascp knows; may come late or never. */
  | { readonly type: "totals"; readonly bytes: number; readonly files: number }
  /** Bytes of the job that are here, those of earlier sessions included. */
  | { readonly type: "progress"; readonly bytes: number }
  /**
   * A file is whole. `path` as ascp says it: absolute, or relative to the destination. `skipped`: it was here already;
   * `checksum`, e.g. `sha1:…`, where the specification asks for one.
   */
  | {
      readonly type: "file";
      readonly path: string;
      readonly bytes: number | null;
      readonly skipped: boolean;
      readonly checksum: string | null;
    }
  | { readonly type: "file-failed"; readonly path: string; readonly error: RunError }
  /** The last one: everything was transferred, by ascp's own count. */
  | {
      readonly type: "done";
      /** Files that came or were here already; null when it does not count. */
      readonly files: number | null;
      readonly bytes: number | null;
    };

export interface Ascp {
  /** Which program it is. Throws `usage` when there is none. */
  find(): Promise<FoundAscp>;
  /** Whether files that are encrypted at rest come out clear. */
  readonly decrypts: boolean;
  readonly secrets: SiteSecrets;
  /** What opens servers to whoever has a token: a key file, or the variable that holds one. Throws `access-login`. */
  tokenKey(host: string): Promise<string>;
  /**
   * Runs a transfer to its end; stops it when the reader leaves or the signal is aborted. A specification with a token
   * gets a key of an installed product, where it brings no login of its own. With several sessions files are told at
   * the end. Throws what section codes of ascp mean (`archive-…`, `access-…`, `disk-…`), `archive-stalled`, `usage`;
   * what has come stays in the folder, and the same job goes on with it where its `resume_policy` is not `none`.
   */
  transfer(job: AscpJob, context: Context): AsyncGenerator<AscpEvent>;
}

/** Frames that wait for a slow reader before ascp has to. */
const MAX_WAITING = 1_000;
const SECRET_FIELDS = new Set(["Token", "Cookie"]);

export function createAscp(options: AscpOptions): Ascp {
  const shares = new RateShares(options.bandwidthBytesPerSecond);
  let looked: Promise<FoundAscp | null> | null = null;
  const look = (): Promise<FoundAscp | null> => {
    looked ??= findAscp(options.environment, options.program);
    return looked;
  };
  const find = async (): Promise<FoundAscp> => {
    const found = await look();
    if (found === null) throw noAscp();
    return found;
  };
  const { environment: exported, redactor, key } = options;
  const secrets =
    options.secrets ??
    new SiteSecrets({
      ...{ environment: exported, redactor, ...(key === undefined ? {} : { key }) },
      decrypt: options.settings?.content_protection === "decrypt",
    });
  return {
    find,
    secrets,
    get decrypts() {
      return secrets.decrypts;
    },
    tokenKey: async (host) => {
      if (options.key !== undefined) return options.key;
      if (options.environment.ASPERA_SCP_KEY) return "ASPERA_SCP_KEY";
      const key = await findTokenKey((await find()).path, options.environment);
      if (key === null) throw noKey(host);
      return key;
    },
    async *transfer(job, context) {
      const { path } = await find();
      const spec = limited(withChoices(job.spec, options.settings, secrets.decrypts), shares);
      const { remote_host: host, remote_user: user } = spec;
      const site = spec.token === undefined && user !== undefined ? { host, user } : null;
      const environment = userEnvironment(secrets.environmentOf(site), spec);
      for (const secret of secretsOf(spec, environment)) options.redactor.add(secret);
      const call = buildAscpCall(spec);
      for (const key of call.ignored)
        context.log("debug", `ascp takes no ${key} of a transfer specification`);
      const login = await loginArguments(spec, path, options);
      yield* new Transfer({
        ...{ job, spec, environment, call, login, program: path, shares, options, context },
      }).run();
    },
  };
}

/** What the user chose goes before what the specification says; a passphrase that is there is used. */
function withChoices(
  spec: TransferSpec,
  settings: Partial<TransferSpec> = {},
  decrypts: boolean,
): TransferSpec {
  const { content_protection: _, ...others } = settings;
  const clear = decrypts && spec.direction === "receive" ? { content_protection: "decrypt" } : {};
  return { ...spec, ...others, ...clear };
}

/** The key file to offer. Throws `access-login` before ascp would ask. */
async function loginArguments(
  spec: TransferSpec,
  ascp: string,
  { key, environment }: AscpOptions,
): Promise<readonly string[]> {
  if (spec.wss_enabled === true) return [];
  if (key !== undefined) {
    await checkKey(key);
    return ["-i", key];
  }
  if (
    spec.ssh_private_key !== undefined ||
    spec.ssh_private_key_path !== undefined ||
    environment.ASPERA_SCP_KEY
  )
    return [];
  if (spec.remote_password !== undefined) return [];
  if (spec.token === undefined) return [];
  const found = await findTokenKey(ascp, environment);
  if (found === null) throw noKey(spec.remote_host);
  return ["-i", found];
}

/** ascp, like ssh, wants a key to be its owner's alone. */
async function checkKey(path: string): Promise<void> {
  const facts = await stat(path).catch(() => null);
  if (!facts?.isFile()) {
    throw new RunError("usage", `the key file ${path} is not there`, { hint: "name another with --key" });
  }
  if (process.platform !== "win32" && (facts.mode & 0o077) !== 0) {
    throw new RunError("usage", `the key file ${path} can be read by others on this machine`, {
      hint: `chmod 600 ${path}`,
    });
  }
}

/** What the bandwidth is for each of the sessions that run. */
class RateShares {
  readonly #totalKbps: number | null;
  readonly #sessions = new Map<AscpSession, number | null>();

  constructor(bytesPerSecond: number | undefined) {
    this.#totalKbps = bytesPerSecond === undefined ? null : (bytesPerSecond * 8) / 1000;
  }

  /** For one session more than there are; null: as much as it can. */
  next(count: number): number | null {
    return this.#totalKbps === null
      ? null
      : Math.max(1, Math.floor(this.#totalKbps / (this.#sessions.size + count)));
  }

  /** `most`: what their own specification permits each, in kbps. */
  add(sessions: readonly AscpSession[], most: number | null): void {
    for (const session of sessions) this.#sessions.set(session, most);
    this.#tell();
  }

  remove(session: AscpSession): void {
    if (this.#sessions.delete(session)) this.#tell();
  }

  #tell(): void {
    if (this.#totalKbps === null) return;
    const share = this.#totalKbps / this.#sessions.size;
    for (const [session, most] of this.#sessions)
      session.setRate(most === null ? share : Math.min(share, most));
  }
}

interface TransferParts {
  readonly job: AscpJob;
  readonly spec: TransferSpec;
  readonly environment: Readonly<Record<string, string>>;
  readonly call: AscpCall;
  readonly login: readonly string[];
  readonly program: string;
  readonly shares: RateShares;
  readonly options: AscpOptions;
  readonly context: Context;
}

/** What one of the sessions of a transfer has told so far. */
interface Told {
  present: number;
  transferred: number;
}

class Transfer {
  readonly #parts: TransferParts;
  readonly #where: string;
  readonly #sessions: AscpSession[] = [];
  readonly #waiting: AscpEvent[] = [];
  /** Of several sessions each may have a part of a file: they are told when all have ended. */
  readonly #files = new Map<string, AscpEvent>();
  #wake: (() => void) | null = null;
  #paused = false;
  #movedMs = performance.now();
  #mark = "";

  constructor(parts: TransferParts) {
    this.#parts = parts;
    this.#where = parts.spec.remote_host;
  }

  async *run(): AsyncGenerator<AscpEvent> {
    const { context, job, call, shares } = this.#parts;
    context.signal.throwIfAborted();
    const list = join(
      job.folder,
      `.list-${createHash("sha256").update(call.list.text).digest("hex").slice(0, 16)}`,
    );
    await onDisk({ operation: "write", path: list }, () => writeFile(list, call.list.text, { mode: 0o600 }));
    const onAbort = (): void => this.#stopAll(reasonOf(context.signal));
    context.signal.addEventListener("abort", onAbort, { once: true });
    const watch = setInterval(() => this.#watch(), 250);
    try {
      const ended = this.#end(await this.#start(list));
      // Whichever ends first wakes the reader; what it ended with is looked at below.
      let over = false;
      const finish = (): void => {
        over = true;
        this.#wake?.();
      };
      ended.then(finish, finish);
      for (;;) {
        const next = this.#waiting.shift();
        if (next) {
          this.#relax();
          yield next;
        } else if (over) break;
        else
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
      }
      const finals = await ended;
      yield* this.#files.values();
      yield { type: "done", ...sumOf(finals) };
    } finally {
      clearInterval(watch);
      context.signal.removeEventListener("abort", onAbort);
      this.#stopAll(new RunError("interrupted", "the transfer was left"));
      for (const session of this.#sessions) {
        await session.ended.catch(() => undefined);
        shares.remove(session);
      }
      await rm(list, { force: true });
    }
  }

  async #start(list: string): Promise<readonly AscpSession[]> {
    const { call, job, spec, environment, login, program, options, shares, context } = this.#parts;
    const count = sessionsOf(spec);
    const destination = spec.direction === "receive" ? job.folder : String(spec.destination_root ?? ".");
    const own = typeof spec.target_rate_kbps === "number" ? spec.target_rate_kbps : null;
    for (let index = 1; index <= count; index += 1) {
      const args = [
        "-q",
        ...login,
        ...call.args,
        ...(count > 1 ? ["-C", `${index}:${count}`] : []),
        "--dest64",
        ...(options.extra ?? []),
        `${call.list.option}=${list}`,
        Buffer.from(destination).toString("base64"),
      ];
      const told: Told = { present: 0, transferred: 0 };
      const session = await AscpSession.start({
        program,
        args,
        environment: { ...environment, ...call.env },
        where: this.#where,
        redact: (text) => options.redactor.redact(text),
        onFrame: (frame) => this.#frame(frame, told, count > 1),
      });
      this.#sessions.push(session);
      this.#told.push(told);
      context.log("debug", `ascp ${args.slice(0, -1).join(" ")}`);
    }
    shares.add(this.#sessions, own);
    if (context.signal.aborted) this.#stopAll(reasonOf(context.signal));
    return this.#sessions;
  }

  readonly #told: Told[] = [];

  async #end(sessions: readonly AscpSession[]): Promise<readonly Frame[]> {
    // One that fails ends the others: the failure of the first is the one that is told.
    return Promise.all(
      sessions.map((session) =>
        session.ended.catch((error: unknown) => {
          const known =
            error instanceof RunError ? error : new RunError("archive-cut", "another session failed");
          this.#stopAll(known);
          throw error;
        }),
      ),
    );
  }

  #stopAll(reason: RunError): void {
    for (const session of this.#sessions) void session.stop(reason);
  }

  #watch(): void {
    const { job, options } = this.#parts;
    if (this.#waiting.length > 0 || this.#paused) this.#movedMs = performance.now();
    const ms = options.stallTimeoutMs * (job.patience ?? 1);
    if (performance.now() - this.#movedMs < ms) return;
    const seconds = Math.round(ms / 1000);
    this.#stopAll(new RunError("archive-stalled", `${this.#where}: ascp got no further for ${seconds} s`));
  }

  #frame(frame: Frame, told: Told, several: boolean): void {
    const path = frame.File ?? "";
    switch (frame.Type) {
      case "SESSION": {
        const facts = Object.fromEntries(Object.entries(frame).filter(([key]) => !SECRET_FIELDS.has(key)));
        this.#push({ type: "session", facts });
        break;
      }
      case "NOTIFICATION": {
        const bytes = countOf(frame, "PreTransferBytes");
        if (bytes !== null)
          this.#push({ type: "totals", bytes, files: countOf(frame, "PreTransferFiles") ?? 0 });
        break;
      }
      case "STOP":
      case "SKIP":
        if (path !== "") this.#file(frame, path, several);
        break;
      case "FILEERROR": {
        const text = this.#parts.options.redactor.redact(frame.Description ?? "");
        this.#push({ type: "file-failed", path, error: ascpFailure(Number(frame.Code) || 0, text, path) });
        break;
      }
    }
    this.#progress(frame, told);
  }

  #file(frame: Frame, path: string, several: boolean): void {
    const kind = frame.FileChecksumType?.toLowerCase().replace("-", "");
    const checksum = frame.FileChecksum && kind && kind !== "none" ? `${kind}:${frame.FileChecksum}` : null;
    const skipped = frame.Type === "SKIP";
    const event: AscpEvent = { type: "file", path, bytes: countOf(frame, "Size"), skipped, checksum };
    if (several) this.#files.set(path, event);
    else this.#push(event);
  }

  /** `TransferBytes` counts what this session moved; `FileBytes` what is here, earlier sessions included. */
  #progress(frame: Frame, told: Told): void {
    const moved = countOf(frame, "TransferBytes");
    if (moved !== null && moved > told.transferred) {
      this.#parts.options.onReceived?.(moved - told.transferred);
      told.transferred = moved;
    }
    const present =
      countOf(frame, "FileBytes") ?? (moved === null ? null : moved + (countOf(frame, "StartByte") ?? 0));
    if (present !== null && present > told.present) {
      told.present = present;
      this.#push({ type: "progress", bytes: this.#told.reduce((sum, each) => sum + each.present, 0) });
    }
    // Statistics that say the same again are no sign of life.
    const mark = [frame.Type === "STATS" ? "" : frame.Type, frame.File, frame.Written, moved, present].join(
      " ",
    );
    if (mark !== this.#mark) this.#movedMs = performance.now();
    this.#mark = mark;
  }

  #push(event: AscpEvent): void {
    const last = this.#waiting.at(-1);
    if (event.type === "progress" && last?.type === "progress") this.#waiting.pop();
    this.#waiting.push(event);
    if (this.#waiting.length > MAX_WAITING && !this.#paused) {
      this.#paused = true;
      for (const session of this.#sessions) session.pause();
    }
    this.#wake?.();
  }

  #relax(): void {
    if (!this.#paused || this.#waiting.length > MAX_WAITING / 2) return;
    this.#paused = false;
    for (const session of this.#sessions) session.resume();
  }
}

/** The specification with the rate that is left for it. */
function limited(spec: TransferSpec, shares: RateShares): TransferSpec {
  const share = shares.next(sessionsOf(spec));
  if (share === null) return spec;
  const own = Number(spec.target_rate_kbps ?? share);
  return { ...spec, target_rate_kbps: Math.min(share, own) };
}

const SECRETS_OF_SPEC = [
  "token",
  "cookie",
  "remote_password",
  "ssh_private_key",
  "content_protection_password",
];
/** What a user exports for one site, and what is no other's business where a specification brings its own token. */
const LOGIN_VARIABLES = ["ASPERA_SCP_PASS", "ASPERA_SCP_TOKEN", "ASPERA_SCP_COOKIE"];
const SECRET_VARIABLES = [...LOGIN_VARIABLES, "ASPERA_SCP_KEY", "ASPERA_SCP_FILEPASS", "ASPERA_PROXY_PASS"];

function secretsOf(spec: TransferSpec, environment: Environment): string[] {
  const all = [
    ...SECRETS_OF_SPEC.map((key) => spec[key]),
    ...SECRET_VARIABLES.map((name) => environment[name]),
  ];
  return all.filter((secret): secret is string => typeof secret === "string" && secret !== "");
}

/** What ascp gets of the user's environment: all, but for what is this program's own, and logins for other servers. */
function userEnvironment(environment: Environment, spec: TransferSpec): Record<string, string> {
  const left = new Set(spec.token === undefined ? [] : LOGIN_VARIABLES);
  // A client looks for no database of a transfer server (IBM aspera-cli 4.25, transfer/parameters.rb).
  const kept: Record<string, string> = { ASPERA_TEST_REDIS_DISABLE: "true" };
  for (const [name, value] of Object.entries(environment))
    if (value !== undefined && !name.startsWith("GANTRY_") && !left.has(name)) kept[name] = value;
  return kept;
}

function reasonOf(signal: AbortSignal): RunError {
  return signal.reason instanceof RunError
    ? signal.reason
    : new RunError("interrupted", "the transfer was interrupted", { cause: signal.reason });
}

/** Of several sessions each counts its own part. */
function sumOf(finals: readonly Frame[]): { files: number | null; bytes: number | null } {
  let files: number | null = null;
  let bytes: number | null = null;
  for (const frame of finals) {
    const passed = countOf(frame, "TransfersPassed");
    if (passed !== null) files = (files ?? 0) + passed + (countOf(frame, "TransfersSkipped") ?? 0);
    const here = countOf(frame, "FileBytes");
    if (here !== null) bytes = (bytes ?? 0) + here;
  }
  return { files, bytes };
}
