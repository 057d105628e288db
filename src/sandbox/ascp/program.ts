/**
 * The stand-in `ascp`: command line, environment, lists, naming, resume, management channel, exit status and messages
 * as those of ascp 4, moving real bytes from the sandbox's transfer server, and from nothing else. It is no ascp: it
 * says so wherever it speaks of itself.
 */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { FaspWire, type Hello, type KeyKind, type Welcome } from "../fasp/wire.ts";
import { type Arguments, parseArguments, parseRate, UsageFault } from "./arguments.ts";
import { type Command, ManagementChannel } from "./management.ts";
import { type ReceivePlan, receive } from "./receive.ts";
import { send } from "./send.ts";
import { Session, SessionError, Vanish } from "./session.ts";

const VERSION = "4.4.7.1234";
const IDENTITY = [
  "Gantry sandbox: stand-in for IBM Aspera ascp (no product of IBM)",
  `ascp version ${VERSION} stand-in`,
  `Operating System: ${process.platform} ${process.arch}`,
  "Crypto provider: Node.js",
  "License max rate=(unlimited), account no.=0, license no.=0, stand-in",
  "",
].join("\n");

/** Secrets come by these only. */
const SECRET_VARIABLES = [
  "ASPERA_SCP_PASS",
  "ASPERA_SCP_KEY",
  "ASPERA_SCP_TOKEN",
  "ASPERA_SCP_COOKIE",
  "ASPERA_SCP_FILEPASS",
  "ASPERA_PROXY_PASS",
] as const;

/** The launcher, which the sandbox has put where a product would have its `bin/`. */
const launcher = process.env.GANTRY_STAND_IN_LAUNCHER ?? process.argv[1] ?? "ascp";
const places = [dirname(launcher), join(dirname(dirname(launcher)), "etc")];

function readBeside(name: string): string | undefined {
  for (const place of places) {
    try {
      return readFileSync(join(place, name), "utf8");
    } catch {
      // Not there: look in the next place.
    }
  }
  return undefined;
}

/** An early failure: on standard error, before or without a session. */
function fail(message: string): number {
  process.stderr.write(`ascp: ${message}, exiting.\n`);
  return 1;
}

async function main(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  let args: Arguments;
  try {
    args = parseArguments(argv);
  } catch (error) {
    if (!(error instanceof UsageFault)) throw error;
    process.stderr.write(`ascp: ${error.message}\nTry 'ascp --help'.\n`);
    return 1;
  }
  const { options } = args;
  if (options.has("version")) {
    process.stdout.write(IDENTITY);
    return 0;
  }
  if (options.has("help")) {
    process.stdout.write(
      "Gantry sandbox: stand-in for ascp\nusage: ascp [options] [[user@]host:]source... [[user@]host:]dest\n",
    );
    return 0;
  }
  if (options.has("D") && options.get("D") === "DL-") {
    for (const place of places) process.stderr.write(`DBG Path product dir : ${place}\n`);
    process.stderr.write(
      `DBG License ${readBeside("aspera-license") === undefined ? "not found" : "found"}\n`,
    );
    return 1;
  }
  const secret = SECRET_VARIABLES.map((name) => env[name]).find(
    (value) => value && value !== options.get("user") && argv.some((word) => tells(word, value)),
  );
  if (options.has("W") || secret !== undefined)
    return fail("the stand-in takes no secret in its arguments: use the ASPERA_SCP variables");
  return transfer(args, argv, env);
}

/** A secret as a word of its own, as the value of an option, or, when it is long, anywhere. */
const tells = (word: string, secret: string): boolean =>
  word === secret || word.endsWith(`=${secret}`) || (secret.length >= 16 && word.includes(secret));

interface Endpoint {
  readonly direction: "receive" | "send";
  readonly user: string;
  readonly host: string;
  readonly sources: readonly string[];
  readonly destination: string;
  /** `--mode` and `--host`: the form of managers, which never asks. */
  readonly managed: boolean;
}

function decode(text: string): string {
  return Buffer.from(text, "base64").toString("utf8");
}

function lines(path: string): string[] {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    throw new UsageFault(`cannot open the list file ${path}`);
  }
  return text.replace(/\n$/, "").split("\n");
}

