import { defineCommand, shellWord, UsageError } from "../command.ts";
import { canAsk, type Io } from "../io.ts";
import type { Library } from "../library.ts";
import { shown } from "../render/wording.ts";
import { say } from "../render/writer.ts";

interface Flags {
  readonly user?: string;
  readonly passwordStdin?: boolean;
  readonly passwordFile?: string;
  readonly tokenStdin?: boolean;
  readonly apiKeyStdin?: boolean;
  readonly guest?: boolean;
  readonly check: boolean;
}

type Secrets = Parameters<Library["logIn"]>[1];
type AccountKind = NonNullable<Awaited<ReturnType<Library["readAccountKind"]>>>;

export const command = defineCommand<Flags>({
  words: "<archive>",
  about:
    "Stores an account of an archive in the credential file, after asking the archive whether it takes it. A terminal is asked for what is missing; secrets are never taken from the command line.",
  flags: [
    { flags: "--user <name>", help: "the user's name" },
    { flags: "--password-stdin", help: "read the password from standard input" },
    { flags: "--password-file <file>", help: "read the password from the first line of a file" },
    { flags: "--token-stdin", help: "read a ready access token from standard input; it can't be renewed" },
    { flags: "--api-key-stdin", help: "read an API key from standard input" },
    { flags: "--guest", help: "as the archive's guest, without a password" },
    { flags: "--no-check", help: "store it without asking the archive" },
  ],
  examples: [
    ["gantry login tcia", "asks for user and password"],
    ["gantry login tcia --user demo --password-file secret.txt", "in a script"],
    ["gantry logout tcia", "forget it again"],
  ],
  async run({ words, flags }, { io, signal }) {
    const library = await io.library();
    const name = words[0]!.replace(/:$/u, "");
    const kind = await library.readAccountKind(name, { environment: io.env });
    if (kind === null) {
      throw new UsageError(`${name} shows everything that it has to anybody: there is no login`);
    }
    const secrets = await readSecrets(name, flags, kind, io);
    if (secrets === null) {
      throw new library.RunError("interrupted", "nothing was typed, and nothing is stored");
    }
    const stored = await library.logIn(name, secrets, { environment: io.env, signal, check: flags.check });
    for (const { detail } of stored.findings) say(io, `${shown(name)}: ${shown(detail)}`);
    say(io, `The account is stored in ${shown(stored.path)}, for you alone.`);
    if (stored.overridden.length > 0) {
      say(io, `${stored.overridden.join(", ")} in the environment still goes before it.`);
    }
    return 0;
  },
});

/** Null: a terminal was asked, and gave no answer. */
async function readSecrets(name: string, flags: Flags, kind: AccountKind, io: Io): Promise<Secrets | null> {
  const ways = (["passwordStdin", "passwordFile", "tokenStdin", "apiKeyStdin", "guest"] as const).filter(
    (way) => flags[way] !== undefined,
  );
  if (ways.length > 1) throw new UsageError(`${ways.map(flagOf).join(" and ")} exclude each other`);
  const [way] = ways;
  const byKey = kind.by === "api-key";
  if (byKey && way !== undefined && way !== "apiKeyStdin") {
    throw new UsageError(`${name} knows its users by an API key`, "use --api-key-stdin, or a terminal");
  }
  if (!byKey && way === "apiKeyStdin") {
    throw new UsageError(`${name} knows no API keys`, "use --user with --password-stdin, or a terminal");
  }
  if (flags.user !== undefined && (byKey || way === "tokenStdin" || way === "guest")) {
    throw new UsageError(`--user does not go with ${way === undefined ? "an API key" : flagOf(way)}`);
  }
  if (way === "guest") {
    if (kind.guest === undefined) throw new UsageError(`${name} knows no guest`);
    return { user: kind.guest, password: "" };
  }
  if (way === "apiKeyStdin") return { apiKey: await readLine(io) };
  if (way === "tokenStdin") return { token: await readLine(io) };
  if (way !== undefined) {
    if (flags.user === undefined) throw new UsageError(`${flagOf(way)} needs --user NAME`);
    const password =
      way === "passwordStdin" ? await readLine(io) : await readFirstLine(flags.passwordFile ?? "", io);
    return { user: flags.user, password };
  }
  return ask(name, flags.user, byKey, io);
}

async function ask(name: string, known: string | undefined, byKey: boolean, io: Io): Promise<Secrets | null> {
  if (!canAsk(io)) {
    const line = byKey
      ? `gantry login ${shellWord(name)} --api-key-stdin < key.txt`
      : `gantry login ${shellWord(name)} --user ${shellWord(known ?? "NAME")} --password-file FILE`;
    throw new UsageError(`there is no terminal to ask for ${byKey ? "the API key" : "the password"}`, line);
  }
  const system = await io.system();
  if (byKey) {
    const apiKey = (await system.askSecret(`API key for ${name}: `))?.trim() ?? "";
    return apiKey === "" ? null : { apiKey };
  }
  const user = known ?? (await system.ask(`User name for ${name}: `))?.trim() ?? "";
  if (user === "") return null;
  const password = (await system.askSecret(`Password of ${user} (not shown): `)) ?? "";
  return password === "" ? null : { user, password };
}

const flagOf = (name: string): string =>
  `--${name.replace(/[A-Z]/gu, (letter) => `-${letter.toLowerCase()}`)}`;

const LONGEST_SECRET = 64 * 1024;

/** The first line of standard input. Throws `UsageError` when it is empty. */
async function readLine(io: Io): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of io.stdin) {
    const bytes = typeof chunk === "string" ? Buffer.from(chunk) : chunk;
    chunks.push(bytes);
    size += bytes.length;
    if (size > LONGEST_SECRET || bytes.includes(0x0a)) break;
  }
  return firstLine(Buffer.concat(chunks).toString("utf8"), "standard input");
}

async function readFirstLine(path: string, io: Io): Promise<string> {
  const system = await io.system();
  let bytes: Uint8Array;
  try {
    bytes = await system.readBytes(path);
  } catch (error) {
    throw new UsageError(`${path} can't be read: ${(error as NodeJS.ErrnoException).code ?? "unknown"}`);
  }
  return firstLine(Buffer.from(bytes).toString("utf8"), path);
}

function firstLine(text: string, where: string): string {
  const line = text.replace(/^\uFEFF/u, "").replace(/\r?\n.*$/su, "");
  if (line === "" || line.length > LONGEST_SECRET)
    throw new UsageError(`${where} holds no secret in its first line`);
  return line;
}
