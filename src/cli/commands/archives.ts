import { defineCommand, isRunError, type Running, UsageError } from "../command.ts";
import { writeFindings } from "../findings.ts";
import type { Gantry, Row } from "../library.ts";
import { withGantry } from "../open-library.ts";
import { TABLE_FLAGS, type TableFlags, writeTable } from "../render/table.ts";
import { shown } from "../render/wording.ts";
import { say } from "../render/writer.ts";

interface Flags extends TableFlags {
  readonly api?: string;
  readonly resource?: string;
  readonly set?: Record<string, string>;
  readonly replace?: boolean;
}

export const command = defineCommand<Flags>({
  words: "[list|add|remove|test] [name] [kind] [url]",
  about:
    "Lists the archives that addresses can name, the built-in ones and those of the configuration; adds one to your configuration, removes it, or tests whether it answers to your account.",
  flags: [
    { flags: "--api <version>", help: "add: the version of the archive's interface, as --set api=…" },
    { flags: "--resource <name>", help: "add: the resource of a historic interface, as --set resource=…" },
    {
      flags: "--set <key=value>",
      help: "add: a setting of the archive's kind; may be repeated",
      parse: (text, before) => ({ ...(before as Record<string, string> | undefined), ...readSetting(text) }),
    },
    { flags: "--replace", help: "add: also when the name means an archive already" },
    ...TABLE_FLAGS,
  ],
  examples: [
    ["gantry archives", "name, kind, URL and account of each"],
    ["gantry archives add stage nbia https://nbia-stage.example.org/nbia-api", "then `gantry ls stage:`"],
    ["gantry archives add old nbia https://nbia.example.org --api v3 --resource TCIA", "a historic one"],
    ["gantry archives test tcia", "does it answer, and to whom"],
    ["gantry archives remove stage", "its stored account goes, too"],
  ],
  async run({ words, flags }, running) {
    const [action = "list", ...rest] = words;
    const adding = action === "add";
    const given = { ...flags.set, ...named("api", flags.api), ...named("resource", flags.resource) };
    if (!adding && (Object.keys(given).length > 0 || flags.replace)) {
      throw new UsageError("settings and --replace are for `gantry archives add`");
    }
    switch (action) {
      case "list":
        expectWords(rest, 0, 0, "list");
        return list(flags, running);
      case "add":
        expectWords(rest, 3, 3, "add NAME KIND URL");
        return add(rest as [string, string, string], given, flags.replace === true, running);
      case "remove":
        expectWords(rest, 1, 1, "remove NAME");
        return remove(nameOf(rest[0]!), running);
      case "test":
        expectWords(rest, 0, 1, "test [NAME]");
        return test(rest[0] === undefined ? null : nameOf(rest[0]), flags, running);
      default:
        throw new UsageError(
          `gantry archives can list, add, remove and test, not ${JSON.stringify(action)}`,
          "for example: gantry archives add stage nbia https://nbia-stage.example.org/nbia-api",
        );
    }
  },
});

const nameOf = (word: string): string => word.replace(/:$/u, "");

const named = (key: string, value: string | undefined): Record<string, string> =>
  value === undefined ? {} : { [key]: value };

function readSetting(text: string): Record<string, string> {
  const [, key = "", value = ""] = /^([^=]+)=(.*)$/su.exec(text) ?? [];
  if (key === "") throw new UsageError(`--set takes KEY=VALUE, not ${JSON.stringify(text)}`);
  return { [key.trim()]: value };
}

function expectWords(words: readonly string[], least: number, most: number, usage: string): void {
  if (words.length < least || words.length > most) {
    throw new UsageError(`that is: gantry archives ${usage}`, "`gantry archives --help` shows examples");
  }
}

const list = (flags: Flags, running: Running): Promise<number> =>
  withGantry(running, async (gantry) => {
    async function* rows(): AsyncIterable<Row> {
      for (const { name, kind, url, settings, from } of gantry.archives()) {
        const pairs = Object.entries(settings).map(([key, value]) => `${key}=${value}`);
        yield {
          name,
          kind,
          url,
          settings: pairs.length === 0 ? null : pairs.join(" "),
          account: accountOf(gantry, name),
          from,
          address: `${name}:`,
        };
      }
    }
    const columns = ["name", "kind", "url", "settings", "account", "from", "address"];
    await writeTable(
      running.io,
      { columns, summary: ["name", "kind", "url", "account", "address"], rows: rows() },
      flags,
    );
    return 0;
  });

/** Null: nobody in particular. A list shows the others even when one account is only half set. */
function accountOf(gantry: Gantry, name: string): string | null {
  try {
    const account = gantry.account(name);
    if (account === null) return null;
    return account.from === "environment" ? `${account.what} (environment)` : account.what;
  } catch (error) {
    if (isRunError(error) && error.exit === ACCESS) return `unusable: ${error.message}`;
    throw error;
  }
}

const ACCESS = 4;

async function add(
  [name, kind, url]: [string, string, string],
  settings: Record<string, string>,
  replace: boolean,
  { io }: Running,
): Promise<number> {
  const { addArchive } = await io.library();
  const archive = { name: nameOf(name), kind, url, settings };
  const { path, instead } = await addArchive(archive, { environment: io.env, replace });
  say(io, `${archive.name}: is in ${shown(path)}. To try it: gantry archives test ${archive.name}`);
  if (instead !== null) {
    const whose = instead.from === "built-in" ? "the built-in archive" : `the one of ${shown(instead.from)}`;
    say(io, `Until now ${archive.name}: was ${whose} at ${shown(instead.url)}.`);
  }
  return 0;
}

async function remove(name: string, { io }: Running): Promise<number> {
  const { removeArchive } = await io.library();
  const { path, credentials, now } = await removeArchive(name, { environment: io.env });
  const account = credentials ? ", and its stored account is gone" : "";
  say(io, `${shown(name)}: is no longer in ${shown(path)}${account}.`);
  if (now !== null) say(io, `From now on ${now.name}: is ${shown(now.url)} (${shown(now.from)}).`);
  return 0;
}

const test = (only: string | null, flags: Flags, running: Running): Promise<number> =>
  withGantry(
    running,
    async (gantry) => {
      async function* findings() {
        for (const name of only === null ? gantry.archives().map((each) => each.name) : [only]) {
          for await (const finding of gantry.check(name)) yield { subject: name, ...finding };
        }
      }
      return writeFindings(findings(), flags, running);
    },
    { retries: 1 },
  );