function endpointOf({ options, words }: Arguments, listed: readonly string[] | null): Endpoint {
  const last = words.at(-1);
  if (last === undefined) throw new UsageFault("no destination given");
  const mode = options.get("mode");
  if (mode !== undefined || options.has("host")) {
    if (mode !== "send" && mode !== "recv") throw new UsageFault("--mode must be send or recv");
    const host = options.get("host");
    if (host === undefined) throw new UsageFault("--host is needed with --mode");
    return {
      direction: mode === "recv" ? "receive" : "send",
      user: options.get("user") ?? "",
      host,
      sources: listed ?? words.slice(0, -1),
      destination: options.has("dest64") ? decode(last) : last,
      managed: true,
    };
  }
  const remote = (word: string) => /^(?:([^@/]*)@)?(\[[^\]]+\]|[^:/[\]]+):([\s\S]*)$/.exec(word);
  const to = remote(last);
  const from = words.slice(0, -1).map(remote);
  const first = from[0];
  if (to !== null) {
    return {
      direction: "send",
      user: to[1] ?? options.get("user") ?? "",
      host: to[2]!,
      sources: listed ?? words.slice(0, -1),
      destination: to[3] === "" ? "." : to[3]!,
      managed: false,
    };
  }
  if (first === null || first === undefined) throw new UsageFault("neither source nor destination is remote");
  return {
    direction: "receive",
    user: first[1] ?? options.get("user") ?? "",
    host: first[2]!,
    sources: listed ?? from.map((match, at) => match?.[3] ?? words[at]!),
    destination: options.has("dest64") ? decode(last) : last,
    managed: false,
  };
}

/** One line from standard input, as at a prompt; null at its end. */
async function prompt(question: string): Promise<string | null> {
  process.stderr.write(question);
  for await (const line of createInterface({ input: process.stdin })) return line;
  return null;
}

/** What a key file is; null: nobody can log in with it. */
function keyKind(text: string): KeyKind | "locked" | null {
  if (text.includes("PuTTY-User-Key-File") || /ENCRYPTED/.test(text)) return "locked";
  if (text.includes("BEGIN DSA PRIVATE KEY")) return "dsa";
  if (text.includes("BEGIN RSA PRIVATE KEY")) return "rsa";
  if (text.includes("BEGIN PRIVATE KEY")) return "rsa";
  if (text.includes("BEGIN OPENSSH PRIVATE KEY")) {
    const body = Buffer.from(text.replace(/-----[^-]+-----/g, ""), "base64");
    return body.includes("ssh-rsa") ? "rsa" : body.includes("ssh-dss") ? "dsa" : "other";
  }
  return null;
}

async function transfer(args: Arguments, argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const { options } = args;
  let end: Endpoint;
  let listed: string[] | null = null;
  let destinations: string[] | null = null;
  try {
    const list = options.get("file-list");
    const pairs = options.get("file-pair-list");
    if (list !== undefined) listed = lines(list);
    if (pairs !== undefined) {
      const both = lines(pairs);
      listed = both.filter((_, at) => at % 2 === 0);
      destinations = both.filter((_, at) => at % 2 === 1);
    }
    end = endpointOf(args, listed);
  } catch (error) {
    if (error instanceof UsageFault) return fail(error.message);
    throw error;
  }
  const port = Number(options.get("P") ?? 22);
  const rate = options.get("l");
  const rateKbps = rate === undefined ? null : (parseRate(rate) ?? null);

  // Who are we? A key that needs a passphrase makes the real one ask at the terminal, whatever stdin is.
  let key: KeyKind | null = null;
  let password = env.ASPERA_SCP_PASS ?? null;
  let trouble: SessionError | null = null;
  const keys = (args.repeated.get("i") ?? []).map((path) => {
    try {
      return { path, text: readFileSync(path, "utf8") };
    } catch {
      trouble = new SessionError(19, `Private key file not found at path ${path}`);
      return { path, text: "" };
    }
  });
  if (env.ASPERA_SCP_KEY !== undefined) keys.push({ path: "ASPERA_SCP_KEY", text: env.ASPERA_SCP_KEY });
  for (const { text } of keys) {
    const kind = keyKind(text);
    if (kind === "locked" && password === null) {
      if ((await prompt("Key passphrase: ")) === null)
        trouble = new SessionError(19, "failed to authenticate");
    } else if (kind === "locked") key ??= "rsa";
    else key = kind === "rsa" ? "rsa" : (key ?? kind);
  }
  if (password === null && keys.length === 0) {
    if (end.managed && !options.has("allow-password-prompt"))
      trouble ??= new SessionError(19, "failed to authenticate: no password and no key");
    else password = await prompt(`${end.user}@${end.host}'s password: `);
  }
  if (readBeside("aspera-license") === undefined && env.ASPERA_SCP_LICENSE === undefined)
    trouble = new SessionError(29, "No license file found");

  const hello: Hello = {
    direction: end.direction,
    user: end.user,
    token: env.ASPERA_SCP_TOKEN ?? null,
    password,
    key,
    sources: end.sources,
    sourcePrefix:
      options.get("source-prefix") ??
      (options.has("source-prefix64") ? decode(options.get("source-prefix64")!) : ""),
    destination: end.direction === "send" ? end.destination : "",
    command: argv,
    variables: Object.keys(env)
      .filter((name) => name.startsWith("ASPERA_"))
      .sort(),
    part: options.get("C") ?? null,
  };
  const link = trouble === null ? await reach(end.host, port, hello) : null;
  const welcome = link !== null && "welcome" in link ? link.welcome : null;
  const misbehaviour = welcome?.misbehaviour ?? null;
  if (misbehaviour?.kind === "ascp-exit") return 1;
  if (misbehaviour?.kind === "ascp-prompt" && (await prompt("Password: ")) === null)
    trouble = new SessionError(19, "failed to authenticate");

  const cancel = new AbortController();
  const cancelled = new SessionError(28, "User canceled session");
  let over = false;
  // The reference client sends SIGINT once the channel is closed: that must change nothing any more.
  process.on("SIGINT", () => {
    if (!over) cancel.abort(cancelled);
  });
  process.on("SIGTERM", () => process.exit(1));
  const commands: { handle: (command: Command) => void } = { handle: () => undefined };
  let channel: ManagementChannel;
  try {
    const management = options.get("M");
    channel = await ManagementChannel.open(
      management === undefined ? undefined : Number(management),
      (command) => commands.handle(command),
    );
  } catch {
    return fail("could not connect to the management port");
  }
  const session = new Session({
    args,
    channel,
    misbehaviour,
    id: welcome !== null && "sessionId" in welcome ? welcome.sessionId : crypto.randomUUID(),
    rateKbps,
    cancel,
  });
  if (misbehaviour?.kind === "ascp-odd-frames") {
    let nth = 0;
    channel.cutFrames(() => 1 + ((nth++ * 7) % 11));
  }
  commands.handle = ({ type, fields }) => {
    if (type === "CANCEL") cancel.abort(cancelled);
    if (type === "RATE" && /^\d+$/.test(fields.Rate ?? "")) void session.setRate(Number(fields.Rate));
  };
  const wire = link !== null && "wire" in link ? link.wire : null;
  let failure: SessionError | null = trouble;
  await channel.send("INIT", {
    SessionId: session.id,
    Direction: end.direction === "receive" ? "Receive" : "Send",
    Operation: "Transfer",
    UserStr: options.get("u"),
    Cookie: env.ASPERA_SCP_COOKIE,
  });
  try {
    if (failure === null && link !== null && "failure" in link) failure = link.failure;
    if (failure === null && welcome !== null && "refused" in welcome)
      failure = new SessionError(welcome.refused.code, welcome.refused.description);
    if (failure === null && wire !== null) {
      await channel.send("SESSION", {
        SessionId: session.id,
        User: end.user,
        Host: end.host,
        Port: options.get("O") ?? 33001,
        TCPPort: port,
        Rate: rateKbps ?? 10_000,
        MinRate: 0,
        Adaptive: "Adaptive",
        Priority: 2,
        Encryption: !options.has("T"),
        Cipher: options.has("T") ? "none" : (options.get("c") ?? "aes-128"),
        Remote: false,
        Destination: end.destination,
        ResumePolicy: options.get("k") ?? 0,
        OverwritePolicy: options.get("overwrite") ?? "diff",
        Transport: "stand-in",
      });
      await session.play();
      const passphrase = env.ASPERA_SCP_FILEPASS;
      const crypt = options.get("file-crypt");
      if (crypt !== undefined && passphrase === undefined && (await prompt("Passphrase: ")) === null)
        throw new SessionError(49, "File passphrase is missing");
      const common = {
        sources: end.sources,
        destinations,
        listed: listed !== null,
        destination: end.destination,
        sourceBase:
          options.get("src-base") ?? (options.has("src-base64") ? decode(options.get("src-base64")!) : null),
      };
      if (end.direction === "receive") {
        const [, index, of] = /^(\d+):(\d+)$/.exec(options.get("C") ?? "") ?? [];
        const conf = configuration(options.get("f"));
        await receive(session, wire, {
          ...common,
          listed: common.listed || options.has("d"),
          resume: Math.min(3, Number(options.get("k") ?? 0)) as ReceivePlan["resume"],
          overwrite: options.get("overwrite") ?? "diff",
          resumeSuffix: conf("resume_suffix") ?? ".aspx",
          partialSuffix: options.get("partial-file-suffix") ?? conf("partial_file_suffix") ?? "",
          keepTimes: options.has("p") || options.has("preserve-modification-time"),
          decrypt:
            crypt === "decrypt"
              ? { passphrase: passphrase ?? "", failOnWrong: options.has("fail-bad-filepass") }
              : null,
          part: index === undefined ? null : { index: Number(index), of: Number(of) },
        });
      } else {
        await send(session, wire, {
          ...common,
          createFolder: options.has("d"),
          encrypt: crypt === "encrypt" ? { passphrase: passphrase ?? "" } : null,
          resume: Number(options.get("k") ?? 0),
        });
      }
    }
  } catch (error) {
    if (error instanceof Vanish) {
      await channel.close();
      return error.status;
    }
    failure =
      error instanceof SessionError
        ? error
        : new SessionError(16, error instanceof Error ? error.message : String(error));
  }
  over = failure === null;
  await wire?.writeLine({ ask: "bye", done: failure === null }).catch(() => undefined);
  wire?.close();
  return finish(session, failure);
}

/** The last frame, the last words, and the exit status: 0 or 1, never the code. */
async function finish(session: Session, failure: SessionError | null): Promise<number> {
  const { channel, misbehaviour, args, counts } = session;
  const quiet = args.options.has("quiet");
  if (misbehaviour?.kind === "ascp-no-final-frame" && failure === null) {
    await channel.close();
    return 0;
  }
  if (failure !== null) {
    await channel.send("ERROR", {
      SessionId: session.id,
      Code: failure.code,
      Description: failure.message,
      ...session.totals(),
    });
    if (counts.passed > 0 && !quiet) process.stdout.write(`\nPartial Completion: ${summary(session)}\n`);
    process.stdout.write(`\rSession Stop  (Error: ${failure.message})\n`);
    if (args.options.get("L") === "-")
      process.stderr.write(
        `LOG FASP Session Stop uuid=${session.id} op=${args.options.get("mode") ?? "recv"} status=failed errcode=${failure.code} errstr="${failure.message}"\n`,
      );
    await channel.close();
    return 1;
  }
  await channel.send("DONE", { SessionId: session.id, ...session.totals() });
  if (!quiet) process.stdout.write(`Completed: ${summary(session)}\n`);
  await channel.close();
  return misbehaviour?.kind === "ascp-late-exit" ? 1 : 0;
}

function summary({ counts, started }: Session): string {
  const seconds = Math.max(1, Math.round((performance.now() - started) / 1000));
  const kilobytes = Math.ceil(counts.transferBytes / 1024);
  const failed = counts.failed > 0 ? `; ${counts.failed} files failed` : "";
  return `${kilobytes}K bytes transferred in ${seconds} seconds\n (${Math.round((counts.transferBytes * 8) / 1000 / seconds)}K bits/sec), in ${counts.passed} files${failed}.`;
}

type Reached = { readonly wire: FaspWire; readonly welcome: Welcome } | { readonly failure: SessionError };

async function reach(host: string, port: number, hello: Hello): Promise<Reached> {
  const socket = connect({ host: host.replace(/^\[|\]$/g, ""), port });
  try {
    await once(socket, "connect");
  } catch (error) {
    const unknown = (error as NodeJS.ErrnoException).code === "ENOTFOUND";
    return {
      failure: new SessionError(
        12,
        unknown ? `Cannot resolve target host ${host}` : "Failed to open TCP connection for SSH",
      ),
    };
  }
  const wire = new FaspWire(socket);
  await wire.writeLine(hello);
  const welcome = (await wire.readLine().catch(() => undefined)) as Welcome | undefined;
  if (welcome === undefined)
    return { failure: new SessionError(12, "Server aborted session: Session initiation failed") };
  return { wire, welcome };
}

/** A setting of aspera.conf: the one named, or the one beside the program. */
function configuration(path: string | undefined): (name: string) => string | undefined {
  const text = path === undefined ? readBeside("aspera.conf") : readFileSync(path, "utf8");
  return (name) => new RegExp(`<${name}>([^<]*)</${name}>`).exec(text ?? "")?.[1];
}

// Bytes on the way to a pipe would be lost by a hard exit: the status is set, and nothing keeps the process.
main(process.argv.slice(2), process.env).then(
  (status) => {
    process.exitCode = status;
    process.stdin.destroy();
    setTimeout(() => process.exit(status), 200).unref();
  },
  (error: unknown) => {
    process.stderr.write(
      `ascp: fault of the stand-in itself: ${error instanceof Error ? error.stack : String(error)}\n`,
    );
    process.exitCode = 1;
    process.stdin.destroy();
  },
);
